"""The one place that opens HDF5 files: nothing outside the named file is ever read.

HDF5 can quietly point elsewhere: external links (at any component of a path), soft links that lead
to them, external raw storage (looks like an ordinary data set; any file of the host becomes data),
virtual data sets of other files and filter plug-ins loaded from a search path. It can also declare
petabytes in a file of a kilobyte. Everything here is refused from the metadata, before any read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.files import (
    check_regular_file,
    declared_bytes,
    is_hdf5,
    reading,
    refuse_unbacked,
)
from sciinv.data.filters import check_filters, no_plugin_path
from sciinv.data.heaps import check_heaps
from sciinv.errors import DataError

if TYPE_CHECKING:
    import h5py

__all__ = ["GuardedHDF5", "open_hdf5"]

_MAX_LINKS = 16
_MAX_ATTRIBUTE_BYTES = 65536
# libhdf5 visits every chunk of a data set, also those that were never written
_MAX_MISSING_CHUNKS = 100_000
_KINDS = {
    "c": "complex numbers",
    "f": "floating-point numbers",
    "i": "integers",
    "u": "integers",
    "b": "booleans",
}


class GuardedHDF5:
    """A read-only view of one HDF5 file that checks every object before it is touched."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        """Wrap an open file; use :func:`open_hdf5`."""
        self.path = path
        self._file = file
        self._declared = 0
        self._stored = 0
        self._checked: set[str] = set()
        self._heaps_checked = False

    # walking ------------------------------------------------------------------------------------
    def _parts(self, name: str) -> list[str]:
        return [part for part in name.split("/") if part not in ("", ".")]

    def _walk(self, name: str) -> Any:  # noqa: ANN401
        """Open ``name`` component by component; ``None`` if it does not exist."""
        with reading(self.path, name):
            root = self._file["/"]
        return self._follow(root, name, name, [_MAX_LINKS])

    def _follow(self, start: Any, target: str, name: str, budget: list[int]) -> Any:  # noqa: ANN401
        """Walk to ``target`` from a group; ``name`` is what the caller asked for."""
        import h5py

        with reading(self.path, name):
            node: Any = self._file["/"] if target.startswith("/") else start
        for part in self._parts(target):
            if not isinstance(node, h5py.Group):
                return None
            with reading(self.path, name):
                link = node.get(part, getlink=True)
            if link is None:
                return None
            if isinstance(link, h5py.ExternalLink):
                raise DataError(
                    self.path,
                    name,
                    found=f"an external link at {part!r}",
                    expected="data stored in this file",
                    hint="copy the data into the file first",
                )
            if isinstance(link, h5py.SoftLink):
                budget[0] -= 1
                if budget[0] < 0:
                    raise DataError(
                        self.path, name, found="a cycle of soft links", expected="a data set"
                    )
                node = self._follow(node, link.path, name, budget)
                if node is None:
                    return None
                continue
            if not isinstance(link, h5py.HardLink):
                raise DataError(
                    self.path, name, found=f"a user-defined link at {part!r}", expected="a data set"
                )
            with reading(self.path, name):
                node = node[part]
        return node

    def __contains__(self, name: str) -> bool:
        """Tell whether the object exists; links that leave the file raise."""
        return self._walk(name) is not None

    def keys(self, name: str = "/") -> list[str]:
        """Return the names of the members of a group (without opening them)."""
        import h5py

        node = self._walk(name)
        if not isinstance(node, h5py.Group):
            return []
        with reading(self.path, name):
            return [str(key) for key in node]

    def is_dataset(self, name: str) -> bool:
        """Tell whether the object exists and is a data set."""
        import h5py

        return isinstance(self._walk(name), h5py.Dataset)

    # checks -------------------------------------------------------------------------------------
    def _dataset(self, name: str) -> h5py.Dataset:
        import h5py

        node = self._walk(name)
        if node is None:
            here = ", ".join(self.keys()[:12]) or "nothing"
            raise DataError(self.path, name, found=f"no such data set (the file holds {here})")
        if not isinstance(node, h5py.Dataset):
            raise DataError(self.path, name, found="a group", expected="a data set")
        with reading(self.path, name):
            if node.is_virtual:
                raise DataError(
                    self.path,
                    name,
                    found="a virtual data set",
                    expected="data stored in this file",
                    hint="copy it into a plain data set (h5repack)",
                )
            if node.external is not None:
                raise DataError(
                    self.path,
                    name,
                    found="external raw storage",
                    expected="data stored in this file",
                    hint="the bytes lie in another file of this machine; such files are refused",
                )
            dtype = node.dtype
        if _overlaps(dtype):
            # libhdf5 writes beyond its buffers when it converts them
            raise DataError(
                self.path, name, found="members of a compound that lie over each other",
                expected="one after the other",
            )  # fmt: skip
        return node

    def _check_size(self, name: str, node: h5py.Dataset) -> None:
        with reading(self.path, name):
            declared = declared_bytes(node.shape or (), node.dtype.itemsize)
            stored = int(node.id.get_storage_size())
            pieces = _missing_chunks(node)
        refuse_unbacked(self.path, name, declared, stored)
        if pieces > _MAX_MISSING_CHUNKS:
            raise DataError(
                self.path,
                name,
                found=f"{pieces} chunks of {node.chunks} without data",
                expected=f"at most {_MAX_MISSING_CHUNKS}",
                hint="reading nothing in so many pieces takes forever; h5repack stores it anew",
            )
        self._declared += declared
        self._stored += stored
        refuse_unbacked(self.path, f"{name} and those before it", self._declared, self._stored)

    def _check_filters(self, name: str, node: h5py.Dataset) -> None:
        # a stack is read slice by slice: its chunks are looked at once
        if name not in self._checked:
            check_filters(self.path, name, node)
            self._checked.add(name)

    def check_heaps(self) -> None:
        """Check the heaps of variable lengths once, before the first of them is read.

        :raises DataError: a damaged heap.
        """
        if not self._heaps_checked:
            check_heaps(self.path)
            self._heaps_checked = True

    # reading ------------------------------------------------------------------------------------
    def shape(self, name: str) -> tuple[int, ...]:
        """Return the declared shape of a data set."""
        return tuple(int(n) for n in (self._dataset(name).shape or ()))

    def read(
        self,
        name: str,
        *,
        kinds: str = "fiu",
        ndim: int | tuple[int, ...] | None = None,
        index: tuple[int, ...] = (),
    ) -> NDArray[Any]:
        """Read a numeric data set after all checks.

        :param name: path inside the file.
        :param kinds: allowed NumPy kinds, of ``"cfiub"``; a compound of two floats named real and
            imaginary counts as ``"c"``.
        :param ndim: allowed number of axes.
        :param index: read only this position of the leading axes.
        :returns: the array, in the native byte order.
        :raises DataError: missing, a group, external, virtual, wrong dtype, rank or size, unknown
            filter, damaged.
        """
        node = self._dataset(name)
        with reading(self.path, name):
            dtype, shape = node.dtype, node.shape
        pair = _complex_pair(dtype)
        kind = "c" if pair else dtype.kind
        if kind not in kinds or shape is None:
            raise DataError(
                self.path,
                name,
                found=f"dtype {dtype}" if shape is not None else "an empty data set",
                expected=" or ".join(dict.fromkeys(_KINDS[k] for k in kinds)),
            )
        allowed = (ndim,) if isinstance(ndim, int) else ndim
        if allowed is not None and len(shape) not in allowed:
            raise DataError(
                self.path,
                name,
                found=f"{len(shape)} axes, shape {tuple(shape)}",
                expected=" or ".join(str(n) for n in allowed) + " axes",
            )
        self._check_size(name, node)
        self._check_filters(name, node)
        with reading(self.path, name):
            array = np.asarray(node[index])
        if pair:
            array = array[pair[0]] + 1j * array[pair[1]]
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def get(
        self, name: str, *, kinds: str = "fiu", ndim: int | tuple[int, ...] | None = None
    ) -> NDArray[Any] | None:
        """Like :meth:`read`, ``None`` if there is no such data set."""
        return self.read(name, kinds=kinds, ndim=ndim) if name in self else None

    def text(self, name: str, *, max_bytes: int = _MAX_ATTRIBUTE_BYTES) -> str:
        """Read one string (scalar, or the only element), at most ``max_bytes`` long.

        :raises DataError: missing, not a string, too long, not UTF-8.
        """
        import h5py

        node = self._dataset(name)
        with reading(self.path, name):
            size = declared_bytes(node.shape or (), 1)
            if h5py.check_string_dtype(node.dtype) is None or size != 1:
                raise DataError(
                    self.path,
                    name,
                    found=f"dtype {node.dtype}, {size} elements",
                    expected="a string",
                )
            if node.dtype.kind == "S" and node.dtype.itemsize > max_bytes:
                value: Any = b"x" * (max_bytes + 1)
            else:
                self._check_filters(name, node)
                if node.dtype.kind != "S":
                    self.check_heaps()
                value = node[()]
            value = value if isinstance(value, bytes | str) else np.asarray(value).reshape(-1)[0]
            raw = value.encode() if isinstance(value, str) else bytes(value)
            if len(raw) > max_bytes:
                raise DataError(
                    self.path,
                    name,
                    found=f"more than {max_bytes} bytes of text",
                    expected=f"at most {max_bytes}",
                )
            return raw.decode("utf-8")

    def attr(self, key: str, name: str = "/") -> Any:  # noqa: ANN401
        """Return one attribute as in :meth:`attrs`, ``None`` if absent; reads no other."""
        node = self._walk(name)
        if node is None:
            return None
        with reading(self.path, f"attribute {key} of {name}"):
            return self._attribute(node, key) if key in node.attrs else None

    def attrs(self, name: str = "/") -> dict[str, Any]:
        """Return the attributes of an object as plain str, int, float or numeric arrays.

        Attributes of other types, or above 64 kB, are left out.
        """
        node = self._walk(name)
        if node is None:
            return {}
        result: dict[str, Any] = {}
        with reading(self.path, f"attributes of {name}"):
            for key in node.attrs:
                value = self._attribute(node, key)
                if value is not None:
                    result[str(key)] = value
        return result

    def _attribute(self, node: Any, key: str) -> Any:  # noqa: ANN401
        if node.attrs.get_id(key).dtype.kind not in "fiubS":
            self.check_heaps()
        return _plain_attribute(node.attrs, key)


def _plain_attribute(attributes: h5py.AttributeManager, key: str) -> Any:  # noqa: ANN401
    import h5py

    identifier = attributes.get_id(key)
    dtype = identifier.dtype
    if identifier.shape is None:
        return None
    if declared_bytes(identifier.shape, max(dtype.itemsize, 1)) > _MAX_ATTRIBUTE_BYTES:
        return None
    if h5py.check_string_dtype(dtype) is not None:
        if declared_bytes(identifier.shape, 1) != 1:
            return None
        value = np.asarray(attributes[key], dtype=object).reshape(-1)[0]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if dtype.kind not in "fiub":
        return None
    value = np.asarray(attributes[key])
    return value.reshape(-1)[0].item() if value.size == 1 else value


def _overlaps(dtype: np.dtype[Any]) -> bool:
    """Tell whether members of a compound, at any depth, overlap or reach beyond it."""
    if dtype.subdtype is not None:
        return _overlaps(dtype.subdtype[0])
    free = 0
    members = [] if dtype.fields is None else list(dtype.fields.values())
    for member in sorted(members, key=lambda one: one[1]):
        if member[1] < free or _overlaps(member[0]):
            return True
        free = member[1] + member[0].itemsize
    return free > dtype.itemsize


def _missing_chunks(node: h5py.Dataset) -> int:
    """Chunks of a data set that the file does not hold; 0 if there are few of them at all."""
    if node.chunks is None:
        return 0
    count = declared_bytes(
        tuple(-(-n // max(m, 1)) for n, m in zip(node.shape, node.chunks, strict=True)), 1
    )
    return count - int(node.id.get_num_chunks()) if count > _MAX_MISSING_CHUNKS else 0


def _complex_pair(dtype: np.dtype[Any]) -> tuple[str, str] | None:
    """Return the names of the two floats of a compound that means a complex number."""
    names = dtype.names or ()
    if len(names) == 2 and all(dtype[name].kind == "f" for name in names):
        low = tuple(name.lower() for name in names)
        if low in (("r", "i"), ("real", "imag"), ("re", "im")):
            return names[0], names[1]
    return None


@contextmanager
def open_hdf5(path: Path | str) -> Iterator[GuardedHDF5]:
    """Open an HDF5 file for guarded reading.

    :param path: the file.
    :raises DataError: missing, empty, not HDF5, truncated or damaged.
    """
    import h5py

    path = Path(path)
    check_regular_file(path)
    if not is_hdf5(path):
        raise DataError(path, found="no HDF5 signature", expected="an HDF5 file")
    with no_plugin_path():
        with reading(path):
            file = h5py.File(path, "r", locking="best-effort")
        try:
            yield GuardedHDF5(path, file)
        finally:
            file.close()
