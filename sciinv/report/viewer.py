"""The images of a page as numbers, so that its reader sets the window: packed, binned, cropped."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciinv.report.canvas import length_text, nice_length
from sciinv.report.figures import image_window, null_window, std_window
from sciinv.report.geometry import View, seen_range, views

if TYPE_CHECKING:
    from sciinv.result import Result

FLIP_SAMPLES = 9  # keys 1 to 9
LONGEST = 640  # pixels of a displayed slice
# bytes before base64 (which adds a third) of all slices, and of the two volumes of three planes
BUDGET, VOLUME_BUDGET = 8_000_000, 4_400_000
_SMALLEST = 256  # of a large stack rather some slices are shown than coarser pixels
_VOLUME_EDGE = 128
_DARK = 0.05  # of white: below, a phase is noise
VOLUME_SLICES = 8  # from which cuts across the stack are worth looking at

Stack = NDArray[np.floating]  # (slices, rows, columns)


@dataclass(frozen=True)
class Map:
    """One quantity to look at.

    :param key: its key on the keyboard.
    :param group: maps of one group share a window.
    :param span: values of the lowest and highest code.
    :param bits: 8, or 10 where a narrow window has to show small steps.
    :param values: ``(slices, rows, columns)``.
    """

    key: str
    name: str
    group: str
    span: tuple[float, float]
    bits: int
    values: Stack


def viewer_data(result: Result) -> dict[str, Any]:
    """Return what the page's script draws, as JSON values; sizes stay within the budgets."""
    volume = result.visible.ndim == 4
    first = result.visible.shape[0] // 2 if volume else None
    visible = result.visible if first is None else result.visible[first]
    view = views(visible, result.affine, oriented=result.oriented, units=result.units)[0]
    outline = np.asarray(visible.any(axis=0))
    rows, columns = (seen_range(outline, axis) for axis in (1, 0))
    middle = int(view.index[0])

    def pick(images: NDArray[Any]) -> Stack:
        return (images if first is None else images[first])[:, rows, columns]

    maps, samples = _maps(result, pick), list(_samples(result, pick))
    shape = pick(result.visible).shape
    budget = BUDGET - (VOLUME_BUDGET if shape[0] >= VOLUME_SLICES else 0)
    shown, longest, all_samples = _fit(shape, middle, maps, samples, budget)
    start = shown.index(middle)
    groups = {
        "image": (*image_window(result), result.units, "grey"),
        "std": (*std_window(result), result.units, "colour"),
        "null": (*null_window(result), result.units, "colour"),
        "phase": (-np.pi, np.pi, "rad", "grey"),
    }
    used = {m.group for m in maps}
    size = _binned(shape[1:], longest)
    tall, wide = shape[1] * view.spacing[0], shape[2] * view.spacing[1]
    bar = nice_length(0.3 * wide)
    return {
        "rows": size[0],
        "columns": size[1],
        "shape": list(shape),
        "ratio": wide / tall,
        "title": view.title,
        "letters": list(view.letters) if view.letters else None,
        "bar": [bar / wide, length_text(bar) if view.unit == "mm" else f"{bar:g} {view.unit}"],
        "slices": shown,
        "start": start,
        "groups": {
            name: {"low": low, "high": high, "units": units, "colours": colours}
            for name, (low, high, units, colours) in groups.items()
            if name in used
        },
        "maps": [_packed(m, shown, longest) for m in maps]
        + [_packed(m, shown, longest, None if all_samples else start) for m in samples],
        "colours": _colour_table(),
    }


def _maps(result: Result, pick: Callable[[NDArray[Any]], Stack]) -> list[Map]:
    """All maps but the samples."""
    span = _image_span(result)
    name = f"Baseline: {result.baseline_name}"
    maps = [
        Map("0", "Posterior mean", "image", span, 10, pick(result.mean)),
        Map("b", name, "image", span, 10, pick(result.baseline_magnitude)),
    ]
    if result.num_samples > 1:
        top = max(1.5 * std_window(result)[1], 1e-30)
        maps.append(Map("s", "Standard deviation", "std", (0.0, top), 8, pick(result.std)))
    if result.null_space_magnitude is not None:
        top = max(1.5 * null_window(result)[1], 1e-30)
        part = pick(np.abs(result.null_space_magnitude))
        maps.append(Map("n", "What the prior added", "null", (0.0, top), 8, part))
    if result.reference is not None:
        reference = pick(np.abs(result.reference).astype(np.float32))
        maps.append(Map("r", "Reference", "image", span, 10, reference))
    if result.is_complex:
        bright = pick(result.mean) > _DARK * image_window(result)[1]
        phase = np.where(bright, np.angle(pick(result.complex_mean)), 0).astype(np.float32)
        maps.append(Map("f", "Phase of the mean", "phase", (-np.pi, np.pi), 8, phase))
    return maps


def _samples(result: Result, pick: Callable[[NDArray[Any]], Stack]) -> Iterator[Map]:
    span = _image_span(result)
    for number, sample in enumerate(result.magnitude[:FLIP_SAMPLES], 1):
        shown = np.where(result.visible, sample, 0)
        yield Map(str(number), f"Sample {number}", "image", span, 8, pick(shown))


def _image_span(result: Result) -> tuple[float, float]:
    """Values that a window may be set to: a little more than the default window."""
    low, high = image_window(result)
    width = high - low
    values = result.mean[result.visible]
    finite = values[np.isfinite(values)]
    ends = (float(finite.min()), float(finite.max())) if finite.size else (low, high)
    return (
        max(min(low, ends[0]), low - 0.5 * width),
        min(max(high, ends[1]), high + width) + 1e-6 * width,
    )


def _fit(
    shape: tuple[int, ...], middle: int, maps: list[Map], samples: list[Map], budget: int
) -> tuple[list[int], int, bool]:
    """Choose slices, longest side and whether samples of all slices are shown."""

    def cost(chosen: list[Map], longest: int, slices: int) -> float:
        pixels = np.prod(_binned(shape[1:], longest))
        return float(slices * pixels * sum(m.bits for m in chosen) / 8)

    longest = min(LONGEST, max(shape[1:]))
    smallest = min(_SMALLEST, longest)
    count = shape[0]
    while longest > smallest and cost(maps, longest, count) + cost(samples, longest, 1) > budget:
        longest = max(smallest, int(longest * 0.8))
    while count > 1 and cost(maps, longest, count) + cost(samples, longest, 1) > budget:
        count = max(1, int(count * 0.8))
    while longest > 32 and cost([*maps, *samples], longest, 1) > budget:
        longest = int(longest * 0.8)
    # evenly over the stack, the middle one among them
    step = shape[0] / count
    chosen = [int((i + 0.5) * step) for i in range(count)]
    nearest = min(range(count), key=lambda i: abs(chosen[i] - middle))
    shown = sorted({*chosen[:nearest], middle, *chosen[nearest + 1 :]})
    everything = cost([*maps, *samples], longest, len(shown)) <= budget
    return shown, longest, everything


def _binned(shape: tuple[int, ...], longest: int) -> tuple[int, ...]:
    factor = min(1.0, longest / max(shape))
    return tuple(max(1, round(n * factor)) for n in shape)


def _packed(m: Map, shown: list[int], longest: int, only: int | None = None) -> dict[str, Any]:
    return {
        "key": m.key,
        "name": m.name,
        "group": m.group,
        "low": m.span[0],
        "high": m.span[1],
        "bits": m.bits,
        "data": [
            _encode(m.values[index], m.span, m.bits, longest)
            if only is None or only == position
            else None
            for position, index in enumerate(shown)
        ],
    }


def _encode(image: Stack, span: tuple[float, float], bits: int, longest: int) -> str:
    """Codes of an image in base64: the low bytes, then the upper two bits, four to a byte."""
    from PIL import Image

    low, high = span
    finite = np.nan_to_num(image, nan=low, posinf=high, neginf=low).astype(np.float32)
    tall, wide = _binned(image.shape, longest)
    if (tall, wide) != image.shape:
        picture = Image.fromarray(finite).resize((wide, tall), Image.Resampling.BOX)
        finite = np.asarray(picture)
    top = 2**bits - 1
    codes = np.clip((finite - low) / (high - low) * top + 0.5, 0, top).astype(np.uint16).ravel()
    packed = (codes & 255).astype(np.uint8).tobytes()
    if bits > 8:
        upper = np.zeros(-(-codes.size // 4) * 4, np.uint8)
        upper[: codes.size] = codes >> 8
        four = upper.reshape(-1, 4) << np.array([0, 2, 4, 6], np.uint8)
        packed += np.bitwise_or.reduce(four, axis=1).tobytes()
    return base64.b64encode(packed).decode()


def _colour_table() -> str:
    """256 colours of the map of standard deviations, in base64."""
    from matplotlib import colormaps

    table = (colormaps["inferno"](np.arange(256))[:, :3] * 255 + 0.5).astype(np.uint8)
    return base64.b64encode(table.tobytes()).decode()


def volume_data(result: Result) -> dict[str, Any] | None:
    """Return mean and std of a stack for three planes, binned to 128 voxels an axis.

    ``None`` for fewer than :data:`VOLUME_SLICES` slices.
    """
    visible = result.visible
    first = visible.shape[0] // 2 if visible.ndim == 4 else None
    seen = visible if first is None else visible[first]
    if seen.shape[0] < VOLUME_SLICES:
        return None
    cuts = views(seen, result.affine, oriented=result.oriented, units=result.units)
    crop = _box(seen)
    factors = [-(-(c.stop - c.start) // _VOLUME_EDGE) for c in crop]
    maps = [("Posterior mean", result.mean, "image", _image_span(result))]
    if result.num_samples > 1:
        top = max(1.5 * std_window(result)[1], 1e-30)
        maps.append(("Standard deviation", result.std, "std", (0.0, top)))
    volumes = []
    shape: tuple[int, ...] = ()
    for name, images, group, (low, high) in maps:
        block = _blocks((images if first is None else images[first])[crop], factors)
        shape = block.shape
        codes = np.clip((np.nan_to_num(block) - low) / (high - low) * 255 + 0.5, 0, 255)
        data = base64.b64encode(codes.astype(np.uint8).tobytes()).decode()
        volumes.append({"name": name, "group": group, "low": low, "high": high, "data": data})
    spacing = [
        size * factor
        for size, factor in zip((cuts[1].spacing[0], *cuts[0].spacing), factors, strict=True)
    ]
    return {
        "shape": list(shape),
        "spacing": spacing,
        "planes": [_plane(cut, normal, shape, spacing) for normal, cut in enumerate(cuts)],
        "maps": volumes,
        "factor": max(factors),
    }


def _plane(cut: View, normal: int, shape: tuple[int, ...], spacing: list[float]) -> dict[str, Any]:
    # rows and columns of the picture are the two other axes (slice, row, column), in this order
    tall, wide = (shape[axis] * spacing[axis] for axis in range(3) if axis != normal)
    return {
        "title": cut.title,
        "normal": normal,
        "letters": list(cut.letters) if cut.letters else None,
        "flip": cut.flip,
        "ratio": wide / tall,
    }


def _box(seen: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Smallest box that holds what is seen."""
    box = []
    for axis in range(3):
        found = np.flatnonzero(seen.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(None))
    return tuple(slice(*b.indices(n)) for b, n in zip(box, seen.shape, strict=True))


def _blocks(images: Stack, factors: list[int]) -> Stack:
    """Means over blocks; those at the far ends may be smaller."""
    total = images.astype(np.float64)
    for axis, factor in enumerate(factors):
        starts = np.arange(0, total.shape[axis], factor)
        lengths = np.diff(np.append(starts, total.shape[axis]))
        shape = [-1 if a == axis else 1 for a in range(total.ndim)]
        total = np.add.reduceat(total, starts, axis=axis) / lengths.reshape(shape)
    return total
