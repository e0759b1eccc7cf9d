"""What a Siemens raw file holds: measurements, their protocol (a few named numbers), their lines.

Only numbers named in ``_WANTED`` are taken from the protocol, so that names, dates and serial
numbers, of which it is full, are never read at all.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

__all__ = ["Line", "Measurement", "Protocol", "measurements", "read_lines", "read_protocol"]

_MAX_HEADER = 64 * 2**20
_MAX_ENTRIES = 64
# header length and number of buffers, then the name of the first buffer
_BUFFER = re.compile(rb"\w{4,40}\0")
_ASCCONV = re.compile(rb"### ASCCONV BEGIN[^\n]{0,300}\n(.*?)### ASCCONV END", re.DOTALL)
_WANTED = re.compile(
    rb"^\s*(sKSpace\.(?:lBaseResolution|lPhaseEncodingLines|lPartitions|lImagesPerSlab|ucDimension"
    rb"|ucTrajectory|dPhaseOversamplingForDialog|dSliceOversamplingForDialog)"
    rb"|sSliceArray\.asSlice\[0\]\.(?:dThickness|dPhaseFOV|dReadoutFOV)"
    rb"|sFastImaging\.lEPIFactor|sProtConsistencyInfo\.flNominalB0|alTR\[0\]|alTE\[0\])"
    rb"\s*=\s*([0-9a-fxA-FX.+-]{1,40})\s*$",
    re.MULTILINE,
)
_OVERSAMPLING = re.compile(
    rb'<ParamDouble\."flReadoutOSFactor">\s*\{\s*(?:<Precision>\s*\d+\s*)?([0-9.]{1,20})\s*\}'
)
_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,8}")


@dataclass(frozen=True)
class Measurement:
    """Where one measurement lies in the file, in bytes."""

    start: int
    stop: int
    header: int
    multi_raid: bool


@dataclass(frozen=True)
class Protocol:
    """Numbers of the protocol by their names there; lengths in mm, times in microseconds."""

    where: Path
    values: Mapping[str, float]

    def number(self, name: str, default: float | None = None) -> float:
        """Return a finite number.

        :raises DataError: it is not in the protocol and has no default.
        """
        value = self.values.get(name, default)
        if value is None:
            raise DataError(self.where, name, found="no such entry in the protocol",
                            expected="a number")  # fmt: skip
        return value

    def positive(self, name: str, largest: float = 1e5) -> float:
        """Return a number above 0.

        :raises DataError: missing, or out of range.
        """
        value = self.number(name)
        if not 0 < value <= largest:
            raise DataError(
                self.where, name, found=f"{value:g}", expected=f"above 0 and at most {largest:g}"
            )
        return value


@dataclass(frozen=True)
class Line:
    """One readout: flags, counters and geometry of its header; the samples stay on disk."""

    flags: int
    counter: Mapping[str, int]
    samples: int
    channels: int
    cut: tuple[int, int]
    centre: tuple[int, int, int]
    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]
    block: Any

    def data(self) -> NDArray[np.complex64]:
        """Read the samples ``(channels, samples)``."""
        return np.asarray(self.block.data, dtype=np.complex64)


def measurements(path: Path) -> list[Measurement]:
    """List the measurements of a VB or of a multi-RAID (VD, VE, XA) file; empty if it is neither.

    A file is recognised by the name of the first protocol buffer at the place where the first
    bytes say that the protocol begins.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8 + 152 * _MAX_ENTRIES)
        if len(head) < 60:
            return []
        first, count = struct.unpack_from("<II", head)
        if first < 10000 and 1 <= count <= _MAX_ENTRIES:
            places = []
            for k in range(count):
                if len(head) < 8 + 152 * (k + 1):
                    return []
                start, length = struct.unpack_from("<QQ", head, 8 + 152 * k + 8)
                # a single entry of length 0 goes to the end of the file
                length = length if length or count > 1 else max(size - start, 0)
                if length:
                    places.append((start, start + length))
        else:
            places = [(0, size)]
        found = []
        for start, stop in places:
            header = _header_size(stream, start, size)
            if header is None:
                return []
            found.append(Measurement(start, stop, header, len(head) > 8 and first < 10000))
    return found


def _header_size(stream: IO[bytes], start: int, size: int) -> int | None:
    """Length of the protocol at ``start``, None if there is none."""
    if start + 56 > size:
        return None
    stream.seek(start)
    length, buffers = struct.unpack("<II", stream.read(8))
    plausible = 56 <= length <= min(_MAX_HEADER, size - start) and 1 <= buffers <= 64
    return length if plausible and _BUFFER.match(stream.read(48)) else None


def read_protocol(path: Path, place: Measurement) -> Protocol:
    """Read the named numbers of a measurement's protocol.

    :raises DataError: there is no readable protocol.
    """
    with path.open("rb") as stream:
        stream.seek(place.start)
        header = stream.read(place.header)
    # the protocol of the measurement itself; others are those of adjustments or of the console
    begin = max(header.find(b"MeasYaps\0"), 0)
    block = _ASCCONV.search(header, begin) or _ASCCONV.search(header)
    if block is None:
        raise DataError(path, "protocol", found="no ASCCONV section", expected="one")
    values: dict[str, float] = {}
    for name, raw in _WANTED.findall(block.group(1)):
        text = raw.decode("ascii")
        try:
            value = float(int(text, 16)) if _HEX.fullmatch(text) else float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                path, name.decode("ascii"), found=repr(text), expected="a number in the protocol"
            )
        values[name.decode("ascii")] = value
    factor = _OVERSAMPLING.search(header)
    if factor is not None:
        try:
            values["oversampling"] = float(factor.group(1))
        except ValueError:
            pass  # the usual factor is assumed
    return Protocol(path, values)


def read_lines(path: Path, place: Measurement, stream: IO[bytes]) -> list[Line]:
    """Walk over the readouts of a measurement up to its end mark.

    :param stream: the open file; it has to stay open while the samples are read.
    :raises DataError: twixtools is missing, or the file ends (or loses the thread) before the end
        mark.
    """
    try:
        from twixtools.mdb import Mdb
        from twixtools.mdh_def import mask_dict
    except ImportError:
        raise DataError(
            path, found="a Siemens raw file, and no package twixtools",
            expected="the extra twix", hint='pip install "sciinv[twix]"',
        ) from None  # fmt: skip
    size = path.stat().st_size
    stop = min(place.stop, size)
    end, sync = 1 << mask_dict["ACQEND"], 1 << mask_dict["SYNCDATA"]
    position = place.start + place.header
    lines: list[Line] = []
    while position + 128 < stop:
        stream.seek(position)
        try:
            block = Mdb(stream, place.multi_raid)
            length = int(block.dma_len)
        except ValueError:
            break
        flags = int(block.mdh.EvalInfoMask)
        if flags & end:
            return lines
        if length < 128 or position + length > size:
            break
        if not flags & sync:
            lines.append(_line(block, flags))
        position += length
    raise DataError(
        path,
        "readouts",
        found=f"{len(lines)} and no end mark ({size} bytes, {place.stop} declared)",
        expected="an end mark after the last readout",
        hint="the file is truncated or damaged",
    )


def _line(block: Any, flags: int) -> Line:  # noqa: ANN401
    h = block.mdh
    names = ("Lin", "Par", "Sli", "Ave", "Eco", "Phs", "Rep", "Set", "Ida", "Idb", "Idc")
    where, turn = h.SliceData.SlicePos, [float(x) for x in h.SliceData.Quaternion]
    return Line(
        flags=flags,
        counter={name: int(getattr(h.Counter, name)) for name in names},
        samples=int(h.SamplesInScan),
        channels=int(h.UsedChannels),
        cut=(int(h.CutOff.Pre), int(h.CutOff.Post)),
        centre=(int(h.CenterCol), int(h.CenterLin), int(h.CenterPar)),
        position=(float(where.Sag), float(where.Cor), float(where.Tra)),
        quaternion=(turn[0], turn[1], turn[2], turn[3]),
        block=block,
    )
