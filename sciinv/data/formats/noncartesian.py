"""From samples along a trajectory and a side-car to a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import ASSUMED_ORIENTATION, assumed_affine, check_finite
from sciinv.data.formats.arrays import locate, read_any_array, read_ref, to_order
from sciinv.data.scan import NonCartesianGeometry, Scan
from sciinv.data.sidecar import Sidecar, Trajectory
from sciinv.data.sidecar_schema import AXES
from sciinv.data.trajectory import UNITS, scaled_density, to_cycles
from sciinv.errors import DataError

__all__ = ["noncartesian_scan"]

_SHOTS = ("shot", "sample")


def noncartesian_scan(
    path: Path, sidecar: Sidecar, array: NDArray[Any], axes: tuple[str, ...], form: str
) -> Scan:
    """Build the scan of complex samples whose axes are among slice, coil, shot, sample.

    :raises DataError: other axes, a trajectory of another size, unit or extent, weights that are
        negative, a missing image shape or field of view.
    """
    allowed = ("slice", "coil", "shot", "sample")
    if "sample" not in axes or any(name not in allowed for name in axes):
        raise DataError(
            sidecar.path,
            "axes",
            found=list(sidecar.axes),
            expected='"sample", and perhaps "shot", "coil", "slice" beside a trajectory',
        )
    if array.dtype.kind != "c":
        raise DataError(
            path,
            "kspace",
            found=f"dtype {array.dtype}",
            expected="complex numbers",
            hint='real and imaginary parts along an axis are named "part" in axes',
        )
    check_finite(array, path, "kspace")
    for position, name in enumerate(allowed):
        if name not in axes:
            array = np.expand_dims(array, position)
            axes = (*axes[:position], name, *axes[position:])
    samples = (array.shape[2], array.shape[3])
    raw, where = _components(path, sidecar, samples)
    shape = _image_shape(sidecar, raw.shape[-1])
    unit = _trajectory(sidecar).unit
    if unit is None:
        raise DataError(
            sidecar.path,
            "mri.trajectory.unit",
            found="no such key",
            expected=" or ".join(f'"{one}"' for one in UNITS),
        )
    notes: list[str] = []
    fov = _fov(sidecar, shape)
    trajectory = to_cycles(raw, unit, fov, shape, where, "trajectory")
    voxel = _voxel_size(sidecar, shape, fov, notes)
    density = _weights(path, sidecar, samples)
    times = _times(path, sidecar, samples)
    field_map = read_ref(path, sidecar, "field_map") if "field_map" in sidecar.arrays else None
    if field_map is not None:
        _real(path, "field_map", field_map)
        if times is None:
            raise DataError(
                sidecar.path,
                "mri.field_map",
                found="no readout times",
                expected="dwell_time (s between samples) or a table [mri.readout_times]",
            )
    maps = read_ref(path, sidecar, "coil_maps") if "coil_maps" in sidecar.arrays else None
    if maps is not None:
        wanted = (*array.shape[:2], *shape)
        if maps.shape not in (wanted, wanted[1:]):
            raise DataError(
                path, "coil_maps", found=f"shape {maps.shape}", expected=f"shape {wanted[1:]}"
            )
        maps = np.broadcast_to(maps, wanted).astype(np.complex64)
    step = sidecar.shot_step
    keep = slice(None, None, step)
    if step > 1:
        kept = len(range(0, samples[0], step))
        notes.append(f"every {_ordinal(step)} shot is used: {kept} of {samples[0]}")
    if density is not None:
        density = _scaled(density[keep], trajectory[keep], notes)
    notes.append(ASSUMED_ORIENTATION)
    grid = (shape[0] if len(shape) == 3 else len(array), *shape[-2:])
    return Scan(
        kind="mri",
        data=np.ascontiguousarray(array[:, :, keep], dtype=np.complex64),
        geometry=NonCartesianGeometry(
            image_shape=shape,
            trajectory=trajectory[keep],
            voxel_size=voxel,
            density=density,
            readout_times=None if times is None else times[keep],
            field_map=None if field_map is None else field_map.astype(np.float32),
        ),
        format=form,
        source=path,
        units="a.u.",
        affine=assumed_affine(grid, voxel, fourier_centre=True),
        noise_std=sidecar.noise_std,
        coil_maps=maps,
        notes=tuple(notes),
    )


def _scaled(
    density: NDArray[np.float32], trajectory: NDArray[np.float64], notes: list[str]
) -> NDArray[np.float32]:
    """Bring the weights of a file to the area of k-space; what is wrong is left to the checks."""
    if (density < 0).any() or not density.any():
        return density
    result, factor = scaled_density(density, trajectory)
    if not 0.95 < factor < 1.05:
        notes.append(f"the density weights are scaled by {factor:.4g}, to the area of k-space")
    return result


def _ordinal(n: int) -> str:
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _trajectory(sidecar: Sidecar) -> Trajectory:
    if sidecar.trajectory is None:  # the caller has looked; this is for the type
        raise DataError(sidecar.path, "mri.trajectory", found="no such table", expected="one")
    return sidecar.trajectory


def _real(path: Path, name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "fiu":
        raise DataError(path, name, found=f"dtype {array.dtype}", expected="real numbers")
    check_finite(array, path, name)


def _components(
    path: Path, sidecar: Sidecar, samples: tuple[int, int]
) -> tuple[NDArray[np.float64], Path]:
    """Read the trajectory as ``(shots, samples, dim)``, components ordered like the image axes."""
    table = _trajectory(sidecar)
    where = locate(path, sidecar, table.ref, "mri.trajectory")
    array = read_any_array(where, table.ref.name)
    axes = table.ref.axes or _default_axes(sidecar, array)
    array, axes = to_order(array, axes, AXES["mri"], where, sidecar.path)
    if any(name not in (*_SHOTS, "dim", "part") for name in axes) or "sample" not in axes:
        raise DataError(
            sidecar.path,
            "mri.trajectory.axes",
            found=list(axes),
            expected='"sample", and perhaps "shot" and "dim"',
        )
    if axes[-1] == "part":
        array, axes = array[..., 0] + 1j * array[..., 1], axes[:-1]
    planar = array.dtype.kind == "c"
    if planar:
        if "dim" in axes:
            raise DataError(
                where, "trajectory", found='complex numbers along "dim"', expected="real numbers"
            )
        array, axes = np.stack([array.real, array.imag], -1), (*axes, "dim")
    elif "dim" not in axes:
        raise DataError(
            where,
            "trajectory",
            found=f"{array.dtype} along {list(axes)}",
            expected='complex kx + i ky, or an axis "dim" with the components',
        )
    _real(where, "trajectory", array)
    if "shot" not in axes:
        array, axes = array[None], ("shot", *axes)
    have = array.shape[0] * array.shape[1]
    if array.shape[1] != samples[1] or array.shape[0] not in (1, samples[0]):
        raise DataError(
            where,
            "trajectory",
            found=f"{array.shape[0]} shots x {array.shape[1]} samples = {have} points",
            expected=f"{samples[0]} x {samples[1]} = {samples[0] * samples[1]} as the data",
        )
    array = np.broadcast_to(array, (*samples, array.shape[2]))
    return _in_image_order(array.astype(np.float64), sidecar, table, planar), where


def _default_axes(sidecar: Sidecar, array: NDArray[Any]) -> tuple[str, ...]:
    """Order of the data's own axes; real components come last."""
    axes = tuple(name for name in sidecar.axes if name in _SHOTS)
    return axes if array.dtype.kind == "c" else (*axes, "dim")


def _in_image_order(
    array: NDArray[np.float64], sidecar: Sidecar, table: Trajectory, planar: bool
) -> NDArray[np.float64]:
    """Sort (and negate) components; in ``kx + i ky`` x runs along the columns if not told."""
    count = array.shape[-1]
    if count not in (2, 3):
        raise DataError(
            sidecar.path,
            "mri.trajectory",
            found=f"{count} components",
            expected="2 or 3, one for each image axis",
        )
    order = ("partition", "row", "column")[-count:]
    dims = table.dims or (("column", "row") if planar else order)
    if sorted(d.lstrip("-") for d in dims) != sorted(order):
        raise DataError(
            sidecar.path,
            "mri.trajectory.dims",
            found=f"{list(dims)} for {count} components",
            expected=f"the image axis of each: a permutation of {list(order)}",
        )
    place = {name.lstrip("-"): index for index, name in enumerate(dims)}
    signs = np.array([-1.0 if f"-{name}" in dims else 1.0 for name in order])
    return np.asarray(array[..., [place[name] for name in order]] * signs)


def _image_shape(sidecar: Sidecar, count: int) -> tuple[int, ...]:
    shape = sidecar.image_shape
    if shape is None:
        raise DataError(
            sidecar.path,
            "mri.image_shape",
            found="no such key",
            expected=f"{count} numbers, the pixels of the image to be reconstructed",
        )
    if len(shape) != count:
        raise DataError(
            sidecar.path,
            "mri.image_shape",
            found=list(shape),
            expected=f"{count} numbers, one for each component of the trajectory",
        )
    return shape


def _fov(sidecar: Sidecar, shape: tuple[int, ...]) -> tuple[float, ...] | None:
    if sidecar.fov is not None:
        if len(sidecar.fov) != len(shape):
            raise DataError(
                sidecar.path,
                "mri.fov",
                found=list(sidecar.fov),
                expected=f"{len(shape)} numbers (mm), one for each image axis",
            )
        return sidecar.fov
    if sidecar.voxel_size is not None:
        sizes = sidecar.voxel_size[-len(shape) :]
        return tuple(n * size for n, size in zip(shape, sizes, strict=True))
    return None


def _voxel_size(
    sidecar: Sidecar, shape: tuple[int, ...], fov: tuple[float, ...] | None, notes: list[str]
) -> tuple[float, float, float]:
    """Return mm (slice, row, column), from either of voxel size and field of view."""
    if fov is None:
        notes.append("neither voxel size nor field of view is stated: 1 mm assumed")
        return (1.0, 1.0, 1.0)
    sizes = [length / n for length, n in zip(fov, shape, strict=True)]
    stated = sidecar.voxel_size
    if stated is not None and not np.allclose(stated[-len(sizes) :], sizes, rtol=0.01):
        raise DataError(
            sidecar.path,
            "mri.voxel_size",
            found=list(stated),
            expected=f"{[float(f'{size:.6g}') for size in sizes]}, mri.fov over mri.image_shape",
        )
    if len(sizes) == 2:
        if stated is None:
            notes.append("the slice thickness is not stated: 1 mm assumed")
        sizes = [1.0 if stated is None else stated[0], *sizes]
    return (sizes[0], sizes[1], sizes[2])


def _per_sample(path: Path, sidecar: Sidecar, name: str, samples: tuple[int, int]) -> NDArray[Any]:
    """Read an array over samples, or over shots and samples, in the order of the data's axes."""
    array = read_ref(path, sidecar, name)
    _real(path, name, array)
    axes = sidecar.arrays[name].axes
    if axes is None:
        axes = tuple(one for one in sidecar.axes if one in _SHOTS)
        if array.ndim == 1 or (array.ndim == 2 and 1 in array.shape and samples[0] > 1):
            axes = ("sample",)
    if any(one not in _SHOTS for one in axes) or "sample" not in axes:
        raise DataError(
            sidecar.path,
            f"mri.{name}.axes",
            found=list(axes),
            expected='"sample" and perhaps "shot"',
        )
    array, axes = to_order(array, axes, AXES["mri"], path, sidecar.path)
    if "shot" not in axes:
        array = array[None]
    if array.shape[1] != samples[1] or array.shape[0] not in (1, samples[0]):
        raise DataError(
            path,
            name,
            found=f"{array.shape[0]} shots x {array.shape[1]} samples",
            expected=f"{samples[0]} x {samples[1]} as the data",
        )
    return np.broadcast_to(array, samples)


def _weights(path: Path, sidecar: Sidecar, samples: tuple[int, int]) -> NDArray[np.float32] | None:
    if "density" not in sidecar.arrays:
        return None
    return _per_sample(path, sidecar, "density", samples).astype(np.float32)


def _times(path: Path, sidecar: Sidecar, samples: tuple[int, int]) -> NDArray[np.float64] | None:
    """Seconds from the echo of every sample."""
    if "readout_times" in sidecar.arrays:
        return _per_sample(path, sidecar, "readout_times", samples).astype(np.float64)
    if sidecar.dwell_time is None:
        return None
    row = (np.arange(samples[1]) - sidecar.echo_sample) * sidecar.dwell_time
    return np.broadcast_to(row, samples).astype(np.float64)
