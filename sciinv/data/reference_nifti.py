"""NIfTI images: bounded by what the header declares, before anything is unpacked."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import assumed_affine
from sciinv.data.files import declared_bytes, refuse_unbacked
from sciinv.data.reference import Image
from sciinv.errors import DataError

__all__ = ["read_nifti"]

# millimetres in one of what the header may count in; unknown counts as mm, as everywhere
_UNITS = {"unknown": 1.0, "mm": 1.0, "meter": 1e3, "micron": 1e-3}
_HEADERS = {348: "Nifti1Header", 540: "Nifti2Header"}


def read_nifti(path: Path) -> Image:
    """Read one volume; ``i, j, k`` are its row, column and slice.

    Its place is that of sform, or else qform, if its code says scanner (1) or aligned (2); template
    spaces are not where a scanner measured.

    :raises DataError: a pair of files, several volumes, colours, a size out of proportion, less
        data than declared.
    """
    import nibabel

    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as source:
        start = source.read(540)
        size = 540 if start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else 348
        if start[4:7] == b"ni2" or (size == 348 and start[344:347] == b"ni1"):
            raise DataError(
                path, found="half of a pair .hdr and .img", expected="one file, .nii or .nii.gz"
            )
        with _quiet():
            header = getattr(nibabel, _HEADERS[size]).from_fileobj(io.BytesIO(start))
        shape = _shape(path, tuple(int(n) for n in header.get_data_shape()))
        dtype = header.get_data_dtype()
        if dtype.kind not in "fiuc":
            raise DataError(path, "datatype", found=dtype, expected="real or complex numbers")
        offset = int(header.get_data_offset())
        if offset < size:
            raise DataError(path, "vox_offset", found=offset, expected=f"{size} or more")
        declared = offset + declared_bytes(shape, dtype.itemsize)
        stored = path.stat().st_size
        refuse_unbacked(path, "voxels", declared, stored)
        # no more than this is unpacked, whatever follows
        content = start + source.read(max(declared - len(start), 0))
    if len(content) < declared:
        raise DataError(
            path,
            "voxels",
            found=f"{len(content)} bytes",
            expected=f"{declared}",
            hint="the file is truncated",
        )
    values = np.ndarray(shape, dtype, content, offset, order="F")
    slope, constant = header.get_slope_inter()
    if slope is not None and (slope, constant) != (1.0, 0.0):
        values = values * slope + (constant or 0.0)
    affine, oriented, notes = _place(header, shape)
    kind = np.complex64 if values.dtype.kind == "c" else np.float32
    with np.errstate(over="ignore"):
        stack = np.moveaxis(values, -1, 0).astype(kind)
    return Image(np.ascontiguousarray(stack), affine, oriented, notes=notes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep nibabel from telling the console what it mends.

    Its own way takes the handlers from its logger, after which Python's last resort speaks.
    """
    from nibabel.imageglobals import logger

    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not shape or len(shape) > 3 or min(shape) < 1:
        raise DataError(path, "dim", found=f"shape {shape}", expected="one volume, 3 axes")
    rows, columns, slices = (*shape, 1, 1)[:3]
    return rows, columns, slices


def _place(
    header: Any,  # noqa: ANN401
    shape: tuple[int, int, int],
) -> tuple[NDArray[np.float64], bool, tuple[str, ...]]:
    """Return affine, whether it is that of the scanner, and notes."""
    unit = _UNITS.get(header.get_xyzt_units()[0], 1.0)
    for matrix, code in (header.get_sform(coded=True), header.get_qform(coded=True)):
        if not code or matrix is None:
            continue
        affine = np.asarray(matrix, np.float64).copy()
        affine[:3] *= unit
        if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
            continue
        if code in (1, 2):
            return affine, True, ()
        return affine, False, ("the image lies in the space of a template, not of the scanner",)
    spacing = [abs(float(z)) * unit or 1.0 for z in (*header.get_zooms(), 1.0, 1.0)[:3]]
    rows, columns, slices = shape
    affine = assumed_affine(
        (slices, rows, columns), (spacing[2], spacing[0], spacing[1]), fourier_centre=False
    )
    return affine, False, ("the image states no orientation",)
