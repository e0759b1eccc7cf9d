"""The global heaps of an HDF5 file, in which texts and lists of variable length lie.

libhdf5 walks over the objects of a heap by their stated sizes; where a damaged one states nothing
for what follows, it never comes back. So the sizes are checked before anything in a heap is read.
Layout: HDF5 File Format Specification, III.E (Disk Format: Level 1E, Global Heap).
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from sciinv.errors import DataError

__all__ = ["check_heaps"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL"
_ALIGN = 8


def check_heaps(path: Path) -> None:
    """Walk over all heaps of a file as libhdf5 does.

    :raises DataError: an object of a heap that ends outside it, or free space of no size.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        width = _width(data)
        at = data.find(_HEAP)
        while at >= 0:
            if data[at + 4 : at + 5] == b"\1":
                _check(path, data, at, width)
            at = data.find(_HEAP, at + 1)


def _width(data: mmap.mmap) -> int:
    """Bytes of a length in this file, from its superblock."""
    start = 0
    while start < len(data) and data[start : start + 8] != _SIGNATURE:
        start = 512 if start == 0 else 2 * start
    head = data[start : start + 16].ljust(16, b"\0")
    width = head[14] if head[8] < 2 else head[10]
    return width if width in (2, 4, 8) else 8


def _check(path: Path, data: mmap.mmap, start: int, width: int) -> None:
    # heaps begin at multiples of 8 (after a user block too); elsewhere it is a word in data, or a
    # reference is damaged too: then only what never ends counts
    strict = start % _ALIGN == 0

    def length(at: int) -> int:
        return int.from_bytes(data[at : at + width], "little")

    head = _padded(8 + width)
    item = _padded(8 + width)
    end = start + length(start + 8)
    if strict and (end > len(data) or end < start + head):
        raise _damaged(path, start)
    end = min(end, len(data))
    at = start + head
    # what is shorter than the head of an object is not used
    while at + item <= end:
        (index,) = struct.unpack_from("<H", data, at)
        size = length(at + 8)
        step = item + _padded(size) if index else size
        if step == 0 or (strict and (step < item or at + step > end)):
            raise _damaged(path, start)
        at += step


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _damaged(path: Path, start: int) -> DataError:
    return DataError(
        path,
        f"heap at byte {start}",
        found="an object outside its heap, or of no size",
        expected="a readable file",
        hint="the file is truncated or damaged",
    )
