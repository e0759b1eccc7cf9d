"""Undersampled real scans: the default reconstruction beside classical ones.

    python benchmarks/real_scans.py FOLDER [brain] [tooth]

FOLDER holds ``mri_brain16ch_fastmri.h5`` (fully sampled, 16 coils) and ``ct_parallel_tooth.h5``
(181 projections). Brain: R = 4, 16 calibration and 16 random lines of 128, against the fully
sampled root sum of squares inside the object, peak = its maximum. Tooth: 31 of 181 projections,
judged on the real projections that were *not* used, |A x - p| / |p|, so that no reference
reconstruction favours anybody. Regularised baselines get the best of some weights, chosen *on the
truth*; the default reconstruction runs as `sciinv reconstruct` does, without any choice.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from sciinv import Scan, load, reconstruct
from sciinv.baselines import cg_sense, l1_wavelet, sirt, tv, tv_lambda
from sciinv.data.scale import object_mask
from sciinv.data.simulate import undersample
from sciinv.metrics import psnr, ssim
from sciinv.operators import ParallelBeamCT
from sciinv.reconstruction.model import build_model

WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)


def row(name: str, *values: object) -> None:
    print("| " + " | ".join([name, *map(str, values)]) + " |", flush=True)


def brain(folder: Path) -> None:
    full = load(folder / "mri_brain16ch_fastmri.h5")
    print("\n| brain R4 | PSNR, dB | SSIM | seconds |\n|---|---|---|---|")
    notes = [brain_of(full, seed) for seed in (0, 1)]
    print("\n" + "\n".join(notes))


def brain_of(full: Scan, seed: int) -> str:
    scan = undersample(full, 4, calibration_lines=16, rng=seed)
    truth = scan.reference[0]
    mask = object_mask(truth)
    peak = float(truth[mask].max())

    def score(image: np.ndarray) -> tuple[float, float]:
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
    for name, method in tried.items():
        begin = time.perf_counter()
        best = max(score(model.to_physical(method(w))[0]) for w in WEIGHTS)
        took = f"{(time.perf_counter() - begin) / len(WEIGHTS):.0f}"
        row(f"{name}, best of 5, seed {seed}", f"{best[0]:.2f}", f"{best[1]:.3f}", took)
    begin = time.perf_counter()
    result = reconstruct(scan, num_samples=8, steps=12, krylov=6)
    took = f"{time.perf_counter() - begin:.0f}"
    found = score(result.mean[0])
    row(f"sciinv default, seed {seed}", f"{found[0]:.2f}", f"{found[1]:.3f}", took)
    seen = mask & result.visible[0]
    error = np.sqrt(np.mean((result.mean[0] - truth)[seen] ** 2))
    std = np.sqrt(np.mean(result.std[0][seen] ** 2))
    return (
        f"seed {seed}: rms std / rms error {std / error:.2f}, chi-squared {result.chi_squared:.2f}"
    )


def tooth(folder: Path) -> None:
    full = load(folder / "ct_parallel_tooth.h5", sidecar=None)
    full = full.with_(data=full.data[:1], valid=None if full.valid is None else full.valid[:1])
    scan = undersample(full, 6)
    used = np.isin(full.geometry.angles, scan.geometry.angles)
    g = full.geometry
    unseen = ParallelBeamCT(
        g.image_shape, g.angles[~used], num_detectors=g.num_detectors,
        detector_spacing=g.detector_spacing, pixel_size=g.pixel_size, axis_shift=g.axis_shift,
    )  # fmt: skip
    held_out = torch.from_numpy(full.data[0][~used]).float()[None, None]

    def score(image: np.ndarray) -> float:
        x = torch.from_numpy(np.ascontiguousarray(image)).float()[None, None]
        return float((unseen.A(x) - held_out).norm() / held_out.norm())

    model = build_model(scan, 0)
    print(f"\n| tooth, {used.sum()} of {len(used)} views | error on unused views | seconds |")
    print("|---|---|---|")
    lam = tv_lambda(model.physics, 1.0, 1.0)
    begin = time.perf_counter()
    result = reconstruct(scan, num_samples=4, steps=8, krylov=5)
    seconds = time.perf_counter() - begin
    row("filtered back-projection", f"{score(result.baseline[0]):.4f}", "")
    y, physics = model.y, model.physics
    tried = {
        "SIRT": (lambda n: sirt(y, physics, iterations=n, nonneg=True), (25, 50, 100, 200)),
        "total variation": (
            lambda w: tv(y, physics, lam=lam * w, nonneg=True, max_iter=150),
            (0.5, 1.0, 2.0, 4.0),
        ),
    }
    for name, (method, choices) in tried.items():
        start = time.perf_counter()
        best = min(score(model.to_physical(method(choice))[0]) for choice in choices)
        took = (time.perf_counter() - start) / len(choices)
        row(f"{name}, best of {len(choices)}", f"{best:.4f}", f"{took:.0f}")
    row("sciinv default", f"{score(result.mean[0]):.4f}", f"{seconds:.0f}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    chosen = sys.argv[2:] or ["brain", "tooth"]
    for job in (brain, tooth):
        if job.__name__ in chosen:
            job(Path(sys.argv[1]))
