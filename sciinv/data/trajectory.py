"""k-space trajectories: units, and whether they fit the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.finite import check_finite
from sciinv.errors import DataError

__all__ = ["UNITS", "check_extent", "scaled_density", "suspected_unit", "to_cycles"]

#: Units of trajectories: cycles per metre; cycles per field of view (the unit of
#: :class:`~sciinv.data.scan.NonCartesianGeometry`); radians per pixel within -pi to pi; cycles per
#: pixel within -0.5 to 0.5.
UNITS = ("1/m", "cycles/fov", "rad/pixel", "normalised")
# what a trajectory may be in, in words, and the number of cycles per field of view of its unit:
# by field of view in mm, by pixels, or by neither
_PER_FOV = {"1/m": 1e-3, "1/cm": 1e-1, "1/mm": 1.0, "rad/m": 1e-3 / (2 * math.pi)}
_PER_PIXEL = {"rad/pixel": 1 / (2 * math.pi), "normalised": 1.0, "normalised to -1..1": 0.5}
# rounding of the scanner, delays and the last sample of a readout
_TOLERANCE = 1e-3
# a full trajectory fills at least this share of the grid; 1/8 leaves room for interpolation
_FILLED = 0.8
_LEAST = 1 / 8
# below the one, another unit that fills the grid by more than the other is the right one
_DOUBTFUL, _EXACT = 0.5, 0.95
_HULL_POINTS = 50_000


def to_cycles(
    values: NDArray[Any],
    unit: str,
    fov: Sequence[float] | None,
    image_shape: Sequence[int],
    where: Path | str,
    name: str = "trajectory",
) -> NDArray[np.float64]:
    """Convert k-space coordinates to cycles per field of view, and check that they fit the grid.

    :param values: ``(..., dim)``, components ordered like the image axes.
    :param unit: one of :data:`UNITS`.
    :param fov: mm along each image axis; needed for ``"1/m"``.
    :param image_shape: pixels along each image axis.
    :raises DataError: NaN, a missing field of view, an extent that does not fit the grid.
    """
    k = np.asarray(values, dtype=np.float64)
    check_finite(k, where, name)
    shape = tuple(image_shape)
    if k.shape[-1] != len(shape):
        raise DataError(
            where,
            name,
            found=f"{k.shape[-1]} components",
            expected=f"{len(shape)}, one for each axis of the image {shape}",
        )
    factor = _factor(unit, fov, shape)
    if factor is None:
        raise DataError(
            where,
            "fov",
            found=f"no field of view, and a trajectory in {unit}",
            expected="mri.fov, mm along each image axis",
        )
    result = k * factor
    check_extent(result, shape, where, name, raw=k, unit=unit, fov=fov)
    return result


def _factor(
    unit: str, fov: Sequence[float] | None, shape: tuple[int, ...]
) -> NDArray[np.float64] | None:
    """Cycles per field of view of one unit, along each axis."""
    if unit == "cycles/fov":
        return np.ones(len(shape))
    if unit in _PER_FOV:
        return None if fov is None else _PER_FOV[unit] * np.asarray(fov, dtype=np.float64)
    return _PER_PIXEL[unit] * np.asarray(shape, dtype=np.float64)


def _filling(k: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Largest coordinate over half the grid; 1 at the edge of the grid."""
    extent = np.abs(k).reshape(-1, k.shape[-1]).max(axis=0, initial=0.0)
    return float(np.max(extent / (np.asarray(shape) / 2)))


def suspected_unit(
    values: NDArray[Any], fov: Sequence[float] | None, image_shape: Sequence[int]
) -> str | None:
    """Return the unit in which coordinates fill the grid well, if there is one.

    :param values: ``(..., dim)`` in an unknown unit.
    :returns: one of :data:`UNITS`, ``"1/cm"``, ``"1/mm"``, ``"rad/m"`` or
        ``"normalised to -1..1"``; ``None`` if none fits.
    """
    k = np.asarray(values, dtype=np.float64)
    shape = tuple(image_shape)
    best = _best_unit(k, fov, shape)
    return None if best is None else best[1]


def _best_unit(
    k: NDArray[np.float64], fov: Sequence[float] | None, shape: tuple[int, ...]
) -> tuple[float, str] | None:
    best: tuple[float, str] | None = None
    for unit in ("cycles/fov", *_PER_PIXEL, *_PER_FOV):
        factor = _factor(unit, fov, shape)
        if factor is None:
            continue
        filled = _filling(k * factor, shape)
        if _FILLED <= filled <= 1 + 2 * _TOLERANCE and (best is None or filled > best[0]):
            best = (filled, unit)
    return best


def check_extent(
    trajectory: NDArray[np.float64],
    image_shape: Sequence[int],
    where: Path | str,
    name: str = "trajectory",
    *,
    raw: NDArray[Any] | None = None,
    unit: str = "cycles/fov",
    fov: Sequence[float] | None = None,
) -> None:
    """Refuse a trajectory that leaves the grid, or fills so little of it that its unit is wrong.

    :param trajectory: cycles per field of view ``(..., dim)``.
    :param raw: the same in ``unit``, as the file has it.
    :param fov: mm; lets 1/m be recognised.
    :raises DataError: beyond ``N / 2`` (with a tolerance of ``N / 1000``); below an eighth of that;
        below half of it, if another unit fills the grid. The message names the unit that would fit.
    """
    shape = tuple(image_shape)
    k = np.asarray(trajectory, dtype=np.float64)
    filled = _filling(k, shape)
    values = k if raw is None else np.asarray(raw, dtype=np.float64)
    if _LEAST <= filled <= 1 + 2 * _TOLERANCE:
        if filled >= _DOUBTFUL:
            return
        # an image finer than the resolution is allowed, but not if another unit fits to a hair
        best = _best_unit(values, fov, shape)
        if best is None or best[0] < _EXACT or best[1] == unit:
            return
    largest = np.abs(values).reshape(-1, k.shape[-1]).max(axis=0, initial=0.0)
    axis = int(np.argmax(np.abs(k).reshape(-1, k.shape[-1]).max(axis=0) / np.asarray(shape)))
    extent = float(np.abs(k[..., axis]).max())
    found = f"coordinates up to {largest[axis]:.4g} {unit}"
    if unit != "cycles/fov":
        found += f", {extent:.4g} cycles/FOV"
    outside = filled > 1
    raise DataError(
        where,
        name,
        found=found,
        expected=f"{'at most' if outside else 'nearly'} {shape[axis] / 2:g} cycles/FOV for "
        f"{shape[axis]} pixels",
        hint=_hint(values, largest, axis, unit, fov, shape),
    )


def _hint(
    values: NDArray[np.float64],
    largest: NDArray[np.float64],
    axis: int,
    unit: str,
    fov: Sequence[float] | None,
    shape: tuple[int, ...],
) -> str:
    suspect = suspected_unit(values, fov, shape)
    if suspect is None or suspect == unit:
        if fov is None and unit == "cycles/fov" and largest[axis] > shape[axis] / 2:
            return "looks like 1/m: state unit and mri.fov"
        return "check mri.fov, mri.image_shape and the unit of the trajectory"
    number = largest[axis]
    factor = _factor(suspect, fov, shape)
    cycles = number * factor[axis] if factor is not None else math.nan
    scale = f" with FOV {fov[axis]:g} mm" if suspect in _PER_FOV and fov is not None else ""
    text = f"looks like {suspect}: {number:.4g}{scale} is {cycles:.4g} cycles/FOV"
    return text if suspect in UNITS else f"{text}; rescale it"


def scaled_density(
    density: NDArray[Any], trajectory: NDArray[np.float64]
) -> tuple[NDArray[np.float32], float]:
    """Scale density weights so that the weighted adjoint gives back the image at its level.

    Files carry weights in any unit. With the orthonormal transform a weight is the area (3D: the
    volume) of k-space that its sample stands for, in cycles per field of view, so that all together
    are the area inside the trajectory's convex hull; on a Cartesian grid every weight is 1.

    :param density: ``(shots, samples)``, not negative, not all zero.
    :param trajectory: ``(shots, samples, dim)`` in cycles per field of view.
    :returns: scaled weights and the factor; unscaled (factor 1) if the trajectory has no area.
    """
    from scipy.spatial import ConvexHull, QhullError

    k = np.asarray(trajectory, dtype=np.float64).reshape(-1, trajectory.shape[-1])
    radius = (k**2).sum(-1)
    if len(k) > _HULL_POINTS:  # the hull of many points is that of the outermost
        k = k[np.argpartition(radius, -_HULL_POINTS)[-_HULL_POINTS:]]
    try:
        area = float(ConvexHull(k).volume)
    except (QhullError, ValueError):
        area = 0.0
    total = float(np.sum(density, dtype=np.float64))
    factor = area / total if area > 0 and total > 0 else 1.0
    return (np.asarray(density, dtype=np.float64) * factor).astype(np.float32), factor
