"""Time of a solver over the time of its own denoiser and operator calls, in the same run.

The denoiser (forward and vector-Jacobian product) and the operator are wrapped by clocks, so the
ratio needs no model of the cost and hardly feels the load of the machine. Process time, one
thread, solvers take turns; every registered solver takes part with as many steps as cost about
``--calls`` network evaluations. deepinv's DPS and DiffPIR run on the same network and operator.
With ``--batch`` the time of that many samples at once is set against as many single ones.

    python benchmarks/overhead.py --size 128 --calls 12
    python benchmarks/overhead.py --size 64 --calls 6 --batch 8
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
from sciinv.solvers import ALL_SOLVERS, Solver
from sciinv.solvers.compatibility import reasons

SIGMA_MIN, SIGMA_MAX = 0.01, 20.0
# one step of these would cost hundreds of network evaluations
SMALLER: dict[str, dict[str, object]] = {
    "MMT": {"krylov": 4, "lanczos": 2},
    "MomentMatching": {"krylov": 4},
    "PnPDM": {"prior_steps": 8},
    "SITCOM": {"inner": 4},
}


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


class Cheap:
    """The prior N(0, 1), to count the network evaluations of a step."""

    sigma_min, sigma_max = SIGMA_MIN, SIGMA_MAX

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return ``E[x0 | x]``."""
        return x / (1 + sigma**2)


def steps_for(solver: type[Solver], calls: int) -> int:
    """Number of steps that cost about so many network evaluations, at least 2."""
    options = SMALLER.get(solver.__name__, {})
    physics = CartesianMRI((8, 8), noise_model=GaussianNoise(0.05))
    found = []
    for steps in (2, 4):
        _, info = solver(Cheap(), steps=steps, **options).sample(
            torch.ones(1, 2, 8, 8), physics, 1, generator=0, return_info=True
        )
        found.append(info.nfe)
    each = max((found[1] - found[0]) / 2, 0.5)
    return max(2, round((calls - found[0]) / each) + 2)


class Timed:
    """A network of the shipped size and an operator whose calls are on the clock."""

    def __init__(self, physics: LinearPhysics, channels: int, size: int) -> None:
        net = UNet(channels)
        self.prior = EDMDenoiser(
            net, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, channels=channels
        ).eval()
        self.prior.requires_grad_(False)
        self.physics = physics
        with torch.no_grad():
            self.y = physics.A(torch.rand(1, channels, size, size))
        self.clock = Clock()
        self.clock.wrap(self.prior, ("forward",))
        # decompositions, the pseudo-inverse and the data prox too: all of the operator counts
        names = ("A", "A_adjoint", "A_adjoint_A", "A_vjp", "A_dagger", "prox_l2")
        names += ("U", "U_adjoint", "V", "V_adjoint")
        self.clock.wrap(physics, tuple(name for name in names if hasattr(physics, name)))
        self._gradient, self._backward = torch.autograd.grad, torch.Tensor.backward

    def __enter__(self) -> None:
        def timed_gradient(*args: object, **kwargs: object) -> object:
            with self.clock:
                return self._gradient(*args, **kwargs)

        def timed_backward(*args: object, **kwargs: object) -> object:
            with self.clock:
                return self._backward(*args, **kwargs)

        torch.autograd.grad, torch.Tensor.backward = timed_gradient, timed_backward

    def __exit__(self, *exc: object) -> None:
        torch.autograd.grad, torch.Tensor.backward = self._gradient, self._backward

    def ratio(self, call: Callable[[], object]) -> float:
        """Time of a call over that of the denoiser and the operator in it."""
        self.clock.seconds, start = 0.0, time.process_time()
        call()
        return (time.process_time() - start) / self.clock.seconds


def case(
    timed: Timed, plan: dict[type[Solver], int], repeats: int, with_rivals: bool
) -> dict[str, float]:
    """Median ratio of each solver."""
    y, physics = timed.y, timed.physics
    calls: dict[str, Callable[[], object]] = {}
    for cls, steps in plan.items():
        if reasons(cls.needs, physics):
            continue
        solver = cls(timed.prior, steps=steps, **SMALLER.get(cls.__name__, {}))
        calls[cls.__name__] = lambda s=solver: s.sample(y, physics, 1, generator=0)
    if with_rivals:
        for name, rival in rivals(timed.prior, physics, max(1, plan[ALL_SOLVERS[0]])).items():
            calls[name] = lambda r=rival: r(y)
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    with timed:
        # the first call of all warms up the libraries
        next(iter(calls.values()))()
        for _ in range(repeats):
            for name, call in calls.items():
                try:
                    ratios[name].append(timed.ratio(call))
                except Exception as error:  # noqa: BLE001 - a rival that does not run is no figure
                    print(f"<!-- {name}: {type(error).__name__}: {error} -->")
    return {name: statistics.median(r) for name, r in ratios.items() if r}


def batches(
    timed: Timed, plan: dict[type[Solver], int], repeats: int, batch: int
) -> dict[str, float]:
    """Time of ``batch`` samples at once over that of as many single ones."""
    found = {}
    for cls, steps in plan.items():
        if reasons(cls.needs, timed.physics):
            continue
        solver = cls(timed.prior, steps=steps, **SMALLER.get(cls.__name__, {}))
        ratios = []
        for _ in range(repeats):
            seconds = []
            for rows in (batch, 1):
                start = time.process_time()
                solver.sample(timed.y, timed.physics, batch, generator=0, max_batch=rows)
                seconds.append(time.process_time() - start)
            ratios.append(seconds[0] / seconds[1])
        found[cls.__name__] = statistics.median(ratios)
    return found


def main() -> None:
    """Read the arguments and print the table, one row a solver."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--calls", type=int, default=12, help="network evaluations a run")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--batch", type=int, default=0, help="samples at once, instead of ratios")
    parser.add_argument("--only", nargs="*", default=[], metavar="SOLVER")
    parser.add_argument("--operators", nargs="*", default=[], metavar="WORD")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    chosen = [s for s in ALL_SOLVERS if not arguments.only or s.__name__ in arguments.only]
    plan = {solver: steps_for(solver, arguments.calls) for solver in chosen}
    table: dict[str, dict[str, float]] = {}
    for label, (physics, channels) in problems(arguments.size).items():
        if arguments.operators and not any(word in label for word in arguments.operators):
            continue
        timed = Timed(physics, channels, arguments.size)
        if arguments.batch:
            table[label] = batches(timed, plan, arguments.repeats, arguments.batch)
        else:
            table[label] = case(timed, plan, arguments.repeats, not arguments.only)
        print(f"<!-- {label} done -->", flush=True)
    print(f"| {arguments.size}² | " + " | ".join(table) + " |")
    print("|---" * (1 + len(table)) + "|")
    for name in dict.fromkeys(name for found in table.values() for name in found):
        cells = (f"{found[name]:.3f}" if name in found else "-" for found in table.values())
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
