r"""What the prior added: the part of an image that the measurement does not fix.

Hallucination maps (Bhadra, Kelkar, Brooks and Anastasio, IEEE Trans. Med. Imaging 40:3249, 2021)
split an estimate into :math:`A^+ A x`, which the measurement operator sees, and the rest, which no
measurement of this operator could contradict: it comes from the prior. Without the true object one
cannot tell what of it is wrong, only where it is. A direction that is seen, but with less signal
than noise, is not measured either; so the pseudo-inverse is the regularised one and the part is

.. math:: n = x - (A^T A + \sigma^2 C^{-1})^{-1} A^T A x,

with the noise level :math:`\sigma` that the samples took and the power :math:`C` that the image
itself has at each spatial frequency (averaged over directions). That is the Wiener filter of images
of this spectrum: a direction of singular value :math:`s` and power :math:`c` counts as measured by
:math:`s^2 c / (s^2 c + \sigma^2)`, one half where signal and noise are equal. For
:math:`\sigma \to 0` it is a projection along the null space.

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

# energy shares of CT and MRI after so many products with A^T A: within a tenth of the limit, and
# above it, for what the iteration has not reached counts as the prior's
TOLERANCE = 3e-4
ITERATIONS = 40
# a power so much below the largest is rounding
_LEAST_POWER = 1e-9
_LEAST_SYMBOL = 1e-3


def null_space_part(
    physics: LinearPhysics,
    x: Tensor,
    sigma: float,
    power: Tensor,
    *,
    tol: float = TOLERANCE,
    max_iter: int = ITERATIONS,
) -> Tensor:
    """Return ``x - (A^T A + sigma^2 C^{-1})^{-1} A^T A x``.

    Conjugate gradients, preconditioned in the Fourier domain by the mean response of ``A^T A`` at
    each frequency.

    :param x: image ``(1, C, *image_shape)``.
    :param sigma: noise level, positive.
    :param power: of a real component at every frequency, positive, ``image_shape`` in the order of
        ``fftn``; ``C`` is the convolution that it stands for.
    :param tol: residual relative to the right-hand side, both preconditioned.
    :param max_iter: products with ``A^T A`` at most.
    """
    with torch.no_grad():
        ratio = sigma**2 / power
        half = (_response(physics, x) + ratio).rsqrt()

        def apply(w: Tensor) -> Tensor:
            u = _filter(w, half)
            return _filter(physics.A_adjoint_A(u) + _filter(u, ratio), half)

        w, _ = conjugate_gradient(
            apply, _filter(physics.A_adjoint_A(x), half), tol=tol, max_iter=max_iter
        )
        return x - _filter(w, half)


def spectrum(x: Tensor, share: float = 1.0) -> Tensor:
    """Power of a real component at every frequency, averaged over directions, ``image_shape``.

    :param x: image ``(1, C, *image_shape)``.
    :param share: of the image where it is not empty: the power is that of the object.
    """
    power = _transform(x).abs().square().mean((0, 1))
    mean = _by_radius(power, torch.ones_like(power)) / share
    return mean.clamp_min(_LEAST_POWER * float(mean.max()))


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
    inside = torch.where(seen, mean, 0.0)
    part = torch.zeros_like(mean)
    if bool(inside.isfinite().all()) and bool(inside.any()):
        power = spectrum(inside, float(seen.double().mean()))
        part = null_space_part(physics, mean, model.sigma, power)
    return np.where(model.visible, model.to_physical(part)[0], 0)


def _response(physics: LinearPhysics, like: Tensor) -> Tensor:
    """Mean of ``A^T A`` at every frequency, by one random probe; positive."""
    generator = torch.Generator().manual_seed(0)
    probe = (2 * torch.randint(0, 2, like.shape, generator=generator) - 1).to(like)
    before, after = _transform(probe), _transform(physics.A_adjoint_A(probe))
    product = (after * before.conj()).real.mean((0, 1))
    response = _by_radius(product, before.abs().square().mean((0, 1)))
    return response.clamp_min(max(_LEAST_SYMBOL * float(response.max()), 1e-30))


def _axes(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _transform(x: Tensor) -> Tensor:
    return torch.fft.fftn(x, dim=_axes(x), norm="ortho")


def _filter(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply by a real symmetric weight in the Fourier domain."""
    return torch.fft.ifftn(torch.fft.fftn(x, dim=_axes(x)) * weight, dim=_axes(x)).real


def _by_radius(values: Tensor, weights: Tensor) -> Tensor:
    """Sum of values over that of weights in shells of frequency, at every frequency."""
    shape = values.shape
    grid = torch.meshgrid(*[torch.fft.fftfreq(n) for n in shape], indexing="ij")
    radius = torch.stack(grid).square().sum(0).sqrt() * max(shape)
    shell = radius.round().long().flatten()
    count = int(shell.max()) + 1
    total, weight = (
        torch.zeros(count, dtype=v.dtype).index_add_(0, shell, v.flatten().cpu())
        for v in (values, weights)
    )
    return (total / weight.clamp_min(1e-30))[shell].reshape(shape).to(values)
