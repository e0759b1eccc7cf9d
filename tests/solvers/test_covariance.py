"""Scalar and diagonal covariances: the estimates, the updates, and where they are exact."""

from __future__ import annotations

import deepinv
import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.priors import GaussianField
from sciinv.solvers import MMT, MomentMatching
from sciinv.solvers.guidance.covariance import (
    _local_mean,
    diagonal_variance,
    prior_variance,
    scalar_variance,
    trace_share,
)
from sciinv.solvers.problem import Linearised, Problem
from sciinv.solvers.testing import affine_law, check_solver, deviation

from .oracle import ManyRows, matrix_physics, with_singular_values

SHAPE = (1, 2, 3)
MATRIX = with_singular_values((1.0, 0.5, 0.1), 5, 6)
SIGMA = 0.1


def white_prior(variance=0.49):
    mean = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(SHAPE)
    return GaussianField(mean, covariance=variance * torch.eye(6, dtype=torch.float64))


def case(rows=3):
    g = torch.Generator().manual_seed(3)
    y = torch.randn(1, 5, generator=g, dtype=torch.float64)
    x = torch.randn(rows, *SHAPE, generator=g, dtype=torch.float64)
    physics = matrix_physics(MATRIX, SHAPE, SIGMA)
    return Problem(y, physics, torch.zeros(rows, dtype=torch.long), SIGMA), x, y


def test_trace_and_diagonal_are_unbiased() -> None:
    rows, s = 4000, 1.0
    g = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=g, dtype=torch.float64) / 2
    covariance = root @ root.T
    prior = GaussianField(torch.zeros(SHAPE), covariance=covariance)
    jacobian = covariance @ torch.linalg.inv(covariance + s**2 * torch.eye(6).double())
    x = torch.zeros(rows, *SHAPE, dtype=torch.float64)
    found = trace_share(Linearised(prior, x, s), ManyRows(rows), 1)
    error = float(found.std()) / rows**0.5
    assert abs(float(found.mean() - jacobian.trace() / 6)) < 5 * error
    # each window of 7 pixels holds the whole of a 2 x 3 image, or all of it that is near
    expected = _local_mean(jacobian.diagonal().reshape(1, *SHAPE))
    share = diagonal_variance(Linearised(prior, x, s), s, ManyRows(rows, seed=1), 1)
    z = (share.mean(0) - expected[0]) / (share.std(0) / rows**0.5)
    assert float(z.abs().max()) < 5


def test_window_is_an_average_over_existing_pixels() -> None:
    x = torch.randn(2, 1, 9, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.nn.functional.avg_pool2d(x, 7, stride=1, padding=3, count_include_pad=False)
    torch.testing.assert_close(_local_mean(x), expected)


def test_diagonal_follows_where_the_image_is_uncertain() -> None:
    # known on the left, unknown on the right; nothing is correlated, so one probe is exact
    gain = torch.zeros(1, 1, 8, 32, dtype=torch.float64)
    gain[..., 16:] = 0.8
    at = Linearised(lambda x, s: gain * x, torch.zeros(2, 1, 8, 32, dtype=torch.float64), 2.0)
    found = diagonal_variance(at, 2.0, ManyRows(2), 1)
    assert found.shape == (2, 1, 8, 32)
    torch.testing.assert_close(found[..., 20:], torch.full_like(found[..., 20:], 3.2))
    # a tenth of the average is the least
    torch.testing.assert_close(found[..., :12], torch.full_like(found[..., :12], 0.16))


def test_prior_variance_is_read_off_the_first_level() -> None:
    at = Linearised(white_prior(0.3), torch.zeros(2, *SHAPE, dtype=torch.float64), 5.0)
    torch.testing.assert_close(
        prior_variance(at, 5.0, ManyRows(2)), torch.full((2,), 0.3, dtype=torch.float64)
    )
    found = scalar_variance(at, 5.0, ManyRows(2), 1, None)
    torch.testing.assert_close(found.flatten(), torch.full((2,), 0.3 * 25 / 25.3).double())


@pytest.mark.parametrize("s", [5.0, 0.3])
def test_scalar_estimate_equals_the_dense_formula(s) -> None:
    problem, x, y = case()
    prior = GaussianField.power_law((2, 3))
    solver = MomentMatching(prior, krylov=6, covariance="scalar", prior_std=0.8)
    found = solver.denoise(x, s, s, problem, ManyRows(3))
    v = 0.64 * s**2 / (0.64 + s**2)
    system = v * MATRIX @ MATRIX.T + SIGMA**2 * torch.eye(5, dtype=torch.float64)
    d = prior(x, s).flatten(1)
    expected = d + v * torch.linalg.solve(system, (y - d @ MATRIX.T).T).T @ MATRIX
    torch.testing.assert_close(found.flatten(1), expected, rtol=1e-9, atol=1e-9)


def test_diagonal_estimate_equals_the_dense_formula() -> None:
    problem, x, y = case()
    s, gain = 0.9, torch.tensor([0.1, 0.3, 0.9, 0.2, 0.5, 0.7], dtype=torch.float64)

    def denoiser(x, sigma):
        return x * gain.reshape(SHAPE)

    solver = MomentMatching(denoiser, krylov=6, covariance="diagonal", probes=1)
    found = solver.denoise(x, s, s, problem, ManyRows(3)).flatten(1)
    v = s**2 * _local_mean(gain.reshape(1, *SHAPE)).flatten()
    system = (MATRIX * v) @ MATRIX.T + SIGMA**2 * torch.eye(5, dtype=torch.float64)
    d = denoiser(x, s).flatten(1)
    expected = d + torch.linalg.solve(system, (y - d @ MATRIX.T).T).T @ MATRIX * v
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("method", "covariance"), [(MMT, "diagonal"), (MMT, "scalar"), (MomentMatching, "scalar")]
)
def test_law_is_exact_for_white_images(method, covariance) -> None:
    prior = white_prior()
    physics = matrix_physics(MATRIX, SHAPE, SIGMA)
    y = torch.tensor([[0.3, -0.2, 1.0, 0.4, -0.8]], dtype=torch.float64)
    posterior = prior.posterior(y, physics, SIGMA)
    # Heun's error is 4 % at 20 steps and 0.2 % at 50; MMT has that of the start alone
    options = {"steps": 8, "sigma_max": 30.0} if method is MMT else {"steps": 40}
    solver = method(prior, krylov=6, covariance=covariance, probes=1, **options)
    found = deviation(affine_law(solver, y, physics), posterior.mean, posterior.covariance())
    assert found.mean < 0.005
    assert found.covariance < 0.02


@pytest.mark.parametrize("covariance", ["diagonal", "scalar"])
@pytest.mark.parametrize("method", [MMT, MomentMatching])
def test_contracts(method, covariance) -> None:
    class Approximate(method):
        exact_for = "white images"

    check_solver(lambda p: Approximate(p, steps=8, krylov=10, covariance=covariance))


def test_full_estimate_is_that_of_deepinv() -> None:
    physics = deepinv.physics.Inpainting(
        img_size=(1, 4, 4),
        mask=(torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.6).float(),
    )
    physics.noise_model = GaussianNoise(0.3)
    prior = GaussianField.power_law((4, 4))
    g = torch.Generator().manual_seed(2)
    x, y = torch.randn(2, 1, 4, 4, generator=g), physics.A(torch.randn(1, 1, 4, 4, generator=g))
    problem = Problem(y, physics, torch.zeros(2, dtype=torch.long), 0.3)
    theirs = deepinv.sampling.MomentMatchingDataFidelity(
        denoiser=lambda z, sigma: prior(z, sigma.flatten()), cg_max_iter=60, cg_tol=1e-7
    )
    for s in (3.0, 0.3):
        expected = -(s**2) * theirs.grad(x, y.expand(2, -1, -1, -1), physics, s)
        found = MomentMatching(prior, krylov=16).denoise(x, s, s, problem, ManyRows(2))
        found = found - prior(x, s)
        # single precision, systems of condition 1 + s^2 / 0.09
        assert float((found - expected).norm() / expected.norm()) < 1e-4
