"""LGD against the integral that it estimates, its weights, and its limits."""

from __future__ import annotations

import torch

from sciinv.priors import GaussianField
from sciinv.solvers import LGD
from sciinv.solvers.problem import Problem

from .oracle import ManyRows, Silent, matrix_physics

SHAPE = (1, 2, 2)
MATRIX = torch.tensor([[1.0, 0.5, 0.0, 0.2], [0.0, -0.4, 0.8, 0.1]], dtype=torch.float64)
SIGMA = 0.5


def case(rows, sigma=SIGMA):
    y = torch.tensor([[0.6, -0.3]], dtype=torch.float64)
    x = torch.tensor([0.3, -0.5, 0.8, 0.1], dtype=torch.float64).reshape(1, *SHAPE)
    physics = matrix_physics(MATRIX, SHAPE, sigma)
    problem = Problem(y, physics, torch.zeros(rows, dtype=torch.long), sigma)
    return problem, x.expand(rows, *SHAPE).contiguous(), y


def started(solver, problem, x):
    solver.init(problem, Silent(len(x)), 10.0, torch.zeros_like(x))
    return solver


def correlated():
    root = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.8, 0, 0], [0.2, 0.3, 0.6, 0], [0, 0.2, 0.1, 0.7]])
    return GaussianField(torch.zeros(SHAPE), covariance=(root @ root.T).double())


def test_many_draws_are_pigdm_within_five_standard_errors() -> None:
    rows, draws, s, c = 400, 1000, 0.8, 1.0
    prior = correlated()
    problem, x, y = case(rows)
    solver = started(LGD(prior, draws=draws, prior_std=c**0.5), problem, x)
    found = solver.denoise(x, s, s, problem, ManyRows(rows)).flatten(1)
    covariance = prior.dense_covariance()
    jacobian = covariance @ torch.linalg.inv(covariance + s**2 * torch.eye(4).double())
    r_sq = c * s**2 / (c + s**2)
    d = prior(x[:1], s).flatten(1)
    system = r_sq * MATRIX @ MATRIX.T + SIGMA**2 * torch.eye(2, dtype=torch.float64)
    rho = torch.linalg.solve(system, (y - d @ MATRIX.T).T).T
    expected = d + s**2 * rho @ MATRIX @ jacobian
    # a ratio of averages: the bias of 1 / draws is far below the standard error over the rows
    error = found.std(0) / rows**0.5
    assert bool(((found.mean(0) - expected[0]).abs() < 5 * error).all())
    # and the comparison can tell PiGDM from DPS
    plain = d + s**2 * (y - d @ MATRIX.T) / SIGMA**2 @ MATRIX @ jacobian
    assert float(((plain - expected)[0].abs() / error).max()) > 50


def test_weights_are_the_softmax_of_mirrored_draws() -> None:
    problem, x, _ = case(3)
    solver = started(LGD(lambda x, s: x, draws=6, prior_std=1.0), problem, x)
    noise = ManyRows(3)
    s = 0.7
    at = solver.linearise(x, s)
    gradient, _ = solver._average(at, s, problem, noise)
    assert len(noise.drawn) == 3
    r = s / (1 + s**2) ** 0.5
    images = torch.stack([x + sign * r * z for z in noise.drawn for sign in (1, -1)])
    residual = problem.y - images.flatten(2) @ MATRIX.T
    weights = torch.softmax(-residual.square().sum(2) / (2 * SIGMA**2), 0)
    expected = (weights[..., None] * (residual / SIGMA**2) @ MATRIX).sum(0)
    torch.testing.assert_close(gradient.flatten(1), expected, rtol=1e-10, atol=1e-12)


def test_likelihoods_that_underflow_leave_one_draw() -> None:
    # exp(-1e11) is zero in every format
    problem, x, _ = case(2, sigma=1e-6)
    solver = started(LGD(lambda x, s: x, draws=4, prior_std=1.0), problem, x)
    noise = ManyRows(2)
    gradient, residual_sq = solver._average(solver.linearise(x, 1.0), 1.0, problem, noise)
    images = torch.stack([x + sign * 0.5**0.5 * z for z in noise.drawn for sign in (1, -1)])
    residual = (problem.y - images.flatten(2) @ MATRIX.T) / 1e-6
    best = residual.square().sum(2).argmin(0)
    chosen = residual[best, torch.arange(2)]
    torch.testing.assert_close(residual_sq, chosen.square().sum(1))
    torch.testing.assert_close(gradient.flatten(1), chosen @ MATRIX / 1e-6)


def test_one_draw_without_spread_is_the_gradient_of_dps() -> None:
    problem, x, y = case(2)
    prior, s = correlated(), 0.1
    solver = started(LGD(prior, draws=1, prior_std=0.0), problem, x)
    found = solver.denoise(x, s, s, problem, ManyRows(2)).flatten(1)
    covariance = prior.dense_covariance()
    jacobian = covariance @ torch.linalg.inv(covariance + s**2 * torch.eye(4).double())
    d = prior(x, s).flatten(1)
    # at this small level neither limit acts
    expected = d + s**2 * (y - d @ MATRIX.T) / SIGMA**2 @ MATRIX @ jacobian
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
