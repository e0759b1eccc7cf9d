"""Problems with known posteriors: the posterior against other routes to it."""

from __future__ import annotations

import math

import pytest
import torch

from sciinv.solvers.truth import OPERATORS, exact_problem, mixture_problem


@pytest.mark.parametrize("name", OPERATORS)
def test_posterior_mean_solves_the_normal_equations(name: str) -> None:
    p = exact_problem(name, (6, 6), scans=2, generator=1)
    mean = p.posterior.mean
    # C^-1 (m - mu) = A^T (y - A m) / sigma^2, multiplied by C to avoid its inverse
    pull = p.physics.A_adjoint(p.y - p.physics.A(mean)) / p.sigma**2
    covariance = p.prior.dense_covariance()
    expected = (pull.flatten(1) @ covariance).reshape(mean.shape)
    assert float((mean - expected).norm() / mean.norm()) < 1e-6


def test_radial_mri_is_as_its_docstring_says() -> None:
    p = exact_problem("nufft", (8, 8), generator=2)
    assert p.y.shape == (1, 2, 2, 4 * 16)
    # the coils add up to one: without undersampling no pixel would be weighted
    maps = p.physics.coil_maps
    assert torch.allclose(maps.abs().square().sum(-3), torch.ones(8, 8, dtype=torch.float64))
    # data leave less than the prior's spread, and more than none
    assert 0.05 < float(p.posterior.std.mean()) < 0.8


@pytest.mark.parametrize(("dim", "count"), [(8, 1), (8, 4), (80, 2)])
def test_mixture_follows_the_recipe(dim: int, count: int) -> None:
    p = mixture_problem(dim, count, 5)
    eye = torch.eye(dim, dtype=torch.float64).reshape(dim, 1, 1, dim)
    matrix = p.physics.A(eye).reshape(dim, count).T
    singular = torch.linalg.svdvals(matrix)
    assert p.y.shape == (1, 1, 1, count)
    assert 0 < float(singular.min()) and float(singular.max()) < 1
    assert 0 < p.sigma < float(singular.max())
    dots = (p.physics.A(p.truth) * p.y).sum(), (p.truth * p.physics.A_adjoint(p.y)).sum()
    assert float(dots[0]) == pytest.approx(float(dots[1]), rel=1e-12)
    # weights of the posterior: the evidence of every component, by its own formula
    covariance = matrix @ matrix.T + p.sigma**2 * torch.eye(count, dtype=torch.float64)
    centres = p.prior.means @ matrix.T
    law = torch.distributions.MultivariateNormal(centres, covariance)
    log_w = p.prior.weights.log() + law.log_prob(p.y.flatten())
    assert torch.allclose(torch.softmax(log_w, 0), p.posterior.weights[0], atol=1e-9)


def test_mixture_problems_differ_between_seeds() -> None:
    one, two = mixture_problem(8, 2, 1), mixture_problem(8, 2, 2)
    assert not math.isclose(one.sigma, two.sigma)
    assert torch.equal(one.y, mixture_problem(8, 2, 1).y)
