"""Distances between sets of samples and within one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sciinv.errors import DataError
from sciinv.metrics.arrays import Real, check_range, selection, stack


def sliced_wasserstein(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    *,
    projections: int = 256,
    order: int = 1,
) -> float:
    """Sliced Wasserstein distance between two sets of samples.

    ``(mean over random directions of W_p^p of the projections)^(1/p)`` (Bonneel et al. 2015, J Math
    Imaging Vis 51:22), with the exact one-dimensional distance; the sets may differ in size. Equal
    distributions have a positive distance of order ``1/sqrt(samples)``: compare with two halves of
    one set.

    :param a: ``(n, ...)``; complex values by magnitude.
    :param b: ``(m, ...)`` with the same shape of one sample.
    :param rng: draws the directions, uniform on the sphere.
    :param projections: number of directions.
    :param order: p, 1 or 2.
    :return: in the unit of the samples; of one coordinate's size: in d dimensions a shift by
        vector v gives about ``|v| sqrt(2 / (pi d))`` at order 1 and ``|v| / sqrt(d)`` at order 2.
    """
    if order not in (1, 2) or projections < 1:
        raise DataError(
            "sliced_wasserstein",
            found=f"order={order}, projections={projections}",
            expected="order 1 or 2 and at least one projection",
        )
    x = stack(a, "sliced_wasserstein", least=1)
    y = stack(b, "sliced_wasserstein", least=1)
    if x.shape[1:] != y.shape[1:]:
        raise DataError(
            "sliced_wasserstein", "b", found=f"shape {y.shape}", expected=f"(m, *{x.shape[1:]})"
        )
    x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    # one dimension has a single direction: no noise from drawing it
    directions = np.ones((1, 1)) if x.shape[1] == 1 else rng.normal(size=(projections, x.shape[1]))
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    total = 0.0
    for block in np.array_split(directions, -(-len(directions) // 64)):
        total += float(_wasserstein_power(x @ block.T, y @ block.T, order).sum())
    return float((total / len(directions)) ** (1 / order))


def _wasserstein_power(x: Real, y: Real, order: int) -> Real:
    """``W_p^p`` of each column pair: integral of |difference of the quantile functions|^p."""
    n, m = len(x), len(y)
    x, y = np.sort(x, axis=0), np.sort(y, axis=0)
    # quantile functions are constant between the merged levels i/n and j/m; integers avoid
    # comparing fractions that are equal but for rounding
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    widths = np.diff(levels) / (n * m)
    i, j = levels[:-1] // m, levels[:-1] // n
    power: Real = widths @ np.abs(x[i] - y[j]) ** order
    return power


def pairwise_diversity(
    samples: ArrayLike, *, data_range: float, mask: ArrayLike | None = None
) -> float:
    """Root-mean-square difference between pixels of two different samples, over the range.

    Over all pairs; it is ``sqrt(2)`` times the root of the mean (unbiased) pixel variance.

    :param samples: ``(S, *shape)``, S at least 2; complex values by magnitude.
    :param data_range: peak value that the difference is measured by.
    :param mask: ``shape``, pixels that count.
    """
    check_range(data_range, "pairwise_diversity")
    s = stack(samples, "pairwise_diversity", least=2)
    m = selection(mask, s.shape[1:], "pairwise_diversity")
    variance = s[:, m].var(axis=0, ddof=1).mean()
    return float(np.sqrt(2 * variance)) / data_range
