"""What a run would take: its first steps timed, nothing written."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from sciinv.training.average import PowerAverage
from sciinv.training.checkpoint import State
from sciinv.training.config import TrainingConfig
from sciinv.training.curve import denoising_curve
from sciinv.training.device import launch
from sciinv.training.evaluate import as_denoiser, held_out_images
from sciinv.training.loop import build_network, set_up
from sciinv.training.source import make_source
from sciinv.training.stream import Stream
from sciinv.training.update import gradient, noise_of_step

_TIMED = 2


@dataclass(frozen=True)
class Estimate:
    """Size and duration of a run.

    :param parameters: of the network.
    :param batch: images in a step, all devices together.
    :param devices: processes.
    :param step: seconds a step, without making images.
    :param image: seconds to make or read one image.
    :param seconds: expected for the whole run.
    :param window: bytes of the images that are kept, on each device.
    """

    parameters: int
    batch: int
    devices: int
    step: float
    image: float
    seconds: float
    window: int


def estimate(config: TrainingConfig) -> Estimate:
    """Time two steps and what goes with them.

    :raises DataError: as training would.
    """
    recipe, data = config.optimiser, config.data
    fabric = launch(config.run)
    net = build_network(config)
    averages = [PowerAverage(net, width) for width in config.average.widths]
    adam = torch.optim.Adam(net.parameters(), lr=recipe.rate, betas=recipe.betas)
    model, optimiser = set_up(fabric, config, State(net, averages, adam))
    per_step = recipe.batch * recipe.accumulate
    source = make_source(config, 0)
    source.image(0)  # compiles what it needs
    begin = time.monotonic()
    source.image(1)
    source.image(2)
    image = (time.monotonic() - begin) / 2
    few = data.model_copy(update={"window": min(data.window, 4), "workers": 0})
    clean = next(Stream(source, few, per_step, (config.run.seed, 2, 0)))
    step = float("inf")
    for number in range(1 + _TIMED):  # the first one allocates and compiles
        begin = time.monotonic()
        sigma, normal = noise_of_step(config, clean, 0, number)
        gradient(fabric, model, optimiser, (clean, sigma, normal), config)
        optimiser.step()
        optimiser.zero_grad()
        for average in averages:
            average.update(net, number + 1)
        if number:
            step = min(step, time.monotonic() - begin)
    one = config.model_copy(update={"data": data.model_copy(update={"held_out": 1})})
    held_out = held_out_images(one).to(fabric.device)
    begin = time.monotonic()
    denoising_curve(as_denoiser(config, averages[0].net, {}), held_out)
    curve = (time.monotonic() - begin) * data.held_out
    # worker processes make images while a step is computed
    making = data.fresh * image / max(data.workers, 1)
    each = max(step, making) if data.workers else step + making
    curves = recipe.steps // config.run.checkpoint_every + len(averages) + 3
    seconds = recipe.steps * each + curves * curve
    seconds += (data.window / max(data.workers, 1) + data.held_out) * image
    side = max(data.scene, data.patch)
    return Estimate(
        sum(p.numel() for p in net.parameters()), per_step * fabric.world_size, fabric.world_size,
        step, image, seconds, 4 * config.prior.channels * data.window * side * side,
    )  # fmt: skip
