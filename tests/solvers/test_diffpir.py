"""DiffPIR: its proximal step, its limit, and deepinv's own steps."""

from __future__ import annotations

import deepinv
import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.priors import GaussianField
from sciinv.solvers import DiffPIR
from sciinv.solvers.problem import Problem
from sciinv.solvers.testing import affine_law, deviation
from sciinv.solvers.truth import exact_problem

from .oracle import Silent

ONE = torch.zeros(1, dtype=torch.long)


@pytest.mark.parametrize("name", ["mri", "ct", "blur"])
@pytest.mark.parametrize(("width", "lam"), [("vp", 1.0), ("sigma", 7.0)])
def test_the_data_step_is_the_dense_solution(name, width, lam) -> None:
    case = exact_problem(name, (4, 4))
    n, s = case.truth[0].numel(), 0.4
    eye = torch.eye(n, dtype=torch.float64)
    a = case.physics.A(eye.reshape(n, *case.truth.shape[1:])).flatten(1).T
    variance = s**2 / lam / (1 + s**2 if width == "vp" else 1)
    d = case.truth + 0.3
    expected = torch.linalg.solve(
        a.T @ a / case.sigma**2 + eye / variance,
        a.T @ case.y.flatten() / case.sigma**2 + d.flatten() / variance,
    )
    problem = Problem(case.y, case.physics, ONE, case.sigma)
    solver = DiffPIR(case.prior, width=width, lam=lam, cg=300, tol=1e-13)
    found = solver.data_step(d, s, problem).flatten()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    # the same by descent, as for a likelihood that is not Gaussian
    general = Problem(case.y, case.physics, ONE, 1.0, problem.likelihood)
    descent = DiffPIR(case.prior, width=width, lam=lam, descent=300)
    near = descent.data_step(d, s, general).flatten()
    # a thousandth of the way: descent converges slowly along the weakest directions
    assert float((near - expected).norm()) < 1e-3 * float((d.flatten() - expected).norm())


def test_white_priors_are_exact_in_the_limit_of_many_steps() -> None:
    case = exact_problem("blur", (3, 3))
    white = GaussianField(0.0, power_spectrum=torch.ones(3, 3), channels=1)
    exact = white.posterior(case.y, case.physics, case.sigma)

    def off(steps, **knobs):  # noqa: ANN202
        solver = DiffPIR(
            white,
            lam=1.0,
            steps=steps,
            sigma_max=30.0,
            sigma_min=0.002,
            cg=100,
            tol=1e-12,
            **{"eta_renoise": 0.0, **knobs},
        )
        law = affine_law(solver, case.y, case.physics)
        return deviation(law, exact.mean, exact.covariance())

    few, many = off(25), off(100)
    # first order: a quarter of the error, or less where other terms vanish faster
    assert abs(many.std_ratio - 1) < 0.35 * abs(few.std_ratio - 1)
    assert many.covariance < 0.35 * few.covariance
    # with the published noise the spread stays too small
    assert off(25, eta_renoise=1.0).std_ratio < 0.8


def test_steps_agree_with_deepinv() -> None:
    generator = torch.Generator().manual_seed(0)
    physics = deepinv.physics.Inpainting(
        img_size=(1, 6, 6), mask=(torch.rand(1, 6, 6, generator=generator) < 0.6).float()
    )
    physics.noise_model = GaussianNoise(0.05)
    y = physics.A(0.5 + 0.1 * torch.randn(1, 1, 6, 6, generator=generator))
    states: list[tuple[torch.Tensor, float]] = []

    def prior(x, sigma):  # noqa: ANN202
        # close to one half: deepinv clips denoised images to [0, 1]
        return 0.5 + (x - 0.5) * 0.05**2 / (0.05**2 + sigma**2)

    def recorded(x, sigma):  # noqa: ANN202
        states.append((x.clone(), float(sigma)))
        return prior(x, sigma)

    lam = 7.0
    theirs = deepinv.sampling.DiffPIR(
        recorded,
        deepinv.optim.L2(),
        sigma=0.05,
        max_iter=6,
        zeta=0.0,
        lambda_=lam,
    )
    with torch.random.fork_rng(devices=[]):
        theirs(y, physics, seed=1)
    # their weight is that of a squared norm without its half, with levels of [-1, 1]:
    # 2 lambda sigma_y^2 / (2 s)^2 is half of lambda in consistent units
    ours = DiffPIR(prior, lam=lam / 2, width="sigma", eta_renoise=0.0, tol=1e-7)
    problem = Problem(y, physics, ONE, 0.05)
    assert len(states) == 6
    for (x, s), (expected, s_next) in zip(states, states[1:], strict=False):
        found = ours.step(x, s, s_next, problem, Silent(1)).state
        # float32 tables of alpha-bar; at large levels one minus them has lost digits
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * s_next + 1e-4)


@pytest.mark.parametrize(
    ("knobs", "word"),
    [
        ({"lam": 0.0}, "lam"),
        ({"width": "r"}, "width"),
        ({"eta_renoise": 1.1}, "eta_renoise"),
        ({"cg": 0}, "cg"),
    ],
)
def test_impossible_settings_are_refused(knobs, word) -> None:
    with pytest.raises(ValueError, match=rf"{word}.*found"):
        DiffPIR(GaussianField.power_law((4, 4)), **knobs)
