"""``load(path)``: any supported file becomes a :class:`~sciinv.data.scan.Scan`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

from sciinv.data import native
from sciinv.data.checks import check_scan
from sciinv.data.files import bart_pair_of, check_regular_file, reading
from sciinv.data.formats import (
    bart,
    cxi,
    dxchange,
    fastmri,
    hdf5,
    ismrmrd,
    matlab,
    npy,
    npz,
    nxtomo,
    tiff,
    twix,
)
from sciinv.data.reference import image_kind, is_no_scan
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar, find_sidecar, read_sidecar
from sciinv.errors import DataError

__all__ = ["ALL_FORMATS", "ENTRY_POINTS", "Format", "load"]


class Format(Protocol):
    """What a format is: a module, or any object, with these three members.

    Outsiders register theirs under the entry-point group :data:`ENTRY_POINTS`. ``sniff`` looks at
    the content and never raises for foreign files; ``read`` raises ``DataError`` only.
    """

    NAME: str

    def sniff(self, path: Path) -> bool:
        """Tell whether the file is of this format."""

    def read(self, path: Path, sidecar: Sidecar | None) -> Scan:
        """Read it."""


#: Entry-point group of formats that other packages provide.
ENTRY_POINTS = "sciinv.formats"
# in this order: layouts that describe themselves first, bare arrays (which need a side-car) last
_SELF_DESCRIBING: tuple[Any, ...] = (native, fastmri, ismrmrd, dxchange, nxtomo, cxi, twix, bart)
_BARE: tuple[Any, ...] = (npy, npz, matlab, tiff, hdf5)
#: Every built-in format in the order in which it is asked.
ALL_FORMATS: tuple[Format, ...] = cast(tuple[Format, ...], (*_SELF_DESCRIBING, *_BARE))

_SUFFIXES = {
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".hdf": "HDF5",
    ".nxs": "HDF5",
    ".cxi": "HDF5",
    ".npy": "NumPy",
    ".npz": "NumPy (zip)",
    ".mat": "MATLAB",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".dcm": "DICOM",
    ".ima": "DICOM",
    ".nii": "NIfTI",
    ".gz": "gzip",
}
_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "NumPy"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"MATLAB 5.0", "MATLAB 5"),
    (b"\x89PNG", "a PNG picture"),
    (b"%PDF", "PDF"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"<?xml", "XML text"),
    (b"<", "XML or HTML text"),
)


def load(
    path: Path | str, *, sidecar: Path | str | None = None, isolated: bool | None = None
) -> Scan:
    """Read a scan, recognised by its content, in a process of its own.

    Formats: sciinv's own HDF5, fastMRI HDF5, ISMRMRD HDF5, DXchange and NXtomo HDF5, CXI,
    Siemens raw data, BART pairs (by either file or their stem), and bare arrays (.npy, .npz,
    MATLAB 5, TIFF, HDF5 data sets) that a side-car describes; others by entry point.

    :param path: the file.
    :param sidecar: TOML file that describes a bare array, or completes a file (pixel size,
        rotation axis, noise); by default ``<file>.toml`` or ``<stem>.toml`` next to it.
    :param isolated: read in a process of its own, with limits of memory and time that
        ``SCIINV_READ_MEMORY`` and ``SCIINV_READ_SECONDS`` replace: a file that breaks a library
        is then an error and no crash. ``False`` reads in this process, for work on a reader; by
        default ``True``, unless the environment variable ``SCIINV_READ_ISOLATED`` is 0.
    :returns: the checked scan; ``Scan.notes`` says what was assumed.
    :raises DataError: one line that names file, field, found and expected.
    """
    from sciinv.data import isolation

    path = bart_pair_of(Path(path))
    sidecar = None if sidecar is None else Path(sidecar)
    check_regular_file(path)
    if not (isolation.is_default() if isolated is None else isolated):
        return _read_here(path, sidecar)
    if not isolation.can_isolate():
        scan = _read_here(path, sidecar)
        return scan.with_(notes=(*scan.notes, _NO_PROCESS))
    return isolation.read_isolated(path, sidecar, _sidecar_of(path, sidecar))


_NO_PROCESS = "read without a process of its own: this program has no Python interpreter to start"


def _read_here(path: Path, sidecar: Path | None) -> Scan:
    try:
        return read_scan(path, sidecar)
    except MemoryError:
        raise DataError(
            path, found="a file that takes more memory to read than there is", expected="less"
        ) from None


def read_scan(path: Path, sidecar: Path | None) -> Scan:
    """Read and check a scan in this process.

    :raises DataError: as :func:`load`. MemoryError: there is not enough.
    """
    check_regular_file(path)
    side = _sidecar_of(path, sidecar)
    for candidate in _formats():
        with reading(path):
            known = bool(candidate.sniff(path))
        if known:
            with reading(path):
                return check_scan(candidate.read(path, side))
    if image_kind(path) is not None:
        raise is_no_scan(path)
    raise DataError(
        path,
        found=_describe(path),
        expected="one of the formats " + ", ".join(f.NAME for f in ALL_FORMATS),
    )


def _sidecar_of(path: Path, given: Path | None) -> Sidecar | None:
    found = find_sidecar(path) if given is None else given
    return None if found is None else read_sidecar(found)


def _formats() -> Iterator[Format]:
    """Self-describing layouts, those of other packages, bare arrays."""
    from importlib.metadata import entry_points

    yield from _SELF_DESCRIBING
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            form = entry.load()
        except Exception as error:
            raise DataError(
                f"format {entry.name!r} ({entry.value})",
                found=f"{type(error).__name__}: {str(error)[:200]}",
                expected="a module that can be imported",
                hint="repair or remove the package that provides it",
            ) from error
        yield form
    yield from _BARE


def _describe(path: Path) -> str:
    """Say what the content looks like and, if the suffix claims otherwise, that it does."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    content = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if content is None:
        try:
            head.decode("utf-8")
            content = "text"
        except UnicodeDecodeError:
            content = "unknown binary content"
    claimed = _SUFFIXES.get(path.suffix.lower())
    return content if claimed in (None, content) else f"{content}, not {claimed}"
