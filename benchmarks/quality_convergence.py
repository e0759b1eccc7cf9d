"""Quality over the number of network evaluations: forward 1, vector-Jacobian product 2."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_cases import Case, Problem, wanted
from quality_store import Row, Store
from torch import Tensor

from sciinv import reconstruct
from sciinv.baselines import cg_sense, sirt
from sciinv.priors import load as load_prior
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.choices import DEFAULT_PRIORS
from sciinv.reconstruction.effort import QUICK_STEPS
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.refine import can_refine, refine_maps
from sciinv.solvers import DPS, PnPHQS

Image = NDArray[Any]
DEFAULT_CASES = ["brain_r4_0", "phantom16_r4_0", "disc_12"]
POINT, MEAN, SAMPLE, DPS_MEAN, DPS_SAMPLE = (
    "PnPHQS", "MMT, mean", "MMT, one sample", "DPS, mean", "DPS, one sample",
)  # fmt: skip
_POINT_STEPS = (10, 20, 50, 100, 200)
# steps and dimension of MMT: about 50 to 400 evaluations with those of the coil maps and the point
# estimate that it starts from
_MMT = ((2, 1), (5, 3), (11, 4), (20, 6))
_DPS_STEPS = 1000
_DPS_SAMPLES = 2
_METHOD = "NFE"


def point_estimate(
    model: Model, prior: str | None, steps: int = 32, *, refine: bool = True
) -> Image:
    """Return the default point estimate of a model after a number of steps.

    As ``reconstruct`` makes it: half-quadratic splitting from CG-SENSE, in CT from 20 sweeps of
    SIRT and a higher level, with 0.7 of the noise level; in MRI once more with the coil maps that a
    quick first estimate completes.
    """
    name = prior or DEFAULT_PRIORS["ct" if model.nonneg else "mri"]
    denoiser = load_prior(name, channels=model.physics.channels)

    def split(model: Model, start: Tensor, steps: int) -> Tensor:
        solver = PnPHQS(denoiser, steps=steps)
        if model.nonneg:
            solver.sigma_max = 0.3
        relaxed = model.with_noise(max(0.7 * model.sigma, model.floor))
        return solver.sample(relaxed.y, relaxed.physics, 1, generator=0, init=start)[0]

    if model.nonneg:
        start = sirt(model.y, model.physics, iterations=20, nonneg=True)
    elif model.preview is not None:
        start = model.preview
    else:
        start = cg_sense(model.y, model.physics, lam=0.01)
    if refine and can_refine(model):
        model, start = refine_maps(model, split(model, start, QUICK_STEPS))
    found = split(model, start, steps)
    return np.where(model.visible, model.to_physical(found)[0], 0)


def convergence(
    folder: Path, store: Store, patterns: list[str], prior: str | None, samples: int
) -> int:
    """Compute what is missing and return the number of failures."""
    failed = 0
    for case in wanted(patterns or DEFAULT_CASES):
        try:
            problem = case.make(folder, store)
            for name, run in _runs(problem, prior, samples).items():
                if (case.name, f"{_METHOD} {name}") not in store.rows():
                    _keep(store, case, name, run())
        except Exception as error:
            print(f"{case.name} FAILED: {type(error).__name__}: {error}", flush=True)
            failed += 1
    return failed


def _keep(store: Store, case: Case, name: str, row: Row) -> None:
    store.add(case.name, f"{_METHOD} {name}", row)
    print(f"{case.name}, {name}: {row['points']}", flush=True)


def _runs(problem: Problem, prior: str | None, samples: int) -> dict[str, Callable[[], Row]]:
    model = build_model(problem.scan, 0)

    quick = QUICK_STEPS if can_refine(model) else 0

    def point(nfe: int) -> Row:
        begin = time.process_time()
        # the fewest evaluations leave none for the coil maps
        refine = nfe >= 2 * quick
        image = point_estimate(model, prior, nfe - quick * refine, refine=refine)
        return _row({POINT: problem.score(image)}, nfe, begin)

    def mmt(steps: int, krylov: int) -> Row:
        begin = time.process_time()
        result = reconstruct(
            problem.scan, prior, num_samples=samples, steps=steps, krylov=krylov, time_budget=1e6,
            calibrate=False,
        )  # fmt: skip
        before = int(result.provenance.get("start", {}).get("steps", 0))
        nfe = int(result.stats["nfe"]) + before + quick
        one = np.where(result.visible[0], result.samples[0, 0], 0)
        found = {MEAN: problem.score(result.mean[0]), SAMPLE: problem.score(one)}
        return _row(found, nfe, begin)

    def dps() -> Row:
        begin = time.process_time()
        result = reconstruct(
            problem.scan, prior, lambda p: DPS(p, steps=_DPS_STEPS), num_samples=_DPS_SAMPLES,
            calibrate=False,
        )  # fmt: skip
        one = np.where(result.visible[0], result.samples[0, 0], 0)
        found = {DPS_MEAN: problem.score(result.mean[0]), DPS_SAMPLE: problem.score(one)}
        return _row(found, int(result.stats["nfe"]), begin)

    runs: dict[str, Callable[[], Row]] = {
        f"PnPHQS {n}": lambda n=n: point(n)
        for n in _POINT_STEPS  # type: ignore[misc]
    }
    runs |= {f"MMT {n} {k}": lambda n=n, k=k: mmt(n, k) for n, k in _MMT}  # type: ignore[misc]
    return {**runs, "DPS": dps}


def _row(found: dict[str, dict[str, float]], nfe: int, begin: float) -> Row:
    return {
        "scores": {}, "nfe": nfe, "seconds": time.process_time() - begin,
        "points": {name: {"nfe": nfe, **scores} for name, scores in found.items()},
    }  # fmt: skip


def curves(store: Store, case: Case) -> dict[str, list[dict[str, float]]]:
    """Return the points of every curve of a case, by rising number of evaluations."""
    found: dict[str, list[dict[str, float]]] = {}
    for (name, method), row in store.rows().items():
        if name == case.name and method.startswith(f"{_METHOD} "):
            for curve, point in row["points"].items():
                found.setdefault(curve, []).append({**point, "seconds": row["seconds"]})
    return {c: sorted(points, key=lambda p: p["nfe"]) for c, points in found.items()}


def report(store: Store, cases: Sequence[Case]) -> str:
    """Return the table of all curves and write the figure."""
    found = {case.name: curves(store, case) for case in cases}
    found = {name: c for name, c in found.items() if c}
    if not found:
        return ""
    lines = ["| network evaluations | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    keys = dict.fromkeys((c, p["nfe"]) for cs in found.values() for c, ps in cs.items() for p in ps)
    for curve, nfe in sorted(keys, key=lambda k: (_order(k[0]), k[1])):
        cells = []
        for named in found.values():
            values = [p["psnr"] for p in named.get(curve, []) if p["nfe"] == nfe]
            cells.append(f"{values[0]:.2f} dB" if values else "")
        lines.append(f"| {curve}: {nfe} | " + " | ".join(cells) + " |")
    _figure(found, store.folder / "figures" / "convergence.png")
    return "### Convergence\n\n" + "\n".join(lines) + "\n"


def _order(curve: str) -> int:
    return (POINT, MEAN, SAMPLE, DPS_MEAN, DPS_SAMPLE).index(curve)


def _figure(found: dict[str, dict[str, list[dict[str, float]]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(
        1, len(found), figsize=(3.6 * len(found), 3.4), squeeze=False, dpi=110
    )
    for axis, (name, named) in zip(axes[0], found.items(), strict=True):
        for curve in sorted(named, key=_order):
            points = named[curve]
            axis.plot(
                [p["nfe"] for p in points], [p["psnr"] for p in points],
                "D" if curve.startswith("DPS") else "o-", ms=4, label=curve,
                color=f"C{_order(curve)}",
            )  # fmt: skip
            if curve == DPS_MEAN:
                axis.axhline(points[-1]["psnr"], color=f"C{_order(curve)}", linestyle=":", lw=1)
        axis.set_xscale("log")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("network evaluations")
    axes[0, 0].set_ylabel("PSNR, dB")
    axes[0, -1].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
