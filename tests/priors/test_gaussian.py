"""GaussianField against dense formulas in float64."""

from __future__ import annotations

import math

import pytest
import torch
from deepinv.physics import Blur, GaussianNoise, Inpainting, LinearPhysics
from torch.distributions import MultivariateNormal

from sciinv.capabilities import Capability, prior_capabilities
from sciinv.errors import GeometryError, IncompatibleError
from sciinv.operators.base import LinearOperator
from sciinv.priors.base import as_prior
from sciinv.priors.gaussian import GaussianField

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Dense(LinearPhysics):
    """A given matrix as an operator; its adjoint is never needed by the posteriors."""

    def __init__(self, matrix, shape, noise=None):
        super().__init__(noise_model=noise)
        self.matrix = matrix
        self.shape = shape

    def A(self, x, **kwargs):
        return x.flatten(1) @ self.matrix.to(x.dtype).T

    def A_adjoint(self, y, **kwargs):
        return (y @ self.matrix.to(y.dtype)).reshape(-1, *self.shape)


class Weighted(LinearOperator):
    """Weights that differ over the batch, zero weight meaning unmeasured."""

    batch_buffers = ("weights",)

    def __init__(self, weights):
        super().__init__(weights.shape[2:], channels=1, measurement_shape=weights.shape[1:])
        self.register_buffer("weights", weights)

    @property
    def measurement_mask(self):
        return (self.weights != 0).to(F64)

    def A(self, x, **kwargs):
        return self.weights * x

    def A_adjoint(self, y, **kwargs):
        return self.weights * y


def random_covariance(n, seed=0, rank=None):
    a = normal(n, rank or n, seed=seed)
    return a @ a.T / n


def dense_truth(mean, cov, matrix, y, sigma):
    """The textbook formulas, in measurement space."""
    s = matrix @ cov @ matrix.T + sigma**2 * torch.eye(len(matrix), dtype=F64)
    gain = torch.linalg.solve(s, matrix @ cov).T
    predicted = mean @ matrix.T
    return (
        mean + (y - predicted) @ gain.T,
        cov - gain @ matrix @ cov,
        MultivariateNormal(predicted, s).log_prob(y),
    )


FIELDS = {
    "dense": lambda: GaussianField(
        normal(2, 3, 4, seed=5), random_covariance(24, rank=17), sigma_max=100.0
    ),
    "even": lambda: GaussianField.power_law((4, 6), exponent=1.5, scale=2.0, std=0.7),
    "odd": lambda: GaussianField.power_law((5, 3), exponent=1.0, scale=1.0, mean=0.3),
    "complex": lambda: GaussianField.power_law((4, 5), channels=2, mean=normal(2, 4, 5)),
    "volume": lambda: GaussianField.power_law((2, 3, 4)),
}


@pytest.fixture(params=FIELDS)
def field(request):
    return FIELDS[request.param]()


def test_denoiser_is_the_dense_formula(field):
    c = field.dense_covariance()
    eye = torch.eye(len(c), dtype=F64)
    sigma = torch.tensor([0.03, 0.5, 7.0], dtype=F64)
    x = normal(3, *field.img_size, seed=1)
    mu = field.mean.flatten()
    out = field(x, sigma)
    for i, s in enumerate(sigma):
        expected = mu + c @ torch.linalg.solve(c + s**2 * eye, x[i].flatten() - mu)
        torch.testing.assert_close(out[i].flatten(), expected, rtol=1e-9, atol=1e-9)
        # one row at a time and a float level give the same
        torch.testing.assert_close(field(x[i : i + 1], float(s))[0], out[i], rtol=0, atol=1e-13)


def test_float32_answers_in_float32_and_stays_exact_after_to(field):
    x = normal(2, *field.img_size)
    expected = field(x, 0.4)
    field.to(torch.float32)
    assert field.eigenvalues.dtype == F64
    assert torch.equal(field(x, 0.4), expected)
    out = field(x.float(), 0.4)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)


def test_jacobian_is_symmetric_positive_and_matches_finite_differences(field):
    x = normal(1, *field.img_size, seed=2)
    jac = torch.autograd.functional.jacobian(lambda v: field(v, 0.6), x).reshape(x.numel(), -1)
    torch.testing.assert_close(jac, jac.T, rtol=0, atol=1e-13)
    eigenvalues = torch.linalg.eigvalsh(jac)
    assert eigenvalues.min() > -1e-12
    assert eigenvalues.max() < 1
    assert torch.autograd.gradcheck(lambda v: field(v, 0.6), x.requires_grad_())


def test_tweedie(field):
    """D = x + s^2 grad log p_s(x) ties the denoiser to the density."""
    x = normal(2, *field.img_size, seed=3).requires_grad_()
    sigma = torch.tensor([0.3, 1.5], dtype=F64)
    log_p = field.log_prob(x, sigma)
    (score,) = torch.autograd.grad(log_p.sum(), x)
    expected = x + (sigma**2).reshape(-1, *[1] * (x.ndim - 1)) * score
    torch.testing.assert_close(field(x, sigma), expected, rtol=1e-10, atol=1e-10)
    c = field.dense_covariance() + 0.09 * torch.eye(x[0].numel(), dtype=F64)
    truth = MultivariateNormal(field.mean.flatten(), c).log_prob(x[0].flatten())
    torch.testing.assert_close(log_p[0], truth, rtol=1e-10, atol=1e-10)


def test_noise_free_level_projects_onto_the_support():
    field = FIELDS["dense"]()
    x = field.sample(2, 0, dtype=F64)
    torch.testing.assert_close(field(x, 0.0), x, rtol=1e-9, atol=1e-9)
    c = field.dense_covariance()
    outside = normal(1, *field.img_size)
    p = c @ torch.linalg.pinv(c, hermitian=True, rtol=1e-10)
    mu = field.mean.flatten()
    expected = mu + p @ (outside.flatten() - mu)
    torch.testing.assert_close(field(outside, 0.0).flatten(), expected, rtol=1e-8, atol=1e-8)


def test_sample_moments(field):
    count = 20_000
    x = field.sample(count, torch.Generator().manual_seed(1), dtype=F64).flatten(1)
    c = field.dense_covariance()
    variance = c.diagonal()
    # standard errors of the mean and of a covariance entry of a Gaussian
    error = (x.mean(0) - field.mean.flatten()).abs()
    assert (error < 5 * (variance / count).sqrt() + 1e-12).all()
    se = ((variance[:, None] * variance[None] + c**2) / count).sqrt()
    assert ((torch.cov(x.T) - c).abs() < 5 * se + 1e-12).all()


def test_power_law_is_the_stated_spectrum():
    field = GaussianField.power_law((8, 6), exponent=1.5, scale=2.0, std=3.0)
    c = field.dense_covariance()
    torch.testing.assert_close(c.diagonal(), torch.full((48,), 9.0, dtype=F64))
    # a plane wave with kx cycles over 6 columns and ky over 8 rows is an eigenvector
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(6.0), indexing="ij")
    ratios = []
    for ky, kx in ((0, 0), (1, 2), (-3, 1)):
        wave = torch.cos(2 * math.pi * (ky * row / 8 + kx * column / 6)).double().flatten()
        image = c @ wave
        eigenvalue = image @ wave / (wave @ wave)
        torch.testing.assert_close(image, eigenvalue * wave, rtol=1e-6, atol=1e-5)
        ratios.append(eigenvalue / (1 + (ky**2 + kx**2) / 4) ** -1.5)
    torch.testing.assert_close(ratios[1:], [ratios[0]] * 2, rtol=1e-6, atol=0)


def test_complex_field_has_independent_channels():
    c = GaussianField.power_law((3, 4), channels=2).dense_covariance()
    assert c[:12, 12:].abs().max() < 1e-14
    torch.testing.assert_close(c[:12, :12], c[12:, 12:])


@pytest.mark.parametrize("rows", [5, 60])
def test_posterior_is_the_dense_formula(field, rows):
    """Fewer and more measurements than unknowns."""
    n = math.prod(field.img_size)
    matrix = normal(rows, n, seed=7) / math.sqrt(n)
    physics = Dense(matrix, field.img_size, GaussianNoise(0.2))
    y = normal(2, rows, seed=8)
    posterior = field.posterior(y, physics)
    mean, cov, evidence = dense_truth(
        field.mean.flatten(), field.dense_covariance(), matrix, y, float(physics.noise_model.sigma)
    )
    torch.testing.assert_close(posterior.mean.flatten(1), mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(posterior.covariance(), cov, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(posterior.log_evidence, evidence, rtol=1e-8, atol=1e-8)
    std = cov.diagonal().clamp_min(0).sqrt().expand(2, -1)
    torch.testing.assert_close(posterior.std.flatten(1), std, rtol=1e-6, atol=1e-7)


def test_posterior_minimises_the_energy():
    """Independent of any formula: the gradient of the log posterior vanishes at the mean."""
    field = GaussianField.power_law((6, 5), channels=1)
    physics = Blur(torch.ones(1, 1, 3, 3) / 9, padding="circular")
    physics.noise_model = GaussianNoise(0.1)
    y = normal(1, 1, 6, 5, seed=1).float()
    mean = field.posterior(y, physics, 0.1).mean.requires_grad_()
    residual = y.double() - physics.A(mean.float()).double()
    energy = field.log_prob(mean) - residual.square().sum() / (2 * 0.01)
    (gradient,) = torch.autograd.grad(energy.sum(), mean)
    # the blur runs in float32: 1e-7 of |y| / sigma^2
    assert gradient.abs().max() < 3e-4


def test_fft_field_equals_dense_field():
    fft = GaussianField.power_law((4, 3), channels=2, mean=normal(2, 4, 3))
    dense = GaussianField(fft.mean, fft.dense_covariance())
    x = normal(3, 2, 4, 3, seed=4)
    torch.testing.assert_close(fft(x, 0.2), dense(x, 0.2), rtol=1e-10, atol=1e-10)
    physics = Dense(normal(7, 24, seed=9), (2, 4, 3), GaussianNoise(0.3))
    y = normal(1, 7)
    a, b = fft.posterior(y, physics), dense.posterior(y, physics)
    torch.testing.assert_close(a.mean, b.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(a.covariance(), b.covariance(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(a.log_evidence, b.log_evidence, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fft.sigma_max, dense.sigma_max, rtol=1e-9, atol=0)


def test_operator_that_differs_over_the_batch_and_masked_evidence():
    weights = torch.tensor([[1.0, 2.0, 0.0], [0.5, 1.0, 3.0]], dtype=F64).reshape(2, 1, 1, 3)
    field = GaussianField(0.5, random_covariance(3), image_shape=(1, 3))
    sigma = torch.tensor([0.2, 0.6], dtype=F64)
    y = normal(2, 1, 1, 3)
    posterior = field.posterior(y, Weighted(weights), sigma)
    assert posterior.covariance().shape == (2, 3, 3)
    for i in range(2):
        keep = weights[i].flatten() != 0
        mean, cov, evidence = dense_truth(
            field.mean.flatten(),
            field.dense_covariance(),
            torch.diag(weights[i].flatten())[keep],
            y[i].flatten()[keep],
            float(sigma[i]),
        )
        torch.testing.assert_close(posterior.mean[i].flatten(), mean)
        torch.testing.assert_close(posterior.covariance()[i], cov)
        torch.testing.assert_close(posterior.log_evidence[i], evidence)


def test_posterior_samples_and_noised_posterior():
    field = GaussianField.power_law((3, 4))
    physics = Dense(normal(5, 12), (1, 3, 4), GaussianNoise(0.3))
    y = normal(2, 5)
    count = 20_000
    for level in (0.0, 0.8):
        posterior = field.noised_posterior(y, physics, level)
        x = posterior.sample(count, 3, dtype=F64)
        assert x.shape == (count, 2, 1, 3, 4)
        c = posterior.covariance()
        base = field.posterior(y, physics).covariance()
        torch.testing.assert_close(c, base + level**2 * torch.eye(12, dtype=F64))
        variance = c.diagonal()
        se = ((variance[:, None] * variance[None] + c**2) / count).sqrt()
        for i in range(2):
            flat = x[:, i].flatten(1)
            assert ((torch.cov(flat.T) - c).abs() < 5 * se).all()
            error = (flat.mean(0) - posterior.mean[i].flatten()).abs()
            assert (error < 5 * (variance / count).sqrt()).all()
    assert torch.equal(posterior.sample(3, 5), posterior.sample(3, 5))


@pytest.mark.parametrize("level", [0.0, 0.4])
def test_conditional_denoiser(level):
    field = FIELDS["dense"]()
    physics = Dense(normal(6, 24), (2, 3, 4), GaussianNoise(0.3))
    posterior = field.noised_posterior(normal(2, 6), physics, level)
    c = posterior.covariance()
    x = normal(4, 2, 3, 4, seed=6)
    sigma = torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=F64)
    out = posterior.denoise(x, sigma)
    for i, s in enumerate(sigma):
        m = posterior.mean[i % 2].flatten()
        total = c + s**2 * torch.eye(24, dtype=F64)
        expected = m + c @ torch.linalg.solve(total, x[i].flatten() - m)
        torch.testing.assert_close(out[i].flatten(), expected, rtol=1e-8, atol=1e-8)


def test_default_noise_range():
    field = GaussianField(None, torch.diag(torch.tensor([4.0, 1.0, 1.0])), image_shape=(1, 3))
    assert field.sigma_max == pytest.approx(20.0)
    assert field.sigma_min == pytest.approx(0.002 * math.sqrt(2.0))
    assert prior_capabilities(field) == {Capability.VJP}
    assert as_prior(field) is field


def test_errors():
    field = GaussianField.power_law((3, 4))
    with pytest.raises(GeometryError, match=r"expected real \(B, 1, 3, 4\)"):
        field(torch.zeros(2, 2, 3, 4), 1.0)
    with pytest.raises(GeometryError, match="expected 1 or 3"):
        field(torch.zeros(3, 1, 3, 4), torch.ones(2))
    with pytest.raises(IncompatibleError, match="noise level is unknown"):
        field.posterior(normal(1, 5), Dense(normal(5, 12), (1, 3, 4)))
    with pytest.raises(IncompatibleError, match="positive"):
        field.posterior(normal(1, 5), Dense(normal(5, 12), (1, 3, 4)), 0.0)
    with pytest.raises(GeometryError, match="found 4 real measured components, expected 5"):
        field.posterior(normal(1, 4), Dense(normal(5, 12), (1, 3, 4)), 0.1)
    with pytest.raises(IncompatibleError, match="5000"):
        GaussianField.power_law((80, 80)).posterior(
            torch.zeros(1, 1, 80, 80), Inpainting((1, 80, 80), mask=0.5), 0.1
        )
    asymmetric = torch.ones(3, 3, dtype=F64)
    asymmetric[0, 1] = 0.5
    with pytest.raises(ValueError, match="symmetric"):
        GaussianField(None, asymmetric, image_shape=(1, 3))
    with pytest.raises(ValueError, match="semi-definite"):
        GaussianField(None, torch.diag(torch.tensor([1.0, -0.5])), image_shape=(1, 2))
    with pytest.raises(ValueError, match="S\\(k\\)"):
        GaussianField(power_spectrum=torch.arange(1.0, 6.0).reshape(1, 5))
    with pytest.raises(ValueError, match="either"):
        GaussianField(0.0)
    with pytest.raises(GeometryError, match="disagree"):
        GaussianField(torch.zeros(1, 3, 3), power_spectrum=torch.ones(3, 4))
