"""One step of the optimiser: noise, rate, gradient."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv.training.config import OptimiserSection, TrainingConfig
from sciinv.training.loss import denoising_loss, draw_sigma


def noise_of_step(
    config: TrainingConfig, clean: Tensor, rank: int, step: int
) -> tuple[Tensor, Tensor]:
    """Draw noise levels and normal numbers of a step: a function of seed, rank and step alone."""
    seed = np.random.SeedSequence((config.run.seed, 3, rank, step)).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(seed >> 1))
    sigma = draw_sigma(clean.shape[0], config.noise, generator)
    return sigma, torch.randn(clean.shape, generator=generator)


def learning_rate(step: int, recipe: OptimiserSection) -> float:
    """Return the rate of a step: linear warm-up, constant, linear decay to zero at the end."""
    rise = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    fall = min(1.0, (1 - step / recipe.steps) / (1 - recipe.decay_from))
    return recipe.rate * min(rise, 1.0) * fall


def gradient(
    fabric: Any,  # noqa: ANN401
    model: Any,  # noqa: ANN401
    optimiser: Any,  # noqa: ANN401
    batch: tuple[Tensor, Tensor, Tensor],
    config: TrainingConfig,
) -> tuple[list[Tensor], Tensor | None]:
    """Compute the clipped gradient of a step, averaged over its passes and all devices.

    :param batch: clean patches, noise levels and normal numbers of all passes.
    :return: losses of the passes on this device, and the norm of the gradient before clipping.
    """
    recipe = config.optimiser
    layout = torch.channels_last if config.run.channels_last else torch.contiguous_format
    losses = []
    parts = zip(*(t.split(recipe.batch) for t in batch), strict=True)
    for number, part in enumerate(parts):
        x, sigma, normal = (t.to(fabric.device) for t in part)
        last = number == recipe.accumulate - 1
        with nullcontext() if last else fabric.no_backward_sync(model):
            x = x.contiguous(memory_format=layout)
            loss = denoising_loss(model, x, sigma, normal, config.noise.sigma_data)
            fabric.backward(loss / recipe.accumulate)
        losses.append(loss.detach())
    norm = fabric.clip_gradients(model, optimiser, max_norm=recipe.clip, error_if_nonfinite=False)
    return losses, norm
