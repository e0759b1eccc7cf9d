"""``reconstruct``: from a scan to a result, in one readable function."""

from __future__ import annotations

import inspect
import math
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics
from numpy.typing import NDArray
from torch import Tensor

from sciinv import __version__
from sciinv.baselines import cg_sense, fbp
from sciinv.data.load import load
from sciinv.data.scan import Scan
from sciinv.errors import DataError, SciinvError
from sciinv.priors import SliceWise
from sciinv.priors import load as load_prior
from sciinv.random import child_generators
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.effort import Effort, fit, fit_named, measure
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.mri_model import Coils
from sciinv.reconstruction.progress import Progress
from sciinv.report.plain import plain
from sciinv.result import Result, Status
from sciinv.solvers import DPS, MMT, PnPHQS, Solver, StepInfo, available
from sciinv.solvers.problem import Prior

DEFAULT_BUDGET = 300.0
DEFAULT_PRIOR = "generic"
# sampling starts from the point estimate plus noise of this share of the intensity scale: above it
# a prior of procedural images is wrong about real anatomy, below it right about local structure
START_LEVEL = 0.25
_SENSE_LAMBDA = 0.01
_DPS_STEPS = 40
_HIDDEN = {
    "mri": "outside the coils' view",
    "ct": "outside the scanned disc",
    "diffraction": "outside the object that phasing found",
}
_BASELINES = {
    "mri": "CG-SENSE",
    "ct": "filtered back-projection",
    "diffraction": "hybrid input-output",
}


@dataclass(frozen=True)
class Plan:
    """What a run will do, before it does it.

    :param solver: name of the sampler.
    :param seconds: expected time of sampling, all slices.
    :param memory: expected peak of memory in bytes, roughly.
    """

    solver: str
    prior: str
    effort: Effort
    slices: int
    noise: float
    scale: float
    seconds: float
    memory: int


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
    max_batch: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Draw posterior images of a scan.

    Without options: coil maps, noise level and intensity scale come from the scan itself; the prior
    is the shipped ``generic`` one; a deterministic point estimate (:class:`~sciinv.solvers.PnPHQS`)
    is made first and :class:`~sciinv.solvers.MMT` samples around it; the effort fits the time
    budget. The samples then describe the posterior *near one estimate*. With another solver, or
    ``solver="MMT"`` named explicitly, sampling starts from noise.

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
    :param max_batch: images that go through the network together.
    :param progress: told what happens.
    :raises DataError: the scan cannot be read or used.
    :raises IncompatibleError: solver, prior and operator do not fit.
    """
    job = _Job(scan, prior, solver, progress or Progress(), slices, Coils(coils, prewhiten))
    begin = time.perf_counter()
    parts: list[_Slice] = []
    generator = torch.Generator().manual_seed(seed)
    children = child_generators(generator, job.scan.num_slices)
    plan: Plan | None = None
    for position, index in enumerate(job.indices):
        model = job.model(index, noise_std, scale, seed)
        baseline = job.baseline(model)
        if plan is None:
            job.progress.preview(model.to_physical(baseline), f"{job.baseline_name}, slice {index}")
            plan = job.plan(model, num_samples, steps, krylov, time_budget)
        part = job.sample(model, baseline, plan, children[index], position, max_batch)
        if part.samples.shape[0] == 0 or (parts and len(part.samples) < len(parts[0].samples)):
            job.stopped = True
            break
        parts.append(part)
        if job.stopped:
            break
    if not parts or plan is None:
        raise KeyboardInterrupt
    return job.result(parts, plan, seed, time.perf_counter() - begin)


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
    progress: Progress | None = None,
) -> Plan:
    """Return what :func:`reconstruct` would do; arguments as there. Nothing is sampled."""
    job = _Job(scan, prior, solver, progress or Progress(), slices, Coils(coils, prewhiten))
    model = job.model(job.indices[0], noise_std, scale, 0)
    return job.plan(model, num_samples, steps, krylov, time_budget)


@dataclass(frozen=True)
class _Slice:
    samples: NDArray[Any]
    baseline: NDArray[Any]
    visible: NDArray[np.bool_]
    residual: NDArray[np.float32]
    chi_squared: float
    count: int
    nfe: int
    model: Model


class _Job:
    """The state of one call: scan, prior, solver, what was said and how long it took."""

    def __init__(
        self,
        scan: Scan | str | Path,
        prior: str | Path | Prior | None,
        solver: str | Callable[[Prior], Solver] | None,
        progress: Progress,
        slices: slice | None,
        coils: Coils,
    ) -> None:
        self.progress = progress
        self.coils = coils
        self.timings: dict[str, float] = {}
        self.warnings: list[str] = []
        self.stopped = False
        self.used: list[type[Solver]] = []
        self.start: dict[str, Any] = {}
        self.scan = scan if isinstance(scan, Scan) else load(scan)
        self.indices = list(range(self.scan.num_slices))[slices or slice(None)]
        if not self.indices:
            raise DataError(
                self.scan.source,
                "slices",
                found="none",
                expected=f"0 to {self.scan.num_slices - 1}",
            )
        self.kind = self.scan.kind
        self.channels = 1 if self.kind == "ct" else 2
        self.prior_name, self.prior = _resolve_prior(prior, self.channels)
        if len(self.scan.image_shape) == 3:
            self.prior = SliceWise(self.prior)
        self.local = solver is None
        # a likelihood of photon counts through a non-linear operator: only DPS takes it so far
        default = "DPS" if self.kind == "diffraction" else "MMT"
        self.solver_name, self.make = _resolve_solver(solver or default)
        self.baseline_name = _BASELINES[self.kind]

    def timed(self, phase: str, begin: float) -> float:
        """Add the time since ``begin`` to a phase and return it."""
        seconds = time.perf_counter() - begin
        self.timings[phase] = self.timings.get(phase, 0.0) + seconds
        return seconds

    def model(self, index: int, noise_std: float | None, scale: float | None, seed: int) -> Model:
        """Build the model of one slice."""
        begin = time.perf_counter()
        first = index == self.indices[0]

        def say(phase: str, text: str) -> None:
            if first:
                self.progress.phase(phase, text, time.perf_counter() - begin)

        model = build_model(self.scan, index, noise_std=noise_std, scale=scale, seed=seed, say=say)
        self.timed("model", begin)
        if first:
            self.warnings += model.warnings
        return model

    def baseline(self, model: Model) -> Tensor:
        """Make the classical preview in the prior's scale."""
        begin = time.perf_counter()
        made = model.preview if model.start is None else model.start
        if made is not None:
            image = made
        elif isinstance(model.whole, LinearPhysics) and model.measured is not None:
            image = fbp(model.measured / model.scale, model.whole)
        else:
            assert isinstance(model.physics, LinearPhysics)  # noqa: S101  MRI
            image = cg_sense(model.y, model.physics, lam=_SENSE_LAMBDA)
        self.timed("preview", begin)
        return image

    def plan(
        self,
        model: Model,
        num_samples: int | None,
        steps: int | None,
        krylov: int | None,
        budget: float,
    ) -> Plan:
        """Choose the effort for the time budget."""
        accepted = inspect.signature(self.make).parameters
        given = {"steps": steps, "krylov": krylov}
        self.asked = {k: v for k, v in given.items() if v is not None and k in accepted}
        cost = measure(model, self.prior)
        share = budget / len(self.indices)
        if self.local and model.start is None:
            effort = fit(
                cost,
                share,
                ct=self.kind == "ct",
                num_samples=num_samples,
                steps=steps,
                krylov=krylov,
            )
            what = f"{effort.steps} steps, Krylov {effort.krylov}"
        else:
            # a named solver keeps its own steps: only the number of samples is fitted
            effort = fit_named(self._solver(model), cost, share, num_samples)
            what = f"{effort.steps} steps"
        seconds = effort.seconds * len(self.indices)
        if seconds > 1.2 * budget:
            self.warnings.append(
                f"The smallest effort takes about {seconds:.0f} s, more than the {budget:.0f} s "
                "asked for; choose fewer slices, or a larger time budget."
            )
        pixels = int(np.prod(model.physics.image_shape))
        rows = min(effort.num_samples, max(1, 2**19 // pixels))
        # one retained graph (about 1 kB a pixel and image for the shipped network) and the bases
        self.progress.phase(
            "solver",
            f"{self.solver_name}: {effort.num_samples} samples, {what}, prior "
            f"{self.prior_name}: about {seconds:.0f} s",
        )
        memory = 600 * 2**20 + rows * pixels * (1100 + 3 * 8 * effort.krylov * self.channels)
        return Plan(
            self.solver_name, self.prior_name, effort, len(self.indices), model.noise, model.scale,
            seconds, memory,
        )  # fmt: skip

    def sample(
        self,
        model: Model,
        baseline: Tensor,
        plan: Plan,
        generator: torch.Generator,
        position: int,
        max_batch: int | None,
    ) -> _Slice:
        """Draw the samples of one slice."""
        begin = time.perf_counter()
        effort = plan.effort
        start: Tensor | None = None
        if self.local:
            start = model.start
            if start is None:
                start = self._point_estimate(model, baseline, effort)
            excess = model.misfit(start)
            model = model.with_noise(model.sigma * _noise_factor(model, excess))
            if position == 0 and model.excess > 2:
                self.warnings.append(
                    f"A first image misses the data by up to {model.excess:.0f} times their noise "
                    "near the centre of k-space (off-resonance, trajectory, partial coherence, "
                    "artefacts); samples count the less the more they are missed at their radius."
                )
            if position == 0 and excess > 1.25:
                self.warnings.append(
                    f"The data misfit of the best estimate is {excess:.2f} times the noise level "
                    "(coil maps, geometry or artefacts); the noise level was raised to it."
                )
            took = self.timed("point estimate", begin)
            if position == 0 and model.start is None:
                self.progress.phase("estimate", f"PnPHQS, {effort.point_steps} steps", took)
            begin = time.perf_counter()
        solver = self._solver(model, effort)
        self.settings = solver.settings()
        if type(solver) not in self.used:
            self.used.insert(0, type(solver))

        def callback(info: StepInfo) -> object:
            total = info.steps * info.blocks * plan.slices
            done = position * info.steps * info.blocks + info.block * info.steps + info.step
            return self.progress.step(done, total, info)

        samples, info = solver.sample(
            model.y,
            model.physics,
            effort.num_samples,
            generator=generator,
            init=start,
            max_batch=max_batch,
            callback=callback,
            return_info=True,
        )
        self.stopped = self.stopped or info.stopped
        self.timed("sampling", begin)
        mean = samples.mean(0) if len(samples) else torch.zeros(1, *model.physics.img_size)
        chi = float(info.chi_squared.mean()) if info.chi_squared is not None else float("nan")
        return _Slice(
            model.to_physical(samples[:, 0]) if len(samples) else np.zeros((0,)),
            model.to_physical(baseline)[0],
            model.visible,
            model.residual_map(mean),
            chi,
            model.physics.measurement_count(),
            info.nfe,
            model,
        )

    def _solver(self, model: Model, effort: Effort | None = None) -> Solver:
        """Make the sampler: the named one as it is, or the default one near a start image."""
        if not self.local:
            return self.make(self.prior, **self.asked)
        if model.start is not None:
            steps = self.asked.get("steps", _DPS_STEPS)
            return DPS(self.prior, steps=steps, sigma_max=model.start_level)
        assert effort is not None  # noqa: S101
        return MMT(
            self.prior,
            steps=effort.steps,
            krylov=effort.krylov,
            lanczos=effort.lanczos,
            sigma_max=START_LEVEL,
        )

    def _point_estimate(self, model: Model, baseline: Tensor, effort: Effort) -> Tensor:
        """Return the deterministic image that sampling starts from."""
        point = PnPHQS(self.prior, steps=effort.point_steps, cg=effort.cg)
        if PnPHQS not in self.used:
            self.used.append(PnPHQS)
        sigma = max(0.7 * model.sigma, model.floor)
        relaxed = model.with_noise(sigma)
        start = baseline
        if model.nonneg:
            from sciinv.baselines import sirt

            # whitened SIRT: streak-free, unlike FBP of few views
            start = sirt(model.y, model.physics, iterations=20, nonneg=True)
            point.sigma_max = 0.3
        self.start = {"start": {"name": "PnPHQS", **plain(point.settings())}}
        return point.sample(relaxed.y, relaxed.physics, 1, generator=0, init=start)[0]

    def result(self, parts: list[_Slice], plan: Plan, seed: int, seconds: float) -> Result:
        """Put the slices together."""
        scan = self.scan
        count = sum(part.count for part in parts)
        chi_squared = float(
            np.average([p.chi_squared for p in parts], weights=[p.count for p in parts])
        )
        tolerance = float(np.sqrt(2 / max(count, 1)))
        status = Status.STOPPED if self.stopped else Status.of_fit(chi_squared, tolerance)
        samples = np.stack([part.samples for part in parts], axis=1)
        visible = np.stack([part.visible for part in parts])
        notes = [*scan.notes]
        if self.local and parts[0].model.start is not None:
            notes.append(
                "Phases were found by the hybrid input-output algorithm, the best of a few random "
                "starts; DPS then sampled near that image. Other phasings that fit as well are not "
                "explored, nor are shifts and the conjugate twin, which no pattern can tell apart."
            )
        elif self.local:
            notes.append(
                "The samples explore the posterior near one point estimate (start level "
                f"{START_LEVEL} of the intensity scale); name the solver, --solver MMT, to sample "
                "from noise."
            )
        grid, part = scan.image_shape, parts[0].model.physics.image_shape
        if grid != part and scan.kind == "ct":
            size = "x".join(map(str, part))
            notes.append(
                f"Outside the middle {size} pixels a quick reconstruction shows air: nothing is "
                "reconstructed there, it is masked."
            )
        hidden = 1 - float(visible.mean())
        if hidden > 0:
            why = _HIDDEN[scan.kind]
            why += " or empty" if grid != part and scan.kind == "ct" else ""
            notes.append(
                f"{hidden:.0%} of the image is {why}: the data say nothing there, it is masked."
            )
        first = self.indices[0]
        done = self.indices[: len(parts)]
        affine = scan.affine.copy()
        affine[:3, 3] += first * affine[:3, 2]
        model = parts[0].model
        reference = scan.reference
        return Result(
            samples=samples,
            baseline=np.stack([part.baseline for part in parts]),
            baseline_name=self.baseline_name,
            visible=visible,
            kind=scan.kind,
            units=scan.units,
            affine=affine,
            name=scan.name,
            oriented=scan.oriented,
            status=status,
            chi_squared=chi_squared,
            chi_squared_tolerance=tolerance,
            residual=parts[len(parts) // 2].residual,
            reference=None if reference is None else np.asarray(reference, np.float32)[done],
            stats={
                "nfe": max(part.nfe for part in parts),
                "steps": self.settings.get("steps", plan.effort.steps),
                "seconds": seconds,
                "peak_memory": _peak_memory(),
                "timings": dict(self.timings),
            },
            provenance={
                "seed": seed,
                "solver": {"name": self.solver_name, **plain(self.settings)},
                **self.start,
                "prior": _describe_prior(self.prior_name, self.prior),
                "operator": model.physics.summary(),
                "noise": model.noise,
                "noise_used": float(model.sigma * model.noise / _base_sigma(model)),
                "scale": model.scale,
                "versions": _versions(),
                "citations": [_bibtex(s) for s in self.used],
            },
            notes=tuple(notes),
            warnings=tuple(self.warnings),
        )


def _noise_factor(model: Model, excess: float) -> float:
    """Factor on the noise level, from the residual of the point estimate over that level.

    What the point estimate cannot explain (maps, motion, rings) is noise to the sampler: above 1
    the level is raised. The estimate from outer samples errs upwards where they hold signal. A
    fit of n unknowns to m data leaves ``sqrt(1 - n / m)`` of the noise; with many coils that is
    nearly all of it, and a residual that is smaller says that the level is too high. It is then
    lowered, at most to one half, and never where the data are few.
    """
    if excess >= 1:
        return excess
    unknowns = model.physics.channels * int(model.visible.sum())
    left = math.sqrt(max(1 - unknowns / model.physics.measurement_count(), 0.25))
    return min(1.0, max(excess / left, 0.5))


def _base_sigma(model: Model) -> float:
    return 1.0 if model.nonneg else model.noise / model.scale


def _resolve_prior(prior: str | Path | Prior | None, channels: int) -> tuple[str, Prior]:
    if prior is None or isinstance(prior, (str, Path)):
        name = str(prior or DEFAULT_PRIOR)
        loaded: Prior = load_prior(name, channels=channels)
        return Path(name).stem, loaded
    return type(prior).__name__, prior


def _resolve_solver(
    solver: str | Callable[[Prior], Solver] | None,
) -> tuple[str, Callable[..., Solver]]:
    if solver is None:
        return "MMT", MMT
    if not isinstance(solver, str):
        return getattr(solver, "__name__", type(solver).__name__), solver
    known = available()
    by_lower = {name.lower(): name for name in known}
    name = by_lower.get(solver.lower())
    if name is None:
        raise SciinvError(
            f"solver: found {solver!r}, expected one of {', '.join(known)}; see 'sciinv solvers'"
        )
    return name, known[name]


def _describe_prior(name: str, prior: Prior) -> dict[str, Any]:
    card = getattr(prior, "card", None)
    described: dict[str, Any] = {"name": name, "class": type(prior).__name__}
    if isinstance(card, dict):
        described["card"] = plain(card)
    return described


def _bibtex(solver: type[Solver]) -> str:
    note = solver.reference or "no publication"
    return f"@misc{{{solver.__name__},\n  note = {{{note}}}\n}}"


def _versions() -> dict[str, str]:
    packages = ("torch", "deepinv", "numpy", "sigpy", "astra-toolbox")
    return {
        "sciinv": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
