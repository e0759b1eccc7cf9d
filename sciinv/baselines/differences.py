"""Forward differences with Neumann boundary, their exact transpose, and total variation."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient(x: Tensor) -> Tensor:
    """Forward differences ``(B, C, *spatial) -> (B, C, axes, *spatial)``, zero at the far edge.

    Differences are per pixel, not per mm. The squared norm of this map is below 4 times the number
    of spatial axes.
    """
    axes = x.ndim - 2
    out = x.new_zeros((*x.shape[:2], axes, *x.shape[2:]))
    for k in range(axes):
        n = x.shape[2 + k]
        if n > 1:
            out[:, :, k].narrow(2 + k, 0, n - 1).copy_(x.diff(dim=2 + k))
    return out


def gradient_adjoint(p: Tensor) -> Tensor:
    """Transpose of :func:`gradient` (minus the divergence), to ``(B, C, *spatial)``."""
    axes = p.ndim - 3
    out = p.new_zeros((*p.shape[:2], *p.shape[3:]))
    for k in range(axes):
        n = p.shape[3 + k]
        if n > 1:
            inner = p[:, :, k].narrow(2 + k, 0, n - 1)
            out.narrow(2 + k, 0, n - 1).sub_(inner)
            out.narrow(2 + k, 1, n - 1).add_(inner)
    return out


def pixel_norm(p: Tensor) -> Tensor:
    """Euclidean norm over channels and axes: ``(B, C, axes, *spatial) -> (B, 1, 1, *spatial)``.

    Real and imaginary part share one norm, so that the penalty does not depend on the phase that
    is common to all pixels.
    """
    size: Tensor = torch.linalg.vector_norm(p, dim=(1, 2), keepdim=True)
    return size


def total_variation(x: Tensor) -> Tensor:
    """Isotropic total variation of each row, float64 ``(B,)``.

    Sum over pixels of the length of the gradient, real and imaginary part together.
    """
    return pixel_norm(gradient(x)).double().flatten(1).sum(1)
