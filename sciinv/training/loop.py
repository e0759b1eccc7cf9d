"""``train``: from a configuration to a prior on disk, in one readable loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sciinv.errors import NumericalError
from sciinv.priors import EDMDenoiser, UNet
from sciinv.training.average import PowerAverage
from sciinv.training.card import make_card, write_page
from sciinv.training.checkpoint import State, read_checkpoint, write_checkpoint
from sciinv.training.config import TrainingConfig
from sciinv.training.device import any_of, gathered, launch
from sciinv.training.evaluate import best_average, evaluate, held_out_images
from sciinv.training.export import write_prior
from sciinv.training.run_folder import CHECKPOINT, PRIOR
from sciinv.training.source import make_source
from sciinv.training.stream import Stream
from sciinv.training.update import gradient, learning_rate, noise_of_step
from sciinv.training.watch import Progress, Watcher

_OVERFLOWS = 50  # steps in a row that a float16 loss scale may take to find its size


def train(
    config: TrainingConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
    stop: Callable[[], bool] | None = None,
) -> EDMDenoiser | None:
    """Train a denoiser and write ``prior.safetensors`` with its card into ``folder``.

    The batch and the noise of every step are drawn from the seed and the number of the step, so a
    run that was killed and resumed ends in the same weights as one that was not (on the same
    hardware, threads and number of devices).

    :param config: see :mod:`sciinv.training.config`.
    :param folder: where checkpoints, log, prior and card go; created if missing.
    :param resume: go on from the checkpoint in ``folder``, if there is one.
    :param watcher: told what happens, on the first process.
    :param stop: asked after every step; once it says yes on any process, a checkpoint is written
        and the run ends.
    :return: the prior, on the first process; ``None`` on the others, and after a stop.
    :raises DataError: data cannot be read, or the checkpoint belongs to another configuration.
    :raises NumericalError: loss or gradient left the finite numbers.
    :raises SciinvError: Lightning Fabric is not installed.
    """
    folder = Path(folder)
    checkpoint = folder / CHECKPOINT
    watcher = watcher or Watcher()
    run, data, recipe = config.run, config.data, config.optimiser
    fabric = launch(run)
    net = build_network(config)
    averages = [PowerAverage(net, width) for width in config.average.widths]
    adam = torch.optim.Adam(net.parameters(), lr=recipe.rate, betas=recipe.betas)
    state = State(net, averages, adam, devices=fabric.world_size)
    if resume and checkpoint.exists():
        read_checkpoint(checkpoint, config, state)
    model, optimiser = set_up(fabric, config, state)

    first, before = state.step, state.seconds
    per_step = recipe.batch * recipe.accumulate
    rank, main = fabric.global_rank, fabric.is_global_zero
    source = make_source(config, 0, rank)
    skipped = [(item.where, item.reason) for item in source.skipped]
    stream = Stream(source, data, per_step, (run.seed, 2, rank), first,
                    lambda where, reason: skipped.append((where, reason)))  # fmt: skip
    held_out: Tensor | None = None
    if main:
        held_out = held_out_images(config, lambda where, reason: skipped.append((where, reason)))
        folder.mkdir(parents=True, exist_ok=True)
        parameters = sum(p.numel() for p in net.parameters())
        watcher.begin(config, parameters, first, per_step * fabric.world_size)
    told: set[str] = set()
    begin = shown = time.monotonic()
    losses: list[Tensor] = []
    overflows, since, stopping = 0, first, False

    for step in range(first, recipe.steps):
        clean = next(stream)
        sigma, normal = noise_of_step(config, clean, rank, step)
        rate = learning_rate(step, recipe)
        for group in optimiser.param_groups:
            group["lr"] = rate
        parts, norm = gradient(fabric, model, optimiser, (clean, sigma, normal), config)
        losses += parts
        finite = bool(torch.isfinite(norm)) if norm is not None else True
        overflows = 0 if finite else overflows + 1
        if not finite and (run.precision != "16" or overflows > _OVERFLOWS):
            raise NumericalError(
                f"training: the gradient of step {step} is not finite (learning rate {rate:.2g}); "
                'lower optimiser.rate or use precision = "32", and resume'
            )
        optimiser.step()
        optimiser.zero_grad()
        done = step + 1
        for average in averages:
            average.update(net, done)
        if main:
            watcher.step(done)
        stopping = stop is not None and any_of(fabric, stop()) and done < recipe.steps
        if done % run.log_every == 0 or done == recipe.steps or stopping:
            now = time.monotonic()
            mean = fabric.all_reduce(torch.stack(losses).mean(), reduce_op="mean")
            everyones = gathered(fabric, skipped)
            skipped.clear()
            if main:
                for where, reason in everyones:
                    if where not in told:
                        watcher.skipped(where, reason)
                    told.add(where)
                speed = (done - since) / max(now - shown, 1e-9)
                watcher.progress(
                    Progress(
                        done, recipe.steps, float(mean), float(norm) if norm is not None else 0.0,
                        rate, before + now - begin, speed * per_step * fabric.world_size,
                        (recipe.steps - done) / speed,
                    )
                )  # fmt: skip
            losses, since, shown = [], done, now
        if (done % run.checkpoint_every == 0 or stopping) and done < recipe.steps:
            if main:
                state.step, state.seconds = done, before + time.monotonic() - begin
                state.loss_scale = fabric.strategy.precision.state_dict()
                write_checkpoint(checkpoint, config, state)
                if not stopping:  # whoever asked for it may not wait for long
                    assert held_out is not None  # noqa: S101  first process
                    watcher.curve(done, *evaluate(config, averages[0], held_out))
            fabric.barrier()
        if stopping:
            break
    stream.close()

    if main and stopping:
        watcher.stopped(state.step, checkpoint)
    if not main or stopping:
        return None
    assert held_out is not None  # noqa: S101  first process
    state.step, state.seconds = recipe.steps, before + time.monotonic() - begin
    state.loss_scale = fabric.strategy.precision.state_dict()
    write_checkpoint(checkpoint, config, state)
    best = best_average(config, averages, held_out)
    best.net.cpu()
    card = make_card(config, source, parameters, fabric.world_size, state.seconds, best.width)
    denoiser = write_prior(folder / PRIOR, config, best.net, card, held_out)
    curve, examples = evaluate(config, best, held_out)
    write_page(folder, denoiser.card, examples)
    watcher.curve(recipe.steps, curve, examples)
    watcher.end(folder / PRIOR, denoiser.card)
    return denoiser


def build_network(config: TrainingConfig) -> UNet:
    """Build the network of a configuration, its weights drawn from the seed."""
    n = config.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)  # layers draw from the global generator only
        return UNet(config.prior.channels, widths=n.widths, blocks=n.blocks,
                    features=n.features, patch=n.patch)  # fmt: skip


def set_up(fabric: Any, config: TrainingConfig, state: State) -> tuple[Any, Any]:  # noqa: ANN401
    """Bring a run onto its device; return the network and the optimiser to train with."""
    run, net = config.run, state.net
    layout = torch.channels_last if run.channels_last else torch.contiguous_format
    net.to(memory_format=layout)
    compiled: nn.Module = torch.compile(net) if run.compile else net  # type: ignore[assignment]
    model, optimiser = fabric.setup(compiled, state.optimiser)
    for average in state.averages:
        average.net.to(fabric.device)
    state.place()
    if state.loss_scale:
        fabric.strategy.precision.load_state_dict(state.loss_scale)
    return model, optimiser


__all__ = ["build_network", "set_up", "train"]
