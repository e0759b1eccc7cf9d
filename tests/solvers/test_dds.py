"""DDS: its data step against dense solves, its limits, and where it is exact."""

from __future__ import annotations

import pytest
import torch

from sciinv.priors import GaussianField
from sciinv.solvers import DDNM, DDS
from sciinv.solvers.problem import Problem
from sciinv.solvers.testing import affine_law, deviation
from sciinv.solvers.truth import exact_problem

from .oracle import ManyRows, matrix_physics, with_singular_values

TIGHT = {"cg": 60, "cg_tol": 1e-14}
MATRIX = with_singular_values((1.0, 0.5, 0.1), 5, 6)
SHAPE = (1, 2, 3)


def case(rows=2, sigma=0.1):
    g = torch.Generator().manual_seed(3)
    y = torch.randn(1, 5, generator=g, dtype=torch.float64)
    x = torch.randn(rows, *SHAPE, generator=g, dtype=torch.float64)
    physics = matrix_physics(MATRIX, SHAPE, sigma)
    return Problem(y, physics, torch.zeros(rows, dtype=torch.long), sigma), x, y


def shrink(x, s):
    """Denoiser of N(0, 1)."""
    return x / (1 + s**2)


@pytest.mark.parametrize("weight", ["derived", "paper", 7.0])
def test_complete_cg_is_the_prox(weight) -> None:
    problem, x, y = case()
    s = 0.7
    found = DDS(shrink, weight=weight, **TIGHT).denoise(x, s, 0.5, problem, ManyRows(2))
    gamma = {"derived": s**2 / 0.1**2, "paper": 1.0}.get(weight, weight)
    d = shrink(x, s).flatten(1)
    system = torch.eye(6, dtype=torch.float64) + gamma * MATRIX.T @ MATRIX
    expected = torch.linalg.solve(system, (d + gamma * y @ MATRIX).T).T
    torch.testing.assert_close(found.flatten(1), expected, rtol=0, atol=1e-11)


def test_exact_data_and_a_large_weight_are_ddnm() -> None:
    problem, x, _ = case()
    exact = DDS(shrink, noiseless=True, **TIGHT).denoise(x, 0.7, 0.5, problem, ManyRows(2))
    large = DDS(shrink, weight=1e10, **TIGHT).denoise(x, 0.7, 0.5, problem, ManyRows(2))
    null_space = DDNM(shrink, noiseless=True, **TIGHT).step(x, 0.7, 0.5, problem, ManyRows(2))
    torch.testing.assert_close(exact, null_space.estimate, rtol=0, atol=1e-10)
    # what is left is 1 / (gamma S^2)
    torch.testing.assert_close(large, exact, rtol=0, atol=1e-7)


@pytest.mark.parametrize("cg", [1, 2])
def test_few_iterations_leave_the_null_space_to_the_denoiser(cg) -> None:
    problem, x, _ = case()
    null = torch.eye(6, dtype=torch.float64) - torch.linalg.pinv(MATRIX) @ MATRIX
    solver = DDS(shrink, cg=cg, noiseless=True)
    moved = solver.denoise(x, 0.7, 0.5, problem, ManyRows(2)) - shrink(x, 0.7)
    assert float(moved.abs().max()) > 0.1
    assert float((moved.flatten(1) @ null).abs().max()) < 1e-13


def test_it_is_the_conditional_mean_for_an_isotropic_prior() -> None:
    problem, x, y = case()
    c, s = 4.0, 0.7
    prior = GaussianField(
        covariance=c * torch.eye(6, dtype=torch.float64), image_shape=(2, 3), channels=1
    )
    found = DDS(prior, prior_std=2.0, **TIGHT).denoise(x, s, 0.5, problem, ManyRows(2))
    precision = MATRIX.T @ MATRIX / 0.1**2 + (1 / s**2 + 1 / c) * torch.eye(6, dtype=torch.float64)
    pull = y @ MATRIX / 0.1**2 + x.flatten(1) / s**2
    expected = torch.linalg.solve(precision, pull.T).T
    torch.testing.assert_close(found.flatten(1), expected, rtol=0, atol=1e-11)
    prior.sigma_data = 2.0  # as a network declares it
    declared = DDS(prior, **TIGHT).denoise(x, s, 0.5, problem, ManyRows(2))
    torch.testing.assert_close(declared, found)


def test_its_law_is_then_the_posterior() -> None:
    prior = GaussianField(
        covariance=torch.eye(6, dtype=torch.float64), image_shape=(2, 3), channels=1
    )
    physics = matrix_physics(MATRIX, SHAPE, 0.1)
    y = torch.randn(1, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    posterior = prior.posterior(y, physics)
    found = [
        deviation(
            affine_law(DDS(prior, prior_std=1.0, steps=n, sigma_max=100.0, **TIGHT), y, physics),
            posterior.mean,
            posterior.covariance(),
        )
        for n in (20, 40)
    ]
    # Heun: second order in the step
    assert found[1].covariance < found[0].covariance / 3
    assert found[1].covariance < 0.02
    assert found[1].mean < 0.02


def test_the_published_step_keeps_the_noise_of_the_denoiser() -> None:
    problem, x, _ = case()
    solver = DDS(shrink, eta_renoise=0.6, **TIGHT)
    noise = ManyRows(2)
    result = solver.step(x, 0.7, 0.5, problem, noise)
    hat = DDS(shrink, **TIGHT).denoise(x, 0.7, 0.5, problem, noise)
    expected = hat + 0.5 * (0.8 * (x - shrink(x, 0.7)) / 0.7 + 0.6 * noise.drawn[0])
    torch.testing.assert_close(result.state, expected)
    assert torch.equal(solver.step(x, 0.7, 0.0, problem, noise).state, hat)


def test_rows_solve_their_own_systems() -> None:
    # a row that needs many iterations and one that needs none
    problem = exact_problem("mri", (4, 5), scans=2)
    y = problem.y.clone()
    y[1] = 0
    rows = Problem(y, problem.physics, torch.tensor([0, 1]), problem.sigma)
    alone = Problem(y, problem.physics, torch.tensor([0]), problem.sigma)
    x = problem.truth
    solver = DDS(problem.prior, cg=4)
    both = solver.denoise(x, 0.5, 0.3, rows, ManyRows(2))
    one = solver.denoise(x[:1], 0.5, 0.3, alone, ManyRows(1))
    torch.testing.assert_close(both[:1], one)


@pytest.mark.parametrize(
    "knob",
    [{"cg": 0}, {"weight": "other"}, {"weight": 0.0}, {"prior_std": 0.0}, {"eta_renoise": 2.0}],
)
def test_impossible_settings_are_refused(knob) -> None:
    with pytest.raises(ValueError, match="found"):
        DDS(shrink, **knob)
