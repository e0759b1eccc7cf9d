"""Held-out images, and how the averages of the weights denoise them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sciinv.errors import DataError
from sciinv.priors import EDMDenoiser, UNet
from sciinv.training.average import PowerAverage
from sciinv.training.config import TrainingConfig
from sciinv.training.curve import Curve, denoising_curve, overall
from sciinv.training.source import Unreadable, make_source

_SHOWN_SIGMA, _SHOWN = 0.2, 4


def as_denoiser(config: TrainingConfig, net: nn.Module, card: dict[str, Any]) -> EDMDenoiser:
    """Return the prior that a network of this configuration is."""
    assert isinstance(net, UNet)  # noqa: S101  nothing else is trained
    noise = config.noise
    return EDMDenoiser(
        net, sigma_data=noise.sigma_data, sigma_min=noise.sigma_min, sigma_max=noise.sigma_max,
        channels=config.prior.channels, card=card,
    ).eval()  # fmt: skip


def held_out_images(
    config: TrainingConfig, skipped: Callable[[str, str], None] = lambda where, reason: None
) -> Tensor:
    """Return ``(N, C, S, S)``: the middle of ``data.held_out`` images that are not trained on.

    :param skipped: told where an image could not be read and why.
    :raises DataError: one cannot be read, unless ``on_error = "skip"``; or next to none can.
    """
    source = make_source(config, 1)
    images: list[Tensor] = []
    index, size = 0, None
    while len(images) < config.data.held_out:
        image = source.image(index)
        index += 1
        if index > 50 * config.data.held_out:
            raise DataError("data.files", found="hardly any readable image to hold out",
                            expected=config.data.held_out)  # fmt: skip
        if isinstance(image, Unreadable):
            if config.data.on_error == "stop":
                raise image.error()
            skipped(image.where, image.reason)
            continue
        side = min(image.shape[1], image.shape[2], config.data.scene)
        size = size or side
        if side >= size:
            top, left = (image.shape[1] - size) // 2, (image.shape[2] - size) // 2
            images.append(torch.from_numpy(image[:, top : top + size, left : left + size].copy()))
    return torch.stack(images)


def best_average(
    config: TrainingConfig, averages: list[PowerAverage], held_out: Tensor
) -> PowerAverage:
    """Return the average of the weights that denoises held-out images best."""
    scores = [overall(denoising_curve(as_denoiser(config, a.net, {}), held_out.to(a.device)))
              for a in averages]  # fmt: skip
    return averages[int(np.argmax(scores))]


def evaluate(
    config: TrainingConfig, average: PowerAverage, held_out: Tensor
) -> tuple[Curve, Tensor]:
    """Return the denoising curve, and some images clean, noisy and denoised ``(3, N, C, H, W)``."""
    clean = held_out.to(average.device)
    denoiser = as_denoiser(config, average.net, {})
    curve = denoising_curve(denoiser, clean)
    few = clean[:_SHOWN]
    normal = torch.randn(few.shape, generator=torch.Generator().manual_seed(2)).to(few)
    noisy = few + _SHOWN_SIGMA * normal
    with torch.no_grad():
        examples = torch.stack([few, noisy, denoiser(noisy, _SHOWN_SIGMA)])
    return curve, examples.cpu()
