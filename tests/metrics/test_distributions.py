"""Sliced Wasserstein distances against SciPy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from sciinv.errors import DataError
from sciinv.metrics import pairwise_diversity, sliced_wasserstein


@pytest.mark.parametrize(("n", "m"), [(50, 50), (37, 50), (1, 9)])
def test_one_dimension_matches_scipy(n, m):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(n, 1)), rng.exponential(size=(m, 1))
    ours = sliced_wasserstein(a, b, rng)
    assert ours == pytest.approx(wasserstein_distance(a[:, 0], b[:, 0]), rel=1e-12)


def test_many_dimensions_match_scipy_along_the_same_directions():
    a = np.random.default_rng(1).normal(size=(40, 3, 2))
    b = np.random.default_rng(2).normal(size=(25, 3, 2)) * 2
    ours = sliced_wasserstein(a, b, np.random.default_rng(3), projections=100)
    directions = np.random.default_rng(3).normal(size=(100, 6))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    theirs = np.mean(
        [wasserstein_distance(a.reshape(40, 6) @ u, b.reshape(25, 6) @ u) for u in directions]
    )
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_shift_in_closed_form():
    rng = np.random.default_rng(4)
    d, count = 5, 4000
    a = rng.normal(size=(30, d))
    v = rng.normal(size=d)
    size = np.linalg.norm(v)
    # a shift moves every projection by <v, u>; <v, u>^2 has mean |v|^2 / d and, for u uniform on
    # the sphere, variance 2 (d - 1) / (d^2 (d + 2)) |v|^4
    second = sliced_wasserstein(a, a + v, rng, projections=count, order=2) ** 2
    error = size**2 * math.sqrt(2 * (d - 1) / (d**2 * (d + 2)) / count)
    assert abs(second - size**2 / d) < 4 * error
    first = sliced_wasserstein(a, a + v, rng, projections=count)
    mean = size * math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    assert abs(first - mean) < 4 * math.sqrt((size**2 / d - mean**2) / count)
    assert sliced_wasserstein(a, a[::-1], rng) == 0.0


def test_order_two_of_unequal_sizes():
    # quantile functions 0 | 3 and 0 | 0 | 6: differences 0, 0 | 3, 6-3 on sixths 2, 1, 1, 2
    a, b = np.array([[0.0], [3.0]]), np.array([[0.0], [0.0], [6.0]])
    expected = math.sqrt((2 * 0 + 1 * 0 + 1 * 9 + 2 * 9) / 6)
    assert sliced_wasserstein(a, b, np.random.default_rng(0), order=2) == pytest.approx(expected)


def test_pairwise_diversity_is_the_mean_over_pairs():
    s = np.random.default_rng(5).normal(size=(5, 4, 3))
    mask = np.ones((4, 3), bool)
    mask[0] = False
    pairs = [np.mean((s[i] - s[j])[mask] ** 2) for i in range(5) for j in range(i)]
    expected = math.sqrt(np.mean(pairs)) / 2.5
    assert pairwise_diversity(s, data_range=2.5, mask=mask) == pytest.approx(expected)
    assert pairwise_diversity(s[[0, 0]], data_range=1.0) == 0.0


def test_refusals():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="shape"):
        sliced_wasserstein(np.zeros((3, 2)), np.zeros((3, 4)), rng)
    with pytest.raises(DataError, match="order=3"):
        sliced_wasserstein(np.zeros((3, 2)), np.zeros((3, 2)), rng, order=3)
    with pytest.raises(DataError, match="at least 2"):
        pairwise_diversity(np.zeros((1, 3)), data_range=1.0)
