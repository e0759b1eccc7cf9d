"""About what a run would take, within seconds: nothing of the scan is estimated for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics

from sciinv.data.scan import DiffractionGeometry, MRIGeometry, NonCartesianGeometry, Scan
from sciinv.reconstruction.choices import Precision
from sciinv.reconstruction.ct_model import expected_shape
from sciinv.reconstruction.effort import Cost, time_network
from sciinv.reconstruction.job import Job
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.mri_model import Coils
from sciinv.reconstruction.outline import outline
from sciinv.reconstruction.parts import Plan
from sciinv.reconstruction.progress import Progress
from sciinv.reconstruction.quick import quick_tomograph
from sciinv.solvers import Solver
from sciinv.solvers.problem import Prior

# pixels across on which the network is timed
_TIMED = 128


def estimate_run(
    scan: Scan,
    prior: str | Path | Prior | None = None,
    solver: str | Callable[[Prior], Solver] | None = None,
    *,
    time_budget: float,
    precision: Precision = "auto",
) -> Plan:
    """Return about what :func:`sciinv.reconstruction.run.plan_run` would, within seconds.

    The network is timed on a part of the image and the operator with few coils, or coarse pixels;
    both are scaled up, of a tomogram to the part that holds the object of the middle slice. Noise
    and scale of the plan are NaN.
    """
    job = Job(scan, prior, solver, Progress(), None, Coils(), True, precision)
    physics = outline(scan)
    start = None
    if scan.kind == "diffraction":
        start = torch.zeros(1, 2, *scan.image_shape)
    nan = float("nan")
    model = Model(
        torch.zeros(1), physics, nan, 1.0, nan, 0.0, (), np.ones(scan.image_shape, bool),
        start=start,
    )  # fmt: skip
    shape = scan.image_shape
    small = (*(min(n, 2) for n in shape[:-2]), *(min(n, _TIMED) for n in shape[-2:]))
    x = torch.zeros((2, job.channels, *small), dtype=torch.float32)
    forward, vjp = time_network(job.prior, x)
    whole = math.prod(shape)
    used = math.prod(expected_shape(scan, scan.num_slices // 2)) if scan.kind == "ct" else whole
    ratio = used / math.prod(small)
    cost = Cost(ratio * forward, ratio * vjp, used / whole * _time_normal(scan))
    return job.plan(model, None, None, None, time_budget, cost=cost)


def _time_normal(scan: Scan) -> float:
    """Seconds of ``A`` and its adjoint for one image."""
    geometry, factor = scan.geometry, 1.0
    physics: Any
    if isinstance(geometry, DiffractionGeometry):
        physics = outline(scan)
    elif isinstance(geometry, MRIGeometry | NonCartesianGeometry):
        few = scan.with_(data=scan.data[:1, :2], coil_maps=None)
        physics, factor = outline(few), scan.num_coils / few.num_coils
    else:
        physics, step, coarse = quick_tomograph(geometry)
        factor = step * coarse  # rays, and pixels that each of them meets
    x = torch.zeros(1, physics.channels, *physics.image_shape)
    best = math.inf
    for _ in range(3):  # the first call sets things up
        begin = time.perf_counter()
        if isinstance(physics, LinearPhysics):
            physics.A_adjoint_A(x)
        else:
            physics.A_vjp(x, physics.A(x))
        best = min(best, time.perf_counter() - begin)
    return factor * best
