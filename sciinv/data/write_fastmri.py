"""Write a Cartesian MRI scan as fastMRI HDF5, for programs that read only that."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import check_scan
from sciinv.data.scan import MRIGeometry, Scan
from sciinv.errors import DataError

__all__ = ["lost_in_fastmri", "write_fastmri"]

_NAMESPACE = "http://www.ismrm.org/ISMRMRD"


def lost_in_fastmri(scan: Scan) -> list[str]:
    """Name what fastMRI HDF5 has no place for, one entry each."""
    present = {
        "coil maps": scan.coil_maps is not None,
        "noise level": scan.noise_std is not None,
        "orientation and position": scan.oriented,
        "header": bool(scan.header),
    }
    return [name for name, found in present.items() if found]


def write_fastmri(scan: Scan, path: Path | str) -> Path:
    """Write ``kspace``, ``mask``, ``ismrmrd_header`` and ``reconstruction_rss``, atomically.

    Rows are the readout; ``mask`` holds 1 at the sampled columns. The header states matrix and
    field of view only.

    :param scan: Cartesian MRI of 2D images whose readouts (rows) are complete and the same in all
        slices.
    :returns: the path.
    :raises DataError: a scan of another kind.
    """
    import h5py

    check_scan(scan)
    columns = _sampled_columns(scan)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        with h5py.File(temporary, "w-") as file:
            file["kspace"] = scan.data.astype(np.complex64, copy=False)
            file["mask"] = columns.astype(np.float32)
            file["ismrmrd_header"] = _header(scan)
            if scan.reference is not None:
                file["reconstruction_rss"] = scan.reference.astype(np.float32)
                file.attrs["max"] = float(scan.reference.max())
                file.attrs["norm"] = float(np.linalg.norm(scan.reference))
        os.replace(temporary, path)  # noqa: PTH105 - the atomic call, by its usual name
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _sampled_columns(scan: Scan) -> NDArray[np.bool_]:
    geometry = scan.geometry
    if not isinstance(geometry, MRIGeometry) or len(geometry.image_shape) != 2:
        raise DataError(
            scan.source.name, found=_kind(scan), expected="Cartesian MRI of 2D images for fastMRI"
        )
    mask = geometry.mask
    columns: NDArray[np.bool_] = mask.reshape(-1, mask.shape[-1]).max(axis=0)
    if not np.array_equal(mask, np.broadcast_to(columns, mask.shape)):
        raise DataError(
            scan.source.name,
            "mask",
            found="other positions than whole columns",
            expected="the same complete readouts along the rows in all slices for fastMRI",
        )
    return columns


def _kind(scan: Scan) -> str:
    encoding = "Cartesian" if isinstance(scan.geometry, MRIGeometry) else "non-Cartesian"
    dimensions = f"{len(scan.image_shape)}D"
    return f"{encoding} {dimensions} MRI" if scan.kind == "mri" else f"a {scan.kind} scan"


def _header(scan: Scan) -> str:
    """Matrix and field of view as an ISMRMRD header; x is the readout."""
    assert isinstance(scan.geometry, MRIGeometry)  # noqa: S101 - checked by _sampled_columns
    rows, columns = scan.image_shape
    thickness, row, column = scan.geometry.voxel_size
    root = ElementTree.Element("ismrmrdHeader", xmlns=_NAMESPACE)
    conditions = ElementTree.SubElement(root, "experimentalConditions")
    # the schema requires it; 0 says that it is not known
    ElementTree.SubElement(conditions, "H1resonanceFrequency_Hz").text = "0"
    encoding = ElementTree.SubElement(root, "encoding")
    matrix = {"x": rows, "y": columns, "z": 1}
    view = {"x": rows * row, "y": columns * column, "z": thickness}
    for space in ("encodedSpace", "reconSpace"):
        parent = ElementTree.SubElement(encoding, space)
        for tag, values in (("matrixSize", matrix), ("fieldOfView_mm", view)):
            child = ElementTree.SubElement(parent, tag)
            for axis, value in values.items():
                ElementTree.SubElement(child, axis).text = repr(value)
    limits = ElementTree.SubElement(encoding, "encodingLimits")
    for tag, count in (("kspace_encoding_step_1", columns), ("slice", scan.num_slices)):
        child = ElementTree.SubElement(limits, tag)
        for name, value in (("minimum", 0), ("maximum", count - 1), ("center", count // 2)):
            ElementTree.SubElement(child, name).text = str(value)
    ElementTree.SubElement(encoding, "trajectory").text = "cartesian"
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False)
