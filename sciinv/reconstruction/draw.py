"""The samples of one slice, a batch at a time, so that finished ones can be kept."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sciinv.random import child_generators
from sciinv.reconstruction.checkpoint import Checkpoint
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.parts import Batch, Stopped
from sciinv.reconstruction.progress import Progress
from sciinv.solvers import SampleInfo, Solver, StepInfo, sample_with_restarts
from sciinv.solvers.base import automatic_batch


def draw(
    solver: Solver,
    model: Model,
    num_samples: int,
    *,
    runs: int,
    max_batch: int | None,
    start: Tensor | None,
    generator: torch.Generator,
    store: Checkpoint,
    index: int,
    progress: Progress,
    place: tuple[int, int],
) -> tuple[Batch, bool]:
    """Draw samples; tell whether the user stopped it, with those that were finished.

    The batches are those that the solver itself would make of all samples, so that the samples do
    not depend on how often the run was interrupted.

    :param runs: for every sample, of which the best is kept.
    :param max_batch: images that go through the network together.
    :param store: takes every finished batch, and may have some already.
    :param index: number of the slice.
    :param place: position of the slice in the run, and slices of the run, for the progress.
    """
    rows = max_batch or automatic_batch(math.prod(model.physics.image_shape))
    size = max(1, rows // runs)
    counts = [min(size, num_samples - first) for first in range(0, num_samples, size)]
    # blocks of rows of a batch; more than one only where the runs of one sample overflow
    blocks = [-(-count * runs // rows) for count in counts]
    position, slices = place
    found: list[Batch] = []
    stopped = False
    for number, count in enumerate(counts):
        kept = store.get_batch(index, number)
        if kept is not None:
            child_generators(generator, count * runs)  # the draws that this batch took
            found.append(kept)
            continue
        if progress.interrupted:
            stopped = True
            break
        before = sum(blocks[:number])

        def callback(info: StepInfo, before: int = before) -> object:
            done = (before + info.block) * info.steps + info.step
            total = sum(blocks) * info.steps
            return progress.step(position * total + done, slices * total, info)

        batch, stopped = _run_batch(solver, model, count, runs, rows, start, generator, callback)
        found.append(batch)
        if stopped:
            break
        store.put_batch(index, number, batch)
    if not found:
        raise Stopped
    return _join(found), stopped


def _run_batch(
    solver: Solver,
    model: Model,
    count: int,
    runs: int,
    rows: int,
    start: Tensor | None,
    generator: torch.Generator,
    callback: Callable[[StepInfo], object],
) -> tuple[Batch, bool]:
    """Draw some samples, each the best of ``runs``; also tell whether the callback ended it."""
    residuals = None
    info: SampleInfo
    if runs == 1:
        samples, info = solver.sample(
            model.y, model.physics, count, generator=generator, init=start, max_batch=rows,
            callback=callback, return_info=True,
        )  # fmt: skip
    else:
        samples, info = sample_with_restarts(
            solver, model.y, model.physics, count, restarts=runs, generator=generator, init=start,
            max_batch=rows, callback=callback,
        )  # fmt: skip
        if info.residuals is not None:
            residuals = info.residuals[:, :, 0].numpy()
    chi = np.full(len(samples), np.nan)
    if info.chi_squared is not None:
        chi = info.chi_squared.cpu().numpy()[:, 0]
    return Batch(samples.detach().cpu().numpy(), chi, info.nfe, residuals), info.stopped


def _join(batches: list[Batch]) -> Batch:
    residuals = [batch.residuals for batch in batches if batch.residuals is not None]
    return Batch(
        np.concatenate([batch.samples for batch in batches]),
        np.concatenate([batch.chi_squared for batch in batches]),
        max(batch.nfe for batch in batches),
        np.concatenate(residuals) if residuals else None,
    )
