"""Scans, images and errors as bytes: a JSON header, then the arrays, raw.

The reading process may have been taken over by the file it reads, so the receiving side trusts
nothing: types, names of fields, dtypes and lengths are checked before anything is allocated, and
nothing is ever unpickled. The layout is an agreement between two processes of one installation and
may change with every release::

    8 bytes       MAGIC
    8 bytes       length of the header, big-endian
    header        JSON: {"arrays": [[dtype, shape], ...], "scan": ...} or {"error": ..., ...}
    arrays        C order, native byte order, one after the other
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sciinv import errors
from sciinv.data.files import declared_bytes
from sciinv.data.reference import Image
from sciinv.data.scan import (
    DiffractionGeometry,
    FanGeometry,
    MRIGeometry,
    NonCartesianGeometry,
    ParallelGeometry,
    Scan,
)
from sciinv.errors import DataError, SciinvError

_Answer = TypeVar("_Answer", Scan, Image)
__all__ = ["WireError", "error_parts", "read_answer", "scan_parts"]

MAGIC = b"sciinv\x01\n"
MAX_HEADER = 16 * 2**20
_MAX_AXES = 32
#: Everything that may cross, in this machine's byte order.
DTYPES = frozenset(
    np.dtype(name).str
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float32", "float64", "complex64", "complex128"),
    )
)
_GEOMETRIES: dict[str, type] = {
    c.__name__: c
    for c in (
        MRIGeometry,
        NonCartesianGeometry,
        ParallelGeometry,
        FanGeometry,
        DiffractionGeometry,
    )
}
_ERROR_FIELDS = ("where", "field", "found", "expected", "hint")
# about so many bytes are made contiguous at a time
_BLOCK = 16 * 2**20


class WireError(Exception):
    """The other side did not keep to the layout."""


# sending ----------------------------------------------------------------------------------------
class _Encoder:
    """Turns the fields of a scan or image into JSON and collects its arrays."""

    def __init__(self, scan: Scan | Image) -> None:
        self.scan = scan
        self.arrays: list[NDArray[Any]] = []

    def dataclass(self, value: Any, name: str) -> list[list[Any]]:  # noqa: ANN401
        described = []
        for f in fields(value):
            item = _plain(getattr(value, f.name))
            if not _fits(item, str(f.type)):
                raise self.refusal(f"{name}{f.name}", f"a {_type(item)}")
            described.append([f.name, self.value(item, f"{name}{f.name}")])
        return described

    def value(self, value: Any, name: str) -> Any:  # noqa: ANN401
        if type(value) in _GEOMETRIES.values():
            return {type(value).__name__: self.dataclass(value, f"{name}.")}
        if isinstance(value, tuple):
            return {"tuple": [self.value(item, name) for item in value]}
        if isinstance(value, dict):
            return {"dict": [[k, self.value(v, name)] for k, v in value.items()]}
        if isinstance(value, Path):
            return {"path": os.fsencode(value).hex()}
        if isinstance(value, np.ndarray):
            array = value.astype(value.dtype.newbyteorder("="), copy=False)
            if array.dtype.str not in DTYPES:
                raise self.refusal(name, f"an array of dtype {array.dtype}")
            self.arrays.append(array)
            return {"array": len(self.arrays) - 1}
        return value

    def refusal(self, name: str, found: str) -> DataError:
        source, form = (
            (self.scan.source, str(self.scan.format))
            if isinstance(self.scan, Scan)
            else ("an image", "image")
        )
        return DataError(
            source,
            name,
            found=f"{found} from the reader of the format {form!r}",
            expected="text, numbers, tuples of them and numeric arrays",
            hint="it cannot leave the process that reads the file",
        )


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return Python's own numbers and text for those of NumPy, and tuples for lists."""
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return value.item()
    if isinstance(value, str):
        return str(value)
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if type(value) in (tuple, list):
        return tuple(_plain(item) for item in value)
    if type(value) is dict:
        return {_plain(k): _plain(v) for k, v in value.items()}
    return value


def _type(value: object) -> str:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    names = sorted({type(item).__name__ for item in inner})
    return type(value).__name__ + (f" of {', '.join(names)}" if names else "")


def scan_parts(scan: Scan | Image) -> Iterator[memoryview | bytes]:
    """Yield a scan or an image as pieces of bytes to be written one after the other.

    :raises DataError: it holds what is not plain, naming the field and the format.
    """
    if type(scan) not in (Scan, Image):
        raise DataError(
            "the reader of a format", found=f"a {type(scan).__name__}", expected="a sciinv.Scan"
        )
    encoder = _Encoder(scan)
    described = encoder.dataclass(scan, "")
    arrays = [[a.dtype.str, list(a.shape)] for a in encoder.arrays]
    yield _head({"arrays": arrays, "scan": described})
    for array in encoder.arrays:
        yield from _pieces(array)


def error_parts(error: BaseException) -> Iterator[bytes]:
    """Yield an error of sciinv, or any other as its type and first line."""
    if isinstance(error, DataError):
        said: dict[str, Any] = {"error": "DataError"}
        said |= {name: getattr(error, name) for name in _ERROR_FIELDS}
    elif isinstance(error, SciinvError):
        said = {"error": type(error).__name__, "text": str(error)}
    elif isinstance(error, MemoryError):
        said = {"error": "MemoryError"}
    else:
        line = next(iter(str(error).splitlines()), "no message")
        said = {"error": "other", "text": f"{type(error).__name__}: {line[:300]}"}
    yield _head(said)


def _head(said: dict[str, Any]) -> bytes:
    # ASCII: lone surrogates of file names that are no UTF-8 pass as escapes
    header = json.dumps(said).encode("ascii")
    return MAGIC + len(header).to_bytes(8, "big") + header


def _pieces(array: NDArray[Any]) -> Iterator[memoryview]:
    """Yield the bytes of an array in C order; only a block of a strided one is copied at a time."""
    if array.size == 0:
        return
    if array.flags.c_contiguous or array.nbytes <= _BLOCK or array.ndim < 2:
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        return
    for part in array:
        yield from _pieces(part)


# receiving --------------------------------------------------------------------------------------
def read_answer(
    readinto: Callable[[memoryview], int | None], max_bytes: int, wanted: type[_Answer]
) -> _Answer:
    """Receive a scan or an image.

    :param readinto: fills the start of a buffer and returns how many bytes; 0 at the end.
    :param max_bytes: that all arrays may have together.
    :param wanted: which of the two.
    :raises WireError: anything that a reading process of ours would not say.
    :raises EOFError: the answer ends early.
    :raises SciinvError: what the other side reports. MemoryError: it ran out of memory.
    """
    head = _exactly(readinto, 16)
    size = int.from_bytes(head[8:], "big")
    if head[:8] != MAGIC or size > MAX_HEADER:
        raise WireError("no header")
    try:
        said = json.loads(bytes(_exactly(readinto, size)))
    except (ValueError, RecursionError):
        raise WireError("a header that is not JSON") from None
    if not isinstance(said, dict):
        raise WireError("a header that is no object")
    if "error" in said:
        raise _error(said)
    arrays = _arrays(said.get("arrays"), readinto, max_bytes)
    try:
        answer = _build(wanted, said.get("scan"), arrays)
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError(str(error)) from None
    assert isinstance(answer, wanted)  # noqa: S101
    return answer


def _exactly(readinto: Callable[[memoryview], int | None], size: int) -> bytearray:
    buffer = bytearray(size)
    _fill(readinto, memoryview(buffer))
    return buffer


def _fill(readinto: Callable[[memoryview], int | None], view: memoryview) -> None:
    while len(view):
        count = readinto(view)
        if not count:
            raise EOFError
        view = view[count:]


def _error(said: dict[str, Any]) -> BaseException:
    name, text = said["error"], said.get("text")
    if name == "MemoryError":
        return MemoryError()
    if name == "DataError":
        parts = [said.get(field) for field in _ERROR_FIELDS]
        if all(part is None or isinstance(part, str) for part in parts):
            where, field, found, expected, hint = parts
            return DataError(where, field, found=found, expected=expected, hint=hint)
    elif isinstance(name, str) and isinstance(text, str):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, SciinvError) and kind is not DataError:
            return kind(text)
        return WireError(text)
    return WireError("an error of unknown form")


def _arrays(
    described: object, readinto: Callable[[memoryview], int | None], max_bytes: int
) -> list[NDArray[Any]]:
    if not isinstance(described, list):
        raise WireError("no list of arrays")
    total = 0
    for item in described:
        if not (isinstance(item, list) and len(item) == 2 and isinstance(item[1], list)):
            raise WireError("an array without dtype and shape")
        dtype, shape = item
        whole = all(type(n) is int and n >= 0 for n in shape)
        if not isinstance(dtype, str) or dtype not in DTYPES or len(shape) > _MAX_AXES or not whole:
            raise WireError(f"an array of dtype {str(dtype)[:20]!r} and shape {str(shape)[:80]}")
        total += declared_bytes(tuple(shape), np.dtype(dtype).itemsize)
    if total > max_bytes:
        raise WireError(f"{total} bytes of arrays, more than the {max_bytes} that are allowed")
    arrays = []
    for dtype, shape in described:
        array = np.empty(tuple(shape), dtype=dtype)
        if array.size:
            _fill(readinto, array.reshape(-1).view(np.uint8).data)
        arrays.append(array)
    return arrays


def _build(kind: type, described: object, arrays: list[NDArray[Any]]) -> object:
    """Make a dataclass of named fields, each of the type that it is annotated with."""
    if not isinstance(described, list):
        raise TypeError(f"no fields of {kind.__name__}")
    found = {name: _decode(value, arrays) for name, value in described}
    wanted = {f.name: str(f.type) for f in fields(kind)}
    if found.keys() != wanted.keys():
        raise TypeError(f"other fields than those of {kind.__name__}")
    for name, value in found.items():
        if not _fits(value, wanted[name]):
            raise TypeError(f"{kind.__name__}.{name} is a {type(value).__name__}")
    return kind(**found)


def _decode(value: Any, arrays: list[NDArray[Any]]) -> Any:  # noqa: ANN401
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise TypeError("a value of unknown form")
    ((key, inner),) = value.items()
    if key == "array" and type(inner) is int and 0 <= inner < len(arrays):
        return arrays[inner]
    if key == "path" and isinstance(inner, str):
        return Path(os.fsdecode(bytes.fromhex(inner)))
    if key == "tuple" and isinstance(inner, list):
        return tuple(_decode(item, arrays) for item in inner)
    if key == "dict" and isinstance(inner, list):
        return {k: _decode(v, arrays) for k, v in inner}
    if key in _GEOMETRIES:
        return _build(_GEOMETRIES[key], inner, arrays)
    raise TypeError(f"a value of unknown kind {str(key)[:20]!r}")


_ANNOTATIONS: dict[str, Any] = {
    "None": NoneType,
    "bool": bool,
    "str": str,
    "Literal": str,
    "int": int,
    "float": int | float,
    "tuple": tuple,
    "dict": dict,
    "Path": Path,
    "NDArray": np.ndarray,
    "Geometry": tuple(_GEOMETRIES.values()),
}


def _fits(value: object, annotation: str) -> bool:
    """Tell whether a value is one of an annotation's kinds, and plain inside."""
    allowed = [_ANNOTATIONS[part.partition("[")[0]] for part in annotation.split(" | ")]
    if not any(isinstance(value, kind) for kind in allowed):
        return False
    if annotation.startswith("Literal"):
        return repr(value) in annotation  # which is normalised to single quotes
    if isinstance(value, tuple):
        element: Any = str if annotation.startswith("tuple[str") else int | float
        return all(isinstance(item, element) for item in value)
    if isinstance(value, dict):
        plain = (str, int, float, NoneType)
        return all(isinstance(k, str) and isinstance(v, plain) for k, v in value.items())
    return True
