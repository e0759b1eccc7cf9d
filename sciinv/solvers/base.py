"""The solver interface and the one loop over noise levels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, overload

import torch
from deepinv.models.base import Reconstructor
from deepinv.physics import Physics
from torch import Tensor

from sciinv.capabilities import Capability, noise_capabilities
from sciinv.errors import IncompatibleError
from sciinv.linalg import CGInfo
from sciinv.operators.likelihoods import Likelihood, likelihood_of
from sciinv.operators.noise import noise_sigma
from sciinv.random import RowNoise, as_generator, child_generators
from sciinv.solvers.compatibility import check_compatible
from sciinv.solvers.finite import FiniteCheck, check_measurement, check_misfit, find_cause
from sciinv.solvers.integrators import Integrator, resolve_integrator
from sciinv.solvers.memory import free, is_out_of_memory
from sciinv.solvers.problem import Linearised, Prior, Problem
from sciinv.solvers.schedule import SCHEDULES, Schedule

# with no level declared by the prior: the limits of Karras et al. (2022)
DEFAULT_SIGMA_MAX = 80.0
DEFAULT_SIGMA_MIN = 0.002
# pixels x rows that go through the network together by default (about 2 GB with a 1 M U-Net)
_AUTO_BATCH_PIXELS = 2**19


def automatic_batch(pixels: int) -> int:
    """Rows of so many pixels that go through the network together where nobody says how many."""
    return max(1, _AUTO_BATCH_PIXELS // max(1, pixels))


class _Stop:
    """What a callback returns to end the run after the current step."""

    def __repr__(self) -> str:
        return "STOP"


STOP = _Stop()


@dataclass(frozen=True)
class StepInfo:
    """What a callback is told after every step.

    :param step: steps done in this block, from 1.
    :param steps: steps of one block.
    :param block: block of rows being sampled, from 0.
    :param blocks: number of blocks.
    :param sigma: noise level just left.
    :param nfe: network evaluations per row so far (forward 1, vector-Jacobian product 2).
    """

    step: int
    steps: int
    block: int
    blocks: int
    sigma: float
    nfe: int
    _estimate: Tensor = field(repr=False)
    _problem: Problem = field(repr=False)

    @property
    def estimate(self) -> Tensor:
        """Current clean estimate of the block's rows, detached, ``(R, C, ...)``."""
        return self._estimate.detach()

    @cached_property
    def residual(self) -> float:
        """Mean chi-squared of the estimate per component (1: to the noise); costs one A^T A."""
        return float(self._problem.misfit(self._estimate.detach()).mean())


Callback = Callable[[StepInfo], object]


@dataclass
class SampleInfo:
    """What a run did.

    :param nfe: network evaluations per sample (forward 1, vector-Jacobian product 2).
    :param chi_squared: ``|y - A x|^2 / (m sigma^2)`` of every sample, ``(S, B)``; about 1 fits.
    :param cg_iterations: most conjugate-gradient iterations of one linear system, 0 without any.
    :param cg_residual: largest relative residual at which such a system was left.
    :param stopped: the callback ended the run early.
    """

    nfe: int = 0
    chi_squared: Tensor | None = None
    cg_iterations: int = 0
    cg_residual: float = 0.0
    stopped: bool = False

    def add_solves(self, solves: Sequence[CGInfo]) -> None:
        """Take note of the linear systems of one block of rows."""
        for solve in solves:
            self.cg_iterations = max(self.cg_iterations, solve.iterations)
            self.cg_residual = max(self.cg_residual, float(solve.relative_residual.max()))


@dataclass(frozen=True)
class Step:
    """State at the next level and the clean estimate that led there."""

    state: Tensor
    estimate: Tensor


class Solver(Reconstructor, ABC):
    """Draws posterior samples from measurements, an operator and a prior.

    A method supplies :meth:`step` (and :meth:`init` where its start is its own); one whose only
    idea is a better clean estimate derives from :class:`GuidedSolver` instead.

    :param prior: ``D(x, sigma) = E[x0 | x0 + sigma n = x]``: a sciinv prior, a deepinv denoiser or
        any callable; ``sigma`` is a float.
    :param steps: number of noise levels above zero.
    :param sigma_min: smallest level above zero; by default the prior's, else 0.002.
    :param sigma_max: first level; by default the prior's, else 80.
    :param schedule: ``"edm"`` or ``"vp"`` spacing of the levels.
    :param noiseless: take the measurements as exact when the operator does not say its noise; the
        noise level is then 1e-4 of the measurement's root mean square.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset()
    exact_for: ClassVar[str] = ""
    reference: ClassVar[str] = ""

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        schedule: Schedule = "edm",
        noiseless: bool = False,
    ) -> None:
        super().__init__()
        self.prior = prior
        self._nfe = 0
        self._linearised: list[Linearised] = []
        self._fits: int | None = None
        self.steps = steps
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.schedule = schedule
        self.noiseless = noiseless
        if schedule not in SCHEDULES:
            raise ValueError(
                f"schedule: found {schedule!r}, expected one of {', '.join(SCHEDULES)}"
            )

    # -- what a method supplies ----------------------------------------------------------------
    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return the state at the first level, ``start + sigma n``."""
        return start + sigma * noise.normal_like(start)

    @abstractmethod
    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Return the state at ``s_next`` from that at ``s``."""

    def levels(self, problem: Problem) -> list[float]:
        """Noise levels from the first down to zero."""
        sigma_max = self.sigma_max or getattr(self.prior, "sigma_max", None) or DEFAULT_SIGMA_MAX
        sigma_min = self.sigma_min or self._default_sigma_min(problem)
        return SCHEDULES[self.schedule](self.steps, min(sigma_min, sigma_max), sigma_max)

    def _default_sigma_min(self, problem: Problem) -> float:
        return float(getattr(self.prior, "sigma_min", None) or DEFAULT_SIGMA_MIN)

    # -- network calls, counted ----------------------------------------------------------------
    def evaluate(self, x: Tensor, sigma: float) -> Tensor:
        """``D(x, sigma)`` without a graph."""
        self._nfe += 1
        with torch.no_grad():
            estimate: Tensor = self._call(x, sigma)
            return estimate.contiguous()

    def _call(self, x: Tensor, sigma: float) -> Tensor:
        prior: Prior = self.prior
        return prior(x, sigma)

    def linearise(self, x: Tensor, sigma: float) -> Linearised:
        """``D(x, sigma)`` with its Jacobian products."""
        self._nfe += 1
        linearised = Linearised(self._call, x, sigma)
        self._linearised.append(linearised)
        return linearised

    @property
    def nfe(self) -> int:
        """Network evaluations per row since the last start (forward 1, vjp 2)."""
        return self._nfe + 2 * sum(item.vjps for item in self._linearised)

    # -- public --------------------------------------------------------------------------------
    @property
    def reduced_batch(self) -> int | None:
        """Rows that went through the network together after more had taken too much memory."""
        return self._fits

    @overload
    def sample(
        self,
        y: Tensor,
        physics: Physics,
        num_samples: int = 1,
        *,
        generator: torch.Generator | int | None = None,
        init: Tensor | None = None,
        max_batch: int | None = None,
        callback: Callback | None = None,
        return_info: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def sample(
        self,
        y: Tensor,
        physics: Physics,
        num_samples: int = 1,
        *,
        generator: torch.Generator | int | None = None,
        init: Tensor | None = None,
        max_batch: int | None = None,
        callback: Callback | None = None,
        return_info: Literal[True],
    ) -> tuple[Tensor, SampleInfo]: ...

    def sample(
        self,
        y: Tensor,
        physics: Physics,
        num_samples: int = 1,
        *,
        generator: torch.Generator | int | None = None,
        init: Tensor | None = None,
        max_batch: int | None = None,
        callback: Callback | None = None,
        return_info: bool = False,
    ) -> Tensor | tuple[Tensor, SampleInfo]:
        """Draw ``num_samples`` samples for each of the B scans.

        Sample i is the same whatever ``num_samples``, ``max_batch`` and the device (to rounding).

        :param y: measurements ``(B, ...)``, real (complex data carry a channel pair).
        :param physics: operator with its ``noise_model``.
        :param num_samples: S.
        :param generator: a ``torch.Generator`` on the CPU or an int seed; fresh entropy if None.
        :param init: image to start from, ``(B, C, ...)`` or ``(S, B, C, ...)``; zero by default.
        :param max_batch: rows (samples x scans) that go through the network together.
        :param callback: called with a :class:`StepInfo` after every step; return ``STOP`` to end.
        :param return_info: also return a :class:`SampleInfo`.
        :return: ``(S, B, C, *spatial)``; the samples finished before a stop.
        :raises IncompatibleError: the operator, noise or prior lacks what the method needs.
        :raises NumericalError: the measurement or a state is not finite.
        :raises MemoryError: for one row; where several take too much, fewer are tried, see
            :attr:`reduced_batch`.
        """
        from sciinv.solvers import ALL_SOLVERS

        if num_samples < 1:
            raise ValueError(f"num_samples: found {num_samples}, expected at least 1")
        if not isinstance(y, Tensor) or y.is_complex():
            raise IncompatibleError(
                "y: expected a real tensor (B, ...); complex data carry real and imaginary parts "
                "as a channel pair at axis 1"
            )
        check_compatible(self, physics, ALL_SOLVERS)
        y = y if y.dtype in (torch.float32, torch.float64) else y.float()
        sigma, likelihood = self._noise(y, physics)
        batch = y.shape[0]
        children = child_generators(as_generator(generator), num_samples * batch)
        scan_of_row = torch.arange(batch).repeat(num_samples)
        start = self._start(y, physics, init, num_samples)
        size = max_batch or automatic_batch(start[0, 0].numel())
        size = min(size, self._fits or size)
        blocks = self._blocks(physics, scan_of_row, size)
        out = torch.zeros_like(start)
        chi_squared = torch.full((start.shape[0],), float("nan"), dtype=torch.float64)
        done = torch.zeros(start.shape[0], dtype=torch.bool)
        info = SampleInfo()
        number = 0
        while number < len(blocks):
            rows = blocks[number]
            problem = Problem(y, physics, scan_of_row[rows], sigma, likelihood)
            if number == 0:
                check_measurement(type(self).__name__, problem)
            generators = [children[i] for i in rows.tolist()]
            begin = [child.get_state() for child in generators]
            noise = RowNoise(generators)
            fits = len(rows)
            try:
                x, stopped = self._run(problem, noise, start[rows], callback, number, len(blocks))
            except (MemoryError, RuntimeError) as error:
                fits = self._half(rows, error)
            if fits < len(rows):
                # again with fewer rows, from the same draws: no sample changes
                for child, state in zip(generators, begin, strict=True):
                    child.set_state(state)
                del problem
                free()
                self._fits = fits
                rest = [part for block in blocks[number:] for part in block.split(fits)]
                blocks = [*blocks[:number], *rest]
                continue
            number += 1
            info.nfe = max(info.nfe, self.nfe)
            info.stopped = info.stopped or stopped
            info.add_solves(problem.solves)
            if stopped:
                break
            out[rows] = x
            chi_squared[rows] = check_misfit(type(self).__name__, problem.misfit(x).cpu())
            done[rows] = True
        self._linearised = []
        samples = out.reshape(num_samples, batch, *out.shape[1:])
        complete = done.reshape(num_samples, batch).all(1)
        info.chi_squared = chi_squared.reshape(num_samples, batch)[complete]
        samples = samples if bool(complete.all()) else samples[complete.to(samples.device)]
        return (samples, info) if return_info else samples

    def forward(
        self,
        y: Tensor,
        physics: Physics,
        *,
        num_samples: int = 8,
        generator: torch.Generator | int | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        """Mean of ``num_samples`` samples, ``(B, C, *spatial)``; arguments as in `sample`."""
        kwargs["return_info"] = False
        samples = self.sample(y, physics, num_samples, generator=generator, **kwargs)
        return samples.mean(0)

    def settings(self) -> dict[str, Any]:
        """Return the method's knobs, for logs and provenance."""
        return {
            key: value
            for key, value in vars(self).items()
            if not key.startswith("_") and key not in ("prior", "training")
        }

    # -- the loop ------------------------------------------------------------------------------
    def _run(
        self,
        problem: Problem,
        noise: RowNoise,
        start: Tensor,
        callback: Callback | None,
        block: int = 0,
        blocks: int = 1,
    ) -> tuple[Tensor, bool]:
        """Sample one block of rows: the single loop over noise levels."""
        self._nfe, self._linearised = 0, []
        sigmas = self.levels(problem)
        check = FiniteCheck(type(self).__name__, sigmas, deferred=start.device.type != "cpu")
        state = self.init(problem, noise, sigmas[0], start)
        check.look(state, 0, partial(find_cause, self._call, start, sigmas, problem))
        for number, (s, s_next) in enumerate(zip(sigmas, sigmas[1:], strict=False), start=1):
            before, result = state, self.step(state, s, s_next, problem, noise)
            state = result.state
            self._release()
            rest = sigmas[number - 1 :]
            check.look(state, number, partial(find_cause, self._call, before, rest, problem))
            if callback is not None:
                told = StepInfo(
                    number, len(sigmas) - 1, block, blocks, s, self.nfe, result.estimate, problem
                )
                if callback(told) is STOP:
                    check.finish()
                    return state, s_next > 0
        check.finish()
        return state, False

    def _half(self, rows: Tensor, error: BaseException) -> int:
        """Return how many rows to try where these took too much memory; else raise the error."""
        if not is_out_of_memory(error):
            raise error
        self._linearised = []
        if len(rows) == 1:
            name = type(self).__name__
            raise MemoryError(f"{name}: one image takes more memory than there is") from error
        return len(rows) // 2

    def _release(self) -> None:
        """Drop the graphs of this step, keeping their counts."""
        self._nfe += 2 * sum(item.vjps for item in self._linearised)
        self._linearised = []

    def _noise(self, y: Tensor, physics: Physics) -> tuple[float, Likelihood | None]:
        """Return the level of white Gaussian noise, or 1 and the likelihood of any other."""
        capabilities = noise_capabilities(physics)
        white = {Capability.GAUSSIAN, Capability.WHITE} <= capabilities
        if not white and not self.noiseless:
            if Capability.LIKELIHOOD in self.needs:
                return 1.0, likelihood_of(physics)
            if Capability.GAUSSIAN not in self.needs:
                return noise_sigma(physics, noiseless=True) or 1.0, None
        sigma = noise_sigma(physics, noiseless=self.noiseless)
        if sigma > 0:
            return sigma, None
        # exact data: a floor keeps 1 / sigma^2 finite and lies far below any real noise
        return max(1e-4 * float(y.double().square().mean().sqrt()), 1e-12), None

    def _start(self, y: Tensor, physics: Physics, init: Tensor | None, num_samples: int) -> Tensor:
        """Return ``(S B, C, *spatial)`` to start from, in y's dtype."""
        batch = y.shape[0]
        if init is None:
            shape = getattr(physics, "img_size", None)
            if shape is None:
                # a foreign operator that does not say its image shape
                shape = physics.A_adjoint(y).shape[1:]
            return y.new_zeros((num_samples * batch, *shape))
        init = init.to(y)
        if init.ndim > 1 and init.shape[0] == batch and init.ndim != 1 + _ndim(physics, init):
            return init.unsqueeze(0).expand(num_samples, *init.shape).flatten(0, 1).clone()
        if init.shape[:2] == (num_samples, batch):
            return init.flatten(0, 1).clone()
        raise ValueError(
            f"init: found shape {tuple(init.shape)}, expected ({batch}, C, ...) or "
            f"({num_samples}, {batch}, C, ...)"
        )

    def _blocks(self, physics: Physics, scan_of_row: Tensor, size: int) -> list[Tensor]:
        """Split the rows; foreign operators get the rows of one scan at a time."""
        rows = torch.arange(scan_of_row.shape[0])
        if hasattr(physics, "rows") or int(scan_of_row.max()) == 0:
            return list(rows.split(size))
        return [
            part
            for scan in range(int(scan_of_row.max()) + 1)
            for part in rows[scan_of_row == scan].split(size)
        ]


def _ndim(physics: Physics, init: Tensor) -> int:
    """Number of axes of ``(B, C, *spatial)`` for this operator."""
    shape = getattr(physics, "img_size", None)
    return init.ndim if shape is None else len(shape) + 1


class GuidedSolver(Solver):
    """A method that turns ``D(x, sigma)`` into an estimate of ``E[x0 | x_sigma, y]``.

    Any integrator samples with it.

    :param integrator: ``"euler"``, ``"heun"``, ``"ddim"``, ``"ancestral"`` or an integrator object
        such as ``DDIM(eta_ddim=0.5)``.
    """

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int,
        integrator: str | Integrator,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        schedule: Schedule = "edm",
        noiseless: bool = False,
    ) -> None:
        super().__init__(
            prior,
            steps=steps,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            schedule=schedule,
            noiseless=noiseless,
        )
        self.integrator = resolve_integrator(integrator)

    @abstractmethod
    def denoise(
        self, x: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Tensor:
        """Return the estimate of ``E[x0 | x_s = x, y]``; ``s_next`` is the level stepped to."""

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Make one step of the integrator with the conditional denoiser."""
        seen: list[Tensor] = []

        def conditional(x: Tensor, level: float, target: float) -> Tensor:
            estimate = self.denoise(x, level, target, problem, noise)
            seen.append(estimate)
            return estimate

        return Step(self.integrator(conditional, state, s, s_next, noise), seen[-1])


__all__ = [
    "STOP",
    "GuidedSolver",
    "SampleInfo",
    "Solver",
    "Step",
    "StepInfo",
]
