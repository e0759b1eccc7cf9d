"""Public checks of a solver: its law under a Gaussian prior, in closed form, and its contracts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from deepinv.physics import GaussianNoise, LinearPhysics, Physics
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.errors import IncompatibleError, NumericalError
from sciinv.operators.testing import CheckError
from sciinv.priors.gaussian import GaussianField
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver
from sciinv.solvers.problem import Prior, Problem


class _RecordingNoise(RowNoise):
    """Zero noise that records the sizes of all draws of one row."""

    def __init__(self) -> None:
        super().__init__([torch.Generator()])
        self.shapes: list[tuple[int, ...]] = []

    def normal(self, shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        self.shapes.append(tuple(shape))
        return torch.zeros((1, *shape), dtype=dtype, device=device)


class _UnitNoise(RowNoise):
    """Row 0 sees no noise; row i sees the unit vector i - 1 of all draws laid end to end."""

    def __init__(self, rows: Sequence[int], scale: float) -> None:
        super().__init__([torch.Generator()] * len(rows))
        self._rows = torch.as_tensor(list(rows))
        self._scale = scale
        self._offset = 0

    def normal(self, shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        size = int(torch.Size(shape).numel())
        out = torch.zeros((len(self.generators), size), dtype=dtype, device=device)
        position = self._rows - 1 - self._offset
        hit = (position >= 0) & (position < size)
        out[hit.nonzero().flatten(), position[hit]] = self._scale
        self._offset += size
        return out.reshape(len(self.generators), *shape)


@dataclass(frozen=True)
class Law:
    """Mean ``(n,)`` and covariance ``(n, n)`` of what a sampler draws, without Monte Carlo."""

    mean: Tensor
    covariance: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation of every component."""
        return self.covariance.diagonal().sqrt()


def affine_law(solver: Solver, y: Tensor, physics: Physics, *, chunk: int = 4096) -> Law:
    """Return the exact law of a sampler that is an affine map of its noise.

    Under a Gaussian prior (an affine denoiser) a sampler of a linear problem whose linear solves
    have converged is an affine map ``x = c + M n`` of all normal numbers ``n`` it draws. Running
    it with no noise gives ``c`` and with each unit vector a column of ``M``; so the law is
    ``N(c, M M^T)`` with no Monte Carlo error. It is the shipped code that runs, not a model of it.

    :param y: one measurement ``(1, ...)``, float64.
    """
    recorder = _RecordingNoise()
    one = torch.zeros(1, dtype=torch.long)
    sigma, _ = solver._noise(y, physics)
    start = solver._start(y, physics, None, 1)
    base, _ = solver._run(Problem(y, physics, one, sigma), recorder, start, None)
    total = sum(int(torch.Size(shape).numel()) for shape in recorder.shapes)
    mean = base.flatten()
    covariance = torch.zeros((mean.numel(), mean.numel()), dtype=torch.float64)
    for first in range(0, total, chunk):
        # rows count from 1: row 0 would be the noise-free run
        rows = range(first + 1, min(first + chunk, total) + 1)
        problem = Problem(y, physics, torch.zeros(len(rows), dtype=torch.long), sigma)
        noise = _UnitNoise(rows, 1.0)
        x, _ = solver._run(problem, noise, start.expand(len(rows), *start.shape[1:]), None)
        columns = x.flatten(1).double() - mean
        covariance += columns.T @ columns
    return Law(mean.double(), covariance)


@dataclass(frozen=True)
class Deviation:
    """How far a law is from the exact posterior.

    :param mean: ``|m - m*| / |m*|``.
    :param std_ratio: root of the ratio of the traces of the covariances.
    :param covariance: relative Frobenius error.
    """

    mean: float
    std_ratio: float
    covariance: float


def deviation(law: Law, mean: Tensor, covariance: Tensor) -> Deviation:
    """Compare a law with the exact mean and covariance."""
    exact = mean.flatten().double()
    cov = covariance.double()
    return Deviation(
        float((law.mean - exact).norm() / exact.norm()),
        float((law.covariance.trace() / cov.trace()).sqrt()),
        float((law.covariance - cov).norm() / cov.norm()),
    )


def _mixing_problem(generator: torch.Generator) -> tuple[Tensor, LinearPhysics, GaussianField]:
    """A 4 x 4 image of which ten random combinations of the pixels are measured."""
    shape = (4, 4)
    prior = GaussianField.power_law(shape, channels=1)
    matrix = torch.randn((10, 16), generator=generator, dtype=torch.float64) / 4

    def apply(x: Tensor) -> Tensor:
        return x.flatten(1) @ matrix.to(x).T

    def adjoint(v: Tensor) -> Tensor:
        return (v @ matrix.to(v)).reshape(-1, 1, *shape)

    physics = LinearPhysics(A=apply, A_adjoint=adjoint, img_size=(1, *shape))
    physics.noise_model = GaussianNoise(0.1)
    truth = prior.sample(2, generator).double()
    y = apply(truth) + 0.1 * torch.randn((2, 10), generator=generator, dtype=torch.float64)
    return y, physics, prior


def check_solver(make: Callable[[Prior], Solver]) -> None:
    """Check the contracts of a solver on a small problem with a Gaussian prior.

    - the same seed gives the same bits, and another split into batches the same to rounding;
    - sample i does not depend on the number of samples;
    - the samples are finite, of the right shape and dtype, and fit the data better than zero does;
    - the global random state is untouched;
    - a prior that returns NaN is noticed, and an operator without known noise refused;
    - under the prior ``N(m, C)``, if the class declares ``exact_for`` Gaussian priors: mean and
      covariance within 1 and 4 % of the exact posterior's, by :func:`affine_law`.

    :param make: called with a prior, returns the solver (usually the class itself).
    :raises CheckError: lists everything that failed.
    """
    generator = torch.Generator().manual_seed(0)
    y, physics, prior = _mixing_problem(generator)
    solver = make(prior)
    failed: list[str] = []
    before = torch.random.get_rng_state()
    samples = solver.sample(y, physics, 4, generator=7)
    if not torch.equal(before, torch.random.get_rng_state()):
        failed.append("the global random state was changed")
    if samples.shape != (4, 2, 1, 4, 4) or samples.dtype != y.dtype:
        failed.append(f"samples: found {tuple(samples.shape)} {samples.dtype}")
    if not bool(torch.isfinite(samples).all()):
        failed.append("samples are not finite")
    if not torch.equal(samples, solver.sample(y, physics, 4, generator=7)):
        failed.append("the same seed does not give the same bits")
    # float64 states: rounding grows through the run but stays far below the noise
    scale = float(samples.abs().max())
    split = solver.sample(y, physics, 4, generator=7, max_batch=3)
    if float((samples - split).abs().max()) > 1e-6 * scale:
        failed.append("another split into batches changes the samples")
    fewer = solver.sample(y, physics, 2, generator=7)
    if float((samples[:2] - fewer).abs().max()) > 1e-6 * scale:
        failed.append("sample i depends on the number of samples")
    misfit = (physics.A(samples[0]) - y).square().sum()
    if float(misfit) >= float(y.square().sum()):
        failed.append("the samples fit the data no better than zero does")
    _check_refusals(make, y, physics, prior, failed)
    if "Gaussian" in solver.exact_for:
        one = y[:1]
        exact = prior.posterior(one, physics, 0.1)
        found = deviation(affine_law(solver, one, physics), exact.mean, exact.covariance())
        if found.mean > 0.01:
            failed.append(f"mean: off by {found.mean:.3g} of its norm, expected at most 0.01")
        if abs(found.std_ratio - 1) > 0.02 or found.covariance > 0.04:
            failed.append(
                f"covariance: ratio of standard deviations {found.std_ratio:.3f}, relative error "
                f"{found.covariance:.3f}, expected 1 within 0.02 and at most 0.04"
            )
    if failed:
        raise CheckError(f"{type(solver).__name__}: " + "; ".join(failed))


def _check_refusals(
    make: Callable[[Prior], Solver],
    y: Tensor,
    physics: LinearPhysics,
    prior: GaussianField,
    failed: list[str],
) -> None:
    def broken(x: Tensor, sigma: float) -> Tensor:
        return x * float("nan")

    solver = make(broken)
    solver.sigma_max, solver.sigma_min = 10.0, 0.1
    try:
        solver.sample(y, physics, 1, generator=0)
        failed.append("a prior that returns NaN is not noticed")
    except NumericalError:
        pass
    if Capability.GAUSSIAN in solver.needs:
        silent = LinearPhysics(A=physics.A, A_adjoint=physics.A_adjoint, img_size=physics.img_size)
        try:
            make(prior).sample(y, silent, 1, generator=0)
            failed.append("an operator without known noise is not refused")
        except IncompatibleError:
            pass
    if Capability.VJP in solver.needs:

        class NoGradient:
            capabilities: frozenset[Capability] = frozenset()

            def __call__(self, x: Tensor, sigma: float) -> Tensor:
                return x.detach() / (1 + sigma**2)

        try:
            make(NoGradient()).sample(y, physics, 1, generator=0)
            failed.append("a prior that cannot be differentiated is not refused")
        except IncompatibleError:
            pass
