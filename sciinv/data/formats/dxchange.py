"""DXchange HDF5 (synchrotron tomography): exchange/data, data_white, data_dark, theta."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sciinv.data.checks import check_finite
from sciinv.data.files import is_hdf5
from sciinv.data.formats.bare import read_angles
from sciinv.data.formats.ct import ct_scan
from sciinv.data.guard import GuardedHDF5, open_hdf5
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar, check_completes
from sciinv.errors import DataError

NAME = "dxchange"


def sniff(path: Path) -> bool:
    """Tell whether the file is HDF5 with a group ``exchange``."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return "exchange" in file.keys()  # noqa: SIM118 - never opens the member


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read projections, flat and dark fields and angles; detector rows become slices.

    The file states no rotation axis and often no pixel size: a side-car may give them, or other
    angles (``kind = "ct"``); else the axis is found and lengths are in pixels.

    :raises DataError: a missing data set, wrong rank, size or unit, dark above flat.
    """
    if sidecar is not None:
        check_completes(sidecar, "ct", NAME)
    notes: list[str] = []
    with open_hdf5(path) as file:
        data = file.read("exchange/data", ndim=3)
        white = file.read("exchange/data_white", ndim=(2, 3))
        dark = file.get("exchange/data_dark", ndim=(2, 3))
        if sidecar is None or sidecar.angles is None:
            theta = file.read("exchange/theta", ndim=1).astype(np.float64)
            unit = _unit(file, "exchange/theta")
        else:
            theta, unit = read_angles(path, sidecar, data.shape[0])
    for name, array in (("data", data), ("data_white", white), ("data_dark", dark)):
        if array is None:
            continue
        check_finite(array, path, f"exchange/{name}")
        if array.shape[-2:] != data.shape[-2:]:
            raise DataError(
                path,
                f"exchange/{name}",
                found=f"frames of shape {array.shape[-2:]}",
                expected=f"{data.shape[-2:]} as exchange/data",
            )
    if dark is None:
        notes.append("the file has no dark field: zero assumed")
    flat = white if white.ndim == 2 else white.mean(axis=0, dtype=np.float64)
    if dark is not None and dark.ndim == 3:
        dark = dark.mean(axis=0, dtype=np.float64)
    return ct_scan(
        path,
        NAME,
        data.transpose(1, 0, 2),
        theta,
        unit,
        sidecar=sidecar,
        flat=flat[:, None],
        dark=None if dark is None else dark[:, None],
        notes=tuple(notes),
    )


def _unit(file: GuardedHDF5, name: str) -> str | None:
    attributes = file.attrs(name)
    value = attributes.get("units", attributes.get("unit"))
    return str(value) if value else None
