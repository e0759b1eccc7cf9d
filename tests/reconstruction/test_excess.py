from __future__ import annotations

import numpy as np

from sciinv.reconstruction.excess import excess_by_radius


def test_finds_the_level_of_every_radius():
    rng = np.random.default_rng(0)
    radius = rng.uniform(0, 90, 40_000)
    level = 1 + 9 * np.exp(-radius / 10)
    square = (level * rng.standard_normal(radius.size)) ** 2
    found = excess_by_radius(square, np.ones(1), radius)
    # 1700 samples a shell: the root mean square is known to 1.7 %; where the level changes by a
    # factor of 1.4 within the innermost shell its middle is right on average only
    outside = radius > 5
    assert np.abs(found / level - 1)[outside].max() < 0.08
    assert found.min() >= 1


def test_unmeasured_samples_and_small_expectations_do_not_count():
    radius = np.linspace(0, 50, 4000)
    square = np.full(4000, np.nan)
    assert (excess_by_radius(square, np.ones(4000), radius) == 1).all()
    square[:2000] = 0.04  # hardly a photon is expected, and hardly one came
    found = excess_by_radius(square, np.full(4000, 0.01), radius)
    np.testing.assert_allclose(found, 2.0)
    # a perfect fit does not lower the level
    assert (excess_by_radius(np.zeros(4000), np.ones(4000), radius) == 1).all()


def test_few_samples_are_one_shell():
    found = excess_by_radius(np.array([9.0, 9.0, 9.0]), np.ones(3), np.arange(3.0))
    np.testing.assert_allclose(found, 3.0)
