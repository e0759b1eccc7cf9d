"""Panels of images placed in inches, without the global state of pyplot."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sciinv.report.plain import harmless

if TYPE_CHECKING:
    from numpy.typing import NDArray

DPI = 120
TITLE, BAR = 0.3, 0.48  # inches for the title above and the colour bar below a panel
GAP, MARGIN = 0.15, 0.12


@dataclass(frozen=True)
class Panel:
    """One image to draw.

    :param image: 2D, rows downwards; NaN is drawn grey.
    :param window: values shown as darkest and brightest.
    :param label: unit for the colour bar; no bar if ``None``.
    :param spacing: (row, column) size of a pixel; the image is drawn in these proportions.
    :param bar_unit: unit of ``spacing`` (``"mm"`` or ``"px"``); no scale bar without one.
    :param letters: orientation letters left, right, top, bottom, or ``None``.
    """

    image: NDArray[np.floating]
    title: str
    window: tuple[float, float]
    cmap: str = "gray"
    label: str | None = None
    spacing: tuple[float, float] = (1.0, 1.0)
    bar_unit: str | None = None
    letters: tuple[str, str, str, str] | None = None

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in units of ``spacing``."""
        rows, columns = self.image.shape
        return rows * self.spacing[0], columns * self.spacing[1]


def colours(name: str, hidden: str = "#8c8c8c") -> Colormap:
    """Colour map with a colour of its own for NaN (not measured)."""
    return colormaps[name].with_extremes(bad=hidden)


def new_figure(width: float, height: float) -> Figure:
    """Make a white figure of a size in inches, drawn by Agg."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """Render a figure; the file carries no date and no program versions."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches from the upper left corner."""
    full_width, full_height = figure.get_size_inches()
    return figure.add_axes(
        (
            left / full_width,
            1 - (top + height) / full_height,
            width / full_width,
            height / full_height,
        )
    )


def panel_sizes(
    panels: Sequence[Panel], columns: int, *, max_width: float, max_height: float
) -> tuple[float, float, float]:
    """Width and height in inches of a cell that fits every panel, and their common scale."""
    tall = max(panel.size[0] for panel in panels)
    wide = max(panel.size[1] for panel in panels)
    cell_width = (max_width - 2 * MARGIN - (columns - 1) * GAP) / columns
    scale = min(cell_width / wide, max_height / tall)
    # never so narrow that titles have no room
    return max(wide * scale, 1.6), tall * scale, scale


def draw_grid(
    panels: Sequence[Panel],
    columns: int | None = None,
    *,
    max_width: float = 10.0,
    max_height: float = 4.5,
) -> bytes:
    """Draw panels of like size in a grid with their titles and colour bars.

    :param columns: panels a row; by default all side by side, or one below the other if they are
        more than twice as wide as tall.
    :return: PNG.
    """
    if columns is None:
        tall, wide = panels[0].size
        columns = 1 if wide > 2.2 * tall else len(panels)
    width, height, scale = panel_sizes(panels, columns, max_width=max_width, max_height=max_height)
    rows = -(-len(panels) // columns)
    bar = BAR if any(panel.label is not None for panel in panels) else 0.0
    cell = TITLE + height + bar
    figure = new_figure(
        2 * MARGIN + columns * width + (columns - 1) * GAP,
        2 * MARGIN + rows * cell + (rows - 1) * GAP,
    )
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left, top = MARGIN + column * (width + GAP), MARGIN + row * (cell + GAP) + TITLE
        draw_panel(figure, panel, left, top, width, height, scale)
    return to_png(figure)


def draw_panel(
    figure: Figure,
    panel: Panel,
    left: float,
    top: float,
    width: float,
    height: float,
    scale: float,
) -> None:
    """Draw one panel into a cell, in its own proportions, with its colour bar below.

    :param scale: inches for one unit of the panel's spacing.
    """
    tall, wide = panel.size
    drawn_width, drawn_height = wide * scale, tall * scale
    axes = place(
        figure, left + (width - drawn_width) / 2, top, drawn_width, max(drawn_height, 0.02)
    )
    image = axes.imshow(
        np.ma.masked_invalid(panel.image),
        cmap=colours(panel.cmap),
        vmin=panel.window[0],
        vmax=panel.window[1],
        aspect="auto",
        interpolation="antialiased",
    )
    axes.set_axis_off()
    full_width, full_height = figure.get_size_inches()
    figure.text(
        (left + width / 2) / full_width,
        1 - (top - 0.07) / full_height,
        panel.title,
        ha="center",
        va="bottom",
        # a letter of size 10 is about 0.085 inches wide
        fontsize=min(10, 10 * width / (0.085 * max(len(panel.title), 1))),
        parse_math=False,
    )
    if panel.letters:
        _letters(axes, panel.letters)
    if panel.bar_unit:
        _scale_bar(axes, wide, tall, scale, panel.bar_unit)
    if panel.label is not None:
        bar_width = max(drawn_width, min(width, 1.6))
        bar_left = left + (width - bar_width) / 2
        bar = place(figure, bar_left, top + drawn_height + 0.08, bar_width, 0.09)
        colorbar = figure.colorbar(image, cax=bar, orientation="horizontal")
        colorbar.outline.set_linewidth(0.5)
        bar.xaxis.set_major_locator(MaxNLocator(3 if bar_width < 2.4 else 5, min_n_ticks=2))
        bar.tick_params(labelsize=7.5, length=2, pad=1.5)
        prefix = scale_ticks(bar.xaxis, max(map(abs, panel.window)))
        bar.set_xlabel(prefix + ascii_text(panel.label), fontsize=8, labelpad=1, parse_math=False)


def scale_ticks(axis: Axis, largest: float) -> str:
    """Write tick labels without a power of ten; return that power, to stand before the unit."""
    exponent = int(np.floor(np.log10(largest))) if largest > 0 else 0
    exponent = 0 if -2 <= exponent < 4 else exponent
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**exponent:.6g}"))
    return f"1e{exponent} " if exponent else ""


def ascii_text(text: str) -> str:
    """Keep ASCII only: the fonts of figures lack other glyphs."""
    return harmless(text).encode("ascii", "replace").decode("ascii")


_OUTLINE = [patheffects.withStroke(linewidth=2.2, foreground="black")]


def _letters(axes: Axes, letters: tuple[str, str, str, str]) -> None:
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.985), (0.5, 0.015))
    aligns = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for letter, (x, y), (ha, va) in zip(letters, places, aligns, strict=True):
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha=ha,
            va=va,
            color="white",
            fontsize=9,
            fontweight="bold",
            path_effects=_OUTLINE,
        )


def _scale_bar(axes: Axes, wide: float, tall: float, inches_per_unit: float, unit: str) -> None:
    length = nice_length(0.3 * wide)
    drawn = length / wide
    inches_high = tall * inches_per_unit
    y = 0.12 / inches_high
    x = 0.03
    axes.plot(
        [x, x + drawn],
        [y, y],
        transform=axes.transAxes,
        color="white",
        linewidth=2,
        solid_capstyle="butt",
        path_effects=[patheffects.withStroke(linewidth=3.6, foreground="black")],
    )
    axes.text(
        x,
        y + 0.05 / inches_high,
        length_text(length) if unit == "mm" else f"{length:g} {unit}",
        transform=axes.transAxes,
        ha="left",
        va="bottom",
        color="white",
        fontsize=8,
        path_effects=_OUTLINE,
    )


def nice_length(most: float) -> float:
    """Largest of 1, 2, 5 x 10^k that is not above ``most``."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9)))


def length_text(mm: float) -> str:
    """Write a length with the unit that suits it."""
    if mm < 1:
        return f"{mm * 1000:g} \N{GREEK SMALL LETTER MU}m"
    return f"{mm:g} mm"
