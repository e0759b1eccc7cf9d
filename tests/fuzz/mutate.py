"""Damage to bytes, drawn from a generator of the standard library: one integer gives one mutant."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zipfile
import zlib

from .parts import Seed
from .rewrite import rewrite_hdf5
from .rewrite_images import rewrite_dicom, rewrite_nifti
from .texts import change_text, is_text

MAGIC = (0, 1, 2, 4, 8, 0x0A, 0x20, 0x2D, 0x30, 0x7F, 0x80, 0xFE, 0xFF)
# places in whose neighbourhood the structure of a file lies
LANDMARKS = (
    b"\x89HDF", b"OHDR", b"TREE", b"HEAP", b"SNOD", b"GCOL", b"BTHD", b"FRHP", b"FADB", b"FAHD",
    b"EAHD", b"OCHK", b"\x93NUMPY", b"PK\x01\x02", b"PK\x05\x06", b"PK\x03\x04", b"II*\0",
    b"II+\0", b"MM\0*", b"MM\0+", b"ASCCONV", b"MeasYaps", b"MATLAB 5.0", b"# Dimensions",
    b"__metadata__", b"DICM", b"n+1\0", b"ni1\0", b"<encoding", b"matrixSize",
)  # fmt: skip
EXTREMES = (0, 1, -1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1,
            2**63 - 1, 2**63, 2**64 - 1, 0x1000, 0x10000, 1 << 40)  # fmt: skip
_LARGEST = 1 << 20


def mutant(seeds: list[Seed], number: int) -> Seed:
    """The mutant of a number: one of the seeds, one of whose files is damaged."""
    rng = random.Random(number)  # noqa: S311 - to be repeated, not to be secret
    seed = rng.choice(seeds)
    target = rng.choice(seed.targets)
    others = [other.files[target] for other in seeds if target in other.files]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of writers, about what is wrong on purpose
        content = damage(rng, seed.files[target], others)
    return Seed({**seed.files, target: content}, seed.main, (target,))


def damage(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Damage one file: what is known of its structure is used half of the time."""
    if rng.random() < 0.5:
        changed = _by_structure(rng, data, others)
        if changed is not None and changed != data:
            # sometimes both
            return changed if rng.random() < 0.8 else _bytes(rng, changed, others)
    return _bytes(rng, data, others)


def _by_structure(rng: random.Random, data: bytes, others: list[bytes]) -> bytes | None:
    if data[:4] == b"\x89HDF":
        return rewrite_hdf5(rng, data)
    if data[:2] == b"PK":
        return _inside_zip(rng, data, others)
    if data[:10] == b"MATLAB 5.0":
        return _inside_matlab(rng, data)
    if data[8:10] == b'{"':
        # safetensors: the length of the header, the header
        length = struct.unpack("<Q", data[:8])[0]
        header = change_text(rng, data[8 : 8 + length]) or b""
        return struct.pack("<Q", len(header)) + header + data[8 + length :]
    if data[:2] == b"\x1f\x8b":
        inner = damage(rng, zlib.decompress(data, wbits=31), [])
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        return packer.compress(inner) + packer.flush()
    if data[128:132] == b"DICM":
        return rewrite_dicom(rng, data)
    if data[344:347] == b"n+1":
        return rewrite_nifti(rng, data)
    return change_text(rng, data) if is_text(data) else None


def _inside_zip(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Damage a member and write the archive anew, so that its checksums hold."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    chosen = rng.randrange(len(members))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for index, (info, content) in enumerate(members):
            name = info.filename
            if index == chosen and rng.random() < 0.8:
                content = change_text(rng, content) or _bytes(rng, content, [])
            elif index == chosen:
                name = rng.choice(["../escape.npy", "/tmp/escape.npy", "k.npy", "\0.npy", name * 9])
            packing = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
            archive.writestr(zipfile.ZipInfo(name), content, packing)
    return stream.getvalue()


def _inside_matlab(rng: random.Random, data: bytes) -> bytes | None:
    """Damage one compressed element and compress it again."""
    elements, position = [], 128
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, position)
        if kind == 15 and position + 8 + size <= len(data):
            elements.append((position, size))
        position += 8 + (size if kind == 15 else -(-size // 8) * 8)
    if not elements:
        return None
    position, size = rng.choice(elements)
    inner = _bytes(rng, zlib.decompress(data[position + 8 : position + 8 + size]), [])
    packed = zlib.compress(inner, 1)
    head = struct.pack("<II", 15, len(packed))
    return data[:position] + head + packed + data[position + 8 + size :]


# bytes ------------------------------------------------------------------------------------------
def _bytes(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6, 16))):
        if not content:
            break
        change = rng.choice(_CHANGES)
        change(rng, content, others)
        del content[_LARGEST:]
    # libhdf5 goes no further where the stated end of the file is not its end
    if data[:9] == b"\x89HDF\r\n\x1a\n\0" and len(content) > 96 and rng.random() < 0.7:
        content[40:48] = len(content).to_bytes(8, "little")
    return bytes(content)


def _place(rng: random.Random, content: bytearray) -> int:
    """A position: near a landmark, near an end, or anywhere."""
    draw = rng.random()
    if draw < 0.45:
        found = content.find(rng.choice(LANDMARKS), rng.randrange(len(content)))
        if found < 0:
            found = content.find(rng.choice(LANDMARKS))
        if found >= 0:
            return min(found + rng.randrange(96), len(content) - 1)
    if draw < 0.6:
        return min(rng.randrange(256), len(content) - 1)
    return rng.randrange(len(content))


def _flip(rng: random.Random, content: bytearray, others: list[bytes]) -> None:
    content[_place(rng, content)] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, content: bytearray, others: list[bytes]) -> None:
    content[_place(rng, content)] = rng.choice(MAGIC)


def _integer(rng: random.Random, content: bytearray, others: list[bytes]) -> None:
    """An aligned field: one more, one less, or an extreme value."""
    width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "little", "big"))
    start = _place(rng, content) // width * width
    field = content[start : start + width]
    value = int.from_bytes(field, order) + rng.choice((1, -1))  # type: ignore[arg-type]
    if rng.random() < 0.5:
        value = rng.choice(EXTREMES)
    content[start : start + width] = (value % (1 << 8 * width)).to_bytes(width, order)[: len(field)]  # type: ignore[arg-type]


def _cut(rng: random.Random, content: bytearray, others: list[bytes]) -> None:
    del content[_place(rng, content) :]


def _extend(rng: random.Random, content: bytearray, others: list[bytes]) -> None:
    content += rng.choice(
        (bytes(rng.randrange(1, 600)), rng.randbytes(rng.randrange(1, 600)), content[:4096])
    )


def _span(rng: random.Random, content: bytearray) -> slice:
    start = _place(rng, content)
    return slice(start, start + rng.choice((1, 2, 4, 8, 16, 64, rng.randrange(1, 1024))))


def _delete(rng: random.Random, content: bytearray, others: list[bytes]) -> None:
    del content[_span(rng, content)]


def _duplicate(rng: random.Random, content: bytearray, others: list[bytes]) -> None:
    part, where = content[_span(rng, content)], _place(rng, content)
    content[where:where] = part


def _move(rng: random.Random, content: bytearray, others: list[bytes]) -> None:
    part, where = content[_span(rng, content)], _place(rng, content)
    content[where : where + len(part)] = part


def _splice(rng: random.Random, content: bytearray, others: list[bytes]) -> None:
    if others:
        other = bytearray(rng.choice(others))
        span = _span(rng, other)
        content[span] = other[span]


def _fill(rng: random.Random, content: bytearray, others: list[bytes]) -> None:
    span = _span(rng, content)
    content[span] = bytes([rng.choice(MAGIC)]) * len(content[span])


_CHANGES = (_flip, _flip, _set, _set, _integer, _integer, _integer, _cut, _extend, _delete,
            _duplicate, _move, _splice, _fill)  # fmt: skip
