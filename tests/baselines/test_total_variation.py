"""Total variation: the gradient, and the minimiser against an independent ADMM."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciinv.baselines import solve_tv, tv
from sciinv.baselines.differences import gradient, gradient_adjoint, total_variation
from sciinv.errors import DataError, IncompatibleError


@pytest.mark.parametrize("shape", [(1, 1, 5, 4), (2, 2, 4, 7), (1, 2, 3, 4, 5), (1, 1, 1, 6)])
def test_gradient_adjoint(shape):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    g = gradient(x)
    p = torch.randn(g.shape, generator=generator, dtype=torch.float64)
    left, right = (g * p).sum(), (x * gradient_adjoint(p)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-12)


def test_gradient_and_tv_by_hand():
    x = torch.zeros(1, 2, 4, 4)
    x[0, 0, 1, 1], x[0, 1, 1, 1] = 3.0, 4.0  # one complex pixel of magnitude 5
    # pixel itself: both forward differences, 5 sqrt 2; its upper and left neighbour: 5 each
    assert float(total_variation(x)) == pytest.approx(5 * (math.sqrt(2) + 2))
    torch.testing.assert_close(gradient(x)[0, 0, 0, :, 1], torch.tensor([3.0, -3, 0, 0]))
    torch.testing.assert_close(gradient(x)[0, 0, 1, 1], torch.tensor([3.0, -3, 0, 0]))


def _dense_gradient(shape, channels):
    n = channels * int(np.prod(shape))
    eye = torch.eye(n, dtype=torch.float64).reshape(n, channels, *shape)
    return gradient(eye).reshape(n, -1).T


def _admm(matrix, y, lam, shape, channels, nonneg=False, iterations=20000):
    """Split Bregman with a dense factorisation: another algorithm, run far."""
    k = _dense_gradient(shape, channels)
    n, axes = matrix.shape[1], len(shape)
    rho = 20 * lam
    gram = matrix.T @ matrix + rho * (k.T @ k + (torch.eye(n).double() if nonneg else 0))
    inverse = torch.linalg.inv(gram)
    b = matrix.T @ y
    d = torch.zeros(k.shape[0], dtype=torch.float64)
    u = torch.zeros_like(d)
    z = torch.zeros(n, dtype=torch.float64)
    w = torch.zeros_like(z)
    for _ in range(iterations):
        rhs = b + rho * k.T @ (d - u) + (rho * (z - w) if nonneg else 0)
        x = inverse @ rhs
        kx = k @ x
        v = (kx + u).reshape(channels, axes, -1)
        size = v.square().sum((0, 1), keepdim=True).sqrt()
        new = (v * (1 - (lam / rho) / size.clamp_min(lam / rho))).reshape(-1)
        moved = (new - d).abs().max()
        d = new
        u = u + kx - d
        if nonneg:
            z = (x + w).clamp_min(0)
            w = w + x - z
        if moved < 1e-9 and (kx - d).abs().max() < 1e-9:
            break
    return (z if nonneg else x).reshape(1, channels, *shape)


def _objective(physics, x, y, lam):
    return 0.5 * (physics.A(x) - y).square().sum(1) + lam * total_variation(x)


@pytest.mark.parametrize(
    ("shape", "channels", "lam", "nonneg"),
    [
        ((6, 5), 1, 0.05, False),
        ((6, 6), 2, 0.02, False),
        ((6, 6), 2, 1.0, False),
        ((4, 4, 4), 1, 0.03, False),
        ((6, 5), 1, 0.05, True),
    ],
)
def test_objective_matches_admm(random_problem, shape, channels, lam, nonneg):
    physics, y = random_problem(shape, channels=channels, seed=3)
    if nonneg:
        y = y - 0.3  # so that the constraint is active
    truth = _admm(physics.matrix[0], y[0], lam, shape, channels, nonneg)
    x, info = solve_tv(y, physics, lam=lam, tol=1e-7, max_iter=5000, nonneg=nonneg)
    assert info.converged.all()
    best = float(_objective(physics, truth, y, lam))
    assert float(_objective(physics, x, y, lam)) == pytest.approx(best, rel=1e-6)
    assert best < 0.999 * float(_objective(physics, torch.zeros_like(x), y, lam))
    if nonneg:
        assert float(x.min()) == 0.0
        free = tv(y, physics, lam=lam, tol=1e-5, max_iter=5000)
        assert float(free.min()) < -0.01


def test_default_tolerance_is_close(random_problem):
    physics, y = random_problem((8, 8), channels=2, seed=5)
    x, info = solve_tv(y, physics, lam=0.05)
    assert info.converged.all()
    exact = tv(y, physics, lam=0.05, tol=1e-5, max_iter=5000)
    assert float((x - exact).norm() / exact.norm()) < 5e-3


def test_units_do_not_matter(random_problem, dense):
    physics, y = random_problem((5, 5))
    x = tv(y, physics, lam=0.05, tol=1e-5, max_iter=5000)
    loud = dense(1e4 * physics.matrix, physics.image_shape)
    # y = (1e4 A) x with the same x: the objective is 1e8 times the first one
    again = tv(1e4 * y, loud, lam=0.05e8, tol=1e-5, max_iter=5000)
    torch.testing.assert_close(again, x, rtol=1e-3, atol=1e-4)
    scaled = tv(1e-3 * y, physics, lam=0.05e-3, tol=1e-5, max_iter=5000)
    torch.testing.assert_close(scaled * 1e3, x, rtol=1e-3, atol=1e-4)


def test_rows_do_not_see_each_other(random_problem):
    physics, y = random_problem((6, 6), rows=3, matrices=3)
    y[2] = 0.01 * y[2]
    together = tv(y, physics, lam=0.03)
    for row in range(3):
        index = torch.tensor([row])
        alone = tv(y[index], physics.rows(index), lam=0.03)
        torch.testing.assert_close(together[index], alone, rtol=1e-7, atol=1e-9)


def test_zero_measurement_gives_zero(random_problem):
    physics, y = random_problem((5, 5))
    x, info = solve_tv(0 * y, physics, lam=0.1)
    assert float(x.abs().max()) == 0.0 and info.converged.all()


def test_float32(random_problem, dense):
    physics, y = random_problem((8, 8))
    single = dense(physics.matrix.float(), physics.image_shape)
    x = tv(y.float(), single, lam=0.05)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), tv(y, physics, lam=0.05), rtol=0, atol=2e-3)


def test_refusals(random_problem):
    physics, y = random_problem((4, 4), channels=2)
    with pytest.raises(DataError, match="lam=0"):
        tv(y, physics, lam=0)
    with pytest.raises(IncompatibleError, match="nonneg"):
        tv(y, physics, lam=1.0, nonneg=True)
