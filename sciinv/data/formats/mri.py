"""The last step of every Cartesian MRI reader: mask, readout axis, affine, scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import ASSUMED_ORIENTATION, assumed_affine, check_finite
from sciinv.data.kspace_checks import suspect_axes
from sciinv.data.scan import MRIGeometry, Scan
from sciinv.errors import DataError

__all__ = ["guess_readout_axis", "layout_notes", "mri_scan"]

# samples of one slice above which its layout is not looked at: it takes several transforms
_LARGEST = 2**25
# pixels below which nothing can be told
_SMALLEST = 16


def layout_notes(
    kspace: NDArray[np.complex64], mask: NDArray[np.bool_], coil_maps: NDArray[Any] | None
) -> tuple[str, ...]:
    """Say what looks like a mistake in the layout: axes, centring, maps.

    These are suspicions, so they are notes and never errors.
    """
    if kspace[0].size > _LARGEST or not kspace.any() or min(kspace.shape[2:]) < _SMALLEST:
        return ()
    try:
        found = suspect_axes(kspace, coil_maps, mask)
    except DataError:
        return ()  # a form that cannot be judged; what is wrong for sure is refused elsewhere
    return tuple(f"suspicious: {finding}" for finding in found)


def guess_readout_axis(mask: NDArray[np.bool_]) -> int | None:
    """Return the axis along which every sampled line is complete, if there is exactly one.

    :param mask: ``image_shape``; a fully sampled mask has no such single axis.
    """
    found = []
    for axis in range(mask.ndim):
        lines = mask.any(axis=axis)
        if np.array_equal(mask, np.broadcast_to(np.expand_dims(lines, axis), mask.shape)):
            found.append(axis)
    return found[0] if len(found) == 1 else None


def mri_scan(
    path: Path,
    form: str,
    kspace: NDArray[Any],
    *,
    mask: NDArray[Any] | None = None,
    voxel_size: tuple[float, float, float] | None = None,
    readout_axis: int | None = None,
    guess_readout: bool = True,
    coil_maps: NDArray[Any] | None = None,
    noise_std: float | None = None,
    reference: NDArray[Any] | None = None,
    header: dict[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> Scan:
    """Build the scan of centred Cartesian k-space ``(slices, coils, *image_shape)``.

    Without a mask a position counts as sampled where any coil of any slice is not exactly zero.

    :param mask: ``image_shape`` or ``(slices, *image_shape)``; nonzero means sampled.
    :param voxel_size: mm ``(slice, row, column)``; 1 mm each and a note if unknown.
    :param readout_axis: spatial axis of the readout; guessed from the mask if that is allowed.
    :raises DataError: NaN or Inf, coil maps of another size.
    """
    kspace = np.asarray(kspace, dtype=np.complex64)
    check_finite(kspace, path, "kspace")
    shape = kspace.shape[2:]
    if mask is None:
        sampled = np.any(kspace != 0, axis=(0, 1))
    else:
        check_finite(np.asarray(mask), path, "mask")
        sampled = np.asarray(mask) != 0
        inside = sampled if sampled.ndim == len(shape) else sampled[:, None]
        kspace = np.where(inside, kspace, np.complex64(0))
    flat_mask = sampled if sampled.ndim == len(shape) else sampled.any(axis=0)
    if readout_axis is None and guess_readout:
        readout_axis = guess_readout_axis(flat_mask)
    if voxel_size is None:
        voxel_size = (1.0, 1.0, 1.0)
        notes = (*notes, "the file states no voxel size: 1 mm assumed")
    notes = (*notes, ASSUMED_ORIENTATION)
    if coil_maps is not None:
        maps = np.asarray(coil_maps)
        if maps.shape != kspace.shape or maps.dtype.kind not in "cf":
            raise DataError(
                path,
                "coil_maps",
                found=f"shape {maps.shape}, {maps.dtype}",
                expected=f"shape {kspace.shape} or {kspace.shape[1:]}, complex",
            )
        coil_maps = maps.astype(np.complex64)
    notes = (*notes, *layout_notes(kspace, sampled, coil_maps))
    grid = (shape[0] if len(shape) == 3 else kspace.shape[0], *shape[-2:])
    return Scan(
        kind="mri",
        data=kspace,
        geometry=MRIGeometry(shape, sampled, voxel_size, readout_axis),
        format=form,
        source=path,
        units="a.u.",
        affine=assumed_affine(grid, voxel_size, fourier_centre=True),
        noise_std=noise_std,
        coil_maps=coil_maps,
        reference=reference,
        notes=notes,
        header=header or {},
    )
