"""SIRT against its weighted least-squares fixed point."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv.baselines import sirt
from sciinv.errors import IncompatibleError


@pytest.fixture
def ray_problem(dense):
    rng = np.random.default_rng(0)
    # every pixel has rays of its own: well conditioned, so that few sweeps converge
    m = 3 * np.eye(12)[np.arange(40) % 12] + rng.uniform(size=(40, 12))
    m[7] = 0  # a ray that misses
    y = torch.as_tensor(rng.normal(size=(2, 40)))
    return dense(torch.as_tensor(m[None]), (4, 3)), y


def test_fixed_point_is_weighted_least_squares(ray_problem):
    physics, y = ray_problem
    x = sirt(y, physics, iterations=600).flatten(1)
    m = physics.matrix[0]
    weights = torch.where(m.sum(1) > 0, 1 / m.sum(1), 0.0)
    root = weights.sqrt()[:, None]
    truth = torch.linalg.lstsq(root * m, root * y.T).solution.T
    torch.testing.assert_close(x, truth, rtol=1e-8, atol=1e-8)


def test_underdetermined_limit_has_the_least_weighted_norm(dense):
    rng = np.random.default_rng(1)
    matrix = torch.as_tensor(rng.uniform(size=(1, 4, 20)) + 2 * np.eye(4)[:, np.arange(20) % 4])
    y = torch.as_tensor(rng.uniform(size=(1, 4)))
    x = sirt(y, dense(matrix, (5, 4)), iterations=600).flatten()
    # from zero the iterates lie in C A^T R^m: the consistent solution of least C^-1 norm
    c = 1 / matrix[0].sum(0)
    truth = c * (matrix[0].T @ torch.linalg.solve((matrix[0] * c) @ matrix[0].T, y[0]))
    torch.testing.assert_close(x, truth, rtol=1e-8, atol=1e-8)


def test_one_sweep_by_hand(dense):
    m = torch.tensor([[[1.0, 1, 0, 0], [0, 1, 1, 0]]], dtype=torch.float64)
    x = sirt(torch.tensor([[4.0, 8.0]], dtype=torch.float64), dense(m, (2, 2)), iterations=1)
    # rays carry 4/2 and 8/2; the second pixel sees both, the last none
    expected = torch.tensor([[2.0, 3.0], [4.0, 0.0]]).double()
    torch.testing.assert_close(x[0, 0], expected)


def test_nonneg_satisfies_the_optimality_conditions(ray_problem):
    physics, y = ray_problem
    x = sirt(y, physics, iterations=600, nonneg=True).flatten(1)
    m = physics.matrix[0]
    weights = torch.where(m.sum(1) > 0, 1 / m.sum(1), 0.0)
    slope = (weights * (x @ m.T - y)) @ m
    assert float(x.min()) == 0.0
    assert float(slope.min()) > -1e-9
    assert float((slope * x).abs().max()) < 1e-9


def test_refuses_signed_and_complex_operators(random_problem):
    physics, y = random_problem((5, 5))
    with pytest.raises(IncompatibleError, match="negative row sums"):
        sirt(y, physics)
    physics, y = random_problem((5, 5), channels=2)
    with pytest.raises(IncompatibleError, match="channels"):
        sirt(y, physics)
