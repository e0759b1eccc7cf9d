"""DDNM: exact data, the two noisy forms, time travel."""

from __future__ import annotations

import math

import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.errors import IncompatibleError
from sciinv.operators import CartesianMRI
from sciinv.priors import GaussianField
from sciinv.solvers import DDNM, DDRM
from sciinv.solvers.problem import Problem
from sciinv.solvers.truth import exact_problem

from .oracle import ManyRows, check_white, matrix_physics, oracle_case, with_singular_values

LEVELS = [20.0, 3.0, 0.6, 0.15, 0.05]
TIGHT = {"cg": 60, "cg_tol": 1e-14}


def test_exact_data_are_kept_by_any_linear_operator() -> None:
    prior = GaussianField.power_law((5, 4), channels=2)
    g = torch.Generator().manual_seed(1)
    maps = torch.randn(3, 5, 4, generator=g, dtype=torch.complex128)
    columns = torch.tensor([1.0, 0, 1, 0], dtype=torch.float64).expand(5, 4)
    physics = CartesianMRI((5, 4), columns, maps)
    y = physics.A(prior.sample(2, 1, dtype=torch.float64))
    samples = DDNM(prior, steps=4, noiseless=True, **TIGHT).sample(y, physics, 2, generator=0)
    for sample in samples:
        torch.testing.assert_close(physics.A(sample), y, rtol=0, atol=1e-10)


def test_the_null_space_goes_its_own_way() -> None:
    # an isotropic prior treats all directions alike: the free ones never hear of the data
    matrix = with_singular_values((1.0, 0.4, 0.2), 4, 6)
    physics = matrix_physics(matrix, (1, 2, 3))
    rows = 3

    def prior(x, s):
        return x / (1 + s**2)

    y = torch.randn(1, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = y @ (matrix @ torch.linalg.pinv(matrix)).T
    problem = Problem(y, physics, torch.zeros(rows, dtype=torch.long), 1e-6)
    solver = DDNM(prior, eta_renoise=0.6, noiseless=True, **TIGHT)
    noise = ManyRows(rows)
    x = state = solver.init(problem, noise, 20.0, torch.zeros(rows, 1, 2, 3, dtype=torch.float64))
    null = torch.eye(6, dtype=torch.float64) - torch.linalg.pinv(matrix) @ matrix
    for s, s_next in zip(LEVELS, [*LEVELS[1:], 0.0], strict=True):
        state = solver.step(state, s, s_next, problem, noise).state
        z = noise.drawn[-1] if s_next > 0 else torch.zeros_like(x)
        x = prior(x, s) + s_next * (0.8 * (x - prior(x, s)) / s + 0.6 * z)
        found, expected = state.flatten(1) @ null, x.flatten(1) @ null
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(physics.A(state), y.expand(rows, -1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("eta", [None, 0.85, 0.3])
@pytest.mark.parametrize("name", ["mri", "blur"])
def test_the_svd_form_is_ddrm_with_full_weight_of_the_data(name, eta) -> None:
    problem = exact_problem(name, (4, 5))
    on = Problem(problem.y, problem.physics, torch.zeros(3, dtype=torch.long), problem.sigma)
    ours = DDNM(problem.prior, eta_renoise=eta, noisy="svd")
    other = DDRM(problem.prior, eta_renoise=eta)
    start = torch.zeros(3, *problem.truth.shape[1:], dtype=torch.float64)
    state = other.init(on, ManyRows(3), LEVELS[0], start)
    ours.init(on, ManyRows(3), LEVELS[0], start)
    for s, s_next in zip(LEVELS, [*LEVELS[1:], 0.0], strict=True):
        found = ours.step(state, s, s_next, on, ManyRows(3, seed=9)).state
        state = other.step(state, s, s_next, on, ManyRows(3, seed=9)).state
        torch.testing.assert_close(found, state, rtol=0, atol=1e-11 * s)


@pytest.mark.parametrize(("noisy", "eta"), [("svd", 0.85), ("svd", None), ("smooth", 1.0)])
def test_every_level_is_the_truth_plus_white_noise_if_the_denoiser_knows_it(noisy, eta) -> None:
    rows = 20000
    problem, truth, oracle = oracle_case(rows, 0.1)
    solver = DDNM(oracle, eta_renoise=eta, noisy=noisy, **TIGHT)
    noise = ManyRows(rows)
    solver.init(problem, noise, LEVELS[0], truth.expand(rows, -1, -1, -1))
    state = truth + LEVELS[0] * noise.normal(
        (1, 2, 3), dtype=torch.float64, device=torch.device("cpu")
    )
    # the third number goes back up: time travel keeps the law too
    for s, s_next in zip(
        [20.0, 3.0, 0.6, 3.0, 0.6, 0.05], [3.0, 0.6, 3.0, 0.6, 0.05], strict=False
    ):
        state = solver.step(state, s, s_next, problem, noise).state
        check_white(state, truth, s_next)


def test_the_smooth_form_tends_to_exact_data() -> None:
    # noise far below every level: the weights are one, and D - A^+(A D - y) is what is left
    matrix = with_singular_values((1.0, 0.5, 0.3), 4, 6)
    physics = matrix_physics(matrix, (1, 2, 3), 1e-5)
    y = torch.randn(1, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    problem = Problem(y, physics, torch.zeros(1, dtype=torch.long), 1e-5)
    d = torch.randn(1, 1, 2, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    solver = DDNM(lambda x, s: d, noisy="smooth", eta_renoise=1.0, **TIGHT)
    noise = ManyRows(1)
    solver.init(problem, noise, 1.0, torch.zeros_like(d))
    x = solver.step(torch.zeros_like(d), 1.0, 0.5, problem, noise).state
    inverse = torch.linalg.pinv(matrix)
    free, measured = (z.flatten() for z in noise.drawn[-2:])
    range_ = inverse @ matrix
    hat = d.flatten() - inverse @ (matrix @ d.flatten() - y[0])
    expected = hat + 0.5 * (free - range_ @ free + range_ @ measured)
    torch.testing.assert_close(x.flatten(), expected, rtol=0, atol=1e-8)


def test_time_travel_repeats_every_stretch_and_ends_once() -> None:
    problem = exact_problem("blur", (4, 4))
    on = Problem(problem.y, problem.physics, torch.zeros(1, dtype=torch.long), problem.sigma)
    plain = DDNM(problem.prior, steps=5).levels(on)
    a, b, c, d, e, end = plain
    path = DDNM(problem.prior, steps=5, travel=2, repeats=3).levels(on)
    assert path == [a, b, c, a, b, c, a, b, c, d, e, c, d, e, c, d, e, end]
    solver = DDNM(problem.prior, steps=8, travel=2)
    samples, info = solver.sample(problem.y, problem.physics, 2, generator=0, return_info=True)
    assert bool(torch.isfinite(samples).all())
    path = solver.levels(on)
    going_down = sum(t < s for s, t in zip(path, path[1:], strict=False))
    assert info.nfe == going_down
    assert float(info.chi_squared.max()) < 10


def test_the_form_for_noisy_data_is_found_and_named() -> None:
    size = 46  # 2116 pixels: too many for a dense decomposition
    g = torch.Generator().manual_seed(1)
    maps = torch.randn(2, size, size, generator=g, dtype=torch.complex64)
    physics = CartesianMRI((size, size), None, maps, noise_model=GaussianNoise(0.1))
    prior = GaussianField.power_law((size, size), channels=2)
    y = physics.A(prior.sample(1, 1))
    with pytest.raises(IncompatibleError, match="noisy='smooth' needs none"):
        DDNM(prior, steps=2, noisy="svd").sample(y, physics)
    auto = DDNM(prior, steps=3).sample(y, physics, generator=0)
    smooth = DDNM(prior, steps=3, noisy="smooth").sample(y, physics, generator=0)
    assert torch.equal(auto, smooth)
    single = CartesianMRI((size, size), noise_model=GaussianNoise(0.1))
    y = single.A(prior.sample(1, 1))
    auto = DDNM(prior, steps=3).sample(y, single, generator=0)
    assert torch.equal(auto, DDNM(prior, steps=3, noisy="svd").sample(y, single, generator=0))


@pytest.mark.parametrize(
    "knob",
    [{"eta_renoise": math.nan}, {"noisy": "white"}, {"travel": -1}, {"repeats": 0}, {"cg": 0}],
)
def test_impossible_settings_are_refused(knob) -> None:
    with pytest.raises(ValueError, match="found"):
        DDNM(GaussianField.power_law((4, 4)), **knob)
