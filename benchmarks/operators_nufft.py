"""Time non-Cartesian MRI against the libraries that do the same, interleaved in one process.

Prints one markdown table per case: forward / adjoint / normal, coil maps included, as ratios of CPU
time to ducc0 alone (the fastest pair), and the relative error of each against double precision.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/operators_nufft.py --threads 1 --repeats 9
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sciinv.channels import to_channels, to_complex
from sciinv.operators.noncartesian import NonCartesianMRI
from sciinv.operators.nufft import direct_sum
from sciinv.operators.trajectories import radial_trajectory, spiral_trajectory

MAPS = ("forward", "adjoint", "normal")
REFERENCE = "ducc0 (eps 1e-5)"


@dataclass
class Case:
    """One geometry and the complex64 arrays that every contender is given."""

    label: str
    shape: tuple[int, int]
    trajectory: np.ndarray
    coils: int

    def __post_init__(self):
        rng = np.random.default_rng(0)
        size = (self.coils, *self.shape)
        maps = rng.standard_normal(size) + 1j * rng.standard_normal(size)
        self.maps = (maps / np.linalg.norm(maps, axis=0)).astype(np.complex64)
        x = rng.standard_normal(self.shape) + 1j * rng.standard_normal(self.shape)
        self.x = x.astype(np.complex64)
        self.points = self.trajectory.reshape(-1, 2)
        y = rng.standard_normal((2, self.coils, len(self.points)))
        self.y = (y[0] + 1j * y[1]).astype(np.complex64)

    def physics(self, **options):
        """Ours, with the arrays of the case as its arguments."""
        physics = NonCartesianMRI(
            self.shape, self.trajectory, torch.from_numpy(self.maps), **options
        )
        dtype = torch.complex128 if options.get("dtype") == torch.float64 else torch.complex64
        x = to_channels(torch.from_numpy(self.x)[None].to(dtype))
        y = to_channels(torch.from_numpy(self.y)[None].to(dtype))
        return physics, x, y

    def truth(self) -> dict[str, np.ndarray]:
        """Double precision, checked at random samples against the sum itself."""
        physics, x, y = self.physics(dtype=torch.float64, toeplitz=False)
        values = {
            "forward": to_complex(physics.A(x))[0].numpy(),
            "adjoint": to_complex(physics.A_adjoint(y))[0].numpy(),
            "normal": to_complex(physics.A_adjoint_A(x))[0].numpy(),
        }
        some = np.random.default_rng(1).integers(0, len(self.points), 40)
        found = direct_sum(self.maps.astype(np.complex128) * self.x, self.points[some])
        error = np.linalg.norm(values["forward"][:, some] - found) / np.linalg.norm(found)
        if not error < 1e-10:
            raise RuntimeError(f"double precision differs from the direct sum by {error:.1e}")
        return values


Calls = dict[str, Callable[[], object]]


def ours(case: Case, backend: str, toeplitz: bool) -> Calls:
    physics, x, y = case.physics(backend=backend, toeplitz=toeplitz)
    return {
        "forward": lambda: to_complex(physics.A(x))[0],
        "adjoint": lambda: to_complex(physics.A_adjoint(y))[0],
        "normal": lambda: to_complex(physics.A_adjoint_A(x))[0],
    }


def from_pair(case: Case, forward, adjoint) -> Calls:
    """Maps around a transform of coil images, as every SENSE code has them."""
    conj = case.maps.conj()

    def apply():
        return forward(case.maps * case.x)

    def transpose(y):
        return (conj * adjoint(y)).sum(0)

    return {
        "forward": apply,
        "adjoint": lambda: transpose(case.y),
        "normal": lambda: transpose(apply()),
    }


def sigpy_calls(case: Case, oversampling: float, width: int) -> Calls:
    import sigpy

    points = case.points.astype(np.float32)

    def forward(z):
        return sigpy.nufft(z, points, oversampling, width)

    def adjoint(y):
        return sigpy.nufft_adjoint(y, points, case.maps.shape, oversampling, width)

    return from_pair(case, forward, adjoint)


def sigpy_toeplitz(case: Case) -> Calls:
    import sigpy

    points = case.points.astype(np.float32)
    nufft = sigpy.linop.NUFFT(case.maps.shape, points, oversamp=2, width=6, toeplitz=True)
    normal, conj = nufft.N, case.maps.conj()
    return {"normal": lambda: (conj * normal(case.maps * case.x)).sum(0)}


def finufft_calls(case: Case, eps: float, **options: float) -> Calls:
    import finufft

    scale = np.float32(1 / math.sqrt(math.prod(case.shape)))
    angles = (2 * np.pi * case.points / np.array(case.shape)).astype(np.float32)
    plan = finufft.Plan(
        2, case.shape, case.coils, eps=eps, isign=-1, dtype="complex64",
        nthreads=torch.get_num_threads(), showwarn=0, **options,
    )  # fmt: skip
    plan.setpts(*np.ascontiguousarray(angles.T))
    # a plan for one image has no axis of images
    lead = (case.coils,) if case.coils > 1 else ()
    return from_pair(
        case,
        lambda z: scale * plan.execute(z.reshape(*lead, *case.shape)).reshape(case.coils, -1),
        lambda y: scale * plan.execute_adjoint(y.reshape(*lead, -1)).reshape(case.maps.shape),
    )


def ducc_calls(case: Case) -> Calls:
    import ducc0

    scale = np.float32(1 / math.sqrt(math.prod(case.shape)))
    angles = (2 * np.pi * case.points / np.array(case.shape)).astype(np.float32)
    plan = ducc0.nufft.plan(
        nu2u=False, coord=angles, grid_shape=case.shape, epsilon=1e-5,
        nthreads=torch.get_num_threads(),
    )  # fmt: skip
    return from_pair(
        case,
        lambda z: scale * np.stack([plan.u2nu(forward=True, grid=image) for image in z]),
        lambda y: scale * np.stack([plan.nu2u(forward=False, points=row) for row in y]),
    )


def mrinufft_calls(case: Case) -> Calls:
    import mrinufft

    angles = (2 * np.pi * case.points / np.array(case.shape)).astype(np.float32)
    op = mrinufft.get_operator("finufft")(
        angles, case.shape, n_coils=case.coils, smaps=case.maps, squeeze_dims=True
    )

    def forward():
        return 2 * op.op(case.x).reshape(case.coils, -1)  # its scale is half of ours in 2D

    def adjoint(y):
        return 2 * op.adj_op(y)

    return {
        "forward": forward,
        "adjoint": lambda: adjoint(case.y),
        "normal": lambda: adjoint(forward()),
    }


def deepinv_calls(case: Case) -> Calls | None:
    """Its trajectories are its own: only where they are those of the case."""
    import deepinv

    if case.trajectory.ndim != 3:
        return None
    shots, samples = case.trajectory.shape[:2]
    physics = deepinv.physics.NonCartesianMRI(
        case.shape, shots, samples, in_out=True, coil_maps=torch.from_numpy(case.maps)
    )
    found = physics.samples.reshape(-1, 2) * np.array(case.shape)
    if found.shape != case.points.shape or np.abs(found - case.points).max() > 1e-3:
        return None
    x = to_channels(torch.from_numpy(case.x)[None])
    y = to_channels(torch.from_numpy(case.y)[None])
    return {
        "forward": lambda: 2 * to_complex(physics.A(x))[0],
        "adjoint": lambda: 2 * to_complex(physics.A_adjoint(y))[0],
        "normal": lambda: 4 * to_complex(physics.A_adjoint_A(x))[0],
    }


CONTENDERS: dict[str, Callable[[Case], Calls | None]] = {
    REFERENCE: ducc_calls,
    "**sciinv**, Toeplitz (ducc0)": lambda case: ours(case, "ducc0", True),
    "sciinv, ducc0 pair": lambda case: ours(case, "ducc0", False),
    "sciinv, finufft pair": lambda case: ours(case, "finufft", False),
    "sciinv, sigpy pair": lambda case: ours(case, "sigpy", False),
    "finufft plan (1e-4)": lambda case: finufft_calls(case, 1e-4),
    "finufft plan (1e-6)": lambda case: finufft_calls(case, 1e-6),
    "mri-nufft (finufft)": mrinufft_calls,
    "deepinv (mri-nufft)": deepinv_calls,
    "sigpy (2, 6)": lambda case: sigpy_calls(case, 2, 6),
    "sigpy default": lambda case: sigpy_calls(case, 1.25, 4),
    "sigpy Toeplitz (2, 6)": sigpy_toeplitz,
}


def table(case: Case, repeats: int) -> None:
    """Rounds in which everyone takes a turn, so that load hits all alike."""
    truth = case.truth()
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    notes = []
    for name, make in CONTENDERS.items():
        try:
            made = make(case)
        except ImportError as error:
            notes.append(f"{name}: {error}")
            continue
        for which, call in (made or {}).items():
            calls[name, which] = call
    errors = {}
    for key, call in calls.items():
        expected = truth[key[1]]
        errors[key] = np.linalg.norm(np.asarray(call()) - expected) / np.linalg.norm(expected)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(repeats):
        for key, call in calls.items():
            start = time.process_time()
            call()
            seconds[key].append(time.process_time() - start)
    samples = " x ".join(map(str, case.trajectory.shape[:-1]))
    size = "x".join(map(str, case.shape))
    print(f"\n### Non-Cartesian MRI, {size}, {case.label} {samples}, {case.coils} coil(s)\n")
    best = [f"{1e3 * min(seconds[REFERENCE, which]):.1f}" for which in MAPS]
    print(f"{REFERENCE}: {' / '.join(best)} ms (minimum). Ratios: of minima (median of rounds).\n")
    print("| | " + " | ".join(MAPS) + " | relative errors |")
    print("|---|---|---|---|---|")
    for name in CONTENDERS:
        cells, wrong = [], []
        for which in MAPS:
            found = seconds.get((name, which))
            if found is None:
                cells.append("")
                wrong.append("-")
                continue
            base = seconds[REFERENCE, which]
            rounds = [a / b for a, b in zip(found, base, strict=True)]
            cells.append(f"{min(found) / min(base):.2f} ({statistics.median(rounds):.2f})")
            wrong.append(f"{errors[name, which]:.0e}")
        if any(cells):
            print(f"| {name} | " + " | ".join(cells) + f" | {' / '.join(wrong)} |", flush=True)
    for note in notes:
        print(f"\n{note}")


def cases() -> dict[str, Callable[[], Case]]:
    def radial(size: int, spokes: int, samples: int, coils: int) -> Case:
        shape = (size, size)
        return Case("radial", shape, radial_trajectory(shape, spokes, samples), coils)

    return {
        "radial": lambda: radial(256, 200, 512, 8),
        "single": lambda: radial(256, 64, 512, 1),
        "spiral": lambda: Case(
            "spiral", (256, 256), spiral_trajectory((256, 256), 16, 4096, turns=10), 8
        ),
        "deepinv": deepinv_case,
    }


def deepinv_case() -> Case:
    """The radial trajectory that deepinv makes, so that it can take part."""
    import mrinufft

    samples = mrinufft.initialize_2D_radial(Nc=200, Ns=512, tilt="uniform", in_out=True)
    return Case("mri-nufft's radial", (256, 256), samples.astype(np.float64) * 256, 8)


def main() -> None:
    """Read the arguments and run the cases asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(cases()), action="append", help="these cases")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    with torch.no_grad():
        for name, make in cases().items():
            if not arguments.only or name in arguments.only:
                table(make(), arguments.repeats)


if __name__ == "__main__":
    main()
