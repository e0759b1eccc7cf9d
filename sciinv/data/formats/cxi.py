"""CXI (coherent X-ray imaging, cxidb.org): diffraction patterns with their geometry, in SI units.

The format is one of names: ``entry_N/instrument_N/detector_N`` holds what was measured,
``entry_N/image_N`` patterns that were put together, or images that were reconstructed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.files import is_hdf5
from sciinv.data.formats.bare import scan_of_array
from sciinv.data.formats.diffraction import diffraction_of
from sciinv.data.guard import GuardedHDF5, open_hdf5
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar, check_completes
from sciinv.errors import DataError

NAME = "cxi"
# bits of a mask that say what was done to a pixel, not that it is bad: in the mask of peaks,
# corrected, a peak of a hit finder, background subtracted, has signal
_HARMLESS = 32 | 2048 | 8192 | 16384 | 65536
_PLANCK_TIMES_C = 1.98644586e-25  # J m
_ELECTRON_VOLT = 1.602176634e-19  # J
_MEASURED = ("intensity", "unphased amplitude")


def sniff(path: Path) -> bool:
    """Tell whether the file is HDF5 with ``cxi_version`` and an entry, in its root."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        names = file.keys()
        return "cxi_version" in names and any(name.startswith("entry_") for name in names)


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read the patterns of the first entry: each is a slice of its own.

    A side-car without ``axes`` completes the file (``kind = "diffraction"``: oversampling, centre,
    background ...); one with ``axes`` describes a data set of it, as of any other HDF5.

    :raises DataError: no pattern, a ptychography scan, modules that were not put together, an image
        that was reconstructed, wrong dtype, mask or unit.
    """
    if sidecar is not None and sidecar.axes:
        return scan_of_array(path, sidecar, "hdf5")
    if sidecar is not None:
        check_completes(sidecar, "diffraction", NAME)
    notes: list[str] = []
    with open_hdf5(path) as file:
        entry = _first(file, "/", "entry", notes)
        if entry is None:
            raise DataError(path, "entry_1", found="no such group", expected="an entry of CXI")
        source = _source(file, entry, notes)
        _check_positions(file, entry, source)
        data = _patterns(file, source)
        valid = _valid(file, source, data.shape)
        reach = _reach(file, entry, source, notes)
        if f"{source.group}/data_dark" in file:
            notes.append("the dark frames of the file are not used: counts are taken as they are")
    if len(data) > 1:
        notes.append(f"{len(data)} patterns: each is taken for an object of its own")
    side = Sidecar(path, "diffraction") if sidecar is None else sidecar
    side = replace(
        side,
        quantity="amplitude" if source.amplitude else "counts",
        dc_first=side.dc_first or source.dc_first,
        centre=source.centre if side.centre is None else side.centre,
    )
    return diffraction_of(
        path,
        side,
        data,
        ("slice", "row", "column"),
        NAME,
        valid=valid,
        reach=reach,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Source:
    """Group with the patterns; ``detector`` with distance and pixel size, if there is one."""

    group: str
    detector: str | None
    amplitude: bool = False
    dc_first: bool = False
    centre: tuple[int, ...] | None = None


def _numbered(file: GuardedHDF5, group: str, kind: str) -> list[str]:
    """Members ``kind_1``, ``kind_2`` ... of a group, in that order."""
    found = []
    for name in file.keys(group):
        stem, _, number = name.rpartition("_")
        if stem == kind and number.isdecimal() and number.isascii():
            found.append((int(number[:9]), name))
    return [f"{group}/{name}".lstrip("/") for _, name in sorted(found)]


def _first(file: GuardedHDF5, group: str, kind: str, notes: list[str]) -> str | None:
    found = _numbered(file, group, kind)
    if len(found) > 1:
        notes.append(f"of {len(found)} groups {kind}_1, {kind}_2 ... the first is read")
    return found[0] if found else None


def _text(file: GuardedHDF5, name: str) -> str:
    if not file.is_dataset(name):
        return ""
    return file.text(name, max_bytes=1000).strip().lower()


def _source(file: GuardedHDF5, entry: str, notes: list[str]) -> _Source:
    """Where the patterns are: a detector, or else the data that were linked, or an image."""
    instrument = _first(file, entry, "instrument", notes)
    detector = None if instrument is None else _first(file, instrument, "detector", notes)
    if detector is not None and file.is_dataset(f"{detector}/data"):
        return _Source(detector, detector)
    group = _first(file, entry, "data", notes)
    if group is not None and file.is_dataset(f"{group}/data"):
        return _Source(group, detector)
    image = _first(file, entry, "image", notes)
    if image is None or not file.is_dataset(f"{image}/data"):
        raise DataError(
            file.path,
            f"{entry}/instrument_1/detector_1/data",
            found="no such data set",
            expected="diffraction patterns",
        )
    kind, space = _text(file, f"{image}/data_type"), _text(file, f"{image}/data_space")
    if space == "real" or (kind and kind not in _MEASURED):
        said = f"data_space {space!r}" if space == "real" else f"data_type {kind!r}"
        raise DataError(
            file.path,
            image,
            found=f"an image that was reconstructed already ({said[:60]})",
            expected="diffraction patterns",
        )
    shifted = file.get(f"{image}/is_fft_shifted", kinds="iub", ndim=(0, 1))
    return _Source(
        image,
        detector or image,
        amplitude=kind == "unphased amplitude",
        dc_first=shifted is not None and shifted.size == 1 and bool(shifted.reshape(-1)[0]),
        centre=_centre(file, image),
    )


def _centre(file: GuardedHDF5, image: str) -> tuple[int, ...] | None:
    """Row and column of the zero frequency, from ``image_center`` (x, y, z) in pixels."""
    centre = file.get(f"{image}/image_center", ndim=1)
    if centre is None or len(centre) < 2 or not np.isfinite(centre[:2]).all():
        return None
    row, column = round(float(centre[1])), round(float(centre[0]))
    return (row, column) if min(row, column) > 0 else None


def _check_positions(file: GuardedHDF5, entry: str, source: _Source) -> None:
    """Refuse scans with a moving sample: their patterns belong together."""
    places = [f"{source.group}/translation"]
    for sample in _numbered(file, entry, "sample"):
        places += [f"{group}/translation" for group in _numbered(file, sample, "geometry")]
    places += [f"{group}/translation" for group in _numbered(file, entry, "data")]
    for name in places:
        positions = file.get(name, ndim=(1, 2)) if file.is_dataset(name) else None
        if positions is None or positions.ndim < 2 or len(positions) < 2:
            continue
        if np.ptp(positions, axis=0).max() > 0:
            raise DataError(
                file.path,
                name,
                found=f"a ptychography scan of {len(positions)} positions",
                expected="patterns of objects that do not move",
                hint="ptychography is not read yet; one pattern of it can be named in a side-car "
                "with axes and diffraction.frame",
            )


def _patterns(file: GuardedHDF5, source: _Source) -> NDArray[Any]:
    """Patterns ``(slices, rows, columns)``."""
    name = f"{source.group}/data"
    shape = file.shape(name)
    if len(shape) == 4 and shape[1] == 1:
        return file.read(name, ndim=4)[:, 0]
    if len(shape) == 4:
        raise DataError(
            file.path,
            name,
            found=f"patterns of {shape[1]} modules, shape {shape}",
            expected="modules put together: (patterns, rows, columns)",
        )
    data = file.read(name, ndim=(2, 3))
    return data if data.ndim == 3 else data[None]


def _valid(file: GuardedHDF5, source: _Source, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Pixels without a bit that says they are bad."""
    places = [f"{source.group}/{name}" for name in ("mask", "mask_shared")]
    if source.detector is not None and source.detector != source.group:
        places.append(f"{source.detector}/mask")
    valid: NDArray[np.bool_] | None = None
    for name in places:
        if not file.is_dataset(name):
            continue
        mask = file.read(name, kinds="iub", ndim=(2, 3, 4))
        if mask.ndim == 4 and mask.shape[1] == 1:
            mask = mask[:, 0]
        if mask.shape not in (shape, shape[1:], (1, *shape[1:])):
            raise DataError(
                file.path, name, found=f"shape {mask.shape}", expected=f"{shape[1:]} or {shape}"
            )
        good = (mask.astype(np.int64) & ~_HARMLESS) == 0
        if not good.any():
            raise DataError(
                file.path,
                name,
                found="no pixel without a bad bit",
                expected="0 for pixels that are good",
            )
        valid = np.broadcast_to(good, shape) if valid is None else valid & good
    return valid


def _number(file: GuardedHDF5, names: list[str]) -> tuple[float | None, str]:
    """Return the first of these positive numbers (their median, if there are several)."""
    for name in names:
        values = file.get(name, ndim=(0, 1, 2)) if file.is_dataset(name) else None
        if values is None or values.size == 0:
            continue
        value = float(np.median(values))
        if math.isfinite(value) and value > 0:
            return value, name
    return None, ""


def _reach(
    file: GuardedHDF5, entry: str, source: _Source, notes: list[str]
) -> tuple[float, float] | None:
    """Wavelength times distance over detector pixel, mm along rows and columns.

    An object pixel is this over the number of pixels of the pattern.
    """
    where = [group for group in (source.detector, source.group) if group is not None]
    distance, _ = _number(file, [f"{group}/distance" for group in where])
    width, _ = _number(file, [f"{group}/x_pixel_size" for group in where])
    height, _ = _number(file, [f"{group}/y_pixel_size" for group in where])
    wavelength = _wavelength(file, entry, notes)
    if distance is None or width is None or height is None or wavelength is None:
        return None
    # along rows lies y
    return 1e3 * wavelength * distance / height, 1e3 * wavelength * distance / width


def _wavelength(file: GuardedHDF5, entry: str, notes: list[str]) -> float | None:
    """Wavelength in m, from the energy of the source (J) or its wavelength."""
    sources = [
        source
        for instrument in _numbered(file, entry, "instrument")
        for source in _numbered(file, instrument, "source")
    ]
    energy, name = _number(file, [f"{source}/energy" for source in sources])
    if energy is not None:
        if 10 <= energy <= 1e6:
            # CXI is in joule, of which this would be a lot
            notes.append(f"the energy of the source, {energy:g}, is taken for electron volts")
            energy *= _ELECTRON_VOLT
        if not 1e-19 < energy < 1e-12:
            raise DataError(file.path, name, found=f"{energy:g}", expected="joule per photon")
        return _PLANCK_TIMES_C / energy
    wavelength, name = _number(file, [f"{source}/wavelength" for source in sources])
    if wavelength is not None and not 1e-13 < wavelength < 1e-5:
        raise DataError(file.path, name, found=f"{wavelength:g}", expected="metres")
    return wavelength
