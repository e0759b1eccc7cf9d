"""A tiny instance of every operator with its noise: what tests and tables of all operators run on.

Images have 8 x 8 pixels or fewer, of order one; the noise is a few per cent of the measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import deepinv
import torch
from deepinv.physics import GaussianNoise, Physics, PoissonNoise
from torch import Tensor

from sciinv.operators.ct import ParallelBeamCT
from sciinv.operators.fan import FanBeamCT
from sciinv.operators.likelihoods import (
    AmplitudeLikelihood,
    BeerLambertLikelihood,
    GaussianLikelihood,
)
from sciinv.operators.mri import CartesianMRI
from sciinv.operators.noncartesian import NonCartesianMRI
from sciinv.operators.phase import CodedDiffraction, FourierPhaseRetrieval
from sciinv.operators.trajectories import radial_trajectory
from sciinv.operators.whitening import whiten

SHAPE = (8, 8)
_DETECTOR: dict[str, Any] = {"num_detectors": 12, "detector_spacing": 1.0, "pixel_size": 1.0}
_DISTANCES: dict[str, Any] = {"source_distance": 20.0, "detector_distance": 10.0}
_ANGLES = [math.pi * i / 6 for i in range(6)]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _columns(*kept: int) -> Tensor:
    mask = torch.zeros(SHAPE)
    mask[:, list(kept)] = 1.0
    return mask


def _coil_maps() -> Tensor:
    """Two smooth coils whose squared magnitudes add up to one."""
    angle = torch.linspace(0.2, 1.3, SHAPE[1]).expand(SHAPE)
    phase = torch.exp(0.8j * angle.T)
    return torch.stack([torch.cos(angle) + 0j, torch.sin(angle) * phase])


def _with(physics: Physics, noise_model: object) -> Physics:
    physics.noise_model = noise_model
    return physics


def _several_masks() -> Physics:
    masks = torch.stack([_columns(1, 3, 4, 5, 7), _columns(0, 2, 3, 4, 6)])
    return CartesianMRI(SHAPE, mask=masks[:, None])


def _whitened() -> Physics:
    std = torch.linspace(0.05, 0.4, 12).expand(6, 12).clone()
    std[2, 3:6] = torch.inf  # dead detector elements
    return _with(whiten(ParallelBeamCT(SHAPE, _ANGLES, **_DETECTOR), std), GaussianNoise(1.0))


def _signs() -> Tensor:
    return 2.0 * (torch.rand(3, *SHAPE, generator=_generator()) < 0.5) - 1


def _levels() -> Tensor:
    return torch.linspace(0.05, 0.4, 12).expand(1, 6, 12)


def _blur() -> Tensor:
    return torch.tensor([[[[0.0, 0.1, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.0]]]])


def _foreign_masks() -> Tensor:
    return (torch.rand(2, 1, *SHAPE, generator=_generator()) < 0.5).float()


# what it is -> makes it; the noise is GaussianNoise(0.05) where the maker sets none
EXAMPLES: dict[str, Callable[[], Physics]] = {
    "CartesianMRI, one coil": lambda: CartesianMRI(SHAPE, mask=_columns(1, 3, 4, 5, 7)),
    "CartesianMRI, several coils": lambda: CartesianMRI(
        SHAPE, mask=_columns(1, 3, 4, 6), coil_maps=_coil_maps()
    ),
    "CartesianMRI, a mask for every scan": _several_masks,
    "NonCartesianMRI": lambda: NonCartesianMRI(SHAPE, radial_trajectory(SHAPE, 5), _coil_maps()),
    "ParallelBeamCT": lambda: ParallelBeamCT(SHAPE, _ANGLES, **_DETECTOR),
    "FanBeamCT": lambda: FanBeamCT(
        SHAPE, [2 * angle for angle in _ANGLES], **_DETECTOR, **_DISTANCES
    ),
    "whiten(ParallelBeamCT)": _whitened,
    "ParallelBeamCT, unequal noise": lambda: _with(
        ParallelBeamCT(SHAPE, _ANGLES, **_DETECTOR), GaussianLikelihood(_levels())
    ),
    "ParallelBeamCT, photon counts": lambda: _with(
        ParallelBeamCT(SHAPE, _ANGLES, **_DETECTOR), BeerLambertLikelihood(1000.0, scale=0.2)
    ),
    "FourierPhaseRetrieval": lambda: FourierPhaseRetrieval(SHAPE),
    "FourierPhaseRetrieval, photon counts": lambda: _with(
        FourierPhaseRetrieval(SHAPE, mode="intensity"),
        AmplitudeLikelihood(scale=100.0, counts=True),
    ),
    "CodedDiffraction": lambda: CodedDiffraction(SHAPE, _signs(), oversampling=1.0),
    "deepinv Inpainting": lambda: deepinv.physics.Inpainting((1, *SHAPE), mask=_foreign_masks()),
    "deepinv BlurFFT": lambda: deepinv.physics.BlurFFT((1, *SHAPE), filter=_blur()),
    "deepinv Blur": lambda: deepinv.physics.Blur(filter=_blur(), padding="circular"),
    "deepinv Downsampling": lambda: deepinv.physics.Downsampling(
        (1, *SHAPE), factor=2, filter="bilinear", padding="circular"
    ),
    "deepinv Decolorize": lambda: deepinv.physics.Decolorize(),
    "deepinv MRI": lambda: deepinv.physics.MRI(
        mask=_columns(1, 3, 4, 5, 7)[None, None], img_size=SHAPE
    ),
    "deepinv Tomography": lambda: deepinv.physics.Tomography(
        angles=6, img_width=SHAPE[1], normalize=False
    ),
    "deepinv CompressedSensing": lambda: deepinv.physics.CompressedSensing(
        m=24, img_size=(1, *SHAPE), rng=_generator()
    ),
    "deepinv Inpainting, photon counts": lambda: _with(
        deepinv.physics.Inpainting((1, *SHAPE), mask=_foreign_masks()[:1]), PoissonNoise(0.02)
    ),
}


def example(name: str) -> Physics:
    """Return a new instance of an entry of ``EXAMPLES``, float32, with its noise model."""
    physics = EXAMPLES[name]()
    noise = getattr(physics, "noise_model", None)
    if noise is None or isinstance(noise, deepinv.physics.ZeroNoise):
        physics.noise_model = GaussianNoise(0.05)
    return physics


def image_size(name: str) -> tuple[int, ...]:
    """Image shape ``(C, H, W)`` of an example; not all of deepinv's operators say it."""
    if name == "deepinv Decolorize":
        return (3, *SHAPE)
    return tuple(getattr(EXAMPLES[name](), "img_size", None) or (1, *SHAPE))
