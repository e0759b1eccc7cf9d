"""``reconstruct``: from a scan to a result, in one readable function."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sciinv.data.scan import Scan
from sciinv.random import child_generators
from sciinv.reconstruction.assemble import assemble
from sciinv.reconstruction.calibration import INTERRUPTED, calibrate_job
from sciinv.reconstruction.checkpoint import Checkpoint
from sciinv.reconstruction.choices import Precision
from sciinv.reconstruction.job import Job
from sciinv.reconstruction.mri_model import Coils
from sciinv.reconstruction.parts import Plan, Slice, Stopped
from sciinv.reconstruction.progress import Progress
from sciinv.result import Result, Status, StdCalibration
from sciinv.solvers import Solver
from sciinv.solvers.problem import Prior

DEFAULT_BUDGET = 300.0


def reconstruct(
    scan: Scan | str | Path,
    prior: str | Path | Prior | None = None,
    solver: str | Callable[[Prior], Solver] | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    *,
    steps: int | None = None,
    krylov: int | None = None,
    noise_std: float | None = None,
    scale: float | None = None,
    time_budget: float = DEFAULT_BUDGET,
    slices: slice | None = None,
    coils: int | None = None,
    prewhiten: bool = False,
    refine_maps: bool = True,
    calibrate: bool = True,
    precision: Precision = "auto",
    max_batch: int | None = None,
    restarts: int | None = None,
    checkpoint: str | Path | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Draw posterior images of a scan.

    Without options: coil maps, noise level and intensity scale come from the scan itself; the prior
    is the shipped one for the kind of scan (``mri``, ``ct``, else ``generic``); a deterministic
    point estimate (:class:`~sciinv.solvers.PnPHQS`) is made first and :class:`~sciinv.solvers.MMT`
    samples around it; the effort fits the time budget. The samples then describe the posterior
    *near one estimate*. With another solver, or ``solver="MMT"`` named explicitly, sampling starts
    from noise.

    :param scan: a :class:`~sciinv.data.scan.Scan` or the path of a file.
    :param prior: shipped name, path of a ``.safetensors`` file, or a denoiser ``D(x, sigma)`` on
        images of robust maximum 1.
    :param solver: name (see :func:`sciinv.solvers.available`) or a factory ``prior -> Solver``.
    :param num_samples: posterior samples; by default 16, fewer if the time budget asks for it.
    :param seed: of all random draws.
    :param steps: noise levels of the sampler.
    :param krylov: dimension of the sampler's data system.
    :param noise_std: noise per real component in the measurement's units, instead of the estimate.
    :param scale: image intensity that is 1 for the prior, instead of the estimate.
    :param time_budget: seconds that sampling may take, all slices together.
    :param slices: slices of the stack to reconstruct, all by default.
    :param coils: MRI: compress the coils to so many virtual ones first.
    :param prewhiten: MRI: first whiten the coils' noise, by its covariance in outer k-space.
    :param refine_maps: MRI: estimate coil maps and phase a second time, from the centre of k-space
        that a quick first image completes; maps that come with the scan stay.
    :param calibrate: hold a part of the data out, twice, and widen the standard deviation by what
        samples of the rest miss it; up to half of ``time_budget`` on top. It is left out, and said
        so, for a few lines, for diffraction and where it would take longer.
    :param precision: of the network of a prior given by name: ``"32"``, ``"bf16"``, or ``"auto"``,
        bfloat16 where the processor multiplies it natively (images differ by less than 0.01 dB).
    :param max_batch: images that go through the network together.
    :param restarts: diffraction: random starts of the iterative phasing that the default solver
        samples around; with a solver by name, runs for every sample, of which the one that fits
        best is kept. All residuals are in ``Result.stats``.
    :param checkpoint: folder for finished slices and, within a slice, batches of samples. What is
        there from an interrupted call with the same scan, prior, settings and versions is reused,
        and the result is the same; the folder stays. Only calibration is done again.
    :param name: of the scan, for report and files; neutral by default (``"MRI scan"``), for the
        name of a file may name a person.
    :param progress: told what happens.
    :raises DataError: the scan cannot be read or used, or parts of another run are in the way.
    :raises IncompatibleError: solver, prior and operator do not fit.
    """
    job = Job(
        scan, prior, solver, progress or Progress(), slices, Coils(coils, prewhiten), refine_maps,
        precision, restarts,
    )  # fmt: skip
    begin = time.perf_counter()
    job.ask(noise_std=noise_std, scale=scale, seed=seed, steps=steps, krylov=krylov)
    folder = None if checkpoint is None else Path(checkpoint)
    asked = {"samples": num_samples, "steps": steps, "krylov": krylov, "time budget": time_budget,
             "batch": max_batch}  # fmt: skip
    store = Checkpoint(folder, {} if folder is None else job.identity(**asked))
    plan = store.plan
    if plan is not None:
        job.dtype = store.chosen["dtype"]
    parts: list[Slice] = []
    generator = torch.Generator().manual_seed(seed)
    children = child_generators(generator, job.scan.num_slices)
    for position, index in enumerate(job.indices):
        kept = store.get_slice(index)
        if kept is not None:
            parts.append(kept[0])
            begin = time.perf_counter() - job.restore(kept[1])
            if position == 0:
                job.preview(kept[0].baseline[None], index)
            continue
        try:
            model = job.model(index, noise_std, scale, seed)
            baseline = job.baseline(model)
            if position == 0:
                job.preview(model.to_physical(baseline), index)
            if plan is None:
                said = len(job.warnings)
                plan = job.plan(model, num_samples, steps, krylov, time_budget)
                store.begin(plan, {"dtype": job.dtype, "warnings": job.warnings[said:]})
            elif position == 0:
                job.warnings += store.chosen["warnings"]
            part = job.sample(model, baseline, plan, children[index], position, max_batch, store)
        except Stopped:
            job.stopped = True
            break
        if part.samples.shape[0] == 0 or (parts and len(part.samples) < len(parts[0].samples)):
            job.stopped = True
            break
        parts.append(part)
        if job.stopped:
            break
        store.put_slice(index, part, job.state(time.perf_counter() - begin))
    if not parts or plan is None:
        raise KeyboardInterrupt
    checked = StdCalibration(reason="not asked for")
    if calibrate:
        checked = calibrate_job(job, parts, plan, seed, time_budget)
    result = assemble(job, parts, plan, seed, time.perf_counter() - begin)
    return replace(result, std_calibration=checked, name=name or result.name)


def was_cut_short(result: Result) -> bool:
    """Whether the user ended a run before all was done that :func:`reconstruct` does."""
    checked = result.std_calibration
    return result.status is Status.STOPPED or (
        checked is not None and checked.reason == INTERRUPTED
    )


def plan_run(
    scan: Scan | str | Path,
    prior: str | Path | Prior | None = None,
    solver: str | Callable[[Prior], Solver] | None = None,
    num_samples: int | None = None,
    *,
    steps: int | None = None,
    krylov: int | None = None,
    noise_std: float | None = None,
    scale: float | None = None,
    time_budget: float = DEFAULT_BUDGET,
    slices: slice | None = None,
    coils: int | None = None,
    prewhiten: bool = False,
    refine_maps: bool = True,
    precision: Precision = "auto",
    restarts: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Return what :func:`reconstruct` would do; arguments as there. Nothing is sampled."""
    job = Job(
        scan, prior, solver, progress or Progress(), slices, Coils(coils, prewhiten), refine_maps,
        precision, restarts,
    )  # fmt: skip
    job.ask(noise_std=noise_std, scale=scale, steps=steps, krylov=krylov)
    model = job.model(job.indices[0], noise_std, scale, 0)
    return job.plan(model, num_samples, steps, krylov, time_budget)
