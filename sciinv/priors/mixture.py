"""Gaussian mixtures: a multimodal prior whose denoiser, samples and posteriors are exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from sciinv.errors import GeometryError
from sciinv.priors._linear import MAX_DENSE, check_size, condition
from sciinv.priors.base import AnalyticPrior, sigma_rows
from sciinv.random import as_generator

if TYPE_CHECKING:
    from deepinv.physics import Physics

_RANK_TOL = 1e-13


class GaussianMixture(AnalyticPrior):
    """The prior sum_k w_k N(m_k, C_k) on flattened ``(C, *spatial)``.

    D(x, s) = sum_k r_k(x, s) (m_k + C_k (C_k + s^2 I)^-1 (x - m_k)), with the responsibilities
    r_k proportional to w_k N(x; m_k, C_k + s^2 I), worked out in float64. ``sigma_max`` defaults
    to 10 times the largest standard deviation of the whole mixture in any direction, ``sigma_min``
    to 0.002 times the root mean variance of a component.

    :param weights: ``(K,)``, non-negative; normalised here.
    :param means: ``(K, C, *spatial)``, or ``(K, n)`` with ``image_shape`` and ``channels``; flat
        means without them make images ``(1, 1, n)``.
    :param covariances: isotropic: a scalar or ``(K,)`` variances; dense: ``(K, n, n)``, or
        ``(n, n)`` shared by all.
    :param image_shape: spatial shape for flat means.
    :param channels: 1 or 2 for flat means.
    :param sigma_min: lowest noise level for solvers.
    :param sigma_max: highest noise level for solvers.
    :raises GeometryError: if the shapes contradict each other.
    :raises ValueError: if weights or covariances are not what they must be.
    """

    weights: Tensor
    means: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor | None

    def __init__(
        self,
        weights: Tensor | Sequence[float],
        means: Tensor,
        covariances: Tensor | float,
        *,
        image_shape: Sequence[int] | None = None,
        channels: int | None = None,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
    ) -> None:
        w = torch.as_tensor(weights, dtype=torch.float64).detach()
        if w.ndim != 1 or not bool((w >= 0).all() & w.isfinite().all()) or float(w.sum()) <= 0:
            raise ValueError("weights: expected (K,) finite values >= 0 that are not all zero")
        m = torch.as_tensor(means, dtype=torch.float64).detach()
        m, shape, channels = _shapes(m, len(w), image_shape, channels)
        n = m.shape[1]
        values, vectors = _decompose(
            torch.as_tensor(covariances, dtype=torch.float64).detach(), len(w), n
        )
        w = w / w.sum()
        if sigma_max is None:
            sigma_max = 10.0 * math.sqrt(_largest_variance(w, m, values, vectors))
        if sigma_min is None:
            sigma_min = 0.002 * math.sqrt(float((w @ values).mean()))
        super().__init__(shape, channels=channels, sigma_min=sigma_min, sigma_max=sigma_max)
        # the expanded square loses |m|^2 / variance roundings: not where components are needles
        spread = float((m - w @ m).square().sum(1).max())
        self._expand = vectors is None and spread < 1e6 * float(values.min())
        self.register_buffer("weights", w)
        self.register_buffer("means", m)
        self.register_buffer("eigenvalues", values)
        self.register_buffer("eigenvectors", vectors)

    @classmethod
    def grid25(
        cls,
        dim: int,
        generator: torch.Generator | int | None = None,
        *,
        image_shape: Sequence[int] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """Make the 25-component mixture of Cardoso et al., "Monte Carlo guided diffusion" (2023).

        Means (8 i, 8 j, 8 i, 8 j, ...) for i, j in -2 ... 2, unit covariances, weights
        z_k^2 / sum z^2 with z standard normal (2308.07983).

        :param dim: number of components of x; images are ``(1, 1, dim)`` without ``image_shape``.
        :param generator: draws the weights.
        """
        grid = torch.arange(-2, 3, dtype=torch.float64) * 8
        pairs = torch.cartesian_prod(grid, grid)
        means = pairs.repeat(1, (dim + 1) // 2)[:, :dim]
        z = torch.randn(25, generator=as_generator(generator), dtype=torch.float64)
        return cls(z**2, means, 1.0, image_shape=image_shape, **kwargs)

    # -- the density -----------------------------------------------------------------------------
    def _log_joint(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return log(w_k N(x; m_k, C_k + s^2 I)) ``(B, K)``, the gains, and rotated x - m_k."""
        flat = x.flatten(1).double()
        n = flat.shape[1]
        s2 = sigma_rows(sigma, flat, dtype=torch.float64)[..., None] ** 2
        total = self.eigenvalues + s2  # (B, K, n or 1)
        safe = total.clamp_min(torch.finfo(torch.float64).tiny)
        d = None
        if self._expand:
            # |x - m|^2 by a matrix product, without (B, K, n) in memory
            centre = self.weights @ self.means
            xc, mc = flat - centre, self.means - centre
            squares = (xc**2).sum(1, keepdim=True) - 2 * xc @ mc.T + (mc**2).sum(1)
            quadratic = squares / safe[..., 0]
        else:
            d = flat[:, None, :] - self.means
            if self.eigenvectors is not None:
                d = torch.einsum("kij,bki->bkj", self.eigenvectors, d)
            quadratic = (d**2 / safe).sum(-1)
        log_det = safe.log().sum(-1) * (n // self.eigenvalues.shape[1])
        log_n = -0.5 * (quadratic + log_det + n * math.log(2 * math.pi))
        return log_n + self.weights.log(), self.eigenvalues / safe, d

    def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Return E[x0 | x0 + sigma n = x] exactly.

        :param x: ``(B, C, *spatial)``.
        :param sigma: float or ``(B,)``, positive (0 only if no component is singular).
        """
        self.check_image(x)
        log_joint, gain, d = self._log_joint(x, sigma)
        r = torch.softmax(log_joint, dim=1)
        if self.eigenvectors is not None and d is not None:
            moved = torch.einsum("kij,bkj->bi", self.eigenvectors, r[..., None] * gain * d)
            out = r @ self.means + moved
        else:
            g = r * gain[..., 0]
            out = (r - g) @ self.means + g.sum(1, keepdim=True) * x.flatten(1).double()
        return out.reshape(x.shape).to(x.dtype)

    def log_prob(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Return the log density of ``x0 + sigma n`` at ``x``, ``(B,)`` float64."""
        self.check_image(x)
        return torch.logsumexp(self._log_joint(x, sigma)[0], dim=1)

    def responsibilities(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Return p(component | x0 + sigma n = x), ``(B, K)`` float64."""
        self.check_image(x)
        return torch.softmax(self._log_joint(x, sigma)[0], dim=1)

    def factors(self) -> list[Tensor]:
        """Return square roots L_k of C_k = L_k L_k^T, dense float64, one object where shared."""
        n = self.means.shape[1]
        check_size(n, "GaussianMixture")
        cache: dict[float, Tensor] = {}
        found = []
        for k, values in enumerate(self.eigenvalues):
            if self.eigenvectors is not None:
                found.append(self.eigenvectors[k] * values.sqrt())
                continue
            variance = float(values)
            if variance not in cache:
                eye = torch.eye(n, dtype=torch.float64, device=values.device)
                cache[variance] = math.sqrt(variance) * eye
            found.append(cache[variance])
        return found

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
        g = as_generator(generator)
        k = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=g)
        z = torch.randn((n, self.means.shape[1]), generator=g, dtype=torch.float64)
        k, z = k.to(self.means.device), z.to(self.means.device)
        z = z * self.eigenvalues[k].sqrt()
        if self.eigenvectors is not None:
            # component by component: indexing (K, n, n) by sample would copy n x n per sample
            for i in k.unique():
                rows = k == i
                z[rows] = z[rows] @ self.eigenvectors[i].T
        x = (self.means[k] + z).reshape(n, *self.img_size)
        return x.to(dtype or torch.get_default_dtype())

    def posterior(
        self, y: Tensor, physics: Physics, sigma: Tensor | float | None = None
    ) -> MixturePosterior:
        """Return p(x0 | y) for y = A x0 + sigma n: again a mixture, exactly.

        :param y: measurement ``(B, *measurement_shape)``.
        :param sigma: noise standard deviation per real component, scalar or ``(B,)``; read from
            ``physics.noise_model`` if not given.
        :raises IncompatibleError: nonlinear operator, unknown noise level or too large an image.
        :raises GeometryError: shapes that do not fit.
        """
        rows = condition(y, physics, sigma, self.means, self.factors(), self.img_size)
        log_w = self.weights.log()
        joint = torch.stack([torch.stack([u.log_evidence for u in row]) for row in rows]) + log_w
        return MixturePosterior(
            torch.softmax(joint, dim=1),
            torch.stack([torch.stack([u.mean for u in row]) for row in rows]).reshape(
                len(rows), len(log_w), *self.img_size
            ),
            [[u.factor for u in row] for row in rows],
            torch.logsumexp(joint, dim=1),
        )


class MixturePosterior:
    """The Gaussian mixture p(x0 | y) of each scan; float64.

    ``weights`` is ``(B, K)``, ``means`` ``(B, K, C, *spatial)``, ``log_evidence`` is log p(y),
    ``(B,)``.
    """

    def __init__(
        self, weights: Tensor, means: Tensor, factors: list[list[Tensor]], log_evidence: Tensor
    ) -> None:
        """Hold sum_k w_k N(m_k, F_k F_k^T) per scan; ``factors[scan][k]`` is ``(n, r)``."""
        self.weights = weights
        self.means = means
        self.factors = factors
        self.log_evidence = log_evidence

    @property
    def covariances(self) -> Tensor:
        """Covariance of every component, ``(B, K, n, n)``."""
        return torch.stack([torch.stack([f @ f.T for f in row]) for row in self.factors])

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture, ``(B, C, *spatial)``."""
        w = self.weights.reshape(*self.weights.shape, *([1] * (self.means.ndim - 2)))
        return (w * self.means).sum(1)

    @property
    def std(self) -> Tensor:
        """Standard deviation of every component of the image, ``(B, C, *spatial)``."""
        within = torch.stack(
            [torch.stack([f.square().sum(1) for f in row]) for row in self.factors]
        ).reshape(self.means.shape)
        w = self.weights.reshape(*self.weights.shape, *([1] * (self.means.ndim - 2)))
        between = (self.means - self.mean[:, None]) ** 2
        return (w * (within + between)).sum(1).sqrt()

    def covariance(self) -> Tensor:
        """Return the covariance of the mixture, ``(n, n)`` for one scan, else ``(B, n, n)``."""
        d = (self.means - self.mean[:, None]).flatten(2)
        found = []
        for i, row in enumerate(self.factors):
            within = sum(
                (w * (f @ f.T) for w, f in zip(self.weights[i], row, strict=True)),
                start=torch.zeros((), dtype=torch.float64, device=d.device),
            )
            found.append(within + (self.weights[i, :, None] * d[i]).T @ d[i])
        return found[0] if len(found) == 1 else torch.stack(found)

    def component(self, x: Tensor) -> Tensor:
        """Return which mean is nearest to each sample, ``(S, B, C, *spatial) -> (S, B)``."""
        distance = (x[:, :, None].double() - self.means).flatten(3).square().sum(-1)
        return distance.argmin(-1)

    def prior(self, scan: int = 0) -> GaussianMixture:
        """Return the posterior of one scan as a mixture prior.

        Its denoiser is the exact conditional one, E[x0 | x0 + sigma n = x, y]: a sampler that
        uses it has no error but its own discretisation.
        """
        covariances = torch.stack([f @ f.T for f in self.factors[scan]])
        return GaussianMixture(self.weights[scan], self.means[scan], covariances)

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
        out = []
        for w, means, factors in zip(self.weights, self.means, self.factors, strict=True):
            k = torch.multinomial(w.cpu(), n, replacement=True, generator=g).to(w.device)
            r = max(f.shape[1] for f in factors)
            z = torch.randn((n, r), generator=g, dtype=torch.float64).to(w.device)
            x = means.flatten(1)[k]
            for i in k.unique():
                rows = k == i
                f = factors[int(i)]
                x[rows] += z[rows, : f.shape[1]] @ f.T
            out.append(x.reshape(n, *means.shape[1:]))
        return torch.stack(out, dim=1).to(dtype or torch.get_default_dtype())


def _shapes(
    means: Tensor, count: int, image_shape: Sequence[int] | None, channels: int | None
) -> tuple[Tensor, tuple[int, ...], int]:
    """Return flat means, spatial shape and channels."""
    if means.ndim < 2 or means.shape[0] != count or not bool(means.isfinite().all()):
        raise GeometryError(
            f"means: found shape {tuple(means.shape)}, expected finite ({count}, n) or "
            f"({count}, C, *spatial)"
        )
    if means.ndim > 2:
        shape, found = tuple(means.shape[2:]), means.shape[1]
        if image_shape is not None and tuple(image_shape) != shape:
            raise GeometryError(f"image_shape: found {tuple(image_shape)}, means have {shape}")
        if channels is not None and channels != found:
            raise GeometryError(f"channels: found {channels}, means have {found}")
    else:
        found = channels or 1
        n = means.shape[1]
        shape = tuple(int(s) for s in image_shape) if image_shape else (1, n // found)
        if found * math.prod(shape) != n:
            raise GeometryError(
                f"image_shape: found {shape} with {found} channels, expected {n} components"
            )
    if found not in (1, 2):
        raise GeometryError(f"channels: found {found}, expected 1 or 2")
    return means.flatten(1), shape, found


def _decompose(c: Tensor, count: int, n: int) -> tuple[Tensor, Tensor | None]:
    """Return eigenvalues ``(K, 1)`` or ``(K, n)``, and eigenvectors ``(K, n, n)`` if dense."""
    if c.ndim == 0 or c.shape == (count,):
        if not bool(c.isfinite().all()) or float(c.min()) < 0 or float(c.max()) <= 0:
            raise ValueError("covariances: expected variances >= 0 that are not all zero")
        return c.expand(count).reshape(count, 1).clone(), None
    if c.shape == (n, n):
        c = c.expand(count, n, n)
    if tuple(c.shape) != (count, n, n):
        raise GeometryError(
            f"covariances: found shape {tuple(c.shape)}, expected a scalar, ({count},), "
            f"({n}, {n}) or ({count}, {n}, {n})"
        )
    check_size(n, "covariances")
    if count * n * n > MAX_DENSE**2:
        raise GeometryError(
            f"covariances: {count} dense {n} x {n} matrices are too many; use isotropic ones"
        )
    if not bool(c.isfinite().all()) or float((c - c.mT).abs().max()) > 1e-6 * float(c.abs().max()):
        raise ValueError("covariances: expected finite symmetric matrices")
    values, vectors = torch.linalg.eigh(0.5 * (c + c.mT))
    largest = values.amax(1, keepdim=True)
    if bool((values < -1e-6 * largest).any()) or float(largest.max()) <= 0:
        raise ValueError("covariances: expected positive semi-definite matrices")
    return torch.where(values > _RANK_TOL * largest, values, 0.0), vectors


def _largest_variance(
    weights: Tensor, means: Tensor, values: Tensor, vectors: Tensor | None
) -> float:
    """Return the largest eigenvalue of the mixture's covariance (a bound where C_k are dense)."""
    d = weights.sqrt()[:, None] * (means - weights @ means)
    # the K x K Gram matrix has the same largest eigenvalue as the n x n scatter matrix
    between = float(torch.linalg.eigvalsh(d @ d.T)[-1])
    within = float(weights @ values.amax(1))
    return between + within if vectors is not None else between + float(weights @ values[:, 0])
