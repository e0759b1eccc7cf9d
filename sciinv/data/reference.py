"""Reference images: DICOM series and NIfTI, and how they come onto the grid of a result."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import check_affine
from sciinv.data.files import reading
from sciinv.errors import DataError

__all__ = ["Image", "image_kind", "match_intensity", "on_grid", "read_image"]

# of a voxel: two grids that are closer together are the same
_SAME = 0.05
# a voxel reaches half a voxel beyond its centre
_REACH = 0.501


@dataclass(frozen=True, eq=False)
class Image:
    """An image with its place; nothing else of its file is kept.

    :param values: ``(slices, rows, columns)`` (or several volumes), float32 or complex64, finite.
    :param affine: 4 x 4 voxel (row, column, slice) index to RAS mm.
    :param oriented: the affine is that of the scanner; otherwise directions are unknown.
    :param units: of the values: ``"HU"``, ``"a.u."``; empty if the file does not say.
    :param notes: what was decided, one sentence each.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]
    oriented: bool
    units: str = ""
    notes: tuple[str, ...] = ()


def image_kind(path: Path) -> str | None:
    """Return ``"DICOM"`` or ``"NIfTI"`` if the content of a file or folder is that, else ``None``.

    A folder counts as DICOM if one of its files is.
    """
    if path.is_dir():
        from sciinv.data.reference_dicom import dicom_files

        return "DICOM" if dicom_files(path) else None
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            head = stream.read(352)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(path) as packed:
                head = packed.read(352)
    except (OSError, EOFError, ValueError, zlib.error):
        return None
    if head[128:132] == b"DICM":
        return "DICOM"
    return "NIfTI" if is_nifti(head) else None


def is_no_scan(path: Path) -> DataError:
    """Return the error for an image that is offered as a scan."""
    return DataError(
        path,
        found=f"a {image_kind(path)} image",
        expected="raw data: k-space, projections or diffraction patterns",
        hint="an image can be compared with: sciinv reconstruct SCAN --reference IMAGE",
    )


def is_nifti(head: bytes) -> bool:
    """Tell whether a file starts like NIfTI 1 or 2, in either byte order."""
    size = head[:4]
    one = size in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and head[344:348] in (b"n+1\0", b"ni1\0")
    two = size in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") and head[4:8] in (b"n+2\0", b"ni2\0")
    return one or two


def read_image(path: Path | str, *, isolated: bool | None = None) -> Image:
    """Read a reference image: a folder with one DICOM series, a DICOM file, or NIfTI.

    DICOM needs the extra ``dicom``. Slices are sorted by their position, values are rescaled as
    the file says. The content decides, not the name.

    :param isolated: in a process of its own, as scans are: see :func:`sciinv.data.load`.
    :raises DataError: neither of them, damaged, several or inconsistent series, colours, a size out
        of proportion, NaN or infinity.
    """
    from sciinv.data import isolation

    path = Path(path)
    if not path.exists():
        raise DataError(path, found="no such file", expected="an image")
    if (isolation.is_default() if isolated is None else isolated) and isolation.can_isolate():
        return isolation.read_image_isolated(path)
    return read_image_here(path)


def read_image_here(path: Path) -> Image:
    """Read a reference image in this process.

    :raises DataError: as :func:`read_image`.
    """
    kind = image_kind(path)
    if kind is None:
        raise DataError(
            path,
            found="a folder without DICOM files" if path.is_dir() else "no DICOM and no NIfTI file",
            expected="a DICOM series or a NIfTI image",
        )
    with reading(path):
        if kind == "DICOM":
            from sciinv.data.reference_dicom import read_dicom

            image = read_dicom(path)
        else:
            from sciinv.data.reference_nifti import read_nifti

            image = read_nifti(path)
    if not np.isfinite(image.values).all():
        raise DataError(path, "voxels", found="NaN or infinity", expected="finite numbers")
    check_affine(image.affine, path)
    return image


def on_grid(
    image: Image,
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    oriented: bool,
    where: object,
) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    """Bring an image onto another grid, by its place in space where both places are known.

    :param shape: ``(slices, *image_shape)``; axes of length 1 may differ.
    :param affine: of that grid: (row, column, slice) index to RAS mm.
    :param where: named in errors.
    :returns: values of that shape, 0 outside of the image; where it is inside; what was done,
        empty if voxels correspond one to one.
    :raises DataError: another shape where one side has no known orientation; no overlap.
    """
    values = image.values
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    alike = [n for n in values.shape if n > 1] == [n for n in shape if n > 1]
    known = image.oriented and oriented
    if alike and not known:
        return values.reshape(shape), np.ones(shape, bool), ""
    volumes = (len(shape) == 4 and shape[0] > 1) or values.ndim != 3
    if not known or (volumes and not alike):
        side = "the reference" if not image.oriented else "the result"
        raise DataError(
            where,
            "shape",
            found=values.shape,
            expected=f"{shape}: {side} has no known orientation, so that voxels must correspond"
            if not known
            else shape,
        )
    volume = shape[-3:] if len(shape) == 4 else shape
    if alike and _same_place(image.affine, affine, volume):
        return values.reshape(shape), np.ones(shape, bool), ""
    if volumes:
        raise DataError(where, "position", found="volumes elsewhere", expected="the same grid")
    found, inside = _resampled(values, image.affine, affine, volume)
    if not inside.any():
        raise DataError(
            where, "position", found="an image that lies elsewhere", expected="one that overlaps"
        )
    part = f"; it covers {100 * inside.mean():.0f} % of it" if not inside.all() else ""
    note = f"the reference, {values.shape}, is interpolated linearly onto the grid{part}"
    return found.reshape(shape), inside.reshape(shape), note


def _same_place(
    one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...]
) -> bool:
    """Whether no corner of the grid moves by more than a twentieth of a voxel."""
    slices, rows, columns = shape
    corners = np.array(
        [[r, c, s, 1] for r in (0, rows - 1) for c in (0, columns - 1) for s in (0, slices - 1)]
    )
    moved = np.linalg.solve(other, (one - other) @ corners.T)[:3]
    return bool(np.abs(moved).max() < _SAME)


def _resampled(
    values: NDArray[Any],
    own: NDArray[np.float64],
    other: NDArray[np.float64],
    shape: tuple[int, ...],
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Interpolate linearly at the voxels of another grid, slice by slice."""
    from scipy.ndimage import map_coordinates

    there = np.linalg.solve(own, other)  # index there -> index here
    size = np.array([values.shape[1], values.shape[2], values.shape[0]])[:, None]
    rows, columns = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    result = np.zeros(shape, values.dtype)
    inside = np.zeros(shape, bool)
    for index in range(shape[0]):
        points = np.stack([rows.ravel(), columns.ravel(), np.full(rows.size, index)])
        places = there[:3, :3] @ points + there[:3, 3:]
        within = ((places >= -_REACH) & (places <= size - 1 + _REACH)).all(axis=0)
        row, column, slice_ = np.clip(places, 0, size - 1)
        taken = map_coordinates(values, [slice_, row, column], order=1, mode="nearest")
        result[index] = np.where(within, taken, 0).reshape(rows.shape)
        inside[index] = within.reshape(rows.shape)
    return result, inside


def match_intensity(
    reference: NDArray[Any], image: NDArray[Any], mask: NDArray[np.bool_], *, offset: bool = False
) -> tuple[NDArray[np.float32], float, float]:
    """Scale a reference to an image by least squares where ``mask`` holds.

    :param offset: fit a constant as well, for scales with a zero of their own (Hounsfield units).
    :returns: ``factor * reference + constant``, the factor, the constant; the factor is 0 if the
        two have nothing in common.
    """
    r, x = reference[mask].astype(np.float64), image[mask].astype(np.float64)
    r0, x0 = (r.mean(), x.mean()) if offset else (0.0, 0.0)
    power = float(((r - r0) ** 2).sum())
    factor = float(((r - r0) * (x - x0)).sum()) / power if power > 0 else 0.0
    constant = x0 - factor * r0
    return (factor * reference + constant).astype(np.float32), factor, float(constant)
