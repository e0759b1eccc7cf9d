"""Geometry of a slice seen by a row of detector pixels: where every pixel lands, in mm and radians.

What parallel and fan beams share, and the parallel beam; the fan beam is in
:mod:`sciinv.operators.fan_geometry`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sciinv.errors import GeometryError

Floats = npt.NDArray[np.float64]

# more than four turns is no scan in radians; 0..360 read as radians is 57 turns
_MAX_ANGLE = 8 * math.pi


@dataclass(frozen=True)
class SliceGeometry:
    """One slice seen from many angles; hashable, so that projectors can be cached by it.

    The centre of pixel (row, col) is ``x = (col - (cols-1)/2) pixel_size``,
    ``y = -(row - (rows-1)/2) pixel_size``. Subclasses say along which lines the rays run
    (:meth:`rays`) and where a point lands on the detector (:meth:`landing`); projectors need no
    more. Both are needed, because a forward map follows rays and a back-projection pixels.
    """

    rows: int
    cols: int
    angles: tuple[float, ...]
    num_detectors: int
    detector_spacing: float
    pixel_size: float
    axis_shift: float = 0.0

    # -- what kinds of beams differ in ---------------------------------------------------------
    def rays(self) -> tuple[Floats, Floats, Floats]:
        """Lines ``nx x + ny y = q`` of all rays.

        :return: ``nx, ny, q``, each broadcastable to ``(angles, detectors)``; the normal need not
            have length one.
        """
        raise NotImplementedError

    def landing(self, x: Any, y: Any, cos: Any, sin: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """Where points land on the detector, for NumPy arrays and tensors that broadcast.

        With n the normal of ray k as :meth:`rays` gives it, the point lies on ray k where the
        returned ``centre`` is k, and ``|nx x + ny y - q| = pixel_size |k - centre| / spread``.

        :param x: mm. :param y: mm. :param cos: of the angles. :param sin: of the angles.
        :return: ``centre``, fractional detector index, and ``spread``, the shadow of the length
            ``pixel_size`` in detector pixels.
        """
        raise NotImplementedError

    def inversion_weights(self) -> Floats:
        """Factor of every ray before the ramp filter, broadcastable to ``(angles, detectors)``.

        Quadrature over the angles in radians, shares of rays measured more than once, and what
        the change from parallel rays to these brings.
        """
        raise NotImplementedError

    def inversion_distance(self, x: Any, y: Any, cos: Any, sin: Any) -> Any | None:  # noqa: ANN401
        """Factor of filtered views at a point of the image; ``None`` where it is one."""
        return None

    def inversion_margins(self) -> tuple[int, int]:
        """Detector pixels to add before and after the detector when views are filtered."""
        return 0, 0

    @property
    def axis_spacing(self) -> float:
        """Detector spacing scaled to the rotation axis, in mm."""
        return self.detector_spacing

    def seen(self) -> npt.NDArray[np.bool_]:
        """Pixel centres ``(rows, cols)`` that are measured from every side the scan has."""
        raise NotImplementedError

    # -- shared --------------------------------------------------------------------------------
    @property
    def num_rays(self) -> int:
        """Number of rays of one slice."""
        return len(self.angles) * self.num_detectors

    @property
    def num_pixels(self) -> int:
        """Number of pixels of one slice."""
        return self.rows * self.cols

    def directions(self) -> tuple[Floats, Floats]:
        """Cosine and sine of every angle."""
        theta = np.asarray(self.angles)
        return np.cos(theta), np.sin(theta)

    def x(self) -> Floats:
        """Pixel centres along a row, in mm, growing to the right."""
        return (np.arange(self.cols, dtype=np.float64) - (self.cols - 1) / 2) * self.pixel_size

    def y(self) -> Floats:
        """Pixel centres along a column, in mm: row 0 has the largest y."""
        return -(np.arange(self.rows, dtype=np.float64) - (self.rows - 1) / 2) * self.pixel_size

    def u(self) -> Floats:
        """Detector pixel centres in mm."""
        return (np.arange(self.num_detectors, dtype=np.float64) - (self.num_detectors - 1) / 2) * (
            self.detector_spacing
        )

    def footprints(self) -> tuple[Floats, Floats]:
        """Scale and height of the triangular shadow of a pixel, for every ray.

        Joseph's method follows a ray line by line along the axis to which its normal is steeper,
        and interpolates across. So the weight of a pixel on the ray n is
        ``height max(0, 1 - |nx x + ny y - q| / (pixel_size main))`` with
        ``main = max(|nx|, |ny|)`` and ``height = pixel_size |n| / main``, the length of ray between
        two lines: by :meth:`landing` the same as
        ``height max(0, 1 - |k - centre| / (spread main))``.

        :return: ``main`` and ``height`` in mm, ``(angles, detectors)`` or ``(angles, 1)``.
        """
        nx, ny, _ = self.rays()
        main = np.maximum(np.abs(nx), np.abs(ny))
        return main, self.pixel_size * np.hypot(nx, ny) / main

    def nonzeros(self) -> int:
        """Number of non-zero weights of the interpolating projector, from above."""
        return self._nonzeros

    @cached_property
    def _nonzeros(self) -> int:
        nx, ny, q = (v.ravel() for v in np.broadcast_arrays(*self.rays()))
        by_rows = np.abs(nx) > np.abs(ny)
        total = 0
        for selected, main, other, lines, along in (
            (by_rows, nx, ny, self.rows, self.cols),
            (~by_rows, ny, nx, self.cols, self.rows),
        ):
            # on a line at distance d from the middle the ray is |q/main - d other/main| from the
            # middle across: two pixels within the image, one on its rim
            middle = q[selected] / main[selected] / self.pixel_size
            slope = np.maximum(np.abs(other[selected] / main[selected]), 1e-12)
            for reach in (along / 2 - 0.5, along / 2 + 0.5):
                ends = np.stack([(middle - reach) / slope, (middle + reach) / slope])
                ends = np.clip(ends + (lines - 1) / 2, -1, lines)
                found = np.floor(ends[1] + 1e-9) - np.ceil(ends[0] - 1e-9) + 1
                # the end points -1 and lines are no lines
                found -= (ends[0] <= -1).astype(float) + (ends[1] >= lines)
                total += int(np.maximum(found, 0).sum())
        return total + 1


def check_slice(
    slice_shape: Sequence[int],
    angles: object,
    *,
    num_detectors: int,
    lengths: dict[str, float],
    positions: dict[str, float],
) -> tuple[dict[str, Any], list[str]]:
    """Check what all beams share.

    :param lengths: values by name that must be above zero.
    :param positions: values by name that must be finite.
    :return: constructor arguments of :class:`SliceGeometry` other than lengths and positions, and
        the problems, one sentence each; the arguments are usable where there is no problem.
    """
    problems: list[str] = []
    if hasattr(angles, "detach"):  # a torch tensor, on any device
        angles = angles.detach().cpu().numpy()
    try:
        theta = np.asarray(angles, dtype=np.float64)
    except (TypeError, ValueError):
        theta = np.empty(0)
    if theta.ndim != 1 or theta.size == 0:
        problems.append(f"angles: found shape {theta.shape}, expected a non-empty 1D sequence")
    elif not np.isfinite(theta).all():
        problems.append("angles: found NaN or infinity, expected finite radians")
    elif np.abs(theta).max() > _MAX_ANGLE:
        problems.append(
            f"angles: found a range of {theta.min():.6g} to {theta.max():.6g}, expected "
            f"radians within +-{_MAX_ANGLE:.4g}; these look like degrees: convert them with "
            "numpy.deg2rad (true radians of many turns: numpy.mod(angles, 2 * numpy.pi))"
        )
    whole = math.isfinite(num_detectors) and int(num_detectors) == num_detectors
    if not whole or num_detectors < 1:
        problems.append(f"num_detectors: found {num_detectors}, expected a whole number >= 1")
    for name, value in lengths.items():
        if not (math.isfinite(value) and value > 0):
            problems.append(f"{name}: found {value}, expected a length > 0 mm")
    for name, value in positions.items():
        if not math.isfinite(value):
            problems.append(f"{name}: found {value}, expected a finite length in mm")
    rows, cols = (int(n) for n in slice_shape)
    values = {
        "rows": rows,
        "cols": cols,
        "angles": tuple(float(t) for t in theta.ravel()),
        "num_detectors": int(num_detectors) if whole else 0,
    }
    return values, problems


def angular_cells(theta: Floats, period: float) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """Distances between neighbours on a circle of angles.

    :param theta: radians, any order; angles equal up to whole periods are one.
    :return: distinct angles in order, the gap after each of them, and for every angle given the
        index of its distinct angle, so that equal ones can share.
    """
    folded = np.mod(theta, period)
    folded = np.where(period - folded < 1e-9, 0.0, folded)  # the period, up to rounding, is 0
    order = np.argsort(folded, kind="stable")
    ordered = folded[order]
    group = np.concatenate([[0], np.cumsum(np.diff(ordered) > 1e-9)])
    distinct = ordered[np.concatenate([[True], np.diff(group) > 0])]
    gaps = np.diff(np.concatenate([distinct, [distinct[0] + period]]))
    member = np.empty(len(theta), dtype=np.intp)
    member[order] = group
    return distinct, gaps, member


def shared_weights(gaps: Floats, member: npt.NDArray[np.intp]) -> Floats:
    """Give every angle half of the gap on either side; equal angles share."""
    cell = (gaps + np.roll(gaps, 1)) / 2
    weights: Floats = (cell / np.bincount(member))[member]
    return weights


@dataclass(frozen=True)
class ParallelGeometry(SliceGeometry):
    """Parallel rays: the point (x, y) lands on ``u = x cos t + y sin t + axis_shift``.

    Detector pixel k is centred at ``u = (k - (num_detectors-1)/2) detector_spacing``.
    """

    @classmethod
    def create(
        cls,
        slice_shape: Sequence[int],
        angles: object,
        *,
        num_detectors: int,
        detector_spacing: float,
        pixel_size: float,
        axis_shift: float = 0.0,
    ) -> ParallelGeometry:
        """Check the parameters and build the geometry.

        :param slice_shape: ``(rows, cols)``.
        :param angles: one-dimensional list, array or tensor of radians, in any order.
        :raises GeometryError: naming every parameter that is out of range, and what was found.
        """
        values, problems = check_slice(
            slice_shape,
            angles,
            num_detectors=num_detectors,
            lengths={"detector_spacing": detector_spacing, "pixel_size": pixel_size},
            positions={"axis_shift": axis_shift},
        )
        if problems:
            raise GeometryError("ParallelBeamCT: " + "; ".join(problems))
        return cls(
            **values,
            detector_spacing=float(detector_spacing),
            pixel_size=float(pixel_size),
            axis_shift=float(axis_shift),
        )

    def rays(self) -> tuple[Floats, Floats, Floats]:
        """Lines ``x cos t + y sin t = u - axis_shift``."""
        cos, sin = self.directions()
        return cos[:, None], sin[:, None], (self.u() - self.axis_shift)[None, :]

    def landing(self, x: Any, y: Any, cos: Any, sin: Any) -> tuple[Any, float]:  # noqa: ANN401
        """Fractional detector index of points, and detector pixels in an image pixel."""
        u = x * cos + y * sin + self.axis_shift
        centre = u / self.detector_spacing + (self.num_detectors - 1) / 2
        return centre, self.pixel_size / self.detector_spacing

    def inversion_weights(self) -> Floats:
        """Quadrature weights of the angles, ``(angles, 1)``."""
        return self.angular_weights()[:, None]

    def angular_weights(self) -> Floats:
        """Quadrature weight of every angle over half a turn, in radians.

        A view at t + pi sees the same rays as one at t, so the angles are taken modulo pi; each
        gets half of the distance to either neighbour around the circle (equal angles share).
        A gap of more than ten median steps is a missing wedge, not a long step: the angles at its
        edges count for a median step on that side.
        """
        _, gaps, member = angular_cells(np.asarray(self.angles), math.pi)
        median = float(np.median(gaps))
        return shared_weights(np.where(gaps > 10 * median, median, gaps), member)

    def seen(self) -> npt.NDArray[np.bool_]:
        """Pixel centres that land on the detector in every view."""
        half = self.num_detectors * self.detector_spacing / 2
        x, y = self.x()[None, :], self.y()[:, None]
        inside = np.ones((self.rows, self.cols), dtype=bool)
        for cos, sin in zip(*self.directions(), strict=True):
            inside &= np.abs(cos * x + sin * y + self.axis_shift) <= half
        return inside
