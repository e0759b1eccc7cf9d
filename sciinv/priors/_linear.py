"""Exact linear-Gaussian algebra behind the posteriors of the analytic priors, in float64.

The prior covariance is held as a factor, C = L L^T with L ``(n, r)``, so that singular priors
need no care, and only ``A L`` is ever formed: the operator's adjoint is not used, and data may be
many times longer than the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from deepinv.utils import TensorList
from torch import Tensor

from sciinv.capabilities import Capability, operator_capabilities
from sciinv.errors import GeometryError, IncompatibleError

if TYPE_CHECKING:
    from deepinv.physics import Physics

#: largest image (in real components) for which posteriors are made with dense matrices
MAX_DENSE = 5000
# columns pushed through an operator at a time
_BLOCK = 256


class Update(NamedTuple):
    """Posterior N(mean, F F^T) of one scan: ``(n,)``, ``(n, r)``, and log p(y), a scalar."""

    mean: Tensor
    factor: Tensor
    log_evidence: Tensor


class Whitened(NamedTuple):
    """What the update shares between measurements of one operator and one noise level."""

    columns: Tensor  # A L, (m, r)
    cholesky: Tensor  # of I + (A L)^T (A L) / sigma^2, (r, r) lower
    factor: Tensor  # L R^-T, a square root of the posterior covariance, (n, r)


def whiten(columns: Tensor, factor: Tensor, sigma: float) -> Whitened:
    """Prepare the update: ``columns`` is A L ``(m, r)``, ``factor`` is L ``(n, r)``."""
    gram = columns.T @ columns / sigma**2
    gram.diagonal().add_(1.0)
    cholesky = torch.linalg.cholesky(gram)
    root = torch.linalg.solve_triangular(cholesky, factor.T, upper=False).T
    return Whitened(columns, cholesky, root)


def update(w: Whitened, mean: Tensor, residual: Tensor, sigma: float) -> Update:
    """Condition N(mean, L L^T) on y = A x + sigma n, given ``residual`` = y - A mean.

    log p(y) follows from the matrix determinant lemma and the Woodbury identity.
    """
    u = torch.linalg.solve_triangular(
        w.cholesky, (w.columns.T @ residual)[:, None] / sigma**2, upper=False
    )[:, 0]
    m = residual.numel()
    quadratic = residual.dot(residual) / sigma**2 - u.dot(u)
    log_det = m * math.log(sigma**2) + 2 * w.cholesky.diagonal().log().sum()
    log_evidence = -0.5 * (quadratic + log_det + m * math.log(2 * math.pi))
    return Update(mean + w.factor @ u, w.factor, log_evidence)


def check_size(n: int, what: str) -> None:
    """Refuse dense matrices of more than ``MAX_DENSE`` rows."""
    if n > MAX_DENSE:
        raise IncompatibleError(
            f"{what}: the image has {n} real components; dense {n} x {n} matrices are made up to "
            f"{MAX_DENSE} only, so take a smaller image for exact posteriors"
        )


def flatten_measurement(y: Tensor | TensorList) -> Tensor:
    """Flatten a measurement, or a stack of them, to ``(B, m)`` real float64."""
    parts = y.x if isinstance(y, TensorList) else [y]
    flat = []
    for part in parts:
        real = torch.view_as_real(part) if part.is_complex() else part
        flat.append(real.flatten(1).double())
    return torch.cat(flat, dim=1)


def apply_columns(physics: Physics, columns: Tensor) -> Tensor:
    """Push images through a linear operator in blocks: ``(r, C, *spatial) -> (r, m)`` float64.

    float64 is tried first; operators that insist on their own dtype get float32.
    """
    out = []
    dtype = torch.float64
    for block in columns.split(_BLOCK):
        try:
            y = physics.A(block.to(dtype))
        except (RuntimeError, TypeError):
            if dtype == torch.float32:
                raise
            dtype = torch.float32
            y = physics.A(block.to(dtype))
        out.append(flatten_measurement(y))
    return torch.cat(out)


def measured(physics: Physics) -> Tensor | None:
    """Return which components of a flattened measurement exist, ``(m,)`` bool; None: all."""
    mask = getattr(physics, "measurement_mask", None)
    if mask is None:
        return None
    keep: Tensor = (mask != 0).expand(1, *physics.measurement_shape).reshape(-1)
    return keep.cpu()


def single_operators(physics: Physics, batch: int) -> list[Physics]:
    """Return the operator of each scan, or a list of one if all scans share it."""
    if Capability.LINEAR not in operator_capabilities(physics):
        raise IncompatibleError(
            f"{type(physics).__name__} is not a linear operator; the posterior of an analytic "
            "prior has a closed form for linear operators only"
        )
    own = int(getattr(physics, "batch", 1))
    if own == 1:
        return [physics]
    if own != batch:
        raise GeometryError(f"posterior: found {batch} measurements and an operator for {own}")
    return [physics.rows(torch.tensor([i])) for i in range(own)]


def noise_level(physics: Physics, sigma: Tensor | float | None, batch: int) -> Tensor:
    """Return the noise standard deviation of each scan, ``(B,)`` float64.

    :param sigma: level per real component, scalar or ``(B,)``; ``None`` reads the operator's
        ``noise_model``.
    :raises IncompatibleError: if it is neither given nor known, or not positive.
    """
    if sigma is None:
        from deepinv.physics import GaussianNoise

        model = getattr(physics, "noise_model", None)
        if not isinstance(model, GaussianNoise):
            raise IncompatibleError(
                "the noise level is unknown: pass sigma= or set "
                "physics.noise_model = deepinv.physics.GaussianNoise(sigma)"
            )
        sigma = model.sigma
    level = torch.as_tensor(sigma, dtype=torch.float64).detach().cpu().reshape(-1)
    if level.numel() not in (1, batch):
        raise GeometryError(f"sigma: found {level.numel()} values, expected 1 or {batch}")
    if not bool((level > 0).all() & level.isfinite().all()):
        raise IncompatibleError(f"sigma: found {level.tolist()}, expected positive finite numbers")
    return level.expand(batch)


def condition(
    y: Tensor | TensorList,
    physics: Physics,
    sigma: Tensor | float | None,
    means: Tensor,
    factors: Sequence[Tensor],
    image_size: Sequence[int],
) -> list[list[Update]]:
    """Condition every component N(means[k], L_k L_k^T) on every scan.

    :param y: measurement, batch first.
    :param means: ``(K, n)`` float64.
    :param factors: the L_k, ``(n, r)``; the same object twice is worked out once.
    :param image_size: ``(C, *spatial)``.
    :return: ``[scan][component]``.
    """
    flat = flatten_measurement(y).cpu()
    batch = flat.shape[0]
    levels = noise_level(physics, sigma, batch)
    operators = single_operators(physics, batch)
    device = means.device
    prepared: list[tuple[Tensor | None, Tensor, dict[int, Tensor]]] = []
    with torch.no_grad():
        for op in operators:
            projected = apply_columns(op, means.reshape(-1, *image_size)).cpu()
            columns = {
                id(factor): apply_columns(op, factor.T.reshape(-1, *image_size)).cpu().T
                for factor in {id(f): f for f in factors}.values()
            }
            prepared.append((measured(op), projected, columns))
    if prepared[0][1].shape[1] != flat.shape[1]:
        raise GeometryError(
            f"posterior: found {flat.shape[1]} real measured components, expected "
            f"{prepared[0][1].shape[1]} from {type(physics).__name__}"
        )
    cache: dict[tuple[int, int, float], tuple[Whitened, Tensor]] = {}
    result = []
    for i in range(batch):
        which = i if len(prepared) > 1 else 0
        keep, projected, columns = prepared[which]
        level = float(levels[i])
        rows = slice(None) if keep is None else keep
        row = []
        for k, factor in enumerate(factors):
            key = (which, id(factor), level)
            if key not in cache:
                whitened = whiten(columns[id(factor)][rows], factor.cpu(), level)
                cache[key] = whitened, whitened.factor.to(device)
            whitened, root = cache[key]
            u = update(whitened, means[k].cpu(), flat[i, rows] - projected[k, rows], level)
            # scans that share a factor get the same tensor, which is how callers tell
            row.append(Update(u.mean.to(device), root, u.log_evidence.to(device)))
        result.append(row)
    return result
