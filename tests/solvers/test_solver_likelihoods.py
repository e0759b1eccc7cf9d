"""DPS with every likelihood: its gradient, its equivalences, and zero counts."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.errors import IncompatibleError
from sciinv.operators import (
    CartesianMRI,
    CodedDiffraction,
    FourierPhaseRetrieval,
    ParallelBeamCT,
    whiten,
)
from sciinv.operators.base import NonlinearOperator
from sciinv.operators.likelihoods import (
    AmplitudeLikelihood,
    BeerLambertLikelihood,
    GaussianLikelihood,
    PoissonLikelihood,
    likelihood_of,
)
from sciinv.priors import GaussianField
from sciinv.solvers import DPS, PnPHQS, compatible
from sciinv.solvers.problem import Problem

SHAPE = (12, 12)


class Intensity(NonlinearOperator):
    """Squared line sums, a non-linear operator with zeros."""

    def __init__(self):
        super().__init__(SHAPE, channels=1, measurement_shape=(1, 12, 12), dtype=torch.float64)

    def A(self, x):
        return torch.cumsum(x, -1).square()

    def A_vjp(self, x, v):
        return (2 * torch.cumsum(x, -1) * v).flip(-1).cumsum(-1).flip(-1)


def tomograph(noise_model):
    return ParallelBeamCT(
        SHAPE, torch.arange(9) * torch.pi / 9, num_detectors=18, detector_spacing=1.0,
        pixel_size=1.0, noise_model=noise_model, dtype=torch.float64,
    )  # fmt: skip


def image(batch=2, channels=1):
    g = torch.Generator().manual_seed(3)
    x = torch.rand(batch, channels, *SHAPE, generator=g, dtype=torch.float64)
    x[:, :, :3] = 0.0
    return x


def rng():
    return torch.Generator().manual_seed(11)


def problems():
    """Operator with its noise, measurement, and the image that made it."""
    x = image()
    mri = CartesianMRI(SHAPE, dtype=torch.float64, noise_model=GaussianNoise(0.1))
    z = image(channels=2)
    std = torch.rand(1, 9, 18, dtype=torch.float64, generator=rng()) + 0.2
    blank = torch.full((9, 18), 40.0)
    blank[4, 7] = 0.0
    transmission = tomograph(BeerLambertLikelihood(blank, scale=0.3, rng=rng()))
    emission = tomograph(PoissonLikelihood(background=0.2, rng=rng()))
    squared = Intensity()
    squared.noise_model = AmplitudeLikelihood(0.4, rng=rng())
    photons = Intensity()
    photons.noise_model = PoissonLikelihood(scale=5.0, rng=rng())
    stop = torch.ones(24, 24)
    stop[11:14, 11:14] = 0
    pattern = FourierPhaseRetrieval(SHAPE, mask=stop, dtype=torch.float64)
    pattern.noise_model = GaussianLikelihood(0.1, rng=rng())
    photon_pattern = FourierPhaseRetrieval(SHAPE, mode="intensity", dtype=torch.float64)
    photon_pattern.noise_model = PoissonLikelihood(scale=20.0, rng=rng())
    signs = 2.0 * (torch.rand(3, *SHAPE, generator=rng()) < 0.5) - 1
    coded = CodedDiffraction(SHAPE, signs, mode="intensity", oversampling=1.0, dtype=torch.float64)
    coded.noise_model = AmplitudeLikelihood(scale=20.0, counts=True, rng=rng())
    found = {
        "diffraction, amplitudes": (pattern, z),
        "diffraction, photons": (photon_pattern, z),
        "coded diffraction, counts": (coded, z),
        "gaussian": (mri, z),
        "unequal gaussian": (tomograph(GaussianLikelihood(std, rng=rng())), x),
        "poisson": (emission, x),
        "beer-lambert": (transmission, x),
        "amplitude": (squared, x),
        "intensity poisson": (photons, x),
    }
    return {name: (physics, physics(truth), truth) for name, (physics, truth) in found.items()}


def field(channels=1):
    return GaussianField(
        torch.full((channels, *SHAPE), 0.4, dtype=torch.float64),
        power_spectrum=torch.full(SHAPE, 0.08, dtype=torch.float64),
    )


@pytest.mark.parametrize("name", list(problems()))
def test_score_is_the_gradient_of_the_log_likelihood(name):
    physics, y, truth = problems()[name]
    likelihood = likelihood_of(physics)
    problem = Problem(y, physics, torch.arange(2), 1.0, likelihood)
    at = truth.mul(0.8).add(0.02)
    gradient, residual_sq = problem.score(at)
    leaf = at.clone().requires_grad_()
    likelihood.log_prob(y, physics.A(leaf)).sum().backward()
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-10, atol=1e-10)
    assert residual_sq.shape == (2,)
    # nothing, not even the empty image, gives a gradient that is not finite
    empty = problem.score(torch.zeros_like(at))
    assert all(torch.isfinite(value).all() for value in empty)
    # the truth fits: chi-squared over its expectation, with 5 standard errors of m terms
    misfit = problem.misfit(truth)
    assert ((misfit - 1).abs() < 5 * (4 / problem.count) ** 0.5).all()


@pytest.mark.parametrize("name", list(problems()))
def test_dps_samples_fit_the_data(name):
    physics, y, truth = problems()[name]
    prior = field(truth.shape[1])
    solver = DPS(prior, steps=40, sigma_max=5.0, sigma_min=0.02)
    samples, info = solver.sample(y, physics, 2, generator=0, return_info=True)
    assert samples.shape == (2, *truth.shape)
    assert torch.isfinite(samples).all()
    start = Problem(y, physics, torch.arange(2), 1.0, likelihood_of(physics)).misfit(
        torch.full_like(truth, 0.4)
    )
    # it fits much better than the prior's mean; DPS is biased, so "to the noise" is not asked for
    assert (info.chi_squared < 0.5 * start + 1.0).all()
    if "diffraction" not in name:  # from noise, phases may be found wrong
        assert float(info.chi_squared.max()) < 4


def test_unequal_noise_is_the_whitened_operator():
    physics, y, _ = problems()["unequal gaussian"]
    std = physics.noise_model.sigma
    solver = DPS(field(), steps=10, sigma_max=5.0, sigma_min=0.02)
    found = solver.sample(y, physics, 2, generator=0)
    whitened = whiten(physics, std)
    expected = solver.sample(whitened.whiten_measurement(y), whitened, 2, generator=0)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_many_counts_are_gaussian():
    physics, _, truth = problems()["poisson"]
    gain = 1e-6
    physics.noise_model = PoissonLikelihood(gain, background=0.5, rng=rng())
    y = physics(truth)
    near = truth + 1e-3 * torch.randn(truth.shape, generator=rng(), dtype=torch.float64)
    rows = torch.arange(2)
    found, square = Problem(y, physics, rows, 1.0, likelihood_of(physics)).score(near)
    gaussian = GaussianLikelihood((gain * y).sqrt())
    expected, other = Problem(y - 0.5, physics, rows, 1.0, gaussian).score(near)
    # residuals of a few standard deviations of 1e-3 each: the likelihoods differ by that share
    assert float((found - expected).norm() / expected.norm()) < 0.02
    torch.testing.assert_close(square, other, rtol=0.02, atol=0)


def test_no_counts_at_all():
    physics, y, _ = problems()["poisson"]
    physics.noise_model = PoissonLikelihood()
    samples = DPS(field(), steps=20, sigma_max=5.0, sigma_min=0.02).sample(
        torch.zeros_like(y), physics, 1, generator=0
    )
    assert torch.isfinite(samples).all()
    # zero counts say that the image is empty
    assert float(samples.mean()) < 0.2


def test_batch_split_and_the_parameters_of_every_scan():
    blank = torch.tensor([200.0, 2000.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    physics = tomograph(BeerLambertLikelihood(blank, scale=0.3, rng=rng()))
    y = physics(image())
    solver = DPS(field(), steps=8, sigma_max=5.0, sigma_min=0.02)
    together = solver.sample(y, physics, 2, generator=0)
    split = solver.sample(y, physics, 2, generator=0, max_batch=1)
    torch.testing.assert_close(together, split, rtol=1e-9, atol=1e-9)
    one = tomograph(BeerLambertLikelihood(2000.0, scale=0.3))
    alone = Problem(y[1:], one, torch.tensor([0]), 1.0, likelihood_of(one))
    both = Problem(y, physics, torch.tensor([1]), 1.0, likelihood_of(physics))
    torch.testing.assert_close(both.score(image()[1:])[0], alone.score(image()[1:])[0])


def test_linear_gaussian_solvers_refuse_counts_and_name_those_that_take_them():
    physics, y, _ = problems()["poisson"]
    with pytest.raises(IncompatibleError, match=r"Gaussian noise.*solvers that fit: MMT.*DPS"):
        PnPHQS(field()).sample(y, physics)
    assert {"DPS", "MMT", "MomentMatching", "LGD"} <= set(compatible(physics, field()))
