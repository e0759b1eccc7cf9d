"""Pixelwise distance to a reference."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sciinv.errors import DataError
from sciinv.metrics.arrays import check_range, pair


def psnr(
    image: ArrayLike, reference: ArrayLike, *, data_range: float, mask: ArrayLike | None = None
) -> float:
    """Peak signal-to-noise ratio ``10 log10(data_range^2 / mean squared error)`` in dB.

    :param image: one image or volume; complex values are compared by magnitude.
    :param data_range: peak value, always explicit: the same image has another PSNR for another.
    :param mask: pixels that count.
    :return: dB; infinite for equal images.
    """
    check_range(data_range, "psnr")
    a, b, m = pair(image, reference, mask, "psnr")
    mse = float(np.mean((a[m] - b[m]) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(data_range**2 / mse)


def nrmse(image: ArrayLike, reference: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """Norm of the error over the norm of the reference, ``|x - r| / |r|``.

    :raises DataError: the reference is zero where it counts.
    """
    a, b, m = pair(image, reference, mask, "nrmse")
    size = float(np.linalg.norm(b[m]))
    if size == 0:
        raise DataError("nrmse", "reference", found="only zeros", expected="a value that is not")
    return float(np.linalg.norm(a[m] - b[m])) / size
