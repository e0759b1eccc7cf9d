"""Several independent runs for every sample, the one that fits best kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv.solvers.base import Callback, SampleInfo, Solver


@dataclass
class RestartInfo(SampleInfo):
    """What a run with restarts did; ``chi_squared`` is that of the runs that were kept.

    :param restarts: runs for every sample.
    :param residuals: ``|y - A x|^2 / (m sigma^2)`` of every run, ``(S, restarts, B)`` float64.
    :param kept: number of the run that was kept, from 0, ``(S, B)``.
    """

    restarts: int = 1
    residuals: Tensor | None = None
    kept: Tensor | None = None


def sample_with_restarts(
    solver: Solver,
    y: Tensor,
    physics: Physics,
    num_samples: int = 1,
    *,
    restarts: int = 4,
    generator: torch.Generator | int | None = None,
    init: Tensor | None = None,
    max_batch: int | None = None,
    callback: Callback | None = None,
) -> tuple[Tensor, RestartInfo]:
    """Draw samples, each the best of several independent runs.

    For posteriors of many modes of which most are wrong, as of phase retrieval: there a run ends
    near one of the modes, and the squared residual tells a wrong one. It is computed from the
    measurement alone; the published "best of 4" is chosen by the error against the truth. Where
    the posterior has one mode, choosing makes the samples too narrow: do not use it there.

    Runs are rows of the batch with their own generators: sample i is the same whatever
    ``num_samples`` and ``max_batch``.

    :param solver: any solver.
    :param restarts: runs for every sample.
    :param init: image to start from, ``(B, C, ...)`` or ``(S, B, C, ...)``; the same for all runs
        of a sample.
    :return: ``(S, B, C, *spatial)`` and how many runs were made, with all residuals. The other
        arguments are those of :meth:`sciinv.solvers.Solver.sample`; a run stopped by the callback
        returns the samples all of whose runs are finished.
    :raises ValueError: ``restarts`` or ``num_samples`` below 1.
    """
    if restarts < 1 or num_samples < 1:
        raise ValueError(
            f"restarts, num_samples: found {restarts}, {num_samples}, expected at least 1 of each"
        )
    if init is not None and init.shape[:2] == (num_samples, y.shape[0]) and num_samples > 1:
        init = init.repeat_interleave(restarts, 0)
    runs, info = solver.sample(
        y,
        physics,
        num_samples * restarts,
        generator=generator,
        init=init,
        max_batch=max_batch,
        callback=callback,
        return_info=True,
    )
    residuals = info.chi_squared
    assert residuals is not None  # noqa: S101  every run with information has it
    done = runs.shape[0] // restarts
    batch = y.shape[0]
    runs = runs[: done * restarts].reshape(done, restarts, *runs.shape[1:])
    residuals = residuals[: done * restarts].reshape(done, restarts, batch)
    # a residual that is not a number never wins
    kept = torch.nan_to_num(residuals, nan=torch.inf).argmin(1)
    samples, scans = torch.arange(done)[:, None], torch.arange(batch)
    chosen = kept.to(runs.device)
    return runs[samples, chosen, scans], RestartInfo(
        nfe=info.nfe * restarts,
        chi_squared=residuals[samples, kept, scans],
        cg_iterations=info.cg_iterations,
        cg_residual=info.cg_residual,
        stopped=info.stopped,
        restarts=restarts,
        residuals=residuals,
        kept=kept,
    )
