"""SIRT, the simultaneous iterative reconstruction technique of CT."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.baselines.common import finite, start
from sciinv.errors import DataError, IncompatibleError


def sirt(
    y: Tensor,
    physics: LinearPhysics,
    *,
    iterations: int = 100,
    nonneg: bool = False,
    init: Tensor | None = None,
) -> Tensor:
    """SIRT: ``x <- x + C A^T R (y - A x)`` with ``R = 1 / (A 1)`` and ``C = 1 / (A^T 1)``.

    It goes to the minimiser of ``(A x - y)^T R (A x - y)`` (Gregor and Benson 2008, IEEE Trans
    Med Imaging 27:918); stopping early regularises. Rays that miss the image and pixels that no
    ray crosses have weight zero: such pixels keep their start value.

    :param y: sinogram ``(B, 1, angles, detectors)`` or stack ``(B, 1, D, angles, detectors)``.
    :param iterations: number of sweeps.
    :param nonneg: set negative values to zero after every sweep.
    :param init: start image, zero by default.
    :return: ``(B, 1, *spatial)``, in 1/mm for line integrals in mm.
    :raises IncompatibleError: the row or column sums of A are not those of a non-negative
        operator (complex MRI, for example).
    """
    if iterations < 0:
        raise DataError("sirt", "iterations", found=iterations, expected="at least 0")
    b = start(y, physics, "sirt")
    if b.shape[1] != 1:
        raise IncompatibleError(
            f"sirt: found images with {b.shape[1]} channels, expected real ones of a "
            "non-negative operator (CT); use sciinv.baselines.cg_sense"
        )
    rows = physics.A(torch.ones_like(b))
    columns = physics.A_adjoint(torch.ones_like(y))
    for what, sums in (("row", rows), ("column", columns)):
        if float(sums.min()) < -1e-6 * float(sums.abs().max()):
            raise IncompatibleError(f"sirt: found negative {what} sums, expected a non-negative A")
    ray_weight, pixel_weight = _inverse(rows), _inverse(columns)
    x = torch.zeros_like(b) if init is None else init.clone()
    for _ in range(iterations):
        x = x + pixel_weight * physics.A_adjoint(ray_weight * (y - physics.A(x)))
        if nonneg:
            x = x.clamp_min(0)
    return finite(x, "sirt", iterations)


def _inverse(sums: Tensor) -> Tensor:
    """Return 1 / sums, zero where a sum is zero up to rounding."""
    floor = 1e-6 * float(sums.max())
    return torch.where(sums > floor, 1 / sums.clamp_min(max(floor, 1e-30)), 0.0)
