"""PiGDM against dense algebra, its exact case, the published step and deepinv's gradient."""

from __future__ import annotations

import deepinv
import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics

from sciinv.priors import GaussianField
from sciinv.solvers import PiGDM
from sciinv.solvers.problem import Problem
from sciinv.solvers.testing import affine_law, deviation

from .oracle import ManyRows, Silent, matrix_physics, with_singular_values

SHAPE = (1, 2, 3)
MATRIX = with_singular_values((1.0, 0.5, 0.1), 5, 6)
SIGMA = 0.1


def smooth_prior():
    g = torch.Generator().manual_seed(5)
    root = torch.randn(6, 6, generator=g, dtype=torch.float64) / 2
    mean = torch.randn(SHAPE, generator=g, dtype=torch.float64)
    return GaussianField(mean, covariance=root @ root.T + 0.01 * torch.eye(6).double())


def white_prior(variance):
    mean = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(SHAPE)
    return GaussianField(mean, covariance=variance * torch.eye(6, dtype=torch.float64))


def case(rows=3, sigma=SIGMA):
    g = torch.Generator().manual_seed(3)
    y = torch.randn(1, 5, generator=g, dtype=torch.float64)
    x = torch.randn(rows, *SHAPE, generator=g, dtype=torch.float64)
    physics = matrix_physics(MATRIX, SHAPE, sigma)
    return Problem(y, physics, torch.zeros(rows, dtype=torch.long), sigma), x, y


def started(solver, problem, x):
    """Let the solver take the variance of its prior."""
    solver.init(problem, Silent(len(x)), solver.levels(problem)[0], torch.zeros_like(x))
    return solver


@pytest.mark.parametrize("s", [20.0, 0.7, 0.03])
def test_estimate_equals_the_dense_formula(s) -> None:
    problem, x, y = case()
    prior, c = smooth_prior(), 0.5
    solver = started(PiGDM(prior, prior_std=c**0.5, limit=False, cg=200), problem, x)
    # cg stops at 1e-4 of the right-hand side; the guidance itself is compared, not D
    found = solver.denoise(x, s, s, problem, ManyRows(3)) - prior(x, s)
    covariance = prior.dense_covariance()
    eye = torch.eye(6, dtype=torch.float64)
    jacobian = covariance @ torch.linalg.inv(covariance + s**2 * eye)
    r_sq = c * s**2 / (c + s**2)
    system = r_sq * MATRIX @ MATRIX.T + SIGMA**2 * torch.eye(5, dtype=torch.float64)
    rho = y - prior(x, s).flatten(1) @ MATRIX.T
    expected = s**2 * torch.linalg.solve(system, rho.T).T @ MATRIX @ jacobian
    assert float((found.flatten(1) - expected).norm() / expected.norm()) < 1e-3


@pytest.mark.parametrize("prior_std", [0.7, None])
@pytest.mark.parametrize("s", [5.0, 0.4])
def test_white_images_are_exact_and_the_limit_is_at_rest(prior_std, s) -> None:
    problem, x, y = case()
    prior = white_prior(0.49)
    found = [
        started(PiGDM(prior, prior_std=prior_std, limit=limit), problem, x).denoise(
            x, s, s, problem, ManyRows(3)
        )
        for limit in (True, False)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)
    # E[x0 | x, y]: precision I / c + I / s^2 + A^T A / sigma^2
    eye = torch.eye(6, dtype=torch.float64)
    precision = (1 / 0.49 + 1 / s**2) * eye + MATRIX.T @ MATRIX / SIGMA**2
    rhs = prior.mean.flatten() / 0.49 + x.flatten(1) / s**2 + y @ MATRIX / SIGMA**2
    expected = torch.linalg.solve(precision, rhs.T).T
    torch.testing.assert_close(found[0].flatten(1), expected, rtol=0, atol=2e-4)


def test_law_under_a_white_prior() -> None:
    prior = white_prior(0.49)
    physics = matrix_physics(MATRIX, SHAPE, SIGMA)
    y = torch.tensor([[0.3, -0.2, 1.0, 0.4, -0.8]], dtype=torch.float64)
    posterior = prior.posterior(y, physics, SIGMA)
    found = deviation(
        affine_law(PiGDM(prior, steps=60, integrator="heun"), y, physics),
        posterior.mean,
        posterior.covariance(),
    )
    assert found.mean < 0.005
    assert found.covariance < 0.01


def test_exact_data_are_met_and_the_null_space_keeps_the_prior() -> None:
    matrix = with_singular_values((1.0, 0.5, 0.3, 0.2), 4, 6)
    prior = white_prior(0.49)
    physics = matrix_physics(matrix, SHAPE)
    g = torch.Generator().manual_seed(1)
    truth = prior.sample(1, g, dtype=torch.float64)
    y = physics.A(truth)
    solver = PiGDM(prior, steps=60, integrator="heun", noiseless=True)
    law = affine_law(solver, y, physics)
    assert float((law.mean @ matrix.T - y).norm() / y.norm()) < 1e-3
    null = torch.eye(6, dtype=torch.float64) - torch.linalg.pinv(matrix) @ matrix
    # no spread along the data, the prior's across them
    assert float((law.covariance - 0.49 * null).norm() / (0.49 * null).norm()) < 0.02
    mean = null @ prior.mean.flatten() + torch.linalg.pinv(matrix) @ y.flatten()
    assert float((law.mean - mean).norm() / mean.norm()) < 0.005


def test_published_step_in_its_own_variables() -> None:
    # the paper's DDIM step for data without noise: xv = sqrt(ab) x, ab = 1 / (1 + s^2)
    matrix = with_singular_values((1.0, 0.5, 0.3, 0.2), 4, 6)
    physics, prior = matrix_physics(matrix, SHAPE, 1e-6), smooth_prior()
    g = torch.Generator().manual_seed(3)
    y = torch.randn(1, 4, generator=g, dtype=torch.float64)
    x = torch.randn(2, *SHAPE, generator=g, dtype=torch.float64)
    problem = Problem(y, physics, torch.zeros(2, dtype=torch.long), 1e-6)
    s, t = 1.3, 0.8
    solver = PiGDM(prior, weighting="paper", integrator="ddim", prior_std=1.0, cg=200)
    found = started(solver, problem, x).step(x, s, t, problem, ManyRows(2)).state
    ab_s, ab_t = 1 / (1 + s**2), 1 / (1 + t**2)
    pinv = torch.linalg.pinv(matrix)
    variable = (ab_s**0.5 * x).requires_grad_()
    d = prior(variable / ab_s**0.5, s)
    noise = (variable - ab_s**0.5 * d) / (1 - ab_s) ** 0.5
    bracket = (y - d.flatten(1) @ matrix.T) @ pinv.T
    (gradient,) = torch.autograd.grad((bracket.detach() * d.flatten(1)).sum(), variable)
    moved = ab_t**0.5 * d + (1 - ab_t) ** 0.5 * noise + (ab_s * ab_t) ** 0.5 * gradient
    torch.testing.assert_close(found, (moved / ab_t**0.5).detach(), rtol=0, atol=1e-3)


class Net(torch.nn.Module):
    """Small smooth denoiser in deepinv's way of calling."""

    def forward(self, x, sigma, **kwargs):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1)[0]
        return torch.tanh(x + 0.3 * x.roll(1, -1)) / (1 + level**2)


OPERATORS = {
    "inpainting": lambda: deepinv.physics.Inpainting(
        img_size=(1, 6, 6),
        mask=(torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(1)) < 0.6).float(),
    ),
    "blur": lambda: deepinv.physics.BlurFFT(
        img_size=(1, 6, 6), filter=torch.tensor([[[[0.1, 0.2, 0.1], [0, 0.4, 0], [0, 0.2, 0]]]])
    ),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("s", [3.0, 0.3])
def test_gradient_is_that_of_deepinv(operator, s) -> None:
    physics = OPERATORS[operator]()
    physics.noise_model = GaussianNoise(0.1)
    g = torch.Generator().manual_seed(2)
    x, truth = torch.randn(2, 1, 6, 6, generator=g), torch.randn(1, 1, 6, 6, generator=g)
    y = physics.A(truth)
    net = Net()
    theirs = deepinv.sampling.PiGDMDataFidelity(denoiser=net)
    expected = net(x, s) - s**2 * theirs.grad(x, y.expand(2, *y.shape[1:]), physics, s)
    problem = Problem(y, physics, torch.zeros(2, dtype=torch.long), 0.1)
    solver = PiGDM(net, prior_std=1.0, limit=False, cg=100)
    solver.sigma_max = 10.0
    found = started(solver, problem, x).denoise(x, s, s, problem, ManyRows(2))
    # theirs solves by the singular value decomposition, ours by iterations to 1e-4
    assert float((found - expected).norm() / (expected - net(x, s)).norm()) < 3e-4


def test_what_the_prior_declares_is_used() -> None:
    problem, x, _ = case()

    class Declares:
        sigma_data = 0.3

        def __call__(self, x, sigma):
            return x / (1 + sigma**2)

    solver = started(PiGDM(Declares(), sigma_max=10.0), problem, x)
    torch.testing.assert_close(
        solver.spread_squared(2.0), torch.full((3,), 0.09 * 4 / 4.09, dtype=torch.float64)
    )
    # D = x / (1 + s^2) is that of a unit variance, found from the Jacobian at the first level
    solver = started(PiGDM(lambda x, s: x / (1 + s**2), sigma_max=10.0), problem, x)
    torch.testing.assert_close(
        solver.spread_squared(2.0), torch.full((3,), 0.8, dtype=torch.float64)
    )


def test_smooth_images_diverge_without_the_limit_only() -> None:
    # most of the variance in few coefficients: there s^2 J is a hundred times r^2
    prior = GaussianField.power_law((32, 32), exponent=2.5)
    physics = LinearPhysics(A=lambda x: x, A_adjoint=lambda x: x, img_size=(1, 32, 32))
    physics.noise_model = GaussianNoise(0.05)
    g = torch.Generator().manual_seed(0)
    y = physics(prior.sample(1, g, dtype=torch.float64))

    def worst(limit):
        solver = PiGDM(prior, steps=30, prior_std=1.0, limit=limit)
        _, info = solver.sample(y, physics, 2, generator=0, return_info=True)
        return float(info.chi_squared.max())

    assert worst(True) < 2
    assert worst(False) > 100
