"""HDF5 filters: which may run, where they come from, and what a chunk unpacks to.

libhdf5 finds filters that it does not have on a search path, which the environment may set: the
path is empty while a guarded file is open, so that only HDF5's own and those of the hdf5plugin
package run. Most filters believe the size that a chunk states for itself (or unpack until the
stream ends), whatever the data set declares: 4 kB of blosc2 or 1 MB of deflate become a gigabyte.
So every stored chunk is looked at before it is read.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciinv.data.files import MAX_UNBACKED_BYTES, declared_bytes, reading
from sciinv.errors import DataError

if TYPE_CHECKING:
    import h5py

__all__ = ["FILTERS", "check_filters", "no_plugin_path"]

_DEFLATE, _SHUFFLE, _FLETCHER32, _SZIP, _NBIT, _SCALEOFFSET, _LZF = 1, 2, 3, 4, 5, 6, 32000
_BUILT_IN = frozenset({_DEFLATE, _SHUFFLE, _FLETCHER32, _SZIP, _NBIT, _SCALEOFFSET, _LZF})
_BZIP2, _BLOSC, _LZ4, _BITSHUFFLE, _ZSTD, _BLOSC2 = 307, 32001, 32004, 32008, 32015, 32026
#: Registered numbers of the filters that hdf5plugin brings.
FILTERS = {
    _BZIP2: "bzip2",
    _BLOSC: "blosc",
    _LZ4: "lz4",
    _BITSHUFFLE: "bitshuffle",
    32013: "zfp",
    _ZSTD: "zstd",
    32017: "sz",
    32018: "fcidecomp",
    32024: "sz3",
    _BLOSC2: "blosc2",
    32028: "sperr",
    32033: "htj2k",
}
# which option of a filter states the size of an element
_ELEMENT = {_SHUFFLE: 0, _BLOSC: 2, _BITSHUFFLE: 2, _BLOSC2: 2}
# those that leave the size of a chunk as it is, or nearly
_KEEP_SIZE = frozenset({_SHUFFLE, _FLETCHER32})
# bytes at the start of a chunk that state what it unpacks to
_HEADER = 8192
# what checksums and the like may add to a chunk
_SLACK = 65536
_PIECE = 2**20

_lock = threading.Lock()
_open = 0
_saved: list[bytes] = []


@contextmanager
def no_plugin_path() -> Iterator[None]:
    """Empty the search path of HDF5 filter plug-ins (it may come from the environment).

    It comes back when the last of several guarded files is closed, in whatever thread.
    """
    global _open
    from h5py import h5pl

    with _lock:
        if _open == 0:
            _saved[:] = [h5pl.get(i) for i in range(h5pl.size())]
            for _ in _saved:
                h5pl.remove(0)
        _open += 1
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if _open == 0:
                for entry in _saved:
                    h5pl.append(entry)


def check_filters(path: Path, name: str, node: h5py.Dataset) -> None:
    """Refuse filters that are unknown, not installed, repeated, or whose chunks explode.

    :raises DataError: naming the filter, or the chunk.
    """
    with reading(path, name):
        creation = node.id.get_create_plist()
        pipeline = [creation.get_filter(i) for i in range(creation.get_nfilters())]
    numbers = [int(part[0]) for part in pipeline]
    if len(numbers) != len(set(numbers)):
        raise DataError(path, name, found=f"filters {numbers}", expected="each HDF5 filter once")
    for number, part in zip(numbers, pipeline, strict=True):
        _check_available(path, name, number)
        _check_element(path, name, node, number, tuple(part[2]))
    packing = [n for n in numbers if n not in _KEEP_SIZE]
    if not numbers or node.chunks is None:
        return
    if len(packing) > 1:
        raise DataError(
            path,
            name,
            found=f"the compressions {packing} on top of each other",
            expected="one",
            hint="rewrite the file with h5repack -f GZIP=4",
        )
    index = numbers.index(packing[0]) if packing else 0
    if packing and _SHUFFLE in numbers[index + 1 :]:
        raise DataError(
            path, name, found="compressed data that are shuffled", expected="the other order"
        )
    number = packing[0] if packing else _SHUFFLE
    _check_chunks(path, name, node, number, index, tuple(pipeline[index][2]))


def _check_element(
    path: Path, name: str, node: h5py.Dataset, number: int, options: tuple[int, ...]
) -> None:
    """Refuse a size of an element that cannot be: bitshuffle divides by it, all step by it."""
    if number not in _ELEMENT or len(options) <= _ELEMENT[number]:
        return
    with reading(path, name):
        size = int(node.id.get_type().get_size())
    stated = int(options[_ELEMENT[number]])
    if stated < 1 or (number == _BITSHUFFLE and stated != size):
        raise DataError(
            path,
            name,
            found=f"HDF5 filter {number} for elements of {stated} bytes",
            expected=f"{size}",
            hint="the file is damaged",
        )


def _check_available(path: Path, name: str, number: int) -> None:
    from h5py import h5z

    if number in _BUILT_IN:
        return
    rewrite = "rewrite the file with h5repack -f GZIP=4"
    if number not in FILTERS:
        raise DataError(
            path,
            name,
            found=f"HDF5 filter {number}",
            expected="a filter of HDF5 or of the package hdf5plugin",
            hint=f"filters of HDF5_PLUGIN_PATH are not loaded; {rewrite}",
        )
    try:
        import hdf5plugin  # noqa: F401 - importing it registers its filters
    except ImportError:
        installed = False
    else:
        installed = bool(h5z.filter_avail(number))
    if not installed:
        raise DataError(
            path,
            name,
            found=f"HDF5 filter {number} ({FILTERS[number]})",
            expected="one that is installed",
            hint=f"pip install 'sciinv[filters]' brings it with hdf5plugin, or {rewrite}",
        )


def _check_chunks(
    path: Path, name: str, node: h5py.Dataset, number: int, index: int, options: tuple[int, ...]
) -> None:
    """Refuse a chunk that unpacks to another size than the data set declares for it.

    libhdf5 checks neither: more fills the memory, and behind less it reads what lies there.
    """
    found: list[Any] = []
    with reading(path, name):
        declared = declared_bytes(node.chunks or (), int(node.id.get_type().get_size()))
        node.id.chunk_iter(found.append)
    stated = _stated_size(number, options)
    # unpacking twice doubles the time, and readers in a process of their own have a limit anyway
    unbounded = not _memory_is_limited()
    with path.open("rb") as stream:
        for chunk in found:
            stored = int(chunk.size)
            where = f"{name}, chunk {tuple(int(i) for i in chunk.chunk_offset)}"
            if number in _KEEP_SIZE or chunk.filter_mask & (1 << index):
                size = stored
            elif stated is not None:
                with reading(path, where):
                    head = os.pread(stream.fileno(), _HEADER, int(chunk.byte_offset))
                    size = stated(head[:stored])
            elif unbounded and stored * _LARGEST_RATIO.get(number, 0) > MAX_UNBACKED_BYTES:
                with reading(path, where):
                    packed = node.id.read_direct_chunk(chunk.chunk_offset)[1]
                    size = _unpacked(number, packed, declared + _SLACK)
            else:
                continue
            if not declared <= size <= declared + _SLACK:
                more = size > declared
                raise DataError(
                    path,
                    where,
                    found=f"{size} bytes{' or more' if more else ''} when unpacked",
                    expected=f"{declared}",
                    hint="this looks like a decompression bomb" if more else "it is damaged",
                )


# how much the streams grow that do not state their size, below which a look is not worth its time:
# deflate's largest ratio; bzip2 has no bound worth the name; lzf stays below 100
_LARGEST_RATIO = {_DEFLATE: 1032, _BZIP2: MAX_UNBACKED_BYTES}


def _memory_is_limited() -> bool:
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _unpacked(number: int, packed: bytes, enough: int) -> int:
    """Unpack a stream piece by piece and count, until there are more than ``enough`` bytes."""
    import bz2
    import zlib

    total = 0
    if number == _BZIP2:
        bunzip, piece = bz2.BZ2Decompressor(), packed
        while not bunzip.eof and total <= enough:
            part = bunzip.decompress(piece, max_length=_PIECE)
            piece = b""
            total += len(part)
            if not part and bunzip.needs_input:
                break
        return total
    inflate = zlib.decompressobj()
    while packed and not inflate.eof and total <= enough:
        part = inflate.decompress(packed, _PIECE)
        packed = inflate.unconsumed_tail
        total += len(part)
    return total


def _stated_size(number: int, options: tuple[int, ...]) -> Callable[[bytes], int] | None:
    """Return what reads the unpacked size of a chunk from its head, ``None`` if nothing does."""
    if number in (_NBIT, _SCALEOFFSET):
        # both allocate elements times size, which they were told when the file was written
        return lambda _: options[2] * options[4] if len(options) > 4 else 0
    heads: dict[int, Callable[[bytes], int]] = {
        _SZIP: lambda head: int(struct.unpack_from("<I", head)[0]),
        _BLOSC: lambda head: int(struct.unpack_from("<I", head, 4)[0]),
        _LZ4: lambda head: int(struct.unpack_from(">Q", head)[0]),
        _ZSTD: _zstd,
        _BLOSC2: _blosc2,
    }
    if number == _BITSHUFFLE and len(options) > 4 and options[4]:
        return heads[_LZ4]  # the same head; without a compression there is none
    return heads.get(number)


def _zstd(head: bytes) -> int:
    """Content size of a zstd frame (RFC 8878, 3.1.1.1); the filter takes no frame without one."""
    if head[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("no zstd frame")
    flags = head[4]
    single = bool(flags & 0x20)
    at = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    form, offset = {0: ("<B", 0), 1: ("<H", 256), 2: ("<I", 0), 3: ("<Q", 0)}[flags >> 6]
    if flags >> 6 == 0 and not single:
        raise ValueError("a zstd frame without its size")
    return int(struct.unpack_from(form, head, at)[0]) + offset


def _blosc2(head: bytes) -> int:
    """Largest size that a blosc2 frame and its first chunk state."""
    if head[2:10] != b"b2frame\0":
        # a chunk without a frame has the layout of blosc
        return int(struct.unpack_from("<I", head, 4)[0])
    (first,) = struct.unpack_from(">I", head, 11)
    (frame,) = struct.unpack_from(">Q", head, 30)
    return max(int(frame), int(struct.unpack_from("<I", head, first + 4)[0]))
