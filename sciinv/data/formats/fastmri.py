"""fastMRI HDF5: kspace (slices, coils, readout, phase encode), ismrmrd_header, reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import check_finite
from sciinv.data.files import is_hdf5
from sciinv.data.formats.ismrmrd_header import known_vendor
from sciinv.data.formats.mri import mri_scan
from sciinv.data.guard import GuardedHDF5, open_hdf5
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar, check_completes
from sciinv.errors import DataError

NAME = "fastmri"
_MAX_HEADER = 8 * 2**20
_HEADER = "ismrmrd_header"
# the protocols of the fastMRI data; the name of another may say anything
_ACQUISITIONS = frozenset(
    {"CORPD_FBK", "CORPDFS_FBK", "AXFLAIR", "AXT1", "AXT1PRE", "AXT1POST", "AXT2"}
)


@dataclass(frozen=True)
class _Encoding:
    """Matrix sizes and fields of view (mm), each (x, y, z) = (readout, phase encode, slice)."""

    matrix: tuple[int, int, int]
    fov: tuple[float, float, float]
    recon_matrix: tuple[int, int, int]
    recon_fov: tuple[float, float, float]
    facts: dict[str, str]


def sniff(path: Path) -> bool:
    """Tell whether the file is HDF5 with kspace or an ISMRMRD header in its root."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        members = file.keys()
    return "kspace" in members or _HEADER in members


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read one fastMRI volume; every slice is an image.

    Rows are the readout. If the header says that the readout is oversampled twice, the outer half
    of its field of view is removed. ``mask`` gives the sampled columns if the file has it,
    otherwise the positions that are not zero.

    :raises DataError: missing or wrong kspace, mask or header.
    """
    if sidecar is not None:
        check_completes(sidecar, "mri", NAME)
    with open_hdf5(path) as file:
        kspace = file.read("kspace", kinds="c", ndim=(3, 4))
        mask = file.get("mask", kinds="fiub", ndim=1)
        encoding = _encoding(file) if _HEADER in file else None
        reference, reference_name = _reference(file)
        attributes = file.attrs()
    check_finite(kspace, path, "kspace")
    if kspace.ndim == 3:
        kspace = kspace[:, None]
    rows, columns = kspace.shape[-2:]
    if mask is not None and len(mask) != columns:
        raise DataError(
            path, "mask", found=f"{len(mask)} values", expected=f"{columns}, the columns of kspace"
        )
    sampled = (
        np.any(kspace != 0, axis=(0, 1))
        if mask is None
        else np.broadcast_to(mask.astype(bool), (rows, columns))
    )
    notes: list[str] = []
    voxel = sidecar.voxel_size if sidecar is not None else None
    if encoding is not None:
        kspace, sampled, note = _remove_oversampling(kspace, sampled, encoding)
        notes += [note] if note else []
        if voxel is None:
            voxel = _voxel_size(encoding, kspace.shape[-2:], bool(note))
    if reference is not None and reference.shape != (kspace.shape[0], *kspace.shape[-2:]):
        notes.append(
            f"{reference_name} {reference.shape} covers another field of view than the encoded "
            f"image {kspace.shape[-2:]} and is left out"
        )
        reference = None
    facts = dict(encoding.facts) if encoding is not None else {}
    if str(attributes.get("acquisition")) in _ACQUISITIONS:
        facts["acquisition"] = str(attributes["acquisition"])
    return mri_scan(
        path,
        NAME,
        kspace,
        mask=sampled,
        voxel_size=voxel,
        readout_axis=0,
        noise_std=sidecar.noise_std if sidecar is not None else None,
        reference=reference,
        header=facts,
        notes=tuple(notes),
    )


def _reference(file: GuardedHDF5) -> tuple[NDArray[np.float32] | None, str]:
    for name in ("reconstruction_rss", "reconstruction_esc"):
        array = file.get(name, kinds="f", ndim=3)
        if array is not None:
            check_finite(array, file.path, name)
            return array.astype(np.float32), name
    return None, ""


def _remove_oversampling(
    kspace: NDArray[Any], sampled: NDArray[np.bool_], encoding: _Encoding
) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    """Keep the inner half of a readout that was sampled twice as finely as needed."""
    rows, target = kspace.shape[-2], encoding.recon_matrix[0]
    if encoding.matrix[0] != 2 * target or rows != encoding.matrix[0]:
        return kspace, sampled, ""
    lines = sampled.any(axis=0)
    if not np.array_equal(sampled, np.broadcast_to(lines, sampled.shape)):
        return kspace, sampled, ""  # incomplete readouts: a crop would mix zeros into samples
    centre = {"axes": (-2,)}
    image = np.fft.fftshift(
        np.fft.ifft(np.fft.ifftshift(kspace, **centre), axis=-2, norm="ortho"), **centre
    )
    # index n // 2 is the centre of both grids
    first = rows // 2 - target // 2
    image = image[..., first : first + target, :]
    cropped = np.fft.fftshift(
        np.fft.fft(np.fft.ifftshift(image, **centre), axis=-2, norm="ortho"), **centre
    )
    note = f"readout oversampling removed: {rows} to {target} rows"
    return cropped.astype(np.complex64), sampled[:target], note


def _voxel_size(
    encoding: _Encoding, shape: tuple[int, ...], cropped: bool
) -> tuple[float, float, float]:
    """Encoded field of view over the number of image points: (slice, row, column) in mm."""
    fov_x = encoding.fov[0] / 2 if cropped else encoding.fov[0]
    thickness = encoding.recon_fov[2] / encoding.recon_matrix[2]
    return thickness, fov_x / shape[0], encoding.fov[1] / shape[1]


def _number(text: str | None) -> str | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return f"{value:.6g}" if math.isfinite(value) else None


def _encoding(file: GuardedHDF5) -> _Encoding:
    """Parse the ISMRMRD header: no DOCTYPE (so no entities), at most 8 MB, no silent recovery."""
    text = file.text(_HEADER, max_bytes=_MAX_HEADER)
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise DataError(file.path, _HEADER, found="a DOCTYPE", expected="plain XML without one")
    try:
        # expat opens no external entity, and without a DOCTYPE there are no entities to expand
        root = ElementTree.fromstring(text.strip("\0 \n").encode("utf-8"))  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(
            file.path, _HEADER, found=f"broken XML ({error})", expected="an ISMRMRD header"
        ) from None
    encoding = root.find("{*}encoding")
    if encoding is None:
        raise DataError(file.path, _HEADER, found="no <encoding>", expected="an ISMRMRD header")
    trajectory = (encoding.findtext("{*}trajectory") or "cartesian").strip()
    if trajectory != "cartesian":
        raise DataError(
            file.path, f"{_HEADER}: trajectory", found=trajectory[:50], expected="cartesian"
        )

    def triple(space: str, tag: str) -> tuple[float, float, float]:
        values = []
        for axis in "xyz":
            where = f"encoding/{space}/{tag}/{axis}"
            raw = encoding.findtext("/".join("{*}" + part for part in (space, tag, axis)))
            try:
                value = float(raw) if raw is not None else math.nan
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and 0 < value < 1e6):
                raise DataError(
                    file.path,
                    f"{_HEADER}: {where}",
                    found=repr(raw)[:50],
                    expected="a positive number",
                )
            values.append(value)
        return values[0], values[1], values[2]

    def whole(space: str) -> tuple[int, int, int]:
        x, y, z = triple(space, "matrixSize")
        return max(int(x), 1), max(int(y), 1), max(int(z), 1)

    facts = {}
    for key, tags in (
        ("field strength (T)", "acquisitionSystemInformation/systemFieldStrength_T"),
        ("vendor", "acquisitionSystemInformation/systemVendor"),
        ("TR (ms)", "sequenceParameters/TR"),
        ("TE (ms)", "sequenceParameters/TE"),
    ):
        value = root.findtext("/".join("{*}" + tag for tag in tags.split("/")))
        # numbers and known names only, so that nobody's name can hide in them
        fact = known_vendor(value or "") if key == "vendor" else _number(value)
        if fact is not None:
            facts[key] = fact
    return _Encoding(
        whole("encodedSpace"),
        triple("encodedSpace", "fieldOfView_mm"),
        whole("reconSpace"),
        triple("reconSpace", "fieldOfView_mm"),
        facts,
    )
