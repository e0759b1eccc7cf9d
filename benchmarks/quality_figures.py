"""The quality benchmark as pictures: reference, methods, and their errors on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from quality_cases import DIFFRACTION, Case
from quality_own import MEAN, POINT, SAMPLE
from quality_search import better
from quality_store import Row, Store
from quality_table import CLASSICAL, Rows

from sciinv.metrics import align

Image = NDArray[Any]

# share of the largest value at which the errors' colours end
_ERROR_RANGE = 0.15
_MARGIN = 0.06
_BEST = 2


def figures(store: Store, cases: Sequence[Case], label: str) -> None:
    """Write one figure for each case, and those of the uncertainty, into ``figures``."""
    matplotlib.use("Agg")
    rows = store.rows()
    folder = store.folder / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        try:
            _strip(store, rows, case, label, folder / f"{case.name}.png")
        except Exception as error:
            print(f"figure of {case.name}: {type(error).__name__}: {error}")
    _reliability(rows, cases, label, folder / "reliability.png")


def _shown(rows: Rows, case: Case, label: str) -> list[str]:
    """Return the best classical methods, the worse first, then those of sciinv."""
    metric = "r_free" if case.group == DIFFRACTION else "psnr"
    classical = [m for m in CLASSICAL if (case.name, m) in rows]
    ordered: list[str] = []
    for method in classical:
        value = rows[case.name, method]["scores"][metric]
        place = next(
            (i for i, m in enumerate(ordered)
             if better(metric, value, rows[case.name, m]["scores"][metric])), len(ordered),
        )  # fmt: skip
        ordered.insert(place, method)
    own = [f"{label} {name}" for name in (POINT, SAMPLE, MEAN)]
    return [*reversed(ordered[:_BEST]), *(m for m in own if (case.name, m) in rows)]


def _strip(store: Store, rows: Rows, case: Case, label: str, path: Path) -> None:
    from matplotlib import pyplot as plt

    truth = store.load(f"{case.name}__reference")
    images: dict[str, Image] = {}
    std: Image | None = None
    for method in _shown(rows, case, label):
        arrays = store.load(f"{case.name}__{method}")
        if arrays is not None:
            images[method] = arrays["image"]
            std = arrays.get("std", std)
    if not images:
        return
    if truth is None:
        images = _aligned(images)
        box = _box(np.abs(next(iter(images.values()))) > 0)
    else:
        box = _box(truth["mask"])
    reference = None if truth is None else np.abs(truth["image"])[box]
    flat = {m: np.abs(x)[box] for m, x in images.items()}
    top = float(np.percentile(next(iter(flat.values())) if reference is None else reference, 99.7))
    columns = len(flat) + (reference is not None)
    height, width = next(iter(flat.values())).shape
    lines = 1 if reference is None else 2
    size = (2.6 * columns, lines * (2.6 * height / width + 0.42))
    figure, axes = plt.subplots(
        lines, columns, figsize=size, squeeze=False, dpi=110, layout="constrained"
    )
    grey = {"cmap": "gray", "vmin": 0, "vmax": top, "interpolation": "nearest"}
    end = _ERROR_RANGE * top
    start = 0
    if reference is not None:
        axes[0, 0].imshow(reference, **grey)
        axes[0, 0].set_title("all data", fontsize=8)
        if std is not None:
            axes[1, 0].imshow(std[box], cmap="magma", vmin=0, vmax=end)
            axes[1, 0].set_title(f"std, 0 to {_ERROR_RANGE:.0%}", fontsize=8)
        start = 1
    for column, (method, image) in enumerate(flat.items(), start=start):
        axes[0, column].imshow(image, **grey)
        axes[0, column].set_title(_title(method, rows[case.name, method]), fontsize=8)
        if reference is not None:
            error = image - reference
            axes[1, column].imshow(error, cmap="RdBu", vmin=-end, vmax=end)
            axes[1, column].set_title(f"error, within {_ERROR_RANGE:.0%}", fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path)
    plt.close(figure)


def _title(method: str, row: Row) -> str:
    scores = row.get("at_guide", row["scores"])
    if "psnr" in scores:
        text = f"{method}\n{scores['psnr']:.2f} dB / {scores['ssim']:.3f}"
        return text + (f" / {scores['held_out']:.4f}" if "held_out" in scores else "")
    return f"{method}\nR {scores['r_free']:.3f} hidden, {scores['r_used']:.3f} used"


def _aligned(images: dict[str, Image]) -> dict[str, Image]:
    """Remove shift, twin and phase of diffraction, against the last; volumes: the middle plane."""
    last = list(images.values())[-1]
    moved = {m: np.asarray(align(x, last)) for m, x in images.items()}
    return {m: x if x.ndim == 2 else x[len(x) // 2] for m, x in moved.items()}


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the smallest box that holds a mask, with a margin."""
    box = []
    for axis, n in enumerate(mask.shape):
        used = np.flatnonzero(mask.any(axis=1 - axis))
        edge = int(np.ceil(_MARGIN * (used[-1] - used[0] + 1)))
        box.append(slice(max(0, used[0] - edge), min(n, used[-1] + edge + 1)))
    return box[0], box[1]


def _reliability(rows: Rows, cases: Sequence[Case], label: str, path: Path) -> None:
    """Nominal against observed coverage of every case."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(5.2, 4.6), dpi=110)
    axis.plot([0, 1], [0, 1], color="0.6", linestyle=":")
    colours = dict(zip(dict.fromkeys(c.group for c in cases), "C0 C1 C2 C3".split(), strict=False))
    named: set[str] = set()
    for case in cases:
        row = rows.get((case.name, f"{label} {MEAN}"))
        if row is None or "curve" not in row:
            continue
        text = None if case.group in named else case.group
        named.add(case.group)
        axis.plot(*row["curve"], "o-", color=colours[case.group], label=text, alpha=0.6, ms=3)
    if named:
        axis.set_xlabel("nominal coverage")
        axis.set_ylabel("observed coverage, inside the object")
        axis.legend(frameon=False, fontsize=8)
        figure.tight_layout()
        figure.savefig(path)
    plt.close(figure)
