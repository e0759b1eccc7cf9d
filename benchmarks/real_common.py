"""What the benchmarks on real scans share: rows of the tables, classical methods, pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDECARS = Path(__file__).resolve().parent.parent / "examples" / "sidecars"
Image = NDArray[np.floating] | NDArray[np.complexfloating]
Scores = tuple[float, ...]


def head(*names: str) -> None:
    """Print the head of a table."""
    print("\n| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|", flush=True)


def row(name: str, *values: object) -> None:
    """Print one row."""
    print("| " + " | ".join([name, *map(str, values)]) + " |", flush=True)


@dataclass
class Table:
    """Scores of methods, one row each.

    :param score: of one image in physical units.
    :param formats: of the scores, with a sign in front: ``"+.2f"`` where more is better and
        ``"-.4f"`` where less is.
    :param name: of the pictures.
    """

    score: Callable[[Image], Scores]
    formats: tuple[str, ...]
    name: str
    pictures: dict[str, Image] = field(default_factory=dict)

    def add(self, method: str, image: Image, seconds: float | None = None) -> Scores:
        """Print the row of one image."""
        found = self.score(image)
        took = "" if seconds is None else f"{seconds:.0f}"
        row(method, *self.cells(found), took)
        self.pictures[method] = image
        return found

    def cells(self, scores: Scores) -> list[str]:
        """Write scores by their formats."""
        return [f"{v:{f[1:]}}" for v, f in zip(scores, self.formats, strict=True)]

    def best(
        self, method: str, make: Callable[[float], Image], choices: Iterable[float]
    ) -> list[Scores]:
        """Print the best of some settings, each column for itself, and time of one of them.

        The picture is the best by the first column.
        """
        begin = time.perf_counter()
        made = [(choice, make(choice)) for choice in choices]
        seconds = (time.perf_counter() - begin) / len(made)
        scores = [self.score(image) for _, image in made]
        signs = [1 if f[0] == "+" else -1 for f in self.formats]
        columns = [np.array(values) for values in zip(*scores, strict=True)]
        chosen = [int(np.argmax(s * v)) for s, v in zip(signs, columns, strict=True)]
        best = tuple(float(v[i]) for v, i in zip(columns, chosen, strict=True))
        settings = "/".join(dict.fromkeys(f"{made[i][0]:g}" for i in chosen))
        row(
            f"{method}, best of {len(made)} ({settings})", *self.cells(best), f"{seconds:.0f}"
        )  # fmt: skip
        self.pictures[method] = made[chosen[0]][1]
        return scores

    def save(self, folder: Path | None, reference: Image | None = None, crop: int = 0) -> None:
        """Write all pictures as arrays and as one PNG beside their errors."""
        if folder is None:
            return
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        folder.mkdir(parents=True, exist_ok=True)
        shown = dict(self.pictures)
        if reference is not None:
            shown = {"reference": reference, **shown}
        np.savez(folder / f"{self.name}.npz", **{k.replace("/", "_"): v for k, v in shown.items()})
        flat = {k: np.abs(v if v.ndim == 2 else v[len(v) // 2]) for k, v in shown.items()}
        if crop:
            flat = {k: v[crop:-crop, crop:-crop] for k, v in flat.items()}
        rows = 1 if reference is None else 2
        figure, axes = plt.subplots(
            rows, len(flat), figsize=(3.2 * len(flat), 3.4 * rows), squeeze=False, dpi=110
        )
        top = float(np.percentile(next(iter(flat.values())), 99.7))
        for column, (name, image) in enumerate(flat.items()):
            axes[0, column].imshow(image, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
            axes[0, column].set_title(name, fontsize=8)
            if reference is not None:
                error = image - flat["reference"]
                axes[1, column].imshow(error, cmap="RdBu", vmin=-0.2 * top, vmax=0.2 * top)
        for axis in axes.flat:
            axis.set_axis_off()
        figure.tight_layout(pad=0.3)
        figure.savefig(folder / f"{self.name}.png")
        plt.close(figure)


def fitted(image: Image, reference: Image, mask: NDArray[np.bool_]) -> Image:
    """Magnitude scaled to that of a reference inside a mask, by least squares."""
    size = np.abs(image)
    inside = size[mask].astype(np.float64)
    factor = float(inside @ np.abs(reference)[mask]) / max(float(inside @ inside), 1e-300)
    return size * factor
