"""Score-ALD: its law at one level in closed form, stability, the published rule."""

from __future__ import annotations

import pytest
import torch

from sciinv.priors import GaussianField
from sciinv.solvers import ScoreALD
from sciinv.solvers.problem import Problem
from sciinv.solvers.testing import affine_law
from sciinv.solvers.truth import exact_problem

from .oracle import Silent, matrix_physics, with_singular_values

SHAPE = (1, 2, 2)
MATRIX = with_singular_values((1.0, 0.6, 0.2), 3, 4)
# what float32 makes of 0.2: noise models keep that
SIGMA, LEVEL = float(torch.tensor(0.2)), 0.8


def case():
    covariance = with_singular_values((1.1, 1.0, 0.9, 0.8), 4, 4, seed=2)
    covariance = covariance @ covariance.T
    prior = GaussianField(covariance=covariance, image_shape=(2, 2), channels=1)
    y = torch.randn(1, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return prior, covariance, matrix_physics(MATRIX, SHAPE, SIGMA), y


def law_of_the_state(inner: int, step: float):
    """Law after ``inner`` steps at one level, before the last denoising, and the exact pieces."""
    prior, covariance, physics, y = case()
    solver = ScoreALD(prior, steps=1, inner=inner, step=step, sigma_max=LEVEL)
    law = affine_law(solver, y, physics)
    eye = torch.eye(4, dtype=torch.float64)
    gain = covariance @ torch.linalg.inv(covariance + LEVEL**2 * eye)
    undo = torch.linalg.inv(gain)
    zero = torch.zeros(1, dtype=torch.long)
    norm = Problem(y, physics, zero, SIGMA).norm  # power iteration, below 1 by some per cent
    assert 0.9 < norm <= 1.0
    variance = SIGMA**2 + (LEVEL * norm) ** 2
    h = torch.linalg.inv(covariance + LEVEL**2 * eye) + MATRIX.T @ MATRIX / variance
    alpha = step / (1 / LEVEL**2 + norm**2 / variance)
    mean = torch.linalg.solve(h, MATRIX.T @ y[0] / variance)
    return undo @ law.mean, undo @ law.covariance @ undo.T, mean, h, alpha


@pytest.mark.parametrize("step", [0.5, 1.5])
def test_steps_at_one_level_are_those_of_langevin_dynamics(step) -> None:
    mean, covariance, target, h, alpha = law_of_the_state(3, step)
    once = torch.eye(4, dtype=torch.float64) - alpha * h
    exact = LEVEL**2 * torch.eye(4, dtype=torch.float64)
    at = torch.zeros(4, dtype=torch.float64)
    for _ in range(3):
        exact = once @ exact @ once.T + 2 * alpha * torch.eye(4, dtype=torch.float64)
        at = target + once @ (at - target)
    torch.testing.assert_close(mean, at, rtol=0, atol=1e-10)
    torch.testing.assert_close(covariance, exact, rtol=0, atol=1e-10)


def test_many_steps_sample_the_product_up_to_their_size() -> None:
    bias = []
    for step in (0.4, 0.2):
        mean, covariance, target, h, alpha = law_of_the_state(int(60 / step), step)
        product = torch.linalg.inv(h)
        stationary = product @ torch.linalg.inv(torch.eye(4, dtype=torch.float64) - alpha * h / 2)
        # the slowest direction forgets its start by exp(-11)
        torch.testing.assert_close(mean, target, rtol=0, atol=1e-4)
        torch.testing.assert_close(covariance, stationary, rtol=0, atol=1e-6)
        bias.append(float((covariance - product).norm() / product.norm()))
    # proportional to the step
    assert bias[0] / bias[1] == pytest.approx(2.0, rel=0.1)
    assert bias[1] < 0.1


def test_it_is_stable_where_noise_is_tiny() -> None:
    # without inflation the published step would diverge at high levels: curvature 1 / sigma^2
    prior, _, physics, y = case()
    for gamma in (0.0, 1.0):
        for sigma in (1e-6, 1e-2):
            physics.noise_model.sigma = torch.tensor(sigma)
            solver = ScoreALD(prior, steps=20, step=1.5, gamma=gamma)
            samples = solver.sample(y, physics, 2, generator=0)
            assert float(samples.abs().max()) < 20


def test_levels_are_geometric() -> None:
    problem = exact_problem("blur", (4, 4))
    on = Problem(problem.y, problem.physics, torch.zeros(1, dtype=torch.long), problem.sigma)
    solver = ScoreALD(problem.prior, steps=4, sigma_min=0.1, sigma_max=12.5)
    assert solver.levels(on) == pytest.approx([12.5, 2.5, 0.5, 0.1, 0.0])


def test_the_published_rule_balances_the_two_pulls_in_every_row() -> None:
    prior, covariance, physics, y = case()
    rows = 3
    problem = Problem(y, physics, torch.zeros(rows, dtype=torch.long), SIGMA)
    x = torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x = x * torch.tensor([1.0, 3.0, 10.0]).reshape(-1, 1, 1, 1)
    solver = ScoreALD(prior, inner=1, step_rule="paper")
    state = solver.step(x, 0.3, 0.2, problem, Silent(rows)).state
    alpha = 5e-5 * (0.3 / 0.0066) ** 2
    score = (prior(x, 0.3) - x) / 0.3**2
    pull = ((state - x) / alpha - score).flatten(1)
    expected = (y - x.flatten(1) @ MATRIX.T) @ MATRIX
    torch.testing.assert_close(pull.norm(dim=1), 5 * score.flatten(1).norm(dim=1))
    cosine = torch.nn.functional.cosine_similarity(pull, expected)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_cost_is_what_the_documentation_says() -> None:
    prior, _, physics, y = case()
    _, info = ScoreALD(prior, steps=5, inner=3).sample(y, physics, 1, return_info=True)
    assert info.nfe == 5 * 3 + 1


@pytest.mark.parametrize(
    "knob", [{"step": 2.0}, {"step": 0.0}, {"inner": 0}, {"gamma": -1.0}, {"step_rule": "other"}]
)
def test_impossible_settings_are_refused(knob) -> None:
    with pytest.raises(ValueError, match="found"):
        ScoreALD(case()[0], **knob)
