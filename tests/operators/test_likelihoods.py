from __future__ import annotations

import math

import pytest
import torch
from deepinv.physics import GaussianNoise, Inpainting, PoissonNoise, UniformNoise

from sciinv.capabilities import Capability, noise_capabilities
from sciinv.errors import DataError, IncompatibleError
from sciinv.operators import ParallelBeamCT
from sciinv.operators.likelihoods import (
    AmplitudeLikelihood,
    BeerLambertLikelihood,
    GaussianLikelihood,
    PoissonLikelihood,
    likelihood_of,
)


def generator():
    return torch.Generator().manual_seed(2)


def counts_and_lines():
    g = generator()
    lines = 3 * torch.rand(4, 1, 5, 6, generator=g, dtype=torch.float64)
    blank = 20 + 50 * torch.rand(5, 6, generator=g, dtype=torch.float64)
    blank[2, 3] = 0  # a dead detector
    counts = torch.poisson(blank * torch.exp(-lines), generator=g)
    counts[0, 0, 0, :2] = 0
    return counts, lines, blank


def test_gaussian_equals_torch_distribution():
    g = generator()
    y, ax = torch.randn(2, 3, 2, 4, generator=g, dtype=torch.float64)
    for sigma in (0.7, torch.tensor([0.5, 0.6, 0.7, 0.8])):
        expected = torch.distributions.Normal(ax, torch.as_tensor(sigma)).log_prob(y)
        found = GaussianLikelihood(sigma).log_prob(y, ax)
        # float32 sigmas enter the reference in float32
        torch.testing.assert_close(found, expected.sum((1, 2)), rtol=1e-6, atol=0)


def test_beer_lambert_equals_torch_distribution_and_is_finite_at_zero_counts():
    counts, lines, blank = counts_and_lines()
    alive = (blank > 0).expand_as(lines)
    rate = torch.where(alive, blank * torch.exp(-lines), 1.0)
    terms = torch.where(alive, torch.distributions.Poisson(rate).log_prob(counts), 0.0)
    found = BeerLambertLikelihood(blank).log_prob(counts, lines)
    assert found.shape == (4,)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, terms.sum((1, 2, 3)), rtol=1e-13, atol=0)


@pytest.mark.parametrize("kind", ["gaussian", "beer-lambert"])
def test_gradient_against_finite_differences(kind):
    counts, lines, blank = counts_and_lines()
    model = GaussianLikelihood(0.3) if kind == "gaussian" else BeerLambertLikelihood(blank)
    found = model.gradient(counts, lines)
    assert torch.isfinite(found).all()
    step = 1e-5
    flat = torch.eye(30, dtype=torch.float64).reshape(30, 1, 1, 5, 6)
    for direction in flat[::4]:
        plus = model.log_prob(counts, lines + step * direction)
        minus = model.log_prob(counts, lines - step * direction)
        slope = (found * direction).sum((1, 2, 3))
        # third derivative at most the mean count (< 70): truncation 70 h^2 / 6, and rounding of
        # sums of size 1e4 divided by the step
        bound = 70 * step**2 / 6 + 4e4 * 2.2e-16 / step
        torch.testing.assert_close((plus - minus) / (2 * step), slope, rtol=0, atol=bound)


def test_linearisation_has_gradient_and_expected_curvature():
    counts, lines, blank = counts_and_lines()
    model = BeerLambertLikelihood(blank)
    pseudo, std = model.linearise(counts, lines)
    alive = (blank > 0).expand_as(lines)
    assert torch.isinf(std[~alive]).all()
    surrogate = (pseudo - lines) / std**2  # zero where std is infinite
    torch.testing.assert_close(surrogate, model.gradient(counts, lines), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        std[alive] ** -2, (blank * torch.exp(-lines))[alive], rtol=1e-13, atol=0
    )
    # no photon expected at all: masked, not NaN
    pseudo, std = model.linearise(counts, torch.full_like(lines, 1e4))
    assert torch.isinf(std).all()
    assert torch.isfinite(pseudo).all()


def test_fisher_scoring_reaches_the_maximum():
    counts, _, blank = counts_and_lines()
    model = BeerLambertLikelihood(blank)
    integral, _, valid = model.log_transform(counts)
    lines = torch.where(valid, integral + 0.2, 0.0)
    for _ in range(8):
        pseudo, _ = model.linearise(counts, lines)
        lines = torch.where(valid, pseudo, lines)
    # without coupling between detectors the maximum is the logarithm itself
    torch.testing.assert_close(lines[valid], integral[valid], rtol=0, atol=1e-12)


def test_log_transform():
    counts = torch.tensor([[100.0, 0.0, 25.0, 10.0]])
    blank = torch.tensor([100.0, 100.0, 50.0, 0.0])
    line, std, valid = BeerLambertLikelihood(blank).log_transform(counts)
    torch.testing.assert_close(line, torch.tensor([[0.0, 0.0, math.log(2.0), 0.0]]))
    torch.testing.assert_close(std, torch.tensor([[0.1, math.inf, 0.2, math.inf]]))
    assert valid.tolist() == [[True, False, True, False]]


def test_log_transform_std_is_that_of_many_draws():
    draws = torch.poisson(torch.full((200_000,), 400.0), generator=generator())
    line, std, _ = BeerLambertLikelihood(1000.0).log_transform(draws)
    # delta method: relative error of order 1 / counts, plus 4 standard errors
    bound = 1 / 400 + 4 / (2 * 200_000) ** 0.5
    assert abs(float(line.std() / std.mean()) - 1) < bound


def test_refuses_senseless_parameters():
    for sigma in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="sigma"):
            GaussianLikelihood(sigma)
    for blank in (-1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="blank"):
            BeerLambertLikelihood(blank)


def cases():
    """Likelihood, measurement and noise-free measurement, zeros among all of them."""
    g = generator()
    intensity = 30 * torch.rand(4, 1, 5, 6, generator=g, dtype=torch.float64)
    intensity[1, 0, :, 0] = 0.0
    intensity[2, 0, 0, :] = 1e-5
    counts = torch.poisson(intensity, generator=g)
    counts[0, 0, 0, :3] = 0.0
    counts[2, 0, 0, 0] = 2.0  # more than a thousandth expected
    _, lines, blank = counts_and_lines()
    sigma = 0.2 + torch.rand(5, 6, generator=g, dtype=torch.float64)
    randoms = BeerLambertLikelihood(blank, background=4.0, scale=0.7)
    below = PoissonLikelihood(2.0, background=0.5, scale=3.0)
    return {
        "gaussian": (GaussianLikelihood(0.3), counts, intensity),
        "whitened": (GaussianLikelihood(sigma), counts, intensity),
        "poisson": (PoissonLikelihood(), counts, intensity),
        "poisson below zero": (below, counts, intensity - 3.0),
        "beer-lambert": (BeerLambertLikelihood(blank), counts, lines),
        "beer-lambert, randoms": (randoms, counts, lines),
        "amplitude": (AmplitudeLikelihood(), counts, intensity),
        "amplitude, scaled": (AmplitudeLikelihood(0.8, scale=2.5), counts, intensity),
        "amplitude, counts": (AmplitudeLikelihood(scale=2.5, counts=True), counts, intensity),
    }


@pytest.mark.parametrize("name", list(cases()))
def test_every_gradient_against_finite_differences_and_finite_at_zero(name):
    model, y, ax = cases()[name]
    found = model.gradient(y, ax)
    for value in (found, model.information(ax), model.residual(y, ax), model.expected_square(ax)):
        assert value.shape == y.shape
        assert torch.isfinite(value).all()
    assert (model.information(ax) >= 0).all()
    terms = model.log_prob_terms(y, ax)
    torch.testing.assert_close(terms.flatten(1).sum(1), model.log_prob(y, ax), rtol=1e-14, atol=0)
    step = 1e-6
    slope = (model.log_prob_terms(y, ax + step) - model.log_prob_terms(y, ax - step)) / (2 * step)
    # the square root has no derivative at zero: there the gradient is zero by convention
    smooth = ax > 1e-3 if "amplitude" in name else torch.ones_like(ax, dtype=torch.bool)
    # rounding of terms up to 1e3 over the step is 1e3 * 2e-16 / 1e-6; the relative truncation is
    # below 1e-5 for the smallest means here
    torch.testing.assert_close(slope[smooth], found[smooth], rtol=1e-5, atol=1e-6)
    if "amplitude" in name:
        assert (found[ax == 0] == 0).all()


@pytest.mark.parametrize("name", list(cases()))
def test_score_has_mean_zero_and_the_information_as_its_variance(name):
    model, _, ax = cases()[name]
    model.rng = torch.Generator().manual_seed(4)
    count = 20_000
    ax = ax.clamp_min(0.5)[:1]
    y = model(ax.expand(count, -1, -1, -1))
    information = model.information(ax)[0]
    seen = information > 0
    if "amplitude" in name:
        # a drawn amplitude cannot be negative: exact where that practically never happens
        seen &= model._amplitude(ax[0]) > 4 * model.sigma
    square = model.residual(y, ax).square().mean(0)
    ratio = square[seen] / model.expected_square(ax)[0][seen]
    assert abs(float(ratio.mean()) - 1) < 0.02
    if name == "amplitude, counts":
        return  # the square root of counts is biased by -1 / (8 sqrt(m)), and with it the score
    score = model.gradient(y, ax)
    z = score.mean(0) / (information / count).clamp_min(1e-300).sqrt()
    assert float(z[seen].abs().max()) < 5
    # the mean over some 20 components of a variance: relative standard error below
    # sqrt(kurtosis / (20 * count)) = 0.4 % even for 0.5 counts
    ratio = score.var(0)[seen] / information[seen]
    assert abs(float(ratio.mean()) - 1) < 0.02


def test_poisson_equals_torch_distribution_and_deepinv():
    rate = torch.tensor([[0.5, 3.0, 40.0]], dtype=torch.float64)
    counts = torch.tensor([[0.0, 5.0, 38.0]], dtype=torch.float64)
    expected = torch.distributions.Poisson(rate).log_prob(counts).sum(1)
    torch.testing.assert_close(PoissonLikelihood().log_prob(counts, rate), expected)
    # y = gain k: the density of k
    found = PoissonLikelihood(0.1).log_prob(0.1 * counts, 0.1 * rate)
    torch.testing.assert_close(found, expected)
    physics = Inpainting((1, 4, 4), mask=1.0)
    for normalize in (True, False):
        physics.noise_model = PoissonNoise(0.25, normalize=normalize)
        model = likelihood_of(physics)
        mean = model.mean(torch.full((1, 1), 2.0))
        assert float(mean) == pytest.approx(2.0 if normalize else 8.0)
        assert float(model.gain) == pytest.approx(0.25 if normalize else 1.0)


def test_expected_square_of_counts_against_draws_and_limits():
    model = PoissonLikelihood(rng=torch.Generator().manual_seed(1))
    for mean in (0.01, 0.3, 1.0, 4.0, 50.0):
        ax = torch.full((1, 200_000), mean, dtype=torch.float64)
        square = model.residual(model(ax), ax).square()
        error = float(square.std()) / 200_000**0.5
        assert abs(float(square.mean()) - float(model.expected_square(ax)[0, 0])) < 5 * error
    edge = torch.tensor([[0.0, 0.99e-4, 1.01e-4, 0.99e3, 1.01e3]], dtype=torch.float64)
    found = model.expected_square(edge)[0]
    assert found[0] == 0
    assert float(found[2] / found[1]) == pytest.approx(1.01 / 0.99, rel=1e-3)
    assert float(found[4] / found[3]) == pytest.approx(1, rel=1e-3)


def test_a_likelihood_is_the_noise_model_of_an_operator():
    physics = ParallelBeamCT(
        (12, 12),
        torch.arange(8) * torch.pi / 8,
        num_detectors=16,
        detector_spacing=1.0,
        pixel_size=1.0,
        noise_model=BeerLambertLikelihood(1000.0, rng=torch.Generator().manual_seed(0)),
    )
    counts = physics(torch.full((2, 1, 12, 12), 0.02))
    assert (counts == counts.round()).all()
    assert counts.max() > 900
    assert isinstance(likelihood_of(physics), BeerLambertLikelihood)
    assert noise_capabilities(physics) == {Capability.LIKELIHOOD}
    physics.noise_model = GaussianLikelihood(0.1)
    assert {Capability.GAUSSIAN, Capability.WHITE} <= noise_capabilities(physics)
    physics.noise_model = GaussianNoise(torch.tensor([0.1, 0.2]))
    assert likelihood_of(physics).sigma.shape == (2, 1, 1, 1)
    physics.noise_model = UniformNoise(0.1)
    with pytest.raises(IncompatibleError, match="UniformNoise"):
        likelihood_of(physics)


def test_rows_take_the_parameters_of_their_scans():
    blank = torch.tensor([10.0, 20.0, 30.0]).reshape(3, 1, 1)
    model = BeerLambertLikelihood(blank).rows(torch.tensor([2, 0]), 3, 3)
    assert model.blank.flatten().tolist() == [30.0, 10.0]
    assert model.mean(torch.zeros(2, 1, 1)).flatten().tolist() == [30.0, 10.0]
    shared = BeerLambertLikelihood(blank[0]).rows(torch.tensor([2, 0]), 3, 3)
    assert shared.blank.shape == (1, 1)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: PoissonLikelihood(0.0), "gain"),
        (lambda: PoissonLikelihood(background=-1.0), "background"),
        (lambda: PoissonLikelihood(scale=math.nan), "scale"),
        (lambda: AmplitudeLikelihood(0.0), "sigma"),
        (lambda: BeerLambertLikelihood(10.0, background=-1.0), "background"),
    ],
)
def test_refuses_senseless_counts(make, field):
    with pytest.raises(DataError, match=field):
        make()
