"""Time of a solver over the time of its own denoiser and operator calls, in the same run.

The denoiser (forward and vector-Jacobian product) and the operator are wrapped by clocks, so the
ratio needs no model of the cost and hardly feels the load of the machine. Process time, one
thread, solvers take turns. deepinv's DPS and DiffPIR run on the same network and operator.

    python benchmarks/overhead.py --size 128 --steps 2 --repeats 3
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import deepinv
import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from torch import Tensor

from sciinv.operators import CartesianMRI, ParallelBeamCT
from sciinv.priors import EDMDenoiser, UNet
from sciinv.solvers import DPS, MMT, MomentMatching, PnPHQS


class Clock:
    """Processor seconds spent inside the wrapped calls; nested calls count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1
        if self.depth == 1:
            self.start = time.process_time()

    def __exit__(self, *exc: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.seconds += time.process_time() - self.start

    def wrap(self, owner: object, names: tuple[str, ...]) -> None:
        """Replace methods of one object by timed ones."""
        for name in names:
            method = getattr(owner, name)

            def timed(*args: object, method: Callable = method, **kwargs: object) -> object:
                with self:
                    return method(*args, **kwargs)

            setattr(owner, name, timed)


def problems(size: int) -> dict[str, tuple[LinearPhysics, int]]:
    """Operators by label, with their number of image channels."""
    g = torch.Generator().manual_seed(0)
    shape = (size, size)
    mask = (torch.rand(size, generator=g) < 0.3).expand(shape).float()
    maps = torch.randn(8, size, size, dtype=torch.complex64, generator=g)
    maps = maps / maps.abs().square().sum(0).sqrt()
    angles = [torch.pi * i / 60 for i in range(60)]
    found = {
        "MRI, 1 coil": (CartesianMRI(shape, mask), 2),
        "MRI, 8 coils": (CartesianMRI(shape, mask, maps), 2),
        "CT, 60 views": (
            ParallelBeamCT(shape, angles, num_detectors=size, detector_spacing=1.0, pixel_size=1.0),
            1,
        ),
    }
    for physics, _ in found.values():
        physics.noise_model = GaussianNoise(0.05)
    return found


def rivals(prior: EDMDenoiser, physics: LinearPhysics, steps: int) -> dict[str, Callable]:
    """Samplers of deepinv with as many network calls."""
    sde = deepinv.sampling.VarianceExplodingDiffusion(sigma_max=20.0, sigma_min=0.02)
    dps = deepinv.sampling.PosteriorDiffusion(
        data_fidelity=deepinv.sampling.DPSDataFidelity(denoiser=prior),
        denoiser=prior,
        sde=sde,
        solver=deepinv.sampling.EulerSolver(timesteps=torch.linspace(1, 0.001, 4 * steps)),
        dtype=torch.float32,
        device="cpu",
    )
    diffpir = deepinv.sampling.DiffPIR(
        model=prior, data_fidelity=deepinv.optim.L2(), max_iter=8 * steps, sigma=0.05, device="cpu"
    )
    return {
        "deepinv DPS": lambda y: dps(y, physics, seed=0),
        "deepinv DiffPIR": lambda y: diffpir(y, physics, seed=0),
    }


def case(physics: LinearPhysics, channels: int, size: int, steps: int, repeats: int) -> dict:
    """Median ratio of each solver."""
    net = UNet(channels)
    prior = EDMDenoiser(net, sigma_min=0.01, sigma_max=20.0, channels=channels).eval()
    prior.requires_grad_(False)
    clock = Clock()
    with torch.no_grad():
        y = physics.A(torch.rand(1, channels, size, size))
    solvers = {
        "MMT": MMT(prior, steps=steps),
        "MomentMatching": MomentMatching(prior, steps=steps),
        "DPS": DPS(prior, steps=4 * steps),
        "PnPHQS": PnPHQS(prior, steps=8 * steps),
    }
    calls: dict[str, Callable[[Tensor], object]] = {
        name: lambda y, s=solver: s.sample(y, physics, 1, generator=0)
        for name, solver in solvers.items()
    }
    calls.update(rivals(prior, physics, steps))
    clock.wrap(prior, ("forward",))
    # deepinv works with the pseudo-inverse and the data prox too: all of the operator counts
    names = ("A", "A_adjoint", "A_adjoint_A", "A_vjp", "A_dagger", "prox_l2")
    clock.wrap(physics, tuple(name for name in names if hasattr(physics, name)))
    gradient = torch.autograd.grad
    backward = torch.Tensor.backward

    def timed_gradient(*args: object, **kwargs: object) -> object:
        with clock:
            return gradient(*args, **kwargs)

    def timed_backward(*args: object, **kwargs: object) -> object:
        with clock:
            return backward(*args, **kwargs)

    ratios: dict[str, list[float]] = {name: [] for name in calls}
    torch.autograd.grad, torch.Tensor.backward = timed_gradient, timed_backward
    try:
        for turn in range(repeats + 1):
            for name, call in calls.items():
                clock.seconds, start = 0.0, time.process_time()
                try:
                    call(y)
                except Exception as error:  # noqa: BLE001 - a rival that does not run is no figure
                    if turn == 0:
                        print(f"<!-- {name}: {type(error).__name__}: {error} -->")
                    continue
                if turn > 0:  # the first round warms up
                    ratios[name].append((time.process_time() - start) / clock.seconds)
    finally:
        torch.autograd.grad, torch.Tensor.backward = gradient, backward
    return {name: statistics.median(r) if r else float("nan") for name, r in ratios.items()}


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2, help="of MMT; the others get more")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    for number, (label, (physics, channels)) in enumerate(problems(arguments.size).items()):
        found = case(physics, channels, arguments.size, arguments.steps, arguments.repeats)
        if number == 0:
            print(f"| {arguments.size}², ratio | " + " | ".join(found) + " |")
            print("|---" * (1 + len(found)) + "|")
        print(f"| {label} | " + " | ".join(f"{r:.3f}" for r in found.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
