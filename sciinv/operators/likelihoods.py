"""Likelihoods of a measurement given the noise-free one; each is a deepinv noise model too.

``physics.noise_model = PoissonLikelihood()`` makes ``physics(x)`` draw counts and tells solvers
what they are. deepinv's ``GaussianNoise`` and ``PoissonNoise`` are understood as well
(:func:`likelihood_of`).
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from functools import cache
from typing import Self

import numpy as np
import torch
from deepinv.physics import GaussianNoise, Physics, PoissonNoise
from deepinv.physics.noise import NoiseModel
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.errors import DataError, IncompatibleError

# below this many expected counts log p is continued by its tangent, so that gradients are finite
_FEWEST = 1e-3
# exp(60) times any blank count is finite in float32; a line integral of -60 is no image
_LARGEST_EXPONENT = 60.0


class Likelihood(NoiseModel):
    """``log p(y | A x)`` as a function of ``ax = A x``, with what solvers need of it.

    All methods take measurements ``(B, ...)``; parameters broadcast to them.
    """

    capabilities: frozenset[Capability] = frozenset({Capability.LIKELIHOOD})

    def __init__(self, rng: torch.Generator | None = None) -> None:
        super().__init__(noise_model=self._draw, rng=rng)

    def _parameter(
        self, name: str, value: Tensor | float, *, zero: bool = False, expected: str = ""
    ) -> None:
        """Keep a parameter as a float64 buffer, or raise a ``DataError`` that names it."""
        tensor = torch.as_tensor(value, dtype=torch.float64)
        allowed = (tensor >= 0) if zero else (tensor > 0)
        if not bool(allowed.all()) or not bool(torch.isfinite(tensor).all()):
            bad = tensor[~(allowed & torch.isfinite(tensor))].flatten()
            raise DataError(
                type(self).__name__, name, found=float(bad[0]), expected=expected,
            )  # fmt: skip
        self.register_buffer(name, tensor)

    def rows(self, index: Tensor, batch: int, ndim: int) -> Self:
        """Return the likelihood of the scans ``index`` out of ``batch``.

        :param ndim: axes of the measurement with the batch; shorter parameters are shared.
        """
        new = copy.copy(self)
        new._buffers = {
            name: value.index_select(0, index.to(value.device))
            if value is not None and value.ndim == ndim and value.shape[0] == batch > 1
            else value
            for name, value in self._buffers.items()
        }
        new.noise_model = new._draw
        return new

    # -- what a likelihood supplies ------------------------------------------------------------
    @abstractmethod
    def _draw(self, ax: Tensor) -> Tensor:
        """Draw a measurement with ``self.rng``."""

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return the log density or probability of each row, ``(B,)`` in float64."""
        return self.log_prob_terms(y, ax).flatten(1).sum(1)

    @abstractmethod
    def log_prob_terms(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``log p`` of every component in float64."""

    @abstractmethod
    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return the derivative of :meth:`log_prob` with respect to ``ax``, finite everywhere."""

    @abstractmethod
    def information(self, ax: Tensor) -> Tensor:
        """Return the Fisher information of every component of ``ax``, not negative."""

    @abstractmethod
    def residual(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``y - A x`` in units of the noise, or its variance-stabilised equivalent."""

    def expected_square(self, ax: Tensor) -> Tensor:
        """Return the expectation of ``residual**2`` where ``ax`` is the truth."""
        return torch.ones_like(ax)

    def linearise(self, y: Tensor, ax: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Gaussian surrogate around ``ax`` (Fisher scoring) as data and their std.

        ``pseudo = ax + gradient / information`` with ``std = information^(-1/2)`` has the gradient
        of the likelihood at ``ax`` and its expected curvature. Where there is no information, std
        is infinite, which :func:`sciinv.operators.whiten` masks.
        """
        information = self.information(ax)
        seen = information > torch.finfo(information.dtype).tiny
        safe = torch.where(seen, information, 1.0)
        pseudo = torch.where(seen, ax + self.gradient(y, ax) / safe, ax)
        return pseudo, torch.where(seen, safe.rsqrt(), torch.inf)


class GaussianLikelihood(Likelihood):
    """``y = Ax + sigma n``, ``log p = -|y - Ax|^2 / (2 sigma^2) - (m/2) log(2 pi sigma^2)``.

    :param sigma: standard deviation per real component, a number or broadcastable to ``y``.
    :param rng: generator of the draws.
    :raises DataError: ``sigma`` is not positive and finite.
    """

    sigma: Tensor

    def __init__(self, sigma: Tensor | float, *, rng: torch.Generator | None = None) -> None:
        super().__init__(rng)
        self._parameter("sigma", sigma, expected="positive finite numbers")
        white = {Capability.WHITE} if self.sigma.numel() == 1 else set()
        self.capabilities = type(self).capabilities | {Capability.GAUSSIAN} | white

    def _draw(self, ax: Tensor) -> Tensor:
        return ax + self.sigma.to(ax) * self.randn_like(ax)

    def log_prob_terms(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return the log density of every component in float64."""
        sigma = self.sigma.to(y.device, torch.float64)
        terms = -0.5 * ((y.double() - ax.double()) / sigma).square()
        return terms - torch.log(sigma) - 0.5 * math.log(2 * math.pi)

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``(y - Ax) / sigma^2``."""
        return (y - ax) / self.sigma.to(y).square()

    def information(self, ax: Tensor) -> Tensor:
        """Return ``1 / sigma^2``."""
        return self.sigma.to(ax).square().reciprocal().expand_as(ax)

    def residual(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``(y - Ax) / sigma``."""
        return (y - ax) / self.sigma.to(y)


class _Counts(Likelihood):
    """Poisson counts ``y / gain`` of mean ``m(ax) / gain``, and the chain rule through ``m``."""

    gain: Tensor

    @abstractmethod
    def mean(self, ax: Tensor) -> Tensor:
        """Return the expected measurement."""

    @abstractmethod
    def _slope(self, ax: Tensor) -> Tensor:
        """Return the derivative of :meth:`mean`."""

    def _draw(self, ax: Tensor) -> Tensor:
        gain = self.gain.to(ax)
        return gain * torch.poisson((self.mean(ax) / gain).clamp_min(0), generator=self.rng)

    def log_prob_terms(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return the log probability of every component in float64."""
        gain = self.gain.to(y.device, torch.float64)
        counts, mean = y.double() / gain, self.mean(ax.double()) / gain
        safe = mean.clamp_min(_FEWEST)
        tangent = (mean - safe) * (counts / safe - 1)
        return counts * torch.log(safe) - safe - torch.lgamma(counts + 1) + tangent

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``m'(ax) (y / m - 1) / gain``."""
        gain, mean = self.gain.to(y), self.mean(ax)
        safe = torch.maximum(mean, _FEWEST * gain)
        return self._slope(ax) * (y / safe - 1) / gain

    def information(self, ax: Tensor) -> Tensor:
        """Return ``m'(ax)^2 / (gain m)``."""
        gain, mean = self.gain.to(ax), self.mean(ax)
        return self._slope(ax).square() / (gain * torch.maximum(mean, _FEWEST * gain))

    def residual(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``2 (sqrt(y) - sqrt(m)) / sqrt(gain)``, of variance about one."""
        gain = self.gain.to(y)
        return 2 * ((y / gain).clamp_min(0).sqrt() - (self.mean(ax) / gain).clamp_min(0).sqrt())

    def expected_square(self, ax: Tensor) -> Tensor:
        """Return the expectation of ``residual**2``: 8 m for few counts, 1 for many."""
        return _expected_square(self.mean(ax) / self.gain.to(ax))


class PoissonLikelihood(_Counts):
    """Counts, ``y = gain Poisson((scale Ax + background) / gain)``.

    ``log p`` is continued by its tangent where less than a thousandth of a count is expected (also
    below zero), so that it is finite, concave and differentiable for every ``Ax``. With
    ``scale = 1``, no background and a normalised gain this is deepinv's ``PoissonNoise``.

    :param gain: measured units per count.
    :param background: expected background in measured units (scatter, dark counts).
    :param scale: measured units per unit of ``Ax``.
    :param rng: generator of the draws.
    :raises DataError: a parameter is negative, not finite or, but for the background, zero.
    """

    background: Tensor
    scale: Tensor

    def __init__(
        self,
        gain: Tensor | float = 1.0,
        *,
        background: Tensor | float = 0.0,
        scale: Tensor | float = 1.0,
        rng: torch.Generator | None = None,
    ) -> None:
        super().__init__(rng)
        self._parameter("gain", gain, expected="positive finite numbers")
        self._parameter("background", background, zero=True, expected="finite, not negative")
        self._parameter("scale", scale, expected="positive finite numbers")

    def mean(self, ax: Tensor) -> Tensor:
        """Return ``scale Ax + background``."""
        return self.scale.to(ax) * ax + self.background.to(ax)

    def _slope(self, ax: Tensor) -> Tensor:
        return self.scale.to(ax).expand_as(ax)


class BeerLambertLikelihood(_Counts):
    """Transmission counts, ``y ~ Poisson(blank exp(-scale Ax) + background)``.

    ``Ax`` are line integrals (Lange and Carson, J. Comput. Assist. Tomogr. 8, 1984). Detectors
    with a blank count of zero are dead and do not contribute.

    :param blank: expected counts without an object, a number or broadcastable to ``y``.
    :param background: expected counts that did not cross the object (scatter, randoms).
    :param scale: attenuation that the image calls 1, for images that were rescaled.
    :param rng: generator of the draws.
    :raises DataError: ``blank`` or ``background`` is negative or not finite.
    """

    blank: Tensor
    background: Tensor
    scale: Tensor

    def __init__(
        self,
        blank: Tensor | float,
        *,
        background: Tensor | float = 0.0,
        scale: float = 1.0,
        rng: torch.Generator | None = None,
    ) -> None:
        super().__init__(rng)
        counts = "finite counts that are not negative"
        self._parameter("blank", blank, zero=True, expected=counts)
        self._parameter("background", background, zero=True, expected=counts)
        self._parameter("scale", scale, expected="a positive finite number")
        self._parameter("gain", 1.0)

    def _signal(self, ax: Tensor) -> Tensor:
        exponent = (-self.scale.to(ax) * ax).clamp_max(_LARGEST_EXPONENT)
        return self.blank.to(ax) * torch.exp(exponent)

    def mean(self, ax: Tensor) -> Tensor:
        """Return the expected counts ``blank exp(-scale Ax) + background``."""
        return self._signal(ax) + self.background.to(ax)

    def _slope(self, ax: Tensor) -> Tensor:
        return -self.scale.to(ax) * self._signal(ax)

    def _alive(self, like: Tensor) -> Tensor:
        return (self.blank.to(like.device) > 0).expand_as(like)

    def log_prob_terms(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return the log probability of every component in float64, 0 for dead detectors."""
        # by the logarithm of the mean where there is no background: exact for few counts too
        if bool((self.background == 0).all()):
            counts, line = y.double(), self.scale.to(y.device) * ax.double()
            blank = self.blank.to(y.device, torch.float64)
            log_blank = torch.log(torch.where(blank > 0, blank, 1.0))
            terms = counts * (log_blank - line) - self._signal(ax.double())
            terms = terms - torch.lgamma(counts + 1)
        else:
            terms = super().log_prob_terms(y, ax)
        return torch.where(self._alive(terms), terms, 0.0)

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return the derivative, ``scale (blank exp(-scale Ax) - y)`` without a background."""
        if bool((self.background == 0).all()):
            found = self.scale.to(y) * (self._signal(ax) - y)
        else:
            found = super().gradient(y, ax)
        return torch.where(self._alive(found), found, torch.zeros_like(found))

    def information(self, ax: Tensor) -> Tensor:
        """Return ``scale^2 s^2 / m``, signal ``s = blank exp(-scale Ax)``, mean ``m``."""
        signal, scale = self._signal(ax), self.scale.to(ax)
        mean = signal + self.background.to(ax)
        safe = torch.where(mean > 0, mean, 1.0)
        return scale.square() * signal * (signal / safe)

    def residual(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``2 (sqrt(y) - sqrt(m))``, 0 for dead detectors."""
        found = super().residual(y, ax)
        return torch.where(self._alive(found), found, torch.zeros_like(found))

    def log_transform(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return line integrals ``log(blank / y)``, their std ``y^(-1/2)`` and where they exist.

        The background is subtracted first and enters the std. Without counts there is no logarithm:
        the integral is 0, the std infinite, valid False.
        """
        blank, scale = self.blank.to(y), self.scale.to(y)
        signal = y - self.background.to(y)
        valid = (signal > 0) & (blank > 0)
        safe = torch.where(valid, signal, 1.0)
        integral = torch.where(valid, torch.log(torch.where(blank > 0, blank, 1.0) / safe), 0.0)
        std = torch.where(valid, y.clamp_min(0).sqrt() / (safe * scale), torch.inf)
        return integral / scale, std, valid


class AmplitudeLikelihood(Likelihood):
    """Gaussian in the amplitude of intensities, ``sqrt(y) = sqrt(scale Ax) + sigma n``.

    For operators that return intensities ``Ax``. With ``sigma = 1/2`` and counts in ``y`` this is
    the variance-stabilised Poisson likelihood, the usual metric of coherent diffraction imaging.
    Operators that return amplitudes take ``GaussianNoise(sigma)`` instead.

    :param sigma: standard deviation of the amplitude.
    :param scale: measured units per unit of ``Ax``.
    :param counts: ``y`` are photon counts: draws are Poisson, and so is the expectation of the
        squared residual, which is small where hardly a photon is expected. A ``sigma`` above 1/2
        then stands for errors of the model beside the photon noise.
    :param rng: generator of the draws.
    """

    sigma: Tensor
    scale: Tensor

    def __init__(
        self,
        sigma: Tensor | float = 0.5,
        *,
        scale: Tensor | float = 1.0,
        counts: bool = False,
        rng: torch.Generator | None = None,
    ) -> None:
        super().__init__(rng)
        self.counts = counts
        self._parameter("sigma", sigma, expected="positive finite numbers")
        self._parameter("scale", scale, expected="positive finite numbers")

    def _draw(self, ax: Tensor) -> Tensor:
        if self.counts:
            return torch.poisson(self._amplitude(ax).square(), generator=self.rng)
        amplitude = self._amplitude(ax) + self.sigma.to(ax) * self.randn_like(ax)
        return amplitude.clamp_min(0).square()

    def _amplitude(self, ax: Tensor) -> Tensor:
        return (self.scale.to(ax) * ax).clamp_min(0).sqrt()

    def log_prob_terms(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return the log density of every amplitude in float64."""
        sigma = self.sigma.to(y.device, torch.float64)
        terms = -0.5 * self.residual(y.double(), ax.double()).square()
        return terms - torch.log(sigma) - 0.5 * math.log(2 * math.pi)

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``scale (sqrt(y / (scale Ax)) - 1) / (2 sigma^2)``, 0 where ``Ax`` is 0.

        At zero intensity the phase is undetermined: every operator's Jacobian is zero there.
        """
        amplitude, scale = self._amplitude(ax), self.scale.to(y)
        seen = amplitude > torch.finfo(amplitude.dtype).tiny ** 0.5
        ratio = y.clamp_min(0).sqrt() / torch.where(seen, amplitude, 1.0)
        found = scale * (ratio - 1) / (2 * self.sigma.to(y).square())
        return torch.where(seen, found, torch.zeros_like(found))

    def information(self, ax: Tensor) -> Tensor:
        """Return ``scale / (4 sigma^2 Ax)``; 0 where ``Ax`` is 0."""
        amplitude, scale = self._amplitude(ax), self.scale.to(ax)
        seen = amplitude > torch.finfo(amplitude.dtype).tiny ** 0.5
        root = scale / (2 * self.sigma.to(ax) * torch.where(seen, amplitude, 1.0))
        return torch.where(seen, root.square(), torch.zeros_like(root))

    def residual(self, y: Tensor, ax: Tensor) -> Tensor:
        """Return ``(sqrt(y) - sqrt(scale Ax)) / sigma``."""
        return (y.clamp_min(0).sqrt() - self._amplitude(ax)) / self.sigma.to(y)

    def expected_square(self, ax: Tensor) -> Tensor:
        """Return 1, or for counts what Poisson statistics expect at ``sigma = 1/2``."""
        if not self.counts:
            return super().expected_square(ax)
        return _expected_square(self._amplitude(ax).square())


def likelihood_of(physics: Physics) -> Likelihood:
    """Return the likelihood that ``physics.noise_model`` stands for.

    Understood: the likelihoods of this module, deepinv's ``GaussianNoise`` (a number or one level
    for every scan) and ``PoissonNoise``.

    :raises IncompatibleError: for another noise model, or none.
    """
    noise = getattr(physics, "noise_model", None)
    if isinstance(noise, Likelihood):
        return noise
    if isinstance(noise, GaussianNoise):
        return GaussianLikelihood(_per_scan(noise.sigma, physics))
    if isinstance(noise, PoissonNoise):
        gain = _per_scan(noise.gain, physics)
        if bool(torch.as_tensor(noise.normalize)):
            return PoissonLikelihood(gain)
        return PoissonLikelihood(1.0, scale=1 / gain)
    raise IncompatibleError(
        f"{type(physics).__name__}: noise_model: found {type(noise).__name__}, expected "
        "GaussianNoise, PoissonNoise or a likelihood of sciinv.operators.likelihoods"
    )


def _per_scan(value: Tensor, physics: Physics) -> Tensor:
    """Give deepinv's one level for every scan the axes of a measurement."""
    value = torch.as_tensor(value)
    if value.ndim != 1 or value.numel() == 1:
        return value.reshape(()) if value.numel() == 1 else value
    shape = getattr(physics, "measurement_shape", None)
    if shape is None:
        raise IncompatibleError(
            f"{type(physics).__name__}: noise_model: found {value.numel()} levels, expected one "
            "number for an operator that does not say its measurement_shape"
        )
    return value.reshape(-1, *[1] * len(shape))


@cache
def _square_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``E[4 (sqrt(k) - sqrt(m))^2]`` for Poisson k of mean m, over log m."""
    mean = np.logspace(-4, 3, 281)
    counts = np.arange(0, 1400)[:, None]
    weight = np.exp(special.xlogy(counts, mean) - mean - special.gammaln(counts + 1))
    return np.log(mean), (4 * weight * (np.sqrt(counts) - np.sqrt(mean)) ** 2).sum(0)


def _expected_square(mean: Tensor) -> Tensor:
    grid, table = (torch.from_numpy(v).to(mean.device) for v in _square_table())
    m = mean.double().clamp_min(1e-300)
    position = (torch.log(m) - grid[0]) / (grid[1] - grid[0])
    low = position.floor().long().clamp(0, len(grid) - 2)
    share = (position - low).clamp(0, 1)
    inside = torch.lerp(table[low], table[low + 1], share)
    # few counts: no count gives m, the one count that comes with probability m (1 - sqrt(m))^2
    few = mean.double().clamp_min(0)
    few = 8 * few * (1 - few.clamp_max(1).sqrt())
    return torch.where(m < 1e-4, few, torch.where(m > 1e3, 1.0, inside)).to(mean.dtype)
