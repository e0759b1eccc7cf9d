"""Where MRI voxels lie: from the scanner's directions and positions (LPS) to an affine (RAS).

Scanners and DICOM measure in LPS (x to the patient's left, y to posterior, z to superior), NIfTI
in RAS (right, anterior, superior): the first two coordinates change sign. The position that a
scanner states is the centre of the field of view, and there the Fourier transform has its origin:
index ``n // 2`` of every encoded axis, not ``(n - 1) / 2``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

__all__ = ["against_forward", "axes_of", "first_voxel_affine", "scanner_affine", "stack_order"]

#: LPS to RAS.
_RAS = np.array([-1.0, -1.0, 1.0])
# directions are stored as float32 with few digits
_ORTHOGONAL = 1e-2
# mm; positions closer than that are the same
_SAME = 1e-3


def axes_of(
    row: NDArray[np.floating], column: NDArray[np.floating], normal: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    """Return unit vectors ``(3, 3)``, one a row, or ``None`` if the three are not directions.

    :param row: LPS direction in which the row index grows (down the picture).
    :param column: LPS direction in which the column index grows.
    :param normal: LPS direction in which the slice index grows.
    :returns: ``None`` if one is zero or not finite, not of unit length, or if they are not
        orthogonal to each other, all within 1 %.
    """
    axes = np.stack([row, column, normal]).astype(np.float64)
    if not np.isfinite(axes).all():
        return None
    if np.abs(axes @ axes.T - np.eye(3)).max() > _ORTHOGONAL:
        return None
    return np.asarray(axes / np.linalg.norm(axes, axis=1, keepdims=True))


def against_forward(axes: NDArray[np.float64], *, volume: bool) -> NDArray[np.float64]:
    """Turn directions that belong to a forward transform to those of the inverse one.

    Siemens states directions for images that a *forward* transform makes of k-space; sciinv, as
    most others, takes the inverse one, whose images run the other way about index ``n // 2`` along
    every encoded axis. Slices of a stack are not encoded.

    :param axes: of :func:`axes_of`.
    :param volume: whether the slice axis is encoded.
    """
    return axes * np.array([-1.0, -1.0, -1.0 if volume else 1.0])[:, None]


def stack_order(
    positions: NDArray[np.floating], axes: NDArray[np.float64], where: Path
) -> tuple[NDArray[np.intp], float | None, bool]:
    """Sort parallel slices along their normal.

    :param positions: LPS centres, ``(slices, 3)``, mm.
    :param axes: of :func:`axes_of`.
    :returns: the order, the mean distance in mm (``None`` for one slice, and where all slices
        state one position), and whether the distances are equal within 2 %.
    :raises DataError: slices that are moved against each other within their plane, or of which
        two, but not all, share a position.
    """
    positions = np.asarray(positions, dtype=np.float64)
    along = positions @ axes[2]
    if len(along) == 1 or np.ptp(positions, axis=0).max() < _SAME:
        return np.arange(len(along)), None, True
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    mean = float(steps.mean())
    if steps.min() < _SAME:
        raise DataError(
            where, "position", found="two slices at one place", expected="slices beside each other"
        )
    # one affine describes a stack only if its centres lie on one line along the normal
    sideways = positions[order] - positions[order[0]]
    sideways = sideways - np.outer(sideways @ axes[2], axes[2])
    if np.abs(sideways).max() > 0.02 * mean + 0.01:
        raise DataError(
            where,
            "position",
            found=f"slices moved by up to {np.abs(sideways).max():.3g} mm within their plane",
            expected="one stack of slices along its normal",
        )
    even = bool(np.abs(steps - mean).max() <= 0.02 * mean + 0.01)
    return order, mean, even


def scanner_affine(
    centre: NDArray[np.floating],
    axes: NDArray[np.float64],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    *,
    centre_slice: float | None = None,
) -> NDArray[np.float64]:
    """Return the RAS affine of voxel indices (row, column, slice).

    :param centre: LPS position in mm of the voxel ``(rows // 2, columns // 2, centre_slice)``.
    :param axes: LPS unit vectors, one a row: row, column and slice direction.
    :param shape: ``(slices, rows, columns)``.
    :param spacing: mm ``(slice, row, column)``.
    :param centre_slice: slice index to which ``centre`` belongs: 0 if it is the position of the
        first slice of a stack; ``slices // 2``, the default, for an encoded third axis.
    """
    slices, rows, columns = shape
    index = np.array([rows // 2, columns // 2, slices // 2 if centre_slice is None else 0.0])
    if centre_slice is not None:
        index[2] = centre_slice
    first = np.asarray(centre, dtype=np.float64) - _steps(axes, spacing) @ index
    return first_voxel_affine(first, axes, spacing)


def first_voxel_affine(
    position: NDArray[np.floating],
    axes: NDArray[np.float64],
    spacing: tuple[float, float, float],
) -> NDArray[np.float64]:
    """Return the RAS affine of voxel indices (row, column, slice), as DICOM states it.

    :param position: LPS position in mm of the centre of voxel (0, 0, 0).
    :param axes: LPS unit vectors, one a row: row, column and slice direction.
    :param spacing: mm ``(slice, row, column)``.
    """
    affine = np.eye(4)
    affine[:3, :3] = _RAS[:, None] * _steps(axes, spacing)
    affine[:3, 3] = _RAS * np.asarray(position, dtype=np.float64)
    return affine


def _steps(axes: NDArray[np.float64], spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """LPS mm of one row, column and slice index, as columns."""
    return np.asarray((axes * np.array([spacing[1], spacing[2], spacing[0]])[:, None]).T)
