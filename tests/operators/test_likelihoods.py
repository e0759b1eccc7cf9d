from __future__ import annotations

import math

import pytest
import torch

from sciinv.errors import DataError
from sciinv.operators.likelihoods import BeerLambertLikelihood, GaussianLikelihood


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
