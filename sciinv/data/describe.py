"""What a scan is, in words: one line, and the lines of ``sciinv info``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sciinv.data.scan import (
    CTGeometry,
    DiffractionGeometry,
    FanGeometry,
    MRIGeometry,
    NonCartesianGeometry,
    Scan,
)

__all__ = ["describe", "details"]


def describe(scan: Scan) -> str:
    """Say in a line what a scan is."""
    shape = _times(scan.image_shape)
    stack = f"{scan.num_slices} slices, " if scan.num_slices > 1 else ""
    dims = f"{len(scan.image_shape)}D"
    g = scan.geometry
    if isinstance(g, MRIGeometry):
        return (
            f"{scan.format}: {dims} Cartesian MRI, {stack}{shape}, {_coils(scan)}, "
            f"R = {scan.acceleration:.2g}"
        )
    if isinstance(g, NonCartesianGeometry):
        return (
            f"{scan.format}: {dims} non-Cartesian MRI, {stack}{shape}, {_coils(scan)}, "
            f"{g.num_shots} shots x {g.num_samples} samples, R = {scan.acceleration:.2g}"
        )
    if isinstance(g, DiffractionGeometry):
        ratio = " x ".join(f"{r:.3g}" for r in g.oversampling)
        return (
            f"{scan.format}: {dims} diffraction, {stack}pattern {_times(g.pattern_shape)}, "
            f"image {shape}, oversampling {ratio}"
        )
    beam = "fan" if isinstance(g, FanGeometry) else "parallel"
    return (
        f"{scan.format}: {beam}-beam CT, {stack}{len(g.angles)} angles x {g.num_detectors} "
        f"detectors, image {shape}, axis at {g.axis_shift:+.4g}"
    )


def details(scan: Scan) -> list[tuple[str, str]]:
    """Pairs of a name and what there is to say about it, geometry first."""
    g = scan.geometry
    rows: list[tuple[str, str]] = [
        ("data", f"{'x'.join(map(str, scan.data.shape))} {scan.data.dtype}")
    ]
    if isinstance(g, MRIGeometry):
        rows.append(("voxel", _voxel(g.voxel_size)))
        rows.append(("mask", f"{g.mask.mean():.1%} of k-space sampled"))
        readout = "unknown" if g.readout_axis is None else f"image axis {g.readout_axis}"
        rows.append(("readout", readout))
    elif isinstance(g, NonCartesianGeometry):
        rows += _trajectory(g)
    elif isinstance(g, DiffractionGeometry):
        rows += _pattern(scan, g)
    else:
        rows += _projections(g)
    if scan.valid is not None and not isinstance(g, DiffractionGeometry):
        rows.append(("masked", f"{1 - scan.valid.mean():.2%} of the samples"))
    rows.append(("units", scan.units))
    if scan.noise_std is not None:
        rows.append(("noise", f"{scan.noise_std:.4g} per real component (stated)"))
    return rows


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _coils(scan: Scan) -> str:
    return f"{scan.num_coils} coil" + ("s" if scan.num_coils != 1 else "")


def _voxel(sizes: tuple[float, float, float]) -> str:
    return " x ".join(f"{v:.4g}" for v in sizes) + " mm (slice, row, column)"


def _trajectory(g: NonCartesianGeometry) -> list[tuple[str, str]]:
    extent: NDArray[np.float64] = np.abs(g.trajectory).reshape(-1, g.trajectory.shape[-1]).max(0)
    reach = " x ".join(f"{e:.4g}" for e in extent)
    half = " x ".join(f"{n / 2:g}" for n in g.image_shape)
    field = [n * v for n, v in zip(g.image_shape, g.voxel_size[-len(g.image_shape) :], strict=True)]
    rows = [
        ("voxel", _voxel(g.voxel_size)),
        ("fov", " x ".join(f"{length:.4g}" for length in field) + " mm"),
        ("k-space", f"up to {reach} cycles/FOV, the grid ends at {half}"),
        ("density", "weights in the file" if g.density is not None else "no weights in the file"),
    ]
    if g.readout_times is not None:
        low, high = 1e3 * g.readout_times.min(), 1e3 * g.readout_times.max()
        rows.append(("readout", f"{low:.4g} to {high:.4g} ms"))
    if g.field_map is not None:
        rows.append(("field", f"{g.field_map.min():+.4g} to {g.field_map.max():+.4g} Hz"))
    return rows


def _projections(g: CTGeometry) -> list[tuple[str, str]]:
    low, high = np.rad2deg(g.angles.min()), np.rad2deg(g.angles.max())
    rows = [
        ("angles", f"{len(g.angles)}, {low:.4g} to {high:.4g} degrees"),
        ("detector", f"{g.num_detectors} x {g.detector_spacing:.4g} mm"),
    ]
    if isinstance(g, FanGeometry):
        rows.append(("source", f"{g.source_distance:.5g} mm to the axis"))
        rows.append(("distance", f"{g.detector_distance:.5g} mm from the axis to the detector"))
        rows.append(("magnified", f"{g.magnification:.4g} times"))
        rows.append(("axis", f"{g.axis_shift:+.5g} mm beside the middle, at the axis"))
        rows.append(("offset", f"{g.detector_offset:+.5g} mm of the detector"))
    else:
        rows.append(("axis", f"{g.axis_shift:+.5g} mm from the middle of the detector"))
    rows.append(("pixel", f"{g.pixel_size:.4g} mm"))
    return rows


def _pattern(scan: Scan, g: DiffractionGeometry) -> list[tuple[str, str]]:
    total, largest = float(scan.data.sum(dtype=np.float64)), float(scan.data.max())
    bad = 0.0 if scan.valid is None else 1 - float(scan.valid.mean())
    return [
        ("counts", f"{total:.4g} in all, {largest:.4g} at most"),
        ("masked", f"{bad:.2%} of the pattern" if bad else "nothing"),
        ("pixel", _voxel(g.pixel_size)),
    ]
