"""Every solver on the 25-component Gaussian mixture of the MCGDiff paper (arXiv 2308.07983)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence

import torch
from deepinv.physics import GaussianNoise
from quality_store import Row, Store
from torch import Tensor
from truth_common import distance, draw, keep, solvers
from truth_rivals import EQUAL, RIVALS, alike

from sciinv.priors import GaussianMixture
from sciinv.solvers.schedule import SCHEDULES
from sciinv.solvers.truth import MixtureProblem, mixture_problem

CASES = ((8, 1), (8, 2), (8, 4), (80, 1), (80, 2), (80, 4))
ORACLE = (20, 100, 1000)
PROJECTIONS = 256


class Grid(GaussianMixture):
    """An isotropic mixture with the denoiser in fewer operations.

    The means span a plane, and only the projection onto it tells the components apart.

    :param prior: the mixture, of one variance.
    :param scale: unit of the images.
    """

    def __init__(self, prior: GaussianMixture, scale: float) -> None:
        self._variance = float(prior.eigenvalues[0]) / scale**2
        super().__init__(
            prior.weights,
            prior.means / scale,
            self._variance,
            sigma_min=prior.sigma_min / scale,
            sigma_max=prior.sigma_max / scale,
        )
        _, s, vh = torch.linalg.svd(self.means, full_matrices=False)
        self._plane = vh[s > 1e-9 * s[0]].T.contiguous()
        self._places = (self.means @ self._plane).T.contiguous()
        self._half = 0.5 * self.means.square().sum(1)
        self._log_w = self.weights.log()

    def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: object) -> Tensor:
        """Return the mean of the clean image, ``x`` and ``sigma`` as everywhere."""
        flat = x.flatten(1).double()
        if isinstance(sigma, Tensor):
            sigma = sigma.double().reshape(-1, 1)
        total = self._variance + sigma**2
        logits = ((flat @ self._plane) @ self._places - self._half) / total
        weights = torch.softmax(logits + self._log_w, dim=1)
        centre = (weights @ self._places.T) @ self._plane.T
        gain = self._variance / total
        return (centre + gain * (flat - centre)).reshape(x.shape).to(x.dtype)


def unit(problem: MixtureProblem) -> tuple[MixtureProblem, float]:
    """Return the problem for images of unit variance, which many methods assume, and the unit."""
    x = problem.prior.sample(4000, 0, dtype=torch.float64)
    scale = float(x.var(0).mean().sqrt())
    prior = Grid(problem.prior, scale)
    physics = copy.deepcopy(problem.physics)
    y, sigma = problem.y / scale, problem.sigma / scale
    physics.noise_model = GaussianNoise(sigma)
    posterior = prior.posterior(y, physics, sigma)
    return MixtureProblem(physics, prior, problem.truth / scale, y, sigma, posterior), scale


def oracle(problem: MixtureProblem, steps: int, count: int, seed: int) -> Tensor:
    """Ancestral sampling with the exact conditional denoiser: what so many steps can do at best."""
    # in the common eigenbasis of the components the denoiser costs a matrix product
    factor = problem.posterior.factors[0][0]
    values, basis = torch.linalg.eigh(factor @ factor.T)
    means = problem.posterior.means[0].flatten(1) @ basis
    log_w = problem.posterior.weights[0].log()
    g = torch.Generator().manual_seed(seed)
    prior = problem.prior
    grid = SCHEDULES["edm"](steps, prior.sigma_min, prior.sigma_max)
    x = grid[0] * torch.randn((count, len(values)), generator=g, dtype=torch.float64)
    for s, s_next in zip(grid, grid[1:], strict=False):
        precision = 1 / (values + s**2)
        logits = x @ (means * precision).T - 0.5 * (means.square() * precision).sum(1)
        r = torch.softmax(logits + log_w, dim=1)
        mean = r @ means
        d = mean + values * precision * (x - mean)
        a = (s_next / s) ** 2
        noise = torch.randn(x.shape, generator=g)
        x = a * x + (1 - a) * d + s_next * math.sqrt(1 - a) * noise
    return (x @ basis.T)[:, None, None, :]


def compared(problem: MixtureProblem, samples: Tensor, seed: int) -> float:
    """Distance of ``(S, 1, 1, n)`` to as many exact samples, the same ones for every method."""
    exact = problem.posterior.sample(len(samples), 2 * seed, dtype=torch.float64)[:, 0]
    return distance(samples, exact, seed, PROJECTIONS)


def run(
    store: Store,
    names: Sequence[str],
    seeds: Sequence[int],
    cases: Sequence[tuple[int, int]],
    again: Sequence[str],
    samples: int = 1000,
    oracle_steps: Sequence[int] = ORACLE,
    rivals: bool = True,
) -> None:
    """Compute what is missing, seed by seed, so that an interrupted run is balanced."""
    for seed in seeds:
        for dim, count in cases:
            found = unit(mixture_problem(dim, count, 1000 * dim + 10 * count + 100_000 * seed))
            for method, make in _rows(*found, names, samples, seed, oracle_steps, rivals).items():
                keep(store, f"mixture/{dim}/{count}/{seed}", method, make, method in again)


def _rows(
    problem: MixtureProblem,
    scale: float,
    names: Sequence[str],
    samples: int,
    seed: int,
    oracle_steps: Sequence[int],
    rivals: bool,
) -> dict:
    def plain(make: object) -> Row:
        begin = time.process_time()
        x = make()
        seconds = (time.process_time() - begin) / samples
        return {"sw": scale * compared(problem, x, seed), "seconds": seconds}

    def own(make: object) -> Row:
        solver = make(problem.prior)
        if hasattr(solver, "krylov"):
            # the Krylov space of so few measurements is no larger: less work, the same samples
            solver.krylov = min(solver.krylov, problem.y.numel())
        drawn = draw(solver, problem.y, problem.physics, samples, seed)
        sw = scale * compared(problem, drawn.samples[:, 0], seed)
        return {"sw": sw, "nfe": drawn.nfe, "seconds": drawn.seconds}

    exact = problem.posterior
    rows = {
        "exact": lambda: plain(
            lambda: exact.sample(samples, 2 * seed + 1, dtype=torch.float64)[:, 0]
        ),
        "prior": lambda: plain(
            lambda: problem.prior.sample(samples, 2 * seed + 1, dtype=torch.float64)
        ),
    }
    for steps in oracle_steps:
        rows[f"oracle, {steps} steps"] = lambda n=steps: plain(
            lambda: oracle(problem, n, samples, seed)
        )
    for name, make in solvers(names).items():
        rows[name] = lambda m=make: own(m)
    if rivals:
        for name, make in EQUAL.items():
            rows[alike(name)] = lambda m=make: own(m)
        for name, rival in RIVALS.items():
            rows[name] = lambda r=rival: plain(
                lambda: r(problem.prior, problem.physics, problem.y, samples, seed)
            )
    return rows
