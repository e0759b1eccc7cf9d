"""Coverage of exchangeable samples is exact, whatever their number and distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sciinv.errors import DataError
from sciinv.metrics import (
    calibration_curve,
    chi_squared,
    coverage,
    error_over_std,
    normal_curve,
)


@pytest.mark.parametrize("count", [3, 8, 31])
@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_exact_samples_are_calibrated(count, draw):
    rng = np.random.default_rng(count)
    n = 5000
    everything = getattr(rng, draw)(size=(count + 1, n))
    nominal, observed = calibration_curve(everything[1:], everything[0])
    assert len(nominal) == count // 2
    error = np.sqrt(nominal * (1 - nominal) / n)
    # 4 standard errors over at most 15 correlated levels
    assert (np.abs(observed - nominal) < 4 * error).all()


def test_interpolated_level_of_uniform_samples():
    # between order statistics of the uniform distribution linear interpolation is exact in mean
    rng = np.random.default_rng(0)
    n = 20000
    samples, truth = rng.uniform(size=(30, n)), rng.uniform(size=n)
    assert abs(coverage(samples, truth, level=0.85) - 0.85) < 4 * math.sqrt(0.85 * 0.15 / n)


def test_narrow_samples_are_caught():
    rng = np.random.default_rng(1)
    samples, truth = 0.5 * rng.normal(size=(99, 20000)), rng.normal(size=20000)
    # half the spread: the 90 % interval is +-0.822 standard deviations of the truth
    expected = math.erf(0.5 * 1.6449 / math.sqrt(2))
    assert coverage(samples, truth) == pytest.approx(expected, abs=0.02)


def test_by_hand_and_mask():
    samples = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    truth = np.array([2.5, 3.5])
    assert coverage(samples, truth, level=0.5) == 0.5
    assert coverage(samples, truth, level=0.5, mask=[True, False]) == 1.0


def test_levels_beyond_the_samples_are_refused():
    samples, truth = np.zeros((8, 4)), np.zeros(4)
    with pytest.raises(DataError, match="0.778 for 8 samples; a level of 0.9 needs 19"):
        coverage(samples, truth, level=0.9)
    assert coverage(np.zeros((19, 4)), truth, level=0.9) == 1.0
    with pytest.raises(DataError, match="expected"):
        coverage(samples, np.zeros(5), level=0.5)


@pytest.mark.parametrize("count", [2, 4, 19])
def test_normal_curve_of_few_exact_samples_is_the_diagonal(count):
    rng = np.random.default_rng(count)
    n = 20000
    mean, spread = rng.normal(size=n), rng.uniform(0.5, 2, n)
    everything = mean + spread * rng.normal(size=(count + 1, n))
    nominal, observed = normal_curve(everything[1:], everything[0])
    assert (np.abs(observed - nominal) < 4 * np.sqrt(nominal * (1 - nominal) / n)).all()


def test_a_factor_mends_narrow_samples():
    rng = np.random.default_rng(3)
    samples, truth = 0.5 * rng.normal(size=(8, 20000)), rng.normal(size=20000)
    # the mean of 8 narrow samples errs less: variance 1 + 0.25 / 8 against 0.25 + 0.25 / 8
    true = math.sqrt((1 + 0.25 / 8) / (0.25 * (1 + 1 / 8)))
    assert error_over_std(samples, truth) == pytest.approx(true, rel=0.02)
    _, observed = normal_curve(samples, truth, levels=[0.9], factor=true)
    assert observed[0] == pytest.approx(0.9, abs=0.01)
    assert normal_curve(samples, truth, levels=[0.9])[1][0] < 0.7


def test_normal_curve_by_hand_mask_and_refusals():
    samples = np.array([[1.0, 1.0], [3.0, 3.0]])  # mean 2, std sqrt(2), t of 0.5 and one degree: 1
    reach = math.sqrt(1.5) * math.sqrt(2)
    truth = np.array([2 + 0.99 * reach, 2 + 1.01 * reach])
    assert normal_curve(samples, truth, levels=[0.5])[1][0] == 0.5
    assert normal_curve(samples, truth, levels=[0.5], mask=[True, False])[1][0] == 1.0
    assert error_over_std(np.ones((2, 2)), truth) == math.inf
    with pytest.raises(DataError, match="between 0 and 1"):
        normal_curve(samples, truth, levels=[0.5, 1.0])
    with pytest.raises(DataError, match="positive"):
        normal_curve(samples, truth, factor=0.0)


def test_chi_squared():
    n, sigma = 5000, 0.3
    residual = sigma * np.random.default_rng(2).normal(size=n)
    value = chi_squared(float(np.linalg.norm(residual)), n, sigma=sigma)
    assert abs(value - 1) < 4 * math.sqrt(2 / n)
    assert chi_squared(6.0, 4, sigma=1.5) == pytest.approx(4.0)
    with pytest.raises(DataError, match="count=0"):
        chi_squared(1.0, 0)
