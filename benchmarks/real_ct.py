"""Tooth (parallel beam) and acrylic disc (fan beam) from few views, judged on the other views."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from real_common import SIDECARS, Image, Scores, Table, head
from scipy import ndimage
from torch import Tensor

from sciinv import Scan, load, reconstruct
from sciinv.baselines import fbp, sirt, tv, tv_lambda
from sciinv.data.scale import object_mask
from sciinv.data.simulate import undersample
from sciinv.metrics import psnr, ssim
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.ct_model import tomograph
from sciinv.reconstruction.model import Model


def tensor(image: Image) -> Tensor:
    """Image as a tensor of an operator."""
    return torch.from_numpy(np.ascontiguousarray(image)).float()[None, None]


class HeldOut:
    """Error of predicted projections on the views that a scan lacks, ``|A x - p| / |p|``."""

    def __init__(self, full: Scan, scan: Scan) -> None:
        g = full.geometry
        self.unused = ~np.isin(g.angles, scan.geometry.angles)
        rest = replace(g, angles=g.angles[self.unused])
        self.physics = tomograph(rest, g.image_shape)
        self.p = tensor(full.data[0][self.unused])

    def __call__(self, image: Image) -> float:
        """Return the error."""
        return float((self.physics.A(tensor(image)) - self.p).norm() / self.p.norm())


def tooth(folder: Path, budget: float, pictures: Path | None) -> None:
    """31 of 181 projections of one slice."""
    full = load(folder / "ct_parallel_tooth.h5")
    full = full.with_(data=full.data[:1], valid=None if full.valid is None else full.valid[:1])
    scan = undersample(full, 6)
    held_out = HeldOut(full, scan)
    table = Table(lambda image: (held_out(image),), ("-.4f",), "tooth")
    views = len(scan.geometry.angles)
    head(f"tooth, {views} of {len(full.geometry.angles)} views", "unused views", "seconds")
    compare(scan, table, budget, {"num_samples": 4, "steps": 8, "krylov": 5})
    table.save(pictures)


def htc(folder: Path, budget: float, pictures: Path | None) -> None:
    """1 of 12 and 1 of 24 views of the disc."""
    full = htc_scan(folder)
    model = build_model(full, 0)
    whole = filtered(model)
    inside = filled(object_mask(ndimage.gaussian_filter(whole, 1.0)))
    peak = float(np.percentile(whole[inside], 99.5))
    for step in (12, 24):
        scan = undersample(full, step)
        held_out = HeldOut(full, scan)

        def score(image: Image, held_out: HeldOut = held_out) -> Scores:
            image = np.asarray(image, np.float32)
            return (
                held_out(image),
                float(psnr(image, whole, data_range=peak, mask=inside)),
                float(ssim(image, whole, data_range=peak, mask=inside)),
            )

        table = Table(score, ("-.5f", "+.2f", "+.3f"), f"htc_{step}")
        head(f"disc, {len(scan.geometry.angles)} of {len(full.geometry.angles)} views",
             "unused views", "PSNR, dB", "SSIM", "seconds")  # fmt: skip
        table.add("(FBP of all views: has seen them)", whole)
        result = compare(scan, table, budget, {})
        error = np.sqrt(np.mean((result.mean[0] - whole)[inside] ** 2))
        std = np.sqrt(np.mean(result.std[0][inside] ** 2))
        print(f"rms std / rms difference from FBP of all views {std / error:.2f}", flush=True)
        table.save(pictures, whole, crop=8)


def filtered(model: Model) -> Image:
    """Filtered back-projection without the corners, which not all views see."""
    return fbp(model.measured, model.whole)[0, 0].numpy() * model.visible


def filled(mask: np.ndarray) -> np.ndarray:
    """Mask with its holes."""
    return np.asarray(ndimage.binary_fill_holes(mask), bool)


def htc_scan(folder: Path) -> Scan:
    """All views: the side-car of every twelfth, without its choice of views."""
    text = (SIDECARS / "ct_fanbeam_htc2022_twelfth.toml").read_text()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "all.toml"
        path.write_text(text.replace("view_step = 12", "view_step = 1"))
        return load(folder / "ct_fanbeam_htc2022_ta.mat", sidecar=path)


def compare(scan: Scan, table: Table, budget: float, effort: dict[str, int]):  # noqa: ANN201
    """Print the rows of FBP, SIRT, TV and the default reconstruction."""
    model = build_model(scan, 0)
    y, physics = model.y, model.physics
    begin = time.perf_counter()
    image = filtered(model)
    table.add("filtered back-projection", image, time.perf_counter() - begin)
    table.best(
        "SIRT",
        lambda n: model.to_physical(sirt(y, physics, iterations=int(n), nonneg=True))[0],
        (50, 100, 200),
    )
    begin = time.perf_counter()
    result = reconstruct(scan, time_budget=budget, **effort)
    table.add("sciinv default, mean", result.mean[0], time.perf_counter() - begin)
    table.add("one sample of it", result.samples[0, 0])
    lam = tv_lambda(physics, 1.0, 1.0)
    table.best(
        "total variation",
        lambda w: model.to_physical(tv(y, physics, lam=lam * w, nonneg=True, max_iter=100))[0],
        (1.0, 2.0, 4.0),
    )
    print(f"\nchi-squared {result.chi_squared:.2f}, noise used "
          f"{result.provenance['noise_used']:.3g} against an estimate of {model.noise:.3g}, "
          f"{len(result.samples)} samples; {' '.join(result.warnings)}", flush=True)  # fmt: skip
    return result
