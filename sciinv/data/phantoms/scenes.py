"""Random scenes and patches of them: what generic priors are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sciinv.data.phantoms.fields import power_law_field, ring_field, smooth_field
from sciinv.data.phantoms.leaves import dead_leaves, paint, random_leaves
from sciinv.data.phantoms.reduce import blur_and_reduce

Image = NDArray[np.float32]
Labels = NDArray[np.int32]

MARGIN = 8  # pixels cut from each border, so that periodic fields and filters do not show there


def scene(
    shape: Sequence[int],
    rng: np.random.Generator,
    *,
    complex_: bool = False,
    kind: str | None = None,
) -> NDArray[Any]:
    """Draw one random scene, made at twice the resolution and then reduced.

    40 % are dead leaves, 30 % nested shells with a folded interior, 20 % uniform bodies with
    sparse inserts and cracks, 10 % textures of Gaussian fields; on top come a smooth warp, texture,
    shading, air around, and a blur of 0.3 to 1.5 pixels. The 99.5th percentile of the magnitude is
    between 0.4 and 1.1.

    :param shape: ``(H, W)``, at least 16 x 16.
    :param complex_: complex64 with a smooth phase, reduced by cropping k-space (with its ringing)
        in 60 % of the draws; float32 without negative values otherwise.
    :param kind: ``"leaves"``, ``"shells"``, ``"inserts"`` or ``"field"`` instead of a random one.
    :raises ValueError: for another shape or kind.
    """
    if len(shape) != 2 or min(shape) < 16:
        raise ValueError(f"shape: found {tuple(shape)}, expected (H, W) of at least 16 x 16")
    if kind is None:
        kind = str(rng.choice(list(_KINDS), p=[weight for _, weight in _KINDS.values()]))
    if kind not in _KINDS:
        raise ValueError(f"kind: found {kind!r}, expected one of {', '.join(_KINDS)}")
    fine = (2 * (int(shape[0]) + 2 * MARGIN), 2 * (int(shape[1]) + 2 * MARGIN))
    value, label = _KINDS[kind][0](fine, rng)
    value, label = _degrade(value, label, rng)
    blur = rng.uniform(0.3, 1.5)
    if complex_:
        ringing = rng.uniform() < 0.6
        phase = _phase(label, rng)
        turned = value * (np.cos(phase) + 1j * np.sin(phase)).astype(np.complex64)
        image = blur_and_reduce(turned, 2 * blur, crop_spectrum=bool(ringing))
    else:
        image = np.maximum(blur_and_reduce(value, 2 * blur, crop_spectrum=False), 0)
    image = image[MARGIN:-MARGIN, MARGIN:-MARGIN]
    top = float(np.quantile(np.abs(image), 0.995))
    factor = rng.uniform(0.4, 1.1) / top if top > 1e-6 else 0.0
    return np.ascontiguousarray(image * np.float32(factor))


def patches(
    count: int,
    size: int,
    rng: np.random.Generator,
    *,
    channels: int = 1,
    per_scene: int = 8,
) -> Image:
    """Draw patches from random scenes, turned, flipped and scaled by 0.7 to 1.2.

    ``per_scene`` neighbours in the result come from one scene; mostly empty patches are drawn
    again (three times at most).

    :param count: number of patches.
    :param size: side in pixels, at least 8.
    :param channels: 1 (real, not negative) or 2 (real and imaginary part).
    :return: ``(count, channels, size, size)`` float32.
    :raises ValueError: for other channels or sizes.
    """
    if channels not in (1, 2):
        raise ValueError(f"channels: found {channels}, expected 1 or 2")
    if size < 8 or count < 0 or per_scene < 1:
        raise ValueError("expected size >= 8, count >= 0 and per_scene >= 1")
    side = max(2 * size, 32)
    out = np.empty((count, channels, size, size), dtype=np.float32)
    image: Image | None = None
    for index in range(count):
        if image is None or index % per_scene == 0:
            image = as_channels(scene((side, side), rng, complex_=channels == 2))
        out[index] = crop(image, size, rng)
    return out


def as_channels(image: NDArray[Any]) -> Image:
    """Turn ``(H, W)`` real or complex into ``(1 or 2, H, W)`` float32."""
    parts = [image.real, image.imag] if np.iscomplexobj(image) else [image]
    return np.stack(parts).astype(np.float32)


def crop(image: Image, size: int, rng: np.random.Generator) -> Image:
    """Cut a random patch of ``(C, H, W)`` that is not mostly empty; flip, turn and scale it."""
    for _ in range(4):
        top = int(rng.integers(0, image.shape[1] - size + 1))
        left = int(rng.integers(0, image.shape[2] - size + 1))
        patch = image[:, top : top + size, left : left + size]
        if float(np.abs(patch).mean()) > 0.03:
            break
    flips = int(rng.integers(8))
    if flips & 1:
        patch = patch[:, ::-1]
    if flips & 2:
        patch = patch[:, :, ::-1]
    if flips & 4:
        patch = patch.transpose(0, 2, 1)
    return np.ascontiguousarray(patch * np.float32(rng.uniform(0.7, 1.2)))


# -- scenes ------------------------------------------------------------------------------------
def leaves_scene(
    shape: tuple[int, int], rng: np.random.Generator, *, air: bool = True
) -> tuple[Image, Labels]:
    """Draw dead leaves; in 40 % of the draws with ``air``, only within a body."""
    low = rng.uniform(2.0, 8.0)
    value, label = dead_leaves(
        shape,
        rng,
        exponent=rng.uniform(2.3, 3.5),
        radius=(low, rng.uniform(0.1, 0.45) * min(shape)),
        cover=rng.uniform(0.7, 5.0),
        background=rng.uniform(0, 1) if rng.uniform() < 0.5 else 0.0,
        kinds=rng.dirichlet((4.0, 2.0, 2.0, 1.2, 0.8)).tolist(),
        texture=random_tile(rng),
    )
    if air and rng.uniform() < 0.4:
        add_air(value, label, rng)
    return value, label


def shells_scene(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Image, Labels]:
    """Draw nested shells around a folded interior with sheets and leaves."""
    side = min(shape)
    depth, outside = _body(shape, rng, wobble=0.06)
    value = np.zeros(shape, dtype=np.float32)
    label = np.zeros(shape, dtype=np.int32)
    # depth falls from 1 at the centre to 0 at the outer border; shells are cuts in it
    level = 0.0
    bend = smooth_field(shape, rng, side / rng.uniform(2, 6)) * np.float32(rng.uniform(0, 0.015))
    inner = depth + bend
    for shell in range(int(rng.integers(1, 6))):
        start = inner if shell else depth
        value[start > level] = rng.uniform(0, 1)
        label[start > level] = shell + 1
        level += float(np.exp(rng.uniform(np.log(0.012), np.log(0.1))))
    inside = inner > level
    wavelength = side / rng.uniform(5, 30)
    folds = ring_field(shape, rng, wavelength, rng.uniform(0.15, 0.45))
    tissue = rng.uniform(0.15, 1.0, 3)
    # the second border lies deeper and follows the folds; the third cuts through everything
    ribbon = inner - level - rng.uniform(0.02, 0.2) + folds * rng.uniform(0.02, 0.15)
    interior = np.where(ribbon > 0, tissue[0], tissue[1])
    shade = rng.uniform(0, 0.15)
    interior = interior + shade * np.tanh(2 * folds)
    if rng.uniform() < 0.6:
        other = ring_field(shape, rng, side / rng.uniform(4, 20), rng.uniform(0.2, 0.6))
        interior = np.where(other > rng.uniform(0.3, 1.6), tissue[2], interior)
    value[inside] = interior[inside]
    label[inside] = 8
    if rng.uniform() < 0.8:  # thin curved sheets: where a folded field crosses zero
        sheet = ring_field(shape, rng, side / rng.uniform(5, 25), rng.uniform(0.2, 0.5))
        thickness = rng.uniform(0.03, 0.35)
        reach = smooth_field(shape, rng, side / 4) > rng.uniform(-1, 0.8)
        cut = inside & reach & (np.abs(sheet) < thickness)
        value[cut] = rng.uniform(0, 1)
        label[cut] = 9
    if rng.uniform() < 0.7:
        leaves = random_leaves(
            int(rng.integers(1, 25)), shape, rng, radius=(2.0, 0.12 * side), exponent=2.5
        )
        leaves[:, 1] = shape[0] / 2 + rng.normal(0, 0.15, len(leaves)) * shape[0]
        leaves[:, 2] = shape[1] / 2 + rng.normal(0, 0.15, len(leaves)) * shape[1]
        paint(value, label, leaves, random_tile(rng), first_label=10)
    value[outside] = 0
    label[outside] = 0
    return value, label


def inserts_scene(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Image, Labels]:
    """Draw a uniform body with sparse inserts and cracks."""
    side = min(shape)
    _, outside = _body(shape, rng, wobble=0.15)
    body = rng.uniform(0.2, 1.0)
    value = np.full(shape, body, dtype=np.float32)
    label = np.ones(shape, dtype=np.int32)
    low = rng.uniform(2.0, 10.0)
    leaves = random_leaves(
        int(rng.integers(0, 40)),
        shape,
        rng,
        radius=(low, rng.uniform(0.05, 0.25) * side),
        exponent=rng.uniform(1.5, 3.0),
        kinds=rng.dirichlet((3.0, 1.5, 1.0, 0.8, 1.5)).tolist(),
        values=(0.0, 1.0) if rng.uniform() < 0.7 else (max(0.0, body - 0.2), body + 0.2),
    )
    if rng.uniform() < 0.3:  # voids: everything inside is air
        leaves[:, 7] = np.where(rng.uniform(size=len(leaves)) < 0.8, 0.0, leaves[:, 7])
    paint(value, label, leaves, random_tile(rng), first_label=2)
    value[outside] = 0
    label[outside] = 0
    return value, label


def field_scene(
    shape: tuple[int, int], rng: np.random.Generator, *, air: bool = True
) -> tuple[Image, Labels]:
    """Draw a Gaussian field; in half of the draws with ``air``, only within a body."""
    side = min(shape)
    field = power_law_field(shape, rng, rng.uniform(0.8, 2.5), side / rng.uniform(1.5, 12))
    if rng.uniform() < 0.5:
        value = np.exp(rng.uniform(0.2, 0.7) * field) * 0.4
    else:
        value = 0.5 + 0.5 * np.tanh(rng.uniform(0.4, 3.0) * field)
    value = value.astype(np.float32)
    label = (field > 0).astype(np.int32) + 1
    if air and rng.uniform() < 0.5:
        add_air(value, label, rng)
    return value, label


_Maker = Callable[[tuple[int, int], np.random.Generator], tuple[Image, Labels]]
_KINDS: dict[str, tuple[_Maker, float]] = {
    "leaves": (leaves_scene, 0.4),
    "shells": (shells_scene, 0.3),
    "inserts": (inserts_scene, 0.2),
    "field": (field_scene, 0.1),
}


# -- ingredients -------------------------------------------------------------------------------
def random_tile(rng: np.random.Generator) -> Image:
    """Draw a unit-variance tile for textured leaves."""
    return power_law_field((96, 96), rng, rng.uniform(0.0, 2.0), rng.uniform(6, 40))


def _body(
    shape: tuple[int, int], rng: np.random.Generator, *, wobble: float
) -> tuple[Image, NDArray[np.bool_]]:
    """Draw a body; return its depth (1 at the centre, 0 at the border) and what is outside."""
    height, width = shape
    angle = rng.uniform(0, np.pi)
    half = 0.5 * np.array(shape) * rng.uniform(0.55, 0.98, 2)
    y = np.arange(height, dtype=np.float32)[:, None] - 0.5 * height * rng.uniform(0.9, 1.1)
    x = np.arange(width, dtype=np.float32)[None, :] - 0.5 * width * rng.uniform(0.9, 1.1)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = (x * cos + y * sin) / np.float32(half[1])
    v = (y * cos - x * sin) / np.float32(half[0])
    if rng.uniform() < 0.2:  # rounded box
        radius = np.sqrt(np.sqrt((u * u) ** 2 + (v * v) ** 2))
    else:
        radius = np.sqrt(u * u + v * v)
    if rng.uniform() < 0.7:
        bend = smooth_field(shape, rng, min(shape) / rng.uniform(0.7, 4.0))
        radius = radius + np.float32(wobble * rng.uniform(0.1, 1.0)) * bend
    depth = (1 - radius).astype(np.float32)
    return depth, depth < 0


def add_air(value: Image, label: Labels, rng: np.random.Generator) -> None:
    """Empty everything outside of a random body, in place."""
    _, outside = _body((value.shape[0], value.shape[1]), rng, wobble=0.2)
    value[outside] = 0
    label[outside] = 0


def _degrade(value: Image, label: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
    """Warp, texture and shade."""
    shape = (value.shape[0], value.shape[1])
    side = min(shape)
    if rng.uniform() < 0.35:
        wavelength = side / rng.uniform(1, 8)
        strength = 0.08 * wavelength * rng.uniform(0.2, 1.0)
        shift_y = smooth_field(shape, rng, wavelength) * np.float32(strength)
        shift_x = smooth_field(shape, rng, wavelength) * np.float32(strength)
        value, label = warp_part(value, label, shift_y, shift_x)
    if rng.uniform() < 0.35:
        texture = power_law_field(shape, rng, rng.uniform(0, 2), rng.uniform(4, 40))
        amount = np.exp(rng.uniform(np.log(0.01), np.log(0.15)))
        value = value * np.maximum(1 + np.float32(amount) * texture, 0)
    if rng.uniform() < 0.5:
        shading = smooth_field(shape, rng, side / rng.uniform(0.5, 3))
        value = value * np.exp(np.float32(rng.uniform(0.05, 0.4)) * shading)
    return value, label


@njit(cache=True)
def warp_part(value: Any, label: Any, shift_y: Any, shift_x: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Sample ``value`` bilinearly and ``label`` at the nearest pixel of the shifted positions."""
    height, width = value.shape
    warped = np.empty_like(value)
    names = np.empty_like(label)
    for i in range(height):
        for j in range(width):
            y = min(max(i + shift_y[i, j], 0.0), height - 1.001)
            x = min(max(j + shift_x[i, j], 0.0), width - 1.001)
            top, left = int(y), int(x)
            fy, fx = y - top, x - left
            warped[i, j] = (1 - fy) * (
                (1 - fx) * value[top, left] + fx * value[top, left + 1]
            ) + fy * ((1 - fx) * value[top + 1, left] + fx * value[top + 1, left + 1])
            names[i, j] = label[int(y + 0.5), int(x + 0.5)]
    return warped, names


def _phase(label: Labels, rng: np.random.Generator) -> Image:
    """Draw a phase in radians: global, smooth, in part per shape, in part rough."""
    shape = (label.shape[0], label.shape[1])
    side = min(shape)
    # a third of the scenes looks like data whose low-resolution phase has been removed
    folded = rng.uniform() < 1 / 3
    strength = (0.5 if folded else 3.0) * rng.uniform() ** 2
    wavelength = side / rng.uniform(0.7, 4)
    phase = np.float32(strength) * smooth_field(shape, rng, wavelength)
    if not folded:
        phase = phase + np.float32(rng.uniform(0, 2 * np.pi))
    if rng.uniform() < 0.4:
        offsets = rng.normal(0, rng.uniform(0.1, 2.0), 64).astype(np.float32)
        offsets[rng.uniform(size=64) < 0.5] = 0
        phase = phase + offsets[label % 64]
    if rng.uniform() < 0.3:
        rough = power_law_field(shape, rng, rng.uniform(0.5, 2.0), rng.uniform(4, 30))
        phase = phase + np.float32(rng.uniform(0.02, 0.4)) * rough
    return phase.astype(np.float32)
