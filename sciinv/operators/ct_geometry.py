"""Parallel-beam geometry: where every pixel lands on the detector, in mm and radians."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sciinv.errors import GeometryError

# more than four turns is no scan in radians; 0..360 read as radians is 57 turns
_MAX_ANGLE = 8 * math.pi


@dataclass(frozen=True)
class ParallelGeometry:
    """One slice seen by parallel rays; hashable, so that projectors can be cached by it.

    The centre of pixel (row, col) is ``x = (col - (cols-1)/2) pixel_size``,
    ``y = -(row - (rows-1)/2) pixel_size``; at angle t it lands on the detector coordinate
    ``u = x cos t + y sin t + axis_shift``; detector pixel k is centred at
    ``u = (k - (num_detectors-1)/2) detector_spacing``.
    """

    rows: int
    cols: int
    angles: tuple[float, ...]
    num_detectors: int
    detector_spacing: float
    pixel_size: float
    axis_shift: float = 0.0

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
        if int(num_detectors) != num_detectors or num_detectors < 1:
            problems.append(f"num_detectors: found {num_detectors}, expected a whole number >= 1")
        for name, value in (("detector_spacing", detector_spacing), ("pixel_size", pixel_size)):
            if not (math.isfinite(value) and value > 0):
                problems.append(f"{name}: found {value}, expected a length > 0 mm")
        if not math.isfinite(axis_shift):
            problems.append(f"axis_shift: found {axis_shift}, expected a finite length in mm")
        if problems:
            raise GeometryError("ParallelBeamCT: " + "; ".join(problems))
        rows, cols = (int(n) for n in slice_shape)
        return cls(
            rows,
            cols,
            tuple(float(t) for t in theta),
            int(num_detectors),
            float(detector_spacing),
            float(pixel_size),
            float(axis_shift),
        )

    @property
    def num_rays(self) -> int:
        """Number of rays of one slice."""
        return len(self.angles) * self.num_detectors

    @property
    def num_pixels(self) -> int:
        """Number of pixels of one slice."""
        return self.rows * self.cols

    def directions(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Cosine and sine of every angle."""
        theta = np.asarray(self.angles)
        return np.cos(theta), np.sin(theta)

    def x(self) -> npt.NDArray[np.float64]:
        """Pixel centres along a row, in mm, growing to the right."""
        return (np.arange(self.cols, dtype=np.float64) - (self.cols - 1) / 2) * self.pixel_size

    def y(self) -> npt.NDArray[np.float64]:
        """Pixel centres along a column, in mm: row 0 has the largest y."""
        return -(np.arange(self.rows, dtype=np.float64) - (self.rows - 1) / 2) * self.pixel_size

    def u(self) -> npt.NDArray[np.float64]:
        """Detector pixel centres in mm."""
        return (np.arange(self.num_detectors, dtype=np.float64) - (self.num_detectors - 1) / 2) * (
            self.detector_spacing
        )

    def footprints(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Half width and height of a pixel's triangular shadow on the detector, for every angle.

        In Joseph's method the weight of a pixel whose centre lands on detector index c is
        ``height * max(0, 1 - |k - c| / half_width)`` for ray k: the distance along the driving axis
        is the distance on the detector over ``max(|cos t|, |sin t|)``.

        :return: half widths in detector pixels, heights in mm.
        """
        cos, sin = self.directions()
        main = np.maximum(np.abs(cos), np.abs(sin))
        return main * self.pixel_size / self.detector_spacing, self.pixel_size / main

    def nonzeros(self) -> int:
        """Upper estimate of the non-zero weights of the interpolating projector.

        A pixel is touched by every ray that passes within one pixel along the driving axis: two
        pixels times ``max(|cos t|, |sin t|)`` over the detector spacing; a ray has at most two
        weights for every row or column that it crosses.
        """
        cos, sin = (np.abs(v) for v in self.directions())
        per_pixel = 2 * self.footprints()[0]
        per_ray = 2 * np.where(cos >= sin, self.rows, self.cols) * self.num_detectors
        return int(np.minimum(per_pixel * self.num_pixels, per_ray).sum()) + 1

    def angular_weights(self) -> npt.NDArray[np.float64]:
        """Quadrature weight of every angle over half a turn, in radians.

        A view at t + pi sees the same rays as one at t, so the angles are taken modulo pi; each
        gets half of the distance to either neighbour around the circle (equal angles share).
        A gap of more than ten median steps is a missing wedge, not a long step: the angles at its
        edges count for a median step on that side.
        """
        theta = np.mod(np.asarray(self.angles), math.pi)
        theta = np.where(math.pi - theta < 1e-9, 0.0, theta)  # pi itself, up to rounding, is 0
        order = np.argsort(theta, kind="stable")
        ordered = theta[order]
        group = np.concatenate([[0], np.cumsum(np.diff(ordered) > 1e-9)])
        first = ordered[np.concatenate([[True], np.diff(group) > 0])]
        gaps = np.diff(np.concatenate([first, [first[0] + math.pi]]))
        median = float(np.median(gaps))
        gaps = np.where(gaps > 10 * median, median, gaps)
        cell = (gaps + np.roll(gaps, 1)) / 2
        shared = (cell / np.bincount(group))[group]
        weights = np.empty_like(shared)
        weights[order] = shared
        return weights
