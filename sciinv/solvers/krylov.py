"""Small Krylov spaces, one per row, for the moment-matched Gaussian.

The linear systems of moment matching live in measurement space, where a vector can be twenty times
as large as the image; here they are solved on image-sized vectors alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def _combine(basis: Tensor, coefficients: Tensor) -> Tensor:
    """Sum ``basis[r, j] * coefficients[r, j]`` over j: ``(R, k, n), (R, k) -> (R, n)``."""
    return torch.bmm(coefficients.unsqueeze(1), basis).squeeze(1)


def _project(basis: Tensor, vector: Tensor) -> Tensor:
    """Inner products with every basis vector: ``(R, k, n), (R, n) -> (R, k)``."""
    return torch.bmm(basis, vector.unsqueeze(2)).squeeze(2)


def _rounding(like: Tensor) -> float:
    """Relative length below which what is left of an orthogonalised vector is rounding."""
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
    ritz, vectors = _eigh(_symmetric(h))
    root = ritz.clamp_min(0).sqrt()
    weights = (vectors * (root * vectors[:, 0]).unsqueeze(1)).sum(2) * norm.unsqueeze(1)
    result = _combine(v, weights).to(z.dtype).reshape(z.shape)
    return result, ritz.amax(1)


def floored_update(
    jacobian: Map,
    normal: Map,
    at_rho: Tensor,
    *,
    s: float,
    sigma: float,
    count: int,
    jacobian_bound: Tensor | None = None,
) -> Tensor:
    """Return ``s^2 J A^T (sigma^2 I + s^2 A J A^T)^{-1} rho`` per row, from ``A^T rho`` alone.

    The second part of :func:`floored_solve`, which has the arguments.
    """
    return floored_solve(
        jacobian,
        normal,
        at_rho,
        s=s,
        sigma=sigma,
        count=count,
        jacobian_bound=jacobian_bound,
    )[1]


def floored_solve(
    jacobian: Map,
    normal: Map,
    at_rho: Tensor,
    *,
    s: float,
    sigma: float,
    count: int,
    jacobian_bound: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return ``p = A^T (sigma^2 I + s^2 A J A^T)^{-1} rho`` and ``s^2 J p`` per row.

    With ``A^T (sigma^2 + s^2 A J A^T)^{-1} = (sigma^2 + s^2 A^T A J)^{-1} A^T`` the update is
    ``d = s^2 J p`` for the ``p`` that minimises

    ``sigma^2 p^T J p + s^2 |A J p|^2 - 2 p^T J A^T rho``,

    here over the Krylov space of ``A^T A J`` from ``A^T rho``. For a symmetric ``J`` that is
    ``count`` steps of conjugate gradients on the posterior precision, preconditioned by the prior
    covariance. No vector of the size of the measurement occurs, and as the small problem is built
    from what ``J`` and ``A^T A`` really returned, rounding cannot make it inconsistent.

    A learned ``J`` is neither symmetric nor definite, and conjugate gradients then diverge. Every
    symmetric ``J`` with eigenvalues in ``[0, b]`` satisfies ``p^T J p >= |J p|^2 / b``; the Gram
    matrix of ``J`` is symmetrised and floored by that of ``J p / sqrt(b)``. The floor changes
    nothing for an exact denoiser and bounds the update for any other.

    :param jacobian: ``v -> J v`` on images ``(R, C, ...)``.
    :param normal: ``x -> A^T A x``.
    :param at_rho: ``A^T rho``, ``(R, C, ...)``.
    :param s: diffusion noise level; the prior covariance is ``s^2 J``.
    :param sigma: measurement noise level.
    :param count: dimension of the Krylov space: products with ``J`` and with ``A^T A``.
    :param jacobian_bound: ``(R,)`` upper bound ``b`` of the eigenvalues of ``J``; by default
        twice the largest growth seen in the space, at least 2.
    """
    shape = at_rho.shape
    b = at_rho.flatten(1)
    rows, size = b.shape
    count = min(count, size)
    p = b.new_zeros((rows, count, size))
    g = b.new_zeros((rows, count, size))  # J p
    ng = b.new_zeros((rows, count, size))  # A^T A J p
    w = b
    before = b.norm(dim=1)
    for j in range(count):
        if j > 0:
            w = ng[:, j - 1]
            before = w.norm(dim=1)
            for _ in range(2):
                w = w - _combine(p[:, :j], _project(p[:, :j], w))
        length = w.norm(dim=1)
        # a space that is invariant to rounding is complete: later vectors stay zero
        alive = length > _rounding(b) * before
        scale = torch.where(alive, 1 / length.clamp_min(1e-30), torch.zeros_like(length))
        p[:, j] = w * scale.unsqueeze(1)
        gj = jacobian(p[:, j].reshape(shape))
        g[:, j] = gj.flatten(1)
        ng[:, j] = normal(gj).flatten(1)
    p64, g64 = p.double(), g.double()
    gt = g64.transpose(1, 2)
    gram = torch.bmm(g64, gt)
    of_data = torch.bmm(ng.double(), gt)
    of_prior = torch.bmm(p64, gt)
    if jacobian_bound is None:
        growth = gram.diagonal(dim1=1, dim2=2).amax(1).sqrt()  # |p| = 1
        jacobian_bound = 2 * growth.clamp_min(1.0)
    floor = gram / jacobian_bound.double().reshape(-1, 1, 1)
    excess, vectors = _eigh(_symmetric(of_prior) - floor)
    of_prior = floor + (vectors * excess.clamp_min(0).unsqueeze(1)) @ vectors.transpose(1, 2)
    system = sigma**2 * of_prior + s**2 * _symmetric(of_data)
    values, vectors = _eigh(system)
    cut = 1e-14 * values.amax(1, keepdim=True).clamp_min(1e-300)
    inverse = torch.where(values > cut, 1 / values.clamp_min(1e-300), 0 * values)
    rhs = _project(g64, b.double())
    weights = (vectors * (inverse * _project(vectors.transpose(1, 2), rhs)).unsqueeze(1)).sum(2)
    update = (s**2 * _combine(g64, weights)).to(b.dtype).reshape(shape)
    return _combine(p64, weights).to(b.dtype).reshape(shape), update


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors of symmetric matrices; NaN values for a row that is not finite.

    LAPACK fails on NaN without saying whose; so the row carries it to where the loop names it.
    """
    bad = ~torch.isfinite(matrix).flatten(1).all(1)
    values, vectors = torch.linalg.eigh(
        torch.where(bad.reshape(-1, 1, 1), torch.zeros_like(matrix), matrix)
    )
    return torch.where(bad.unsqueeze(1), torch.full_like(values, torch.nan), values), vectors


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.transpose(1, 2)) / 2
