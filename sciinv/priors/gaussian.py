"""Gaussian random fields: a prior whose denoiser, samples and posteriors are exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from sciinv.errors import GeometryError
from sciinv.priors._linear import Update, check_size, condition
from sciinv.priors.base import AnalyticPrior, sigma_rows
from sciinv.random import as_generator

if TYPE_CHECKING:
    from deepinv.physics import Physics

# eigenvalues below this fraction of the largest are rounding of a singular covariance
_RANK_TOL = 1e-13


class GaussianField(AnalyticPrior):
    """The prior N(mu, C), with the exact denoiser D(x, s) = mu + C (C + s^2 I)^-1 (x - mu).

    C is either dense or, for a stationary periodic field, given by its power spectrum and applied
    by FFT. Noise levels default to ``sigma_max`` = 10 times the square root of the largest
    eigenvalue of C (the sampler's start N(0, sigma_max^2) is then right to 1 % in variance) and
    ``sigma_min`` = 0.002 times the root mean variance of a pixel.

    :param mean: scalar, or tensor ``(C, *spatial)``.
    :param covariance: dense ``(n, n)`` with n = C * prod(spatial), for flattened
        ``(C, *spatial)``.
    :param power_spectrum: eigenvalues of C ``(*spatial)``: the variance of each orthonormal
        Fourier coefficient, zero frequency at index ``n // 2``, S(k) = S(-k); the pixel variance
        is its mean. The channels are independent.
    :param image_shape: spatial shape, where neither mean nor spectrum tells it.
    :param channels: 1 or 2, where the mean does not tell it.
    :param sigma_min: lowest noise level for solvers.
    :param sigma_max: highest noise level for solvers.
    :raises GeometryError: if the shapes contradict each other.
    :raises ValueError: if C is not symmetric positive semi-definite, or both or none is given.
    """

    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor | None

    def __init__(
        self,
        mean: Tensor | float | None = None,
        covariance: Tensor | None = None,
        power_spectrum: Tensor | None = None,
        *,
        image_shape: Sequence[int] | None = None,
        channels: int | None = None,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
    ) -> None:
        if (covariance is None) == (power_spectrum is None):
            raise ValueError("pass either covariance or power_spectrum")
        mean_tensor = torch.as_tensor(0.0 if mean is None else mean, dtype=torch.float64)
        shape, channels = _shape(mean_tensor, power_spectrum, image_shape, channels)
        if power_spectrum is not None:
            values, vectors = _check_spectrum(power_spectrum), None
        else:
            assert covariance is not None  # noqa: S101 - for the type checker, see above
            values, vectors = _check_covariance(covariance, channels * math.prod(shape))
        largest, average = float(values.max()), float(values.mean())
        super().__init__(
            shape,
            channels=channels,
            sigma_min=0.002 * math.sqrt(average) if sigma_min is None else sigma_min,
            sigma_max=10.0 * math.sqrt(largest) if sigma_max is None else sigma_max,
        )
        self.register_buffer("mean", mean_tensor.expand(self.img_size).clone())
        self.register_buffer("eigenvalues", values)
        self.register_buffer("eigenvectors", vectors)

    @classmethod
    def power_law(
        cls,
        image_shape: Sequence[int],
        *,
        exponent: float = 1.5,
        scale: float = 2.0,
        std: float = 1.0,
        channels: int = 1,
        mean: Tensor | float | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """Make a field with spectrum (1 + |k|^2 / scale^2)^-exponent.

        :param image_shape: spatial shape.
        :param exponent: 1.5 is smooth on the scale of the whole image and rough below.
        :param scale: corner frequency in cycles per image (k counts cycles along each axis).
        :param std: standard deviation of a pixel, per channel; the spectrum is normalised to it.
        :param channels: 1 or 2.
        """
        k2 = torch.zeros(tuple(image_shape), dtype=torch.float64)
        for axis, n in enumerate(image_shape):
            k = torch.arange(n, dtype=torch.float64) - n // 2
            k2 = k2 + (k**2).reshape([-1 if a == axis else 1 for a in range(k2.ndim)])
        spectrum = (1 + k2 / scale**2) ** -exponent
        spectrum = spectrum * (std**2 / spectrum.mean())
        return cls(mean, power_spectrum=spectrum, channels=channels, **kwargs)

    # -- the covariance as a map -----------------------------------------------------------------
    def _filter(self, x: Tensor, gain: Tensor) -> Tensor:
        """Apply f(C): ``gain`` is f of the eigenvalues, with the rows first (or 1)."""
        if self.eigenvectors is not None:
            q = self.eigenvectors.to(x.dtype)
            return ((x.flatten(1) @ q) * gain.to(x.dtype) @ q.T).reshape(x.shape)
        axes = tuple(range(-len(self.image_shape), 0))
        half = gain[..., : self.image_shape[-1] // 2 + 1].unsqueeze(1).to(x.dtype)
        return torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * half, s=self.image_shape, dim=axes)

    def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Return E[x0 | x0 + sigma n = x] exactly.

        :param x: ``(B, C, *spatial)``.
        :param sigma: float or ``(B,)``; 0 is allowed.
        """
        self.check_image(x)
        s2 = sigma_rows(sigma, self.eigenvalues.expand(x.shape[0], *self.eigenvalues.shape)) ** 2
        tiny = torch.finfo(torch.float64).tiny
        gain = self.eigenvalues / (self.eigenvalues + s2).clamp_min(tiny)
        mean = self.mean.to(x.dtype)
        return mean + self._filter(x - mean, gain)

    def log_prob(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Return the log density of ``x0 + sigma n`` at ``x``, ``(B,)`` float64.

        It is infinite or NaN at sigma = 0 where C is singular.
        """
        self.check_image(x)
        d = x.double() - self.mean
        repeats = 1 if self.eigenvectors is not None else self.channels
        rows = self.eigenvalues.expand(x.shape[0], *self.eigenvalues.shape)
        total = rows + sigma_rows(sigma, rows) ** 2
        quadratic = (d * self._filter(d, 1.0 / total)).flatten(1).sum(1)
        n = math.prod(self.img_size)
        return -0.5 * (
            quadratic + (repeats or 1) * total.flatten(1).log().sum(1) + n * math.log(2 * math.pi)
        )

    def sample(
        self,
        n: int,
        generator: torch.Generator | int | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Draw ``(n, C, *spatial)`` exact samples.

        :param dtype: of the result; torch's default dtype if not given.
        """
        z = torch.randn(
            (n, *self.img_size), generator=as_generator(generator), dtype=torch.float64
        ).to(self.mean.device)
        x = self.mean + self._filter(z, self.eigenvalues.sqrt()[None])
        return x.to(dtype or torch.get_default_dtype())

    def factor(self) -> Tensor:
        """Return a square root L of C = L L^T, dense ``(n, n)`` or thinner, float64."""
        n = math.prod(self.img_size)
        check_size(n, "GaussianField")
        root = self.eigenvalues.sqrt()
        if self.eigenvectors is not None:
            keep = self.eigenvalues > 0
            return self.eigenvectors[:, keep] * root[keep]
        eye = torch.eye(n, dtype=torch.float64, device=root.device).reshape(n, *self.img_size)
        return self._filter(eye, root[None]).flatten(1)

    def dense_covariance(self) -> Tensor:
        """Return C as a matrix ``(n, n)`` on flattened ``(C, *spatial)``, float64."""
        factor = self.factor()
        return factor @ factor.T

    # -- posteriors ------------------------------------------------------------------------------
    def posterior(
        self, y: Tensor, physics: Physics, sigma: Tensor | float | None = None
    ) -> GaussianPosterior:
        """Return p(x0 | y) for y = A x0 + sigma n, exactly.

        The operator is applied to a dense square root of the prior covariance, so any
        ``LinearPhysics`` goes, for images of up to 5,000 real components. Components that the
        operator's ``measurement_mask`` excludes count neither for the posterior nor for the
        evidence.

        :param y: measurement ``(B, *measurement_shape)``.
        :param sigma: noise standard deviation per real component, scalar or ``(B,)``; read from
            ``physics.noise_model`` if not given.
        :raises IncompatibleError: nonlinear operator, unknown noise level or too large an image.
        :raises GeometryError: shapes that do not fit.
        """
        check_size(math.prod(self.img_size), "GaussianField.posterior")
        updates = condition(
            y, physics, sigma, self.mean.reshape(1, -1), [self.factor()], self.img_size
        )
        return GaussianPosterior._stack([row[0] for row in updates], self.img_size)

    def noised_posterior(
        self,
        y: Tensor,
        physics: Physics,
        level: float,
        sigma: Tensor | float | None = None,
    ) -> GaussianPosterior:
        """Return p(x_s | y) = N(mean, covariance + level^2 I), x_s = x0 + level n."""
        return self.posterior(y, physics, sigma).noised(level)


class GaussianPosterior:
    """The Gaussian p(x0 | y) of each scan; float64.

    ``mean`` and ``std`` are ``(B, C, *spatial)``, ``log_evidence`` is log p(y), ``(B,)``.
    """

    def __init__(
        self, mean: Tensor, factor: Tensor, log_evidence: Tensor, *, level: float = 0.0
    ) -> None:
        """Hold N(mean, F F^T + level^2 I).

        :param mean: ``(B, C, *spatial)``.
        :param factor: F, ``(B, n, r)``, or ``(1, n, r)`` if all scans share it.
        """
        self.mean = mean
        self.factor = factor
        self.log_evidence = log_evidence
        self.level = level

    @classmethod
    def _stack(cls, updates: list[Update], image_size: Sequence[int]) -> Self:
        shared = all(u.factor is updates[0].factor for u in updates)
        factors = [updates[0].factor] if shared else [u.factor for u in updates]
        return cls(
            torch.stack([u.mean for u in updates]).reshape(-1, *image_size),
            torch.stack(factors),
            torch.stack([u.log_evidence for u in updates]),
        )

    @property
    def std(self) -> Tensor:
        """Standard deviation of every component, ``(B, C, *spatial)``."""
        variance = self.factor.square().sum(-1) + self.level**2
        return variance.sqrt().expand(self.mean.shape[0], -1).reshape(self.mean.shape)

    def covariance(self) -> Tensor:
        """Return the covariance ``(n, n)``, or ``(B, n, n)`` if it differs between scans."""
        cov = self.factor @ self.factor.mT
        cov.diagonal(dim1=-2, dim2=-1).add_(self.level**2)
        return cov[0] if len(cov) == 1 else cov

    def noised(self, level: float) -> GaussianPosterior:
        """Return the law of x0 + level n."""
        return GaussianPosterior(
            self.mean, self.factor, self.log_evidence, level=math.hypot(self.level, level)
        )

    def sample(
        self,
        n: int,
        generator: torch.Generator | int | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Draw ``(n, B, C, *spatial)`` independent samples.

        :param dtype: of the result; torch's default dtype if not given.
        """
        g = as_generator(generator)
        batch, device = self.mean.shape[0], self.mean.device
        z = torch.randn((n, batch, self.factor.shape[-1]), generator=g, dtype=torch.float64)
        x = (self.factor @ z.to(device).unsqueeze(-1)).reshape(n, *self.mean.shape) + self.mean
        if self.level > 0:
            noise = torch.randn(x.shape, generator=g, dtype=torch.float64)
            x = x + self.level * noise.to(device)
        return x.to(dtype or torch.get_default_dtype())

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the exact conditional denoiser E[x0 | x0 + sigma n = x, y].

        A sampler that uses it in the place of D has no error but its own discretisation.

        :param x: ``(R, C, *spatial)``; row i belongs to scan ``i % B``.
        :param sigma: float or ``(R,)``.
        """
        batch = self.mean.shape[0]
        if x.shape[0] % batch:
            raise GeometryError(f"denoise: found {x.shape[0]} rows for {batch} scans")
        copies = x.shape[0] // batch
        mean = self.mean.repeat(copies, *([1] * (x.ndim - 1)))
        u, s, _ = torch.linalg.svd(self.factor, full_matrices=False)
        variance = s**2 + self.level**2
        if len(u) > 1:
            u, variance = u.repeat(copies, 1, 1), variance.repeat(copies, 1)
        d = (x.double() - mean).flatten(1).unsqueeze(-1)
        s2 = sigma_rows(sigma, d[..., 0], dtype=torch.float64) ** 2
        tiny = torch.finfo(torch.float64).tiny
        gain = variance / (variance + s2).clamp_min(tiny)
        # outside the range of F only the added level varies
        rest = self.level**2 / (self.level**2 + s2).clamp_min(tiny)
        coefficients = u.mT @ d
        inside = u @ ((gain - rest).unsqueeze(-1) * coefficients)
        out = mean + (inside + rest.unsqueeze(-1) * d).reshape(x.shape)
        return out.to(x.dtype)


def _shape(
    mean: Tensor,
    spectrum: Tensor | None,
    image_shape: Sequence[int] | None,
    channels: int | None,
) -> tuple[tuple[int, ...], int]:
    """Return the spatial shape and the channels that all arguments agree on."""
    shapes = []
    counts = [] if channels is None else [channels]
    if mean.ndim:
        shapes.append(tuple(mean.shape[1:]))
        counts.append(mean.shape[0])
    if spectrum is not None:
        shapes.append(tuple(spectrum.shape))
    if image_shape is not None:
        shapes.append(tuple(int(n) for n in image_shape))
    if not shapes:
        raise GeometryError("pass image_shape= or a mean of shape (C, *spatial)")
    if len(set(shapes)) > 1 or len(set(counts)) > 1:
        raise GeometryError(
            f"mean, power_spectrum, image_shape and channels disagree: found spatial shapes "
            f"{shapes} and channels {counts}"
        )
    count = counts[0] if counts else 1
    if count not in (1, 2):
        raise GeometryError(f"channels: found {count}, expected 1 or 2; a mean is (C, *spatial)")
    return shapes[0], count


def _check_spectrum(spectrum: Tensor) -> Tensor:
    """Return the spectrum with zero frequency first, float64."""
    values = torch.as_tensor(spectrum, dtype=torch.float64).detach()
    axes = tuple(range(values.ndim))
    values = torch.fft.ifftshift(values, dim=axes)
    if not bool(values.isfinite().all()) or float(values.min()) < 0 or float(values.max()) <= 0:
        raise ValueError("power_spectrum: expected finite values >= 0 that are not all zero")
    mirrored = torch.roll(values.flip(axes), [1] * len(axes), dims=axes)
    if float((values - mirrored).abs().max()) > 1e-9 * float(values.max()):
        raise ValueError(
            "power_spectrum: S(k) differs from S(-k), so the field would not be real; is the zero "
            "frequency at index n // 2?"
        )
    return 0.5 * (values + mirrored)


def _check_covariance(covariance: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of a covariance matrix, float64."""
    c = torch.as_tensor(covariance, dtype=torch.float64).detach()
    if tuple(c.shape) != (n, n):
        raise GeometryError(f"covariance: found shape {tuple(c.shape)}, expected ({n}, {n})")
    check_size(n, "covariance")
    scale = float(c.abs().max())
    if not bool(c.isfinite().all()) or float((c - c.T).abs().max()) > 1e-6 * scale:
        raise ValueError("covariance: expected a finite symmetric matrix")
    values, vectors = torch.linalg.eigh(0.5 * (c + c.T))
    # float32 input carries rounding of 1e-7 of the largest eigenvalue
    if float(values.min()) < -1e-6 * float(values.max()) or float(values.max()) <= 0:
        raise ValueError(
            f"covariance: found the eigenvalue {float(values.min()):.3g} beside "
            f"{float(values.max()):.3g}, expected a positive semi-definite matrix"
        )
    return torch.where(values > _RANK_TOL * values.max(), values, 0.0), vectors
