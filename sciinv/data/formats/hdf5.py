"""HDF5 of any layout (MATLAB 7.3 included): data sets that a side-car names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sciinv.data.files import is_hdf5
from sciinv.data.formats.bare import scan_of_array
from sciinv.data.guard import open_hdf5
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar
from sciinv.errors import DataError

NAME = "hdf5"


def sniff(path: Path) -> bool:
    """Tell whether the file is HDF5; asked after the known layouts."""
    return is_hdf5(path)


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read the data set that the side-car names and interpret it."""
    if sidecar is None:
        with open_hdf5(path) as file:
            members = ", ".join(file.keys()[:12]) or "nothing"
        raise DataError(
            path,
            found=f"HDF5 with {members} in its root",
            expected="sciinv, fastMRI (kspace), ISMRMRD or DXchange (exchange/data) layout",
            hint="convert it to one of them, or name its data set in a side-car (docs/formats.md)",
        )
    return scan_of_array(path, sidecar, NAME)


def read_array(path: Path, name: str | None) -> NDArray[Any]:
    """Read one data set by name.

    :raises DataError: no name given, and everything that the guarded opener refuses.
    """
    with open_hdf5(path) as file:
        if name is None:
            members = file.keys()
            if len(members) != 1:
                raise DataError(
                    path,
                    "name",
                    found="none",
                    expected="the name of a data set, for example of " + ", ".join(members[:12]),
                )
            name = members[0]
        return file.read(name, kinds="fiubc")
