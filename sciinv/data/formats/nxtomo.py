"""NXtomo (NeXus tomography): one stack of frames, and a key that says what each of them is.

Application definition NXtomo of the NeXus manual, with the additions of later versions that are in
use: ``image_key_control``, ``x_rotation_axis_pixel_position``, pixel sizes at the sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import check_finite
from sciinv.data.files import is_hdf5
from sciinv.data.formats.bare import read_angles, scan_of_array
from sciinv.data.formats.ct import ct_scan
from sciinv.data.formats.nxtomo_beam import beam_of
from sciinv.data.guard import GuardedHDF5, open_hdf5
from sciinv.data.scan import CTGeometry, Scan
from sciinv.data.sidecar import Sidecar, check_completes
from sciinv.errors import DataError

NAME = "nxtomo"
_PROJECTION, _FLAT, _DARK, _INVALID = 0, 1, 2, 3
_ALIGNMENT = -1  # image_key_control: taken after the scan, to see what moved
_DEFINITION = "nxtomo"
_MAX_GROUPS = 64
#: mm in one of what a length may be stated in
_LENGTHS = {
    "m": 1e3, "meter": 1e3, "metre": 1e3, "meters": 1e3, "metres": 1e3,
    "cm": 10.0, "centimeter": 10.0, "centimetre": 10.0,
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "millimeters": 1.0, "millimetres": 1.0,
    "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "microns": 1e-3,
    "micrometer": 1e-3, "micrometre": 1e-3, "micrometers": 1e-3, "micrometres": 1e-3,
    "nm": 1e-6, "nanometer": 1e-6, "nanometre": 1e-6,
}  # fmt: skip


def sniff(path: Path) -> bool:
    """Tell whether the file is HDF5 with an entry whose ``definition`` is NXtomo."""
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return bool(_entries(file))


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read projections, flat and dark frames and angles; detector rows become slices.

    A side-car with ``axes`` describes a data set of the file itself, as of any other HDF5; one
    without completes the file (rotation axis, pixel size, noise).

    :raises DataError: no key, no projection or flat frame, arrays that do not fit each other, a
        unit that is not known, a beam that is not parallel, dark above flat.
    """
    if sidecar is not None and sidecar.axes:
        return scan_of_array(path, sidecar, "hdf5")
    if sidecar is not None:
        check_completes(sidecar, "ct", NAME)
    notes: list[str] = []
    with open_hdf5(path) as file:
        entries = _entries(file)
        entry = entries[0]
        if len(entries) > 1:
            notes.append(f"of {len(entries)} scans in the file the first is read")
        where = _places(file, entry)
        if sidecar is None:
            _check_beam(file, entry)
        frames = file.read(where.data, ndim=3)
        keys = _keys(file, where, len(frames), notes)
        taken = np.flatnonzero(keys == _PROJECTION)
        if sidecar is None or sidecar.angles is None:
            angles, unit = _angles(file, where, keys)
        else:
            angles, unit = read_angles(path, sidecar, len(taken))
        monitor = _monitor(file, entry, len(frames))
        side = _completed(file, entry, where, sidecar, frames.shape[2], notes)
    for key, name in ((_FLAT, "flat"), (_PROJECTION, "projection"), (_DARK, "dark")):
        check_finite(frames[keys == key], path, f"{where.data}, {name} frames")
    flat, dark = beam_of(frames, keys, monitor, notes)
    scan = ct_scan(
        path,
        NAME,
        frames[taken].transpose(1, 0, 2),
        angles,
        unit,
        sidecar=side,
        flat=flat,
        dark=dark,
        notes=tuple(notes),
    )
    repeats = _repeats(scan.geometry.angles) if isinstance(scan.geometry, CTGeometry) else ""
    return scan.with_(notes=(*scan.notes, repeats)) if repeats else scan


# where things lie ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Places:
    """Names of the data sets of one scan; ``detector`` may be missing."""

    data: str
    key: str
    angle: str
    detector: str | None


def _entries(file: GuardedHDF5) -> list[str]:
    """Groups with the definition NXtomo: entries, or sub-entries of them; links out are passed."""
    found: list[str] = []
    for name in file.keys()[:_MAX_GROUPS]:  # noqa: SIM118 - never opens the member
        for group in (name, *_children(file, name)):
            if _definition(file, group).lower() == _DEFINITION:
                found.append(group)
                break
    return found


def _children(file: GuardedHDF5, name: str) -> list[str]:
    try:
        return [f"{name}/{child}" for child in file.keys(name)[:_MAX_GROUPS]]
    except DataError:
        return []


def _definition(file: GuardedHDF5, group: str) -> str:
    return _text(file, f"{group}/definition")


def _text(file: GuardedHDF5, name: str) -> str:
    """A short text, empty if there is none or it cannot be read."""
    try:
        return file.text(name, max_bytes=1000).strip() if file.is_dataset(name) else ""
    except DataError:
        return ""


def _places(file: GuardedHDF5, entry: str) -> _Places:
    """Find the detector by its image key; the group ``data`` may hold links to the same."""
    instrument = f"{entry}/instrument"
    detectors = [f"{instrument}/{name}" for name in file.keys(instrument)[:_MAX_GROUPS]]
    detectors = [name for name in detectors if f"{name}/image_key" in file]
    if len(detectors) > 1:
        raise DataError(
            file.path, instrument, found=", ".join(detectors), expected="one detector with a key"
        )
    detector = detectors[0] if detectors else None
    group = [detector] if detector else []
    group.append(f"{entry}/data")
    # the key first: without one nothing else says that this is a detector
    key = _first(file, [f"{g}/image_key" for g in group], "what each frame is")
    angles = [f"{entry}/sample/rotation_angle", f"{entry}/data/rotation_angle"]
    return _Places(
        data=_first(file, [f"{g}/data" for g in group], "the frames"),
        key=key,
        angle=_first(file, angles, "the angles"),
        detector=detector,
    )


def _first(file: GuardedHDF5, names: list[str], what: str) -> str:
    for name in names:
        if file.is_dataset(name):
            return name
    raise DataError(file.path, names[0], found="no such data set", expected=f"{what} of NXtomo")


def _check_beam(file: GuardedHDF5, entry: str) -> None:
    """Refuse X-ray tubes: their beam diverges, and NXtomo has no place for its geometry."""
    name = f"{entry}/instrument/source/type"
    kind = _text(file, name)
    words = kind.lower()
    if any(word in words for word in ("tube", "rotating anode", "metal jet")):
        raise DataError(
            file.path,
            name,
            found=repr(kind[:80]),
            expected="a source with a parallel beam",
            hint='a side-car with kind = "ct" and beam = "fan" or "parallel" states the geometry',
        )


# what is read -------------------------------------------------------------------------------------
def _keys(
    file: GuardedHDF5, where: _Places, count: int, notes: list[str]
) -> NDArray[np.signedinteger[Any]]:
    """What each frame is; alignment frames and those marked invalid count as invalid."""
    keys = file.read(where.key, kinds="iuf", ndim=1)
    if len(keys) != count:
        raise DataError(
            file.path, where.key, found=f"{len(keys)} keys", expected=f"{count}, one for each frame"
        )
    strange = sorted({float(k) for k in keys} - {0.0, 1.0, 2.0, 3.0})
    if strange:
        raise DataError(
            file.path,
            where.key,
            found=f"{strange[0]:g}",
            expected="0 (projection), 1 (flat), 2 (dark) or 3 (invalid)",
        )
    keys = keys.astype(np.int64)
    invalid = int((keys == _INVALID).sum())
    if invalid:
        notes.append(f"{invalid} of {count} frames are marked invalid and left out")
    control = file.get(f"{where.key}_control", kinds="iuf", ndim=1)
    if control is not None and len(control) == count:
        alignment = (keys == _PROJECTION) & (control == _ALIGNMENT)
        if alignment.any():
            notes.append(f"{int(alignment.sum())} alignment frames are left out")
            keys[alignment] = _INVALID
    for key, name in ((_PROJECTION, "projection (0)"), (_FLAT, "flat field (1)")):
        if not (keys == key).any():
            raise DataError(
                file.path,
                where.key,
                found=f"no {name} among {count} frames",
                expected="one or more",
                hint="line integrals are read as plain HDF5: name them in a side-car with axes"
                if key == _FLAT
                else None,
            )
    return keys


def _angles(
    file: GuardedHDF5, where: _Places, keys: NDArray[np.signedinteger[Any]]
) -> tuple[NDArray[np.float64], str | None]:
    """Angles of the projections and their unit, from one for each frame or each projection."""
    angles = file.read(where.angle, ndim=1).astype(np.float64)
    taken = keys == _PROJECTION
    if len(angles) == len(keys):
        angles = angles[taken]
    elif len(angles) != int(taken.sum()):
        raise DataError(
            file.path,
            where.angle,
            found=f"{len(angles)} angles",
            expected=f"{len(keys)}, one for each frame",
        )
    return angles, _unit(file, where.angle)


def _unit(file: GuardedHDF5, name: str) -> str | None:
    value = file.attr("units", name)
    value = file.attr("unit", name) if value is None else value
    return str(value).strip() or None if value is not None else None


def _monitor(file: GuardedHDF5, entry: str, count: int) -> NDArray[np.float64] | None:
    """Counts of the beam monitor for each frame, if there are any."""
    name = f"{entry}/control/data"
    values = file.get(name, ndim=1) if file.is_dataset(name) else None
    if values is None or len(values) != count:
        return None
    values = values.astype(np.float64)
    return values if np.isfinite(values).all() and (values > 0).all() else None


def _length(
    file: GuardedHDF5, names: list[str], notes: list[str]
) -> tuple[float | None, str | None]:
    """Return the first of these lengths that is there, in mm, and its name."""
    for name in names:
        if not file.is_dataset(name):
            continue
        values = file.read(name, ndim=(0, 1)).reshape(-1)
        value = float(values[0]) if values.size and np.ptp(values) == 0 else math.nan
        if not (math.isfinite(value) and value > 0):
            raise DataError(file.path, name, found=values[:4], expected="one positive length")
        unit = _unit(file, name)
        if unit is None:
            notes.append(f"{name.rpartition('/')[2]} carries no unit and is not used")
            return None, None
        scale = _LENGTHS.get(unit, _LENGTHS.get(unit.lower()))
        if scale is None:
            raise DataError(
                file.path, name, found=f"the unit {unit!r}", expected='for example "m" or "um"'
            )
        return value * scale, name
    return None, None


def _completed(
    file: GuardedHDF5,
    entry: str,
    where: _Places,
    sidecar: Sidecar | None,
    columns: int,
    notes: list[str],
) -> Sidecar:
    """Return the side-car, with lengths and rotation axis of the file where it states none."""
    side = Sidecar(file.path, "ct") if sidecar is None else sidecar
    groups = [f"{entry}/sample"] + ([where.detector] if where.detector else [])
    if side.detector_spacing is None:
        width, _ = _length(file, [f"{group}/x_pixel_size" for group in groups], notes)
        side = replace(side, detector_spacing=width)
        if side.slice_spacing is None and width is not None:
            height, _ = _length(file, [f"{group}/y_pixel_size" for group in groups], notes)
            side = replace(side, slice_spacing=height)
    half = f"{where.detector}/field_of_view"
    is_half = where.detector is not None and _text(file, half).lower() == "half"
    if where.detector is not None and not is_half:
        half = f"{where.detector}/half_acquisition"  # its name since 2.1
        flag = file.get(half, kinds="iub", ndim=(0, 1)) if file.is_dataset(half) else None
        is_half = flag is not None and bool(flag.any())
    if side.axis_column is None and side.axis_shift is None:
        name = f"{where.detector}/x_rotation_axis_pixel_position"
        stated = file.get(name, ndim=(0, 1)) if where.detector is not None else None
        column = float(stated.reshape(-1)[0]) if stated is not None and stated.size else math.nan
        if 0 < column < columns - 1:
            side = replace(side, axis_column=column)
            notes.append(f"the rotation axis is at column {column:g}, as the file states")
        elif is_half:
            raise DataError(
                file.path,
                half,
                found="a scan with the axis near one edge, and no place of the axis",
                expected=f"{name} within the detector",
                hint="state ct.axis_column in a side-car",
            )
    if is_half and side.image_shape is None and side.axis_column is not None:
        reach = max(side.axis_column, columns - 1 - side.axis_column)
        pixels = 2 * math.ceil(reach) + 1
        side = replace(side, image_shape=(pixels, pixels))
        notes.append(f"the axis is near one edge of the detector: the image has {pixels} columns")
    return side


def _repeats(radians: NDArray[np.float64]) -> str:
    """Say which directions were measured twice, as 0 and 360 degrees are; empty if none were."""
    turn = 2 * math.pi
    around = np.sort(np.mod(radians, turn))
    gaps = np.append(np.diff(around), around[0] + turn - around[-1])
    # far below any step, and above what single precision makes of 360 degrees
    repeats = int((gaps < 1e-3 * min(turn / len(around), 0.1)).sum()) if len(around) > 1 else 0
    if not repeats:
        return ""
    return f"{repeats} of {len(radians)} angles repeat another up to whole turns: all are used"
