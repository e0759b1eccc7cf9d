"""Numbers of regions with their uncertainty: size and mean over the samples.

The standard deviation of voxels says nothing about the size of a structure, because neighbouring
voxels move together; every sample has one size and one mean, and those of all samples have a
spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sciinv.result import Result


@dataclass(frozen=True)
class Interval:
    """A number of every sample: mean and the ends of the interval that holds the next one."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Region:
    """What the samples say about one label.

    :param label: its number in the mask.
    :param voxels: of the label that the data see.
    :param threshold: value that divides the structure from what surrounds it inside the region.
    :param volume: of the voxels above the threshold, in mm^3 (or voxels where no length is known).
    :param value: mean over all voxels of the label, in the units of the image.
    """

    label: int
    voxels: int
    threshold: float
    volume: Interval
    value: Interval


def regions(
    result: Result,
    labels: NDArray[np.integer[Any]],
    *,
    level: float = 0.9,
    threshold: float | None = None,
) -> list[Region]:
    """Return size and mean of every label over the samples.

    :param labels: ``(slices, *image_shape)``; 0 is outside. Voxels that the data do not see are
        left out.
    :param level: probability of the intervals.
    :param threshold: as in :class:`Region`, in the image's units; by default the one that divides
        the values of the posterior mean in the label best into two classes (Otsu).
    """
    size = voxel_volume(result)
    found = []
    for label in np.unique(labels[labels != 0]):
        inside = (labels == label) & result.visible
        if not inside.any():
            continue
        cut = otsu(result.mean[inside]) if threshold is None else threshold
        values = result.magnitude[:, inside]
        volumes = size * (values > cut).sum(axis=1)
        means = values.mean(axis=1, dtype=np.float64)
        factor = result.std_factor
        found.append(
            Region(
                int(label),
                int(inside.sum()),
                float(cut),
                interval(volumes, level, factor, nonneg=True),
                interval(means, level, factor),
            )  # fmt: skip
        )
    return found


def voxel_volume(result: Result) -> float:
    """mm^3 of a voxel; 1 where lengths are unknown."""
    from sciinv.report.geometry import length_unit

    if length_unit(result.units) == "px":
        return 1.0
    return float(abs(np.linalg.det(np.asarray(result.affine, np.float64)[:3, :3])))


def interval(
    values: NDArray[np.floating], level: float, factor: float = 1.0, *, nonneg: bool = False
) -> Interval:
    """Mean of samples and the interval that holds one more with probability ``level``.

    As :meth:`sciinv.Result.interval`: order statistics where there are enough samples, else
    Student's t; distances from the mean are multiplied by ``factor``.
    """
    values = np.asarray(values, np.float64)
    count, tail = values.size, (1 - level) / 2
    mean = float(values.mean())
    if count == 1:
        return Interval(mean, float("nan"), float("nan"))
    if tail * (count + 1) >= 1 - 1e-9:
        ends = [float(np.quantile(values, q, method="weibull")) for q in (tail, 1 - tail)]
    else:
        from scipy.stats import t

        reach = float(t.ppf(1 - tail, count - 1) * np.sqrt(1 + 1 / count) * values.std(ddof=1))
        ends = [mean - reach, mean + reach]
    low, high = (mean + factor * (end - mean) for end in ends)
    return Interval(mean, max(low, 0.0) if nonneg else low, high)


def otsu(values: NDArray[np.floating]) -> float:
    """Threshold that divides values into two classes of the largest difference (Otsu 1979).

    The lowest value of all if they are equal, less a little: then every voxel is above.
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    if ordered[0] == ordered[-1]:
        return float(np.nextafter(np.float32(ordered[0]), np.float32(-np.inf)))
    below = np.arange(1, ordered.size)
    sums = np.cumsum(ordered)
    left = sums[:-1] / below
    right = (sums[-1] - sums[:-1]) / (ordered.size - below)
    between = below * (ordered.size - below) * (right - left) ** 2
    best = int(np.argmax(between))
    return float((ordered[best] + ordered[best + 1]) / 2)
