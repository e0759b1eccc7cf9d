"""DAPS: exact with the Jacobian's covariance, and the published one's law in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from sciinv.errors import IncompatibleError
from sciinv.operators import FourierPhaseRetrieval
from sciinv.operators.likelihoods import GaussianLikelihood
from sciinv.priors import GaussianField
from sciinv.solvers import DAPS
from sciinv.solvers.schedule import edm_sigmas
from sciinv.solvers.testing import Law, affine_law, deviation
from sciinv.solvers.truth import exact_problem


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("name", ["mri", "ct", "blur"])
def test_the_jacobian_variant_is_exact_on_any_grid(name, steps) -> None:
    problem = exact_problem(name, (3, 3))
    n = problem.truth[0].numel()
    solver = DAPS(problem.prior, steps=steps, covariance="jacobian", krylov=n, lanczos=n)
    found = deviation(
        affine_law(solver, problem.y, problem.physics),
        problem.posterior.mean,
        problem.posterior.covariance(),
    )
    assert found.mean < 1e-6
    assert abs(found.std_ratio - 1) < 1e-6
    assert found.covariance < 1e-6


def recursion(problem, levels, centre, width, ode_steps):  # noqa: ANN001, ANN201
    """Mean and covariance of the published variant under a Gaussian prior, by matrices."""
    n = problem.truth[0].numel()
    eye = torch.eye(n, dtype=torch.float64)
    a = problem.physics.A(eye.reshape(n, *problem.truth.shape[1:])).flatten(1).T
    c = problem.prior.dense_covariance()
    h, b = a.T @ a / problem.sigma**2, a.T @ problem.y.flatten() / problem.sigma**2
    mean, cov = torch.zeros(n, dtype=torch.float64), levels[0] ** 2 * eye
    for s, s_next in zip(levels, levels[1:], strict=False):
        gain = c @ torch.linalg.inv(c + s**2 * eye)
        if centre == "ode":
            gain = eye
            inner = edm_sigmas(ode_steps, levels[-2], s)
            for u, v in zip(inner, inner[1:], strict=False):
                step = c @ torch.linalg.inv(c + u**2 * eye)
                gain = (step + v / u * (eye - step)) @ gain
        r = s if width == "sigma" else s / math.sqrt(1 + s * s)
        p = torch.linalg.inv(h + eye / r**2)
        k = p @ gain / r**2
        mean, cov = p @ b + k @ mean, k @ cov @ k.T + p + s_next**2 * eye
    return Law(mean, cov)


def test_the_published_variance_over_disperses_as_the_recursion_says() -> None:
    problem = exact_problem("blur", (4, 4))
    ratio = {}
    for centre in ("ode", "tweedie"):
        for width in ("sigma", "vp"):
            solver = DAPS(
                problem.prior,
                steps=6,
                centre=centre,
                width=width,
                ode_steps=3,
                sigma_max=10.0,
                sigma_min=0.05,
                cg=100,
                tol=1e-13,
            )
            levels = edm_sigmas(6, 0.05, 10.0)
            law = affine_law(solver, problem.y, problem.physics)
            expected = recursion(problem, levels, centre, width, 3)
            torch.testing.assert_close(law.mean, expected.mean, rtol=0, atol=1e-6)
            torch.testing.assert_close(law.covariance, expected.covariance, rtol=0, atol=1e-6)
            exact = deviation(law, problem.posterior.mean, problem.posterior.covariance())
            ratio[centre, width] = exact.std_ratio
    # the published pair is the widest, the default the nearest to the truth
    assert ratio["ode", "sigma"] == max(ratio.values()) > 1.1
    nearest = min(ratio, key=lambda key: abs(ratio[key] - 1))
    default = DAPS(problem.prior)
    assert nearest == (default.centre, default.width)


def test_white_priors_of_unit_variance_are_exact() -> None:
    problem = exact_problem("ct", (3, 3))
    white = GaussianField(0.0, power_spectrum=torch.ones(3, 3), channels=1)
    solver = DAPS(white, steps=4, cg=200, tol=1e-13)
    exact = white.posterior(problem.y, problem.physics, problem.sigma)
    found = deviation(
        affine_law(solver, problem.y, problem.physics), exact.mean, exact.covariance()
    )
    # the start has mean 0 and not that of the posterior; four draws leave some 1e-6 of it
    assert max(found.mean, abs(found.std_ratio - 1), found.covariance) < 1e-5


def test_the_jacobian_variant_says_what_it_needs() -> None:
    physics = FourierPhaseRetrieval((4, 4), channels=1, dtype=torch.float64)
    physics.noise_model = GaussianLikelihood(0.1)
    prior = GaussianField.power_law((4, 4))
    y = physics.A(prior.sample(1, 0, dtype=torch.float64))
    with pytest.raises(IncompatibleError, match='linear operator.*covariance="published"'):
        DAPS(prior, covariance="jacobian").sample(y, physics, 1)


@pytest.mark.parametrize(
    "knobs",
    [
        {"covariance": "other"},
        {"centre": "mean"},
        {"width": "r"},
        {"ode_steps": 0},
        {"langevin": 0},
        {"cg": 0},
        {"tol": 0.0},
    ],
)
def test_impossible_settings_are_refused(knobs) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(knobs))}: found"):
        DAPS(GaussianField.power_law((4, 4)), **knobs)
