"""The XML header of ISMRMRD: encodings, limits, and a few allow-listed facts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from sciinv.errors import DataError

__all__ = ["MAX_HEADER", "Encoding", "Header", "known_vendor", "parse_header"]

#: Bytes of a header above which it is refused.
MAX_HEADER = 8 * 2**20
_MAX_ENCODINGS = 64
# the name of a vendor is free text: only these are passed on
_VENDORS = ("siemens", "ge", "philips", "canon", "toshiba", "hitachi", "bruker", "united imaging")
# numbers only, so that nothing else can hide in them
_FACTS = (
    ("field strength (T)", "acquisitionSystemInformation/systemFieldStrength_T"),
    ("TR (ms)", "sequenceParameters/TR"),
    ("TE (ms)", "sequenceParameters/TE"),
    ("TI (ms)", "sequenceParameters/TI"),
    ("flip angle (deg)", "sequenceParameters/flipAngle_deg"),
)


@dataclass(frozen=True)
class Encoding:
    """One encoding; triples are (x, y, z) = (readout, phase encoding, partition), mm.

    :param centres: index of the centre of k-space along ``kspace_encoding_step_1`` and ``_2``;
        ``None`` where the header states none.
    :param calibration: ``calibrationMode`` of parallel imaging, empty if not stated.
    """

    matrix: tuple[int, int, int]
    fov: tuple[float, float, float]
    recon_matrix: tuple[int, int, int]
    recon_fov: tuple[float, float, float]
    trajectory: str
    centres: tuple[int | None, int | None]
    calibration: str


@dataclass(frozen=True)
class Header:
    """What is used of a header.

    :param noise_bandwidth: noise of the receiver within its bandwidth over that of white noise.
    """

    encodings: tuple[Encoding, ...]
    noise_bandwidth: float = 1.0
    facts: dict[str, str] = field(default_factory=dict)


def parse_header(text: str, path: Path, name: str) -> Header:
    """Parse a header; unknown elements are ignored, a broken one is never recovered.

    :param name: of the data set, for messages.
    :raises DataError: a DOCTYPE, broken XML, no encoding, sizes that are not positive numbers.
    """
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise DataError(path, name, found="a DOCTYPE", expected="plain XML without one")
    try:
        # expat opens no external entity, and without a DOCTYPE there are no entities to expand
        root = ElementTree.fromstring(text.strip("\0 \r\n\t").encode("utf-8"))  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(
            path, name, found=f"broken XML ({error})", expected="an ISMRMRD header"
        ) from None
    found = root.findall("{*}encoding")
    if not 1 <= len(found) <= _MAX_ENCODINGS:
        raise DataError(
            path, name, found=f"{len(found)} <encoding>", expected=f"1 to {_MAX_ENCODINGS}"
        )
    bandwidth = _number(_text(root, "acquisitionSystemInformation/relativeReceiverNoiseBandwidth"))
    facts = {}
    for key, tags in _FACTS:
        value = _number(_text(root, tags))
        if value is not None:
            facts[key] = f"{value:.6g}"
    vendor = known_vendor(_text(root, "acquisitionSystemInformation/systemVendor"))
    if vendor is not None:
        facts["vendor"] = vendor
    return Header(
        tuple(_encoding(element, path, f"{name}: encoding") for element in found),
        bandwidth if bandwidth and 0.1 < bandwidth <= 1 else 1.0,
        facts,
    )


def known_vendor(text: str) -> str | None:
    """Return the vendor that a free text names, ``None`` if it says anything else."""
    name = text.strip().lower().split(" healthcare")[0].split(" healthineers")[0]
    return name if name in _VENDORS else None


def _text(element: ElementTree.Element, tags: str) -> str:
    value = element.findtext("/".join("{*}" + tag for tag in tags.split("/")))
    return (value or "").strip()


def _number(raw: str) -> float | None:
    try:
        value = float(raw)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _encoding(element: ElementTree.Element, path: Path, where: str) -> Encoding:
    def triple(space: str, tag: str) -> tuple[float, float, float]:
        values = []
        for axis in "xyz":
            raw = _text(element, f"{space}/{tag}/{axis}")
            value = _number(raw)
            if value is None or not 0 < value < 1e6:
                raise DataError(
                    path,
                    f"{where}/{space}/{tag}/{axis}",
                    found=repr(raw)[:50],
                    expected="a positive number",
                )
            values.append(value)
        return values[0], values[1], values[2]

    def whole(space: str) -> tuple[int, int, int]:
        x, y, z = (max(int(value), 1) for value in triple(space, "matrixSize"))
        return x, y, z

    def centre(step: int) -> int | None:
        tags = f"encodingLimits/kspace_encoding_step_{step}/center"
        raw = _text(element, tags)
        value = _number(raw)
        if raw and (value is None or not 0 <= value < 65536):
            raise DataError(path, f"{where}/{tags}", found=repr(raw)[:50], expected="0 to 65535")
        return None if value is None else int(value)

    return Encoding(
        matrix=whole("encodedSpace"),
        fov=triple("encodedSpace", "fieldOfView_mm"),
        recon_matrix=whole("reconSpace"),
        recon_fov=triple("reconSpace", "fieldOfView_mm"),
        trajectory=(_text(element, "trajectory") or "cartesian").lower(),
        centres=(centre(1), centre(2)),
        calibration=_text(element, "parallelImaging/calibrationMode").lower(),
    )
