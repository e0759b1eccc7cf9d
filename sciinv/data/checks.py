"""Checks and conventions that every reader shares: finite data, angles, axes to RAS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.finite import check_finite
from sciinv.data.scan import (
    CTGeometry,
    DiffractionGeometry,
    FanGeometry,
    MRIGeometry,
    NonCartesianGeometry,
    Scan,
)
from sciinv.data.trajectory import check_extent
from sciinv.errors import DataError

__all__ = ["assumed_affine", "check_affine", "check_finite", "check_scan", "to_radians"]

ASSUMED_ORIENTATION = (
    "the file states no orientation: rows are taken to run from anterior to posterior, "
    "columns from right to left"
)
_DEGREES = frozenset({"deg", "degree", "degrees", "°"})
_RADIANS = frozenset({"rad", "radian", "radians"})


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

    :raises DataError: NaN or Inf, all-zero k-space or pattern, constant sinogram, negative counts,
        a trajectory outside the grid, a source inside the object, arrays that do not fit each
        other.
    """
    where = scan.source
    if scan.data.size == 0:
        raise DataError(where, "data", found=f"shape {scan.data.shape}", expected="measured values")
    check_finite(scan.data, where, "data")
    check_affine(scan.affine, where)
    geometry = scan.geometry
    if isinstance(geometry, MRIGeometry):
        _check_mri(scan, geometry)
    elif isinstance(geometry, NonCartesianGeometry):
        _check_noncartesian(scan, geometry)
    elif isinstance(geometry, DiffractionGeometry):
        _check_diffraction(scan, geometry)
    else:
        _check_ct(scan, geometry)
    return scan


def check_affine(affine: NDArray[Any], where: object) -> None:
    """Refuse an affine that does not place voxels in space.

    :raises DataError: not a finite 4 x 4 matrix with three independent directions.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise DataError(where, "affine", found=f"shape {affine.shape}", expected="finite 4 x 4")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not lengths.all() or np.linalg.matrix_rank(affine[:3, :3] / lengths) < 3:
        raise DataError(
            where,
            "affine",
            found=f"voxels of {' x '.join(f'{n:g}' for n in lengths)} mm in fewer than 3 "
            "independent directions",
            expected="three independent directions",
        )


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
    _check_kspace(scan, shape)
    if not geometry.mask.any():
        raise DataError(where, "mask", found="no sampled position", expected="one or more")


def _check_kspace(scan: Scan, shape: tuple[int, ...]) -> None:
    """What Cartesian and other trajectories have in common."""
    where = scan.source
    if len(shape) not in (2, 3) or min(shape) < 2:
        raise DataError(
            where, "image_shape", found=f"an image of shape {shape}", expected="2 or more each"
        )
    for index, volume in enumerate(scan.data):
        if not np.any(volume):
            raise DataError(
                where, "kspace", found=f"only zeros in slice {index}", expected="measured samples"
            )
    if scan.coil_maps is not None:
        _expect_shape(where, "coil_maps", scan.coil_maps, (*scan.data.shape[:2], *shape))
        check_finite(scan.coil_maps, where, "coil_maps")


def _check_noncartesian(scan: Scan, geometry: NonCartesianGeometry) -> None:
    where, shape = scan.source, tuple(geometry.image_shape)
    k = geometry.trajectory
    if scan.data.ndim != 4:
        raise DataError(
            where,
            "kspace",
            found=f"shape {scan.data.shape}",
            expected="(slices, coils, shots, samples)",
        )
    samples = scan.data.shape[2:]
    if k.ndim != 3 or k.shape[:2] != samples or k.shape[2] != len(shape):
        raise DataError(
            where,
            "trajectory",
            found=f"shape {k.shape}",
            expected=f"shape {(*samples, len(shape))}: shots, samples, image axes",
        )
    check_finite(k, where, "trajectory")
    _check_kspace(scan, shape)
    check_extent(k, shape, where)
    for name, allowed in (
        ("density", [samples]),
        ("readout_times", [samples]),
        ("field_map", [shape, (scan.num_slices, *shape)]),
    ):
        array = getattr(geometry, name)
        if array is not None:
            _expect_shape(where, name, array, *allowed)
            check_finite(array, where, name)
    if geometry.density is not None and not (geometry.density >= 0).all():
        raise DataError(
            where,
            "density",
            found=f"{int((geometry.density < 0).sum())} negative weights",
            expected="weights of 0 or more",
        )
    if geometry.density is not None and not geometry.density.any():
        raise DataError(where, "density", found="only zeros", expected="positive weights")
    if geometry.field_map is not None and geometry.readout_times is None:
        raise DataError(
            where, "readout_times", found="a field map without them", expected="seconds"
        )


def _check_diffraction(scan: Scan, geometry: DiffractionGeometry) -> None:
    where, pattern = scan.source, tuple(geometry.pattern_shape)
    _expect_shape(where, "pattern", scan.data, (scan.num_slices, *pattern))
    image = tuple(geometry.image_shape)
    if len(pattern) not in (2, 3) or min(pattern) < 2:
        raise DataError(where, "pattern", found=f"shape {pattern}", expected="2 or 3 axes")
    if len(image) != len(pattern) or any(
        not 1 <= n <= m for n, m in zip(image, pattern, strict=True)
    ):
        raise DataError(
            where, "image_shape", found=image, expected=f"at most the pattern's {pattern}"
        )
    if len(geometry.oversampling) != len(pattern) or min(geometry.oversampling) < 1:
        raise DataError(
            where,
            "oversampling",
            found=geometry.oversampling,
            expected=f"{len(pattern)} numbers of 1 or more",
        )
    if scan.valid is not None:
        _expect_shape(where, "valid", scan.valid, scan.data.shape)
    for index, counts in enumerate(scan.data):
        used = counts if scan.valid is None else counts[scan.valid[index]]
        if (used < 0).any():
            raise DataError(
                where,
                "pattern",
                found=f"{int((used < 0).sum())} negative counts in pattern {index}",
                expected="counts of 0 or more",
                hint="some detectors mark dead pixels so: name them in a mask",
            )
        if not used.any():
            raise DataError(
                where, "pattern", found=f"no count in pattern {index}", expected="a pattern"
            )


def _check_fan(where: Path, geometry: FanGeometry) -> None:
    half = 0.5 * math.hypot(*geometry.image_shape) * geometry.pixel_size
    if not geometry.source_distance > half:
        raise DataError(
            where,
            "source_distance",
            found=f"{geometry.source_distance:g} mm: the source is inside the image, whose corners "
            f"lie {half:.4g} mm from the axis",
            expected="more than that",
            hint="check the unit (mm) and pixel_size",
        )
    if not geometry.detector_distance >= 0:
        raise DataError(
            where,
            "detector_distance",
            found=f"{geometry.detector_distance:g} mm",
            expected="0 or more, from the axis to the detector",
            hint="source_detector_distance is that from the source",
        )


def _check_ct(scan: Scan, geometry: CTGeometry) -> None:
    where, full = scan.source, scan.data.shape
    if isinstance(geometry, FanGeometry):
        _check_fan(where, geometry)
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
            if name != "valid" and (array < 0).any():
                raise DataError(
                    where,
                    name,
                    found=f"{int((array < 0).sum())} negative values",
                    expected="counts of 0 or more",
                )
    for index, sinogram in enumerate(scan.data):
        used = sinogram if scan.valid is None else sinogram[scan.valid[index]]
        if used.size == 0 or np.ptp(used) == 0:
            raise DataError(
                where,
                "data",
                found=f"a constant sinogram in slice {index}",
                expected="projections of an object",
            )
