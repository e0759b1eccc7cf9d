"""Similarity as people see it, without the weights of a network."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sciinv.errors import DataError
from sciinv.metrics.arrays import Real, check_range, pair

# contrast at which differences begin to count, of images in 0 ... 255, and slope of the logistic
# function; both fitted by the authors to four databases of people's opinions
_C, _ALPHA = 30.0, 4.2
_SCALES = 3  # the two finest are compared, the third says where people look


def haarpsi(
    image: ArrayLike,
    reference: ArrayLike,
    *,
    data_range: float,
    c: float = _C,
    alpha: float = _ALPHA,
) -> float:
    """Haar wavelet-based perceptual similarity index.

    Reisenhofer, Bosse, Kutyniok, Wiegand 2018 (Signal Process Image Commun 61:33): magnitudes of
    the Haar coefficients of the two finest scales, of the images averaged over 2 x 2 pixels, are
    compared pixel by pixel, and averaged with the coarser magnitude as the weight. It stands in for
    LPIPS, whose network has to be downloaded.

    :param image: ``(H, W)``; complex values are compared by magnitude.
    :param data_range: value that stands for 255, with 0 as black.
    :param c: contrast at which differences begin to count, of 255. The authors fitted 30 to
        photographs; 5, with an ``alpha`` of 4.9, is used for medical images.
    :param alpha: slope of the logistic function.
    :return: 0 to 1, and 1 for equal images. The border counts: outside is black.
    :raises DataError: not two axes, or one shorter than 16 pixels.
    """
    check_range(data_range, "haarpsi")
    a, b, _ = pair(image, reference, None, "haarpsi")
    if a.ndim != 2 or min(a.shape) < 2 ** (_SCALES + 1):
        raise DataError(
            "haarpsi",
            "image",
            found=f"shape {a.shape}",
            expected=f"2 axes of at least {2 ** (_SCALES + 1)}",
        )
    x, y = (_halved(v * (255 / data_range)) for v in (a, b))
    above = below = 0.0
    for axis in (0, 1):
        fine = [(_haar(x, scale, axis), _haar(y, scale, axis)) for scale in range(1, _SCALES)]
        local = sum((2 * p * q + c) / (p**2 + q**2 + c) for p, q in fine) / len(fine)
        weight = np.maximum(_haar(x, _SCALES, axis), _haar(y, _SCALES, axis))
        above += float(np.sum(weight / (1 + np.exp(-alpha * local))))
        below += float(np.sum(weight))
    if below == 0:  # nothing to see in either
        return 1.0
    mean = above / below
    return (math.log(mean / (1 - mean)) / alpha) ** 2


def _halved(x: Real) -> Real:
    """Mean over 2 x 2 pixels of every second pixel."""
    smooth = _box(_box(x, np.array([0.5, 0.5]), 0), np.array([0.5, 0.5]), 1)
    return smooth[::2, ::2]


def _haar(x: Real, scale: int, axis: int) -> Real:
    """Magnitude of the Haar coefficients whose difference is along ``axis``, ``x``'s shape."""
    size = 2**scale
    mean = np.full(size, 1.0)
    step = np.where(np.arange(size) < size // 2, -1.0, 1.0)
    result: Real = np.abs(_box(_box(x, step, axis), mean, 1 - axis)) / size
    return result


def _box(x: Real, taps: Real, axis: int) -> Real:
    """Convolve along one axis, zero outside; output n is centred on input n + 1/2."""
    count, length = len(taps), x.shape[axis]
    before = count // 2 - 1
    padding = [(0, 0), (0, 0)]
    padding[axis] = (before, before + 1)
    padded = np.pad(x, padding)
    return sum(
        (t * np.take(padded, range(k, k + length), axis=axis) for k, t in enumerate(taps[::-1])),
        start=np.zeros(1),
    )
