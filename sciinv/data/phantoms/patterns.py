"""Resolution patterns as test objects have them: bars, combs, grids, rings, holes, stars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sciinv.data.phantoms.frame import Part

PATTERNS = ("bars", "comb", "grid", "rings", "holes", "star", "sinusoid")


def add_pattern(
    part: Part,
    rng: np.random.Generator,
    where: NDArray[np.bool_],
    *,
    value: float,
    mark: int,
    size: tuple[float, float] = (0.06, 0.3),
    kind: str | None = None,
) -> None:
    """Paint one pattern over a part in place, only ``where``.

    :param value: of the bars, holes or crests.
    :param mark: label of what is painted.
    :param size: range of its half width over the smaller side of the image.
    :param kind: one of ``PATTERNS``; random without it.
    """
    image, label = part
    height, width = image.shape
    kind = kind or PATTERNS[int(rng.integers(len(PATTERNS)))]
    low, high = np.log(size)
    half_y, half_x = min(height, width) * np.exp(rng.uniform(low, high, 2))
    cy, cx = rng.uniform(0.2, 0.8, 2) * image.shape
    reach = float(np.hypot(half_y, half_x))
    top, bottom = max(0, int(cy - reach)), min(height, int(cy + reach) + 2)
    left, right = max(0, int(cx - reach)), min(width, int(cx + reach) + 2)
    angle = rng.uniform(0, np.pi) if rng.uniform() < 0.5 else rng.choice([0, 0.5]) * np.pi
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(cy)
    dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(cx)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    a, b = dx * cos + dy * sin, dy * cos - dx * sin
    inside = (np.abs(a) <= half_x) & (np.abs(b) <= half_y) & where[top:bottom, left:right]
    period = float(np.exp(rng.uniform(np.log(4.0), np.log(28.0))))  # fine pixels
    duty = rng.uniform(0.3, 0.7)
    window = image[top:bottom, left:right]
    if kind == "sinusoid":
        wave = np.sin(2 * np.pi * a / period) * rng.uniform(0.05, 0.5) + 1
        window[inside] = (window * wave.astype(np.float32))[inside]
        return
    if kind == "bars":  # finer from group to group
        along = np.floor((a + half_x) / max(half_x / 2, 1)).astype(np.int32).clip(0, 3)
        periods = period * np.array([1.0, 0.75, 0.55, 0.4], dtype=np.float32)
        on = (a / periods[along]) % 1 < duty
    elif kind == "comb":  # teeth on a back
        on = ((a / period) % 1 < duty) | (b > 0.5 * half_y)
    elif kind == "grid":
        line = rng.uniform(0.12, 0.4)
        on = ((a / period) % 1 < line) | ((b / period) % 1 < line)
    elif kind == "rings":
        r = np.sqrt(a * a + b * b)
        inside &= r < min(half_y, half_x)
        on = (r / period) % 1 < duty
        if rng.uniform() < 0.4:  # a single ring
            rim = min(half_y, half_x)
            on = r > rim - max(1.5, period / 4)
    elif kind == "holes":
        step = 2.0 * period * rng.uniform(0.6, 1)
        ha = (a + half_x) / np.float32(step) % 1 - 0.5
        hb = (b + half_y) / np.float32(step) % 1 - 0.5
        on = ha * ha + hb * hb < (0.25 + 0.2 * duty) ** 2
    else:  # a star of spokes
        r = np.sqrt(a * a + b * b)
        inside &= (r < min(half_y, half_x)) & (r > 2)
        on = (np.arctan2(b, a) * (int(rng.integers(4, 19)) / (2 * np.pi))) % 1 < 0.5
    window[inside & on] = value
    label[top:bottom, left:right][inside & on] = mark
