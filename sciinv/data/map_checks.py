"""Which mistake in coil maps explains that they do not fit the calibration data; NumPy only."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.noise import coil_noise
from sciinv.errors import DataError

# widest low-resolution image looked at; sensitivities and outlines need no more
_WIDEST = {2: 48, 3: 24}
# Share of the signal that maps leave unexplained. True maps leave up to 1 % with eight or more
# calibration lines; wrong ones of eight coils 16 % or more, of two coils down to 4 %.
_GOOD = 0.02
_POOR = 0.1
# share of noise in the energy above which nothing is said
_NOISY = 0.25

# kind, field, found, expected, hint: the fields of a Finding
Facts = tuple[str, str, str, str, str]


def low_resolution(
    scan: NDArray[Any], block: tuple[slice, ...], *, hann: bool = True
) -> NDArray[Any]:
    """Coil images on a coarse grid over the same field of view, from the calibration samples.

    :param scan: centred ``(coils, *spatial)``.
    :param block: fully sampled part around the centre.
    :param hann: window the samples, for smooth images.
    :returns: ``(coils, *widths)``, centred, with at most 48 (3D: 24) pixels an axis.
    """
    dims = scan.ndim - 1
    axes = tuple(range(1, dims + 1))
    parts, window = [], np.ones([1] * (dims + 1))
    for axis, (part, n) in enumerate(zip(block, scan.shape[1:], strict=True)):
        half = min(_WIDEST[dims] // 2, n // 2 - part.start, part.stop - n // 2)
        start, stop = n // 2 - half, n // 2 + max(half, 1)
        parts.append(slice(start, stop))
        width = stop - start
        profile = np.cos(0.5 * np.pi * (np.arange(width) - half) / (half + 1)) ** 2
        window = window * profile.reshape([-1 if a == axis else 1 for a in range(-1, dims)])
    k = scan[(slice(None), *parts)]
    k = k * window if hann else k
    k = np.fft.ifftshift(k, axes=axes)
    return np.fft.fftshift(np.fft.ifftn(k, axes=axes, norm="ortho"), axes=axes)


def noise_energy(
    scan: NDArray[Any], sampled: NDArray[np.bool_], shape: tuple[int, ...], *, hann: bool = True
) -> NDArray[np.float64]:
    """Mean of ``|n|^2`` of every coil in a pixel of :func:`low_resolution` images, ``(coils,)``.

    Zero if there are too few samples to tell.
    """
    try:
        variance = 2 * coil_noise(scan, sampled) ** 2
    except DataError:
        return np.zeros(len(scan))
    # the mean square of a Hann window is 3/8 along each axis
    return variance * ((3 / 8) ** len(shape) if hann else 1.0)


def check_maps(
    scan: NDArray[Any],
    sampled: NDArray[np.bool_],
    block: tuple[slice, ...],
    maps: NDArray[Any],
    index: int,
) -> list[Facts]:
    """Find the mistake in coil maps that explains why they do not fit.

    :param scan: centred ``(coils, *spatial)``, the one with number ``index`` of the stack.
    :param sampled: bool ``(*spatial)``.
    :param block: fully sampled part around the centre.
    :param maps: complex ``(coils, *spatial)`` or ``(B, coils, *spatial)``.
    """
    if maps.ndim == scan.ndim + 1 and len(maps):
        maps = maps[min(index, len(maps) - 1)]
    if sorted(maps.shape) != sorted(scan.shape):
        return [(
            "maps_shape", "maps", f"shape {maps.shape}", f"shape {scan.shape}, that of the k-space",
            "they belong to another scan",
        )]  # fmt: skip
    if maps.shape != scan.shape:
        order = next(p for p in permutations(range(maps.ndim)) if _permuted(maps, p) == scan.shape)
        return [(
            "maps_shape", "maps", f"shape {maps.shape}", f"shape {scan.shape}, that of the k-space",
            f"their axes are in another order: transpose them by {order}",
        )]  # fmt: skip
    images = low_resolution(scan, block)
    spatial = images.shape[1:]
    if min(spatial) < 4 or len(scan) < 2:
        return []
    rss = (np.abs(images) ** 2).sum(0)
    seen = rss > 0.04 * np.quantile(rss, 0.99)
    pixels = images[:, seen]
    noise = noise_energy(scan, sampled, spatial)
    # bright pixels are also those with more noise than on average
    if noise.sum() * pixels.shape[1] > _NOISY * (np.abs(pixels) ** 2).sum():
        return []

    def unexplained(candidate: NDArray[Any]) -> float:
        return _unexplained(pixels, _coarse(candidate, spatial)[:, seen], noise)

    given = unexplained(maps)
    if given <= _GOOD:
        return []
    # the simplest explanation among those that are about as good as the best
    scores = [(unexplained(values), facts) for values, facts in _variants(maps)]
    matching, reordered = _coil_order(pixels, _coarse(maps, spatial)[:, seen])
    if matching != list(range(len(maps))):
        scores.append((
            _unexplained(pixels, reordered, noise),
            ("coil_order", "in another order of coils", f"take maps[{matching}]"),
        ))  # fmt: skip
    best = min(score for score, _ in scores)
    share = f"{100 * given:.2g} % of the low-resolution coil images unexplained"
    # few coils that see nearly the same are nearly explained by wrong maps, too: there a variant
    # has to be much better
    better = best < given / 10 or (given > _POOR and best < min(given / 3, 2 * _POOR))
    if not better:
        if given <= _POOR:
            return []
        return [(
            "maps", "maps", share, f"less than {100 * _POOR:.0f} %",
            "they may belong to another scan, or their estimate failed",
        )]  # fmt: skip
    score, (kind, what, hint) = next(s for s in scores if s[0] <= 1.5 * best + 0.005)
    field = "kspace" if kind == "kspace_conjugated" else "maps"
    return [(
        kind, field, f"maps that leave {share}, but {100 * score:.1f} % if taken {what}",
        f"less than {100 * _GOOD:.0f} %", hint,
    )]  # fmt: skip


def _permuted(maps: NDArray[Any], order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(maps.shape[axis] for axis in order)


def _coarse(maps: NDArray[Any], spatial: tuple[int, ...]) -> NDArray[Any]:
    """Maps at the pixels of a coarser grid over the same field of view."""
    for axis, (n, m) in enumerate(zip(maps.shape[1:], spatial, strict=True)):
        index = np.round((np.arange(m) - m // 2) * n / m).astype(int) + n // 2
        maps = np.take(maps, np.clip(index, 0, n - 1), axis=axis + 1)
    return maps


def _unexplained(pixels: NDArray[Any], maps: NDArray[Any], noise: NDArray[np.float64]) -> float:
    """Share of the energy of coil images ``(coils, P)`` outside of the maps, less the noise's."""
    size = (np.abs(maps) ** 2).sum(0)
    good = size > 0
    weight = np.where(good, 1 / np.where(good, size, 1), 0)
    combined = (maps.conj() * pixels).sum(0)
    power = (np.abs(pixels) ** 2).sum()
    error = power - (np.abs(combined) ** 2 * weight).sum()
    inside = (noise[:, None] * np.abs(maps) ** 2 * weight).sum()
    total = noise.sum() * pixels.shape[1]
    signal = max(float(power - total), 1e-3 * float(power), np.finfo(np.float64).tiny)
    return float(np.clip((error - (total - inside)) / signal, 0, 1))


def _mirror(maps: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """Reflect about index n // 2, as a transform of the other sign does."""
    for axis in axes:
        maps = np.flip(maps, axis)
        if maps.shape[axis] % 2 == 0:
            maps = np.roll(maps, 1, axis)
    return maps


def _variants(maps: NDArray[Any]) -> list[tuple[NDArray[Any], tuple[str, str, str]]]:
    """Maps after one usual mistake is undone, with (kind, what, hint); then two at once."""
    dims = maps.ndim - 1
    axes = tuple(range(1, dims + 1))
    conjugated = maps.conj()
    result: list[tuple[NDArray[Any], tuple[str, str, str]]] = [
        (conjugated, ("maps_conjugated", "conjugated", "conjugate the maps")),
        (
            _mirror(conjugated, axes),
            ("kspace_conjugated", "conjugated and mirrored along every axis",
             "the k-space is probably conjugated: conjugate it"),
        ),
        (
            np.fft.fftshift(maps, axes=axes),
            ("maps_not_centred", "shifted by half an image", "apply fftshift to the maps"),
        ),
    ]  # fmt: skip
    orders = [order for order in permutations(axes) if _permuted(maps, (0, *order)) == maps.shape]
    doubles: list[tuple[NDArray[Any], tuple[str, str, str]]] = []
    for order, flips in product(orders, product((False, True), repeat=dims)):
        mirrored = tuple(axis for axis, flip in zip(axes, flips, strict=True) if flip)
        turned = order != axes
        if not turned and not mirrored:
            continue
        values = _mirror(maps.transpose(0, *order), mirrored)
        what = []
        if turned:
            what.append(f"with their image axes in the order {tuple(a - 1 for a in order)}")
        if mirrored:
            what.append(f"mirrored along axis {' and '.join(str(a - 1) for a in mirrored)}")
        kind = "maps_axes" if turned else "maps_mirrored"
        text = " and ".join(what)
        hint = (
            "the k-space or the maps were made by a Fourier transform of the other sign"
            if not turned and len(mirrored) == dims
            else "bring maps and k-space to the same orientation"
        )
        target = doubles if turned and mirrored else result
        target.append((values, (kind, text, hint)))
        if turned or len(mirrored) < dims:
            both = (kind, f"{text}, and conjugated", f"{hint}, and conjugate the maps")
            doubles.append((values.conj(), both))
    return result + doubles


def _coil_order(pixels: NDArray[Any], maps: NDArray[Any]) -> tuple[list[int], NDArray[Any]]:
    """Match coils by how their share of the signal varies: ``(order, maps[order])``."""

    def shares(values: NDArray[Any]) -> NDArray[np.float64]:
        size = np.abs(values)
        size = size / np.maximum(np.sqrt((size**2).sum(0)), np.finfo(np.float64).tiny)
        size = size - size.mean(1, keepdims=True)
        norm = np.linalg.norm(size, axis=1, keepdims=True)
        return np.asarray(size / np.maximum(norm, np.finfo(np.float64).tiny))

    likeness = shares(pixels) @ shares(maps).T
    order = [0] * len(pixels)
    for _ in range(len(pixels)):
        coil, match = np.unravel_index(int(likeness.argmax()), likeness.shape)
        order[int(coil)] = int(match)
        likeness[coil] = -np.inf
        likeness[:, match] = -np.inf
    return order, maps[order]
