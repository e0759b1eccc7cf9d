"""What a result says about how it came about."""

from __future__ import annotations

import platform
import resource
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv import __version__
from sciinv.data.scan import Scan
from sciinv.reconstruction.parts import Slice
from sciinv.report.plain import plain
from sciinv.solvers import Solver
from sciinv.solvers.problem import Prior

# sampling starts from the point estimate plus noise of this share of the intensity scale: above it
# a prior of procedural images is wrong about real anatomy, below it right about local structure
START_LEVEL = 0.25
_HIDDEN = {
    "mri": "outside the coils' view",
    "ct": "outside the scanned disc",
    "diffraction": "outside the object that phasing found",
}


def result_notes(scan: Scan, part: Slice, visible: NDArray[np.bool_], *, local: bool) -> list[str]:
    """Sentences on what was assumed, where the samples come from and what is masked."""
    notes = [*scan.notes]
    if local and part.phased:
        starts = "a few" if part.residuals is None else part.residuals.shape[1]
        notes.append(
            f"Phases were found by the hybrid input-output algorithm, the best of {starts} random "
            "starts; DPS then sampled near that image. Other phasings that fit as well are not "
            "explored, nor are shifts and the conjugate twin, which no pattern can tell apart."
        )
    elif local:
        notes.append(
            "The samples explore the posterior near one point estimate (start level "
            f"{START_LEVEL} of the intensity scale); name the solver, --solver MMT, to sample "
            "from noise."
        )
    cut = scan.image_shape != part.grid
    if cut and scan.kind == "ct":
        size = "x".join(map(str, part.grid))
        notes.append(
            f"Outside the middle {size} pixels a quick reconstruction shows air: nothing is "
            "reconstructed there, it is masked."
        )
    hidden = 1 - float(visible.mean())
    if hidden > 0:
        why = _HIDDEN[scan.kind]
        why += " or empty" if cut and scan.kind == "ct" else ""
        notes.append(
            f"{hidden:.0%} of the image is {why}: the data say nothing there, it is masked."
        )
    return notes


def describe_prior(name: str, prior: Prior) -> dict[str, Any]:
    """Name, class and card of a prior."""
    card = getattr(prior, "card", None)
    described: dict[str, Any] = {"name": name, "class": type(prior).__name__}
    dtype = getattr(prior, "inference_dtype", None)
    if dtype is not None:
        described["inference_dtype"] = str(dtype).removeprefix("torch.")
    if isinstance(card, dict):
        described["card"] = plain(card)
    return described


def bibtex(solver: type[Solver]) -> str:
    """Citation of a method."""
    note = solver.reference or "no publication"
    return f"@misc{{{solver.__name__},\n  note = {{{note}}}\n}}"


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = ("torch", "deepinv", "numpy", "sigpy", "astra-toolbox")
    return {
        "sciinv": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def peak_memory() -> int:
    """Largest memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
