"""Where the rotation axis of a fan-beam scan is seen, from the lines that it measures twice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

__all__ = ["find_fan_axis_shift"]

_SMOOTH = 1.5  # detector pixels: interpolation between them then costs nothing
_FINER = 4  # samples per detector pixel after smoothing


def find_fan_axis_shift(
    sinogram: NDArray[Any],
    angles: NDArray[Any],
    source_distance: float,
    detector_distance: float,
    detector_spacing: float,
    *,
    detector_offset: float = 0.0,
    search: float | None = None,
) -> float:
    r"""Find ``axis_shift`` of :class:`~sciinv.operators.fan.FanBeamCT` from a full turn.

    A ray at source angle t with fan angle :math:`\alpha` from the ray through the axis is measured
    again, from the other side, as :math:`(t + \pi - 2\alpha, -\alpha)`, where
    :math:`\alpha = \arctan(u/L) - \arctan(h/D)`, D = source_distance, L = D + detector_distance.
    The shift h is the one for which both measurements differ least (relative to their squares, over
    rays that have both). Views are smoothed by 1.5 detector pixels first, so that noise and
    interpolation do not prefer one place between two pixels.

    A detector that is off-centre by o looks very nearly like ``axis_shift = -o D/L``, which is
    what is found then; where the offset is known, pass it and the shift beside it is found.

    :param sinogram: line integrals ``(angles, detectors)``.
    :param angles: radians in any order, over a full turn or nearly so.
    :param source_distance: from the source to the axis, mm.
    :param detector_distance: from the axis to the detector, mm.
    :param detector_spacing: mm on the detector.
    :param detector_offset: mm on the detector.
    :param search: half width of the search in mm at the axis, a quarter of the detector by default.
    :returns: shift in mm at the axis.
    :raises DataError: the shapes do not fit, values are not finite, or the angles leave more than
        30 degrees of the turn open.
    """
    values = np.asarray(sinogram, dtype=np.float64)
    theta = np.asarray(angles, dtype=np.float64)
    _check(values, theta)
    span = source_distance + detector_distance
    order = np.argsort(np.mod(theta, 2 * math.pi), kind="stable")
    turn = _Turn(np.mod(theta, 2 * math.pi)[order], values[order], detector_spacing)
    pixel = detector_spacing * source_distance / span  # at the axis

    def mismatch(shift: float, every: int) -> float:
        return turn.mismatch(
            math.atan2(shift, source_distance), span, detector_offset, every_ray=every
        )

    width = values.shape[1] / 4 * pixel if search is None else float(search)
    centre = -detector_offset * source_distance / span
    best = centre
    for half, step, every in ((width, 2 * pixel, 8), (3 * pixel, 0.5 * pixel, 2)):
        candidates = best + np.arange(-math.ceil(half / step), math.ceil(half / step) + 1) * step
        best = float(candidates[np.argmin([mismatch(c, every) for c in candidates])])
    # the criterion is a parabola near its minimum
    around = np.array([mismatch(best + d * pixel, 1) for d in (-0.5, 0.0, 0.5)])
    bend = around[0] - 2 * around[1] + around[2]
    if bend > 0:
        best += 0.25 * pixel * float(np.clip((around[0] - around[2]) / bend, -2, 2))
    return best


def _check(values: NDArray[np.float64], theta: NDArray[np.float64]) -> None:
    def fail(field: str, found: str, expected: str, hint: str | None = None) -> DataError:
        return DataError("find_fan_axis_shift", field, found=found, expected=expected, hint=hint)

    if values.ndim != 2 or theta.shape != (len(values),):
        raise fail(
            "angles",
            f"angles {theta.shape}, sinogram {values.shape}",
            "one angle for each row of a 2D sinogram",
        )
    if not (np.isfinite(values).all() and np.isfinite(theta).all()):
        raise fail("sinogram", "NaN or infinity", "finite line integrals and angles")
    folded = np.sort(np.mod(theta, 2 * math.pi))
    opening = float(np.diff(folded, append=folded[0] + 2 * math.pi).max())
    if len(theta) < 8 or opening > math.pi / 6:
        raise fail(
            "angles",
            f"{len(theta)} angles that leave {np.rad2deg(opening):.1f} degrees of the turn open",
            "a full turn, so that lines are measured from both sides",
            "state axis_shift in a side-car",
        )


class _Turn:
    """Views over a full turn, smoothed, and what they say where."""

    def __init__(
        self, theta: NDArray[np.float64], values: NDArray[np.float64], spacing: float
    ) -> None:
        self.theta = theta
        self.spacing = spacing
        self.detectors = values.shape[1]
        # edges are continued, so that smoothing does not round off a truncated view
        margin = 8
        padded = np.pad(values, ((0, 0), (margin, margin)), mode="edge")
        length = padded.shape[1]
        frequency = np.fft.rfftfreq(length)
        spectrum = np.fft.rfft(padded, axis=1)
        spectrum *= np.exp(-2 * (math.pi * frequency * _SMOOTH) ** 2)
        fine = np.fft.irfft(spectrum, n=_FINER * length, axis=1) * _FINER
        self.fine = fine[:, margin * _FINER : (margin + self.detectors) * _FINER]
        self.closed = np.append(theta, theta[0] + 2 * math.pi)

    def mismatch(self, tilt: float, span: float, offset: float, *, every_ray: int) -> float:
        """Squared difference of both measurements of a line over their squares."""
        middle = (self.detectors - 1) / 2
        columns = np.arange(0, self.detectors, every_ray)
        u = (columns - middle) * self.spacing + offset
        alpha = np.arctan(u / span) - tilt
        other = np.tan(np.clip(tilt - alpha, -1.5, 1.5)) * span
        position = ((other - offset) / self.spacing + middle) * _FINER
        both = (position >= 0) & (position <= (self.detectors - 1) * _FINER)
        if np.count_nonzero(both) < 4:
            return math.inf
        columns, alpha, position = columns[both], alpha[both], position[both]
        rows = slice(None, None, max(1, every_ray // 2))
        here = self.fine[rows, columns * _FINER]
        time = self.theta[rows, None] + math.pi - 2 * alpha[None, :]
        time = np.mod(time - self.theta[0], 2 * math.pi) + self.theta[0]
        before = np.clip(np.searchsorted(self.closed, time, side="right") - 1, 0, None)
        before = np.minimum(before, len(self.theta) - 1)
        step = self.closed[before + 1] - self.closed[before]
        late = np.divide(time - self.closed[before], step, where=step > 0, out=np.zeros_like(time))
        low = np.minimum(position.astype(np.intp), self.fine.shape[1] - 2)
        part = position - low

        def read(row: NDArray[np.intp]) -> NDArray[np.float64]:
            left: NDArray[np.float64] = self.fine[row, low[None, :]]
            return left + part * (self.fine[row, low[None, :] + 1] - left)

        first = read(before)
        there = first + late * (read((before + 1) % len(self.theta)) - first)
        energy = float(np.sum(here**2 + there**2))
        return float(np.sum((here - there) ** 2)) / energy if energy > 0 else math.inf
