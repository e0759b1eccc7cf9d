"""Regularised least squares by conjugate gradients (CG-SENSE for multi-coil MRI)."""

from __future__ import annotations

from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.baselines.common import finite, squared_norm, start
from sciinv.errors import DataError
from sciinv.linalg import conjugate_gradient, row_scale


def cg_sense(
    y: Tensor,
    physics: LinearPhysics,
    *,
    lam: float = 1e-2,
    max_iter: int = 100,
    tol: float = 1e-5,
    init: Tensor | None = None,
) -> Tensor:
    """Minimise ``|A x - y|^2 + lam |A|^2 |x|^2`` by conjugate gradients, each row on its own.

    For multi-coil MRI this is CG-SENSE (Pruessmann et al. 2001, Magn Reson Med 46:638) with
    Tikhonov regularisation; it works for every linear operator.

    :param y: measurement ``(B, *measurement_shape)``.
    :param lam: regularisation relative to the squared norm of A, so that it means the same
        whatever the unit of the measurement; at least 0 (0: CG from zero stopped at ``max_iter``).
    :param tol: a row stops when its normal-equation residual is below ``tol`` of ``|A^T y|``.
    :param init: start image, zero by default.
    :return: ``(B, C, *spatial)``.
    :raises DataError: ``lam`` negative, ``y`` not finite.
    """
    if not 0 <= lam < float("inf"):
        raise DataError("cg_sense", "lam", found=lam, expected="a finite value of at least 0")
    b = start(y, physics, "cg_sense")
    weight = row_scale(lam * squared_norm(physics, b), b)

    def apply(x: Tensor) -> Tensor:
        ax: Tensor = physics.A_adjoint_A(x)
        return ax + weight * x

    x, info = conjugate_gradient(apply, b, init, max_iter=max_iter, tol=tol)
    return finite(x, "cg_sense", info.iterations)
