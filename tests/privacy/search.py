"""Finding a text in any bytes: compressed, encoded, in pictures, arrays and elements."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

_DATA_URI = re.compile(rb"data:[\w/+.-]*;base64,([A-Za-z0-9+/=\s]+)")
_LONG = re.compile(rb"[A-Za-z0-9+/]{200,}={0,2}")


def layers(content: bytes, depth: int = 3) -> Iterator[bytes]:
    """Yield the bytes, and what is packed in them."""
    yield content
    if depth == 0:
        return
    for inner in _inside(content):
        yield from layers(inner, depth - 1)


def _inside(content: bytes) -> Iterator[bytes]:
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        yield from _png(content)
    elif content[:8] == b"\x89HDF\r\n\x1a\n":
        yield from _hdf5(content)
    elif content[128:132] == b"DICM":
        yield from _dicom(content)
    elif content[:4] in (b"II*\0", b"MM\0*"):
        yield from _tiff(content)
    elif content[:1] in b"{[":
        try:
            yield json.dumps(json.loads(content), ensure_ascii=False).encode("utf-8", "replace")
        except ValueError:
            pass  # several objects, one a line
    for match in (*_DATA_URI.finditer(content), *_LONG.finditer(content)):
        text = b"".join(match.group(match.lastindex or 0).split())
        try:
            yield base64.b64decode(text[: len(text) // 4 * 4])
        except binascii.Error:
            continue


def _png(content: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(content):
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        body = content[at + 8 : at + 8 + size]
        at += 12 + size
        if kind != b"IDAT":
            yield body
            start = body.find(b"\x78")  # of zlib: compressed texts and profiles
            try:
                yield zlib.decompress(body[start:])
            except zlib.error:
                continue


def _hdf5(content: bytes) -> Iterator[bytes]:
    with h5py.File(io.BytesIO(content)) as file:
        found: list[str] = []
        file.visit(found.append)
        for name in ("/", *found):
            yield name.encode()
            node = file[name]
            for key, value in node.attrs.items():
                yield key.encode()
                yield from _values(value)
            if isinstance(node, h5py.Dataset):
                yield from _values(node[()])


def _values(value: object) -> Iterator[bytes]:
    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        for one in array.reshape(-1):
            yield one if isinstance(one, bytes) else str(one).encode("utf-8", "replace")
    else:
        yield array.tobytes()


def _dicom(content: bytes) -> Iterator[bytes]:
    import pydicom

    item = pydicom.dcmread(io.BytesIO(content))
    yield str(item.file_meta).encode()
    for element in item.iterall():
        yield f"{element.tag} {element.name} {element.value!r}"[:100_000].encode()


def _tiff(content: bytes) -> Iterator[bytes]:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as file:
        for page in file.pages:
            for tag in page.tags:
                yield f"{tag.code} {tag.value!r}"[:100_000].encode()
            yield page.asarray().tobytes()


def disguises(text: str) -> Iterator[bytes]:
    """A text in the encodings that files use, in lower case (but base64)."""
    low = text.lower()
    for code in ("utf-8", "utf-16-le", "utf-16-be"):
        yield low.encode(code)
    digits = re.sub(r"[-:. T]", "", low)
    if digits.isdigit() and len(digits) >= 8:
        yield digits.encode()  # a date without its separators


def encoded(text: str) -> Iterator[bytes]:
    """The inner part of its base64, wherever it begins in a longer text."""
    for shift in range(3):
        packed = base64.b64encode(b"\0" * shift + text.encode() + b"\0" * 2)
        yield packed[(0, 2, 3)[shift] : (len(text) + shift) * 8 // 6 - 1]


def traces(content: bytes, texts: Iterable[str]) -> set[str]:
    """Which of the texts are somewhere in the bytes."""
    texts = list(texts)
    found = set()
    for layer in layers(content):
        low = layer.lower()
        beginnings: dict[tuple[bool, bytes], bool] = {}

        def holds(text: bytes, exact: bool, low=low, layer=layer, known=beginnings) -> bool:
            # many texts begin alike: most are settled by one look
            key = exact, text[:5]
            if key not in known:
                known[key] = key[1] in (layer if exact else low)
            return known[key] and text in (layer if exact else low)

        for text in texts:
            if any(holds(one, False) for one in disguises(text)) or any(
                holds(one, True) for one in encoded(text) if len(one) >= 6
            ):
                found.add(text)
    return found


def traces_of_folder(folder: Path, texts: Iterable[str]) -> dict[str, set[str]]:
    """Texts found by file, in names and content; only files with any."""
    texts = list(texts)
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        here = traces(name.encode(), texts)
        if path.is_file():
            here |= traces(path.read_bytes(), texts)
        if here:
            found[name] = here
    return found
