"""GaussianMixture against numerical integration and the dense formulas."""

from __future__ import annotations

import math

import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from sciinv.errors import GeometryError
from sciinv.priors.gaussian import GaussianField
from sciinv.priors.mixture import GaussianMixture

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Dense(LinearPhysics):
    def __init__(self, matrix, shape, noise=None):
        super().__init__(noise_model=noise)
        self.matrix = matrix
        self.shape = shape

    def A(self, x, **kwargs):
        return x.flatten(1) @ self.matrix.to(x.dtype).T

    def A_adjoint(self, y, **kwargs):
        return (y @ self.matrix.to(y.dtype)).reshape(-1, *self.shape)


def covariances(count, n, seed=0):
    a = normal(count, n, n, seed=seed)
    return a @ a.mT / n + 0.05 * torch.eye(n, dtype=F64)


WEIGHTS = torch.tensor([0.5, 0.2, 0.3], dtype=F64)
MIXTURES = {
    "dense": lambda: GaussianMixture(WEIGHTS, 2 * normal(3, 4), covariances(3, 4)),
    "isotropic": lambda: GaussianMixture(
        2 * WEIGHTS, 2 * normal(3, 1, 2, 2), torch.tensor([0.1, 0.5, 1.0])
    ),
    "shared": lambda: GaussianMixture(WEIGHTS, 2 * normal(3, 4), 0.3, channels=2),
    "complex": lambda: GaussianMixture(WEIGHTS, normal(3, 2, 1, 2), covariances(1, 4)[0]),
}


@pytest.fixture(params=MIXTURES)
def mixture(request):
    return MIXTURES[request.param]()


def torch_mixture(prior, sigma=0.0):
    """The same law, by torch."""
    n = prior.means.shape[1]
    covs = torch.stack([f @ f.T for f in prior.factors()]) + sigma**2 * torch.eye(n, dtype=F64)
    return MixtureSameFamily(
        Categorical(probs=prior.weights), MultivariateNormal(prior.means, covs)
    )


def grid(low, high, count, dims):
    axis = torch.linspace(low, high, count, dtype=F64)
    points = torch.cartesian_prod(*[axis] * dims).reshape(-1, dims)
    return points, ((high - low) / (count - 1)) ** dims


@pytest.mark.parametrize("dims", [1, 2])
def test_denoiser_by_numerical_integration(dims):
    """E[x0 | x] = int x0 p(x0) N(x; x0, s^2) / int p(x0) N(x; x0, s^2), on a grid."""
    prior = GaussianMixture(WEIGHTS, 2 * normal(3, dims), covariances(3, dims))
    points, _ = grid(-16.0, 16.0, 6001 if dims == 1 else 501, dims)
    log_prior = torch_mixture(prior).log_prob(points)
    x = normal(3, dims, seed=3) * 2
    sigma = torch.tensor([0.4, 1.0, 2.5], dtype=F64)
    out = prior(x.reshape(3, 1, 1, dims), sigma).flatten(1)
    for i, s in enumerate(sigma):
        w = torch.softmax(log_prior - (points - x[i]).square().sum(1) / (2 * s**2), 0)
        # the trapezoidal sum of a smooth decaying integrand is exact to rounding here
        torch.testing.assert_close(out[i], w @ points, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dims", [1, 2])
def test_posterior_and_evidence_by_numerical_integration(dims):
    prior = GaussianMixture(WEIGHTS, 2 * normal(3, dims), covariances(3, dims))
    points, cell = grid(-16.0, 16.0, 6001 if dims == 1 else 501, dims)
    matrix = normal(1, dims, seed=6)
    sigma = 0.5
    y = torch.tensor([[0.7], [-1.5]], dtype=F64)
    posterior = prior.posterior(y, Dense(matrix, (1, 1, dims)), sigma)
    for i in range(2):
        log_joint = (
            torch_mixture(prior).log_prob(points)
            - (y[i] - points @ matrix.T).square().sum(1) / (2 * sigma**2)
            - 0.5 * math.log(2 * math.pi * sigma**2)
        )
        evidence = torch.logsumexp(log_joint, 0) + math.log(cell)
        torch.testing.assert_close(posterior.log_evidence[i], evidence, rtol=0, atol=1e-9)
        w = torch.softmax(log_joint, 0)
        mean = w @ points
        cov = (w[:, None] * (points - mean)).T @ (points - mean)
        torch.testing.assert_close(posterior.mean[i].flatten(), mean, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(posterior.covariance()[i], cov, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(
            posterior.std[i].flatten(), cov.diagonal().sqrt(), rtol=1e-8, atol=1e-8
        )


def test_isotropic_is_dense():
    """The two ways to square |x - m_k| (expanded for broad components) and the dense path agree."""
    means = normal(3, 4)
    x = 3 * normal(5, 1, 1, 4, seed=2)
    for variances in ([0.1, 0.5, 1.0], [1e-6, 1e-6, 1e-6]):
        v = torch.tensor(variances, dtype=F64)
        isotropic = GaussianMixture(WEIGHTS, means, v)
        dense = GaussianMixture(WEIGHTS, means, v[:, None, None] * torch.eye(4, dtype=F64))
        assert isotropic._expand == (variances[0] > 0.01)
        for s in (0.05, 1.0):
            torch.testing.assert_close(isotropic(x, s), dense(x, s), rtol=1e-11, atol=1e-11)


def test_density_is_torchs(mixture):
    x = normal(5, *mixture.img_size, seed=4)
    for s in (0.0, 0.7):
        expected = torch_mixture(mixture, s).log_prob(x.flatten(1))
        torch.testing.assert_close(mixture.log_prob(x, s), expected, rtol=1e-10, atol=1e-10)


def test_tweedie_and_jacobian(mixture):
    """First and second derivative of log p_s give the denoiser and a symmetric PSD Jacobian."""
    x = (2 * normal(2, *mixture.img_size, seed=5)).requires_grad_()
    sigma = torch.tensor([0.3, 1.2], dtype=F64)
    (score,) = torch.autograd.grad(mixture.log_prob(x, sigma).sum(), x)
    expected = x + (sigma**2).reshape(-1, 1, 1, 1) * score
    torch.testing.assert_close(mixture(x, sigma), expected, rtol=1e-10, atol=1e-10)
    one = x[:1].detach()
    jac = torch.autograd.functional.jacobian(lambda v: mixture(v, 0.8), one).reshape(4, 4)
    torch.testing.assert_close(jac, jac.T, rtol=0, atol=1e-12)
    assert torch.linalg.eigvalsh(jac).min() > 0
    assert torch.autograd.gradcheck(lambda v: mixture(v, 0.8), one.requires_grad_())


def test_posterior_is_the_textbook_mixture(mixture):
    matrix = normal(3, 4, seed=8)
    sigma = 0.4
    y = normal(2, 3, seed=9)
    physics = Dense(matrix, mixture.img_size, GaussianNoise(sigma))
    sigma = float(physics.noise_model.sigma)
    posterior = mixture.posterior(y, physics)
    covs = torch.stack([f @ f.T for f in mixture.factors()])
    s = matrix @ covs @ matrix.T + sigma**2 * torch.eye(3, dtype=F64)
    gain = torch.linalg.solve(s, matrix @ covs).mT
    predicted = mixture.means @ matrix.T
    for i in range(2):
        log_joint = mixture.weights.log() + MultivariateNormal(predicted, s).log_prob(y[i])
        torch.testing.assert_close(posterior.weights[i], torch.softmax(log_joint, 0))
        torch.testing.assert_close(posterior.log_evidence[i], torch.logsumexp(log_joint, 0))
        means = mixture.means + torch.einsum("kij,kj->ki", gain, y[i] - predicted)
        torch.testing.assert_close(posterior.means[i].flatten(1), means)
        torch.testing.assert_close(posterior.covariances[i], covs - gain @ matrix @ covs)
    # the posterior as a prior: its density is prior times likelihood over evidence
    x = normal(4, *mixture.img_size, seed=11)
    likelihood = MultivariateNormal(
        x.flatten(1) @ matrix.T, sigma**2 * torch.eye(3, dtype=F64)
    ).log_prob(y[1])
    expected = mixture.log_prob(x) + likelihood - posterior.log_evidence[1]
    torch.testing.assert_close(posterior.prior(1).log_prob(x), expected, rtol=1e-7, atol=1e-7)


def test_one_component_is_the_gaussian_field():
    cov, mean = covariances(1, 4)[0], normal(1, 1, 2, 2)
    mixture = GaussianMixture([1.0], mean, cov)
    field = GaussianField(mean[0], cov)
    x = normal(3, 1, 2, 2)
    torch.testing.assert_close(mixture(x, 0.3), field(x, 0.3), rtol=1e-11, atol=1e-11)
    physics, y = Dense(normal(2, 4), (1, 2, 2)), normal(2, 2)
    a, b = mixture.posterior(y, physics, 0.3), field.posterior(y, physics, 0.3)
    torch.testing.assert_close(a.mean, b.mean)
    torch.testing.assert_close(a.log_evidence, b.log_evidence)
    torch.testing.assert_close(mixture.sigma_max, field.sigma_max, rtol=1e-12, atol=0)
    torch.testing.assert_close(mixture.sigma_min, field.sigma_min, rtol=1e-12, atol=0)


def check_samples(x, mean, cov):
    """Mean and covariance within 5 standard errors."""
    count = len(x)
    variance = cov.diagonal()
    assert ((x.mean(0) - mean).abs() < 5 * (variance / count).sqrt()).all()
    d = x - x.mean(0)
    se = ((d[:, :, None] * d[:, None, :]).var(0) / count).sqrt()
    assert ((torch.cov(x.T) - cov).abs() < 5 * se).all()


def test_samples(mixture):
    count = 20_000
    x = mixture.sample(count, 1, dtype=F64)
    assert x.shape == (count, *mixture.img_size)
    law = torch_mixture(mixture)
    d = mixture.means - law.mean
    within = torch.stack([f @ f.T for f in mixture.factors()])
    cov = (mixture.weights[:, None, None] * within).sum(0) + (mixture.weights[:, None] * d).T @ d
    check_samples(x.flatten(1), law.mean, cov)
    # the mean of log p over samples is the negative entropy: sensitive to every mode
    other = torch_mixture(mixture).log_prob(law.sample((count,)))
    own = mixture.log_prob(x)
    assert abs(own.mean() - other.mean()) < 5 * math.sqrt(2) * own.std() / math.sqrt(count)


def test_posterior_samples_and_modes(mixture):
    count = 20_000
    physics = Dense(normal(2, 4, seed=3), mixture.img_size, GaussianNoise(1.0))
    posterior = mixture.posterior(normal(2, 2, seed=4), physics)
    x = posterior.sample(count, 2, dtype=F64)
    assert x.shape == (count, 2, *mixture.img_size)
    covariance = posterior.covariance()
    for i in range(2):
        check_samples(x[:, i].flatten(1), posterior.mean[i].flatten(), covariance[i])
    assert torch.equal(posterior.sample(5, 7), posterior.sample(5, 7))


def test_component_recovers_well_separated_weights():
    means = torch.tensor([[-50.0, 0.0], [0.0, 50.0], [50.0, 0.0]], dtype=F64)
    prior = GaussianMixture(WEIGHTS, means, 1.0)
    posterior = prior.posterior(torch.zeros(1, 1), Dense(torch.zeros(1, 2), (1, 1, 2)), 1.0)
    torch.testing.assert_close(posterior.weights[0], WEIGHTS)
    k = posterior.component(posterior.sample(10_000, 0))[:, 0]
    share = torch.bincount(k, minlength=3).double() / 10_000
    assert ((share - WEIGHTS).abs() < 5 * (WEIGHTS * (1 - WEIGHTS) / 10_000).sqrt()).all()


def test_far_points_and_zero_weights_stay_finite():
    prior = GaussianMixture([0.0, 1.0, 1.0], 100 * normal(3, 4), 1e-4)
    x = (1e4 * normal(2, 1, 1, 4)).requires_grad_()
    out = prior(x, 0.01)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert out.isfinite().all()
    assert gradient.isfinite().all()
    assert (prior.responsibilities(x.detach(), 0.01)[:, 0] == 0).all()


def test_grid25():
    prior = GaussianMixture.grid25(5, torch.Generator().manual_seed(3))
    z = torch.randn(25, generator=torch.Generator().manual_seed(3), dtype=F64)
    torch.testing.assert_close(prior.weights, z**2 / (z**2).sum())
    expected = {
        (8.0 * i, 8.0 * j, 8.0 * i, 8.0 * j, 8.0 * i) for i in range(-2, 3) for j in range(-2, 3)
    }
    assert {tuple(m.tolist()) for m in prior.means} == expected
    assert prior.img_size == (1, 1, 5)
    assert (prior.eigenvalues == 1).all()
    d = prior.means - prior.weights @ prior.means
    cov = torch.eye(5, dtype=F64) + (prior.weights[:, None] * d).T @ d
    top = torch.linalg.eigvalsh(cov)[-1].sqrt()
    assert prior.sigma_max == pytest.approx(10 * float(top))
    assert GaussianMixture.grid25(8, 0, image_shape=(2, 4)).img_size == (1, 2, 4)


def test_float32():
    prior = GaussianMixture.grid25(8, 0).to(torch.float32)
    x = prior.sample(4, 1)
    assert x.dtype == torch.float32
    out = prior(x, torch.full((4,), 0.5))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, prior(x.double(), 0.5).float(), rtol=1e-6, atol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="weights"):
        GaussianMixture([-1.0, 2.0], normal(2, 3), 1.0)
    with pytest.raises(GeometryError, match="means"):
        GaussianMixture([1.0, 2.0], normal(3, 3), 1.0)
    with pytest.raises(GeometryError, match="covariances"):
        GaussianMixture([1.0, 2.0], normal(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="variances"):
        GaussianMixture([1.0, 2.0], normal(2, 3), -1.0)
    with pytest.raises(GeometryError, match="expected 3 components"):
        GaussianMixture([1.0, 2.0], normal(2, 3), 1.0, image_shape=(2, 2))
    with pytest.raises(ValueError, match="semi-definite"):
        GaussianMixture([1.0], normal(1, 2), torch.diag(torch.tensor([1.0, -1.0])))
