"""``result.h5`` and NIfTI images of a result.

``result.h5`` holds, with the slice as first image axis:

- ``samples`` ``(S, slices, *image_shape)``, complex64 (compound of ``r`` and ``i``) or float32;
- ``mean``, ``std`` ``(slices, *image_shape)`` float32 of the displayed quantity (the modulus of
  complex samples), 0 where ``visible`` is False; ``std`` only with two samples or more, times the
  factor in ``metadata`` (``std_calibration``);
- ``baseline``, ``visible`` and, if there are any, ``estimate``, ``null_space``, ``residual``,
  ``reference``;
- group ``pictures``, if any: ``coil_maps``, ``rotation_axis`` ``(count, rows, columns)`` float32;
- ``affine`` 4 x 4, voxel (row, column, slice) index to RAS mm;
- ``metadata``: everything else as one JSON text;
- attribute ``units`` of every image;
- root attributes ``format`` = ``"sciinv-result"``, ``version`` = 1, ``kind``, ``units``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError
from sciinv.report.plain import harmless, plain

if TYPE_CHECKING:
    from sciinv.result import Result, StdCalibration

FORMAT, VERSION = "sciinv-result", 1
_ARRAYS = {"samples": "cf", "baseline": "cf", "visible": "b", "affine": "f"}
_OPTIONAL = {"estimate": "cf", "null_space": "cf", "residual": "f", "reference": "f"}
_NIFTI1_MAX = 32767  # NIfTI-1 stores its dimensions as int16
_METADATA_MAX = 64 * 2**20


def metadata(result: Result) -> dict[str, Any]:
    """Everything of a result but its arrays, as plain JSON values."""
    data: dict[str, Any] = plain(
        {
            "name": result.name,
            "kind": result.kind,
            "units": result.units,
            "status": result.status.value,
            "status_text": result.status.text,
            "chi_squared": float(result.chi_squared),
            "chi_squared_tolerance": float(result.chi_squared_tolerance),
            "baseline_name": result.baseline_name,
            "oriented": result.oriented,
            "samples": result.num_samples,
            "shape": result.samples.shape[1:],
            "std_calibration": _calibration(result),
            "prior_share": result.prior_share,
            "visible_fraction": float(result.visible.mean()),
            "stats": result.stats,
            "provenance": result.provenance,
            "notes": result.notes,
            "warnings": result.warnings,
        }
    )
    return data


def _calibration(result: Result) -> dict[str, Any] | None:
    found = result.std_calibration
    return None if found is None else {**asdict(found), "text": found.text}


def _read_calibration(data: dict[str, Any] | None) -> StdCalibration | None:
    """Read what :func:`metadata` wrote; results of before have none."""
    from sciinv.result import StdCalibration

    if data is None:
        return None
    return StdCalibration(**{f.name: data[f.name] for f in fields(StdCalibration)})


def dump_json(data: dict[str, Any]) -> str:
    """Write JSON without NaN."""
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_hdf5(result: Result, path: Path) -> None:
    """Write ``result.h5``."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update(
            {
                "format": FORMAT,
                "version": VERSION,
                "kind": result.kind,
                "units": harmless(result.units),
            }
        )
        file["samples"] = result.samples
        file["baseline"] = result.baseline
        file["visible"] = result.visible
        file["affine"] = np.asarray(result.affine, np.float64)
        file["mean"] = result.mean
        if result.num_samples > 1:
            file["std"] = result.std
        for name in _OPTIONAL:
            if (array := getattr(result, name)) is not None:
                file[name] = array
        for name, picture in result.pictures.items():
            file[f"pictures/{name}"] = np.asarray(picture, np.float32)
        for name in ("samples", "baseline", "mean", "std", "estimate", "null_space", "reference"):
            if name in file:
                file[name].attrs["units"] = harmless(result.units)
        # a dataset: attributes end at 64 KiB
        file["metadata"] = dump_json(metadata(result))


def read_hdf5(path: Path) -> Result:
    """Read ``result.h5``; links and storage outside the file are refused."""
    from sciinv.data.guard import open_hdf5
    from sciinv.result import PICTURES, Result, Status

    with open_hdf5(path) as file:
        attributes = file.attrs()
        if str(attributes.get("format")) != FORMAT:
            raise DataError(path, found="an HDF5 file of another kind", expected=FORMAT)
        if str(attributes.get("version")) != str(VERSION):
            found = f"version {attributes.get('version')}"
            raise DataError(path, found=found, expected=f"version {VERSION}")
        arrays: dict[str, Any] = {n: file.read(n, kinds=kinds) for n, kinds in _ARRAYS.items()}
        arrays |= {name: file.get(name, kinds=kinds) for name, kinds in _OPTIONAL.items()}
        pictures = {n: file.get(f"pictures/{n}", kinds="f", ndim=3) for n in PICTURES}
        text = file.text("metadata", max_bytes=_METADATA_MAX)
    try:
        data = json.loads(text)
        return Result(
            **arrays,
            pictures={n: picture for n, picture in pictures.items() if picture is not None},
            baseline_name=str(data["baseline_name"]),
            kind=data["kind"],
            units=str(data["units"]),
            name=str(data["name"]),
            status=Status(data["status"]),
            chi_squared=float(data["chi_squared"]),
            chi_squared_tolerance=float(data["chi_squared_tolerance"]),
            oriented=bool(data["oriented"]),
            std_calibration=_read_calibration(data.get("std_calibration")),
            stats=data["stats"],
            provenance=data["provenance"],
            notes=tuple(data["notes"]),
            warnings=tuple(data["warnings"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(path, "metadata", found=error, expected="a complete result") from error


def image_axes(images: NDArray[Any]) -> NDArray[Any]:
    """Bring ``(slices, *image_shape)`` into the axes of the affine, (row, column, slice).

    A single 3D encoding ``(1, D, H, W)`` gives ``(H, W, D)``; several volumes keep their number
    as a fourth axis.
    """
    if images.ndim == 3:
        return images.transpose(1, 2, 0)
    volumes = images.transpose(2, 3, 1, 0)
    return volumes[..., 0] if volumes.shape[-1] == 1 else volumes


def write_nifti(
    path: Path,
    data: NDArray[Any],
    affine: NDArray[np.float64],
    description: str,
    *,
    oriented: bool = True,
) -> None:
    """Write voxels (row, column, slice, ...) with an affine to RAS mm.

    Units are mm; axes beyond 32,767 voxels use NIfTI-2.

    :param oriented: whether the affine is that of the scanner: orientation code 1. Otherwise it is
        2: the images of one result agree with each other, and with nothing else.
    """
    import nibabel as nib

    affine = np.asarray(affine, np.float64)
    make: Any = nib.Nifti2Image if max(data.shape) > _NIFTI1_MAX else nib.Nifti1Image
    image = make(np.ascontiguousarray(data), affine)
    header = image.header
    header.set_xyzt_units("mm")
    header["descrip"] = description.encode("ascii", "replace")[:79]
    code = 1 if oriented else 2
    image.set_sform(affine, code=code)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # the quaternion form cannot hold shear: leave it unset rather than wrong
    orthogonal = np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    image.set_qform(affine if orthogonal else None, code=code if orthogonal else 0)
    nib.save(image, path)


def write_images(result: Result, folder: Path, *, samples: bool) -> None:
    """Write the NIfTI images of a result into a folder."""

    def write(name: str, images: NDArray[Any], what: str) -> None:
        write_nifti(
            folder / f"{name}.nii.gz", image_axes(images), result.affine, what,
            oriented=result.oriented,
        )  # fmt: skip

    units = result.units
    quantity = "magnitude " if result.is_complex else ""
    write("mean", result.mean, f"posterior mean, {quantity}{units}")
    if result.num_samples > 1:
        write("std", result.std, f"posterior standard deviation, {quantity}{units}")
    write("baseline", result.baseline_magnitude, f"{result.baseline_name}, {quantity}{units}")
    if result.estimate_magnitude is not None:
        write("estimate", result.estimate_magnitude, f"point estimate, {quantity}{units}")
    if result.null_space_magnitude is not None:
        what = f"part of the mean that comes from the prior, {quantity}{units}"
        write("null_space", result.null_space_magnitude, what)
    write("mask", result.visible.astype(np.uint8), "1 where the data see the voxel")
    if result.is_complex:
        write("mean_phase", np.angle(result.complex_mean), "phase of the posterior mean, rad")
        if np.iscomplexobj(result.baseline):
            phase = np.angle(result.baseline).astype(np.float32)
            write("baseline_phase", phase, f"phase of {result.baseline_name}, rad")
        if result.estimate is not None:
            phase = np.angle(result.estimate).astype(np.float32)
            write("estimate_phase", phase, "phase of the point estimate, rad")
    if samples:
        stack = np.stack([image_axes(sample) for sample in result.magnitude], axis=-1)
        what = f"posterior samples (last axis), {quantity}{units}"
        path = folder / "samples.nii.gz"
        write_nifti(path, stack, result.affine, what, oriented=result.oriented)
