"""Regularised least squares against a dense solve."""

from __future__ import annotations

import pytest
import torch

from sciinv.baselines import cg_sense
from sciinv.baselines.common import mean_diagonal, squared_norm
from sciinv.errors import DataError, IncompatibleError


@pytest.mark.parametrize(("shape", "channels"), [((6, 5), 1), ((5, 6), 2), ((3, 4, 4), 2)])
def test_matches_dense_solve(random_problem, shape, channels):
    physics, y = random_problem(shape, channels=channels, rows=2)
    m = physics.matrix[0]
    norm2 = torch.linalg.matrix_norm(m, 2) ** 2
    lam = 0.03
    # the norm is an estimate from below: checked here to 1 %, then used as it is
    weight = lam * squared_norm(physics, physics.A_adjoint(y))[0]
    assert weight == pytest.approx(float(lam * norm2), rel=0.01)
    x = cg_sense(y, physics, lam=lam, max_iter=500, tol=1e-12)
    truth = torch.linalg.solve(m.T @ m + weight * torch.eye(m.shape[1]).double(), (y @ m).T).T
    torch.testing.assert_close(x.flatten(1), truth, rtol=1e-9, atol=1e-9)


def test_lam_means_the_same_at_any_scale(random_problem, dense):
    physics, y = random_problem((6, 6))
    x = cg_sense(y, physics, lam=0.02, max_iter=500, tol=1e-12)
    loud = dense(1e3 * physics.matrix, physics.image_shape)
    torch.testing.assert_close(cg_sense(1e3 * y, loud, lam=0.02, max_iter=500, tol=1e-12), x)


def test_rows_have_their_own_operator_and_stopping(random_problem):
    physics, y = random_problem((5, 5), rows=3, matrices=3)
    gains = torch.tensor([[1.0], [1e4], [1e-4]], dtype=torch.float64)
    together = cg_sense(gains * y, physics, lam=1e-3, tol=1e-11)
    for row, gain in enumerate((1.0, 1e4, 1e-4)):
        index = torch.tensor([row])
        alone = cg_sense(gain * y[index], physics.rows(index), lam=1e-3, tol=1e-11)
        torch.testing.assert_close(together[index] / gain, alone / gain, rtol=1e-8, atol=1e-8)


def test_norm_and_diagonal(random_problem):
    physics, y = random_problem((8, 8), rows=2, matrices=2)
    like = physics.A_adjoint(y)
    truth = torch.linalg.matrix_norm(physics.matrix, 2) ** 2
    estimate = squared_norm(physics, like, max_iter=60, tol=1e-12)
    torch.testing.assert_close(estimate, truth, rtol=1e-6, atol=0)
    diagonal = physics.matrix.square().sum(1).mean(1)
    # Hutchinson with k probes: relative deviation sqrt(2 (|G|_F^2 - |diag|^2) / k) / trace
    gram = physics.matrix.mT @ physics.matrix
    off = gram.square().sum((1, 2)) - gram.diagonal(dim1=1, dim2=2).square().sum(1)
    error = (2 * off / 64).sqrt() / gram.shape[1]
    assert ((mean_diagonal(physics, like, probes=64) - diagonal).abs() < 4 * error).all()


def test_refusals(random_problem):
    physics, y = random_problem((5, 5))
    with pytest.raises(DataError, match="lam: found -1"):
        cg_sense(y, physics, lam=-1)
    y[0, 3] = torch.nan
    with pytest.raises(DataError, match="1 NaN"):
        cg_sense(y, physics)
    with pytest.raises(IncompatibleError, match="linear"):
        cg_sense(y, object())
