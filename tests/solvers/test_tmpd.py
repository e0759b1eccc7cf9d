"""TMPD against dense row sums, and where they are the whole matrix."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.operators import CartesianMRI
from sciinv.priors import GaussianField
from sciinv.solvers import TMPD
from sciinv.solvers.problem import Problem
from sciinv.solvers.testing import affine_law, deviation
from sciinv.solvers.truth import exact_problem

from .oracle import ManyRows, matrix_physics

SHAPE = (1, 2, 3)


@pytest.mark.parametrize("rows", ["ones", "image"])
@pytest.mark.parametrize("s", [5.0, 0.3])
def test_estimate_equals_the_dense_row_sums(rows, s) -> None:
    g = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=g, dtype=torch.float64) / 2
    prior = GaussianField(torch.zeros(SHAPE), covariance=root @ root.T)
    # signs of both kinds: some of the row sums are negative and cut at the noise
    matrix = torch.randn(5, 6, generator=g.manual_seed(101), dtype=torch.float64)
    y = torch.randn(1, 5, generator=g, dtype=torch.float64)
    x = torch.randn(3, *SHAPE, generator=g, dtype=torch.float64)
    problem = Problem(y, matrix_physics(matrix, SHAPE), torch.zeros(3, dtype=torch.long), 0.1)
    found = TMPD(prior, rows=rows, limit=False).denoise(x, s, s, problem, ManyRows(3))
    covariance = prior.dense_covariance()
    v = s**2 * covariance @ torch.linalg.inv(covariance + s**2 * torch.eye(6).double())
    ones = torch.ones(5).double() if rows == "ones" else matrix @ torch.ones(6).double()
    sums = matrix @ v @ matrix.T @ ones
    assert bool((sums < 0).any()) and bool((sums > 0).any())
    d = prior(x, s).flatten(1)
    scaled = (y - d @ matrix.T) / (0.01 + sums.clamp_min(0))
    torch.testing.assert_close(found.flatten(1), d + scaled @ matrix @ v, rtol=1e-9, atol=1e-9)


def fourier(shape=(5, 6)):
    """Half of the Fourier coefficients of a stationary complex image: A V A^T is diagonal."""
    prior = GaussianField.power_law(shape, channels=2)
    g = torch.Generator().manual_seed(1)
    mask = (torch.rand(shape, generator=g) < 0.5).double()
    physics = CartesianMRI(shape, mask=mask, dtype=torch.float64)
    physics.noise_model = GaussianNoise(0.1)
    y = physics(prior.sample(1, g, dtype=torch.float64))
    return prior, physics, y


def test_law_is_exact_for_fourier_coefficients_of_a_stationary_image() -> None:
    prior, physics, y = fourier()
    posterior = prior.posterior(y, physics, 0.1)
    law = affine_law(TMPD(prior, steps=60, integrator="heun"), y, physics)
    found = deviation(law, posterior.mean, posterior.covariance())
    assert found.mean < 0.005
    assert found.covariance < 0.01


def test_the_limit_is_at_rest_where_the_diagonal_is_right() -> None:
    prior, physics, y = fourier()
    g = torch.Generator().manual_seed(2)
    problem = Problem(y, physics, torch.zeros(4, dtype=torch.long), 0.1)
    for s in (20.0, 1.0, 0.05):
        x = prior.sample(4, g, dtype=torch.float64) + s * torch.randn(
            4, 2, 5, 6, generator=g, dtype=torch.float64
        )
        found = [
            TMPD(prior, limit=limit).denoise(x, s, s, problem, ManyRows(4))
            for limit in (True, False)
        ]
        torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


def test_sums_that_cancel_diverge_without_the_limit_only() -> None:
    # A 1 is one Fourier coefficient: nearly all sums of the authors' form vanish
    problem = exact_problem("mri", (8, 8))

    def worst(limit):
        solver = TMPD(problem.prior, rows="image", steps=40, limit=limit)
        _, info = solver.sample(problem.y, problem.physics, 2, generator=0, return_info=True)
        return float(info.chi_squared.max())

    # what is left is a step of gradient descent: bounded, not to the noise
    assert worst(True) < 50
    assert worst(False) > 1e3
