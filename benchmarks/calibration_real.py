"""Calibration on real scans: the factor that held-out data give against the one that is true.

- ``phantom``: ``mri_phantom16ch_ismrmrd.h5`` and ``brain``: ``mri_brain16ch_fastmri.h5``, R = 4, 16
  calibration and 16 random lines of 128; truth is the root sum of squares of all lines. It carries
  the noise of the scan, whose variance is taken off the squared error.
- ``disc``: ``ct_fanbeam_htc2022_ta.mat``, 60 of 720 views, and ``tooth``: ``ct_parallel_tooth.h5``,
  31 of 181; truth are the views that were not used, less their noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from quality_ct import full_scan

from sciinv import Result, Scan, load, reconstruct
from sciinv.data.noise import sinogram_noise_map
from sciinv.data.scale import object_mask
from sciinv.data.scan import MRIGeometry
from sciinv.data.simulate import undersample
from sciinv.metrics import normal_curve
from sciinv.reconstruction.ct_model import tomograph

Case = dict[str, Any]
EFFORT: Case = {"num_samples": 8, "steps": 10, "krylov": 6, "time_budget": 1e6}
# the disc on its full grid would take half of the time of the whole benchmark
DISC_PIXELS = 128


def real_cases(
    folder: Path, names: Sequence[str], prior: str, prior_of: Callable[[str, str], Any]
) -> dict[str, Callable[[], Case]]:
    """Functions that measure the cases, by key."""
    made: dict[str, Callable[[], Case]] = {}
    for name in names:
        kind = "ct" if name in ("disc", "tooth") else "mri"
        made[f"real/{name}"] = lambda n=name, k=kind: (mri_case if k == "mri" else ct_case)(
            n, folder, prior_of(k, prior)
        )
    return made


def mri_case(name: str, folder: Path, prior: Any) -> Case:  # noqa: ANN401
    """Cartesian scan of which all lines are at hand."""
    full = phantom(folder) if name == "phantom" else load(folder / "mri_brain16ch_fastmri.h5")
    scan = undersample(full, 4, calibration_lines=16, rng=0)
    begin = time.perf_counter()
    result = reconstruct(scan, prior, **EFFORT)
    truth = scan.reference[0]
    mask = object_mask(truth) & result.visible[0]
    noise = result.provenance["noise_used"]
    count = result.num_samples
    square = np.mean((result.mean[0] - truth)[mask] ** 2) - noise**2
    variance = (1 + 1 / count) * np.mean(result.raw_std[0][mask] ** 2)
    return {
        **stated(result),
        "actual_factor": float(np.sqrt(max(square, 0) / variance)),
        # the reference's own noise belongs to what an interval for it has to cover
        **covered(result.magnitude[:, 0], truth, mask, result.std_factor, noise),
        "seconds": time.perf_counter() - begin,
    }


def covered(
    samples: NDArray[Any], truth: NDArray[Any], mask: NDArray[np.bool_], factor: float, noise: float
) -> dict[str, float]:
    """90 % coverage before and after calibration, of the magnitude with the reference's noise."""
    rng = np.random.default_rng(0)
    mean = samples.mean(0)
    found = {}
    for name, f in (("before", 1.0), ("after", factor)):
        drawn = mean + f * (samples - mean) + noise * rng.standard_normal(samples.shape)
        found[f"coverage_90_{name}"] = float(
            normal_curve(drawn, truth, levels=[0.9], mask=mask)[1][0]
        )
    return found


def ct_case(name: str, folder: Path, prior: Any) -> Case:  # noqa: ANN401
    """Few views of a scan of which many are at hand."""
    if name == "disc":
        full = full_scan(folder, "disc")
        g = full.geometry
        coarse = g.image_shape[0] / DISC_PIXELS
        full = full.with_(
            geometry=replace(
                g, image_shape=(DISC_PIXELS, DISC_PIXELS), pixel_size=coarse * g.pixel_size
            )
        )
        scan = undersample(full, 12)
    else:
        full = load(folder / "ct_parallel_tooth.h5")
        full = full.with_(data=full.data[:1], valid=None if full.valid is None else full.valid[:1])
        scan = undersample(full, 6)
    begin = time.perf_counter()
    result = reconstruct(scan, prior, **EFFORT)
    g = full.geometry
    unused = ~np.isin(g.angles, scan.geometry.angles)
    physics = tomograph(replace(g, angles=g.angles[unused]), g.image_shape)
    p = full.data[0][unused]
    std = sinogram_noise_map(p, None if full.valid is None else full.valid[0][unused], None)
    seen = np.isfinite(std)
    x = torch.from_numpy(result.samples[:, 0])[:, None].float()
    ax = physics.A(x)[:, 0].double().numpy()
    count = len(ax)
    square = ((p - ax.mean(0)) ** 2 - std**2)[seen].sum()
    variance = (1 + 1 / count) * ax.var(0, ddof=1)[seen].sum()
    return {
        **stated(result),
        "actual_factor": float(np.sqrt(max(square, 0) / variance)),
        "seconds": time.perf_counter() - begin,
    }


def stated(result: Result) -> Case:
    """What the result says about itself."""
    found = result.std_calibration
    return {
        "factor": found.factor,
        "measured": found.measured,
        "standard_error": found.standard_error,
        "text": found.text,
        "chi_squared": float(result.chi_squared),
        "noise_used_over_stated": result.provenance["noise_used"] / result.provenance["noise"],
    }


def phantom(folder: Path) -> Scan:
    """The bottle phantom: one acquisition of 16 coils for each of 128 lines."""
    import h5py

    from sciinv.data.checks import assumed_affine

    k = np.zeros((1, 16, 128, 128), np.complex64)
    with h5py.File(folder / "mri_phantom16ch_ismrmrd.h5") as file:
        for row in file["dataset/data"]:
            line = row["head"]["idx"]["kspace_encode_step_1"]
            k[0, :, :, line] = row["data"].view(np.complex64).reshape(16, 128)
    return Scan(
        kind="mri",
        data=k,
        geometry=MRIGeometry((128, 128), np.ones((128, 128), bool), (3.0, 2.0, 2.0), 0),
        format="ismrmrd",
        source=Path("phantom.h5"),
        units="a.u.",
        affine=assumed_affine((1, 128, 128), (3.0, 2.0, 2.0), fourier_centre=True),
    )
