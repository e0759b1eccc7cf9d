"""``train``: from a configuration to a prior on disk, in one readable loop."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sciinv.errors import NumericalError, SciinvError
from sciinv.priors import EDMDenoiser, UNet
from sciinv.training.average import PowerAverage
from sciinv.training.card import make_card, write_page
from sciinv.training.checkpoint import read_checkpoint, write_checkpoint
from sciinv.training.config import OptimiserSection, TrainingConfig
from sciinv.training.curve import denoising_curve, overall
from sciinv.training.export import write_prior
from sciinv.training.loss import denoising_loss, draw_sigma
from sciinv.training.source import make_source
from sciinv.training.stream import Stream
from sciinv.training.watch import Progress, Watcher

CHECKPOINT, PRIOR, PAGE = "checkpoint.safetensors", "prior.safetensors", "card.md"
_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
_OVERFLOWS = 50  # steps in a row that a float16 loss scale may take to find its size
_SHOWN_SIGMA, _SHOWN = 0.2, 4


def train(
    config: TrainingConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> EDMDenoiser | None:
    """Train a denoiser and write ``prior.safetensors`` with its card into ``folder``.

    The batch and the noise of every step are drawn from the seed and the number of the step, so a
    run that was killed and resumed ends in the same weights as one that was not (on the same
    hardware and number of devices).

    :param config: see :mod:`sciinv.training.config`.
    :param folder: where checkpoints, log, prior and card go; created if missing.
    :param resume: go on from the checkpoint in ``folder``, if there is one.
    :param watcher: told what happens, on the first process.
    :return: the prior, on the first process; ``None`` on the others.
    :raises DataError: data cannot be read, or the checkpoint belongs to another configuration.
    :raises NumericalError: loss or gradient left the finite numbers.
    :raises SciinvError: Lightning Fabric is not installed.
    """
    folder = Path(folder)
    watcher = watcher or Watcher()
    run, data, recipe = config.run, config.data, config.optimiser
    fabric = _fabric(config)
    net = build_network(config)
    averages = [PowerAverage(net, width) for width in config.average.widths]
    optimiser = torch.optim.Adam(net.parameters(), lr=recipe.rate, betas=recipe.betas)
    first, before = 0, 0.0
    checkpoint = folder / CHECKPOINT
    if resume and checkpoint.exists():
        first, before = read_checkpoint(checkpoint, config, net, averages, optimiser)
    layout = torch.channels_last if run.channels_last else torch.contiguous_format
    net.to(memory_format=layout)  # type: ignore[call-overload]
    compiled: nn.Module = torch.compile(net) if run.compile else net  # type: ignore[assignment]
    model, optimiser = fabric.setup(compiled, optimiser)
    for average in averages:
        average.net.to(fabric.device)

    per_step = recipe.batch * recipe.accumulate
    source = make_source(config, 0, fabric.global_rank)
    stream = Stream(source, data, per_step, (run.seed, 2, fabric.global_rank), first)
    held_out = _held_out(config) if fabric.is_global_zero else None
    parameters = sum(p.numel() for p in net.parameters())
    if fabric.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        watcher.begin(config, parameters, first, per_step * fabric.world_size)
    begin = shown = time.monotonic()
    losses: list[Tensor] = []
    overflows, since = 0, first

    for step in range(first, recipe.steps):
        generator = torch.Generator().manual_seed(_seed(run.seed, fabric.global_rank, step))
        clean = next(stream)
        sigma = draw_sigma(per_step, config.noise, generator)
        normal = torch.randn(clean.shape, generator=generator)
        rate = learning_rate(step, recipe)
        for group in optimiser.param_groups:
            group["lr"] = rate
        parts = zip(*(t.split(recipe.batch) for t in (clean, sigma, normal)), strict=True)
        for number, part in enumerate(parts):
            x, s, n = (t.to(fabric.device) for t in part)
            last = number == recipe.accumulate - 1
            with nullcontext() if last else fabric.no_backward_sync(model):
                x = x.contiguous(memory_format=layout)
                loss = denoising_loss(model, x, s, n, config.noise.sigma_data)
                fabric.backward(loss / recipe.accumulate)
            losses.append(loss.detach())
        norm = fabric.clip_gradients(model, optimiser, max_norm=recipe.clip,
                                     error_if_nonfinite=False)  # fmt: skip
        finite = bool(torch.isfinite(norm)) if norm is not None else True
        overflows = 0 if finite else overflows + 1
        if not finite and (run.precision != "16" or overflows > _OVERFLOWS):
            raise NumericalError(
                f"training: the gradient of step {step} is not finite (learning rate {rate:.2g}); "
                "lower optimiser.rate or use precision = \"32\", and resume"
            )
        optimiser.step()
        optimiser.zero_grad()
        done = step + 1
        for average in averages:
            average.update(net, done)
        if done % run.log_every == 0 or done == recipe.steps:
            now = time.monotonic()
            mean = fabric.all_reduce(torch.stack(losses).mean(), reduce_op="mean")
            if fabric.is_global_zero:
                speed = (done - since) / max(now - shown, 1e-9)
                watcher.progress(
                    Progress(
                        done, recipe.steps, float(mean), float(norm) if norm is not None else 0.0,
                        rate, before + now - begin, speed * per_step * fabric.world_size,
                        (recipe.steps - done) / speed,
                    )
                )  # fmt: skip
            losses, since, shown = [], done, now
        if done % run.checkpoint_every == 0 and done < recipe.steps:
            if fabric.is_global_zero:
                write_checkpoint(checkpoint, config, done, net, averages, optimiser,
                                 before + time.monotonic() - begin)  # fmt: skip
                _report(watcher, done, config, averages[0], held_out)
            fabric.barrier()

    if not fabric.is_global_zero:
        return None
    seconds = before + time.monotonic() - begin
    write_checkpoint(checkpoint, config, recipe.steps, net, averages, optimiser, seconds)
    assert held_out is not None  # noqa: S101  first process
    best = _best(config, averages, held_out)
    card = make_card(config, source, parameters, fabric.world_size, seconds, best.width)
    denoiser = write_prior(folder / PRIOR, config, best.net.cpu(), card, held_out)
    examples = _report(watcher, recipe.steps, config, best, held_out)
    write_page(folder, denoiser.card, examples)
    watcher.end(folder / PRIOR, denoiser.card)
    return denoiser


def build_network(config: TrainingConfig) -> UNet:
    """Build the network of a configuration, its weights drawn from the seed."""
    n = config.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)  # layers draw from the global generator only
        return UNet(config.prior.channels, widths=n.widths, blocks=n.blocks,
                    features=n.features, patch=n.patch)  # fmt: skip


def learning_rate(step: int, recipe: OptimiserSection) -> float:
    """Return the rate of a step: linear warm-up, constant, linear decay to zero at the end."""
    rise = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    fall = min(1.0, (1 - step / recipe.steps) / (1 - recipe.decay_from))
    return recipe.rate * min(rise, 1.0) * fall


def _fabric(config: TrainingConfig) -> Any:  # noqa: ANN401
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise SciinvError(
            "training needs Lightning Fabric and TensorBoard: pip install 'sciinv[train]'"
        ) from None
    run = config.run
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    fabric = Fabric(
        accelerator=run.accelerator, devices=run.devices, num_nodes=run.nodes,
        precision=_PRECISION[run.precision],
    )  # fmt: skip
    fabric.launch()
    return fabric


def _seed(seed: int, rank: int, step: int) -> int:
    """Seed of the noise of one step: unrelated for neighbouring steps and ranks."""
    return int(np.random.SeedSequence((seed, 3, rank, step)).generate_state(1, np.uint64)[0] >> 1)


def _held_out(config: TrainingConfig) -> Tensor:
    source = make_source(config, 1)
    images: list[Tensor] = []
    index, size = 0, None
    while len(images) < config.data.held_out:
        image = source.image(index)
        index += 1
        if image is None:
            if index > 50 * config.data.held_out:
                raise SciinvError("no readable image to hold out")
            continue
        side = min(image.shape[1], image.shape[2], config.data.scene)
        size = size or side
        if side >= size:
            top, left = (image.shape[1] - size) // 2, (image.shape[2] - size) // 2
            images.append(torch.from_numpy(image[:, top : top + size, left : left + size].copy()))
    return torch.stack(images)


def as_denoiser(config: TrainingConfig, net: UNet, card: dict[str, Any]) -> EDMDenoiser:
    """Return the prior that a network of this configuration is."""
    noise = config.noise
    return EDMDenoiser(
        net, sigma_data=noise.sigma_data, sigma_min=noise.sigma_min, sigma_max=noise.sigma_max,
        channels=config.prior.channels, card=card,
    ).eval()  # fmt: skip


def _best(
    config: TrainingConfig, averages: list[PowerAverage], held_out: Tensor
) -> PowerAverage:
    scores = [overall(denoising_curve(as_denoiser(config, a.net, {}), held_out.to(_device(a))))
              for a in averages]  # fmt: skip
    return averages[int(np.argmax(scores))]


def _report(
    watcher: Watcher, step: int, config: TrainingConfig, average: PowerAverage,
    held_out: Tensor | None,
) -> Tensor:
    assert held_out is not None  # noqa: S101  first process
    clean = held_out.to(_device(average))
    denoiser = as_denoiser(config, average.net, {})
    curve = denoising_curve(denoiser, clean)
    few = clean[:_SHOWN]
    normal = torch.randn(few.shape, generator=torch.Generator().manual_seed(2)).to(few)
    noisy = few + _SHOWN_SIGMA * normal
    with torch.no_grad():
        grid = torch.stack([few, noisy, denoiser(noisy, _SHOWN_SIGMA)]).cpu()
    watcher.curve(step, curve, grid)
    return grid


def _device(average: PowerAverage) -> torch.device:
    return next(average.net.parameters()).device


__all__ = ["CHECKPOINT", "PAGE", "PRIOR", "as_denoiser", "build_network", "learning_rate", "train"]
