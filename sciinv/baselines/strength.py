"""Default regularisation weights from the noise level."""

from __future__ import annotations

import math

from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.baselines.common import mean_diagonal, positive


def tv_lambda(physics: LinearPhysics, sigma: float, scale: float, *, like: Tensor) -> float:
    """placeholder"""
    positive("tv_lambda", sigma=sigma, scale=scale)
    return math.sqrt(float(mean_diagonal(physics, like).mean())) * sigma


wavelet_lambda = tv_lambda
