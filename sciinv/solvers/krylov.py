"""Small Krylov spaces, one per row, for the moment-matched Gaussian.

The linear systems live in measurement space, where a vector can be twenty times as large as the
image. All their Krylov vectors have the form ``alpha rho + A u``; keeping ``(alpha, u)`` and
``A^T q`` gives every inner product from image-sized vectors, ``A^T rho``, ``|rho|^2`` and
``A^T A``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciinv.linalg import row_dot

Map = Callable[[Tensor], Tensor]


def _combine(basis: Tensor, coefficients: Tensor) -> Tensor:
    """Sum ``basis[r, j] * coefficients[r, j]`` over j: ``(R, k, n), (R, k) -> (R, n)``."""
    return torch.bmm(coefficients.unsqueeze(1), basis).squeeze(1)


def _project(basis: Tensor, vector: Tensor) -> Tensor:
    """Inner products with every basis vector: ``(R, k, n), (R, n) -> (R, k)``."""
    return torch.bmm(basis, vector.unsqueeze(2)).squeeze(2)


def _rounding(like: Tensor) -> float:
    """Relative error of an inner product of vectors computed in the dtype of ``like``."""
    return 1e-6 if like.dtype == torch.float32 else 1e-13


def sqrt_times(jacobian: Map, z: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return ``J^{1/2} z`` and the largest Ritz value of ``J``, per row.

    Krylov space of ``z`` with full reorthogonalisation; the projected matrix is symmetrised and
    its negative Ritz values, which a learned Jacobian can have, are taken as zero.

    :param jacobian: map on tensors shaped as ``z``; symmetric positive semidefinite if exact.
    :param z: ``(R, ...)``.
    :param count: dimension of the space (the number of Jacobian products).
    """
    flat = z.flatten(1).double()
    rows, size = flat.shape
    count = min(count, size)
    v = flat.new_zeros((rows, count, size))
    jv = flat.new_zeros((rows, count, size))
    norm = flat.norm(dim=1)
    v[:, 0] = flat / norm.clamp_min(1e-300).unsqueeze(1)
    for j in range(count):
        product = jacobian(v[:, j].to(z.dtype).reshape(z.shape)).flatten(1).double()
        jv[:, j] = product
        if j + 1 == count:
            break
        w = product
        for _ in range(2):
            w = w - _combine(v[:, : j + 1], _project(v[:, : j + 1], w))
        size_w = w.norm(dim=1)
        alive = size_w > _rounding(z) * product.norm(dim=1)
        v[:, j + 1] = torch.where(
            alive.unsqueeze(1), w / size_w.clamp_min(1e-300).unsqueeze(1), torch.zeros_like(w)
        )
    h = torch.bmm(v, jv.transpose(1, 2))
    ritz, vectors = torch.linalg.eigh((h + h.transpose(1, 2)) / 2)
    root = ritz.clamp_min(0).sqrt()
    weights = (vectors * (root * vectors[:, 0]).unsqueeze(1)).sum(2) * norm.unsqueeze(1)
    result = _combine(v, weights).to(z.dtype).reshape(z.shape)
    return result, ritz.amax(1)


def floored_update(
    jacobian: Map,
    normal: Map,
    at_rho: Tensor,
    rho_sq: Tensor,
    *,
    s: float,
    sigma: float,
    count: int,
    jacobian_bound: Tensor | None = None,
) -> Tensor:
    """Return ``s^2 J A^T (sigma^2 I + s^2 A J A^T)^{-1} rho``, per row.

    The system is projected on the Krylov space of ``A J A^T`` from ``rho``, where the projected
    matrix is symmetrised and floored: for every symmetric positive semidefinite ``J`` with
    eigenvalues up to ``b``, a Ritz vector ``q`` has ``q^T A J A^T q >= |J A^T q|^2 / b``. So the floor
    changes nothing for an exact denoiser, keeps a learned, indefinite one from blowing up (plain
    conjugate gradients do), and costs no further product. For a symmetric ``J`` the result is
    that of ``count`` steps of conjugate gradients.

    :param jacobian: ``v -> J v`` on images ``(R, C, ...)``.
    :param normal: ``x -> A^T A x``.
    :param at_rho: ``A^T rho``, ``(R, C, ...)``.
    :param rho_sq: ``|rho|^2``, ``(R,)`` float64.
    :param s: diffusion noise level; the prior covariance is ``s^2 J``.
    :param sigma: measurement noise level.
    :param count: dimension of the Krylov space (the number of Jacobian products).
    :param jacobian_bound: ``(R,)`` upper bound ``b`` of the eigenvalues of ``J``; by default
        twice the largest growth seen in the space, at least 2.
    """
    shape, dtype = at_rho.shape, at_rho.dtype
    b = at_rho.flatten(1).double()
    rows, size = b.shape
    p = b.new_zeros((rows, count, size))  # A^T q_j
    u = b.new_zeros((rows, count, size))  # q_j = alpha_j rho + A u_j
    g = b.new_zeros((rows, count, size))  # J A^T q_j
    alpha = b.new_zeros((rows, count))
    rho_q = b.new_zeros((rows, count))  # <rho, q_j>
    rho_norm = rho_sq.clamp_min(0).sqrt()
    inverse = torch.where(rho_norm > 0, 1 / rho_norm.clamp_min(1e-300), torch.zeros_like(rho_norm))
    alpha[:, 0] = inverse
    p[:, 0] = b * inverse.unsqueeze(1)
    rho_q[:, 0] = rho_norm
    for j in range(count):
        gj = jacobian(p[:, j].to(dtype).reshape(shape))
        g[:, j] = gj.flatten(1).double()
        if j + 1 == count:
            break
        w_alpha = torch.zeros_like(rho_norm)
        w_u = g[:, j].clone()
        w_p = normal(gj).flatten(1).double()
        start = row_dot(w_u, w_p)  # |A g_j|^2
        for _ in range(2):
            c = _project(p[:, : j + 1], w_u) + w_alpha.unsqueeze(1) * rho_q[:, : j + 1]
            w_alpha = w_alpha - (c * alpha[:, : j + 1]).sum(1)
            w_u = w_u - _combine(u[:, : j + 1], c)
            w_p = w_p - _combine(p[:, : j + 1], c)
        w_rho = w_alpha * rho_sq + row_dot(b, w_u)
        from_data, from_image = w_alpha * w_rho, row_dot(w_u, w_p)
        w_sq = from_data + from_image
        # |w|^2 is a sum whose terms cancel: below their rounding it says nothing
        terms = start.abs() + from_data.abs() + from_image.abs()
        alive = w_sq > _rounding(at_rho) * terms
        scale = torch.where(alive, w_sq.clamp_min(1e-300).rsqrt(), torch.zeros_like(w_sq))
        alpha[:, j + 1] = w_alpha * scale
        u[:, j + 1] = w_u * scale.unsqueeze(1)
        p[:, j + 1] = w_p * scale.unsqueeze(1)
        rho_q[:, j + 1] = w_rho * scale
    h = torch.bmm(p, g.transpose(1, 2))
    theta, vectors = torch.linalg.eigh((h + h.transpose(1, 2)) / 2)
    gram = torch.bmm(g, g.transpose(1, 2))
    if jacobian_bound is None:
        growth = gram.diagonal(dim1=1, dim2=2) / p.square().sum(2).clamp_min(1e-300)
        jacobian_bound = 2 * growth.amax(1).sqrt().clamp_min(1.0)
    floor = (vectors * torch.bmm(gram, vectors)).sum(1) / jacobian_bound.double().unsqueeze(1)
    theta = torch.maximum(theta, floor.clamp_min(0))
    first = vectors[:, 0] * rho_norm.unsqueeze(1)
    weights = (vectors * (first / (sigma**2 + s**2 * theta)).unsqueeze(1)).sum(2)
    return (s**2 * _combine(g, weights)).to(dtype).reshape(shape)
