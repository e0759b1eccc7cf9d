"""Bragg diffraction of a micro-crystal, judged on pixels that are hidden from every method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from quality_ct import SIDECARS
from quality_search import Method, Scores

from sciinv import Scan, load
from sciinv.baselines import hio
from sciinv.channels import to_channels
from sciinv.metrics import r_factor
from sciinv.operators import FourierPhaseRetrieval

FREE = 0.05
_FILES = {2: "phase_bcdi_crystal_central.toml", 3: "phase_bcdi_crystal.toml"}
_STARTS = {2: 4, 3: 2}
# threshold of shrink-wrap
_THRESHOLDS = {2: (0.05, 0.1, 0.15, 0.2, 0.3), 3: (0.1, 0.2)}


@dataclass(frozen=True)
class Crystal:
    """The scan without its hidden pixels, and how an image is judged."""

    scan: Scan
    measured: NDArray[Any]
    used: NDArray[np.bool_]
    free: NDArray[np.bool_]

    def score(self, image: NDArray[Any]) -> Scores:
        """R-factors of an image, and its chi-squared on the used pixels."""
        amplitude = np.sqrt(self.measured)
        x = to_channels(torch.from_numpy(np.asarray(image, np.complex64))[None])
        pattern = tuple(self.scan.geometry.pattern_shape)
        plain = FourierPhaseRetrieval(
            tuple(self.scan.image_shape), mode="amplitude", pattern_shape=pattern
        )
        model = plain.A(x)[0, 0].numpy()
        difference = (model - amplitude)[self.used]
        return {
            "r_free": r_factor(amplitude, model, self.free),
            "r_used": r_factor(amplitude, model, self.used),
            # the square root of a count has variance 1/4
            "chi_squared": float(np.mean(difference**2)) / 0.25,
        }

    def methods(self) -> dict[str, Method]:
        """Iterative phasing with shrink-wrap."""
        pattern = tuple(self.scan.geometry.pattern_shape)
        dim = len(pattern)
        counts = torch.from_numpy(self.scan.data[0].astype(np.float32))[None, None]
        physics = FourierPhaseRetrieval(
            tuple(self.scan.image_shape), mode="intensity", pattern_shape=pattern,
            mask=torch.from_numpy(self.used),
        )  # fmt: skip

        def run(method: str, threshold: float) -> NDArray[Any]:
            image = hio(
                counts, physics, method=method, starts=_STARTS[dim], threshold=threshold,
                generator=0,
            )  # fmt: skip
            return torch.complex(image[0, 0], image[0, 1]).numpy()

        return {
            name.upper(): Method(lambda t, m=name: run(m, t), choices=_THRESHOLDS[dim])
            for name in ("er", "hio", "raar")
        }


def crystal(folder: Path, dim: int) -> Crystal:
    """Return the central frame (2) or the whole pattern (3), a twentieth of its pixels hidden."""
    scan = load(folder / "phase_bcdi_crystal.tif", sidecar=SIDECARS / _FILES[dim])
    measured = scan.data[0]
    seen = np.ones(measured.shape, bool) if scan.valid is None else scan.valid[0]
    # pixels without photons cannot tell a good image from a bad one
    free = (np.random.default_rng(0).random(measured.shape) < FREE) & (measured >= 1) & seen
    used = seen & ~free
    hidden = scan.with_(data=np.where(free, 0, scan.data), valid=used[None])
    return Crystal(hidden, measured, used, free)
