"""The parts of the main job: model, preview, effort, samples, result."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics
from numpy.typing import NDArray
from torch import Tensor

from sciinv.baselines import cg_sense, fbp
from sciinv.data.load import load
from sciinv.data.scan import CTGeometry, Geometry, MRIGeometry, NonCartesianGeometry, Scan
from sciinv.errors import DataError
from sciinv.priors import SliceWise
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.checkpoint import Checkpoint
from sciinv.reconstruction.choices import (
    Precision,
    check_restarts,
    resolve_prior,
    resolve_solver,
)
from sciinv.reconstruction.digest import prior_digest, scan_digest
from sciinv.reconstruction.draw import draw
from sciinv.reconstruction.effort import (
    QUICK_STEPS,
    Cost,
    Effort,
    Spectrum,
    few_views,
    fit,
    fit_named,
    measure,
)
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.mri_model import Coils
from sciinv.reconstruction.noise_of_fit import with_noise_of_fit
from sciinv.reconstruction.null_space import null_space
from sciinv.reconstruction.outline import default_solver
from sciinv.reconstruction.parts import Plan, Slice, Stopped
from sciinv.reconstruction.pictures import pictures
from sciinv.reconstruction.progress import Progress
from sciinv.reconstruction.provenance import (
    START_LEVEL,
    bibtex,
    versions,
)
from sciinv.reconstruction.refine import can_refine, refine_maps
from sciinv.report.plain import plain
from sciinv.solvers import DPS, MMT, STOP, PnPHQS, Solver, StepInfo
from sciinv.solvers.problem import Prior

_SENSE_LAMBDA = 0.01
_DPS_STEPS = 40
_CAUSES = {
    "mri": "coil maps, motion or artefacts",
    "ct": "geometry, beam hardening or artefacts",
    "diffraction": "partial coherence, background or a wrong phasing",
}
_BASELINES = {
    "mri": "CG-SENSE",
    "ct": "filtered back-projection",
    "diffraction": "hybrid input-output",
}


def _spectrum(geometry: Geometry) -> Spectrum:
    """How widely the spectrum of ``A^T A`` is spread."""
    if isinstance(geometry, NonCartesianGeometry):
        return "off grid"
    return "even" if isinstance(geometry, MRIGeometry) else "uneven"


class Job:
    """The state of one call: scan, prior, solver, what was said and how long it took."""

    def __init__(
        self,
        scan: Scan | str | Path,
        prior: str | Path | Prior | None,
        solver: str | Callable[[Prior], Solver] | None,
        progress: Progress,
        slices: slice | None,
        coils: Coils,
        refine_maps: bool = True,
        precision: Precision = "auto",
        restarts: int | None = None,
    ) -> None:
        self.progress = progress
        self.precision = precision
        self.refine_maps = refine_maps
        self.coils = coils
        self.timings: dict[str, float] = {}
        self.warnings: list[str] = []
        self.stopped = False
        self.citations: list[str] = []
        self.start: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
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
        self.prior_name, self.prior = resolve_prior(prior, self.kind, self.channels, precision)
        self._network = self.prior
        if len(self.scan.image_shape) == 3:
            self.prior = SliceWise(self.prior)
        self.local = solver is None
        self.solver_name, self.make = resolve_solver(solver or default_solver(self.scan)[0])
        self.baseline_name = _BASELINES[self.kind]
        self.restarts = check_restarts(restarts, self.scan)
        self.asked: dict[str, int] = {}
        self._given: tuple[float | None, float | None, int] = (None, None, 0)

    def ask(
        self,
        *,
        noise_std: float | None = None,
        scale: float | None = None,
        seed: int = 0,
        steps: int | None = None,
        krylov: int | None = None,
    ) -> None:
        """Take note of what the user fixed."""
        accepted = inspect.signature(self.make).parameters
        given = {"steps": steps, "krylov": krylov}
        self.asked = {k: v for k, v in given.items() if v is not None and k in accepted}
        self._given = (noise_std, scale, seed)

    def identity(self, **settings: Any) -> dict[str, Any]:  # noqa: ANN401
        """Everything that the samples depend on: scan, prior, settings, versions.

        :param settings: those that this object does not know.
        """
        named = None if self.local else plain(self.make(self.prior, **self.asked).settings())
        noise, scale, seed = self._given
        own = {
            "scan": scan_digest(self.scan),
            "slices": f"{self.indices[0]} to {self.indices[-1]}",
            "prior": f"{self.prior_name} {prior_digest(self._network)}",
            "solver": self.solver_name if named is None else f"{self.solver_name} {named}",
            "seed": seed,
            "noise": noise,
            "scale": scale,
            "coils": self.coils.number,
            "prewhiten": self.coils.prewhiten,
            "refine maps": self.refine_maps,
            "precision": self.precision,
            "restarts": self.restarts,
        }
        packages = {name: number for name, number in versions().items() if name != "python"}
        return {**own, **settings, **packages}

    @property
    def dtype(self) -> str | None:
        """What the network of the prior computes in, where that was chosen."""
        found = getattr(self._network, "inference_dtype", None)
        return None if found is None else str(found).removeprefix("torch.")

    @dtype.setter
    def dtype(self, name: str | None) -> None:
        """Compute in what another machine chose."""
        for prior in (self._network, self.prior):
            if hasattr(prior, "inference_dtype"):
                prior.inference_dtype = torch.bfloat16 if name == "bfloat16" else None

    def state(self, seconds: float) -> dict[str, Any]:
        """What was found and said so far: goes to disk with every slice.

        :param seconds: since the run began.
        """
        return {
            "warnings": self.warnings,
            "timings": self.timings,
            "start": self.start,
            "settings": plain(self.settings),
            "citations": self.citations,
            "seconds": seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> float:
        """Take over the state of an interrupted run; return the seconds that it took."""
        self.warnings = list(state["warnings"])
        self.timings = dict(state["timings"])
        self.start, self.settings = dict(state["start"]), dict(state["settings"])
        self.citations = list(state["citations"])
        return float(state["seconds"])

    @property
    def runs(self) -> int:
        """Runs for every sample; of the default solver it is phasing that is started anew."""
        return 1 if self.local else self.restarts or 1

    def check(self) -> None:
        """End the work at hand if the user asked for it."""
        if self.progress.interrupted:
            raise Stopped

    def timed(self, phase: str, begin: float) -> float:
        """Add the time since ``begin`` to a phase and return it."""
        seconds = time.perf_counter() - begin
        self.timings[phase] = self.timings.get(phase, 0.0) + seconds
        return seconds

    def model(
        self,
        index: int,
        noise_std: float | None,
        scale: float | None,
        seed: int,
        *,
        again: bool = False,
    ) -> Model:
        """Build the model of one slice.

        :param again: nothing is told that was told before.
        """
        self.check()
        begin = time.perf_counter()
        first = index == self.indices[0] and not again

        def say(phase: str, text: str) -> None:
            if first:
                self.progress.phase(phase, text, time.perf_counter() - begin)

        model = build_model(
            self.scan,
            index,
            noise_std=noise_std,
            scale=scale,
            seed=seed,
            coils=self.coils,
            starts=self.restarts if self.local else None,
            say=say,
        )
        self.timed("model", begin)
        if first:
            self.warnings += model.warnings
        return model

    def model_of(self, index: int, part: Slice) -> Model:
        """Return the model of a slice as it was sampled; made again if the slice is from disk."""
        if part.model is not None:
            return part.model
        model = self.model(index, *self._given, again=True)
        model, _ = self.refine(model, self.baseline(model), False)
        if self.local and part.start is not None:
            model, _ = with_noise_of_fit(model, torch.from_numpy(part.start))
        return model

    def baseline(self, model: Model) -> Tensor:
        """Make the classical preview in the prior's scale."""
        self.check()
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

    def preview(self, image: NDArray[Any], index: int) -> None:
        """Show the classical image ``(1, *shape)`` of slice ``index``, before anything better."""
        self.progress.preview(image, f"{self.baseline_name}, slice {index}")

    def refine(self, model: Model, image: Tensor, first: bool) -> tuple[Model, Tensor]:
        """Estimate coil maps and phase again, with the help of a quick point estimate.

        :param image: start of the point estimate.
        :param first: the slice is the first one, of which the user is told.
        :returns: the better model and that estimate in it; what was given where maps came with the
            scan or its calibration region is wide already.
        """
        if not (self.refine_maps and can_refine(model)):
            return model, image
        begin = time.perf_counter()
        model, image = refine_maps(model, self._point_estimate(model, image, QUICK_STEPS))
        took = self.timed("coil maps", begin)
        if first:
            text = f"maps and phase again, with lines predicted by {QUICK_STEPS} steps of PnPHQS"
            self.progress.phase("coils", text, took)
        return model, image

    def plan(
        self,
        model: Model,
        num_samples: int | None,
        steps: int | None,
        krylov: int | None,
        budget: float,
        *,
        cost: Cost | None = None,
    ) -> Plan:
        """Choose the effort for the time budget.

        :param cost: of a step, where it is known; otherwise measured.
        """
        cost = cost or measure(model, self.prior)
        geometry = self.scan.geometry
        share = budget / len(self.indices)
        if self.local and model.start is None:
            effort = fit(
                cost,
                share,
                spectrum=_spectrum(geometry),
                few=isinstance(geometry, CTGeometry)
                and few_views(len(geometry.angles), geometry.image_shape),
                num_samples=num_samples,
                steps=steps,
                krylov=krylov,
            )
            what = f"{effort.steps} steps, Krylov {effort.krylov}"
        else:
            # a named solver keeps its own steps: only the number of samples is fitted
            runs = self.runs
            effort = fit_named(self._solver(model), cost, share / runs, num_samples)
            effort = replace(effort, seconds=runs * effort.seconds)
            what = f"{effort.steps} steps" + (f", the best of {runs} runs each" if runs > 1 else "")
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
        store: Checkpoint | None = None,
    ) -> Slice:
        """Draw the samples of one slice.

        :param store: keeps every finished batch of samples, and may have some already.
        """
        effort = plan.effort
        shown = model.to_physical(baseline)[0]
        model, image = self.refine(model, baseline, position == 0)
        begin = time.perf_counter()
        start = estimate = None
        if self.local:
            start = model.start
            if start is None:
                start = estimate = self._point_estimate(model, image, effort.point_steps)
                point = self._point_solver(model, effort.point_steps)
                self.start = {"start": {"name": "PnPHQS", **plain(point.settings())}}
            model, excess = with_noise_of_fit(model, start)
            if position == 0 and model.excess > 2:
                self.warnings.append(
                    f"A first image misses the data by up to {model.excess:.0f} times their noise "
                    "near the centre of k-space (off-resonance, trajectory, artefacts); samples "
                    "count the less the more they are missed at their radius."
                )
            if position == 0 and excess > 1.25:
                self.warnings.append(
                    f"The data misfit of the best estimate is {excess:.2f} times the noise level "
                    f"({_CAUSES[self.kind]}); the noise level was raised to it."
                )
            took = self.timed("point estimate", begin)
            if position == 0 and model.start is None:
                self.progress.phase("estimate", f"PnPHQS, {effort.point_steps} steps", took)
            begin = time.perf_counter()
        solver = self._solver(model, effort)
        self.settings = solver.settings()
        self._cite(type(solver), first=True)
        drawn, stopped = draw(
            solver, model, effort.num_samples, runs=self.runs, max_batch=max_batch, start=start,
            generator=generator, store=store or Checkpoint(None, {}), index=self.indices[position],
            progress=self.progress, place=(position, plan.slices),
        )  # fmt: skip
        self.stopped = self.stopped or stopped
        if solver.reduced_batch is not None:
            self._warn_once(
                "Memory did not suffice for the images that were to be sampled together: "
                f"{solver.reduced_batch} at a time instead, which takes longer and changes no "
                "sample."
            )
        self.timed("sampling", begin)
        samples = torch.from_numpy(drawn.samples)
        mean = samples.mean(0) if len(samples) else torch.zeros(1, *model.physics.img_size)
        begin = time.perf_counter()
        added = null_space(model, mean)
        self.timed("null space", begin)
        begin = time.perf_counter()
        middle = position == plan.slices // 2
        seen = pictures(self.scan, model) if middle else {}
        self.timed("pictures", begin)
        return Slice(
            samples=model.to_physical(samples[:, 0]) if len(samples) else np.zeros((0,)),
            baseline=shown,
            estimate=None if estimate is None else model.to_physical(estimate)[0],
            visible=model.visible,
            residual=model.residual_map(mean),
            chi_squared=float(drawn.chi_squared.mean()) if len(samples) else float("nan"),
            count=model.physics.measurement_count(),
            nfe=drawn.nfe,
            noise=model.noise,
            scale=model.scale,
            operator=model.physics.summary(),
            grid=tuple(model.physics.image_shape),
            phased=model.start is not None,
            start=None if start is None else start.cpu().numpy(),
            residuals=drawn.residuals if drawn.residuals is not None else model.residuals,
            null_space=added,
            **seen,
            model=model,
        )

    def _warn_once(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def redraw(
        self, model: Model, effort: Effort, generator: torch.Generator
    ) -> tuple[Tensor, float]:
        """Draw samples of a model of fewer data as :meth:`sample` does, without telling anybody.

        :returns: samples ``(S, 1, C, *image_shape)`` and the noise level that they took.
        """
        start: Tensor | None = None
        if self.local:
            # attenuation starts from an image of its own
            image = model.y.new_zeros(()) if model.nonneg else self.baseline(model)
            start = self._point_estimate(model, image, effort.point_steps)
            model, _ = with_noise_of_fit(model, start)
        samples = self._solver(model, effort).sample(
            model.y,
            model.physics,
            effort.num_samples,
            generator=generator,
            init=start,
            callback=self._stop_if_asked,
        )
        return samples, model.sigma

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

    def _point_solver(self, model: Model, steps: int) -> PnPHQS:
        """Make the solver of the point estimate; attenuation starts further away from it."""
        point = PnPHQS(self.prior, steps=steps)
        if model.nonneg:
            point.sigma_max = 0.3
        return point

    def _point_estimate(self, model: Model, baseline: Tensor, steps: int) -> Tensor:
        """Return the deterministic image that sampling starts from."""
        point = self._point_solver(model, steps)
        self._cite(PnPHQS)
        sigma = max(0.7 * model.sigma, model.floor)
        relaxed = model.with_noise(sigma)
        start = baseline
        if model.nonneg:
            from sciinv.baselines import sirt

            # whitened SIRT: streak-free, unlike FBP of few views
            start = sirt(model.y, model.physics, iterations=20, nonneg=True)
        samples = point.sample(
            relaxed.y, relaxed.physics, 1, generator=0, init=start, callback=self._stop_if_asked
        )
        if not len(samples):
            raise Stopped
        return samples[0]

    def _stop_if_asked(self, info: StepInfo) -> object:
        return STOP if self.progress.interrupted else None

    def _cite(self, solver: type[Solver], *, first: bool = False) -> None:
        entry = bibtex(solver)
        if entry not in self.citations:
            self.citations.insert(0 if first else len(self.citations), entry)
