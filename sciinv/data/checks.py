"""Checks and conventions that every reader shares: finite data, angles, axes to RAS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.scan import MRIGeometry, ParallelGeometry, Scan
from sciinv.errors import DataError

__all__ = ["assumed_affine", "check_finite", "check_scan", "to_radians"]

ASSUMED_ORIENTATION = (
    "the file states no orientation: rows are taken to run from anterior to posterior, "
    "columns from right to left"
)
_DEGREES = frozenset({"deg", "degree", "degrees", "°"})
_RADIANS = frozenset({"rad", "radian", "radians"})


def check_finite(array: NDArray[Any], where: Path, name: str) -> None:
    """Refuse NaN and Inf.

    :raises DataError: with how many there are and the index of the first.
    """
    if array.dtype.kind not in "fc":
        return
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            where,
            name,
            found=f"{int(bad.sum())} values NaN or Inf, the first at {first}",
            expected="finite numbers",
        )


def to_radians(
    angles: NDArray[Any], unit: str | None, where: Path, name: str
) -> tuple[NDArray[np.float64], str | None]:
    """Convert projection angles to radians; without a unit, guess only what is unambiguous.

    Values beyond 8 pi are degrees; values within one turn (2 pi) are radians; between the two the
    unit has to be stated.

    :returns: radians, and a note if the unit was guessed.
    :raises DataError: unknown unit, ambiguous range, NaN.
    """
    angles = np.asarray(angles, dtype=np.float64)
    check_finite(angles, where, name)
    if unit is not None:
        word = unit.strip().lower()
        if word in _DEGREES:
            return np.deg2rad(angles), None
        if word in _RADIANS:
            return angles, None
        raise DataError(where, name, found=f"the unit {unit!r}", expected='"deg" or "rad"')
    largest = float(np.abs(angles).max(initial=0.0))
    shown = f"{angles.min():.6g} to {angles.max():.6g}"
    if largest > 8 * math.pi:
        return np.deg2rad(angles), f"the angles ({shown}) carry no unit: degrees assumed"
    if largest <= 2 * math.pi * 1.01:
        return angles, f"the angles ({shown}) carry no unit: radians assumed"
    raise DataError(
        where,
        name,
        found=f"angles from {shown} without a unit",
        expected='a unit, "deg" or "rad"',
        hint="state it in the file or in a side-car",
    )


def assumed_affine(
    shape: tuple[int, ...], spacing: tuple[float, float, float], *, fourier_centre: bool
) -> NDArray[np.float64]:
    """RAS affine of an image whose file states no orientation.

    Rows run from anterior to posterior (-y), columns from right to left (-x), slices from inferior
    to superior (+z): the radiological view of an axial slice. The centre of the grid lies at 0:
    index ``n // 2`` for MRI (where the Fourier transform has its origin), ``(n - 1) / 2`` for CT
    (where the rotation axis lies).

    :param shape: ``(slices, rows, columns)``.
    :param spacing: mm, ``(slice, row, column)``.
    """
    centre = [n // 2 if fourier_centre else (n - 1) / 2 for n in shape[-2:]]
    slices = (shape[0] - 1) / 2
    affine = np.zeros((4, 4))
    affine[0, 1] = -spacing[2]
    affine[1, 0] = -spacing[1]
    affine[2, 2] = spacing[0]
    affine[:3, 3] = [centre[1] * spacing[2], centre[0] * spacing[1], -slices * spacing[0]]
    affine[3, 3] = 1.0
    return affine


def check_scan(scan: Scan) -> Scan:
    """Check what every scan must satisfy, and return it.

    :raises DataError: NaN or Inf, all-zero k-space, constant sinogram, arrays that do not fit
        each other.
    """
    where = scan.source
    check_finite(scan.data, where, "data")
    if isinstance(scan.geometry, MRIGeometry):
        _check_mri(scan, scan.geometry)
    else:
        _check_ct(scan, scan.geometry)
    return scan


def _expect_shape(where: Path, name: str, array: NDArray[Any], *allowed: tuple[int, ...]) -> None:
    if array.shape not in allowed:
        raise DataError(
            where,
            name,
            found=f"shape {array.shape}",
            expected="shape " + " or ".join(str(shape) for shape in allowed),
        )


def _check_mri(scan: Scan, geometry: MRIGeometry) -> None:
    where, shape = scan.source, tuple(geometry.image_shape)
    full = (*scan.data.shape[:2], *shape)
    _expect_shape(where, "kspace", scan.data, full)
    _expect_shape(where, "mask", geometry.mask, shape, (scan.num_slices, *shape))
    if min(shape) < 2:
        raise DataError(where, "kspace", found=f"an image of shape {shape}", expected="2 or more")
    for index, volume in enumerate(scan.data):
        if not np.any(volume):
            raise DataError(
                where, "kspace", found=f"only zeros in slice {index}", expected="measured samples"
            )
    if not geometry.mask.any():
        raise DataError(where, "mask", found="no sampled position", expected="one or more")
    if scan.coil_maps is not None:
        _expect_shape(where, "coil_maps", scan.coil_maps, full)
        check_finite(scan.coil_maps, where, "coil_maps")


def _check_ct(scan: Scan, geometry: ParallelGeometry) -> None:
    where, full = scan.source, scan.data.shape
    if scan.data.ndim != 3:
        raise DataError(
            where, "data", found=f"shape {full}", expected="(slices, angles, detectors)"
        )
    if len(geometry.angles) != full[1]:
        raise DataError(
            where,
            "angles",
            found=f"{len(geometry.angles)} angles",
            expected=f"{full[1]}, the number of projections",
        )
    if geometry.num_detectors != full[2]:
        raise DataError(where, "num_detectors", found=geometry.num_detectors, expected=f"{full[2]}")
    if full[2] < 2:
        raise DataError(where, "data", found=f"{full[2]} detector column", expected="2 or more")
    for name in ("valid", "counts", "blank"):
        array = getattr(scan, name)
        if array is not None:
            _expect_shape(where, name, array, full)
            check_finite(array, where, name)
    for index, sinogram in enumerate(scan.data):
        used = sinogram if scan.valid is None else sinogram[scan.valid[index]]
        if used.size == 0 or np.ptp(used) == 0:
            raise DataError(
                where,
                "data",
                found=f"a constant sinogram in slice {index}",
                expected="projections of an object",
            )
