"""MATLAB 5 ``.mat``: named bare arrays; a side-car says what they mean.

Read here and not by scipy, whose reader can crash the interpreter on a damaged file. Only what is
needed: numeric arrays, real or complex, compressed or not, of the top level or in a field of a
(1 x 1) structure, named ``structure.field``.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.files import declared_bytes, reading, refuse_unbacked
from sciinv.data.formats.arrays import pick_name
from sciinv.data.formats.bare import scan_of_array
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar
from sciinv.errors import DataError

NAME = "matlab5"
_HEADER = 128
_MAX_VARIABLES = 10_000
_MATRIX, _COMPRESSED = 14, 15
# type of stored data -> NumPy
_STORED = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
# class of an array -> NumPy; data may be stored in a smaller type
_NUMERIC = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
_OTHER = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function"}


@dataclass(frozen=True)
class _Variable:
    """Where a variable lies and what it is; ``body`` is the content of its matrix element."""

    name: str
    shape: tuple[int, ...]
    kind: int
    is_complex: bool
    start: int
    size: int
    packed: bool
    inner_size: int = 0


def sniff(path: Path) -> bool:
    """Tell whether the file starts like a MATLAB 5 file (7.3 is HDF5)."""
    with path.open("rb") as stream:
        return stream.read(10) == b"MATLAB 5.0"


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read the variable that the side-car names (or the only one) and interpret it."""
    return scan_of_array(path, sidecar, NAME)


def read_array(path: Path, name: str | None) -> NDArray[Any]:
    """Read one numeric variable, or one field of a structure: ``"structure.field"``.

    :raises DataError: no such variable, a cell, structure or object, a size out of proportion,
        damage.
    """
    data = path.read_bytes()
    with reading(path):
        order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
        if order is None or len(data) < _HEADER:
            raise DataError(path, found="a damaged header", expected="MATLAB 5")
        variables = {v.name: v for v in _variables(path, data, order)}
    if name is not None and "." in name and name not in variables:
        with reading(path, name):
            return _field(path, data, order, variables, name)
    if name in variables and variables[name].kind not in _NUMERIC:
        found = _OTHER.get(variables[name].kind, "object")
        raise DataError(
            path,
            name,
            found=f"a variable of class {found}",
            expected="numbers",
            hint=_hint(path, data, order, variables),
        )
    numeric = [key for key, v in variables.items() if v.kind in _NUMERIC]
    if not numeric:
        shown = [f"{v.name} ({_OTHER.get(v.kind, 'object')})" for v in variables.values()]
        raise DataError(
            path,
            found=", ".join(shown[:8]) or "no variable",
            expected="a numeric array",
            hint=_hint(path, data, order, variables),
        )
    chosen = pick_name(path, numeric, name)
    with reading(path, chosen):
        return _array(path, data, order, variables[chosen])


def _hint(path: Path, data: bytes, order: str, variables: dict[str, _Variable]) -> str | None:
    """Name the fields of the structures, so that one of them can be asked for."""
    shown: list[str] = []
    for variable in variables.values():
        if _OTHER.get(variable.kind) == "struct":
            with suppress(Exception):  # only a hint: a damaged structure has none
                body = _body(path, data, variable)
                shown += [f"{variable.name}.{name}" for name in _fields(body, order)]
    return "fields are named by a dot: " + ", ".join(shown[:8]) if shown else None


def _field(
    path: Path, data: bytes, order: str, variables: dict[str, _Variable], name: str
) -> NDArray[Any]:
    """Walk from a structure of the top level to a numeric field."""
    first, *rest = name.split(".")
    if first not in variables:
        pick_name(path, list(variables), first)
    variable, body, walked = variables[first], b"", first
    for step in rest:
        if _OTHER.get(variable.kind) != "struct":
            found = _OTHER.get(variable.kind, "numbers")
            raise DataError(path, walked, found=f"{found}, not a structure", expected="a structure")
        if declared_bytes(variable.shape, 1) != 1:
            raise DataError(
                path,
                walked,
                found=f"an array of structures, shape {variable.shape}",
                expected="a single structure",
            )
        body = body or _body(path, data, variable)
        fields = _fields(body, order)
        if step not in fields:
            pick_name(path, list(fields), step)
        start, size = fields[step]
        body, walked = body[start : start + size], f"{walked}.{step}"
        if not body:
            raise DataError(path, walked, found="an empty field", expected="numbers")
        # the content of a field is a matrix element like any other, only without a name
        variable = replace(_describe(body, order, 0, len(body)), name=walked)
    if variable.kind not in _NUMERIC:
        found = _OTHER.get(variable.kind, "object")
        raise DataError(path, name, found=f"a field of class {found}", expected="numbers")
    return _array(path, body, order, variable)


def _body(path: Path, data: bytes, variable: _Variable) -> bytes:
    """Return the content of a structure's matrix element, unpacked within the usual bounds."""
    body = data[variable.start : variable.start + variable.size]
    if not variable.packed:
        return body
    refuse_unbacked(path, variable.name, variable.inner_size, variable.size)
    return zlib.decompressobj().decompress(body, variable.inner_size + 8)[8:]


def _fields(body: bytes, order: str) -> dict[str, tuple[int, int]]:
    """Return where the fields of a structure lie in its content: start and size."""
    position = 0
    for _ in range(3):  # flags, dimensions, name
        _, position = _element(body, order, position)
    length, position = _element(body, order, position)
    names, position = _element(body, order, position)
    width = int(length[0])
    if not 1 <= width <= 256 or names.nbytes % width:
        raise ValueError(f"field names of {width} bytes in {names.nbytes}")
    text = names.tobytes()
    found: dict[str, tuple[int, int]] = {}
    for k in range(len(text) // width):
        name = text[k * width : (k + 1) * width].split(b"\0")[0].decode("ascii", "replace")
        kind, size = struct.unpack_from(order + "II", body, position)
        start = position + 8
        if kind != _MATRIX or start + size > len(body):
            raise ValueError(f"{size} bytes announced for field {name!r}: truncated")
        found[name] = (start, size)
        position = start + -(-size // 8) * 8
    return found


def _variables(path: Path, data: bytes, order: str) -> list[_Variable]:
    """Walk over the elements of the file; of compressed ones only the first bytes are unpacked."""
    found: list[_Variable] = []
    position = _HEADER
    while position + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, position)
        start = position + 8
        if start + size > len(data):
            raise DataError(
                path,
                f"element {len(found)}",
                found=f"{len(data) - start} bytes",
                expected=f"{size}",
                hint="the file is truncated",
            )
        if kind == _COMPRESSED:
            head = zlib.decompressobj().decompress(data[start : start + size], 4096)
            inner, inner_size = struct.unpack_from(order + "II", head, 0)
            if inner == _MATRIX:
                found.append(_describe(head[8:], order, start, inner_size, packed_in=size))
        elif kind == _MATRIX:
            found.append(_describe(data[start : start + min(size, 4096)], order, start, size))
        elif kind not in _STORED:
            raise DataError(
                path, f"element {len(found)}", found=f"type {kind}", expected="a matrix"
            )
        if len(found) > _MAX_VARIABLES:
            raise DataError(path, found="too many variables", expected=f"{_MAX_VARIABLES}")
        # elements are padded to 8 bytes, compressed ones are not
        position = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
    return [variable for variable in found if variable.name]


def _describe(
    head: bytes, order: str, start: int, size: int, *, packed_in: int | None = None
) -> _Variable:
    """Parse array flags, dimensions and name."""
    flags, position = _element(head, order, 0)
    word = int(flags[0])
    kind = word & 0xFF
    if kind not in _NUMERIC and kind not in _OTHER:
        # opaque objects carry no dimensions
        return _Variable(f"object at {start}", (), kind, False, start, size, False)
    dims, position = _element(head, order, position)
    name, _ = _element(head, order, position)
    shape = tuple(int(n) for n in dims)
    if any(n < 0 for n in shape) or len(shape) > 16:
        raise ValueError(f"dimensions {shape[:16]}")
    return _Variable(
        name=name.tobytes().decode("ascii", "replace"),
        shape=shape,
        kind=kind,
        is_complex=bool(word & 0x0800),
        start=start,
        size=size if packed_in is None else packed_in,
        packed=packed_in is not None,
        inner_size=size,
    )


def _element(data: bytes, order: str, position: int) -> tuple[NDArray[Any], int]:
    """Read one data element (also the small form); return it and the next position."""
    (word,) = struct.unpack_from(order + "I", data, position)
    if word >> 16:
        kind, size, start, end = word & 0xFFFF, word >> 16, position + 4, position + 8
    else:
        kind, (size,) = word, struct.unpack_from(order + "I", data, position + 4)
        start = position + 8
        end = start + -(-size // 8) * 8
    if kind not in _STORED or (word >> 16 and size > 4):
        raise ValueError(f"data of type {kind}, {size} bytes")
    dtype = np.dtype(order + _STORED[kind])
    if start + size > len(data) or size % dtype.itemsize:
        raise ValueError(f"{size} bytes announced and {len(data) - start} present: truncated")
    return np.frombuffer(data, dtype, size // dtype.itemsize, start), end


def _array(path: Path, data: bytes, order: str, variable: _Variable) -> NDArray[Any]:
    dtype = np.dtype(_NUMERIC[variable.kind])
    parts = 2 if variable.is_complex else 1
    declared = parts * declared_bytes(variable.shape, dtype.itemsize)
    refuse_unbacked(path, variable.name, declared, variable.size)
    body = data[variable.start : variable.start + variable.size]
    if variable.packed:
        # flags, dimensions, name and tags take less than 8192 bytes more than the numbers
        unpacked = zlib.decompressobj().decompress(body, declared + 8192)
        body = unpacked[8:]
    position = 0
    for _ in range(3):  # flags, dimensions, name
        _, position = _element(body, order, position)
    values = []
    for _ in range(parts):
        stored, position = _element(body, order, position)
        values.append(stored.astype(dtype))
    array = values[0] if parts == 1 else values[0] + 1j * values[1]
    if array.size != declared_bytes(variable.shape, 1):
        raise ValueError(f"{array.size} numbers for shape {variable.shape}")
    return array.reshape(variable.shape, order="F")
