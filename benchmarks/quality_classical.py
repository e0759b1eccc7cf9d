"""Classical methods of the quality benchmark, each with the number that is tuned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_ct import cgls
from quality_search import Method
from torch import Tensor

from sciinv.baselines import (
    cg_sense,
    fbp,
    l1_wavelet,
    sirt,
    solve_tv,
    tv_lambda,
    wavelet_lambda,
    zero_filled,
)
from sciinv.channels import to_complex
from sciinv.operators import CartesianMRI, NonCartesianMRI
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.mri_model import evenness

Image = NDArray[Any]
# 4e-3 is 0.001 dB from 1e-3 on the brain at R = 4
_TV_TOLERANCE, _TV_ITERATIONS = 4e-3, 300
_SIGPY_ITERATIONS = 100


class TotalVariation:
    """Total variation from the image of the last weight, to the same tolerance as from any."""

    def __init__(self, model: Model) -> None:
        self.model, self.last = model, None
        sigma = 1.0 if model.nonneg else model.sigma
        self.start = tv_lambda(model.physics, sigma, 1.0)
        self.unfinished: list[float] = []

    def __call__(self, weight: float) -> Image:
        """Return the image of a weight in units of the default one."""
        model = self.model
        self.last, info = solve_tv(
            model.y, model.physics, lam=self.start * weight, nonneg=model.nonneg, init=self.last,
            tol=_TV_TOLERANCE, max_iter=_TV_ITERATIONS,
        )  # fmt: skip
        if not bool(info.converged.all()):
            self.unfinished.append(weight)
            print(f"  total variation, weight {weight:g}: residuals {float(info.primal):.1e}, "
                  f"{float(info.dual):.1e} after {info.iterations} iterations")  # fmt: skip
        return model.to_physical(self.last)[0]


def mri_methods(model: Model) -> dict[str, Method]:
    """Zero filling (off the grid: gridding), CG-SENSE, wavelets, total variation."""
    y, physics = model.y, model.physics
    radial = isinstance(physics, NonCartesianMRI)

    def image(x: Tensor) -> Image:
        return model.to_physical(x)[0]

    even = evenness(physics) if radial else 1.0
    lam = wavelet_lambda(physics, model.sigma, 1.0)
    simple = physics.A_dagger if radial else lambda v: zero_filled(v, physics)
    # SigPy's transform off the grid takes ten times as long; the problem that is solved is the same
    wavelet = (lambda w: image(l1_wavelet(y, physics, lam=w))) if radial else (
        lambda w: sigpy_wavelet(model, w)
    )  # fmt: skip
    return {
        "gridding" if radial else "zero-filled": Method(lambda _: image(simple(y)), choices=("",)),
        "CG-SENSE": Method(lambda w: image(cg_sense(y, physics, lam=even * w)), start=0.01),
        "L1-wavelet": Method(wavelet, start=lam),
        "TV": Method(TotalVariation(model), start=0.5),
    }


def sigpy_wavelet(model: Model, lam: float) -> Image:
    """SigPy's own L1-wavelet reconstruction with the model's coil maps and folded phase."""
    import sigpy.mri.app

    physics = model.physics
    assert isinstance(physics, CartesianMRI) and physics.coil_maps is not None
    maps = physics.coil_maps[0].numpy().astype(np.complex64)
    data = to_complex(model.y)[0].numpy().astype(np.complex64)
    weights = physics.measurement_mask.numpy().reshape(maps.shape[1:]).astype(np.float32)
    made = sigpy.mri.app.L1WaveletRecon(
        data, maps, lam, weights=weights, show_pbar=False, max_iter=_SIGPY_ITERATIONS
    ).run()
    image = made * model.scale
    return image if model.phase is None else image * model.phase[0].numpy()


def ct_methods(model: Model) -> dict[str, Method]:
    """Filtered back-projection, SIRT, CGLS, total variation."""
    y, physics = model.y, model.physics
    assert model.measured is not None and model.whole is not None

    def image(x: Tensor) -> Image:
        return model.to_physical(x)[0]

    def filtered(window: str) -> Image:
        # without the corners, which not all views see
        return fbp(model.measured, model.whole, filter=window)[0, 0].numpy() * model.visible

    def least_squares(n: int) -> Image:
        for x in cgls(model, n):
            last = x
        return image(last)

    def algebraic(n: int) -> Image:
        return image(sirt(y, physics, iterations=n, nonneg=True))

    windows = ("ramp", "shepp-logan", "cosine", "hann")
    return {
        "FBP": Method(filtered, choices=windows),
        "SIRT": Method(algebraic, start=50, whole=True),
        "CGLS": Method(least_squares, start=8, whole=True),
        "TV": Method(TotalVariation(model), start=2.0),
    }
