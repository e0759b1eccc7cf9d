"""Colours and small parts that the pictures share."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.axes import Axes

mpl.use("Agg")

INK, BLUE, RED, GREY, GREEN = "#1f2430", "#2a6fdb", "#c8372d", "#8a8f98", "#2b8a3e"


def bare(ax: Axes, title: str) -> None:
    """Set a small title and quiet axes."""
    ax.set_title(title, fontsize=9, color=INK)
    ax.tick_params(labelsize=7, colors=GREY)
    for spine in ax.spines.values():
        spine.set_color(GREY)


def arrow(ax: Axes, start: tuple, end: tuple, color: str, width: float = 1.5) -> None:
    """Draw an arrow in data coordinates."""
    style = {"arrowstyle": "-|>", "color": color, "lw": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", xy=end, xytext=start, arrowprops=style, annotation_clip=False)


def agree(what: str, formula: float, operator: float, tolerance: float) -> None:
    """Stop the build of the documentation where a formula is not what the operator does.

    :raises RuntimeError: if the two differ by more than the tolerance.
    """
    if not abs(formula - operator) <= tolerance:
        raise RuntimeError(f"{what}: the page says {formula:.6g}, the operator does {operator:.6g}")
