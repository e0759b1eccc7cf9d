"""The last step of every parallel-beam CT reader: correction, angles, axis, affine, scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import ASSUMED_ORIENTATION, assumed_affine, to_radians
from sciinv.data.correct import find_rotation_axis, flat_field, looks_like_photon_counts
from sciinv.data.scan import ParallelGeometry, Scan
from sciinv.data.sidecar import Sidecar
from sciinv.errors import DataError

__all__ = ["ct_scan"]


def ct_scan(
    path: Path,
    form: str,
    data: NDArray[Any],
    angles: NDArray[np.float64],
    unit: str | None,
    *,
    sidecar: Sidecar | None = None,
    flat: NDArray[Any] | None = None,
    dark: NDArray[Any] | None = None,
    notes: tuple[str, ...] = (),
    header: dict[str, str] | None = None,
) -> Scan:
    """Build a scan from projections ``(slices, angles, detectors)``.

    :param data: line integrals, or detector signal if ``flat`` is given.
    :param angles: as in the file, in ``unit`` (``None``: not stated).
    :param sidecar: its lengths, axis and noise are used where given.
    :param flat: open beam, broadcasts to ``data``.
    :param dark: closed beam, broadcasts to ``data``.
    :raises DataError: number of angles, unit, dark above flat, too few counts.
    """
    if len(angles) != data.shape[1]:
        raise DataError(
            path,
            "angles",
            found=f"{len(angles)} angles",
            expected=f"{data.shape[1]}, the number of projections",
        )
    radians, note = to_radians(angles, unit, path, "angles")
    found = [*notes, *([note] if note else [])]
    valid = counts = blank = None
    if flat is None:
        integrals = np.asarray(data, dtype=np.float32)
    else:
        corrected = flat_field(data, flat, 0.0 if dark is None else dark, where=path)
        integrals, valid = corrected.line_integrals, corrected.valid
        photons = sidecar.photon_counts if sidecar is not None else None
        if photons is None:
            photons = dark is None and looks_like_photon_counts(data)
            if photons:
                found.append("the signal scatters like photon counts and is treated as such")
        if photons:
            counts, blank = corrected.counts, corrected.blank
        lost = int(valid.size - np.count_nonzero(valid))
        if lost:
            found.append(f"{lost} of {valid.size} samples without counts are masked")
        if valid.all():
            valid = None
    columns = data.shape[2]
    spacing, pixel, units = _lengths(sidecar, found)
    shift = _axis_shift(sidecar, integrals, radians, columns, spacing, found)
    shape = (sidecar.image_shape if sidecar is not None else None) or (columns, columns)
    slices = (sidecar.slice_spacing if sidecar is not None else None) or spacing
    found.append(ASSUMED_ORIENTATION)
    return Scan(
        kind="ct",
        data=integrals,
        geometry=ParallelGeometry(
            angles=radians,
            num_detectors=columns,
            detector_spacing=spacing,
            image_shape=shape,
            pixel_size=pixel,
            axis_shift=shift,
            slice_spacing=slices,
        ),
        format=form,
        source=path,
        units=units,
        affine=assumed_affine(
            (data.shape[0], *shape), (slices, pixel, pixel), fourier_centre=False
        ),
        valid=valid,
        counts=counts,
        blank=blank,
        noise_std=sidecar.noise_std if sidecar is not None else None,
        notes=tuple(found),
        header=header or {},
    )


def _lengths(sidecar: Sidecar | None, notes: list[str]) -> tuple[float, float, str]:
    """Return detector spacing, pixel size and the unit of attenuation."""
    spacing = sidecar.detector_spacing if sidecar is not None else None
    pixel = sidecar.pixel_size if sidecar is not None else None
    if spacing is None:
        spacing = pixel
    if spacing is None:
        notes.append(
            "the detector spacing is unknown: lengths are in detector pixels, attenuation in "
            "1/pixel (state detector_spacing in a side-car)"
        )
        return 1.0, 1.0, "1/pixel"
    return spacing, spacing if pixel is None else pixel, "1/mm"


def _axis_shift(
    sidecar: Sidecar | None,
    integrals: NDArray[np.float32],
    radians: NDArray[np.float64],
    columns: int,
    spacing: float,
    notes: list[str],
) -> float:
    """Return the stated axis shift (mm), or the one found in the middle slice."""
    centre = (columns - 1) / 2
    if sidecar is not None and sidecar.axis_shift is not None:
        return sidecar.axis_shift
    if sidecar is not None and sidecar.axis_column is not None:
        return (sidecar.axis_column - centre) * spacing
    try:
        column = find_rotation_axis(integrals[len(integrals) // 2], radians)
    except DataError as error:
        notes.append(f"rotation axis assumed in the detector centre, column {centre:g} ({error})")
        return 0.0
    notes.append(
        f"the rotation axis is not stated: found at column {column:.1f} "
        f"(detector centre {centre:g})"
    )
    return (column - centre) * spacing
