"""Wavelet-sparse reconstruction by FISTA."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor
from torch.nn import functional

from sciinv.baselines import wavelet
from sciinv.baselines.common import finite, positive, squared_norm, start
from sciinv.errors import DataError
from sciinv.linalg import row_dot, row_scale


def l1_wavelet(
    y: Tensor,
    physics: LinearPhysics,
    *,
    lam: float,
    max_iter: int = 200,
    tol: float = 1e-4,
    levels: int | None = None,
    generator: torch.Generator | None = None,
    init: Tensor | None = None,
) -> Tensor:
    """Minimise ``0.5 |A x - y|^2 + lam |W x|_1`` with orthogonal Daubechies-4 wavelets.

    The magnitude of a complex coefficient counts (real and imaginary part together), the coarsest
    band is not penalised. FISTA (Beck and Teboulle 2009, SIAM J Imaging Sci 2:183) with the
    monotone restart of O'Donoghue and Candes 2015, step from the operator's norm and corrected
    where the curvature is larger. Sizes that the levels do not divide are embedded in the next
    larger grid (synthesis form), so the data term is exact for every size.

    :param y: measurement ``(B, *measurement_shape)``.
    :param lam: weight in the unit of the measurement squared over that of the image;
        :func:`sciinv.baselines.wavelet_lambda` gives a default.
    :param tol: a row stops when its image changes by less than this fraction in an iteration.
    :param levels: levels of the transform, 5 or as many as the size allows by default.
    :param generator: draws a cyclic shift of the wavelet grid in every iteration (cycle spinning,
        Coifman and Donoho 1995), which removes the grid's artefacts; the iteration then has no
        fixed objective and runs to ``max_iter``. ``None``: no shifts.
    :param init: start image, zero by default.
    :return: ``(B, C, *spatial)``.
    :raises DataError: ``lam`` or ``tol`` not above zero, ``y`` not finite.
    """
    positive("l1_wavelet", lam=lam, tol=tol)
    b = start(y, physics, "l1_wavelet")
    shape = tuple(b.shape[2:])
    allowed = wavelet.levels_for(shape)
    depth = allowed if levels is None else levels
    if not 0 < depth <= allowed:
        raise DataError(
            "l1_wavelet", "levels", found=depth, expected=f"1 to {allowed} for an image {shape}"
        )
    big = wavelet.padded_shape(shape, depth)
    pad = [v for n, m in zip(reversed(shape), reversed(big), strict=True) for v in (0, m - n)]

    def inside(u: Tensor) -> Tensor:
        for axis, n in enumerate(shape, start=2):
            u = u.narrow(axis, 0, n)
        return u.contiguous()

    def normal(u: Tensor) -> Tensor:
        return functional.pad(physics.A_adjoint_A(inside(u)), pad)

    bound = squared_norm(physics, b).clamp_min(torch.finfo(torch.float64).tiny)
    b = functional.pad(b, pad)
    x = torch.zeros_like(b) if init is None else functional.pad(init, pad)
    nx = normal(x)
    z, nz = x, nx
    momentum = torch.ones_like(bound)
    done = torch.zeros_like(bound, dtype=torch.bool)
    axes = tuple(range(2, b.ndim))
    iterations = 0
    for iteration in range(1, max_iter + 1):
        iterations = iteration
        shift = (0,) * len(axes)
        if generator is not None:
            draws = torch.randint(0, 2**depth, (len(axes),), generator=generator)
            shift = tuple(int(v) for v in draws)
        while True:
            step = row_scale(1 / bound, b)
            v = torch.roll(z - step * (nz - b), shift, axes)
            c = wavelet.soft_threshold(wavelet.forward(v, depth), lam * step, depth)
            new = torch.roll(wavelet.inverse(c, depth), [-s for s in shift], axes)
            n_new = normal(new)
            # descent condition of the quadratic: the curvature along the step is below the bound
            d = new - z
            dd = row_dot(d, d)
            curvature = row_dot(d, n_new - nz) / dd.clamp_min(torch.finfo(torch.float64).tiny)
            # rounding in n_new - nz spoils the quotient of tiny steps
            tiny = dd <= 1e-8 * row_dot(new, new)
            high = ~done & ~tiny & (curvature > bound * (1 + 1e-3))
            if not bool(high.any()):
                break
            bound = torch.where(high, curvature * 1.05, bound)
        change = new - x
        # restart where the momentum points uphill
        uphill = row_dot(z - new, change) > 0
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        weight = torch.where(uphill, 0.0, (momentum - 1) / following)
        momentum = torch.where(uphill, 1.0, following)
        keep = row_scale(done.to(x.dtype), x) > 0
        w = row_scale(weight, x)
        z = torch.where(keep, x, new + w * change)
        nz = torch.where(keep, nx, n_new + w * (n_new - nx))
        x, nx = torch.where(keep, x, new), torch.where(keep, nx, n_new)
        small = row_dot(change, change) <= tol**2 * row_dot(new, new)
        if generator is None:
            done = done | small
        if bool(done.all()):
            break
    return finite(inside(x), "l1_wavelet", iterations)
