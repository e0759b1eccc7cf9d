"""Read the noise level of an operator, and refuse to guess it."""

from __future__ import annotations

import math

import torch
from deepinv.physics import GaussianNoise, Physics, ZeroNoise

from sciinv.errors import IncompatibleError
from sciinv.operators.likelihoods import GaussianLikelihood


def noise_sigma(physics: Physics, *, noiseless: bool = False) -> float:
    """Return the standard deviation of the noise per real measured component.

    It is read from ``physics.noise_model`` at every call, so changing the model takes effect.
    deepinv's default ``ZeroNoise`` means *unknown* here.

    :param physics: any deepinv physics.
    :param noiseless: say explicitly that the data are free of noise; returns 0.
    :raises IncompatibleError: for an unknown, non-Gaussian, unequal, zero or non-finite noise.
    """
    if noiseless:
        return 0.0
    name = type(physics).__name__
    noise = getattr(physics, "noise_model", None)
    if noise is None or isinstance(noise, ZeroNoise):
        raise IncompatibleError(
            f"{name}: unknown noise: set physics.noise_model = GaussianNoise(sigma) with the "
            "standard deviation per real component, or pass noiseless=True"
        )
    if not isinstance(noise, GaussianNoise | GaussianLikelihood):
        raise IncompatibleError(
            f"{name}: noise_model: found {type(noise).__name__}, expected GaussianNoise; for other "
            "noise use a solver that takes every likelihood, or whiten its linearisation"
        )
    sigma = torch.as_tensor(noise.sigma)
    if sigma.numel() != 1:
        raise IncompatibleError(
            f"{name}: noise_model: found a sigma of shape {tuple(sigma.shape)}, expected one "
            "number; use sciinv.operators.whiten(physics, std) for unequal noise"
        )
    value = float(sigma)
    if not math.isfinite(value) or value <= 0:
        raise IncompatibleError(
            f"{name}: noise_model: found sigma = {value}, expected a positive number; "
            "pass noiseless=True for data without noise"
        )
    return value
