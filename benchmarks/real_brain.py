"""A fully sampled brain, undersampled."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from real_common import Image, Scores, Table, head

from sciinv import Scan, load, reconstruct
from sciinv.baselines import cg_sense, l1_wavelet, tv, tv_lambda
from sciinv.data.scale import object_mask
from sciinv.data.simulate import undersample
from sciinv.metrics import psnr, ssim
from sciinv.reconstruction.build import build_model

WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)


def brain(folder: Path, budget: float, pictures: Path | None, seeds: tuple[int, ...]) -> None:
    """One mask for each seed."""
    full = load(folder / "mri_brain16ch_fastmri.h5")
    for seed in seeds:
        brain_of(full, seed, budget, pictures)


def brain_of(full: Scan, seed: int, budget: float, pictures: Path | None) -> None:
    """Print one table."""
    scan = undersample(full, 4, calibration_lines=16, rng=seed)
    truth = scan.reference[0]
    mask = object_mask(truth)
    peak = float(truth[mask].max())

    def score(image: Image) -> Scores:
        image = np.abs(image)
        return (
            float(psnr(image, truth, data_range=peak, mask=mask)),
            float(ssim(image, truth, data_range=peak, mask=mask)),
        )

    model = build_model(scan, 0)
    y, physics = model.y, model.physics
    lam = tv_lambda(physics, model.sigma, 1.0)
    tried = {
        "CG-SENSE": lambda w: cg_sense(y, physics, lam=0.01 * w),
        "L1 wavelet": lambda w: l1_wavelet(y, physics, lam=lam * w),
        "total variation": lambda w: tv(y, physics, lam=lam * w),
    }
    table = Table(score, ("+.2f", "+.3f"), f"brain_{seed}")
    head(f"brain R4, seed {seed}", "PSNR, dB", "SSIM", "seconds")
    for name, method in tried.items():
        table.best(name, lambda w, m=method: model.to_physical(m(w))[0], WEIGHTS)
    begin = time.perf_counter()
    result = reconstruct(scan, num_samples=8, steps=12, krylov=6, time_budget=budget)
    table.add("sciinv default", result.mean[0], time.perf_counter() - begin)
    seen = mask & result.visible[0]
    error = np.sqrt(np.mean((result.mean[0] - truth)[seen] ** 2))
    std = np.sqrt(np.mean(result.std[0][seen] ** 2))
    print(f"\nrms std / rms error {std / error:.2f}, chi-squared {result.chi_squared:.2f}",
          flush=True)  # fmt: skip
    table.save(pictures, truth)
