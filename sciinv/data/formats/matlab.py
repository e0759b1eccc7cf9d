"""MATLAB 5 ``.mat``: named bare arrays; a side-car says what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.formats.bare import pick_name, scan_of_array
from sciinv.data.guard import declared_bytes, reading, refuse_unbacked
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar
from sciinv.errors import DataError

NAME = "matlab5"
_ITEMSIZE = {
    "double": 8,
    "single": 4,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "logical": 1,
}


def sniff(path: Path) -> bool:
    """Tell whether the file starts like a MATLAB 5 file (7.3 is HDF5)."""
    with path.open("rb") as stream:
        return stream.read(10) == b"MATLAB 5.0"


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read the variable that the side-car names (or the only one) and interpret it."""
    return scan_of_array(path, sidecar, NAME)


def read_array(path: Path, name: str | None) -> NDArray[Any]:
    """Read one numeric variable.

    :raises DataError: no such variable, a cell, structure or object, a size out of proportion,
        damage.
    """
    from scipy.io import loadmat, whosmat

    with reading(path):
        listed = {entry[0]: entry[1:] for entry in whosmat(path)}
    numeric = [key for key, (_, kind) in listed.items() if kind in _ITEMSIZE]
    if name in listed and name not in numeric:
        raise DataError(
            path, name, found=f"a variable of class {listed[name][1]}", expected="numbers"
        )
    if not numeric:
        shown = ", ".join(f"{key} ({entry[1]})" for key, entry in list(listed.items())[:8])
        raise DataError(path, found=shown or "no variable", expected="a numeric array")
    chosen = pick_name(path, numeric, name)
    shape, kind = listed[chosen]
    # complex arrays declare one number and store two
    refuse_unbacked(path, chosen, 2 * declared_bytes(shape, _ITEMSIZE[kind]), path.stat().st_size)
    with reading(path, chosen):
        return np.asarray(loadmat(path, variable_names=[chosen])[chosen])
