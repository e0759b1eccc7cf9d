"""Parallel- and fan-beam projectors against loops over ASTRA and deepinv's ``Tomography``.

All are called in turn, round by round, in one process on one thread; the clock is the CPU time of
the process, so other jobs on the machine matter little. Prints two markdown tables: per map the
smallest time of our matrices and the medians of the per-round ratios to it, and per projector the
root mean square difference from the analytic chords of a disc over its diameter.

    python benchmarks/operators_ct.py [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import math
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import astra
import deepinv
import numpy as np
import torch
from deepinv.physics import Tomography
from operators_common import compare

from sciinv.operators.ct import ParallelBeamCT
from sciinv.operators.ct_base import SliceCT
from sciinv.operators.ct_geometry import SliceGeometry
from sciinv.operators.ct_matrix import MatrixEngine, clear_matrices
from sciinv.operators.fan import FanBeamCT
from sciinv.operators.fan_geometry import FanGeometry

# beam, side of the image, angles, slices
CASES = [
    ("parallel", 64, 30, 1),
    ("fan", 64, 60, 1),
    ("parallel", 64, 30, 16),
    ("fan", 64, 60, 16),
    ("parallel", 128, 60, 1),
    ("fan", 128, 120, 1),
    ("parallel", 256, 60, 1),
    ("parallel", 256, 60, 8),
    ("fan", 256, 180, 1),
    ("fan", 256, 60, 8),
]
QUICK = 4
OTHERS = ["torch engine", "astra engine", "ASTRA loop", "ASTRA OpTomo", "deepinv Tomography"]
Map = Callable[[], object]


def astra_projector(geometry: SliceGeometry) -> int:
    """ASTRA's projector as its own documentation sets it up, without shifts."""
    g = geometry
    half = g.cols * g.pixel_size / 2
    volume = astra.create_vol_geom(g.rows, g.cols, -half, half, -half, half)
    angles = np.asarray(g.angles)
    if isinstance(g, FanGeometry):
        beam = astra.create_proj_geom(
            "fanflat",
            g.detector_spacing,
            g.num_detectors,
            angles,
            g.source_distance,
            g.detector_distance,
        )
        return int(astra.create_projector("line_fanflat", beam, volume))
    beam = astra.create_proj_geom("parallel", g.detector_spacing, g.num_detectors, angles)
    return int(astra.create_projector("linear", beam, volume))


def astra_loop(projector: int) -> tuple[Callable[[np.ndarray], np.ndarray], ...]:
    """The usual user code: a projector kept, ``create_sino`` for every slice."""

    def forward(image: np.ndarray) -> np.ndarray:
        identifier, sinogram = astra.create_sino(image, projector)
        astra.data2d.delete(identifier)
        return sinogram

    def adjoint(sinogram: np.ndarray) -> np.ndarray:
        identifier, image = astra.create_backprojection(sinogram, projector)
        astra.data2d.delete(identifier)
        return image

    return forward, adjoint


def sliced(
    forward: Callable[[np.ndarray], np.ndarray],
    adjoint: Callable[[np.ndarray], np.ndarray],
    x: torch.Tensor,
    y: torch.Tensor,
) -> tuple[Map, Map, Map]:
    """Maps of a stack by a function of one slice."""
    images = x.reshape(-1, *x.shape[-2:]).numpy()
    sinograms = y.reshape(-1, *y.shape[-2:]).numpy()
    return (
        lambda: [forward(image) for image in images],
        lambda: [adjoint(sinogram) for sinogram in sinograms],
        lambda: [adjoint(forward(image)) for image in images],
    )


def clock(function: Map) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def disc_error(op: SliceCT, project: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Root mean square error of an off-centre disc's chords, over its diameter."""
    g = op.geometry
    radius, cx, cy = 0.3 * g.cols * g.pixel_size, 0.08 * g.cols, -0.05 * g.cols
    sub = (np.arange(8) - 3.5) / 8 * g.pixel_size
    x = (g.x()[:, None] + sub).ravel()[None, :] - cx
    y = (g.y()[:, None] + sub).ravel()[:, None] - cy
    inside = (x**2 + y**2 < radius**2).reshape(g.rows, 8, g.cols, 8).mean((1, 3))
    nx, ny, q = g.rays()
    away = (nx * cx + ny * cy - q) / np.hypot(nx, ny)
    truth = torch.from_numpy(2 * np.sqrt(np.clip(radius**2 - away**2, 0, None)))
    found = project(torch.from_numpy(inside).float()[None, None]).double().reshape(truth.shape)
    return float((found - truth).square().mean().sqrt()) / (2 * radius)


def operators(beam: str, shape: tuple[int, ...], angles: int) -> dict[str, SliceCT]:
    """Our operators by backend."""
    n = shape[-1]
    detectors = math.ceil(math.sqrt(2) * n)  # what deepinv's Tomography uses
    if beam == "parallel":
        theta = np.arange(angles) * math.pi / angles
        kw = {"num_detectors": detectors, "detector_spacing": 1.0, "pixel_size": 1.0}
        return {b: ParallelBeamCT(shape, theta, **kw, backend=b) for b in ("csr", "torch", "astra")}
    theta = np.arange(angles) * 2 * math.pi / angles
    kw = {"num_detectors": detectors, "detector_spacing": 1.5, "pixel_size": 1.0}
    kw |= {"source_distance": 2.0 * n, "detector_distance": 1.0 * n}
    return {b: FanBeamCT(shape, theta, **kw, backend=b) for b in ("csr", "torch", "astra")}


@dataclass
class Setting:
    """One geometry: who takes part, with forward, adjoint and normal map of each.

    :param project: projection of one image ``(1, 1, n, n)``, for the accuracy.
    :param build: seconds that our matrix takes once.
    """

    op: SliceCT
    calls: dict[str, tuple[Map, ...]]
    project: dict[str, Callable[[torch.Tensor], torch.Tensor]]
    build: float
    projector: int


def setting(beam: str, n: int, angles: int, slices: int) -> Setting:
    """Make the operators of one geometry; ``projector`` is to be deleted afterwards."""
    shape = (n, n) if slices == 1 else (slices, n, n)
    ours = operators(beam, shape, angles)
    clear_matrices()
    op = ours["csr"]
    build = clock(lambda: MatrixEngine(op.geometry, torch.float32, torch.device("cpu")))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((1, 1, *shape), generator=generator)
    y = torch.rand((1, *op.measurement_shape), generator=generator)
    names = {"csr": "csr", "torch engine": "torch", "astra engine": "astra"}
    calls: dict[str, tuple[Map, ...]] = {
        name: (
            lambda p=ours[b]: p.A(x),
            lambda p=ours[b]: p.A_adjoint(y),
            lambda p=ours[b]: p.A_adjoint_A(x),
        )
        for name, b in names.items()
    }
    projector = astra_projector(op.geometry)
    loop = astra_loop(projector)
    calls["ASTRA loop"] = sliced(*loop, x, y)
    matrix = astra.OpTomo(projector)
    rays = op.measurement_shape[-2:]
    calls["ASTRA OpTomo"] = sliced(
        lambda image: (matrix @ image.ravel()).reshape(rays),
        lambda sinogram: (matrix.T @ sinogram.ravel()).reshape(n, n),
        x,
        y,
    )
    project = {name: ours[b].A for name, b in names.items()}
    project["ASTRA loop"] = lambda v: torch.from_numpy(loop[0](v[0, 0].numpy()))
    project["ASTRA OpTomo"] = lambda v: torch.from_numpy(matrix @ v.numpy().ravel())
    if beam == "parallel":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tomography = Tomography(
                angles=torch.rad2deg(op.angles).float(),
                img_width=n,
                normalize=False,
                adjoint_via_backprop=True,
            )
        stack = x.reshape(slices, 1, n, n)
        sinograms = tomography.A(stack)
        calls["deepinv Tomography"] = (
            lambda: tomography.A(stack),
            lambda: tomography.A_adjoint(sinograms),
            lambda: tomography.A_adjoint(tomography.A(stack)),
        )
        # its sinograms are (detectors, angles)
        project["deepinv Tomography"] = lambda v: tomography.A(v)[0, 0].T
    if slices > 1:  # one slice says it; a stack would take most of the run
        del calls["torch engine"]
    return Setting(op, calls, project, build, projector)


def table(beam: str, n: int, angles: int, slices: int, repeats: int) -> None:
    """Print the table of one geometry as the other operators have it, ratios to our matrices."""
    made = setting(beam, n, angles, slices)
    names = {"csr": "sciinv, matrix", "torch engine": "sciinv, torch engine"}
    names["astra engine"] = "sciinv, ASTRA engine"
    maps = ("forward", "adjoint", "normal")
    contenders = {
        names.get(key, key): dict(zip(maps, functions, strict=True))
        for key, functions in made.calls.items()
    }
    accuracy = {}
    if slices == 1:
        accuracy = {
            names.get(key, key): f"{disc_error(made.op, project):.1e}"
            for key, project in made.project.items()
        }
    stack = "" if slices == 1 else f", {slices} slices"
    compare(
        f"CT, {beam} beam, {n}x{n}, {angles} views{stack}", contenders, accuracy,
        reference="sciinv, matrix", repeats=repeats, measure="error of a disc's chords",
    )  # fmt: skip
    print(f"\nThe matrix is built once in {1e3 * made.build:.0f} ms.")
    astra.projector.delete(made.projector)


def run_case(
    beam: str, n: int, angles: int, slices: int, rounds: int
) -> tuple[list[str], str | None]:
    """Time one geometry; return its rows, and one of the errors for a single slice."""
    made = setting(beam, n, angles, slices)
    op, calls, project, build = made.op, made.calls, made.project, made.build
    rows = []
    for direction, name in enumerate(("A", "A^T", "A^T A")):
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
        cells = [f"{beam} {n}² {angles} angles x {slices}", name, f"{1e3 * base.min():.2f}"]
        cells += [*ratios, f"{1e3 * build:.0f}", f"{build / gain:.0f}"]
        rows.append("| " + " | ".join(cells) + " |")
    errors = None
    if slices == 1:
        found = [
            f"{disc_error(op, project[key]):.1e}" if key in project else ""
            for key in ("csr", *OTHERS)
        ]
        errors = f"| {beam} {n}² {angles} angles | " + " | ".join(found) + " |"
    astra.projector.delete(made.projector)
    return rows, errors


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="only the smallest cases")
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
    errors = []
    for case in CASES[: QUICK if options.quick else None]:
        rows, error = run_case(*case, options.rounds)
        for row in rows:
            print(row, flush=True)
        errors += [error] if error else []
    head = ["error of a disc's chords", "csr", *OTHERS]
    print("\n| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    print("\n".join(errors))


if __name__ == "__main__":
    main()
