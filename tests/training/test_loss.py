"""The loss against what theory says about it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sciinv.training.config import NoiseSection
from sciinv.training.loss import denoising_loss, draw_sigma


class Zero(nn.Module):
    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize("sigma", [0.003, 0.05, 0.35, 1.0, 5.0])
@pytest.mark.parametrize("sigma_data", [0.35, 0.5])
def test_a_network_that_answers_zero_has_loss_one(sigma: float, sigma_data: float) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (64, 2, 32, 32)
    clean = sigma_data * torch.randn(shape, generator=generator)
    normal = torch.randn(shape, generator=generator)
    loss = denoising_loss(Zero(), clean, torch.full((64,), sigma), normal, sigma_data)
    # the target is standard normal: the mean of n squares has the variance 2 / n
    assert abs(float(loss) - 1) < 4 * math.sqrt(2 / clean.numel())


class OneLayer(nn.Module):
    """A linear map of the flattened image, zero at first."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.map = nn.Linear(size, size, bias=False)
        nn.init.zeros_(self.map.weight)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return self.map(x.flatten(1)).reshape(x.shape)


@pytest.mark.parametrize("sigma", [0.1, 0.6])
def test_training_on_gaussian_images_ends_at_the_wiener_filter(sigma: float) -> None:
    side, sigma_data = 4, 0.5
    size = side * side
    position = torch.arange(size)
    row, column = position // side, position % side
    distance = (row[:, None] - row).abs() + (column[:, None] - column).abs()
    covariance = sigma_data**2 * 0.8**distance
    root = torch.linalg.cholesky(covariance)
    generator = torch.Generator().manual_seed(2)

    def draw(count: int) -> Tensor:
        flat = torch.randn(count, size, generator=generator) @ root.T
        return flat.reshape(count, 1, side, side)

    net = OneLayer(size)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
    steps = 400
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.03 * (1 - step / steps)
        clean = draw(512)
        normal = torch.randn(clean.shape, generator=generator)
        loss = denoising_loss(net, clean, torch.full((512,), sigma), normal, sigma_data)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    wiener = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(size))
    norm2 = sigma**2 + sigma_data**2
    learned = (
        sigma_data**2 / norm2 * torch.eye(size)
        + sigma * sigma_data / norm2 * net.map.weight.detach()
    )
    # at first, the skip connection alone is off by more than half; what is left is gradient noise
    assert float((learned - wiener).norm() / wiener.norm()) < 0.05
    # the loss floor: posterior variance over that of the target, c_out^2
    floor = float((covariance - wiener @ covariance).trace() / size)
    floor *= norm2 / (sigma * sigma_data) ** 2
    count = 20_000
    clean = draw(count)
    normal = torch.randn(clean.shape, generator=generator)
    with torch.no_grad():
        loss = denoising_loss(net, clean, torch.full((count,), sigma), normal, sigma_data)
    # within an image the errors are correlated, at worst fully
    error = 4 * floor * math.sqrt(2 / count)
    assert floor - error < float(loss) < 1.01 * floor + error
    assert float(loss) < 0.9  # it has learned something: zero would give 1


def test_noise_levels_stay_in_range_and_follow_the_two_laws() -> None:
    noise = NoiseSection(sigma_min=0.01, sigma_max=3.0, log_mean=-2.0, log_std=0.5, even=0.25)
    count = 40_000
    sigma = draw_sigma(count, noise, torch.Generator().manual_seed(0))
    assert float(sigma.min()) >= 0.0099999 and float(sigma.max()) <= 3.0001
    # beyond ln sigma = 0 only the even part reaches: 25 % of ln(3) of ln(300)
    expected = 0.25 * math.log(3) / math.log(300)
    share = float((sigma > 1).float().mean())
    assert abs(share - expected) < 4 * math.sqrt(expected / count) + 1e-4
