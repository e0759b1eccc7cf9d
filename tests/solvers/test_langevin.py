"""Langevin steps with Metropolis correction, and descents: laws, and where they end."""

from __future__ import annotations

import pytest
import torch

from sciinv.operators.likelihoods import PoissonLikelihood
from sciinv.random import RowNoise, child_generators
from sciinv.solvers.decoupled.descent import descend, fit_to_noise
from sciinv.solvers.decoupled.langevin import BEST_ACCEPTANCE, likelihood_draw, mala
from sciinv.solvers.decoupled.potential import Point, Potential
from sciinv.solvers.problem import Problem
from sciinv.solvers.proximal import proximal_mean

from .oracle import ManyRows, matrix_physics, with_singular_values

SHAPE = (1, 2, 3)
MATRIX = with_singular_values((1.0, 0.6, 0.3, 0.1), 4, 6)


def gaussian(precision):  # noqa: ANN201
    def at(x):
        value = 0.5 * (precision * x.double().square()).sum(1)
        return Point(x, value, (precision * x).to(x.dtype), x)

    return at


def linear(rows=1, sigma=0.2, seed=3):
    g = torch.Generator().manual_seed(seed)
    truth = torch.randn(1, *SHAPE, generator=g, dtype=torch.float64)
    physics = matrix_physics(MATRIX, SHAPE, sigma)
    y = physics.A(truth) + sigma * torch.randn(1, 4, generator=g, dtype=torch.float64)
    return Problem(y, physics, torch.zeros(rows, dtype=torch.long), sigma), y


def test_metropolis_keeps_a_gaussian_where_langevin_alone_does_not() -> None:
    rows, steps = 6000, 25
    precision = torch.linspace(1.0, 4.0, 8, dtype=torch.float64)
    target = gaussian(precision)
    noise = ManyRows(rows)
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x / precision.sqrt()
    h = 0.2
    chain = mala(
        target, target(x), noise, steps=steps, step=torch.full((rows,), h).double(), adapt=0
    )
    # variance of a variance estimate from independent rows: 2 / rows
    error = (2 / rows) ** 0.5
    found = chain.x.square().mean(0) * precision
    assert float((found - 1).abs().max()) < 4.5 * error
    assert float(chain.x.mean(0).abs().max()) < 4.5 / rows**0.5
    # unadjusted steps would settle at 1 / (1 - h lambda / 2), which this test could see
    assert float((1 / (1 - h * precision / 2) - 1).max()) > 20 * error
    assert 0.3 < float(chain.acceptance.mean()) < 0.95


def test_every_row_finds_its_own_step() -> None:
    rows = 64
    scale = torch.logspace(-2, 2, rows, dtype=torch.float64)  # precisions of 1e-4 to 1e4
    precision = (scale.square()[:, None]).expand(rows, 30)
    target = gaussian(precision)
    x = torch.randn(rows, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first = 1e-2 / scale.square()
    chain = mala(target, target(x / scale[:, None]), ManyRows(rows), steps=600, step=first)
    # 300 steps after adaptation: a mean of correlated Bernoulli numbers
    assert float(chain.acceptance.mean()) == pytest.approx(BEST_ACCEPTANCE, abs=0.04)
    assert float((chain.acceptance - BEST_ACCEPTANCE).abs().max()) < 0.25
    unitless = chain.step * scale.square()
    assert float(unitless.max() / unitless.min()) < 4
    # Roberts and Rosenthal's step for a Gaussian in 30 dimensions, to a factor of 1.5
    assert 1 / 1.5 < float(unitless.median()) / (1.65**2 / 2 * 30 ** (-1 / 3)) < 1.5


def test_rows_do_not_look_at_each_other() -> None:
    precision = torch.tensor([[1.0], [100.0]]).expand(2, 5)
    seeds = child_generators(torch.Generator().manual_seed(5), 2)
    together = mala(
        gaussian(precision),
        gaussian(precision)(torch.ones(2, 5)),
        RowNoise(seeds),
        steps=40,
        step=torch.full((2,), 0.01),
    )
    seeds = child_generators(torch.Generator().manual_seed(5), 2)
    alone = mala(
        gaussian(precision[1:]),
        gaussian(precision[1:])(torch.ones(1, 5)),
        RowNoise(seeds[1:]),
        steps=40,
        step=torch.full((1,), 0.01),
    )
    assert torch.equal(together.x[1:], alone.x)
    assert torch.equal(together.step[1:], alone.step)


@pytest.mark.parametrize("exact", [True, False])
def test_draws_of_a_linear_problem_have_the_closed_form_law(exact) -> None:
    rows, r = 3000, 0.5
    problem, y = linear(rows)
    centre = torch.full((rows, *SHAPE), 0.3, dtype=torch.float64)
    x = likelihood_draw(
        problem, centre, r, ManyRows(rows), cg=50, tol=1e-12, langevin=250, exact=exact
    ).flatten(1)
    precision = MATRIX.T @ MATRIX / 0.2**2 + torch.eye(6, dtype=torch.float64) / r**2
    covariance = torch.linalg.inv(precision)
    mean = covariance @ (MATRIX.T @ y[0] / 0.2**2 + 0.3 / r**2)
    values, vectors = torch.linalg.eigh(covariance)
    white = (x - mean) @ vectors / values.sqrt()
    assert float(white.mean(0).abs().max()) < 4.5 / rows**0.5
    second = white.T @ white / rows - torch.eye(6, dtype=torch.float64)
    assert float(second.abs().max()) < 4.5 * (2 / rows) ** 0.5


def test_poisson_draws_match_quadrature() -> None:
    rows, r, centre, scale = 1500, 0.4, 0.6, 10.0
    counts = torch.tensor([[0.0, 2.0, 9.0, 4.0, 15.0, 1.0]], dtype=torch.float64)
    physics = matrix_physics(torch.eye(6, dtype=torch.float64), SHAPE)
    likelihood = PoissonLikelihood(scale=scale)
    problem = Problem(counts, physics, torch.zeros(rows, dtype=torch.long), 1.0, likelihood)
    start = torch.full((rows, *SHAPE), centre, dtype=torch.float64)
    x = likelihood_draw(problem, start, r, ManyRows(rows), cg=1, tol=1e-4, langevin=300).flatten(1)
    grid = torch.linspace(-3, 5, 20001, dtype=torch.float64)[:, None].expand(-1, 6)
    log_p = likelihood.log_prob_terms(counts.expand_as(grid), grid)
    weight = torch.softmax(log_p - (grid - centre) ** 2 / (2 * r**2), 0)
    mean = (weight * grid).sum(0)
    std = (weight * (grid - mean) ** 2).sum(0).sqrt()
    assert float(((x.mean(0) - mean) / std).abs().max()) < 4.5 / rows**0.5
    # kurtosis of these skewed laws is below 5: variance of the variance at most 4 / rows
    assert float((x.var(0).sqrt() / std - 1).abs().max()) < 4.5 * (4 / rows) ** 0.5 / 2


def test_descent_finds_the_proximal_minimiser_and_never_rises() -> None:
    problem, _ = linear(rows=3)
    centre = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2)).double()
    potential = Potential(problem, centre, 0.7)
    values = [descend(potential, centre, iterations=n).value for n in (0, 1, 2, 5, 10, 20)]
    assert all(bool((a >= b).all()) for a, b in zip(values, values[1:], strict=False))
    found = descend(potential, centre, iterations=120).x
    exact = proximal_mean(problem, centre, 0.7, max_iter=50, tol=1e-13)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)


def test_fit_to_noise_ends_at_the_noise() -> None:
    problem, _ = linear(rows=3)
    fits = proximal_mean(problem, torch.zeros(3, *SHAPE).double(), 10.0, max_iter=50)
    start = torch.full((3, *SHAPE), 2.0, dtype=torch.float64)
    start[1] = fits[1]
    x = fit_to_noise(problem, start, iterations=50)
    assert torch.equal(x[1], start[1])
    misfit = problem.misfit(x)
    torch.testing.assert_close(misfit[[0, 2]], torch.ones(2, dtype=torch.float64))
    # the image moved in the row space alone
    moved = (x - start)[0].flatten()
    null = torch.linalg.svd(MATRIX).Vh[4:]
    assert float((null @ moved).abs().max()) < 1e-12
    # by descent, for other likelihoods: at or below the noise, started above
    other = fit_to_noise(
        Problem(problem._y, problem.physics, problem.scan_of_row, 1.0, problem.likelihood),
        start,
        iterations=200,
    )
    assert float(problem.misfit(other).max()) <= 1 + 1e-9


def test_exact_data_of_an_invertible_operator_are_inverted() -> None:
    matrix = with_singular_values((1.0, 0.8, 0.6, 0.5, 0.4, 0.3), 6, 6)
    truth = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2)).double()
    physics = matrix_physics(matrix, SHAPE, 1e-7)
    problem = Problem(physics.A(truth), physics, torch.zeros(1, dtype=torch.long), 1e-7)
    x = fit_to_noise(problem, torch.zeros_like(truth), iterations=20)
    # residual of 1e-7 per component over the smallest singular value
    torch.testing.assert_close(x, truth, rtol=0, atol=6**0.5 * 1e-7 / 0.3)
