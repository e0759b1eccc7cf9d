"""sciinv's own HDF5: every field of a :class:`~sciinv.data.scan.Scan`, versioned.

The layout is documented in ``docs/formats.md``. The root carries the attribute
``sciinv_format``; a file of a newer version is refused. Version 2 added geometries; what version 1
can hold (Cartesian MRI, parallel beam) is still written as version 1, so that older releases read
it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from sciinv.data.checks import check_scan
from sciinv.data.files import is_hdf5
from sciinv.data.guard import GuardedHDF5, open_hdf5
from sciinv.data.scan import (
    CTGeometry,
    DiffractionGeometry,
    FanGeometry,
    Geometry,
    MRIGeometry,
    NonCartesianGeometry,
    ParallelGeometry,
    Scan,
)
from sciinv.data.sidecar import Sidecar
from sciinv.errors import DataError

__all__ = ["FORMAT_VERSION", "NAME", "read", "sniff", "write_scan"]

NAME = "sciinv"
FORMAT_VERSION = 2
_MARK = "sciinv_format"
_OPTIONAL = ("valid", "counts", "blank", "coil_maps", "reference")
_KINDS = {"valid": "biu", "counts": "f", "blank": "f", "coil_maps": "c", "reference": "f"}
_DTYPES: dict[str, Any] = {
    "valid": np.bool_,
    "counts": np.float32,
    "blank": np.float32,
    "coil_maps": np.complex64,
    "reference": np.float32,
}


def sniff(path: Path) -> bool:
    """Tell whether the file is HDF5 with the attribute ``sciinv_format``."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return file.attr(_MARK) is not None


def read(path: Path, sidecar: Sidecar | None = None) -> Scan:
    """Read a scan that :func:`write_scan` wrote; it is complete, so a side-car is refused.

    :raises DataError: a newer version, a missing or wrong field.
    """
    if sidecar is not None:
        raise DataError(
            sidecar.path, found="a side-car", expected=f"none: {path.name} describes itself"
        )
    with open_hdf5(path) as file:
        attributes = file.attrs()
        version = attributes.get(_MARK)
        if version not in range(1, FORMAT_VERSION + 1):
            raise DataError(
                path,
                _MARK,
                found=repr(version)[:40],
                expected=f"1 to {FORMAT_VERSION}",
                hint="written by a newer sciinv?",
            )
        kind = attributes.get("kind")
        if kind not in _GEOMETRIES:
            raise DataError(
                path, "kind", found=repr(kind)[:40], expected='"mri", "ct" or "diffraction"'
            )
        data = file.read("data", kinds="c" if kind == "mri" else "f", ndim=(3, 4, 5))
        geometry = _read_geometry(file, kind)
        extra: dict[str, Any] = {}
        for name in _OPTIONAL:
            array = file.get(name, kinds=_KINDS[name])
            extra[name] = None if array is None else array.astype(_DTYPES[name])
        affine = file.read("affine", kinds="f", ndim=2)
        notes = _read_json(file, "notes", list)
        header = _read_json(file, "header", dict)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise DataError(path, "affine", found=f"shape {affine.shape}", expected="finite 4 x 4")
    noise = attributes.get("noise_std")
    oriented = attributes.get("oriented", 0)
    if not isinstance(oriented, int) or oriented not in (0, 1):
        raise DataError(path, "oriented", found=repr(oriented)[:40], expected="0 or 1")
    return Scan(
        kind=kind,
        data=data.astype(np.complex64 if kind == "mri" else np.float32),
        geometry=geometry,
        format=NAME,
        source=path,
        units=str(attributes.get("units", "a.u.")),
        affine=affine.astype(np.float64),
        noise_std=None if noise is None else _number(file, "noise_std", noise),
        oriented=bool(oriented),
        notes=tuple(str(note) for note in notes),
        header={str(key): str(value) for key, value in header.items()},
        **extra,
    )


def write_scan(scan: Scan, path: Path | str) -> Path:
    """Write a scan to sciinv's HDF5, atomically: an existing file stays whole until the end.

    :param scan: checked before anything is written.
    :param path: destination, usually ``*.h5``.
    :returns: the path.
    :raises DataError: the scan is inconsistent.
    """
    import h5py

    check_scan(scan)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        with h5py.File(temporary, "w-") as file:
            file.attrs[_MARK] = _version(scan.geometry)
            # strings of fixed length: variable ones lie in a heap, whose damage libhdf5 bears badly
            file.attrs["kind"] = np.bytes_(scan.kind.encode())
            file.attrs["units"] = np.bytes_(scan.units.encode())
            file.attrs["oriented"] = int(scan.oriented)
            if scan.noise_std is not None:
                file.attrs["noise_std"] = float(scan.noise_std)
            file["data"] = scan.data
            file["affine"] = np.asarray(scan.affine, dtype=np.float64)
            file["notes"] = np.bytes_(json.dumps(list(scan.notes)).encode())
            file["header"] = np.bytes_(json.dumps(dict(scan.header)).encode())
            for name in _OPTIONAL:
                array = getattr(scan, name)
                if array is not None:
                    file[name] = array.astype(np.uint8) if name == "valid" else array
            _write_geometry(file.create_group("geometry"), scan.geometry)
        os.replace(temporary, path)  # noqa: PTH105 - the atomic call, by its usual name
    finally:
        temporary.unlink(missing_ok=True)
    return path


#: Attribute ``type`` of the group ``geometry`` by kind of scan; the first is that of version 1.
_GEOMETRIES: dict[str, tuple[str, ...]] = {
    "mri": ("cartesian", "noncartesian"),
    "ct": ("parallel", "fan"),
    "diffraction": ("diffraction",),
}
_TYPES: dict[type, str] = {
    MRIGeometry: "cartesian",
    NonCartesianGeometry: "noncartesian",
    ParallelGeometry: "parallel",
    FanGeometry: "fan",
    DiffractionGeometry: "diffraction",
}
_CT_NUMBERS = ("detector_spacing", "pixel_size", "axis_shift", "slice_spacing")
_FAN_NUMBERS = ("source_distance", "detector_distance", "detector_offset")
_ANY_SIGN = frozenset({"axis_shift", "detector_offset", "detector_distance"})
# optional arrays of a trajectory: kind of number, dtype
_PER_SAMPLE: dict[str, Any] = {
    "density": np.float32,
    "readout_times": np.float64,
    "field_map": np.float32,
}


def _version(geometry: Geometry) -> int:
    """Return the oldest version that can hold a geometry."""
    return 1 if isinstance(geometry, MRIGeometry | ParallelGeometry) else FORMAT_VERSION


def _write_geometry(group: Any, geometry: Geometry) -> None:  # noqa: ANN401
    attributes: dict[str, Any] = {"image_shape": np.asarray(geometry.image_shape, dtype=np.int64)}
    if _version(geometry) > 1:
        attributes["type"] = np.bytes_(_TYPES[type(geometry)].encode())
    if isinstance(geometry, MRIGeometry):
        group["mask"] = geometry.mask.astype(np.uint8)
        attributes["voxel_size"] = np.asarray(geometry.voxel_size, dtype=np.float64)
        if geometry.readout_axis is not None:
            attributes["readout_axis"] = geometry.readout_axis
    elif isinstance(geometry, NonCartesianGeometry):
        group["trajectory"] = np.asarray(geometry.trajectory, dtype=np.float64)
        attributes["voxel_size"] = np.asarray(geometry.voxel_size, dtype=np.float64)
        for name, dtype in _PER_SAMPLE.items():
            if getattr(geometry, name) is not None:
                group[name] = np.asarray(getattr(geometry, name), dtype=dtype)
    elif isinstance(geometry, DiffractionGeometry):
        attributes["pattern_shape"] = np.asarray(geometry.pattern_shape, dtype=np.int64)
        attributes["oversampling"] = np.asarray(geometry.oversampling, dtype=np.float64)
        attributes["pixel_size"] = np.asarray(geometry.pixel_size, dtype=np.float64)
    else:
        group["angles"] = np.asarray(geometry.angles, dtype=np.float64)
        fan = _FAN_NUMBERS if isinstance(geometry, FanGeometry) else ()
        for name in (*_CT_NUMBERS, *fan):
            attributes[name] = getattr(geometry, name)
    for key, value in attributes.items():
        group.attrs[key] = value


def _number(file: GuardedHDF5, name: str, value: Any, *, positive: bool = True) -> float:  # noqa: ANN401
    if not isinstance(value, int | float) or not np.isfinite(value) or (positive and value <= 0):
        raise DataError(
            file.path,
            name,
            found=repr(value)[:40],
            expected="a positive number" if positive else "a number",
        )
    return float(value)


def _shape(
    file: GuardedHDF5, attributes: dict[str, Any], name: str = "image_shape"
) -> tuple[int, ...]:
    value = attributes.get(name)
    array = np.atleast_1d(np.asarray(value if value is not None else []))
    if array.dtype.kind not in "iu" or array.size not in (2, 3) or np.any(array < 1):
        raise DataError(
            file.path, f"geometry/{name}", found=repr(value)[:40], expected="2 or 3 integers"
        )
    return tuple(int(n) for n in array)


def _numbers(
    file: GuardedHDF5,
    attributes: dict[str, Any],
    name: str,
    count: int,
    default: Any = None,  # noqa: ANN401
) -> tuple[float, ...]:
    """Read positive numbers."""
    value = attributes.get(name, default)
    try:
        array = np.atleast_1d(np.asarray([] if value is None else value, dtype=float))
    except ValueError:
        array = np.empty(0)
    if array.size != count:
        raise DataError(
            file.path, f"geometry/{name}", found=f"{array.size} numbers", expected=f"{count}"
        )
    return tuple(_number(file, f"geometry/{name}", v.item()) for v in array)


def _voxel(
    file: GuardedHDF5, attributes: dict[str, Any], name: str = "voxel_size"
) -> tuple[float, float, float]:
    sizes = _numbers(file, attributes, name, 3, default=(1.0, 1.0, 1.0))
    return sizes[0], sizes[1], sizes[2]


def _read_geometry(file: GuardedHDF5, kind: str) -> Geometry:
    attributes = file.attrs("geometry")
    choices = _GEOMETRIES[kind]
    chosen = attributes.get("type", choices[0])
    if chosen not in choices:
        raise DataError(
            file.path,
            "geometry/type",
            found=repr(chosen)[:40],
            expected=" or ".join(f'"{one}"' for one in choices) + f' for kind = "{kind}"',
        )
    if chosen == "diffraction":
        return _read_diffraction(file, attributes)
    if chosen == "noncartesian":
        return _read_noncartesian(file, attributes)
    return _read_mri(file, attributes) if kind == "mri" else _read_ct(file, attributes, chosen)


def _read_mri(file: GuardedHDF5, attributes: dict[str, Any]) -> MRIGeometry:
    shape = _shape(file, attributes)
    readout = attributes.get("readout_axis")
    if readout is not None and readout not in range(len(shape)):
        raise DataError(
            file.path, "geometry/readout_axis", found=repr(readout)[:40], expected="an image axis"
        )
    mask = file.read("geometry/mask", kinds="biu", ndim=(len(shape), len(shape) + 1))
    return MRIGeometry(
        image_shape=shape,
        mask=mask.astype(bool),
        voxel_size=_voxel(file, attributes),
        readout_axis=readout,
    )


def _read_noncartesian(file: GuardedHDF5, attributes: dict[str, Any]) -> NonCartesianGeometry:
    arrays: dict[str, Any] = {}
    for name, dtype in _PER_SAMPLE.items():
        array = file.get(f"geometry/{name}", kinds="f")
        arrays[name] = None if array is None else array.astype(dtype)
    return NonCartesianGeometry(
        image_shape=_shape(file, attributes),
        trajectory=file.read("geometry/trajectory", kinds="f", ndim=3).astype(np.float64),
        voxel_size=_voxel(file, attributes),
        **arrays,
    )


def _read_diffraction(file: GuardedHDF5, attributes: dict[str, Any]) -> DiffractionGeometry:
    pattern = _shape(file, attributes, "pattern_shape")
    return DiffractionGeometry(
        pattern_shape=pattern,
        image_shape=_shape(file, attributes),
        oversampling=_numbers(file, attributes, "oversampling", len(pattern)),
        pixel_size=_voxel(file, attributes, "pixel_size"),
    )


def _read_ct(file: GuardedHDF5, attributes: dict[str, Any], beam: str) -> CTGeometry:
    shape = _shape(file, attributes)
    if len(shape) != 2:
        raise DataError(file.path, "geometry/image_shape", found=shape, expected="2 integers")
    fan = _FAN_NUMBERS if beam == "fan" else ()
    numbers = {
        name: _number(
            file, f"geometry/{name}", attributes.get(name), positive=name not in _ANY_SIGN
        )
        for name in (*_CT_NUMBERS, *fan)
    }
    angles = file.read("geometry/angles", kinds="f", ndim=1).astype(np.float64)
    if not np.isfinite(angles).all():
        raise DataError(file.path, "geometry/angles", found="NaN or Inf", expected="radians")
    return (FanGeometry if fan else ParallelGeometry)(
        angles=angles,
        num_detectors=file.shape("data")[-1],
        image_shape=(shape[0], shape[1]),
        **numbers,
    )


def _read_json(file: GuardedHDF5, name: str, kind: type) -> Any:  # noqa: ANN401
    if name not in file:
        return kind()
    try:
        value = json.loads(file.text(name, max_bytes=2**20))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise DataError(file.path, name, found="other text", expected=f"a JSON {kind.__name__}")
    return value
