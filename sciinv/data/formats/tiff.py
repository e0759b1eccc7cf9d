"""TIFF stacks: pages along the first axis; a side-car says what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.files import declared_bytes, reading, refuse_unbacked
from sciinv.data.formats.bare import scan_of_array
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar
from sciinv.errors import DataError

NAME = "tiff"
_MAX_PAGES = 1_000_000


def sniff(path: Path) -> bool:
    """Tell whether the file starts like a TIFF or BigTIFF."""
    with path.open("rb") as stream:
        return stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read all pages and interpret them by the side-car."""
    return scan_of_array(path, sidecar, NAME)


def read_array(path: Path, name: str | None) -> NDArray[Any]:
    """Read all pages of this one file as ``(pages, rows, columns)``, one page as 2D.

    Metadata that gather pages of other files (OME) are not followed.

    :raises DataError: pages of different shapes, a truncated page, a size out of proportion,
        damage.
    """
    from tifffile import TiffFile

    field = name or "pages"
    size = path.stat().st_size
    with reading(path, field), TiffFile(path, is_ome=False, _multifile=False) as tif:
        if len(tif.pages) > _MAX_PAGES:
            raise DataError(path, field, found=f"{len(tif.pages)} pages", expected=f"{_MAX_PAGES}")
        first = tif.pages[0]
        shape, dtype = tuple(first.shape), first.dtype
        if dtype is None or dtype.kind not in "fiuc":
            raise DataError(path, field, found=f"dtype {dtype}", expected="numbers")
        for index, page in enumerate(tif.pages):
            if tuple(page.shape) != shape or page.dtype != dtype:
                raise DataError(
                    path,
                    f"page {index}",
                    found=f"shape {page.shape}, {page.dtype}",
                    expected=f"{shape}, {dtype} as page 0",
                )
            ends = zip(page.dataoffsets, page.databytecounts, strict=True)
            end = max((offset + count for offset, count in ends), default=0)
            if end > size:
                raise DataError(
                    path,
                    f"page {index}",
                    found=f"{size} bytes in the file",
                    expected=f"{end}",
                    hint="the file is truncated",
                )
        declared = declared_bytes((len(tif.pages), *shape), dtype.itemsize)
        refuse_unbacked(path, field, declared, size)
        pages = [np.asarray(page.asarray()) for page in tif.pages]
    return np.stack(pages) if len(pages) > 1 else pages[0]
