"""Total variation by a primal-dual method with the exact data term."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.baselines.common import finite, positive, squared_norm, start
from sciinv.baselines.differences import gradient, gradient_adjoint, pixel_norm
from sciinv.errors import DataError, IncompatibleError
from sciinv.linalg import conjugate_gradient, row_dot, row_scale

_RELAX = 1.8  # over-relaxation of the fixed-point map, below 2 (Condat 2013)
_BALANCE = 2.0  # ratio of the residuals beyond which the steps are rebalanced
_DECAY = 0.95  # each rebalancing is weaker than the last, so that they end (Goldstein 2013)


@dataclass(frozen=True)
class TVInfo:
    """How a total variation run ended, per row where a tensor.

    :param iterations: primal-dual iterations of the slowest row.
    :param primal: ``|grad f(x) + K^T p|`` over ``min(|A^T y|, lam sqrt(pixels))``.
    :param dual: distance of ``K x`` from the optimality condition of the dual variable, over
        ``|x|``.
    :param converged: both are at most the tolerance.
    """

    iterations: int
    primal: Tensor
    dual: Tensor
    converged: Tensor


def tv(
    y: Tensor,
    physics: LinearPhysics,
    *,
    lam: float,
    max_iter: int = 500,
    tol: float = 1e-3,
    nonneg: bool = False,
    init: Tensor | None = None,
) -> Tensor:
    """Minimise ``0.5 |A x - y|^2 + lam TV(x)`` with the isotropic total variation.

    See :func:`solve_tv`, which also returns how the run ended;
    :func:`sciinv.baselines.tv_lambda` gives a default for ``lam``.
    """
    return solve_tv(y, physics, lam=lam, max_iter=max_iter, tol=tol, nonneg=nonneg, init=init)[0]


def solve_tv(
    y: Tensor,
    physics: LinearPhysics,
    *,
    lam: float,
    max_iter: int = 500,
    tol: float = 1e-3,
    nonneg: bool = False,
    init: Tensor | None = None,
) -> tuple[Tensor, TVInfo]:
    """Minimise ``0.5 |A x - y|^2 + lam TV(x)``, optionally over ``x >= 0``.

    TV is the sum over pixels of the gradient's length per pixel (not per mm), real and imaginary
    part together, over all spatial axes. Chambolle and Pock 2011 (J Math Imaging Vis 40:120) with
    over-relaxation, the data term's proximal map by warm-started conjugate gradients, and step
    sizes balanced from the residuals (Goldstein et al. 2013, arXiv:1305.0546), per row. The
    constraint is a second dual block. Nothing depends on the unit of the image or measurement.

    A row stops when both optimality residuals of :class:`TVInfo` are at most ``tol``: 1e-3 is
    converged to the eye (0.1 dB), 1e-6 in float64 gives the objective to eight digits.

    :param y: measurement ``(B, *measurement_shape)``.
    :param lam: weight of TV in the unit of the measurement squared over that of the image.
    :param nonneg: image values at least 0; real images only.
    :param init: start image, 10 conjugate-gradient steps on the data by default.
    :return: ``(B, C, *spatial)`` and how it ended.
    :raises DataError: ``lam`` or ``tol`` not above zero, ``y`` not finite.
    :raises IncompatibleError: ``nonneg`` for a complex image.
    """
    positive("tv", lam=lam, tol=tol)
    if max_iter < 1:
        raise DataError("tv", "max_iter", found=max_iter, expected="at least 1")
    b = start(y, physics, "tv")
    if nonneg and b.shape[1] != 1:
        raise IncompatibleError(
            f"tv: nonneg: found images with {b.shape[1]} channels, expected 1 (real images)"
        )
    axes = b.ndim - 2
    # |K|^2 <= 4 axes (+ 1 for the identity of the constraint)
    k_norm = math.sqrt(4 * axes + (1 if nonneg else 0))
    norm2 = squared_norm(physics, b).clamp_min(torch.finfo(torch.float64).tiny)
    x = _first_image(b, physics, norm2) if init is None else init.clone()
    p = gradient(x).zero_()
    q = torch.zeros_like(x) if nonneg else None

    pixels = math.prod(b.shape[2:])
    b_norm = row_dot(b, b).sqrt()
    x_norm = row_dot(x, x).sqrt()
    force = torch.minimum(b_norm, torch.full_like(b_norm, lam * math.sqrt(pixels)))
    # ratio of the distances that x and p have to go: about a tenth of the image against p at its
    # bound lam
    tau = 0.1 * x_norm / (lam * math.sqrt(pixels) * k_norm)
    # keep the conjugate gradients well conditioned, and tau positive where the image is zero
    tau = torch.where(tau > 0, tau, 1 / norm2).clamp(min=1e-2 / norm2, max=1e3 / norm2)
    strength = torch.full_like(tau, 0.5)
    done = torch.zeros_like(b_norm, dtype=torch.bool)
    primal = torch.full_like(b_norm, torch.inf)
    dual = torch.full_like(b_norm, torch.inf)
    result = x
    iterations = 0
    for iteration in range(1, max_iter + 1):
        iterations = iteration
        sigma = 1 / (tau * k_norm**2)
        t, s = row_scale(tau, x), row_scale(sigma, x)
        ktp = gradient_adjoint(p) if q is None else gradient_adjoint(p) + q
        rhs = x - t * ktp + t * b
        # the residual over tau is an error of the data term's gradient: a tenth of the primal
        # residual that is there or asked for
        wanted = 0.1 * torch.where(done, tol, primal.clamp(tol, 0.1)) * tau * force
        x_new, _ = conjugate_gradient(
            lambda v, t=t: v + t * physics.A_adjoint_A(v),  # type: ignore[misc]
            rhs,
            result,
            max_iter=200,
            tol=_ratio(wanted, row_dot(rhs, rhs).sqrt()),  # per row
        )
        x_bar = 2 * x_new - x
        p_new = p + row_scale(sigma, p) * gradient(x_bar)
        p_new = p_new * (lam / pixel_norm(p_new).clamp_min(lam))
        # residuals of the optimality conditions at (x_new, p_new)
        primal_res = (x - x_new) / t - gradient_adjoint(p - p_new)
        dual_res = (p - p_new) / row_scale(sigma, p) + gradient(x_new - x)
        dual_sq = row_dot(dual_res, dual_res)
        q_new = None
        if q is not None:
            q_new = (q + s * x_bar).clamp_max(0)
            primal_res = primal_res - (q - q_new)
            q_res = (q - q_new) / s + (x_new - x)
            dual_sq = dual_sq + row_dot(q_res, q_res)
        size = row_dot(x_new, x_new).sqrt()
        new_primal = _ratio(row_dot(primal_res, primal_res).sqrt(), force)
        new_dual = _ratio(dual_sq.sqrt(), size)
        primal = torch.where(done, primal, new_primal)
        dual = torch.where(done, dual, new_dual)
        # finished rows stay as they are, whatever their neighbours still need
        keep = row_scale(done.to(x.dtype), x) > 0
        result = torch.where(keep, result, x_new)
        done = done | ((primal <= tol) & (dual <= tol))
        if bool(done.all()):
            break
        go = row_scale(_RELAX * (~done).to(x.dtype), x)
        x = x + go * (x_new - x)
        p = p + go[:, :, None] * (p_new - p)
        if q is not None and q_new is not None:
            q = q + go * (q_new - q)
        up, down = primal > _BALANCE * dual, dual > _BALANCE * primal
        factor = torch.where(up, 1 / (1 - strength), torch.where(down, 1 - strength, 1.0))
        tau = tau * factor
        strength = torch.where(up | down, strength * _DECAY, strength)
    if nonneg:
        result = result.clamp_min(0)
    return finite(result, "tv", iterations), TVInfo(iterations, primal, dual, done)


def _first_image(b: Tensor, physics: LinearPhysics, norm2: Tensor) -> Tensor:
    """Ten conjugate-gradient steps towards the least-squares image."""
    weight = row_scale(1e-3 * norm2, b)
    x, _ = conjugate_gradient(
        lambda v: physics.A_adjoint_A(v) + weight * v, b, max_iter=10, tol=1e-3
    )
    return x


def _ratio(value: Tensor, unit: Tensor) -> Tensor:
    """Value over unit, zero for 0/0."""
    return torch.where(value > 0, value / unit, 0.0)
