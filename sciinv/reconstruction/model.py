"""The measurement model that solvers see: measurement, operator and noise in the prior's units.

How it is made of a scan: :mod:`sciinv.reconstruction.build`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from deepinv.physics import GaussianNoise
from deepinv.physics.noise import NoiseModel
from numpy.typing import NDArray
from torch import Tensor

from sciinv.channels import to_complex
from sciinv.operators.base import Operator
from sciinv.operators.likelihoods import likelihood_of


@dataclass(frozen=True)
class Model:
    """Measurement, operator and noise of one slice (or volume), scaled for the prior.

    :param y: ``(1, ...)`` float32.
    :param physics: operator with its ``noise_model``, of level ``sigma``.
    :param scale: intensity of the physical image that the prior sees as 1.
    :param sigma: noise level of ``y`` per real component (1 where it is whitened or counts).
    :param noise: the same in the measurement's own units, as told to the user.
    :param floor: noise level below which a point estimate gains nothing.
    :param figure_shape: shape of a picture of the data: k-space, shots and samples, sinogram ...
    :param visible: bool, pixels of the user's image that the data can see.
    :param nonneg: the image cannot be negative (attenuation).
    :param phase: unit complex numbers ``(1, *image_shape)`` that were folded into the coil maps,
        so that the prior sees nearly real images; given back by ``to_physical``.
    :param centre: MRI with coil maps of its own: Cartesian k-space ``(1, coils, *image_shape)`` in
        the measurement's units and its mask, from which maps and phase were estimated.
    :param measured: CT: line integrals before whitening and scaling.
    :param whole: CT: the operator on the whole grid, before whitening; ``physics`` may be on its
        middle part only, where the object is.
    :param preview: classical reconstruction that was made on the way, ``(1, C, *image_shape)``.
    :param start: diffraction: the image that iterative phasing found, ``(1, C, *image_shape)``.
    :param start_level: share of the intensity scale from which sampling around ``start`` begins.
    :param residuals: diffraction: R-factor of every random start of phasing, ``(1, starts)``.
    :param excess: largest factor by which the noise of some samples was raised because a first
        image misses them.
    :param warnings: what the user should look at.
    :param noise_model: makes the noise model of a level.
    """

    y: Tensor
    physics: Operator
    scale: float
    sigma: float
    noise: float
    floor: float
    figure_shape: tuple[int, ...]
    visible: NDArray[np.bool_]
    nonneg: bool = False
    phase: Tensor | None = None
    centre: tuple[Tensor, Tensor] | None = None
    measured: Tensor | None = None
    whole: Operator | None = None
    preview: Tensor | None = None
    start: Tensor | None = None
    start_level: float = 0.25
    residuals: NDArray[np.float64] | None = None
    excess: float = 1.0
    warnings: tuple[str, ...] = ()
    noise_model: Callable[[float], NoiseModel] = GaussianNoise

    @property
    def full_shape(self) -> tuple[int, ...]:
        """Shape of the images that the user gets."""
        return tuple(self.visible.shape)

    def to_physical(self, x: Tensor) -> NDArray[np.complex64] | NDArray[np.float32]:
        """Images ``(N, C, *image_shape)`` of the prior's scale, as NumPy in physical units."""
        x = _pad(x.detach(), self.full_shape)
        if x.shape[1] == 1:
            return (self.scale * x[:, 0]).to(torch.float32).cpu().numpy()
        z = self.scale * to_complex(x)
        if self.phase is not None:
            z = z * self.phase.to(z)
        return z.to(torch.complex64).cpu().numpy()

    def with_noise(self, sigma: float) -> Model:
        """Return the model with another noise level of ``y``."""
        physics = self.physics.rows(torch.zeros(1, dtype=torch.long))  # a shallow copy
        physics.noise_model = self.noise_model(sigma)
        return replace(self, physics=physics, sigma=sigma, noise=self.noise * sigma / self.sigma)

    def misfit(self, x: Tensor) -> float:
        """Root mean square residual of an image ``(1, C, ...)`` over its expectation."""
        residual, expected = self._residual(x)
        seen = torch.isfinite(residual)
        square = torch.where(seen, residual, 0.0).double().square().sum()
        expectation = torch.where(seen, expected, 0.0).double().sum()
        return float((square / expectation.clamp_min(1e-300)).sqrt())

    def residual_map(self, x: Tensor) -> NDArray[np.float32]:
        """Residual over the noise level for a figure, root mean square over coils and parts."""
        r = self._residual(x)[0][0].detach().cpu().numpy().reshape(-1, *self.figure_shape)
        return np.asarray(np.sqrt((r**2).mean(axis=0)), dtype=np.float32)

    def _residual(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Residual in units of the noise, NaN where nothing was measured, and E[residual^2]."""
        ax = self.physics.A(x)
        likelihood = likelihood_of(self.physics)
        residual = likelihood.residual(self.y, ax)
        mask = self.physics.measurement_mask
        if mask is not None:
            residual = torch.where(mask != 0, residual, torch.full_like(residual, torch.nan))
        return residual, likelihood.expected_square(ax)


def middle(full: tuple[int, ...], part: tuple[int, ...]) -> tuple[slice, ...]:
    """Slices of the middle ``part`` of an array of shape ``full``, of equal parity."""
    return tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(full, part, strict=True))


def _pad(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Put images of the middle part into zeros of the whole grid."""
    if tuple(x.shape[2:]) == shape:
        return x
    out = x.new_zeros((*x.shape[:2], *shape))
    out[(slice(None), slice(None), *middle(shape, tuple(x.shape[2:])))] = x
    return out
