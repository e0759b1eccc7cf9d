"""Linear algebra on batches in which every row is its own problem.

Scalars (step sizes, norms, stopping) are per row: a row's result does not depend on its
neighbours. Inner products are accumulated in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def row_dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row, ``(R, ...) x (R, ...) -> (R,)``, accumulated in float64."""
    left = a.flatten(1).double()
    right = left if b is a else b.flatten(1).double()
    return torch.linalg.vecdot(left, right, dim=1)


def row_scale(scalars: Tensor, like: Tensor) -> Tensor:
    """Shape ``(R,)`` scalars so that they multiply the rows of ``like``, in its dtype."""
    return scalars.to(like.dtype).reshape(-1, *([1] * (like.ndim - 1)))


@dataclass(frozen=True)
class CGInfo:
    """How a conjugate-gradient run ended: iterations and relative residual per row."""

    iterations: int
    relative_residual: Tensor


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    x0: Tensor | None = None,
    *,
    max_iter: int = 50,
    tol: float | Tensor = 1e-6,
) -> tuple[Tensor, CGInfo]:
    """Solve ``apply(x) = b`` for a symmetric positive definite map, each row on its own.

    A row that has converged, or whose curvature is not positive (the map is not positive definite
    there), keeps its current iterate. A row that meets numbers that are not finite becomes NaN: it
    must not pass for converged.

    :param apply: symmetric positive definite map on tensors of the shape of ``b``.
    :param b: right-hand side ``(R, ...)``.
    :param x0: start, zero by default.
    :param tol: stop when the residual is below ``tol`` times the norm of ``b``; one number, or
        one per row ``(R,)``.
    """
    x = torch.zeros_like(b) if x0 is None else x0
    r = b if x0 is None else b - apply(x)
    p = r
    rr = row_dot(r, r)
    bb = row_dot(b, b).clamp_min(torch.finfo(torch.float64).tiny)
    going = torch.ones_like(rr, dtype=torch.bool)
    iterations = 0
    for iteration in range(1, max_iter + 1):
        active = going & (rr > (tol * tol) * bb)
        # one host synchronisation an iteration; it saves whole operator calls
        if not bool(active.any()):
            break
        iterations = iteration
        ap = apply(p)
        curvature = row_dot(p, ap)
        ok = active & (curvature > 0)
        alpha = torch.where(ok, rr / torch.where(ok, curvature, 1.0), 0.0)
        length = row_scale(alpha, x)
        x = torch.addcmul(x, length, p)
        r = torch.addcmul(r, length, ap, value=-1)
        # curvature that is no number spoils the row, and its residual says so
        going = ok
        rr_new = torch.where(
            ok, row_dot(r, r), torch.where(active & curvature.isnan(), curvature, rr)
        )
        beta = torch.where(ok, rr_new / torch.where(rr > 0, rr, 1.0), 0.0)
        p = torch.addcmul(r, row_scale(beta, p), p)
        rr = rr_new
    x = torch.where(row_scale(rr.isfinite(), x) != 0, x, torch.nan)
    return x, CGInfo(iterations, (rr / bb).sqrt())
