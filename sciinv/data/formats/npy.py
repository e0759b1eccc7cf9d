"""NumPy ``.npy``: a bare array; a side-car says what it means."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.files import declared_bytes, reading
from sciinv.data.formats.bare import scan_of_array
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar
from sciinv.errors import DataError

NAME = "npy"


def sniff(path: Path) -> bool:
    """Tell whether the file starts like an .npy file."""
    with path.open("rb") as stream:
        return stream.read(6) == b"\x93NUMPY"


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read the array and interpret it by the side-car."""
    return scan_of_array(path, sidecar, NAME)


def read_npy(path: Path, field: str, stream: IO[bytes], size: int) -> NDArray[Any]:
    """Read one array from a stream of known size; nothing is unpickled.

    :raises DataError: object dtype, more or fewer bytes than the header declares.
    """
    with reading(path, field):
        version = np.lib.format.read_magic(stream)
        header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = header(stream)
        offset = stream.tell()
    if dtype.hasobject:
        raise DataError(
            path, field, found="Python objects (a pickle)", expected="numbers; nothing is unpickled"
        )
    expected = declared_bytes(shape, dtype.itemsize)
    if expected != size - offset:
        raise DataError(
            path,
            field,
            found=f"{size - offset} bytes of data",
            expected=f"{expected} for shape {tuple(shape)}, {dtype}",
            hint="the file is truncated or damaged" if expected > size - offset else None,
        )
    with reading(path, field):
        array = np.frombuffer(stream.read(expected), dtype=dtype)
        return array.reshape(shape, order="F" if fortran_order else "C")


def read_array(path: Path, name: str | None) -> NDArray[Any]:
    """Read the array; ``name`` has no meaning here."""
    with path.open("rb") as stream:
        return read_npy(path, name or "array", stream, path.stat().st_size)
