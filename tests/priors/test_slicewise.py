from __future__ import annotations

import pytest
import torch

from sciinv.priors import GaussianField, SliceWise
from sciinv.priors import slicewise as module


def field():
    g = torch.Generator().manual_seed(0)
    return GaussianField(
        torch.rand(2, 6, 5, generator=g, dtype=torch.float64),
        power_spectrum=torch.full((6, 5), 0.4, dtype=torch.float64),
    )


def volume(batch=2):
    g = torch.Generator().manual_seed(1)
    return torch.randn(batch, 2, 7, 6, 5, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("pixels", [2**19, 60])
@pytest.mark.parametrize("sigma", [0.3, torch.tensor([0.3, 1.7])])
def test_every_slice_is_denoised_alone(pixels, sigma, monkeypatch):
    monkeypatch.setattr(module, "_PIXELS", pixels)
    prior, x = field(), volume().requires_grad_()
    found = SliceWise(prior)(x, sigma)
    for scan in range(2):
        level = sigma if isinstance(sigma, float) else float(sigma[scan])
        for index in range(7):
            torch.testing.assert_close(
                found[scan, :, index], prior(x[scan : scan + 1, :, index], level)[0]
            )
    # the gradient, also through recomputed parts
    v = torch.ones_like(x)
    (g,) = torch.autograd.grad(found, x, v)
    leaf = x[:1, :, 3].detach().requires_grad_()
    level = sigma if isinstance(sigma, float) else float(sigma[0])
    (expected,) = torch.autograd.grad(prior(leaf, level), leaf, v[:1, :, 3])
    torch.testing.assert_close(g[:1, :, 3], expected)


def test_attributes_of_the_prior_and_wrong_shapes():
    prior = field()
    prior.sigma_max = 3.0
    wrapped = SliceWise(prior)
    assert wrapped.sigma_max == 3.0
    with pytest.raises(ValueError, match=r"\(B, C, D, H, W\)"):
        wrapped(torch.zeros(1, 2, 6, 5), 0.1)
