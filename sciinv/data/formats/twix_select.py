"""Which lines of a Siemens measurement make the image, and what its noise scan says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciinv.data.formats.twix_lines import Line
from sciinv.errors import DataError

__all__ = ["FLAGS", "select_lines", "whitening"]

#: Bits of the evaluation mask that decide here.
FLAGS = {
    "RTFEEDBACK": 1 << 1,
    "HPFEEDBACK": 1 << 2,
    "REFPHASESTABSCAN": 1 << 14,
    "PHASESTABSCAN": 1 << 15,
    "PHASCOR": 1 << 21,
    "PATREFSCAN": 1 << 22,
    "PATREFANDIMASCAN": 1 << 23,
    "REFLECT": 1 << 24,
    "NOISEADJSCAN": 1 << 25,
    "SLICE_ACCEL_REFSCAN": 1 << 38,
    "SLICE_ACCEL_PHASCOR": 1 << 39,
    "FIRST_SCAN_IN_BLADE": 1 << 40,
    "RETRO_DUMMYSCAN": 1 << 51,
    "B1_CONTROLLOOP": 1 << 53,
}
_REFUSED = {
    "SLICE_ACCEL_REFSCAN": "simultaneous multi-slice",
    "SLICE_ACCEL_PHASCOR": "simultaneous multi-slice",
    "FIRST_SCAN_IN_BLADE": "BLADE",
}
_NOT_IMAGE = ("RTFEEDBACK", "HPFEEDBACK", "REFPHASESTABSCAN", "PHASESTABSCAN", "PHASCOR",
              "NOISEADJSCAN", "RETRO_DUMMYSCAN", "B1_CONTROLLOOP")  # fmt: skip
_CHOSEN = {"Eco": "echo", "Phs": "phase", "Rep": "repetition", "Set": "set"}
# noise samples a coil that a covariance needs
_ENOUGH = 8


def select_lines(path: Path, lines: Sequence[Line], notes: list[str]) -> list[Line]:
    """Lines of the first image: its echo, phase, repetition and set, read in one direction.

    :raises DataError: none, or lines whose reconstruction needs more than sorting.
    """
    for line in lines:
        for flag, what in _REFUSED.items():
            if line.flags & FLAGS[flag]:
                raise DataError(path, f"flag {flag}", found=what, expected="plain Cartesian lines")
    unwanted = 0
    for name in _NOT_IMAGE:
        unwanted |= FLAGS[name]
    image, reference, navigators = [], 0, 0
    for line in lines:
        navigators += bool(line.flags & FLAGS["PHASCOR"])
        if line.flags & unwanted:
            continue
        if line.flags & FLAGS["PATREFSCAN"] and not line.flags & FLAGS["PATREFANDIMASCAN"]:
            reference += 1
            continue
        image.append(line)
    if not image:
        raise DataError(
            path, "readouts", found=f"{len(lines)}, none of an image", expected="imaging lines"
        )
    if reference:
        notes.append(f"{reference} separate reference lines of parallel imaging are left out")
    for counter, word in _CHOSEN.items():
        values = sorted({line.counter[counter] for line in image})
        if len(values) > 1:
            notes.append(f"the first {word} of {len(values)} is read")
            image = [line for line in image if line.counter[counter] == values[0]]
    for counter in ("Ida", "Idb", "Idc"):
        values = sorted({line.counter[counter] for line in image})
        places = {tuple(line.counter[k] for k in ("Sli", "Lin", "Par", "Ave")) for line in image}
        # sequences use these counters as they like; they matter if they separate equal lines
        if len(values) > 1 and len(places) < len(image):
            notes.append(f"the first of {len(values)} values of the counter {counter} is read")
            image = [line for line in image if line.counter[counter] == values[0]]
    reflected = sum(bool(line.flags & FLAGS["REFLECT"]) for line in image)
    if reflected:
        found = f"{reflected} of {len(image)} lines read backwards"
        if navigators:
            found += f" and {navigators} navigators"
        raise DataError(
            path, "flag REFLECT", found=f"{found}, as in EPI",
            expected="lines read in one direction: the correction of EPI phases is not built in",
        )  # fmt: skip
    if navigators:
        notes.append(f"{navigators} phase correction lines (PHASCOR) are left out")
    return image


def whitening(lines: Sequence[Line], coils: int, notes: list[str]) -> NDArray[np.complex128] | None:
    """Matrix that makes the noise of the coils equal and uncorrelated, from a noise scan.

    Its level is left to the scan itself: noise scans have a bandwidth of their own. The matrix
    leaves the mean variance over the coils as it is.

    :returns: ``(coils, coils)``, or None without a noise scan that fits.
    """
    fitting = [line for line in lines if line.channels == coils]
    if not fitting:
        return None
    samples = np.concatenate([line.data() for line in fitting], axis=1).astype(np.complex128)
    if samples.shape[1] < _ENOUGH * coils or not np.isfinite(samples).all():
        return None
    covariance = samples @ samples.conj().T / samples.shape[1]
    covariance *= coils / max(float(np.trace(covariance).real), np.finfo(float).tiny)
    try:
        matrix = np.linalg.inv(np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        notes.append("the noise scan is degenerate and not used")
        return None
    notes.append(f"coils made equally noisy by the noise scan ({samples.shape[1]} samples)")
    return np.asarray(matrix)
