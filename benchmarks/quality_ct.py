"""Fully sampled CT scans, what is made of them, and a reference by held-out views."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from sciinv import Scan, load
from sciinv.data.scale import object_mask
from sciinv.data.simulate import undersample
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.ct_model import tomograph
from sciinv.reconstruction.model import Model

SIDECARS = Path(__file__).resolve().parent.parent / "examples" / "sidecars"
Image = NDArray[Any]
# open-beam photons of a detector pixel and view at low dose
PHOTONS = 2000.0
# of the reference: every tenth view judges; up to so many views and iterations, and the fewest
# iterations whose error is as small as the least but for one percent
_JUDGE, _MOST_VIEWS, _ITERATIONS, _SLACK = 10, 400, 40, 1.01
# unused views that judge, evenly spread
_UNUSED = 120


@lru_cache(maxsize=2)
def full_scan(folder: Path, name: str) -> Scan:
    """Return all views: ``"tooth"`` or ``"disc"``."""
    if name == "tooth":
        scan = load(folder / "ct_parallel_tooth.h5")
        valid = None if scan.valid is None else scan.valid[:1]
        return scan.with_(data=scan.data[:1], valid=valid)
    # the side-car of every twelfth view, without its choice of views
    text = (SIDECARS / "ct_fanbeam_htc2022_twelfth.toml").read_text()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "all.toml"
        path.write_text(text.replace("view_step = 12", "view_step = 1"))
        scan = load(folder / "ct_fanbeam_htc2022_ta.mat", sidecar=path)
    # the last view is the first one again
    return chosen(scan, np.arange(len(scan.geometry.angles)) < 720)


def chosen(scan: Scan, keep: NDArray[np.bool_]) -> Scan:
    """Return some of the views of a scan."""
    geometry = replace(scan.geometry, angles=scan.geometry.angles[keep])
    valid = None if scan.valid is None else scan.valid[:, keep]
    return scan.with_(data=scan.data[:, keep], geometry=geometry, valid=valid)


def low_dose(full: Scan, step: int, seed: int) -> Scan:
    """Every ``step``-th view with the noise of ``PHOTONS`` photons on top of its own."""
    scan = undersample(full, step)
    rng = np.random.default_rng(seed)
    counts = rng.poisson(PHOTONS * np.exp(-scan.data.astype(np.float64))).astype(np.float32)
    data = -np.log(np.maximum(counts, 0.5) / PHOTONS).astype(np.float32)
    blank = np.full(counts.shape, PHOTONS, np.float32)
    return scan.with_(data=data, counts=counts, blank=blank)


class HeldOut:
    """Error of predicted projections on the views that a scan lacks, ``|A x - p| / |p|``."""

    def __init__(self, full: Scan, scan: Scan) -> None:
        g = full.geometry
        unused = np.flatnonzero(~np.isin(g.angles, scan.geometry.angles))
        # an odd stride, so that the distance to the used views varies
        stride = max(1, len(unused) // _UNUSED) | 1
        unused = unused[::stride]
        rest = replace(g, angles=g.angles[unused])
        # called some twenty times: its matrix would be larger than that is worth
        self.physics = tomograph(rest, g.image_shape, memory_budget=2**28)
        self.p = torch.from_numpy(np.ascontiguousarray(full.data[0][unused]))[None, None]

    def __call__(self, image: Image) -> float:
        """Return the error of an image of the whole grid."""
        x = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
        return float((self.physics.A(x) - self.p).norm() / self.p.norm())


def cgls(model: Model, iterations: int) -> Iterator[Tensor]:
    """Conjugate gradients on the least-squares problem from zero, every iterate of them."""
    physics = model.physics
    x = torch.zeros(1, *physics.img_size)
    r: Tensor = physics.A_adjoint(model.y)
    p, rho = r, r.square().sum()
    for _ in range(iterations):
        q = physics.A(p)
        alpha = rho / q.square().sum()
        x = x + alpha * p
        r = r - alpha * physics.A_adjoint(q)
        rho, before = r.square().sum(), rho
        p = r + (rho / before) * p
        yield x


def reference(full: Scan) -> dict[str, Image]:
    """CGLS of all views (the disc: every second), its iterations chosen on every tenth view.

    :returns: ``image`` in physical units, ``mask`` of the object, ``iterations`` and ``errors`` on
        the views that chose them.
    """
    full = undersample(full, -(-len(full.geometry.angles) // _MOST_VIEWS))
    judge = np.arange(len(full.geometry.angles)) % _JUDGE == _JUDGE // 2
    part = chosen(full, ~judge)
    held_out, model = HeldOut(full, part), build_model(part, 0)
    errors = []
    for x in cgls(model, _ITERATIONS):
        errors.append(held_out(model.to_physical(x)[0]))
        if len(errors) > 3 and errors[-1] > 1.02 * min(errors):
            break
    best = int(np.flatnonzero(np.array(errors) <= _SLACK * min(errors))[0])
    del model
    whole = build_model(full, 0)
    image = whole.to_physical(list(cgls(whole, best + 1))[-1])[0]
    smooth = ndimage.gaussian_filter(image, 1.0)
    mask = ndimage.binary_fill_holes(object_mask(smooth))
    return {
        "image": image, "mask": np.asarray(mask, bool), "iterations": np.array(best + 1),
        "errors": np.array(errors),
    }  # fmt: skip
