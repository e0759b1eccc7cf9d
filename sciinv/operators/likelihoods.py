"""Likelihoods of a measurement given the noise-free one, for noise that is not plain Gaussian."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from sciinv.errors import DataError


class Likelihood(Protocol):
    """``log p(y | Ax)`` and its gradient with respect to ``Ax``."""

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``(B,)`` in float64."""

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return the derivative of :meth:`log_prob` with respect to ``ax``."""


class GaussianLikelihood:
    """``y = Ax + sigma n``, ``log p = -|y - Ax|^2 / (2 sigma^2) - (m/2) log(2 pi sigma^2)``.

    :param sigma: standard deviation per real component, a number or broadcastable to ``y``.
    """

    def __init__(self, sigma: Tensor | float) -> None:
        self.sigma = torch.as_tensor(sigma, dtype=torch.float64)
        if not bool((self.sigma > 0).all()) or not bool(torch.isfinite(self.sigma).all()):
            raise DataError("GaussianLikelihood", "sigma", expected="positive finite numbers")

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return the log density of each row, ``(B,)`` in float64."""
        sigma = self.sigma.to(y.device)
        terms = -0.5 * ((y.double() - ax.double()) / sigma).square()
        return (terms - torch.log(sigma) - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``(y - Ax) / sigma^2``."""
        return (y - ax) / self.sigma.to(y).square()


class BeerLambertLikelihood:
    """Transmission counts, ``y ~ Poisson(blank exp(-Ax))`` with line integrals ``Ax``.

    ``log p = y (log blank - Ax) - blank exp(-Ax) - log y!`` (Lange and Carson, J. Comput. Assist.
    Tomogr. 8, 1984). Detectors with a blank count of zero are dead and do not contribute.

    :param blank: expected counts without an object, a number or broadcastable to ``y``.
    """

    def __init__(self, blank: Tensor | float) -> None:
        self.blank = torch.as_tensor(blank, dtype=torch.float64)
        if not bool((self.blank >= 0).all()) or not bool(torch.isfinite(self.blank).all()):
            raise DataError(
                "BeerLambertLikelihood", "blank", expected="finite counts that are not negative"
            )

    def mean(self, ax: Tensor) -> Tensor:
        """Return the expected counts ``blank exp(-Ax)``."""
        return self.blank.to(ax) * torch.exp(-ax)

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return the log probability of each row, ``(B,)`` in float64."""
        counts, line = y.double(), ax.double()
        blank = self.blank.to(y.device)
        alive = (blank > 0).expand_as(counts)
        log_blank = torch.log(torch.where(blank > 0, blank, 1.0))
        terms = counts * (log_blank - line) - blank * torch.exp(-line) - torch.lgamma(counts + 1)
        return torch.where(alive, terms, 0.0).flatten(1).sum(1)

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``blank exp(-Ax) - y``; zero for dead detectors."""
        return torch.where(self.blank.to(y) > 0, self.mean(ax) - y, torch.zeros_like(y))

    def linearise(self, y: Tensor, ax: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gaussian surrogate around ``Ax`` (Fisher scoring) as data and their std.

        The Fisher information of a line integral is the expected count ``m``; the surrogate
        ``pseudo = Ax - (y - m) / m`` with ``std = m^(-1/2)`` has the gradient of the likelihood at
        ``Ax`` and its expected curvature. Where no photon is expected, std is infinite, which
        :func:`sciinv.operators.whiten` masks.

        :param y: counts.
        :param ax: line integrals to linearise at.
        """
        mean = self.mean(ax)
        seen = mean > torch.finfo(mean.dtype).tiny
        safe = torch.where(seen, mean, 1.0)
        pseudo = torch.where(seen, ax - (y - mean) / safe, ax)
        return pseudo, torch.where(seen, safe.rsqrt(), torch.inf)

    def log_transform(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return line integrals ``log(blank / y)``, their std ``y^(-1/2)`` and where they exist.

        Without counts there is no logarithm: the integral is 0, the std infinite, valid False.
        """
        blank = self.blank.to(y)
        valid = (y > 0) & (blank > 0)
        safe = torch.where(valid, y, 1.0)
        integral = torch.where(valid, torch.log(torch.where(blank > 0, blank, 1.0) / safe), 0.0)
        return integral, torch.where(valid, safe.rsqrt(), torch.inf), valid
