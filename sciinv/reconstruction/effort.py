"""How much work fits the time that the user has."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Literal

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.reconstruction.model import Model
from sciinv.solvers import Heun, Solver
from sciinv.solvers.memory import free, is_out_of_memory
from sciinv.solvers.problem import Linearised, Prior

# what is given up first comes last in each tuple; below the last nothing is given up
_SAMPLES = (16, 12, 8, 6, 4)
Spectrum = Literal["even", "uneven", "off grid"]
_KRYLOV: dict[Spectrum, tuple[int, ...]] = {
    "even": (6, 5, 4),
    # below 12 samples miss the data by more than their noise (CT: chi-squared 1.07 at 12, 1.01 at
    # 16)
    "uneven": (16, 12),
    # 32 made the mean of 34 spokes of a bottle 0.24 dB better than 16
    "off grid": (32, 24, 16, 12),
}
_STEPS = (12, 10, 8, 6)
_POINT_STEPS = (32, 24, 16)
# from few views coarse levels need more time: 24 and 48 steps gave 30.1 and 30.3 dB on a fan beam
# scan of a disc with 20 views; with 61 views 48 are 0.1 dB below 32
_POINT_STEPS_FEW = (48, *_POINT_STEPS)
# fewer than one view for so many pixels across the image are few
_PIXELS_A_VIEW = 20
# of the image that predicts lines of k-space for the coil maps: 6, 10 and 16 gave the same maps
QUICK_STEPS = 8
_ROWS_TIMED = 2
_TRIALS = 2


@dataclass(frozen=True)
class Cost:
    """Seconds for one image: network forward, network vjp, and ``A`` with its adjoint."""

    forward: float
    vjp: float
    normal: float


@dataclass(frozen=True)
class Effort:
    """Steps and dimensions of a run, and what it is expected to take for one slice.

    :param point_steps: steps of the point estimate that sampling starts from.
    :param steps: noise levels of the sampler.
    :param krylov: dimension of its data system.
    :param num_samples: posterior samples.
    :param seconds: expected time.
    """

    point_steps: int
    steps: int
    krylov: int
    num_samples: int
    seconds: float
    lanczos: int = 3
    cg: int = 12


def measure(model: Model, prior: Prior) -> Cost:
    """Time the parts of a step on this machine, on two images together as in a run."""
    channels, shape = model.physics.channels, model.physics.image_shape
    x = torch.zeros((_ROWS_TIMED, channels, *shape), dtype=torch.float32)
    forward, vjp = time_network(prior, x)
    normal = math.inf
    for _ in range(_TRIALS + 1):
        begin = time.perf_counter()
        if isinstance(model.physics, LinearPhysics):
            model.physics.A_adjoint_A(x[:1])
        else:
            model.physics.A_vjp(x[:1], model.physics.A(x[:1]))
        normal = min(normal, time.perf_counter() - begin)
    return Cost(forward, vjp, normal)


def time_network(prior: Prior, x: Tensor) -> tuple[float, float]:
    """Seconds of a forward pass and of a vector-Jacobian product for one of the images ``x``."""
    try:
        _vjp(prior, x)  # first calls compile and allocate
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        x = x[:1]
        free()
        _vjp(prior, x)
    # the smallest of a few timings: what disturbs a run only ever makes it longer
    trials = [_vjp(prior, x) for _ in range(_TRIALS)]
    forward, vjp = min(f for f, _ in trials), min(v for _, v in trials)
    return forward / len(x), vjp / len(x)


def _vjp(prior: Prior, x: Tensor) -> tuple[float, float]:
    begin = time.perf_counter()
    at = Linearised(prior, x, 0.1)
    middle = time.perf_counter()
    at.jacobian(x)
    return middle - begin, time.perf_counter() - middle


def expected_seconds(effort: Effort, cost: Cost) -> float:
    """Seconds for one slice: a quick and a full point estimate, then all samples."""
    point = (QUICK_STEPS + effort.point_steps) * (cost.forward + effort.cg * cost.normal)
    products = effort.lanczos + effort.krylov
    step = cost.forward + products * cost.vjp + (effort.krylov + 2) * cost.normal
    return point + effort.num_samples * effort.steps * step


def few_views(angles: int, image_shape: tuple[int, ...]) -> bool:
    """Whether a tomographic scan has so few views that the point estimate needs more steps."""
    return angles * _PIXELS_A_VIEW < max(image_shape)


def fit_named(solver: Solver, cost: Cost, budget: float, num_samples: int | None) -> Effort:
    """Return the effort of a solver with its own steps: only the number of samples is chosen."""
    settings = solver.settings()
    products = 1 if Capability.VJP in solver.needs else 0
    if "krylov" in settings:
        products = int(settings["krylov"]) + int(settings.get("lanczos", 0))
    evaluations = 2 if isinstance(settings.get("integrator"), Heun) else 1
    step = evaluations * (cost.forward + products * cost.vjp + (products + 2) * cost.normal)
    one = solver.steps * (step + int(settings.get("cg", 0)) * cost.normal)
    counts = (num_samples,) if num_samples else _SAMPLES
    count = next((n for n in counts if n * one <= budget), counts[-1])
    krylov = int(settings.get("krylov", 0))
    return Effort(0, solver.steps, krylov, count, count * one)


def fit(
    cost: Cost,
    budget: float,
    *,
    spectrum: Spectrum,
    few: bool = False,
    num_samples: int | None = None,
    steps: int | None = None,
    krylov: int | None = None,
) -> Effort:
    """Return the largest effort that fits ``budget`` seconds for one slice.

    :param spectrum: of ``A^T A``: the more widely it is spread (``"uneven"``: tomography), and the
        less it is like that of a mask (``"off grid"``: k-space samples between grid points), the
        more dimensions the data system takes.
    :param few: there are few views, see :func:`few_views`.

    Given up in this order: the dimension of the data system, samples down to 4, steps. What the
    caller fixed stays. The smallest effort may exceed the budget; its ``seconds`` tell.
    """
    krylovs = (krylov,) if krylov else _KRYLOV[spectrum]
    counts = (num_samples,) if num_samples else _SAMPLES
    lengths = (steps,) if steps else _STEPS
    points = _POINT_STEPS_FEW if few else _POINT_STEPS
    best = Effort(points[0], lengths[0], krylovs[0], counts[0], math.inf)
    for point in points:
        for length in lengths:
            for count in counts:
                for dimension in krylovs:
                    trial = Effort(point, length, dimension, count, 0.0)
                    best = replace(trial, seconds=expected_seconds(trial, cost))
                    if best.seconds <= budget:
                        return best
    return best
