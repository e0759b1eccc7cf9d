"""Phantoms made of ellipses and ellipsoids, the Shepp-Logan head among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Toft, "The Radon Transform", PhD thesis, DTU 1996: the Shepp-Logan head with raised contrast.
# Columns: value, half axes (x, y), centre (x, y), angle in degrees; the image is [-1, 1]^2, y up.
_MODIFIED_SHEPP_LOGAN = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)
# half axes along z and centres in z that make a head of the ellipses above (Kak and Slaney,
# "Principles of Computerized Tomographic Imaging", 1988, table 3.1 in spirit: the same sections
# at z = 0, closed towards the poles)
_Z_HALF_AXES = (0.81, 0.78, 0.22, 0.28, 0.41, 0.05, 0.05, 0.05, 0.02, 0.02)


def ellipses(
    shape: Sequence[int], params: ArrayLike, *, supersample: int = 4
) -> NDArray[np.float64]:
    """Sum of filled ellipses, each pixel averaged over ``supersample**2`` points.

    Coordinates run over [-1, 1] along each axis from outer pixel edge to outer pixel edge, x to
    the right and y upwards (rows grow downwards).

    :param shape: ``(H, W)``.
    :param params: ``(n, 6)`` rows of value, half axis x, half axis y, centre x, centre y, angle in
        degrees (counter-clockwise).
    :param supersample: points per pixel along each axis, at least 1.
    :raises ValueError: for a shape that is not 2D, malformed rows or half axes that are not
        positive.
    """
    height, width = _check_shape(shape, 2)
    rows = _check_params(params, 6, slice(1, 3))
    _check_supersample(supersample)
    y = -_axis(height, supersample)[:, None]
    x = _axis(width, supersample)[None, :]
    fine = np.zeros((height * supersample, width * supersample))
    for value, ax, ay, cx, cy, degrees in rows:
        angle = np.deg2rad(degrees)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
        fine += value * ((u / ax) ** 2 + (v / ay) ** 2 <= 1)
    return fine.reshape(height, supersample, width, supersample).mean(axis=(1, 3))


def ellipsoids(
    shape: Sequence[int], params: ArrayLike, *, supersample: int = 2
) -> NDArray[np.float64]:
    """Sum of filled ellipsoids turned about the z axis, averaged over ``supersample**3`` points.

    Coordinates are those of :func:`ellipses`; z runs over [-1, 1] with the slice index.

    :param shape: ``(D, H, W)``.
    :param params: ``(n, 8)`` rows of value, half axes x, y, z, centre x, y, z, angle about z in
        degrees.
    :raises ValueError: as in :func:`ellipses`.
    """
    depth, height, width = _check_shape(shape, 3)
    rows = _check_params(params, 8, slice(1, 4))
    _check_supersample(supersample)
    z = _axis(depth, supersample)
    y = -_axis(height, supersample)[:, None]
    x = _axis(width, supersample)[None, :]
    volume = np.zeros((depth, height, width))
    for value, ax, ay, az, cx, cy, cz, degrees in rows:
        angle = np.deg2rad(degrees)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
        radius = (u / ax) ** 2 + (v / ay) ** 2
        for index, level in enumerate(((z - cz) / az) ** 2):  # one fine slice at a time in memory
            if level <= 1:
                inside = (radius <= 1 - level).reshape(height, supersample, width, supersample)
                volume[index // supersample] += value / supersample * inside.mean(axis=(1, 3))
    return volume


def shepp_logan(shape: Sequence[int], *, supersample: int = 4) -> NDArray[np.float64]:
    """Shepp-Logan head with raised contrast (Toft 1996), values 0 to 1, 2D or 3D.

    :param shape: ``(H, W)``, or ``(D, H, W)`` for ellipsoids whose central section is the 2D head.
    :param supersample: points per pixel along each axis.
    :raises ValueError: for another number of axes.
    """
    if len(shape) == 2:
        return ellipses(shape, _MODIFIED_SHEPP_LOGAN, supersample=supersample)
    if len(shape) == 3:
        rows = [
            (value, ax, ay, az, cx, cy, 0.0, angle)
            for (value, ax, ay, cx, cy, angle), az in zip(
                _MODIFIED_SHEPP_LOGAN, _Z_HALF_AXES, strict=True
            )
        ]
        return ellipsoids(shape, rows, supersample=supersample)
    raise ValueError(f"shape: found {tuple(shape)}, expected (H, W) or (D, H, W)")


def _axis(count: int, supersample: int) -> NDArray[np.float64]:
    fine = count * supersample
    return (2 * np.arange(fine) + 1 - fine) / fine


def _check_shape(shape: Sequence[int], ndim: int) -> tuple[int, ...]:
    if len(shape) != ndim or min(shape) < 1:
        raise ValueError(f"shape: found {tuple(shape)}, expected {ndim} positive sizes")
    return tuple(int(n) for n in shape)


def _check_params(params: ArrayLike, columns: int, half_axes: slice) -> NDArray[np.float64]:
    rows = np.asarray(params, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise ValueError(f"params: found shape {rows.shape}, expected (n, {columns})")
    if not (rows[:, half_axes] > 0).all():
        raise ValueError("params: half axes must be positive")
    return rows


def _check_supersample(supersample: int) -> None:
    if supersample < 1:
        raise ValueError(f"supersample: found {supersample}, expected at least 1")
