"""Parallel-beam projectors against loops over ASTRA and against deepinv's ``Tomography``.

All are called in turn, round by round, in one process on one thread; the clock is the CPU time of
the process, so other jobs on the machine matter little. Prints a markdown table of the smallest
time of our matrices and of the medians of the per-round ratios to them.

    python benchmarks/operators_ct.py [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import math
import platform
import time
import warnings
from collections.abc import Callable

import astra
import deepinv
import numpy as np
import torch
from deepinv.physics import Tomography

from sciinv.operators.ct import ParallelBeamCT
from sciinv.operators.ct_matrix import MatrixEngine, clear_matrices

CASES = [(64, 30, 1), (64, 30, 16), (128, 60, 1), (256, 60, 1), (256, 60, 8), (256, 180, 1)]
OTHERS = ["astra engine", "torch engine", "ASTRA loop", "deepinv Tomography"]


def astra_loop(
    geometry: object, slices: int
) -> tuple[Callable[..., object], Callable[..., object]]:
    """The usual user code: a projector kept, ``create_sino`` for every slice."""
    g = geometry
    half = g.cols * g.pixel_size / 2
    volume = astra.create_vol_geom(g.rows, g.cols, -half, half, -half, half)
    beam = astra.create_proj_geom(
        "parallel", g.detector_spacing, g.num_detectors, np.asarray(g.angles)
    )
    projector = astra.create_projector("linear", beam, volume)

    def forward(x: torch.Tensor) -> list[np.ndarray]:
        out = []
        for image in x.reshape(slices, g.rows, g.cols).numpy():
            identifier, sinogram = astra.create_sino(image, projector)
            astra.data2d.delete(identifier)
            out.append(sinogram)
        return out

    def adjoint(y: torch.Tensor) -> list[np.ndarray]:
        out = []
        for sinogram in y.reshape(slices, len(g.angles), g.num_detectors).numpy():
            identifier, image = astra.create_backprojection(sinogram, projector)
            astra.data2d.delete(identifier)
            out.append(image)
        return out

    return forward, adjoint


def clock(function: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def run_case(n: int, angles: int, slices: int, rounds: int) -> list[str]:
    """Time one geometry and return its rows."""
    shape = (n, n) if slices == 1 else (slices, n, n)
    theta = np.arange(angles) * math.pi / angles
    kw = {
        "num_detectors": math.ceil(math.sqrt(2) * n),  # what deepinv's Tomography uses
        "detector_spacing": 1.0,
        "pixel_size": 1.0,
    }
    ours = {b: ParallelBeamCT(shape, theta, **kw, backend=b) for b in ("csr", "astra", "torch")}
    clear_matrices()
    geometry = ours["csr"].geometry
    build = clock(lambda: MatrixEngine(geometry, torch.float32, torch.device("cpu")))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((1, 1, *shape), generator=generator)
    y = torch.rand((1, *ours["csr"].measurement_shape), generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tomography = Tomography(
            angles=torch.rad2deg(torch.from_numpy(theta)).float(),
            img_width=n,
            normalize=False,
            adjoint_via_backprop=True,
        )
    loop = astra_loop(geometry, slices)
    stack = x.reshape(slices, 1, n, n)
    sinograms = tomography.A(stack)
    calls = {
        "csr": (lambda: ours["csr"].A(x), lambda: ours["csr"].A_adjoint(y)),
        "astra engine": (lambda: ours["astra"].A(x), lambda: ours["astra"].A_adjoint(y)),
        "torch engine": (lambda: ours["torch"].A(x), lambda: ours["torch"].A_adjoint(y)),
        "ASTRA loop": (lambda: loop[0](x), lambda: loop[1](y)),
        "deepinv Tomography": (
            lambda: tomography.A(stack),
            lambda: tomography.A_adjoint(sinograms),
        ),
    }
    if slices > 1:  # one slice says it; a stack would take most of the run
        del calls["torch engine"]
    rows = []
    for direction, name in enumerate(("A", "A^T")):
        times: dict[str, list[float]] = {key: [] for key in calls}
        for key in calls:
            calls[key][direction]()
        for _ in range(rounds):
            for key, functions in calls.items():
                times[key].append(clock(functions[direction]))
        base = np.array(times["csr"])
        ratios = [
            f"{np.median(np.array(times[key]) / base):.1f}" if key in times else ""
            for key in OTHERS
        ]
        gain = (np.median(times["ASTRA loop"]) - np.median(base)) or math.inf
        cells = [
            f"{n}² {angles} angles x {slices}",
            name,
            f"{1e3 * base.min():.2f}",
            *ratios,
            f"{1e3 * build:.0f}",
            f"{build / gain:.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="only the two smallest cases")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, astra {astra.__version__}, deepinv {deepinv.__version__}, "
        f"Python {platform.python_version()}, one thread, CPU time, {options.rounds} rounds\n"
    )
    head = ["case", "map", "csr, min ms", *[f"{o} / csr" for o in OTHERS]]
    head += ["csr build ms", "calls that pay for it"]
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for case in CASES[: 2 if options.quick else None]:
        for row in run_case(*case, options.rounds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
