"""Non-linear operators and other likelihoods in moment matching and MMT."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics, Physics

from sciinv.operators import whiten
from sciinv.operators.likelihoods import (
    BeerLambertLikelihood,
    GaussianLikelihood,
    PoissonLikelihood,
    likelihood_of,
)
from sciinv.priors import GaussianField
from sciinv.solvers import MMT, MomentMatching
from sciinv.solvers.guidance.linearisation import (
    QuadraticModel,
    conditional_shift,
    jvp,
    log_likelihood,
)
from sciinv.solvers.problem import Problem

from .oracle import ManyRows
from .test_solver_likelihoods import field, problems


def problem_of(name, rows=2):
    physics, y, truth = problems()[name]
    white = isinstance(physics.noise_model, GaussianNoise)
    sigma = float(physics.noise_model.sigma) if white else 1.0
    likelihood = None if white else likelihood_of(physics)
    return Problem(y, physics, torch.arange(rows), sigma, likelihood), truth


NAMES = list(problems())


@pytest.mark.parametrize("name", NAMES)
def test_derivative_of_the_operator(name) -> None:
    problem, truth = problem_of(name)
    g = torch.Generator().manual_seed(0)
    x = truth + 0.1 * torch.randn(truth.shape, generator=g, dtype=torch.float64)
    v = torch.randn(truth.shape, generator=g, dtype=torch.float64)
    found, h = jvp(problem, x, v), 1e-6
    numeric = (problem.A(x + h * v) - problem.A(x - h * v)) / (2 * h)
    assert float((found - numeric).norm() / numeric.norm()) < 1e-6
    # and it is the transpose of the vector-Jacobian product
    u = torch.randn(problem.y.shape, generator=g, dtype=torch.float64)
    left, right = (found * u).sum(), (v * problem.vjp(x, u)).sum()
    assert abs(float(left - right)) < 1e-9 * float(found.norm() * u.norm())


def test_operator_without_forward_differentiation() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            return 3 * ctx.saved_tensors[0] ** 2 * g

    class Cubes(Physics):
        def A(self, x, **kwargs):
            return Cube.apply(x)

        def A_vjp(self, x, v):
            return 3 * x**2 * v

    x = torch.tensor([[[1.0, -2.0, 0.5]]], dtype=torch.float64)
    problem = Problem(x.clone(), Cubes(), torch.zeros(1, dtype=torch.long), 0.1)
    torch.testing.assert_close(jvp(problem, x, torch.ones_like(x)), 3 * x**2)


@pytest.mark.parametrize("name", NAMES)
def test_model_has_the_gradient_and_the_fisher_information(name) -> None:
    problem, truth = problem_of(name)
    x = truth.mul(0.8).add(0.02)
    model = QuadraticModel(problem, x)
    torch.testing.assert_close(model.gradient, problem.score(x)[0])
    g = torch.Generator().manual_seed(0)
    v = torch.randn(x.shape, generator=g, dtype=torch.float64)
    # H v = A'^T W A' v by automatic differentiation of the operator alone
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        ax = problem.A(leaf)
        weight = problem.masked(problem.likelihood.information(ax.detach()))
        (expected,) = torch.autograd.grad(ax, leaf, weight * jvp(problem, x, v))
    torch.testing.assert_close(model.normal(v), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        model.about(x + v), model.gradient - model.normal(v), rtol=1e-9, atol=1e-7
    )


def test_draws_of_the_model_have_its_curvature_as_covariance() -> None:
    rows = 20000
    likelihood = PoissonLikelihood(background=1.0)
    g = torch.Generator().manual_seed(0)
    matrix = torch.rand(4, 3, generator=g, dtype=torch.float64)
    physics = LinearPhysics(
        A=lambda x: x.flatten(1) @ matrix.T,
        A_adjoint=lambda v: (v @ matrix).reshape(-1, 1, 3),
        img_size=(1, 3),
    )
    y = torch.ones(1, 4, dtype=torch.float64)
    problem = Problem(y, physics, torch.zeros(rows, dtype=torch.long), 1.0, likelihood)
    x = torch.tensor([0.5, 2.0, 1.0]).double().expand(rows, 1, 3)
    draws = QuadraticModel(problem, x).draw(ManyRows(rows)).flatten(1)
    weight = 1 / (matrix @ x[0, 0] + 1.0)
    expected = matrix.T @ (weight[:, None] * matrix)
    found = draws.T @ draws / rows
    scale = torch.outer(expected.diagonal(), expected.diagonal()).sqrt()
    # the variance of a product of two normal numbers is at most 2
    assert float(((found - expected) / scale).abs().max()) < 5 * (2 / rows) ** 0.5


@pytest.mark.parametrize("method", [MMT, MomentMatching])
def test_unequal_noise_is_the_whitened_operator(method) -> None:
    physics, y, _ = problems()["unequal gaussian"]
    solver = method(field(), steps=4, krylov=6, sigma_max=5.0, sigma_min=0.05)
    found = solver.sample(y, physics, 2, generator=0)
    whitened = whiten(physics, physics.noise_model.sigma)
    expected = solver.sample(whitened.whiten_measurement(y), whitened, 2, generator=0)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


LIKELIHOODS = {
    "poisson": PoissonLikelihood(background=0.5),
    "beer-lambert": BeerLambertLikelihood(50.0),
    "unequal": GaussianLikelihood(torch.full((1, 1), 0.3).double()),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("centre", [0.1, 3.0, 8.0])
def test_newton_steps_end_where_the_gradient_vanishes(name, centre) -> None:
    g = torch.Generator().manual_seed(1)
    matrix = torch.rand(5, 4, generator=g, dtype=torch.float64)
    physics = LinearPhysics(
        A=lambda x: x.flatten(1) @ matrix.T,
        A_adjoint=lambda v: (v @ matrix).reshape(-1, 1, 4),
        img_size=(1, 4),
    )
    y = torch.tensor([[3.0, 20.0, 1.0, 2.0, 7.0]], dtype=torch.float64)
    problem = Problem(y, physics, torch.zeros(2, dtype=torch.long), 1.0, LIKELIHOODS[name])
    root = torch.randn(4, 4, generator=g, dtype=torch.float64)
    jacobian = root @ root.T / 8
    middle = torch.full((2, 1, 4), centre, dtype=torch.float64)

    def multiply(v):
        return (v.flatten(1) @ jacobian).reshape(v.shape)

    def objective(x):
        d = (x - middle).flatten(1)
        return (d @ torch.linalg.inv(4 * jacobian) * d).sum(1) / 2 - log_likelihood(problem, x)

    values = [objective(middle)]
    for newton in (1, 2, 3, 40):
        shift = conditional_shift(problem, multiply, middle, s=2.0, krylov=4, newton=newton)
        values.append(objective(middle + shift))
    # every step lowers it, also where exp(-8) counts are expected of 20
    assert all(bool((b <= a + 1e-9).all()) for a, b in zip(values, values[1:], strict=False))
    at = middle + shift
    pull = multiply(problem.score(at)[0])
    assert float((4 * pull - shift).norm() / shift.norm()) < 1e-5


def test_counts_of_independent_pixels_by_quadrature() -> None:
    mean, variance, scale = 1.0, 0.09, 60.0
    prior = GaussianField(
        torch.full((1, 4, 4), mean).double(), power_spectrum=torch.full((4, 4), variance).double()
    )
    physics = LinearPhysics(A=lambda x: x, A_adjoint=lambda x: x, img_size=(1, 4, 4))
    physics.noise_model = PoissonLikelihood(scale=scale, rng=torch.Generator().manual_seed(2))
    y = physics(prior.sample(1, 3, dtype=torch.float64))
    grid = torch.linspace(0.01, 3, 4000, dtype=torch.float64)
    counts = y.flatten()[:, None]
    log_p = counts * grid.log() - scale * grid - (grid - mean) ** 2 / (2 * variance)
    weight = torch.softmax(log_p, 1)
    exact = (weight * grid).sum(1)
    std = ((weight * grid**2).sum(1) - exact**2).sqrt()
    number = 300
    solver = MMT(prior, steps=8, krylov=8, lanczos=1, sigma_min=0.03)
    found = solver.sample(y, physics, number, generator=4).flatten(1)
    # Laplace's mode is off the mean by about a third of std^2 / mean; 5 standard errors beside it
    bias = std**2 / exact
    assert bool(((found.mean(0) - exact).abs() < bias + 5 * std / number**0.5).all())
    ratio = float((found.std(0) / std).square().mean().sqrt())
    assert abs(ratio - 1) < 0.03 + 3 / (2 * 16 * number) ** 0.5


FITTED = [
    (MMT, "coded diffraction, counts"),
    (MMT, "intensity poisson"),
    (MomentMatching, "intensity poisson"),
    (MomentMatching, "beer-lambert"),
]


@pytest.mark.parametrize(("method", "name"), FITTED)
def test_samples_fit_to_the_noise(method, name) -> None:
    physics, y, truth = problems()[name]
    steps = {"steps": 8} if method is MMT else {"steps": 12, "integrator": "euler"}
    solver = method(field(truth.shape[1]), krylov=8, sigma_max=5.0, sigma_min=0.02, **steps)
    samples, info = solver.sample(y, physics, 2, generator=0, return_info=True)
    assert samples.shape == (2, *truth.shape)
    # one, within the bias of the Gauss-Newton model; DPS is allowed 4 on the same problems
    assert 0.6 < float(info.chi_squared.mean()) < 1.4


def test_float32_agrees_with_float64() -> None:
    physics, y, _ = problems()["beer-lambert"]
    solver = MMT(field(), steps=4, krylov=6, sigma_max=5.0, sigma_min=0.05)
    exact = solver.sample(y, physics, 2, generator=0)
    single = solver.sample(y.float(), physics.to(torch.float32), 2, generator=0)
    assert single.dtype == torch.float32
    # the posterior spread is 0.2
    assert float((single.double() - exact).abs().max()) < 5e-3
