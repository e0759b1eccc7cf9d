"""Default regularisation weights from the noise level."""

from __future__ import annotations

import math

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.baselines.common import mean_diagonal, positive
from sciinv.errors import IncompatibleError

# Weight over the size of the noise in A^T y, chosen on three real scans. Brain at R = 4: 26.31,
# 26.34 and 26.19 dB at 0.1, 0.3 and 0.4; bottle at R = 4: 36.5 and 36.9 dB at 0.2 and 0.4; tooth,
# 31 views: error on unused views .0218, .0173, .0173 at 0.2, 1 and 3 times the noise in air.
_TV_SHARE = 0.4
_WAVELET_SHARE = 0.35
# Weight over c^2 scale where the data are nearly noiseless: below any useful smoothing, above
# what the iterations resolve.
_FLOOR = 1e-4


def tv_lambda(
    physics: LinearPhysics, sigma: float, scale: float, *, like: Tensor | None = None
) -> float:
    """Default weight of total variation, ``max(0.4 c sigma, 1e-4 c^2 scale)``.

    ``c`` is the root of the mean diagonal of ``A^T A``, so ``c sigma`` is the standard deviation
    of the noise in ``A^T y``: in the unit of the objective's gradient, like the weight. The floor
    keeps some smoothing for noiseless data. Scaling image, measurement, sigma and scale together,
    or operator, measurement and sigma, does not change the image.

    :param sigma: noise standard deviation per real component of the measurement.
    :param scale: typical large value of the image, in its unit.
    :param like: image ``(B, C, *spatial)`` that the operator accepts; made from the operator's
        ``img_size`` by default.
    :return: ``lam`` for :func:`sciinv.baselines.tv` and :func:`~sciinv.baselines.solve_tv`, one
        value for the batch.
    """
    positive("tv_lambda", sigma=sigma, scale=scale)
    return _weight(physics, sigma, scale, like, _TV_SHARE)


def wavelet_lambda(
    physics: LinearPhysics, sigma: float, scale: float, *, like: Tensor | None = None
) -> float:
    """Default weight of the wavelet norm: :func:`tv_lambda` with 0.35 in the place of 0.4.

    :return: ``lam`` for :func:`sciinv.baselines.l1_wavelet`.
    """
    positive("wavelet_lambda", sigma=sigma, scale=scale)
    return _weight(physics, sigma, scale, like, _WAVELET_SHARE)


def _weight(
    physics: LinearPhysics, sigma: float, scale: float, like: Tensor | None, share: float
) -> float:
    image = _image(physics) if like is None else like
    c = math.sqrt(float(mean_diagonal(physics, image).mean()))
    return max(share * c * sigma, _FLOOR * c**2 * scale)


def _image(physics: LinearPhysics) -> Tensor:
    """Return a zero image of the operator's shape, precision and device."""
    shape = getattr(physics, "img_size", None)
    if shape is None:
        raise IncompatibleError(
            f"tv_lambda: {type(physics).__name__} does not say its image's shape (img_size); "
            "pass an image as like="
        )
    buffer = next((b for b in physics.buffers() if b.is_floating_point()), torch.zeros(()))
    batch = int(getattr(physics, "batch", 1))
    return torch.zeros((batch, *shape), dtype=buffer.dtype, device=buffer.device)
