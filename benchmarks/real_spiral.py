"""A spiral scan of a resolution phantom, judged on the shots that were left out."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from real_common import SIDECARS, Image, Scores, Table, fitted, head
from torch import Tensor

from sciinv import Scan, load, reconstruct
from sciinv.baselines import cg_sense, l1_wavelet, tv, tv_lambda, wavelet_lambda
from sciinv.channels import to_channels
from sciinv.data.scale import object_mask
from sciinv.data.simulate import undersample
from sciinv.metrics import psnr, ssim
from sciinv.operators import NonCartesianMRI
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.mri_model import evenness

# cycles per field of view: nearer to the centre, real spirals are missed by more than their noise
CENTRE = 4.0
# from a CG-SENSE image; twenty coils make each of the iterations slow
TV = {"max_iter": 60, "tol": 3e-3}
WEIGHTS = (2.0, 4.0, 8.0)
SENSE = (0.01, 0.03, 0.1)
REFERENCE = 0.03


def spiral(folder: Path, budget: float, pictures: Path | None) -> None:
    """Every 2nd and every 3rd shot."""
    full = load(folder / "mri_spiral20ch_ksp.mat", sidecar=SIDECARS / "mri_spiral20ch.toml")
    everything = build_model(full, 0)
    reference = everything.to_physical(sense(everything, REFERENCE))[0]
    for step in (2, 3):
        spiral_of(full, reference, step, budget, pictures)


def sense(model: Model, weight: float) -> Tensor:
    """CG-SENSE with a weight relative to the mean density of the samples."""
    physics = model.physics
    return cg_sense(model.y, physics, lam=weight * evenness(physics), max_iter=60)


class HeldOut:
    """Error of predicted k-space on shots that a scan lacks, with the maps of that scan."""

    def __init__(self, full: Scan, model: Model, step: int) -> None:
        g = full.geometry
        unused = np.arange(g.num_shots) % step != 0
        points = g.trajectory[unused]
        maps = torch.view_as_complex(model.physics.map_pairs)
        maps = maps * model.phase.conj()[:, None].to(maps)
        self.physics = NonCartesianMRI(tuple(g.image_shape), points, maps)
        data = np.ascontiguousarray(full.data[0][:, unused]).astype(np.complex64)
        self.y = to_channels(torch.from_numpy(data.reshape(1, len(data), -1)))
        outside = np.linalg.norm(points, axis=-1).ravel() > CENTRE
        self.outside = torch.from_numpy(outside)

    def __call__(self, image: Image) -> tuple[float, float]:
        """Return ``|A x - y| / |y|`` away from the centre, and of all."""
        x = to_channels(torch.from_numpy(np.ascontiguousarray(image).astype(np.complex64))[None])
        difference, y = self.physics.A(x) - self.y, self.y
        far = float(difference[..., self.outside].norm() / y[..., self.outside].norm())
        return far, float(difference.norm() / y.norm())

    def noise(self, std: float) -> float:
        """Return what the noise alone would leave away from the centre."""
        far = self.y[..., self.outside]
        return std * far.numel() ** 0.5 / float(far.norm())


def spiral_of(
    full: Scan, reference: Image, step: int, budget: float, pictures: Path | None
) -> None:
    """Print one table."""
    scan = undersample(full, step)
    begin = time.perf_counter()
    model = build_model(scan, 0)
    building = time.perf_counter() - begin
    held_out = HeldOut(full, model, step)
    truth = np.abs(reference)
    mask = object_mask(truth)
    peak = float(np.percentile(truth[mask], 99.5))

    def score(image: Image) -> Scores:
        size = fitted(image, truth, mask)
        return (
            *held_out(image),
            float(psnr(size, truth, data_range=peak, mask=mask)),
            float(ssim(size, truth, data_range=peak, mask=mask)),
        )

    shots = scan.geometry.num_shots
    table = Table(score, ("-.4f", "-.4f", "+.2f", "+.3f"), f"spiral_{step}")
    head(f"spiral, {shots} of {full.geometry.num_shots} shots", f"unused shots, k > {CENTRE:g}",
         "all of k", "PSNR, dB", "SSIM", "seconds")  # fmt: skip
    table.add("(all shots, CG-SENSE: has seen them)", reference)
    y, physics = model.y, model.physics
    begin = time.perf_counter()
    gridded = physics.A_dagger(y)
    table.add("gridding", model.to_physical(gridded)[0], time.perf_counter() - begin)
    table.best("CG-SENSE", lambda w: model.to_physical(sense(model, w))[0], SENSE)
    lam = wavelet_lambda(physics, model.sigma, 1.0)
    table.best(
        "L1 wavelet",
        lambda w: model.to_physical(l1_wavelet(y, physics, lam=lam * w))[0],
        WEIGHTS,
    )
    begin = time.perf_counter()
    result = reconstruct(scan, time_budget=budget)
    took = time.perf_counter() - begin
    mean = result.samples[:, 0].mean(0)
    table.add("sciinv default, mean", mean, took)
    table.add("one sample of it", result.samples[0, 0])
    lam, begun = tv_lambda(physics, model.sigma, 1.0), sense(model, REFERENCE)
    table.best(
        "total variation",
        lambda w: model.to_physical(tv(y, physics, lam=lam * w, init=begun, **TV))[0],
        WEIGHTS,
    )
    noise = held_out.noise(model.noise)
    print(f"\nnoise alone would leave {noise:.4f} away from the centre; model built in "
          f"{building:.0f} s; chi-squared {result.chi_squared:.2f}, noise used "
          f"{result.provenance['noise_used'] / model.noise:.2f} of the estimate, "
          f"{len(result.samples)} samples; {' '.join(result.warnings)}")  # fmt: skip
    seen = mask & result.visible[0]
    size = fitted(mean, truth, mask)
    error = np.sqrt(np.mean((size - truth)[seen] ** 2))
    std = (
        np.sqrt(np.mean(result.std[0][seen] ** 2))
        * np.mean(size[seen])
        / np.mean(np.abs(mean)[seen])
    )
    print(f"rms std / rms error {std / error:.2f}", flush=True)
    table.save(pictures, truth, crop=36)
