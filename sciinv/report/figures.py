"""Figures of a result as PNG: each function takes a result and returns bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from sciinv.report.canvas import (
    MARGIN,
    Panel,
    ascii_text,
    colours,
    draw_grid,
    new_figure,
    place,
    scale_ticks,
    to_png,
)
from sciinv.report.geometry import View, views

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sciinv.result import Result

_ORTHOGONAL_MIN = 8  # slices from which cuts across the stack are worth a figure
_STRIP_MAX = 8
_LEAST_PART = 0.05
_WINDOW_VALUES = 1_000_000
_DATA_AXES = {
    "mri": ("ky", "kx"),
    "ct": ("projection", "detector"),
    "diffraction": ("detector row", "detector column"),
}


def window(
    values: NDArray[np.floating], visible: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """Robust display window: the 0.5 and 99.5 percentile of the visible values.

    The lower end is 0 if no value is negative and zero is not far from it.
    """
    chosen = values if visible is None else values[visible]
    # of a large volume every so many voxels tell the same
    chosen = chosen.ravel()[:: max(1, chosen.size // _WINDOW_VALUES)]
    chosen = chosen[np.isfinite(chosen)]
    if chosen.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(chosen, [0.5, 99.5]))
    if low > 0 and low < 0.5 * high or low <= 0 <= float(chosen.min()):
        low = 0.0
    if not high > low:
        low, high = min(low, float(chosen.min())), max(high, float(chosen.max()))
    return (low, high) if high > low else (low, low + 1.0)


def image_window(result: Result) -> tuple[float, float]:
    """Window shared by mean, baseline, samples and reference."""
    return window(result.mean, result.visible)


def std_window(result: Result) -> tuple[float, float]:
    """Window of the standard deviation, from 0."""
    return 0.0, window(result.std, result.visible)[1]


def null_window(result: Result) -> tuple[float, float]:
    """Window of the modulus of the null-space part, from 0.

    At least a twentieth of the white of the mean: a part that is nowhere stronger looks dark.
    """
    least = _LEAST_PART * image_window(result)[1]
    if result.null_space_magnitude is None:
        return 0.0, max(least, 1e-30)
    top = window(np.abs(result.null_space_magnitude), result.visible)[1]
    return 0.0, max(top if result.null_space_magnitude.any() else 0.0, least, 1e-30)


def result_views(result: Result) -> list[View]:
    """Cuts through the middle of what the data of a result see."""
    return views(result.visible, result.affine, oriented=result.oriented, units=result.units)


def preview(
    images: NDArray[np.floating],
    affine: NDArray[np.float64],
    *,
    units: str,
    title: str,
    visible: NDArray[np.bool_] | None = None,
    oriented: bool = True,
) -> bytes:
    """Middle slice of one stack ``(slices, *image_shape)``, for a first look before sampling."""
    seen = np.ones(images.shape, bool) if visible is None else visible
    view = views(seen, affine, oriented=oriented, units=units)[0]
    shown = np.abs(images) if np.iscomplexobj(images) else images
    return draw_grid([_panel(view, shown, ascii_text(title), window(shown, seen), units)])


def overview(result: Result) -> bytes:
    """Mean, baseline and standard deviation of the middle slice; the first two share a window."""
    view = result_views(result)[0]
    shared = image_window(result)
    panels = [
        _panel(view, result.mean, "Posterior mean", shared, result.units),
        _panel(view, result.baseline_magnitude, _baseline(result), shared, result.units),
    ]
    if result.num_samples > 1:
        panels.append(_std(view, result))
    return draw_grid(panels)


def orthogonal(result: Result) -> bytes | None:
    """Mean and standard deviation in two cuts across the slices; ``None`` for few slices."""
    cuts = result_views(result)[1:]
    if not cuts or cuts[0].shape[0] < _ORTHOGONAL_MIN:
        return None
    shared = image_window(result)
    panels = [_panel(cut, result.mean, cut.title, shared, result.units) for cut in cuts]
    if result.num_samples > 1:
        panels += [_std(cut, result, cut.title + ", std") for cut in cuts]
    return draw_grid(panels, columns=2, max_height=3.5)


def sample_strip(result: Result) -> bytes:
    """Up to eight samples of the middle slice side by side, in the window of the mean."""
    view = result_views(result)[0]
    shared = image_window(result)
    panels = [
        _panel(view, sample, f"Sample {number + 1}", shared, None, bar=number == 0)
        for number, sample in enumerate(result.magnitude[:_STRIP_MAX])
    ]
    tall, wide = panels[0].size
    columns = min(len(panels), 2 if wide > 2.2 * tall else 4)
    return draw_grid(panels, columns=columns, max_height=3.0)


def null_space(result: Result) -> bytes | None:
    """Modulus of what the prior added, over the white of the mean; ``None`` where undefined."""
    if result.null_space_magnitude is None:
        return None
    view = result_views(result)[0]
    percent = 100 / max(image_window(result)[1], 1e-30)
    part = percent * np.abs(result.null_space_magnitude)
    limits = (0.0, percent * null_window(result)[1])
    title = "What the prior added"
    panel = _panel(view, part, title, limits, "% of white in the mean", cmap="inferno")
    return draw_grid([panel], max_width=5.0)


def coil_maps(result: Result) -> bytes | None:
    """Moduli of the coil maps side by side in one window; ``None`` without them."""
    maps = result.pictures.get("coil_maps")
    if maps is None:
        return None
    panels = [
        Panel(image, f"Coil {number}", (0.0, max(float(maps.max()), 1e-30)))
        for number, image in enumerate(maps, 1)
    ]
    return draw_grid(panels, columns=min(len(panels), 8), max_height=1.4)


def rotation_axis(result: Result) -> bytes | None:
    """Back-projections around the rotation axis in one window; ``None`` without them."""
    strip = result.pictures.get("rotation_axis")
    if strip is None:
        return None
    limits = window(strip[len(strip) // 2])
    names = ("Axis 1 px lower", "Axis as taken", "Axis 1 px higher")
    return draw_grid([Panel(i, n, limits) for i, n in zip(strip, names, strict=False)])


def against_reference(result: Result) -> bytes | None:
    """Reference and the errors of mean and baseline in one window; ``None`` without reference."""
    if result.reference is None:
        return None
    view = result_views(result)[0]
    reference = np.where(result.visible, np.abs(result.reference), 0)
    shared = image_window(result)
    errors = [
        np.where(result.visible, np.abs(image - reference), 0)
        for image in (result.mean, result.baseline_magnitude)
    ]
    limit = (0.0, max(window(error, result.visible)[1] for error in errors))
    panels = [
        _panel(view, reference, "Reference", shared, result.units),
        _panel(view, errors[0], "Error of the mean", limit, result.units, cmap="inferno"),
        _panel(view, errors[1], "Error of the baseline", limit, result.units, cmap="inferno"),
    ]
    return draw_grid(panels)


def residual(result: Result) -> bytes | None:
    """Normalised residual over the data domain, with its root mean square along each row."""
    if result.residual is None:
        return None
    image = np.asarray(result.residual, np.float32)
    image = image[image.shape[0] // 2] if image.ndim == 3 else image
    image = np.where(image == 0, np.nan, np.abs(image))
    measured = np.isfinite(image)
    top = max(window(image)[1], 1e-6)
    rows, columns = image.shape
    height = 4.0
    width = float(np.clip(height * columns / rows, 2.0, 5.5))
    side = 2.6
    figure = new_figure(0.75 + width + 0.35 + side + 3 * MARGIN, height + 0.95)
    axes = place(figure, 0.75, 0.35, width, height)
    axes.imshow(
        np.ma.masked_invalid(image),
        cmap=colours("gray", "#5b7a99"),
        vmin=0,
        vmax=top,
        aspect="auto",
    )
    names = _DATA_AXES[result.kind]
    if result.kind == "mri" and "NonCartesian" in str(result.provenance.get("operator", "")):
        names = ("shot", "sample")
    axes.set_ylabel(names[0], fontsize=9)
    axes.set_xlabel(names[1], fontsize=9)
    axes.set_title(f"|data - model| / noise, from 0 (black) to {top:.2g}", fontsize=10)
    axes.tick_params(labelsize=7.5)
    profile = place(figure, 0.75 + width + 0.35, 0.35, side, height)
    counts = measured.sum(axis=1)
    squares = np.where(measured, image, 0).astype(np.float64) ** 2
    rms = np.sqrt(np.divide(squares.sum(axis=1), counts, where=counts > 0, out=np.zeros(rows)))
    profile.plot(np.where(counts > 0, rms, np.nan), np.arange(rows), ".", color="black", ms=2.5)
    profile.set_ylim(rows - 0.5, -0.5)
    profile.set_xlim(0, max(float(rms.max(initial=0.0)) * 1.15, 1e-6))
    profile.grid(alpha=0.3, linewidth=0.5)
    profile.tick_params(labelsize=7.5, labelleft=False)
    profile.set_xlabel("root mean square of a row", fontsize=9)
    profile.set_title("should be constant", fontsize=10)
    return to_png(figure)


def histogram(result: Result) -> bytes:
    """Grey values of mean and baseline at the visible pixels, in units."""
    seen = result.visible
    pairs = (("posterior mean", result.mean[seen]), (_baseline(result), _finite(result, seen)))
    low, high = window(np.concatenate([values for _, values in pairs]))
    edges = np.linspace(low, high, 129)
    figure = new_figure(6.4, 2.9)
    axes = place(figure, 0.75, 0.15, 5.5, 2.15)
    most = 0
    for (name, values), colour, style in zip(pairs, ("black", "#d95f02"), ("-", "--"), strict=True):
        counts = np.histogram(values, edges)[0]
        most = max(most, int(counts.max()))
        axes.stairs(counts, edges, label=name, color=colour, linestyle=style, linewidth=1.2)
    axes.set_xlim(low, high)
    # limits before the scale: there may be no pixel at all
    axes.set_ylim(0.7, max(2.0, 1.5 * most))
    axes.set_yscale("log")
    prefix = scale_ticks(axes.xaxis, max(abs(low), abs(high)))
    label = f"value ({prefix}{ascii_text(result.units)})"
    axes.set_xlabel(label, fontsize=9, parse_math=False)
    axes.set_ylabel("pixels", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3, linewidth=0.5)
    for text in axes.legend(fontsize=8, frameon=False).get_texts():
        text.set_parse_math(False)
    return to_png(figure)


def all_figures(result: Result) -> dict[str, bytes]:
    """Every figure that the result has something to show for: name -> PNG."""
    figures = {
        "overview": overview(result),
        "samples": sample_strip(result),
        "orthogonal": orthogonal(result),
        "null_space": null_space(result),
        "residual": residual(result),
        "coil_maps": coil_maps(result),
        "rotation_axis": rotation_axis(result),
        "reference": against_reference(result),
        "histogram": histogram(result),
    }
    return {name: png for name, png in figures.items() if png is not None}


def plain_png(
    image: NDArray[np.floating], limits: tuple[float, float], *, longest: int = 640
) -> bytes:
    """Write a grey 8-bit PNG without any decoration, at most ``longest`` pixels long."""
    from PIL import Image

    low, high = limits
    finite = np.nan_to_num(np.asarray(image, np.float32), nan=low, posinf=high, neginf=low)
    grey = np.clip((finite - low) / (high - low) * 255 + 0.5, 0, 255).astype(np.uint8)
    picture = Image.fromarray(grey)
    if max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _finite(result: Result, seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    values = result.baseline_magnitude[seen]
    return values[np.isfinite(values)]


def _baseline(result: Result) -> str:
    return f"Baseline: {ascii_text(result.baseline_name)[:28]}"


def _std(view: View, result: Result, title: str = "Standard deviation") -> Panel:
    if result.std_factor != 1:
        title += f" (samples' x {result.std_factor:.2f})"
    return _panel(view, result.std, title, std_window(result), result.units, cmap="inferno")


def _panel(
    view: View,
    images: NDArray[np.floating],
    title: str,
    limits: tuple[float, float],
    units: str | None,
    *,
    cmap: str = "gray",
    bar: bool = True,
) -> Panel:
    return Panel(
        view.cut(images),
        title,
        limits,
        cmap=cmap,
        label=units,
        spacing=view.spacing,
        bar_unit=view.unit if bar else None,
        letters=view.letters,
    )
