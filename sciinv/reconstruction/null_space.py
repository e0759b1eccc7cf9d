r"""What the prior added: the part of an image that the measurement does not fix.

Hallucination maps (Bhadra, Kelkar, Brooks and Anastasio, IEEE Trans. Med. Imaging 40:3249, 2021)
split an estimate into :math:`A^+ A x`, which the measurement operator sees, and the rest, which no
measurement of this operator could contradict: it comes from the prior. Without the true object one
cannot tell what of it is wrong, only where it is. A direction that is seen, but with less signal
than noise, is not measured either; so the pseudo-inverse is the regularised one and the part is

.. math:: n = x - (A^T A + \lambda I)^{-1} A^T A x, \qquad \lambda = \sigma^2 / \tau^2,

with the noise level :math:`\sigma` that the samples took and the root mean square :math:`\tau` of
the image. That is the Wiener filter of a white image as bright as this one: a direction of singular
value :math:`s` counts as measured by :math:`s^2 \tau^2 / (s^2 \tau^2 + \sigma^2)`, one half where
signal and noise are equal. For :math:`\sigma \to 0` it is the projection onto the null space.

It is defined for linear measurements. Intensities of a diffraction pattern do not measure phases at
all, and linearised around an image the operator sees that very image (:math:`J^T J x = x` for the
modulus of a whole transform), so that the share would be zero however ambiguous the pattern is:
there is none for diffraction.
"""

from __future__ import annotations

import numpy as np
import torch
from deepinv.physics import LinearPhysics
from numpy.typing import NDArray
from torch import Tensor

from sciinv.linalg import conjugate_gradient
from sciinv.reconstruction.model import Model, middle

# energy shares of CT and MRI after so many products with A^T A: within a tenth of the limit,
# and above it, for what the iteration has not reached counts as the prior's
TOLERANCE = 3e-4
ITERATIONS = 40


def null_space_part(
    physics: LinearPhysics,
    x: Tensor,
    ratio: float,
    *,
    tol: float = TOLERANCE,
    max_iter: int = ITERATIONS,
) -> Tensor:
    """Return ``x - (A^T A + ratio^2)^{-1} A^T A x``.

    :param x: image ``(1, C, *image_shape)``.
    :param ratio: noise level over the root mean square of the image, positive.
    :param tol: residual of conjugate gradients relative to ``A^T A x``.
    :param max_iter: products with ``A^T A`` at most.
    """
    with torch.no_grad():
        seen, _ = conjugate_gradient(
            lambda v: torch.add(physics.A_adjoint_A(v), v, alpha=ratio**2),
            physics.A_adjoint_A(x),
            tol=tol,
            max_iter=max_iter,
        )
        return x - seen


def null_space(model: Model, mean: Tensor) -> NDArray[np.complex64] | NDArray[np.float32] | None:
    """Return the null-space part of the posterior mean in physical units, ``full_shape``.

    :param mean: of the samples in the prior's scale, ``(1, C, *image_shape)``.
    :returns: zero where the data see nothing (all of the image is the prior's there, and masked);
        ``None`` if the measurement is not linear.
    """
    physics = model.physics
    if not isinstance(physics, LinearPhysics):
        return None
    seen = torch.from_numpy(model.visible[middle(model.full_shape, physics.image_shape)])
    values = mean[..., seen].double()
    root = float(values.square().mean().sqrt()) if values.numel() else 0.0
    part = torch.zeros_like(mean)
    if 0 < root < float("inf"):
        part = null_space_part(physics, mean, model.sigma / root)
    return np.where(model.visible, model.to_physical(part)[0], 0)
