"""Which k-space positions a simulated Cartesian scan samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["PATTERNS", "Pattern", "cartesian_mask", "default_readout_axis"]

Pattern = Literal["variable_density", "uniform", "poisson", "full"]
PATTERNS: tuple[Pattern, ...] = ("variable_density", "uniform", "poisson", "full")


def default_readout_axis(ndim: int) -> int:
    """Return the image axis along which readouts run: the rows, ``(H, W)`` or ``(D, H, W)``."""
    return ndim - 2


def cartesian_mask(
    shape: Sequence[int],
    acceleration: float = 4.0,
    calibration: int = 16,
    rng: np.random.Generator | int | None = None,
    pattern: Pattern = "variable_density",
    *,
    readout_axis: int | None = None,
) -> NDArray[np.bool_]:
    """Choose phase-encoding lines, or points of the phase-encoding plane.

    ``"variable_density"``: of N lines, round(N / acceleration) are sampled: ``calibration`` in the
    centre and the others at random, with a density that falls as (1 - r)^2 (r: distance from the
    centre over its largest value); N = 128 at 4 gives 16 + 16 lines. ``"uniform"``: every
    acceleration-th line, one of them the central one, and ``calibration`` lines, so the total
    acceleration is lower. ``"poisson"``: points at least a distance apart that grows with r
    (a variable-density Poisson disc), and a calibration square: the whole plane of a 2D image, the
    two phase-encoding axes of a 3D one. ``"full"``: everything.

    A 3D image with a line pattern has its lines chosen along the last axis, every partition alike.

    :param shape: ``(H, W)`` or ``(D, H, W)``; k-space is centred (zero at ``n // 2``).
    :param acceleration: positions over sampled positions, 1 or more.
    :param calibration: fully sampled central lines, or the side of the central square.
    :param rng: generator or seed.
    :param pattern: see above.
    :param readout_axis: fully sampled axis; rows (``ndim - 2``) by default.
    :return: bool array of ``shape``.
    :raises ValueError: what is asked for cannot be had.
    """
    shape = tuple(int(n) for n in shape)
    if len(shape) not in (2, 3):
        raise ValueError(f"shape: found {shape}, expected (H, W) or (D, H, W)")
    if pattern not in PATTERNS:
        raise ValueError(f"pattern: found {pattern!r}, expected one of {', '.join(PATTERNS)}")
    if not acceleration >= 1 or calibration < 0:
        raise ValueError(
            f"found acceleration {acceleration} and calibration {calibration}, "
            "expected 1 or more and 0 or more"
        )
    rng = np.random.default_rng(rng)
    if pattern == "full":
        return np.ones(shape, dtype=bool)
    readout = default_readout_axis(len(shape)) if readout_axis is None else readout_axis
    if pattern == "poisson":
        if len(shape) == 2:
            return _poisson(shape, acceleration, calibration, rng)
        plane = tuple(n for axis, n in enumerate(shape) if axis != readout)
        points = np.expand_dims(_poisson(plane, acceleration, calibration, rng), readout)
        return np.broadcast_to(points, shape).copy()
    axis = len(shape) - 1 if readout != len(shape) - 1 else len(shape) - 2
    n = shape[axis]
    if pattern == "uniform":
        lines = _uniform_lines(n, acceleration, calibration)
    else:
        lines = _variable_density_lines(n, acceleration, calibration, rng)
    return np.broadcast_to(
        lines.reshape([n if a == axis else 1 for a in range(len(shape))]), shape
    ).copy()


def _centre(n: int, width: int) -> slice:
    start = n // 2 - width // 2
    return slice(start, start + width)


def _variable_density_lines(
    n: int, acceleration: float, calibration: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    total = round(n / acceleration)
    if calibration > min(total, n):
        raise ValueError(
            f"{calibration} calibration lines exceed the {total} of {n} lines that an "
            f"acceleration of {acceleration:g} leaves; lower one of the two"
        )
    lines = np.zeros(n, dtype=bool)
    lines[_centre(n, calibration)] = True
    r = np.abs(np.arange(n) - n // 2) / (n // 2 + 1)
    density = np.where(lines, 0.0, (1 - r) ** 2)
    if total > calibration:
        chosen = rng.choice(n, total - calibration, replace=False, p=density / density.sum())
        lines[chosen] = True
    return lines


def _uniform_lines(n: int, acceleration: float, calibration: int) -> NDArray[np.bool_]:
    lines = np.zeros(n, dtype=bool)
    # from the centre outwards, so that the zero frequency is always there
    steps = int(n / acceleration) + 1
    index = n // 2 + np.round(np.arange(-steps, steps + 1) * acceleration).astype(int)
    lines[index[(index >= 0) & (index < n)]] = True
    lines[_centre(n, min(calibration, n))] = True
    return lines


def _poisson(
    shape: tuple[int, ...], acceleration: float, calibration: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Variable-density Poisson disc by dart throwing; its scale is found by fixed-point steps."""
    target = round(math.prod(shape) / acceleration)
    square = tuple(_centre(n, min(calibration, n)) for n in shape)
    fixed = np.zeros(shape, dtype=bool)
    fixed[square] = True
    if fixed.sum() > target:
        raise ValueError(
            f"a calibration square of {int(fixed.sum())} points exceeds the {target} that an "
            f"acceleration of {acceleration:g} leaves; lower one of the two"
        )
    grid = np.meshgrid(*[(np.arange(n) - n // 2) / (n / 2) for n in shape], indexing="ij")
    r = np.sqrt(sum(g**2 for g in grid) / len(shape))
    order = rng.permutation(np.flatnonzero(~fixed))
    wanted = target - int(fixed.sum())
    scale, best = 1.2 * math.sqrt(acceleration), ~fixed
    for _ in range(12):
        found = _throw(shape, order, scale * (0.5 + r))
        count = int(found.sum())
        if wanted <= count < best.sum():
            best = found
            if count <= 1.05 * wanted + 2:
                break
        # the number of points falls as the area of the discs; aim a little above the target
        scale *= math.sqrt(max(count, 1) / (1.02 * wanted + 1))
    extra = np.flatnonzero(best)
    drop = rng.choice(extra, len(extra) - wanted, replace=False)
    best.flat[drop] = False
    return best | fixed


def _throw(
    shape: tuple[int, ...], order: NDArray[np.int64], radius: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Accept points in a given order unless an accepted one lies within their radius."""
    taken = np.zeros(shape, dtype=bool)
    # a point that is accepted blocks the disc of its own radius: later ones just look up
    blocked = np.zeros(shape, dtype=bool)
    rows, columns = shape
    i, j = np.arange(rows)[:, None], np.arange(columns)[None, :]
    for index in order:
        a, b = divmod(int(index), columns)
        if blocked[a, b]:
            continue
        taken[a, b] = True
        reach = radius[a, b]
        k = int(reach)
        box = (slice(max(a - k, 0), a + k + 1), slice(max(b - k, 0), b + k + 1))
        blocked[box] |= (i[box[0]] - a) ** 2 + (j[:, box[1]] - b) ** 2 < reach**2
    return taken
