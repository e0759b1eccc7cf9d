"""ILVR, Score-SDE and MCG: the data step on noisy states, and their limits."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.operators import CartesianMRI
from sciinv.priors import GaussianField
from sciinv.solvers import DPS, ILVR, MCG, ScoreSDE
from sciinv.solvers.guidance.common import correction, data_step
from sciinv.solvers.problem import Problem
from sciinv.solvers.truth import exact_problem

from .oracle import (
    SINGULAR,
    ManyRows,
    check_white,
    matrix_physics,
    oracle_case,
    with_singular_values,
)

TIGHT = {"cg": 100, "cg_tol": 1e-15}
LEVELS = [20.0, 3.0, 0.6, 0.05]


@pytest.mark.parametrize("level", [20.0, 0.6, 0.05])
def test_the_data_step_keeps_the_noise_level(level) -> None:
    # directions with data better and worse than the state; the weight decides for each
    rows = 20000
    problem, truth, _ = oracle_case(rows, 0.1)
    noise = ManyRows(rows)
    like = truth.expand(rows, -1, -1, -1)
    state = truth + level * noise.normal_like(like)
    x = data_step(problem, state, noise.normal_like(like), level, sigma=0.1, max_iter=60, tol=1e-14)
    check_white(x, truth, level)
    # and it does move: along the best direction by its weight towards the data
    v = torch.linalg.svd(with_singular_values(SINGULAR, 5, 6)).Vh[0]
    moved = ((x - state).flatten(1) @ v).square().mean().sqrt()
    weight = 1 / (1 + (0.1 / level) ** 2 / 2)
    expected = weight * (2 * level**2 + 0.1**2) ** 0.5
    assert float(moved) == pytest.approx(expected, rel=5 / (2 * rows) ** 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_not_taken_for_data(dtype) -> None:
    # the state fits already: what is left in the null space of a singular system is rounding
    matrix = with_singular_values((1.0, 0.7, 0.4, 0.2), 4, 12)
    physics = matrix_physics(matrix, (1, 3, 4))
    g = torch.Generator().manual_seed(3)
    x = torch.randn(5, 1, 3, 4, generator=g, dtype=dtype)
    problem = Problem(physics.A(x), physics, torch.arange(5), 1e-6)
    eps = torch.finfo(dtype).eps
    for near in (0.0, 10 * eps, 1e3 * eps):
        moved = x + near * torch.randn(x.shape, generator=g, dtype=dtype)
        found = correction(problem, moved, 0.0, max_iter=100, tol=1e-15)
        # 1 / S^2 of the weakest direction is 25
        assert float(found.abs().max()) < 100 * near + 1e3 * eps


def operators():
    g = torch.Generator().manual_seed(1)
    mask = (torch.rand(5, 4, generator=g) < 0.6).double()
    maps = torch.randn(2, 5, 4, generator=g, dtype=torch.complex128)
    return {
        "matrix": (matrix_physics(with_singular_values((1.0, 0.5, 0.3), 3, 6), (1, 2, 3)), 1),
        "mri": (CartesianMRI((5, 4), mask), 2),
        "coils": (CartesianMRI((5, 4), mask, maps), 2),
    }


@pytest.mark.parametrize("name", operators())
@pytest.mark.parametrize("solver_class", [ILVR, ScoreSDE, MCG])
def test_the_measurement_of_every_state_is_the_noised_one(name, solver_class) -> None:
    physics, channels = operators()[name]
    shape = tuple(physics.img_size)
    prior = GaussianField.power_law(shape[1:], channels=channels)
    y = physics.A(prior.sample(1, 1, dtype=torch.float64))
    problem = Problem(y, physics, torch.zeros(2, dtype=torch.long), 1e-9)
    solver = solver_class(prior, noiseless=True, **TIGHT)
    noise = ManyRows(2)
    state = solver.init(problem, noise, LEVELS[0], torch.zeros(2, *shape, dtype=torch.float64))
    for s, s_next in zip(LEVELS, [*LEVELS[1:], 0.0], strict=True):
        state = solver.step(state, s, s_next, problem, noise).state
        reference = y + s_next * physics.A(noise.drawn[-1])
        # 1e-12 of the numbers that are subtracted on the way
        assert float((physics.A(state) - reference).abs().max()) < 1e-12 * max(1.0, s)


def test_ilvr_stops_refining_below_a_level() -> None:
    problem = exact_problem("blur", (4, 4))
    on = Problem(problem.y, problem.physics, torch.zeros(1, dtype=torch.long), problem.sigma)
    x = problem.truth
    free, noise = ILVR(problem.prior, until=0.5), ManyRows(1)
    found = free.step(x, 1.0, 0.4, on, noise).state
    d, a = problem.prior(x, 1.0), 0.4**2
    expected = a * x + (1 - a) * d + 0.4 * (1 - a) ** 0.5 * noise.drawn[0]
    torch.testing.assert_close(found, expected)
    held = ILVR(problem.prior, until=0.3).step(x, 1.0, 0.4, on, ManyRows(1)).state
    assert float((held - found).abs().max()) > 0.01


@pytest.mark.parametrize("corrector", [0, 2])
@pytest.mark.parametrize("data", ["noised", "plain"])
def test_complete_exact_data_are_inverted(data, corrector) -> None:
    shape = (5, 4)
    prior = GaussianField.power_law(shape, channels=2)
    truth = prior.sample(2, 1, dtype=torch.float64)
    physics = CartesianMRI(shape, dtype=torch.float64)
    solver = ScoreSDE(prior, steps=4, data=data, corrector=corrector, noiseless=True, **TIGHT)
    samples, info = solver.sample(physics.A(truth), physics, 2, generator=0, return_info=True)
    torch.testing.assert_close(samples, truth.expand(2, *truth.shape), rtol=0, atol=1e-12)
    assert info.nfe == 4 + 3 * corrector


def test_a_weight_moves_part_of_the_way() -> None:
    physics, _ = operators()["mri"]
    prior = GaussianField.power_law((5, 4), channels=2)
    y = physics.A(prior.sample(1, 1, dtype=torch.float64))
    problem = Problem(y, physics, torch.zeros(1, dtype=torch.long), 1e-9)
    x = prior.sample(1, 2, dtype=torch.float64)
    gaps = []
    for weight in (0.0, 0.7, 1.0):
        solver = ScoreSDE(prior, weight=weight, data="plain", noiseless=True, **TIGHT)
        state = solver.step(x, 0.5, 0.2, problem, ManyRows(1)).state
        gaps.append(physics.A(state) - y)
    torch.testing.assert_close(gaps[1], 0.3 * gaps[0])
    assert float(gaps[2].abs().max()) < 1e-13


@pytest.mark.parametrize("soft", [True, False])
def test_the_corrector_finds_the_law_of_its_level(soft) -> None:
    rows, s, n, r = 400, 2.0, 144, 0.15
    physics = matrix_physics(torch.ones(1, n, dtype=torch.float64), (1, 12, 12), 1.0)
    y = torch.zeros(1, 1, dtype=torch.float64)
    problem = Problem(y, physics, torch.zeros(rows, dtype=torch.long), 1.0)
    solver = ScoreSDE(lambda x, s: x / (1 + s**2), weight=0.0, corrector=120, snr=r, soft=soft)
    noise = ManyRows(rows)
    wide = 3 * noise.normal((1, 12, 12), dtype=torch.float64, device=torch.device("cpu"))
    x = solver.step(wide, s * (1 + 1e-9), s, problem, noise).state
    ratio = float(x.square().mean() / (1 + s**2))
    # a Langevin step of 2 r^2 of the inverse curvature makes the variance too large by r^2; that
    # the step follows the norms of its row, by 2/n for the score's and 2/n for the noise's
    expected = (1 + 2 / n) ** 2 / (1 - r**2)
    if soft:  # at most 2 r^2 s^2, whatever the norms: s^2 / (1 + s^2) of the inverse curvature
        expected = 1 / (1 - r**2 * s**2 / (1 + s**2))
    assert ratio == pytest.approx(expected, abs=5 * (2 / (n * rows)) ** 0.5)


def test_the_step_of_the_corrector_belongs_to_its_row() -> None:
    problem = exact_problem("blur", (4, 4), scans=2)
    solver = ScoreSDE(problem.prior, steps=4, corrector=2)
    both = solver.sample(problem.y, problem.physics, 1, generator=torch.Generator().manual_seed(1))
    first = solver.sample(
        problem.y[:1], problem.physics, 1, generator=torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close(both[:, :1], first, rtol=0, atol=1e-9)


def test_both_predictors_agree_for_small_steps() -> None:
    problem = exact_problem("blur", (4, 4))
    on = Problem(problem.y, problem.physics, torch.zeros(1, dtype=torch.long), problem.sigma)
    s, s_next = 1.0, 0.999
    found = [
        ScoreSDE(problem.prior, weight=0.0, predictor=name)
        .step(problem.truth, s, s_next, on, ManyRows(1))
        .state
        for name in ("ancestral", "reverse_diffusion")
    ]
    # the noises are s sqrt(1 - a) and s' sqrt(1 - a), 0.1 % apart
    gap = float((found[0] - found[1]).abs().max())
    assert 0 < gap < 4 * (s - s_next) * (s**2 - s_next**2) ** 0.5


def test_mcg_without_guidance_is_ilvr_and_without_projection_dps() -> None:
    problem = exact_problem("mri", (4, 5), scans=2)
    prior, y, physics = problem.prior, problem.y, problem.physics
    for soft in (True, False):
        ilvr = ILVR(prior, steps=5, soft=soft).sample(y, physics, 2, generator=1)
        mcg = MCG(prior, steps=5, step=0.0, soft=soft).sample(y, physics, 2, generator=1)
        assert torch.equal(mcg, ilvr)
    for rule in ("sigma", "paper"):
        dps = DPS(prior, steps=5, step_rule=rule).sample(y, physics, 2, generator=1)
        mcg = MCG(prior, steps=5, step_rule=rule, weight=0.0).sample(y, physics, 2, generator=1)
        assert torch.equal(mcg, dps)
        both = MCG(prior, steps=5, step_rule=rule).sample(y, physics, 2, generator=1)
        assert float((both - dps).abs().max()) > 0.01


def test_noise_in_the_data_is_minded_by_default() -> None:
    # ill-conditioned and noisy: the pseudo-inverse carries sigma / S, up to 55 times sigma
    problem = exact_problem("blur", (8, 8))
    y, physics = problem.y, problem.physics
    errors = {}
    for soft in (True, False):
        solver = ILVR(problem.prior, steps=20, soft=soft, cg=100)
        samples = solver.sample(y, physics, 4, generator=0)
        errors[soft] = float((samples.mean(0) - problem.posterior.mean).norm())
    assert errors[True] < errors[False] / 2


@pytest.mark.parametrize(
    "make",
    [
        lambda p: ILVR(p, until=-1.0),
        lambda p: ILVR(p, cg_tol=0.0),
        lambda p: ScoreSDE(p, weight=1.5),
        lambda p: ScoreSDE(p, data="clean"),
        lambda p: ScoreSDE(p, predictor="euler"),
        lambda p: ScoreSDE(p, corrector=-1),
        lambda p: ScoreSDE(p, snr=-0.1),
        lambda p: MCG(p, weight=-0.5),
        lambda p: MCG(p, cg=0),
    ],
)
def test_impossible_settings_are_refused(make) -> None:
    with pytest.raises(ValueError, match="found"):
        make(GaussianField.power_law((4, 4)))


def test_noise_is_needed_or_declared_absent() -> None:
    physics, channels = operators()["mri"]
    prior = GaussianField.power_law((5, 4), channels=channels)
    y = physics.A(prior.sample(1, 1, dtype=torch.float64))
    physics.noise_model = GaussianNoise(0.05)
    noisy = ILVR(prior, steps=6).sample(y, physics, 1, generator=0)[0]
    exact = ILVR(prior, steps=6, noiseless=True).sample(y, physics, 1, generator=0)[0]
    misfit = [float((physics.A(x) - y).square().mean().sqrt()) for x in (noisy, exact)]
    assert misfit[1] < 1e-5 < misfit[0] < 0.2
