"""Every solver under Gaussian priors, where the posterior is known: mean, spread, coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from quality_store import Row, Store
from torch import Tensor
from truth_common import (
    Drawn,
    Make,
    covered,
    distance,
    draw,
    keep,
    quantile,
    solvers,
    standard_error,
)

from sciinv.random import RowNoise
from sciinv.solvers import Solver, Step
from sciinv.solvers.problem import Problem
from sciinv.solvers.testing import affine_law
from sciinv.solvers.truth import OPERATORS, ExactProblem, exact_problem

SEED = 11
# (scans, samples of each) by the width of the image; the NUFFT takes ten times the time of the FFT
SIZES = {16: (4, 16), 32: (2, 8)}
SLOW = {"nufft": (2, 8)}
# a sampler counts as affine if doubling its noise doubles the deviation to this share; exact data
# steps solved by conjugate gradients to 1e-4 pass, Krylov spaces cut short and norms do not
AFFINE = 1e-3
# most components of an image for which a closed form is tried
CLOSED_FORM = 512
# exact sets that distance and floor are averaged over
SETS = 4


class _Scaled(RowNoise):
    """Rows 0, 1, 2 see 0, 1 and 2 times the same numbers."""

    def __init__(self) -> None:
        super().__init__([torch.Generator().manual_seed(SEED)] * 3)

    def normal(self, shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        one = torch.randn(tuple(shape), generator=self.generators[0], dtype=dtype)
        return torch.stack([0 * one, one, 2 * one])


class _Silent(RowNoise):
    """No noise, and how many numbers a row asked for."""

    def __init__(self, rows: int) -> None:
        super().__init__([torch.Generator()] * rows)
        self.count = 0

    def normal(self, shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        self.count += math.prod(shape)
        return torch.zeros((len(self), *shape), dtype=dtype)


def is_affine(solver: Solver, problem: ExactProblem) -> bool:
    """Tell whether samples are an affine map of the noise, by running with 0, 1 and 2 times it."""
    y = problem.y[:1]
    sigma, _ = solver._noise(y, problem.physics)
    start = solver._start(y, problem.physics, None, 3)
    inner = Problem(y, problem.physics, torch.zeros(3, dtype=torch.long), sigma)
    try:
        x, _ = solver._run(inner, _Scaled(), start, None)
    except (AttributeError, RuntimeError):
        return False  # draws other than normal ones
    step = x[1] - x[0]
    return float((x[2] - x[1] - step).norm()) <= AFFINE * max(float(step.norm()), 1e-12)


def noise_free(solver: Solver, problem: ExactProblem) -> tuple[Tensor, int]:
    """Return the means of an affine sampler ``(B, ...)`` and how many numbers a row draws."""
    y, batch = problem.y, problem.y.shape[0]
    sigma, _ = solver._noise(y, problem.physics)
    silent = _Silent(batch)
    start = solver._start(y, problem.physics, None, 1)
    inner = Problem(y, problem.physics, torch.arange(batch), sigma)
    x, _ = solver._run(inner, silent, start, None)
    return x, silent.count


def measure(solver: Solver, problem: ExactProblem, samples: int, law_seconds: float) -> Row:
    """One row: how far the sampler is from the exact posterior.

    :param law_seconds: processor seconds that the closed-form law of an affine sampler may take.
    """
    drawn = draw(solver, problem.y, problem.physics, samples, SEED)
    mean, std = problem.posterior.mean, problem.posterior.std
    found = drawn.samples.mean(0)
    variance = drawn.samples.var(0)
    # the sampling noise of the mean is known and taken off
    error = ((found - mean) ** 2 - variance / samples) / std**2
    half = quantile(samples) * variance.sqrt()
    source = "samples"
    small = problem.truth[0].numel() <= CLOSED_FORM
    if small and is_affine(solver, problem):
        source = "mean"
        centre, numbers = noise_free(solver, problem)
        error = (centre - mean) ** 2 / std**2
        rows = numbers * drawn.seconds
        if rows <= law_seconds:
            source = "law"
            law = affine_law(solver, problem.y[:1], problem.physics, chunk=1024)
            variance = law.covariance.diagonal().reshape(mean[:1].shape).expand_as(mean)
            found, half = centre, quantile(None) * variance.sqrt()
    squares = error.flatten(1).mean(1).tolist()
    ratios = (variance.flatten(1).sum(1) / (std**2).flatten(1).sum(1)).sqrt().tolist()
    inside = [covered(found[i], half[i], mean[i], std[i]) for i in range(len(mean))]
    own, floor = _distances(drawn, problem, samples)
    total = math.sqrt(float(variance.sum() / (std**2).sum()))
    return {
        "square": sum(squares) / len(squares),
        "square_se": standard_error(squares),
        "std": total,
        "std_se": standard_error(ratios),
        "coverage": sum(inside) / len(inside),
        "coverage_se": standard_error(inside),
        "sw": sum(own) / sum(floor),
        "sw_se": standard_error([a / b for a, b in zip(own, floor, strict=True)]),
        "nfe": drawn.nfe,
        "seconds": drawn.seconds,
        "source": source,
        "samples": samples,
    }


def _distances(
    drawn: Drawn, problem: ExactProblem, samples: int
) -> tuple[list[float], list[float]]:
    """Distance of the samples to exact ones, and between exact ones, for every scan."""
    draws = torch.Generator().manual_seed(SEED + 1)
    exact = [problem.posterior.sample(samples, draws, dtype=torch.float64) for _ in range(SETS)]
    own, floor = [], []
    for scan in range(problem.y.shape[0]):
        sets = [e[:, scan] for e in exact]
        own.append(sum(distance(drawn.samples[:, scan], e, scan) for e in sets) / SETS)
        pairs = [(a, b) for i, a in enumerate(sets) for b in sets[:i]]
        floor.append(sum(distance(a, b, scan) for a, b in pairs) / len(pairs))
    return own, floor


class Exact(Solver):
    """Draws from the exact posterior: what the measures give where nothing is wrong."""

    def __init__(self, problem: ExactProblem) -> None:
        super().__init__(problem.prior, steps=1)
        self._problem = problem

    def init(self, problem, noise, sigma, start):
        """Draw from the posterior of every row."""
        posterior = self._problem.posterior
        factor = posterior.factor.expand(posterior.mean.shape[0], -1, -1)[problem.scan_of_row]
        z = noise.normal((factor.shape[-1],), dtype=start.dtype, device=start.device)
        x = (factor @ z[..., None])[..., 0].reshape(start.shape)
        return x + posterior.mean[problem.scan_of_row]

    def step(self, state, s, s_next, problem, noise):
        """Keep the draw."""
        return Step(state, state)


def run(
    store: Store,
    names: Sequence[str],
    sizes: Sequence[int],
    operators: Sequence[str],
    again: Sequence[str],
    law_seconds: float,
    counts: tuple[int, int] | None = None,
) -> None:
    """Compute what is missing.

    :param counts: scans and samples, instead of ``SIZES`` and ``SLOW``.
    """
    for size in sizes:
        for name in operators or OPERATORS:
            scans, samples = counts or SLOW.get(name) or SIZES.get(size, (2, 8))
            problem = exact_problem(name, (size, size), scans=scans, generator=SEED)
            case = f"fields/{size}/{name}"
            made: dict[str, Make] = {"exact draws": lambda _, p=problem: Exact(p), **solvers(names)}
            for method, make in made.items():
                keep(
                    store,
                    case,
                    method,
                    lambda m=make, p=problem, n=samples: measure(m(p.prior), p, n, law_seconds),
                    method in again,
                )
