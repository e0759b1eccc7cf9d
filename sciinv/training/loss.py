"""The denoising loss that trains a prior (Karras, Aittala, Aila, Laine, NeurIPS 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sciinv.training.config import NoiseSection


def draw_sigma(count: int, noise: NoiseSection, generator: torch.Generator) -> Tensor:
    """Draw noise levels ``(count,)`` within ``[sigma_min, sigma_max]``, float32 on the CPU."""
    low, high = math.log(noise.sigma_min), math.log(noise.sigma_max)
    normal = noise.log_mean + noise.log_std * torch.randn(count, generator=generator)
    even = low + (high - low) * torch.rand(count, generator=generator)
    spread = torch.rand(count, generator=generator) < noise.even
    return torch.where(spread, even, normal).clamp(low, high).exp()


def denoising_loss(
    net: nn.Module, clean: Tensor, sigma: Tensor, normal: Tensor, sigma_data: float
) -> Tensor:
    r"""Mean of :math:`\lambda(\sigma)\,|D(x+\sigma n,\sigma)-x|^2`, equation 8 of the paper.

    With the preconditioning of :class:`sciinv.priors.EDMDenoiser` and
    :math:`\lambda=1/c_{out}^2` it is the plain mean square error of the network's output, and a
    network that answers zero has the loss 1 at every noise level if the images have variance
    ``sigma_data**2``.

    :param net: ``F(c_in x, c_noise)``.
    :param clean: ``(B, C, H, W)``.
    :param sigma: ``(B,)``, per real component.
    :param normal: standard normal draws like ``clean``.
    """
    s = sigma_data
    level = sigma[:, None, None, None]
    norm = (level.square() + s * s).sqrt()
    noisy = clean + level * normal
    target = (clean - (s / norm).square() * noisy) * norm / (level * s)
    residual = net(noisy / norm, sigma.log() / 4)
    return (residual.float() - target).square().mean()
