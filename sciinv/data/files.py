"""What every reader does before and while it parses a foreign file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sciinv.errors import DataError

__all__ = [
    "MAX_UNBACKED_BYTES",
    "MAX_UNBACKED_RATIO",
    "bart_pair_of",
    "check_regular_file",
    "declared_bytes",
    "is_hdf5",
    "reading",
    "refuse_unbacked",
]

#: Bytes that may be declared without a proportionate number of stored bytes.
MAX_UNBACKED_BYTES = 256 * 2**20
#: Declared over stored bytes above which a large array is taken for a decompression bomb.
MAX_UNBACKED_RATIO = 1000
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


# how libhdf5 says that a file ends early
_SHORT = re.compile(r"truncated file: eof = (\d+),.* stored_eof = (\d+)")


@contextmanager
def reading(path: Path, field: str | None = None) -> Iterator[None]:
    """Turn whatever a parser of a damaged file raises into one :class:`DataError`."""
    try:
        yield
    except (DataError, MemoryError):
        raise  # how much memory there is says nothing about the file
    except Exception as error:
        # parsers of foreign files raise nearly anything (struct.error, zlib.error, RecursionError)
        text = (str(error) or "no message").splitlines()[0][:300]
        short = _SHORT.search(text)
        if short:
            raise DataError(
                path,
                field,
                found=f"{short[1]} bytes",
                expected=f"{short[2]}",
                hint="the file is truncated or damaged",
            ) from error
        hint = "the file is truncated or damaged" if "truncated" in text else None
        raise DataError(
            path,
            field,
            found=f"{type(error).__name__}: {text}",
            expected="a readable file",
            hint=hint,
        ) from error


def bart_pair_of(path: Path) -> Path:
    """Return ``NAME.cfl`` for the stem ``NAME`` of a BART pair, else the path itself."""
    pair = [path.with_name(path.name + suffix) for suffix in (".cfl", ".hdr")]
    return pair[0] if not path.exists() and all(part.is_file() for part in pair) else path


def check_regular_file(path: Path) -> None:
    """Refuse what is missing, a folder, a device or empty.

    :raises DataError: naming which of these it is.
    """
    path = bart_pair_of(path)
    if not path.exists():
        raise DataError(path, found="no such file", expected="an existing file")
    if path.is_dir():
        from sciinv.data.reference import image_kind, is_no_scan

        if image_kind(path) is not None:
            raise is_no_scan(path)
        raise DataError(path, found="a folder", expected="a file")
    if not path.is_file():
        raise DataError(path, found="a device or pipe", expected="a regular file")
    if path.stat().st_size == 0:
        raise DataError(path, found="an empty file (0 bytes)", expected="a scan")


def is_hdf5(path: Path) -> bool:
    """Tell whether the file carries the HDF5 signature (at 0, or after a user block)."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        offset = 0
        while offset + len(_SIGNATURE) <= size:
            stream.seek(offset)
            if stream.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
            offset = 512 if offset == 0 else 2 * offset
    return False


def declared_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Return the size of an array without overflow (Python integers)."""
    total = int(itemsize)
    for n in shape:
        total *= int(n)
    return total


def refuse_unbacked(where: object, field: str | None, declared: int, stored: int) -> None:
    """Refuse arrays whose declared size is out of proportion to the bytes in the file."""
    if declared > MAX_UNBACKED_BYTES and declared > MAX_UNBACKED_RATIO * max(stored, 1):
        raise DataError(
            where,
            field,
            found=f"{declared} bytes declared and {stored} bytes stored",
            expected=f"at most {MAX_UNBACKED_RATIO} times the stored bytes",
            hint="this looks like a decompression bomb",
        )
