r"""A standard deviation that the data themselves have checked: calibration on held-out data.

Samples are too much alike where the prior is wrong about the object, where the model is (coil maps,
phase, geometry), or where they start from one estimate. So a part of the scan is left out, samples
are drawn from the rest, and predict what was left out. If truth and samples were draws of one
posterior, then for held-out data :math:`y_h = A_h x + n` and ``S`` samples with mean
:math:`\bar x` and covariance :math:`V`,

.. math:: E\,|y_h - A_h \bar x|^2 = m_h \sigma^2 + (1 + 1/S)\,\mathrm{tr}(A_h V A_h^T),

and the factor by which their standard deviation has to be multiplied is the root of

.. math:: f^2 = \frac{|y_h - A_h\bar x|^2 - m_h\sigma^2}{(1 + 1/S)\,\mathrm{tr}(A_h V A_h^T)}.

Left out are whole units that were measured at a time: lines of k-space outside the calibration
region (each stands for the unmeasured ones beside it too), shots, projections. Their
scatter gives the standard error of ``f``. Both sides are taken after ``A_h^T``: residuals of many
coils lie mostly in directions that no image has, where there is noise only, and its level is never
known well enough to subtract so much of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from sciinv.data.scan import CTGeometry, MRIGeometry, NonCartesianGeometry, Scan
from sciinv.kspace import sampled_block
from sciinv.operators import CartesianMRI, NonCartesianMRI, whiten
from sciinv.operators.base import LinearOperator
from sciinv.reconstruction.effort import Effort
from sciinv.reconstruction.model import Model
from sciinv.result import StdCalibration

if TYPE_CHECKING:
    from sciinv.reconstruction.job import Job
    from sciinv.reconstruction.parts import Plan, Slice

FEWEST_UNITS = 8
INTERRUPTED = "the run was interrupted"
_EVERY = 5
_FOLDS = 2
_NUM_SAMPLES = 4
_STEPS, _POINT_STEPS = 8, 16
_PROBES = 4
# of the time budget: what sampling and calibration may take together
_MOST_TIME = 1.5

# samples (S, 1, C, *image_shape) of a model, and the noise level that they took
Draw = Callable[[Model], tuple[Tensor, float]]


@dataclass(frozen=True)
class Units:
    """The parts of a measurement that can be left out.

    :param label: int64, broadcasts to the measurement shape: number of the unit, -1 for what
        always stays.
    :param count: number of units.
    :param name: what they are, in the plural.
    :param weight: ``(count,)`` what each stands for: itself and its unmeasured neighbours; ones by
        default.
    """

    label: Tensor
    count: int
    name: str
    weight: NDArray[np.float64] | None = None

    def fold(self, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Units that fold ``number`` leaves out: one of each five neighbours."""
        chunks = np.array_split(np.arange(self.count), max(1, self.count // _EVERY))
        return np.array([rng.permutation(c)[number % len(c)] for c in chunks], dtype=np.int64)


@dataclass(frozen=True)
class Tally:
    """What held-out units say: for each, squared error without the noise, and its prediction.

    Both are weighted by what the unit stands for.
    """

    unit: NDArray[np.int64]
    excess: NDArray[np.float64]
    predicted: NDArray[np.float64]
    values: int

    def factor(self) -> tuple[float, float]:
        """Factor of the standard deviation and its standard error."""
        total = float(self.predicted.sum())
        square = float(self.excess.sum()) / total
        n = len(self.unit)
        scatter = self.excess - square * self.predicted
        error = float(np.sqrt(n / (n - 1) * np.sum(scatter**2))) / total
        factor = float(np.sqrt(max(square, 0.0)))
        return factor, error / (2 * max(factor, 1e-3))


def calibrate(scan: Scan, index: int, model: Model, draw: Draw, *, seed: int = 0) -> StdCalibration:
    """Compare the spread of samples with their error on held-out data of slice ``index``.

    :param model: of all data of that slice, linear.
    :param draw: samples of a model of fewer data, as the samples to be judged were drawn.
    """
    units = units_of(scan, index)
    if isinstance(units, str):
        return StdCalibration(reason=units)
    if units.count < FEWEST_UNITS:
        return StdCalibration(
            reason=f"{units.count} {units.name} can be left out, {FEWEST_UNITS} are needed"
        )
    try:
        found = tally(model, units, draw, seed=seed)
    except KeyboardInterrupt:
        return StdCalibration(reason=INTERRUPTED)
    if not found.predicted.sum() > 0:
        return StdCalibration(reason="the samples are all alike")
    measured, error = found.factor()
    held_out = f"{len(found.unit)} of {units.count} {units.name}"
    return StdCalibration(max(1.0, measured), measured, error, held_out, found.values)


def calibrate_job(
    job: Job, parts: list[Slice], plan: Plan, seed: int, budget: float
) -> StdCalibration:
    """Calibrate with the middle slice of a run, if there is time for it.

    :param parts: the slices that are done.
    :param budget: seconds that the samples of the run were allowed to take.
    """
    begin = time.perf_counter()
    middle = len(parts) // 2
    effort = _small(plan.effort)
    seconds = _FOLDS * effort.seconds
    generator = torch.Generator().manual_seed(seed)
    if job.stopped:
        found = StdCalibration(reason=INTERRUPTED)
    elif len(parts[0].samples) < 2:
        found = StdCalibration(reason="a single sample has no spread")
    elif plan.seconds + seconds > _MOST_TIME * budget:
        reason = f"it would have taken {seconds:.0f} s more; a larger time budget allows it"
        found = StdCalibration(reason=reason)
    else:
        index = job.indices[middle]
        # a slice from disk has no model: it is made again only where it is needed
        impossible = units_of(job.scan, index)
        if isinstance(impossible, str):
            return _told(job, StdCalibration(reason=impossible), begin)
        found = calibrate(
            job.scan, index, job.model_of(index, parts[middle]),
            lambda model: job.redraw(model, effort, generator), seed=seed,
        )  # fmt: skip
    return _told(job, found, begin)


def _told(job: Job, found: StdCalibration, begin: float) -> StdCalibration:
    job.progress.phase("std", found.text, job.timed("calibration", begin))
    return found


def _small(effort: Effort) -> Effort:
    """Effort of the samples for one fold."""
    steps = min(effort.steps, _STEPS)
    share = _NUM_SAMPLES * steps / max(effort.num_samples * effort.steps, 1)
    return replace(
        effort, point_steps=min(effort.point_steps, _POINT_STEPS), steps=steps,
        num_samples=_NUM_SAMPLES, seconds=share * effort.seconds,
    )  # fmt: skip


def units_of(scan: Scan, index: int) -> Units | str:
    """Return the units of slice ``index`` of a scan, ordered outwards or by angle, or why not."""
    g = scan.geometry
    if isinstance(g, CTGeometry):
        n = len(g.angles)
        label = torch.from_numpy(_ranks(np.asarray(g.angles)))[:, None]
        return Units(label, n, "projections")
    if isinstance(g, NonCartesianGeometry):
        label = torch.arange(g.num_shots).repeat_interleave(g.num_samples)
        return Units(label, g.num_shots, "shots")
    if not isinstance(g, MRIGeometry):
        return "a diffraction pattern has no parts that can be left out without its phases"
    mask = g.mask if g.mask.ndim == len(g.image_shape) else g.mask[index]
    mask = np.asarray(mask, bool)
    readout = g.readout_axis
    lines = mask if readout is None else np.asarray(mask.any(axis=readout, keepdims=True))
    outer = lines.copy()
    outer[sampled_block(lines)] = False
    position = np.stack(np.nonzero(outer), axis=1)
    offset = [0.0 if axis == readout else n // 2 for axis, n in enumerate(mask.shape)]
    radius = np.linalg.norm((position - offset) / mask.shape, axis=1)
    numbers = np.full(outer.shape, -1, np.int64)
    numbers[outer] = _ranks(radius)
    name = "points of k-space" if readout is None else "lines of k-space"
    count = int(outer.sum())
    # what is not measured lies further out than what is, and errs more: a held-out line speaks for
    # itself and for the unmeasured ones to which it is the nearest
    nearest = ndimage.distance_transform_edt(~lines, return_distances=False, return_indices=True)
    owner = numbers[tuple(nearest)][~lines]
    weight = 1 + np.bincount(owner[owner >= 0], minlength=count).astype(np.float64)
    return Units(torch.from_numpy(numbers), count, name, weight)


def _ranks(values: NDArray[np.floating]) -> NDArray[np.int64]:
    ranks = np.empty(values.size, np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(values.size)
    return ranks


def without(model: Model, held: Tensor) -> Model:
    """Return the model of the data that are not held out.

    :param held: bool, broadcasts to the measurement shape.
    """
    physics = model.physics
    assert isinstance(physics, LinearOperator)  # noqa: S101  by the caller
    zero = torch.zeros((), dtype=model.y.dtype)
    if isinstance(physics, CartesianMRI):  # stays what it is, with its cheap normal operator
        kept: LinearOperator = physics.rows(torch.zeros(1, dtype=torch.long))
        kept.update_parameters(mask=torch.where(held.to(physics.mask.device), zero, physics.mask))
        y = torch.where(held, zero, model.y)
    elif isinstance(physics, NonCartesianMRI) and physics.field_map is None:
        shape = physics.trajectory_shape
        weights = torch.where(held.cpu(), 0.0, physics.weights).reshape(shape[:-1])
        kept = NonCartesianMRI(
            physics.image_shape, physics.trajectory, physics.coil_maps, weights=weights
        )
        y = torch.where(held, zero, model.y)
    else:
        std = torch.where(held, torch.inf, 1.0).expand(physics.measurement_shape).contiguous()
        kept = whiten(physics, std)
        y = kept.whiten_measurement(model.y)
    kept.noise_model = model.noise_model(model.sigma)
    # a first image of all data would tell what was left out
    return replace(model, physics=kept, y=y, preview=None)


def tally(model: Model, units: Units, draw: Draw, *, folds: int = _FOLDS, seed: int = 0) -> Tally:
    """Leave units out in turn, draw samples from the rest and predict what was left out."""
    sums = []
    values = 0
    generator = torch.Generator().manual_seed(seed)
    for number in range(folds):
        chosen = units.fold(number, np.random.default_rng(seed))
        held = torch.isin(units.label, torch.from_numpy(chosen))
        samples, sigma = draw(without(model, held))
        if len(samples) < 2:
            raise KeyboardInterrupt  # stopped by the user
        rows = _rows(model, samples[:, 0], sigma, generator)
        for unit in chosen:
            weight = 1.0 if units.weight is None else units.weight[unit]
            excess, predicted = compare(model, units.label == int(unit), rows)
            sums.append((int(unit), weight * excess, weight * predicted))
        values += int(_measured(model, held).sum())
    unit_, excesses, predictions = zip(*sums, strict=True)
    return Tally(np.array(unit_), np.array(excesses), np.array(predictions), values)


def _rows(model: Model, samples: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Residual of the mean, scaled deviations of the S samples, and draws of the noise."""
    physics = model.physics
    count = len(samples)
    shape = (_PROBES, *physics.measurement_shape)
    with torch.no_grad():
        mean = samples.mean(0, keepdim=True)
        spread = math.sqrt((1 + 1 / count) / (count - 1)) * physics.A(samples - mean)
        noise = sigma / math.sqrt(_PROBES) * torch.randn(shape, generator=generator)
        return torch.cat([model.y - physics.A(mean), spread, noise.to(spread)])


def compare(model: Model, held: Tensor, rows: Tensor) -> tuple[float, float]:
    """Squared error of predicted data less their noise, and what the samples say it should be.

    Both in the image, after the adjoint: of the directions of many coils only those count that an
    image can have, so that the noise counts once and not once for every coil.

    :param held: bool, broadcasts to the measurement shape.
    :param rows: residual, scaled deviations, draws of the noise: ``(1 + S + P, ...)``.
    """
    physics = model.physics
    assert isinstance(physics, LinearOperator)  # noqa: S101  by the caller
    zero = torch.zeros((), dtype=rows.dtype)
    with torch.no_grad():
        image = physics.A_adjoint(torch.where(_measured(model, held), rows, zero))
        power = image.double().flatten(1).square().sum(1)
    return float(power[0] - power[-_PROBES:].sum()), float(power[1:-_PROBES].sum())


def _measured(model: Model, held: Tensor) -> Tensor:
    seen = model.physics.measurement_mask
    mask = held if seen is None else held & (seen[0] != 0)
    return mask.expand(model.physics.measurement_shape)
