"""EDMDenoiser: preconditioning factors, loss at the start, dtypes, volumes, gradients."""

from __future__ import annotations

import math

import deepinv
import pytest
import torch
from torch import Tensor, nn

from sciinv.capabilities import Capability, prior_capabilities
from sciinv.priors.network import UNet
from sciinv.priors.precondition import EDMDenoiser, fast_dtype

S = 0.4


def _denoiser(
    *, channels: int = 2, trained: bool = True, seed: int = 0, **more: object
) -> EDMDenoiser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = UNet(channels, widths=(6, 8), features=8)
        if trained:
            nn.init.normal_(net.tail.weight, std=0.2)
    return EDMDenoiser(
        net,
        sigma_data=S,
        sigma_min=0.01,
        sigma_max=2.0,
        channels=channels,
        **more,  # type: ignore[arg-type]
    )


def _images(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class _Spy(UNet):
    """Returns a known field and keeps what it was given."""

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        self.seen = (x, c_noise)
        return torch.full_like(x, 2.0)


def _spied() -> tuple[EDMDenoiser, _Spy]:
    net = _Spy(1, widths=(4,), features=4).double()
    return EDMDenoiser(net, sigma_data=S, sigma_min=0.01, sigma_max=2.0, channels=1), net


@pytest.mark.parametrize("sigma", [1e-4, 0.01, 0.3, 2.0, 50.0])
def test_factors_are_those_of_the_paper(sigma: float) -> None:
    denoiser, net = _spied()
    x = _images(2, 1, 4, 5, dtype=torch.float64)
    out = denoiser(x, sigma)
    total = sigma**2 + S**2
    truth = S**2 / total * x + 2.0 * sigma * S / math.sqrt(total)
    torch.testing.assert_close(out, truth, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net.seen[0], x / math.sqrt(total), rtol=1e-12, atol=0)
    # outside the trained range only the conditioning is held
    held = min(max(sigma, 0.01), 2.0)
    torch.testing.assert_close(
        net.seen[1], torch.full((2,), math.log(held) / 4, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_untrained_denoiser_is_exact_for_white_gaussian_images() -> None:
    # F = 0 leaves the posterior mean s^2 / (s^2 + sigma^2) x of x0 ~ N(0, s^2)
    denoiser = _denoiser(trained=False)
    clean = S * _images(4, 2, 64, 64, dtype=torch.float64)
    for sigma in (0.02, 0.5, 5.0):
        noisy = clean + sigma * _images(4, 2, 64, 64, seed=2, dtype=torch.float64)
        weight = (sigma**2 + S**2) / (sigma * S) ** 2
        with torch.no_grad():
            loss = weight * (denoiser(noisy, sigma) - clean).square().mean()
        # each of the N squared errors has mean 1 and variance 2
        assert abs(float(loss) - 1) < 4 * math.sqrt(2 / clean.numel())


def test_state_keeps_its_dtype_and_nothing_is_clipped() -> None:
    denoiser = _denoiser()
    x = 30 * _images(2, 2, 8, 8, dtype=torch.float64)
    out = denoiser(x, 0.05)
    assert out.dtype == torch.float64
    assert out.abs().max() > 20
    single = denoiser(x.float(), 0.05)
    assert single.dtype == torch.float32
    torch.testing.assert_close(out, single.double(), rtol=1e-5, atol=1e-5)
    # the factors are exact in the dtype of the state although the network is single precision
    # below sigma_min D - x is proportional to sigma, but for rounding the network's input (1e-7)
    steps = [(denoiser(x, tiny) - x) / tiny for tiny in (1e-8, 1e-7)]
    assert steps[0].abs().max() > 1
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-4, atol=1e-4)


def test_levels_per_image_and_scalar_tensors() -> None:
    denoiser = _denoiser()
    x = _images(3, 2, 8, 8)
    levels = torch.tensor([0.02, 0.3, 1.5])
    out = denoiser(x, levels)
    for row, level in enumerate(levels.tolist()):
        torch.testing.assert_close(out[row], denoiser(x[row : row + 1], level)[0])
    torch.testing.assert_close(denoiser(x, torch.tensor(0.3)), denoiser(x, 0.3), rtol=0, atol=0)


def test_volumes_are_batches_of_slices() -> None:
    denoiser = _denoiser()
    volume = _images(2, 2, 3, 8, 9)
    levels = torch.tensor([0.1, 0.7])
    out = denoiser(volume, levels)
    assert out.shape == volume.shape
    for row in range(2):
        for index in range(3):
            alone = denoiser(volume[row : row + 1, :, index], float(levels[row]))[0]
            torch.testing.assert_close(out[row, :, index], alone)


def test_bf16_inference_stays_close_and_keeps_the_dtype() -> None:
    x = _images(1, 2, 16, 16)
    full = _denoiser()(x, 0.3)
    half = _denoiser(inference_dtype=torch.bfloat16)(x, 0.3)
    assert half.dtype == torch.float32
    difference = (half - full).norm() / full.norm()
    assert 0 < difference < 8 * 2**-8  # a few roundings to 8 bits


def test_memory_layout_does_not_change_values() -> None:
    denoiser = _denoiser()
    x = _images(2, 2, 8, 8)
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(denoiser(last, 0.2), denoiser(x, 0.2))


def test_gradient_matches_finite_differences() -> None:
    denoiser = _denoiser(channels=1).double().requires_grad_(False)
    x = _images(1, 1, 4, 5, dtype=torch.float64).requires_grad_()
    sigma = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(denoiser, (x, sigma))


def test_declares_itself() -> None:
    denoiser = _denoiser(card={"name": "x"})
    assert isinstance(denoiser, deepinv.models.base.Denoiser)
    assert prior_capabilities(denoiser) == {Capability.VJP, Capability.TRAINABLE}
    assert (denoiser.sigma_min, denoiser.sigma_max, denoiser.channels) == (0.01, 2.0, 2)
    assert denoiser.card == {"name": "x"}
    assert any(p.requires_grad for p in denoiser.parameters())


def test_fast_dtype_is_what_the_hardware_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast_dtype() in (None, torch.bfloat16)
    assert fast_dtype("meta") is None
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    for answers, expected in (
        ((False, False), None),
        ((True, False), torch.bfloat16),
        ((False, True), torch.bfloat16),
    ):
        for name, answer in zip(names, answers, strict=True):
            monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer, raising=False)
        assert fast_dtype() is expected
    for name in names:  # other processors, older torch
        monkeypatch.delattr(torch.cpu, name)
    assert fast_dtype("cpu") is None


def test_wrong_inputs_are_refused() -> None:
    denoiser = _denoiser()
    x = torch.zeros(2, 2, 8, 8)
    for image in (torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8)):
        with pytest.raises(ValueError, match="image"):
            denoiser(image, 0.1)
    for sigma in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive finite"):
            denoiser(x, sigma)
    with pytest.raises(ValueError, match="one per image"):
        denoiser(x, torch.full((3,), 0.1))
    with pytest.raises(ValueError, match="unknown keyword"):
        denoiser(x, 0.1, typo=True)


def test_wrong_settings_are_refused() -> None:
    net = UNet(2, widths=(4,), features=4)
    good = {"sigma_min": 0.01, "sigma_max": 1.0, "channels": 2}
    for bad in (
        {"sigma_min": 0.0},
        {"sigma_max": 0.005},
        {"sigma_max": math.inf},
        {"sigma_data": 0.0},
    ):
        with pytest.raises(ValueError, match="noise range"):
            EDMDenoiser(net, **{**good, **bad})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="channels"):
        EDMDenoiser(net, **{**good, "channels": 1})  # type: ignore[arg-type]
