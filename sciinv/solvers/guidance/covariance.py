"""Cheap estimates of the spread of ``x0`` around the denoised image, ``V = s^2 J``.

All of them come from products with the Jacobian, so they follow the prior and the noise level; the
full covariance needs none of them.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from sciinv.linalg import quick_dot
from sciinv.random import RowNoise
from sciinv.solvers.problem import Linearised, Prior

Covariance = Literal["full", "diagonal", "scalar"]
COVARIANCES: tuple[Covariance, ...] = ("full", "diagonal", "scalar")

# pixels along each axis over which the estimate of the diagonal is averaged
_WINDOW = 7
# a learned Jacobian or an unlucky probe can give a share that is not positive
_SMALLEST_SHARE = 1e-12


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise a ``ValueError`` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name}: found {value!r}, expected one of {', '.join(allowed)}")


def check_prior_std(prior_std: float | None, *, zero: bool = False) -> None:
    """Raise a ``ValueError`` for a standard deviation that is not positive."""
    if prior_std is None or prior_std > 0 or (zero and prior_std == 0):
        return
    raise ValueError(f"prior_std: found {prior_std}, expected a positive number or None")


def probe(noise: RowNoise, like: Tensor) -> Tensor:
    """Draw random signs of the shape of ``like``, each row from its own generator."""
    z = noise.normal_like(like)
    return torch.where(z < 0, -torch.ones_like(z), torch.ones_like(z))


def trace_share(at: Linearised, noise: RowNoise, probes: int) -> Tensor:
    """Estimate ``trace(J) / n`` of every row, ``(R,)`` float64, by Hutchinson's probes.

    Unbiased; one vector-Jacobian product each. The relative error of one probe is
    ``sqrt(2 |J off the diagonal|_F^2) / trace(J)``.
    """
    total = torch.zeros(at.d.shape[0], dtype=torch.float64, device=at.d.device)
    for _ in range(probes):
        z = probe(noise, at.d)
        total = total + quick_dot(z, at.jacobian(z))
    return total / (probes * at.d[0].numel())


def scalar_variance(
    at: Linearised, s: float, noise: RowNoise, probes: int, prior_std: float | None
) -> Tensor:
    """Return the variance ``v`` of ``V = v I``, ``(R, 1, ...)``.

    ``c s^2 / (c + s^2)`` for a prior of variance ``c = prior_std^2``, otherwise
    ``s^2 trace(J) / n``.
    """
    rows = (-1, *([1] * (at.d.ndim - 1)))
    if prior_std is not None:
        return at.d.new_full((at.d.shape[0],), shrunk(prior_std**2, s)).reshape(rows)
    share = trace_share(at, noise, probes).clamp_min(_SMALLEST_SHARE)
    return (s**2 * share).to(at.d.dtype).reshape(rows)


def diagonal_variance(at: Linearised, s: float, noise: RowNoise, probes: int) -> Tensor:
    """Return the variances of ``V = diag(v)``, ``(R, 1, *spatial)``.

    ``z * J z`` has the expectation ``diag(J)`` for random signs ``z``, with an error as large as
    the rest of the row; it is averaged over the probes, the channels and a window of 7 pixels
    along each axis, which takes the variance to change slowly. A tenth of the image's average is
    the least.
    """
    total = torch.zeros_like(at.d)
    for _ in range(probes):
        z = probe(noise, at.d)
        total = total + z * at.jacobian(z)
    share = _local_mean(total.mean(1, keepdim=True) / probes)
    axes = tuple(range(1, share.ndim))
    least = share.mean(axes, keepdim=True).clamp_min(_SMALLEST_SHARE) / 10
    return s**2 * torch.maximum(share, least)


def _local_mean(x: Tensor) -> Tensor:
    """Average over a window around every pixel, fewer pixels at the edges."""
    for axis in range(2, x.ndim):
        size = x.shape[axis]
        half = min(_WINDOW, size) // 2
        total = torch.cat([torch.zeros_like(x.narrow(axis, 0, 1)), x.cumsum(axis)], axis)
        centre = torch.arange(size, device=x.device)
        high = (centre + half + 1).clamp_max(size)
        low = (centre - half).clamp_min(0)
        count = (high - low).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        x = (total.index_select(axis, high) - total.index_select(axis, low)) / count
    return x


def shrunk(variance: float, s: float) -> float:
    """Return ``c s^2 / (c + s^2)``: what noise of level s leaves open of a variance c."""
    return variance * s**2 / (variance + s**2)


def declared_std(prior: Prior) -> float | None:
    """Return the standard deviation per component that the prior declares, ``sigma_data``."""
    value: Any = getattr(prior, "sigma_data", None)
    return None if value is None else float(value)


def prior_variance(at: Linearised, s: float, noise: RowNoise, probes: int = 4) -> Tensor:
    """Estimate the variance ``c`` of the prior per component, ``(R,)`` float64.

    At a level ``s`` far above it, Tweedie's ``s^2 J`` is the prior's covariance. ``c`` is chosen so
    that ``c s^2 / (c + s^2) = s^2 trace(J) / n`` there.
    """
    share = trace_share(at, noise, probes).clamp(_SMALLEST_SHARE, 1 - 1e-6)
    return s**2 * share / (1 - share)
