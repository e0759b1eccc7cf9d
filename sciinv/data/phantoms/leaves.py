"""Dead leaves: occluding shapes with power-law sizes (Lee, Mumford, Huang, IJCV 41, 2001)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

ELLIPSE, BOX, STAR, SHELL, CRACK = range(5)
# columns of a leaf table
(
    KIND,
    CY,
    CX,
    COS,
    SIN,
    RY,
    RX,
    VALUE,
    GRADIENT_Y,
    GRADIENT_X,
    STRIPE,
    STRIPE_WAVES,
    STRIPE_PHASE,
    THICKNESS,
    WOBBLE,
    WOBBLE_ORDER,
    WOBBLE_PHASE,
    TEXTURE,
    COLUMNS,
) = range(19)


@njit(cache=True)
def _paint(value: Any, label: Any, leaves: Any, texture: Any, first_label: int) -> None:  # noqa: ANN401
    """Paint the leaves over ``value``, the last on top, and their numbers over ``label``."""
    height, width = value.shape
    texture_height, texture_width = texture.shape
    # from the top down, so that hidden pixels cost one look
    covered = np.zeros((height, width), dtype=np.bool_)
    for index in range(leaves.shape[0] - 1, -1, -1):
        leaf = leaves[index]
        kind = int(leaf[0])
        ry, rx = leaf[5], leaf[6]
        reach = max(ry, rx)
        if kind == 1:
            reach *= 1.4143  # corners of the box
        elif kind == 2:
            reach *= 1.0 + 1.5 * leaf[14]
        elif kind == 3:
            reach += 0.5 * leaf[13]
        elif kind == 4:
            reach = rx + leaf[13] + leaf[14]
        top = max(0, int(np.floor(leaf[1] - reach)))
        bottom = min(height - 1, int(np.ceil(leaf[1] + reach)))
        left = max(0, int(np.floor(leaf[2] - reach)))
        right = min(width - 1, int(np.ceil(leaf[2] + reach)))
        shell = leaf[13] / max(1e-3, min(ry, rx))
        for i in range(top, bottom + 1):
            dy = i - leaf[1]
            for j in range(left, right + 1):
                if covered[i, j]:
                    continue
                dx = j - leaf[2]
                u = (dx * leaf[3] + dy * leaf[4]) / rx
                v = (-dx * leaf[4] + dy * leaf[3]) / ry
                if kind == 0:
                    inside = u * u + v * v <= 1.0
                elif kind == 1:
                    inside = abs(u) <= 1.0 and abs(v) <= 1.0
                elif kind == 2:
                    q = np.sqrt(u * u + v * v)
                    if q > 1.0 + 1.5 * leaf[14]:
                        inside = False
                    elif q < 1.0 - 1.5 * leaf[14]:
                        inside = True
                    else:
                        angle = np.arctan2(v, u)
                        border = 1.0 + leaf[14] * (
                            np.cos(leaf[15] * angle + leaf[16])
                            + 0.5 * np.cos((2.0 * leaf[15] + 1.0) * angle + 3.0 * leaf[16])
                        )
                        inside = q <= border
                elif kind == 3:
                    inside = abs(np.sqrt(u * u + v * v) - 1.0) <= 0.5 * shell
                else:
                    # a wavy line that thins out towards its ends; v is in units of ry
                    wave = leaf[14] * np.sin(leaf[15] * u + leaf[16])
                    half = 0.5 * leaf[13] * (1.0 - u * u)
                    inside = abs(u) <= 1.0 and abs(v * ry - wave) <= half
                if inside:
                    covered[i, j] = True
                    painted = leaf[7] + leaf[8] * v + leaf[9] * u
                    if leaf[10] != 0.0:
                        painted += leaf[10] * np.sin(leaf[11] * u + leaf[12])
                    if leaf[17] != 0.0:
                        painted += (
                            leaf[17] * texture[(i + 7 * index) % texture_height, j % texture_width]
                        )
                    value[i, j] = max(painted, 0.0)
                    label[i, j] = first_label + index


def paint(
    value: NDArray[np.float32],
    label: NDArray[np.int32],
    leaves: NDArray[np.float64],
    texture: NDArray[np.float32],
    *,
    first_label: int = 1,
) -> None:
    """Paint a leaf table over ``value`` and ``label`` in place, the last leaf on top.

    :param value: ``(H, W)`` image.
    :param label: ``(H, W)`` number of the leaf that is seen in each pixel.
    :param leaves: ``(n, COLUMNS)`` table as :func:`random_leaves` makes it; lengths in pixels.
    :param texture: ``(h, w)`` unit-variance tile, repeated, times each leaf's texture amplitude.
    """
    _paint(value, label, leaves, texture, first_label)


def random_leaves(
    count: int,
    shape: Sequence[int],
    rng: np.random.Generator,
    *,
    radius: tuple[float, float],
    exponent: float,
    kinds: Sequence[float] = (0.4, 0.2, 0.2, 0.12, 0.08),
    values: tuple[float, float] = (0.0, 1.0),
) -> NDArray[np.float64]:
    """Draw a table of leaves.

    :param count: how many.
    :param shape: ``(H, W)``; centres are uniform over it.
    :param radius: smallest and largest radius in pixels; density r^-exponent between them.
    :param kinds: weights of ellipses, boxes, wobbly stars, thin shells and cracks.
    :param values: range of the plain values.
    """
    leaves = np.zeros((count, COLUMNS))
    weights = np.asarray(kinds, dtype=np.float64)
    leaves[:, KIND] = rng.choice(len(weights), size=count, p=weights / weights.sum())
    leaves[:, CY] = rng.uniform(0, shape[0], count)
    leaves[:, CX] = rng.uniform(0, shape[1], count)
    angle = rng.uniform(0, 2 * np.pi, count)
    leaves[:, COS], leaves[:, SIN] = np.cos(angle), np.sin(angle)
    # inverse distribution function of r^-exponent on [low, high]
    low, high = radius
    power = 1 - exponent
    size = (low**power + rng.uniform(size=count) * (high**power - low**power)) ** (1 / power)
    aspect = np.exp(rng.normal(0, 0.35, count))
    leaves[:, RY] = np.maximum(size * aspect, 0.5)
    leaves[:, RX] = np.maximum(size / aspect, 0.5)
    leaves[:, VALUE] = rng.uniform(*values, count)
    graded = rng.uniform(size=count) < 0.3
    leaves[:, GRADIENT_Y] = np.where(graded, rng.normal(0, 0.1, count), 0)
    leaves[:, GRADIENT_X] = np.where(graded, rng.normal(0, 0.1, count), 0)
    striped = rng.uniform(size=count) < 0.08
    leaves[:, STRIPE] = np.where(striped, rng.uniform(0.03, 0.3, count), 0)
    leaves[:, STRIPE_WAVES] = 2 * np.pi * leaves[:, RX] / rng.uniform(5, 30, count)
    leaves[:, STRIPE_PHASE] = rng.uniform(0, 2 * np.pi, count)
    leaves[:, THICKNESS] = np.exp(rng.uniform(np.log(1.2), np.log(8.0), count))
    leaves[:, WOBBLE] = rng.uniform(0.03, 0.3, count)
    leaves[:, WOBBLE_ORDER] = rng.integers(2, 8, count)
    leaves[:, WOBBLE_PHASE] = rng.uniform(0, 2 * np.pi, count)
    leaves[:, TEXTURE] = np.where(
        rng.uniform(size=count) < 0.25, np.exp(rng.uniform(np.log(0.01), np.log(0.15), count)), 0
    )
    crack = leaves[:, KIND] == CRACK
    # a crack is as long as its leaf is wide (and at least 8 px), with a wave in pixels
    leaves[crack, RX] = np.maximum(2.0 * leaves[crack, RX], 8.0)
    leaves[crack, WOBBLE] *= 0.6 * leaves[crack, RX]
    leaves[crack, RY] = 1.0
    leaves[crack, GRADIENT_Y] = 0.0
    return leaves


def dead_leaves(
    shape: Sequence[int],
    rng: np.random.Generator,
    *,
    exponent: float = 3.0,
    radius: tuple[float, float] | None = None,
    cover: float = 4.0,
    background: float = 0.0,
    kinds: Sequence[float] = (0.4, 0.2, 0.2, 0.12, 0.08),
    values: tuple[float, float] = (0.0, 1.0),
    max_leaves: int = 1500,
    texture: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw one dead-leaves image without antialiasing (draw it larger and reduce it for that).

    :param shape: ``(H, W)``.
    :param exponent: of the radius density r^-exponent; 3 is scale-invariant.
    :param radius: smallest and largest radius in pixels; (2, a third of the smaller side).
    :param cover: sum of the leaves' areas over the area of the image, before occlusion.
    :param background: value where no leaf falls.
    :param kinds: weights of ellipses, boxes, wobbly stars, thin shells and cracks.
    :param values: range of the leaves' values.
    :param max_leaves: bound on the number of leaves.
    :param texture: unit-variance tile for textured leaves, white noise by default.
    :return: image and the number (from 1, 0 for background) of the leaf seen in each pixel.
    :raises ValueError: for a shape that is not 2D or radii that are not increasing and positive.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape: found {tuple(shape)}, expected (H, W)")
    size = (int(shape[0]), int(shape[1]))
    low, high = radius if radius is not None else (2.0, max(min(size) / 3, 2.5))
    if not 0 < low < high:
        raise ValueError(f"radius: found {(low, high)}, expected 0 < smallest < largest")
    if exponent <= 1 or cover <= 0 or max_leaves < 1:
        raise ValueError("expected exponent > 1, cover > 0 and max_leaves >= 1")
    area = np.pi * _mean_square(low, high, exponent)
    count = int(np.clip(cover * size[0] * size[1] / area, 1, max_leaves))
    leaves = random_leaves(
        count, size, rng, radius=(low, high), exponent=exponent, kinds=kinds, values=values
    )
    if texture is None:
        texture = rng.standard_normal((64, 64), dtype=np.float32)
    value = np.full(size, background, dtype=np.float32)
    label = np.zeros(size, dtype=np.int32)
    paint(value, label, leaves, texture)
    return value, label


def _mean_square(low: float, high: float, exponent: float) -> float:
    """Mean of r^2 under the density r^-exponent on [low, high]."""

    def moment(power: float) -> float:
        if abs(power + 1) < 1e-9:
            return float(np.log(high / low))
        return float((high ** (power + 1) - low ** (power + 1)) / (power + 1))

    return moment(2 - exponent) / moment(-exponent)
