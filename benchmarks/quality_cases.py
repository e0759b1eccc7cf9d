"""The cases of the quality benchmark: every fully sampled real scan, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import quality_ct as ct
import quality_mri as mri
from numpy.typing import NDArray
from quality_classical import ct_methods, mri_methods
from quality_diffraction import crystal
from quality_search import Method, Score, Scores
from quality_store import Arrays, Store

from sciinv import Scan
from sciinv.data.noise import estimate_mri_noise
from sciinv.data.scale import object_mask
from sciinv.data.scan import MRIGeometry
from sciinv.metrics import nrmse, psnr, ssim
from sciinv.reconstruction.build import build_model

Image = NDArray[Any]


@dataclass(frozen=True)
class Problem:
    """One scan to be reconstructed.

    :param score: of an image in physical units.
    :param methods: makes the classical methods.
    :param truth: ``image`` in physical units, ``mask`` of the object, for MRI the PSNR ``limit``
        that the image's own noise sets; nothing for diffraction.
    """

    scan: Scan
    score: Score
    methods: Callable[[], dict[str, Method]]
    truth: Arrays


@dataclass(frozen=True)
class Case:
    """One row of the table.

    :param group: title of its table.
    :param label: its name in the table.
    :param judged: whether settings of sciinv were chosen looking at this scan.
    """

    name: str
    group: str
    label: str
    judged: bool
    make: Callable[[Path, Store], Problem]


_MRI = {"brain": "brain, 16 coils", "phantom16": "bottle, 16 coils", "phantom2": "inserts, 2 coils"}
_CT = {"tooth": "tooth, parallel beam", "disc": "disc, fan beam"}
_TUNED = ("phantom16", "disc")
CARTESIAN, RADIAL = "MRI, Cartesian lines", "MRI, golden-angle spokes"
TOMOGRAPHY, DIFFRACTION = "CT", "Diffraction"


def _image_scores(image: Image, truth: Image, mask: NDArray[np.bool_], peak: float) -> Scores:
    return {
        "psnr": float(psnr(image, truth, data_range=peak, mask=mask)),
        "ssim": float(ssim(image, truth, data_range=peak, mask=mask)),
        "nrmse": float(nrmse(image, truth, mask=mask)),
    }


def _mri_problem(full: Scan, scan: Scan) -> Problem:
    assert scan.reference is not None and isinstance(full.geometry, MRIGeometry)
    truth = np.asarray(scan.reference[0], np.float32)
    mask = object_mask(truth)
    peak = float(truth[mask].max())
    # the transform is orthonormal: the image has the noise of the samples
    noise = estimate_mri_noise(full.data[0], None, full.geometry.readout_axis)
    # the reference must not reach the method
    return Problem(
        scan.with_(reference=None),
        lambda image: _image_scores(np.abs(image), truth, mask, peak),
        lambda: mri_methods(build_model(scan, 0)),
        {"image": truth, "mask": mask, "limit": np.array(20 * np.log10(peak / noise))},
    )


def _ct_problem(folder: Path, store: Store, name: str, make: Callable[[Scan], Scan]) -> Problem:
    full = ct.full_scan(folder, name)
    scan = make(full)
    truth = store.kept(f"{name}_reference", lambda: ct.reference(full))
    held_out = ct.HeldOut(full, scan)
    mask = truth["mask"]
    peak = float(np.percentile(truth["image"][mask], 99.5))

    def score(image: Image) -> Scores:
        image = np.asarray(image, np.float32)
        scores = _image_scores(image, truth["image"], mask, peak)
        return {**scores, "held_out": held_out(image)}

    return Problem(scan, score, lambda: ct_methods(build_model(scan, 0)), truth)


def _crystal_problem(folder: Path, dim: int) -> Problem:
    found = crystal(folder, dim)
    return Problem(found.scan, found.score, found.methods, {})


def _lines(name: str, rate: int, seed: int) -> Case:
    def make(folder: Path, store: Store) -> Problem:
        full = mri.full_scan(folder, name)
        return _mri_problem(full, mri.lines(full, rate, seed))

    label = f"{_MRI[name]}, R = {rate}, mask {seed}"
    return Case(f"{name}_r{rate}_{seed}", CARTESIAN, label, name in _TUNED, make)


def _spokes(name: str, number: int) -> Case:
    def make(folder: Path, store: Store) -> Problem:
        full = mri.full_scan(folder, name)
        return _mri_problem(full, mri.spokes(full, number))

    label = f"{_MRI[name]}, {number} spokes"
    return Case(f"{name}_radial{number}", RADIAL, label, name in _TUNED, make)


def _views(name: str, step: int) -> Case:
    def make(folder: Path, store: Store) -> Problem:
        return _ct_problem(folder, store, name, lambda full: ct.undersample(full, step))

    label = f"{_CT[name]}, 1/{step} of the views"
    return Case(f"{name}_{step}", TOMOGRAPHY, label, name in _TUNED, make)


def _dose(name: str, step: int) -> Case:
    def make(folder: Path, store: Store) -> Problem:
        return _ct_problem(folder, store, name, lambda full: ct.low_dose(full, step, 0))

    label = f"{_CT[name]}, 1/{step} of the views, {ct.PHOTONS:g} photons"
    return Case(f"{name}_dose", TOMOGRAPHY, label, name in _TUNED, make)


def _crystal(dim: int) -> Case:
    label = f"crystal, {'central frame' if dim == 2 else 'whole pattern'}"
    return Case(f"crystal{dim}d", DIFFRACTION, label, False, lambda f, s: _crystal_problem(f, dim))


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        *(_lines(name, rate, seed) for name in _MRI for rate in (4, 8) for seed in (0, 1)),
        *(_spokes(name, number) for name in _MRI for number in (34, 21)),
        *(_views(name, step) for name in _CT for step in (6, 12)),
        _dose("tooth", 2),
        _dose("disc", 8),
        _crystal(2),
        _crystal(3),
    )
}


def wanted(patterns: list[str]) -> list[Case]:
    """Return the cases whose names begin with one of some patterns, in that order, or all."""
    missing = [p for p in patterns if not any(name.startswith(p) for name in CASES)]
    if missing:
        raise SystemExit(f"no case begins with {', '.join(missing)}; there are {', '.join(CASES)}")
    chosen = {c.name: c for p in patterns or [""] for c in CASES.values() if c.name.startswith(p)}
    return list(chosen.values())
