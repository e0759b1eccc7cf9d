"""Foreign denoisers as priors, checked with denoisers whose answer is known."""

from __future__ import annotations

import pytest
import torch
from deepinv.models import DnCNN, DRUNet, MedianFilter
from deepinv.models.base import Denoiser
from torch import nn

from sciinv.capabilities import Capability, prior_capabilities
from sciinv.errors import GeometryError
from sciinv.priors.adapters import from_callable, from_deepinv, from_vp
from sciinv.priors.base import Prior, as_prior
from sciinv.priors.gaussian import GaussianField

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class Shrink(Denoiser):
    """The exact denoiser of independent pixels N(mean, variance), in the range [0, 1]."""

    def __init__(self, mean, variance, channels=1):
        super().__init__()
        self.mean, self.variance, self.channels = mean, variance, channels

    def forward(self, x, sigma, **kwargs):
        assert x.shape[1] == self.channels
        s2 = sigma.reshape(-1, 1, 1, 1) ** 2
        return self.mean + self.variance / (self.variance + s2) * (x - self.mean)


def test_real_images_pass_unchanged():
    x = normal(3, 1, 4, 5)
    sigma = torch.tensor([0.1, 0.2, 0.4], dtype=F64)
    model = Shrink(0.5, 0.04)
    prior = from_deepinv(model)
    assert torch.equal(prior(x, sigma), model(x, sigma))
    assert torch.equal(prior(x, 0.2), model(x, torch.full((3,), 0.2, dtype=F64)))


def test_complex_images_are_mapped_with_their_noise_level():
    """u = (x + 1) / 2 turns N(0.2, 0.16) into N(0.6, 0.04): the exact denoisers must agree."""
    x = normal(3, 2, 4, 5)
    sigma = torch.tensor([0.1, 0.2, 0.4], dtype=F64)
    prior = from_deepinv(Shrink(0.6, 0.04), channels=2)
    truth = GaussianField(0.2, 0.16 * torch.eye(40), image_shape=(4, 5), channels=2)
    torch.testing.assert_close(prior(x, sigma), truth(x, sigma), rtol=1e-7, atol=1e-7)
    assert (prior.sigma_min, prior.sigma_max) == pytest.approx((0.004, 0.4))


def test_value_range_and_colour_model():
    x = normal(2, 1, 4, 5)
    prior = from_deepinv(Shrink(0.25, 0.01, channels=3), model_channels=3, value_range=(-2.0, 2.0))
    truth = GaussianField(-1.0, 0.16 * torch.eye(20), image_shape=(4, 5))
    torch.testing.assert_close(prior(x, 0.3), truth(x, 0.3), rtol=1e-7, atol=1e-7)


def test_real_deepinv_networks():
    torch.manual_seed(0)
    net = DRUNet(in_channels=1, out_channels=1, nc=(4, 4, 4, 4), nb=1, pretrained=None)
    prior = from_deepinv(net, channels=2)
    x = normal(2, 2, 32, 32).requires_grad_()
    out = prior(x, torch.tensor([0.1, 0.3]))
    assert out.dtype == F64
    assert out.shape == x.shape
    # rows and parts are denoised on their own
    alone = prior(x[1:], 0.3)
    torch.testing.assert_close(out[1:], alone, rtol=1e-4, atol=1e-5)
    grey = net((x[1:, 1:].float() + 1) / 2, 0.15) * 2 - 1
    torch.testing.assert_close(alone[:, 1:].float(), grey, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(out[0].sum(), x)
    assert gradient[0].abs().max() > 0
    assert gradient[1].abs().max() == 0
    assert prior_capabilities(prior) == {Capability.VJP, Capability.TRAINABLE}
    blind = from_deepinv(DnCNN(1, 1, depth=3, nf=4, pretrained=None))
    assert blind(torch.zeros(1, 1, 8, 8), 0.1).shape == (1, 1, 8, 8)
    median = from_deepinv(MedianFilter(3), vjp=False)
    assert prior_capabilities(median) == frozenset()


def test_diffusion_classes_keep_their_noise_range():
    class NCSNpp(Shrink):
        pass

    assert from_deepinv(NCSNpp(0.0, 1.0)).sigma_max == 80.0
    assert from_deepinv(Shrink(0.0, 1.0)).sigma_max == pytest.approx(0.2)
    assert from_deepinv(Shrink(0.0, 1.0), sigma_max=3.0).sigma_max == 3.0


def test_from_deepinv_refuses_what_is_not_built():
    for wrong in ("download", DRUNet, nn.Identity()):
        with pytest.raises(TypeError, match="built deepinv"):
            from_deepinv(wrong)
    with pytest.raises(GeometryError, match="channels"):
        from_deepinv(Shrink(0.0, 1.0))(normal(1, 2, 4, 4), 0.1)
    with pytest.raises(GeometryError, match="expected 1 or 2"):
        from_deepinv(Shrink(0.0, 1.0), channels=3)
    with pytest.raises(ValueError, match="value_range"):
        from_deepinv(Shrink(0.0, 1.0), value_range=(1.0, 0.0))


def test_callable():
    seen = []

    def function(x, sigma):
        seen.append(sigma)
        return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)

    prior = from_callable(function, channels=1, sigma_min=0.01, sigma_max=5.0)
    x = normal(2, 1, 3, 3)
    torch.testing.assert_close(prior(x, 2.0), x / 5)
    assert seen[0].shape == (2,)
    assert (prior.channels, prior.sigma_min, prior.sigma_max) == (1, 0.01, 5.0)
    assert prior_capabilities(prior) == {Capability.VJP}
    assert prior_capabilities(from_callable(function, vjp=False)) == frozenset()
    with pytest.raises(GeometryError, match="returned"):
        from_callable(lambda x, s: x[:1])(x, 1.0)
    with pytest.raises(TypeError, match="callable"):
        from_callable(3)
    with pytest.raises(ValueError, match="sigma_min"):
        from_callable(function, sigma_min=2.0, sigma_max=1.0)


def test_module_in_a_callable_follows_to():
    prior = from_callable(Linear())
    assert prior_capabilities(prior) == {Capability.VJP, Capability.TRAINABLE}
    assert next(prior.to(F64).parameters()).dtype == F64


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, sigma):
        return self.gain * x


def linear_schedule(steps=1000):
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, steps, dtype=F64), 0)


def exact_eps(alphas_bar, variance):
    """Return E[eps | xv] of x0 ~ N(0, variance) at the (fractional) time step t."""
    log_s = (((1 - alphas_bar) / alphas_bar).sqrt()).log()

    def eps(xv, t):
        low = t.double().floor().long().clamp(0, len(alphas_bar) - 2)
        ls = log_s[low] + (t.double() - low) * (log_s[low + 1] - log_s[low])
        ab = (1 / (1 + (2 * ls).exp())).to(xv.dtype).reshape(-1, 1, 1, 1)
        return (1 - ab).sqrt() * xv / (ab * variance + 1 - ab)

    return eps


def test_vp_network_becomes_the_exact_denoiser():
    ab = linear_schedule()
    prior = from_vp(exact_eps(ab, 0.3), ab, channels=1)
    x = normal(4, 1, 3, 3)
    sigma = torch.tensor([0.02, 0.3, 2.0, 100.0], dtype=F64)
    expected = 0.3 / (0.3 + sigma.reshape(-1, 1, 1, 1) ** 2) * x
    torch.testing.assert_close(prior(x, sigma), expected, rtol=1e-9, atol=1e-9)
    assert prior.sigma_min == pytest.approx(0.01, rel=1e-3)
    # this schedule ends at alpha-bar 4e-5
    assert prior.sigma_max == pytest.approx(157, rel=0.01)


def test_vp_time_steps():
    ab = linear_schedule(50)
    levels = ((1 - ab) / ab).sqrt()
    prior = from_vp(exact_eps(ab, 0.3), ab)
    torch.testing.assert_close(prior.time(levels), torch.arange(50, dtype=F64))
    middle = (levels[10] * levels[11]).sqrt()[None]
    torch.testing.assert_close(prior.time(middle), torch.tensor([10.5], dtype=F64))
    outside = torch.tensor([1e-9, 1e9], dtype=F64)
    assert prior.time(outside).tolist() == [0.0, 49.0]
    seen = []

    def two_outputs(xv, t):
        seen.append(t)
        return torch.cat([xv, 7 * xv], dim=1)

    discrete = from_vp(two_outputs, ab, discrete=True)
    x = normal(1, 1, 2, 2)
    s = levels[10:11] * 1.001
    out = discrete(x, s)
    assert seen[0].tolist() == [10]
    assert seen[0].dtype == torch.int64
    torch.testing.assert_close(out, x - s * x / (1 + s**2).sqrt())
    for wrong in ([0.5], [0.5, 0.6], [1.0, 0.5]):
        with pytest.raises(ValueError, match="alphas_bar"):
            from_vp(two_outputs, wrong)


def test_as_prior():
    field = GaussianField.power_law((3, 3))
    assert as_prior(field) is field
    assert as_prior(Shrink(0.0, 1.0)).sigma_max == pytest.approx(0.2)

    class Declared(Shrink):
        sigma_min, sigma_max = 0.1, 9.0
        capabilities = frozenset()

    declared = Declared(0.0, 1.0)
    assert as_prior(declared) is declared

    class Function:
        sigma_min, sigma_max, channels = 0.1, 9.0, 2

        def __call__(self, x, sigma):
            return x

    prior = as_prior(Function())
    assert (prior.sigma_min, prior.sigma_max, prior.channels) == (0.1, 9.0, 2)
    assert isinstance(as_prior(lambda x, s: x), Prior)
    with pytest.raises(TypeError, match="found str"):
        as_prior("mri")
