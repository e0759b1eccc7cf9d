"""Bragg diffraction of a micro-crystal, judged on pixels that were hidden from every method."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from real_common import SIDECARS, Image, Scores, Table, head

from sciinv import Scan, load, reconstruct
from sciinv.baselines import hio
from sciinv.channels import to_channels
from sciinv.metrics import align, r_factor
from sciinv.operators import FourierPhaseRetrieval

FREE = 0.05
# side-car, random starts, thresholds of shrink-wrap
CASES = {
    "crystal2d": ("central frame", "phase_bcdi_crystal_central.toml", 4, (0.1, 0.15, 0.2)),
    "crystal3d": ("whole pattern", "phase_bcdi_crystal.toml", 2, (0.2,)),
}


def crystal(folder: Path, budget: float, pictures: Path | None, case: str) -> None:
    """Print the table of one case."""
    label, sidecar, starts, thresholds = CASES[case]
    scan = load(folder / "phase_bcdi_crystal.tif", sidecar=SIDECARS / sidecar)
    measured = scan.data[0]
    seen = np.ones(measured.shape, bool) if scan.valid is None else scan.valid[0]
    free = (np.random.default_rng(0).random(measured.shape) < FREE) & (measured >= 1) & seen
    used = seen & ~free
    hidden = scan.with_(data=np.where(free, 0, scan.data), valid=used[None])
    amplitude = np.sqrt(measured)
    shape, pattern = tuple(scan.image_shape), tuple(scan.geometry.pattern_shape)
    plain = FourierPhaseRetrieval(shape, mode="amplitude", pattern_shape=pattern)

    def score(image: Image) -> Scores:
        x = to_channels(torch.from_numpy(np.asarray(image, np.complex64))[None])
        model = plain.A(x)[0, 0].numpy()
        difference = (model - amplitude)[used]
        return (
            r_factor(amplitude, model, free),
            r_factor(amplitude, model, used),
            float(np.linalg.norm(difference) / np.linalg.norm(amplitude[used])),
            float(np.mean(difference**2)) / 0.25,
        )

    table = Table(score, ("-.3f", "-.3f", "-.3f", "-.2f"), case)
    head(f"crystal, {label}", "R, free pixels", "R, used", "relative Fourier error, used",
         "chi-squared, used", "seconds")  # fmt: skip
    print_methods(hidden, table, starts, thresholds, used)
    begin = time.perf_counter()
    result = reconstruct(hidden, time_budget=budget)
    took = time.perf_counter() - begin
    table.add("its start, " + result.baseline_name, result.baseline[0])
    table.add("sciinv default, mean", result.samples[:, 0].mean(0), took)
    table.add("one sample of it", result.samples[0, 0])
    print(f"\n{int(free.sum())} pixels hidden; chi-squared {result.chi_squared:.2f}, "
          f"{len(result.samples)} samples; {' '.join(result.warnings)}", flush=True)  # fmt: skip
    first = table.pictures["sciinv default, mean"]
    for name, image in table.pictures.items():
        table.pictures[name] = align(image, first)
    table.save(pictures, crop=12 if len(shape) == 2 else 0)


def print_methods(
    scan: Scan, table: Table, starts: int, thresholds: tuple[float, ...], used: np.ndarray
) -> None:
    """Print the rows of iterative phasing."""
    pattern = tuple(scan.geometry.pattern_shape)
    counts = torch.from_numpy(scan.data[0].astype(np.float32))[None, None]
    physics = FourierPhaseRetrieval(
        tuple(scan.image_shape), mode="intensity", pattern_shape=pattern,
        mask=torch.from_numpy(used),
    )  # fmt: skip

    def run(method: str, threshold: float) -> Image:
        image = hio(counts, physics, method=method, starts=starts, threshold=threshold, generator=0)
        return torch.complex(image[0, 0], image[0, 1]).numpy()

    for method in ("er", "hio", "raar"):
        table.best(method.upper(), lambda t, m=method: run(m, t), thresholds)
