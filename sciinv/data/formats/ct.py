"""The last step of every CT reader: correction, angles, axis, affine, scan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import ASSUMED_ORIENTATION, assumed_affine, to_radians
from sciinv.data.correct import find_rotation_axis, flat_field, looks_like_photon_counts
from sciinv.data.correct_fan import find_fan_axis_shift
from sciinv.data.scan import CTGeometry, FanGeometry, ParallelGeometry, Scan
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
    if sidecar is not None:
        if sidecar.direction == "clockwise":
            radians = -radians
        radians, data, flat, dark = _fewer_views(
            sidecar.view_step, radians, data, flat, dark, found
        )
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
    geometry, units = _geometry(path, sidecar, integrals, radians, found)
    found.append(ASSUMED_ORIENTATION)
    return Scan(
        kind="ct",
        data=integrals,
        geometry=geometry,
        format=form,
        source=path,
        units=units,
        affine=assumed_affine(
            (data.shape[0], *geometry.image_shape),
            (geometry.slice_spacing, geometry.pixel_size, geometry.pixel_size),
            fourier_centre=False,
        ),
        valid=valid,
        counts=counts,
        blank=blank,
        noise_std=sidecar.noise_std if sidecar is not None else None,
        notes=tuple(found),
        header=header or {},
    )


def _fewer_views(
    step: int,
    radians: NDArray[np.float64],
    data: NDArray[Any],
    flat: NDArray[Any] | None,
    dark: NDArray[Any] | None,
    notes: list[str],
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]:
    """Keep every ``step``-th view."""
    if step == 1:
        return radians, data, flat, dark
    keep = slice(None, None, step)
    notes.append(f"1 of {step} views is used: {len(radians[keep])} of {len(radians)}")
    beams = [
        beam[:, keep] if beam is not None and beam.ndim == 3 and beam.shape[1] > 1 else beam
        for beam in (flat, dark)
    ]
    return radians[keep], data[:, keep], beams[0], beams[1]


def _geometry(
    path: Path,
    sidecar: Sidecar | None,
    integrals: NDArray[np.float32],
    radians: NDArray[np.float64],
    notes: list[str],
) -> tuple[CTGeometry, str]:
    """Return the geometry and the unit of attenuation."""
    columns = integrals.shape[2]
    fan = sidecar is not None and sidecar.beam == "fan"
    source, detector = _distances(sidecar) if sidecar is not None and fan else (0.0, 0.0)
    magnification = (source + detector) / source if fan else 1.0
    spacing, pixel, units = _lengths(sidecar, magnification, notes)
    shape = (sidecar.image_shape if sidecar is not None else None) or (columns, columns)
    common: dict[str, Any] = {
        "angles": radians,
        "num_detectors": columns,
        "detector_spacing": spacing,
        "image_shape": (shape[0], shape[1]),
        "pixel_size": pixel,
        "slice_spacing": (sidecar.slice_spacing if sidecar is not None else None)
        or spacing / magnification,
    }
    if sidecar is None or not fan:
        shift = _axis_shift(sidecar, integrals, radians, columns, spacing, notes)
        return ParallelGeometry(axis_shift=shift, **common), units
    offset = sidecar.detector_offset or 0.0
    geometry = FanGeometry(
        source_distance=source, detector_distance=detector, detector_offset=offset, **common
    )
    return replace(geometry, axis_shift=_fan_axis(sidecar, geometry, integrals, notes)), units


def _distances(sidecar: Sidecar) -> tuple[float, float]:
    """Return source to axis and axis to detector, mm."""
    source, total = sidecar.source_distance, sidecar.source_detector_distance
    detector = sidecar.detector_distance
    if source is None or (detector is None and total is None) or sidecar.detector_spacing is None:
        given = {
            "ct.source_distance": source,
            "ct.detector_distance or ct.source_detector_distance": detector or total,
            "ct.detector_spacing": sidecar.detector_spacing,
        }
        raise DataError(
            sidecar.path,
            next(name for name, value in given.items() if value is None),
            found="no such key",
            expected='mm, needed with beam = "fan"',
        )
    if detector is None and total is not None:
        detector = total - source
    if detector is None or detector < 0:
        raise DataError(
            sidecar.path,
            "ct.source_detector_distance",
            found=f"{total} mm, below source_distance = {source}",
            expected="more than source_distance",
            hint="detector_distance is that from the axis",
        )
    return source, detector


def _fan_axis(
    sidecar: Sidecar, geometry: FanGeometry, integrals: NDArray[np.float32], notes: list[str]
) -> float:
    """Return the stated axis shift (mm at the axis), or the one found in the middle slice."""
    if sidecar.axis_shift is not None:
        return sidecar.axis_shift
    centre = (geometry.num_detectors - 1) / 2
    if sidecar.axis_column is not None:
        u = (sidecar.axis_column - centre) * geometry.detector_spacing + geometry.detector_offset
        return u / geometry.magnification
    # where the axis lands if it is on the ray through the middle of the detector
    middle = geometry.detector_offset / geometry.magnification
    try:
        shift = find_fan_axis_shift(
            integrals[len(integrals) // 2],
            geometry.angles,
            geometry.source_distance,
            geometry.detector_distance,
            geometry.detector_spacing,
            detector_offset=geometry.detector_offset,
        )
    except DataError as error:
        notes.append(f"rotation axis assumed in the detector centre, column {centre:g} ({error})")
        return middle
    u = shift * geometry.magnification - geometry.detector_offset
    notes.append(
        f"the rotation axis is not stated: found at column "
        f"{u / geometry.detector_spacing + centre:.1f} (detector centre {centre:g})"
    )
    return shift


def _lengths(
    sidecar: Sidecar | None, magnification: float, notes: list[str]
) -> tuple[float, float, str]:
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
    return spacing, spacing / magnification if pixel is None else pixel, "1/mm"


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
