"""Arrays that a side-car names: which file, which variable, which order of axes."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.files import check_regular_file, reading
from sciinv.data.sidecar import ArrayRef, Sidecar
from sciinv.errors import DataError

__all__ = ["locate", "pick_name", "read_any_array", "read_ref", "to_order"]

_CONTAINERS = ("bart", "npy", "npz", "matlab", "tiff", "hdf5")


def pick_name(path: Path, names: list[str], wanted: str | None) -> str:
    """Return the wanted name, or the only one there is.

    :raises DataError: no such name (with the nearest), or a choice that has to be made.
    """
    shown = ", ".join(names[:12]) or "no numeric array"
    if wanted is None:
        if len(names) == 1:
            return names[0]
        raise DataError(
            path, "name", found=f"the arrays {shown}", expected="the name of one in the side-car"
        )
    if wanted in names:
        return wanted
    near = get_close_matches(wanted, names, 1)
    raise DataError(
        path,
        wanted,
        found=f"no such array (the file holds {shown})",
        hint=f"did you mean {near[0]}?" if near else None,
    )


def read_any_array(path: Path, name: str | None) -> NDArray[Any]:
    """Read a numeric array from any supported container, recognised by its content."""
    check_regular_file(path)
    for container in _CONTAINERS:
        module = import_module(f"sciinv.data.formats.{container}")
        if module.sniff(path):
            array = np.asarray(module.read_array(path, name))
            if array.dtype.kind not in "fiubc":
                raise DataError(path, name, found=f"dtype {array.dtype}", expected="numbers")
            return array.astype(array.dtype.newbyteorder("="), copy=False)
    raise DataError(path, name, found="unknown content", expected="npy, npz, mat, TIFF, HDF5, cfl")


def locate(path: Path, sidecar: Sidecar, ref: ArrayRef, field: str) -> Path:
    """Return the file of an array: beside the side-car, or else beside the data."""
    if ref.file is None:
        return path
    if PurePosixPath(ref.file).is_absolute() or PureWindowsPath(ref.file).is_absolute():
        raise DataError(
            sidecar.path,
            f"{field}.file",
            found=ref.file,
            expected="a path relative to the side-car",
        )
    # a side-car may come with foreign data: it names files of theirs, not of the whole machine
    if ".." in PurePosixPath(ref.file).parts or ".." in PureWindowsPath(ref.file).parts:
        raise DataError(
            sidecar.path,
            f"{field}.file",
            found=ref.file,
            expected="a file in the folder of the side-car or below",
        )
    with reading(sidecar.path, f"{field}.file"):
        for folder in (sidecar.path.parent, path.parent):
            if (folder / ref.file).is_file():
                return folder / ref.file
    raise DataError(
        sidecar.path,
        f"{field}.file",
        found=f"no such file: {ref.file}",
        expected="a file beside the side-car or the data",
    )


def read_ref(path: Path, sidecar: Sidecar, field: str) -> NDArray[Any]:
    """Read the array that a table of the side-car names, or the only one of the data file."""
    ref = sidecar.arrays.get(field, ArrayRef())
    return read_any_array(locate(path, sidecar, ref, field), ref.name)


def to_order(
    array: NDArray[Any], axes: tuple[str, ...], order: tuple[str, ...], path: Path, side: Path
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Transpose to the canonical order of axes."""
    if array.ndim == len(axes) + 1 and array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)  # MATLAB has no vectors
    if array.ndim != len(axes):
        raise DataError(
            path,
            None,
            found=f"{array.ndim} axes, shape {array.shape}",
            expected=f"{len(axes)} axes {list(axes)} by {side.name}",
        )
    named = sorted(axes, key=order.index)
    return array.transpose([axes.index(name) for name in named]), tuple(named)
