"""Retrospective undersampling of measured scans."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.masks import Pattern, cartesian_mask
from sciinv.data.scan import CTGeometry, MRIGeometry, NonCartesianGeometry, Scan
from sciinv.errors import DataError

__all__ = ["undersample"]


def undersample(
    scan: Scan,
    acceleration: float = 4.0,
    *,
    calibration_lines: int = 16,
    pattern: Pattern = "variable_density",
    mask: NDArray[np.bool_] | None = None,
    offset: int = 0,
    rng: np.random.Generator | int | None = None,
) -> Scan:
    """Keep a part of a measured scan: k-space lines, or every n-th shot or projection.

    The reference of the scan is kept; a fully sampled MRI scan without one gets the root sum of
    squares of its coil images.

    :param scan: MRI or CT.
    :param acceleration: Cartesian MRI: see :func:`~sciinv.data.masks.cartesian_mask`; other
        trajectories and CT: an integer n, keeping every n-th shot or angle in the order of the
        file.
    :param calibration_lines: Cartesian MRI.
    :param pattern: Cartesian MRI.
    :param mask: Cartesian MRI: bool ``image_shape`` instead of a drawn one. Positions that the
        scan itself lacks stay unsampled.
    :param offset: index of the first shot or angle that is kept.
    :param rng: Cartesian MRI: generator or seed.
    :raises DataError: if nothing or too little would be left.
    """
    geometry = scan.geometry
    if isinstance(geometry, CTGeometry):
        return _fewer_angles(scan, geometry, acceleration, offset)
    if isinstance(geometry, NonCartesianGeometry):
        return _fewer_shots(scan, geometry, acceleration, offset)
    if not isinstance(geometry, MRIGeometry):
        raise DataError(
            scan.source, "undersample", found="a diffraction pattern", expected="MRI or CT"
        )
    shape = tuple(geometry.image_shape)
    if mask is None:
        readout = geometry.readout_axis
        mask = cartesian_mask(
            shape, acceleration, calibration_lines, rng, pattern, readout_axis=readout
        )
    elif mask.shape != shape:
        raise DataError(scan.source, "mask", found=f"shape {mask.shape}", expected=f"{shape}")
    kept = geometry.mask & mask
    if not kept.reshape(-1, math.prod(shape)).any(axis=1).all():
        raise DataError(scan.source, "mask", found="no sampled position left", expected="some")
    reference = scan.reference
    if reference is None and geometry.mask.all():
        coil_images = _ifft(scan.data, len(shape))
        reference = np.sqrt((np.abs(coil_images) ** 2).sum(1)).astype(np.float32)
    # (slices or nothing, *shape) against (slices, coils, *shape)
    over_coils = kept[:, None] if kept.ndim > len(shape) else kept
    rate = kept.size / kept.sum()
    return scan.with_(
        data=np.where(over_coils, scan.data, 0).astype(scan.data.dtype),
        geometry=MRIGeometry(
            image_shape=shape,
            mask=kept,
            voxel_size=geometry.voxel_size,
            readout_axis=None
            if pattern == "poisson" and len(shape) == 2
            else geometry.readout_axis,
        ),
        reference=reference,
        notes=(*scan.notes, f"retrospectively undersampled {rate:.1f} times"),
    )


def _every(scan: Scan, acceleration: float, offset: int, total: int) -> slice:
    step = int(acceleration)
    if step != acceleration or step < 1 or not 0 <= offset < total:
        raise DataError(
            scan.source,
            "undersample",
            found=f"acceleration {acceleration:g}, offset {offset}",
            expected=f"an integer of 1 or more and an offset below {total}",
        )
    return slice(offset, None, step)


def _fewer_angles(scan: Scan, geometry: CTGeometry, acceleration: float, offset: int) -> Scan:
    total = len(geometry.angles)
    keep = _every(scan, acceleration, offset, total)
    changes: dict[str, Any] = {
        key: value[:, keep]
        for key in ("valid", "counts", "blank")
        if (value := getattr(scan, key)) is not None
    }
    fewer = replace(geometry, angles=geometry.angles[keep])
    note = f"retrospectively undersampled: {len(fewer.angles)} of {total} angles"
    return scan.with_(data=scan.data[:, keep], geometry=fewer, notes=(*scan.notes, note), **changes)


def _fewer_shots(
    scan: Scan, geometry: NonCartesianGeometry, acceleration: float, offset: int
) -> Scan:
    total = geometry.num_shots
    keep = _every(scan, acceleration, offset, total)
    density, times = geometry.density, geometry.readout_times
    if density is not None and density[keep].any():
        # fewer samples stand for the same area
        density = density * np.float32(density.sum() / density[keep].sum())
    fewer = replace(
        geometry,
        trajectory=geometry.trajectory[keep],
        density=None if density is None else density[keep],
        readout_times=None if times is None else times[keep],
    )
    note = f"retrospectively undersampled: {fewer.num_shots} of {total} shots"
    return scan.with_(data=scan.data[:, :, keep], geometry=fewer, notes=(*scan.notes, note))


def _ifft(k: NDArray[Any], ndim: int) -> NDArray[np.complex128]:
    axes = tuple(range(-ndim, 0))
    image = np.fft.ifftn(np.fft.ifftshift(k, axes=axes), axes=axes, norm="ortho")
    return np.asarray(np.fft.fftshift(image, axes=axes), dtype=np.complex128)
