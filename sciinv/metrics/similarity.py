"""Structural similarity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sciinv.errors import DataError
from sciinv.metrics.arrays import Real, check_range, pair

_RADIUS = 5
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def ssim(
    image: ArrayLike, reference: ArrayLike, *, data_range: float, mask: ArrayLike | None = None
) -> float:
    """Mean structural similarity, with the Gaussian window of the paper.

    Wang et al. 2004 (IEEE Trans Image Process 13:600): window of 11 samples per axis, standard
    deviation 1.5, K1 = 0.01, K2 = 0.03, population variances, and only windows that lie inside the
    image. Images of three axes are volumes with an 11-cubed window; for slices call it per slice.

    :param image: ``(H, W)`` or ``(D, H, W)``, at least 11 along each axis; complex values are
        compared by magnitude.
    :param data_range: peak value in the constants ``(K data_range)^2``.
    :param mask: centres of the windows that count, for example the object.
    :return: at most 1.
    :raises DataError: an axis is too short, or no window's centre is in the mask.
    """
    check_range(data_range, "ssim")
    a, b, m = pair(image, reference, mask, "ssim")
    size = 2 * _RADIUS + 1
    if a.ndim not in (2, 3) or min(a.shape) < size:
        raise DataError(
            "ssim", "image", found=f"shape {a.shape}", expected=f"2 or 3 axes of at least {size}"
        )
    inner = m[(slice(_RADIUS, -_RADIUS),) * m.ndim]
    if not inner.any():
        raise DataError(
            "ssim",
            "mask",
            found=f"only pixels within {_RADIUS} of the edge",
            expected="a pixel whose window lies inside the image",
        )
    return float(ssim_map(a, b, data_range)[inner].mean())


def ssim_map(a: Real, b: Real, data_range: float) -> Real:
    """Similarity of every window that lies inside; each axis is 10 shorter than the image."""
    # variances as differences of moments cancel for images with an offset: take out the mean
    offset = (a.mean() + b.mean()) / 2
    mean_a, mean_b = _smooth(a - offset), _smooth(b - offset)
    var_a = _smooth((a - offset) ** 2) - mean_a**2
    var_b = _smooth((b - offset) ** 2) - mean_b**2
    cov = _smooth((a - offset) * (b - offset)) - mean_a * mean_b
    mean_a, mean_b = mean_a + offset, mean_b + offset
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance: Real = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure: Real = (2 * cov + c2) / (var_a + var_b + c2)
    result: Real = luminance * structure
    return result


def _smooth(x: Real) -> Real:
    """Gaussian window along every axis, only where it fits."""
    taps = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1) ** 2) / (2 * _SIGMA**2))
    taps /= taps.sum()
    for axis in range(x.ndim):
        n = x.shape[axis] - 2 * _RADIUS
        x = sum(
            (t * np.take(x, range(k, k + n), axis=axis) for k, t in enumerate(taps)),
            start=np.zeros(1),
        )
    return x
