"""From a bare array and its side-car to a scan; shared by the formats without a layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import check_finite
from sciinv.data.formats.arrays import locate, read_any_array, read_ref, to_order
from sciinv.data.formats.ct import ct_scan
from sciinv.data.formats.diffraction import diffraction_scan
from sciinv.data.formats.mri import mri_scan
from sciinv.data.formats.noncartesian import noncartesian_scan
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Angles, Sidecar, template
from sciinv.data.sidecar_schema import AXES
from sciinv.errors import DataError

__all__ = ["read_angles", "scan_of_array"]


def scan_of_array(path: Path, sidecar: Sidecar | None, form: str) -> Scan:
    """Read the array(s) that the side-car names and build the scan.

    :raises DataError: no side-car (the message carries a template), a wrong number of axes, wrong
        dtype, arrays that do not fit each other.
    """
    if sidecar is None:
        array = read_any_array(path, None)
        text = template(array.shape, array.dtype.kind == "c")
        raise DataError(
            path,
            found=f"a bare array, shape {array.shape}, {array.dtype}",
            expected="a side-car: a small text file that says what its axes and units are",
            hint=f"write {path.name}.toml next to it, for example\n{text}\n",
        )
    if not sidecar.axes:
        raise DataError(
            sidecar.path, "axes", found="no such key", expected="the names of the array's axes"
        )
    array = read_ref(path, sidecar, "data")
    order = AXES[sidecar.kind]
    array, axes = to_order(array, sidecar.axes, order, path, sidecar.path)
    if sidecar.kind == "diffraction":
        return diffraction_scan(path, sidecar, array, axes, form)
    if sidecar.kind == "mri":
        return _mri(path, sidecar, array, axes, form)
    return _ct(path, sidecar, array, axes, form)


def _mri(
    path: Path, sidecar: Sidecar, array: NDArray[Any], axes: tuple[str, ...], form: str
) -> Scan:
    if axes and axes[-1] == "part":
        if array.shape[-1] != 2:
            raise DataError(
                path, "part", found=f"length {array.shape[-1]}", expected="2 (real, imaginary)"
            )
        array, axes = array[..., 0] + 1j * array[..., 1], axes[:-1]
    if sidecar.trajectory is not None:
        return noncartesian_scan(path, sidecar, array, axes, form)
    strange = [name for name in axes if name in ("shot", "sample", "dim")]
    if strange:
        raise DataError(
            sidecar.path,
            "mri.trajectory",
            found=f"no such table, and the axis {strange[0]!r}",
            expected='for example [mri.trajectory] file = "trajectory.npy"',
        )
    if "row" not in axes or "column" not in axes:
        raise DataError(sidecar.path, "axes", found=list(axes), expected='"row" and "column"')
    if array.dtype.kind != "c":
        raise DataError(
            path,
            "kspace",
            found=f"dtype {array.dtype}",
            expected="complex numbers",
            hint='real and imaginary parts along an axis are named "part" in axes',
        )
    for position, name in enumerate(("slice", "coil")):
        if name not in axes:
            array = np.expand_dims(array, position)
            axes = (*axes[:position], name, *axes[position:])
    spatial = axes[2:]
    readout = sidecar.readout_axis
    if readout not in (None, "none", *spatial):
        raise DataError(
            sidecar.path, "mri.readout_axis", found=readout, expected=f"one of {list(spatial)}"
        )
    mask = read_ref(path, sidecar, "mask") if "mask" in sidecar.arrays else None
    maps = read_ref(path, sidecar, "coil_maps") if "coil_maps" in sidecar.arrays else None
    shape = array.shape[2:]
    if sidecar.dc_first:
        over = tuple(range(-len(spatial), 0))
        array = np.fft.fftshift(array, axes=over)
        mask = None if mask is None else np.fft.fftshift(mask, axes=over)
    if maps is not None and maps.shape == (*array.shape[1:],):
        maps = np.broadcast_to(maps, array.shape)
    if mask is not None and mask.shape not in (shape, (array.shape[0], *shape)):
        raise DataError(path, "mask", found=f"shape {mask.shape}", expected=f"shape {shape}")
    return mri_scan(
        path,
        form,
        array,
        mask=mask,
        voxel_size=sidecar.voxel_size,
        readout_axis=spatial.index(readout) if readout in spatial else None,
        guess_readout=readout is None,
        coil_maps=maps,
        noise_std=sidecar.noise_std,
    )


def _ct(
    path: Path, sidecar: Sidecar, array: NDArray[Any], axes: tuple[str, ...], form: str
) -> Scan:
    if sidecar.quantity is None:
        raise DataError(
            sidecar.path,
            "quantity",
            found="no such key",
            expected='"line_integrals" or "counts"',
        )
    if axes not in (("angle", "detector"), ("slice", "angle", "detector")):
        raise DataError(
            sidecar.path,
            "axes",
            found=list(sidecar.axes),
            expected='"angle" and "detector", and perhaps "slice"',
        )
    if array.dtype.kind not in "fiu":
        raise DataError(path, "data", found=f"dtype {array.dtype}", expected="real numbers")
    check_finite(array, path, "data")
    array = array if array.ndim == 3 else array[None]
    flat = dark = None
    if sidecar.quantity == "counts":
        if array.min() < 0 and "dark" not in sidecar.arrays and sidecar.photon_counts is not False:
            raise DataError(
                path,
                "data",
                found=f"{int((array < 0).sum())} negative counts",
                expected="counts of 0 or more",
                hint="if the dark signal has been subtracted already, say photon_counts = false",
            )
        if "blank" not in sidecar.arrays:
            raise DataError(
                sidecar.path, "blank", found="no such table", expected="[blank] file = ..."
            )
        flat = _beam(path, sidecar, "blank", array.shape)
        dark = _beam(path, sidecar, "dark", array.shape) if "dark" in sidecar.arrays else None
    values, unit = read_angles(path, sidecar, array.shape[1])
    return ct_scan(path, form, array, values, unit, sidecar=sidecar, flat=flat, dark=dark)


def _beam(path: Path, sidecar: Sidecar, field: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read a blank or dark field and bring it to an array that broadcasts to the data."""
    array = read_ref(path, sidecar, field)
    if array.dtype.kind not in "fiu":
        raise DataError(path, field, found=f"dtype {array.dtype}", expected="real numbers")
    check_finite(array, path, field)
    axes = sidecar.arrays[field].axes
    if axes is None:
        if array.size == 1:
            return array.reshape(1, 1, 1)
        if array.ndim == len(sidecar.axes):
            axes = sidecar.axes
        elif array.ndim == 1 or (array.ndim == 2 and 1 in array.shape):
            axes = ("detector",)
        else:
            raise DataError(
                sidecar.path,
                f"{field}.axes",
                found=f"no such key, and an array of shape {array.shape}",
                expected="the names of its axes",
            )
    array, axes = to_order(array, axes, AXES["ct"], path, sidecar.path)
    if "frame" in axes:
        array = array.mean(axis=axes.index("frame"), dtype=np.float64)
        axes = tuple(name for name in axes if name != "frame")
    for position, name in enumerate(("slice", "angle", "detector")):
        if name not in axes:
            array = np.expand_dims(array, position)
            axes = (*axes[:position], name, *axes[position:])
    for have, want, name in zip(array.shape, shape, axes, strict=True):
        if have not in (1, want):
            raise DataError(path, f"{field}, {name}", found=have, expected=f"{want} as the data")
    return array


def read_angles(path: Path, sidecar: Sidecar, count: int) -> tuple[NDArray[np.float64], str | None]:
    """Return the angles of a side-car as they are written, and their unit.

    :param count: number of projections, for the hint if there are no angles.
    :raises DataError: no angles, or a file of angles that is missing or not numeric.
    """
    angles = sidecar.angles
    if angles is None:
        raise DataError(
            sidecar.path,
            "ct.angles",
            found="no such key",
            expected=f'for example {{ start = 0.0, stop = 180.0, count = {count}, unit = "deg" }}',
        )
    if angles.ref is not None:
        located = locate(path, sidecar, angles.ref, "ct.angles")
        values = np.asarray(read_any_array(located, angles.ref.name))
        if values.dtype.kind not in "fiu":
            raise DataError(located, "angles", found=f"dtype {values.dtype}", expected="numbers")
        return values.astype(np.float64).reshape(-1), angles.unit
    if angles.values is not None:
        return np.asarray(angles.values), angles.unit
    return _regular(angles), angles.unit


def _regular(angles: Angles) -> NDArray[np.float64]:
    count = angles.count or 1
    if angles.step is not None:
        return angles.start + angles.step * np.arange(count, dtype=np.float64)
    stop = angles.start if angles.stop is None else angles.stop
    return np.linspace(angles.start, stop, count, endpoint=angles.endpoint, dtype=np.float64)
