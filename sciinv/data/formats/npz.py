"""NumPy ``.npz``: named bare arrays; a side-car says what they mean."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sciinv.data.files import reading, refuse_unbacked
from sciinv.data.formats.arrays import pick_name
from sciinv.data.formats.bare import scan_of_array
from sciinv.data.formats.npy import read_npy
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar
from sciinv.errors import DataError

NAME = "npz"
_MAX_MEMBERS = 1000


def sniff(path: Path) -> bool:
    """Tell whether the file is a zip archive that holds .npy members."""
    with path.open("rb") as stream:
        if stream.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        # the directory lies at the end of a zip file: without it the file was cut
        raise DataError(
            path,
            found="a zip archive without its directory",
            expected="a complete .npz file",
            hint="the file is truncated or damaged",
        ) from None


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read the array that the side-car names (or the only one) and interpret it."""
    return scan_of_array(path, sidecar, NAME)


def read_array(path: Path, name: str | None) -> NDArray[Any]:
    """Read one member, after checking the declared size of all.

    :raises DataError: no such member, a decompression bomb, object arrays, damage.
    """
    with reading(path), zipfile.ZipFile(path) as archive:
        members = {m.filename[:-4]: m for m in archive.infolist() if m.filename.endswith(".npy")}
        if len(members) > _MAX_MEMBERS:
            raise DataError(path, found=f"{len(members)} members", expected=f"{_MAX_MEMBERS}")
        refuse_unbacked(
            path,
            None,
            sum(m.file_size for m in members.values()),
            sum(m.compress_size for m in members.values()),
        )
        chosen = pick_name(path, list(members), name)
        with archive.open(members[chosen]) as stream:
            # zipfile stops at the declared size and then checks the CRC
            return read_npy(path, chosen, stream, members[chosen].file_size)
