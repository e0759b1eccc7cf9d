"""Damage to the content of HDF5 files: valid for libhdf5, wrong for whoever wrote the layout."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from .texts import change_text

# a file that is there and must never be opened
TRAP = "/etc/hostname"
DTYPES = ("i1", "u1", ">i2", "f2", "<f8", ">f4", "c8", "c16", "?", "S8", "u8", "i8")
SIZES = (0, 1, 2, 3, 7, 2**16, 2**31, 2**40, 2**62)
VALUES: tuple[Any, ...] = (
    0, -1, 1, 1e300, float("nan"), float("inf"), "text", b"\xff\xfe", 2**63 - 1, True, 1e-320,
    np.array([1.0, 2.0]), np.zeros(0), np.zeros((2, 2)), h5py.Empty("f8"), "x" * 60_000, 2.5, 65536,
)  # fmt: skip


def rewrite_hdf5(rng: random.Random, data: bytes) -> bytes | None:
    """Change one or two objects of a file; ``None`` if nothing could be changed."""
    stream = io.BytesIO(data)
    try:
        with h5py.File(stream, "r+") as file:
            for _ in range(rng.choice((1, 1, 2))):
                sets: list[str] = []
                file.visit(sets.append)
                if sets:
                    rng.choice(_CHANGES)(rng, file, rng.choice(sets))
    except Exception:  # noqa: BLE001 - a change that does not fit this object
        return None
    return stream.getvalue()


def _remove(rng: random.Random, file: Any, name: str) -> None:
    del file[name]


def _array(node: Any) -> np.ndarray:
    """A copy of the values, if they are few: an earlier change may have declared many."""
    if np.prod(node.shape, dtype=float) > 1e6:
        raise ValueError("too many values")
    return np.array(node[()])


def _reshape(rng: random.Random, file: Any, name: str) -> None:
    array = _array(file[name])
    choice = rng.randrange(7)
    changed = (
        array[None], array[..., None], array.reshape(-1), array.T, array[:0], array[:1],
        array[..., :1],
    )[choice]  # fmt: skip
    _put(file, name, changed)


def _retype(rng: random.Random, file: Any, name: str) -> None:
    array = _array(file[name])
    with np.errstate(all="ignore"):
        _put(file, name, array.astype(rng.choice(DTYPES)))


def _put(file: Any, name: str, value: Any, **options: Any) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=value, **options)
    file[name].attrs.update(attributes)


def _values(rng: random.Random, file: Any, name: str) -> None:
    array = _array(file[name])
    if array.dtype.names and "head" in array.dtype.names:
        head = array["head"][rng.randrange(len(array))]
        _field(rng, head)
    elif array.dtype.kind in "fc":
        array.reshape(-1)[rng.randrange(array.size) :] = rng.choice(
            (0, np.nan, np.inf, 3e38, -1, 1e-45)
        )
    elif array.dtype.kind in "iub":
        array.reshape(-1)[rng.randrange(array.size)] = rng.choice((0, 1, 127))
    else:
        raise TypeError("texts have their own change")
    file[name][...] = array


def _field(rng: random.Random, record: Any) -> None:
    """Set a counter, a flag or a length of a head to anything."""
    name = rng.choice(record.dtype.names)
    if record[name].dtype.names:
        _field(rng, record[name])
    elif record[name].dtype.kind == "f":
        record[name] = rng.choice((0, np.nan, np.inf, 1e30, -1))
    else:
        largest = np.iinfo(record[name].dtype).max
        record[name] = rng.choice((0, 1, 2, largest, largest // 2, 7))


def _text(rng: random.Random, file: Any, name: str) -> None:
    node = file[name]
    raw = np.asarray(node[()], dtype=object).reshape(-1)[0]
    raw = raw.encode() if isinstance(raw, str) else bytes(raw)
    changed = change_text(rng, raw) or b""
    _put(file, name, np.bytes_(changed) if rng.random() < 0.5 else changed.decode("latin-1"))


def _attribute(rng: random.Random, file: Any, name: str) -> None:
    node = file[name] if rng.random() < 0.6 else file
    keys = list(node.attrs) or ["x"]
    key = rng.choice(keys)
    choice = rng.randrange(4)
    if choice == 0 and key in node.attrs:
        del node.attrs[key]
    elif choice == 1 and key in node.attrs:
        value = np.asarray(node.attrs[key])
        changed = (value[None], value.reshape(-1)[:1], -value, value * 0, value * 1000)
        node.attrs[key] = changed[rng.randrange(5)]
    else:
        node.attrs[key] = rng.choice(VALUES)


def _huge(rng: random.Random, file: Any, name: str) -> None:
    """Declare what is not stored."""
    node = file[name]
    shape = list(node.shape or (1,))
    shape[rng.randrange(len(shape))] = rng.choice(SIZES)
    dtype = node.dtype
    del file[name]
    file.create_dataset(name, shape=shape, dtype=dtype, chunks=(1,) * len(shape), compression=1)


def _elsewhere(rng: random.Random, file: Any, name: str) -> None:
    """Point to another file, in each of the ways that HDF5 has."""
    node = file[name]
    shape = getattr(node, "shape", (4,))
    dtype = getattr(node, "dtype", "u1")
    del file[name]
    choice = rng.randrange(5)
    if choice == 0:
        file[name] = h5py.ExternalLink(TRAP, "/x")
    elif choice == 1:
        file[name] = h5py.SoftLink(rng.choice((f"/{name}", "/", "/nothing", "a/" * 500)))
    elif choice == 2:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        file.create_dataset(name, shape, dtype, external=[(TRAP, 0, size)])
    elif choice == 3:
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource(TRAP, "x", shape)
        file.create_virtual_dataset(name, layout)
    else:
        parent = name.rsplit("/", 1)[0] if "/" in name else name
        if parent in file:
            del file[parent]
        file[parent] = h5py.ExternalLink(TRAP, "/")


def _other_object(rng: random.Random, file: Any, name: str) -> None:
    """Another kind of object under the name."""
    del file[name]
    choice = rng.randrange(5)
    if choice == 0:
        file.create_group(name)
    elif choice == 1:
        file[name] = np.dtype("f8")  # a named type
    elif choice == 2:
        file[name] = file["/"]  # a cycle
    elif choice == 3:
        file.create_dataset(name, (2,), h5py.vlen_dtype(np.float32))
    else:
        file[name] = h5py.Empty("f4")


def _rename(rng: random.Random, file: Any, name: str) -> None:
    others: list[str] = []
    file.visit(others.append)
    other = rng.choice([*others, "x", "data", "kspace", "exchange", "entry", "dataset/xml", "xml"])
    if other in file:
        value = file[other]
        del file[name]
        file[name] = value
    else:
        file.move(name, other)


def _heads(rng: random.Random, file: Any, name: str) -> None:
    """Change a head of ISMRMRD readouts, if there are any; else the values of something."""
    tables = ["dataset/data"] if "dataset/data" in file else [name]
    _values(rng, file, tables[0])


_CHANGES: tuple[Callable[[random.Random, Any, str], None], ...] = (
    _remove, _reshape, _retype, _values, _text, _text, _text, _attribute, _attribute, _huge,
    _elsewhere, _other_object, _rename, _heads, _heads, _heads,
)  # fmt: skip
