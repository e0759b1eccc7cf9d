"""ReSample, DCDP and SITCOM: the limits in which what they do is known."""

from __future__ import annotations

import math

import pytest
import torch

from sciinv.priors import GaussianField
from sciinv.solvers import DCDP, SITCOM, ReSample
from sciinv.solvers.decoupled.resample import resample
from sciinv.solvers.problem import Problem
from sciinv.solvers.truth import exact_problem

from .oracle import ManyRows, Silent, matrix_physics, with_singular_values

ONE = torch.zeros(1, dtype=torch.long)
S, S_NEXT = 1.3, 0.6


def test_resampling_between_its_limits() -> None:
    rows = 20000
    clean = torch.full((rows, 1), 2.0, dtype=torch.float64)
    ahead = torch.full((rows, 1), -1.0, dtype=torch.float64)
    assert torch.equal(resample(clean, ahead, S, S_NEXT, 0.0, ManyRows(rows)), ahead)
    for gamma in (0.5, 40.0, math.inf):
        x = resample(clean, ahead, S, S_NEXT, gamma, ManyRows(rows))
        # product of N(x; clean, s'^2) and N(x; ahead, G)
        precision = 1 / S_NEXT**2
        mean = 2.0
        if gamma < math.inf:
            g = gamma * S_NEXT**2 * (1 - S_NEXT**2 / S**2)
            mean = (2.0 / S_NEXT**2 - 1.0 / g) / (1 / S_NEXT**2 + 1 / g)
            precision += 1 / g
        std = precision**-0.5
        assert abs(float(x.mean()) - mean) < 4.5 * std / rows**0.5
        assert abs(float(x.std()) / std - 1) < 4.5 / (2 * rows) ** 0.5


def test_resample_ends_where_the_data_fit_to_the_noise() -> None:
    case = exact_problem("ct", (6, 6), scans=2)
    _, info = ReSample(case.prior, steps=15).sample(
        case.y, case.physics, 3, generator=0, return_info=True
    )
    # shortened last steps end at one; a denoised image that fits already stays below
    assert float(info.chi_squared.max()) < 1 + 1e-6
    assert float(info.chi_squared.median()) > 0.9


def test_hard_consistency_every_few_steps_counts_from_the_last() -> None:
    case = exact_problem("blur", (4, 4))
    solver = ReSample(case.prior, steps=7, every=3)
    _, info = solver.sample(case.y, case.physics, 1, generator=0, return_info=True)
    assert float(info.chi_squared.max()) < 1 + 1e-6


def test_dcdp_inverts_exact_data_before_it_purifies() -> None:
    matrix = with_singular_values((1.0, 0.8, 0.6, 0.5, 0.4, 0.3), 6, 6)
    truth = torch.randn(1, 1, 2, 3, generator=torch.Generator().manual_seed(2)).double()
    physics = matrix_physics(matrix, (1, 2, 3), 1e-7)
    problem = Problem(physics.A(truth), physics, ONE, 1e-7)
    seen = []

    def prior(x, sigma):  # noqa: ANN202
        seen.append(x)
        return 0.5 * x

    solver = DCDP(prior, steps=1, descent=20)
    x = solver.step(torch.zeros_like(truth), 0.3, 0.0, problem, Silent(1)).state
    # without noise the purified image is the inverse itself
    torch.testing.assert_close(seen[0], truth, rtol=0, atol=1e-6)
    torch.testing.assert_close(x, 0.5 * truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("step_rule", ["sigma", "paper"])
def test_sitcom_finds_the_input_of_least_squares(step_rule) -> None:
    case = exact_problem("blur", (3, 3), noise=0.7)
    s, lam = 0.8, 0.5
    problem = Problem(case.y, case.physics, ONE, case.sigma)
    x = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    eye = torch.eye(9, dtype=torch.float64)
    c = case.prior.dense_covariance()
    # the denoiser is linear: v -> A J v is the map to be fitted
    b = case.physics.A(eye.reshape(9, 1, 3, 3)).flatten(1).T @ c @ torch.linalg.inv(c + s**2 * eye)
    expected = torch.linalg.solve(
        b.T @ b / case.sigma**2 + lam / s**2 * eye,
        b.T @ case.y.flatten() / case.sigma**2 + lam / s**2 * x.flatten(),
    )
    solver = SITCOM(case.prior, inner=1000, rate=0.05, lam=lam, to_noise=False, step_rule=step_rule)
    found = solver.consistent_input(x, s, problem).flatten()
    # Adam with a rate that falls to zero ends within a few of its last steps, rate / 1000
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_sitcom_stops_every_row_at_its_own_time() -> None:
    case = exact_problem("blur", (3, 3))
    level = 0.1
    rows = torch.zeros(2, dtype=torch.long)
    problem = Problem(case.y, case.physics, rows, case.sigma)
    x = torch.cat([case.posterior.mean, torch.full_like(case.posterior.mean, 3.0)])
    solver = SITCOM(case.prior, inner=40)
    found = solver.consistent_input(x, level, problem)
    assert float(problem.misfit(case.prior(x, level))[0]) < 1
    assert torch.equal(found[0], x[0])
    assert not torch.equal(found[1], x[1])
    alone = Problem(case.y, case.physics, rows[1:], case.sigma)
    torch.testing.assert_close(found[1:], solver.consistent_input(x[1:], level, alone))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda p: ReSample(p, gamma=-1.0), "gamma"),
        (lambda p: ReSample(p, every=0), "every"),
        (lambda p: ReSample(p, eta_ddim=2.0), "eta_ddim"),
        (lambda p: DCDP(p, descent=0), "descent"),
        (lambda p: DCDP(p, ode_steps=0), "ode_steps"),
        (lambda p: SITCOM(p, inner=0), "inner"),
        (lambda p: SITCOM(p, rate=0.0), "rate"),
        (lambda p: SITCOM(p, lam=-1.0), "lam"),
        (lambda p: SITCOM(p, step_rule="other"), "step_rule"),
    ],
)
def test_impossible_settings_are_refused(make, word) -> None:
    with pytest.raises(ValueError, match=rf"{word}.*found"):
        make(GaussianField.power_law((4, 4)))
