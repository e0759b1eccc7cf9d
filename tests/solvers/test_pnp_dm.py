"""Split Gibbs sampling against its own law, in closed form."""

from __future__ import annotations

import pytest
import torch

from sciinv.priors import GaussianField
from sciinv.solvers import PnPDM
from sciinv.solvers.testing import affine_law, deviation
from sciinv.solvers.truth import exact_problem

from .oracle import ManyRows

RHO = 0.7


def own_law(case, rho):  # noqa: ANN001, ANN201
    """Mean and covariance of p(x) N(y; A x, sigma^2 + rho^2 A A^T)."""
    n = case.truth[0].numel()
    eye = torch.eye(n, dtype=torch.float64)
    a = case.physics.A(eye.reshape(n, *case.truth.shape[1:])).flatten(1).T
    noise = case.sigma**2 * torch.eye(len(a), dtype=torch.float64) + rho**2 * a @ a.T
    c = case.prior.dense_covariance()
    gain = c @ a.T @ torch.linalg.inv(noise + a @ c @ a.T)
    return gain @ case.y.flatten(), c - gain @ a @ c


@pytest.mark.parametrize("name", ["ct", "blur"])
def test_the_chain_tends_to_its_own_law(name) -> None:
    case = exact_problem(name, (3, 3))
    n = case.truth[0].numel()
    solver = PnPDM(
        case.prior,
        steps=20,
        rho_max=RHO,
        rho_min=RHO,
        prior_steps=2,
        transition="moments",
        lanczos=n,
        cg=100,
        tol=1e-13,
    )
    mean, covariance = own_law(case, RHO)
    law = affine_law(solver, case.y, case.physics)
    found = deviation(law, mean, covariance)
    # what is left of the start: in the slowest direction (variance below 9, no data) a factor of
    # c / (c + rho^2) < 0.95 an iteration, and most are far faster
    assert found.mean < 2e-2
    assert found.covariance < 2e-2
    # and that law is not the posterior: this test sees rho
    wide = deviation(law, case.posterior.mean, case.posterior.covariance())
    assert wide.covariance > 5 * found.covariance


def test_ancestral_draws_of_the_prior_converge_with_the_levels() -> None:
    prior = GaussianField.power_law((3, 3))
    c = prior.dense_covariance()
    eye = torch.eye(9, dtype=torch.float64)
    gain = c @ torch.linalg.inv(c + RHO**2 * eye)
    rows = 20000
    z = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    trace = {}
    for steps in (15, 30, 60):
        solver = PnPDM(prior, prior_steps=steps)
        assert solver.prior_levels(RHO)[0] == RHO
        x = solver.prior_draw(z.expand(rows, -1, -1, -1), RHO, ManyRows(rows)).flatten(1)
        trace[steps] = float(x.var(0).sum() / (RHO**2 * gain).trace())
        error = (x.mean(0) - gain @ z.flatten()).abs()
        # the mean of ancestral steps is first order too; three standard errors beside it
        assert float(error.max()) < 0.2 / steps * 5 + 3 * float(x.std(0).max()) / rows**0.5
    # the missing variance halves when the levels double
    missing = {steps: 1 - value for steps, value in trace.items()}
    assert missing[15] > missing[30] > missing[60] > 0
    assert missing[60] / missing[30] == pytest.approx(0.5, abs=0.15)


def test_coupling_falls_and_stays() -> None:
    case = exact_problem("blur", (3, 3))
    solver = PnPDM(case.prior, steps=10, rho_max=2.0, rho_min=0.1)
    rhos = solver.levels(None)
    assert rhos[0] == 2.0
    assert rhos[7:] == pytest.approx([0.1, 0.1, 0.1, 0.0])
    assert all(a >= b for a, b in zip(rhos, rhos[1:], strict=False))
    levels = solver.prior_levels(0.5)
    assert levels[0] == 0.5
    assert levels[-1] == 0.0
    assert all(a > b for a, b in zip(levels, levels[1:], strict=False))


@pytest.mark.parametrize(
    ("knobs", "word"),
    [
        ({"rho_min": 5.0}, "rho_min"),
        ({"decay": 1.5}, "decay"),
        ({"prior_steps": 0}, "prior_steps"),
        ({"transition": "ode"}, "transition"),
        ({"tol": -1.0}, "tol"),
    ],
)
def test_impossible_settings_are_refused(knobs, word) -> None:
    with pytest.raises(ValueError, match=rf"{word}.*found"):
        PnPDM(GaussianField.power_law((4, 4)), **knobs)
