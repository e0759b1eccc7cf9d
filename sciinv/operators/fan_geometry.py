"""Fan-beam geometry with a flat detector, and the shares of rays that are measured twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sciinv.errors import GeometryError
from sciinv.operators.ct_geometry import (
    Floats,
    SliceGeometry,
    angular_cells,
    check_slice,
    shared_weights,
)

_WIDEST_TAPER = math.pi / 6


@dataclass(frozen=True, kw_only=True)
class FanGeometry(SliceGeometry):
    r"""Rays from a point to a flat detector, with L = source_distance + detector_distance.

    The point (x, y) has the lateral coordinate ``a = x cos t + y sin t + axis_shift`` and the depth
    ``b = -x sin t + y cos t``; it lands on ``u = a L / (source_distance + b)``. Detector pixel k is
    centred at ``u = (k - (num_detectors-1)/2) detector_spacing + detector_offset``.

    **Fan angles.** The ray to u has :math:`\tan\gamma = u/L` and is the parallel ray of angle
    :math:`\theta = t - \gamma` and coordinate
    :math:`s = x\cos\theta + y\sin\theta = D\sin\gamma - h\cos\gamma = \sqrt{D^2+h^2}\,\sin\alpha`
    with D = source_distance, h = axis_shift and :math:`\alpha = \gamma - \arctan(h/D)`, the angle
    from the ray through the rotation axis. The same line seen from the other side has
    :math:`(\theta + \pi, -s)`, so the ray :math:`(t, \alpha)` is measured again as
    :math:`(t + \pi - 2\alpha, -\alpha)`.
    """

    source_distance: float
    detector_distance: float
    detector_offset: float = 0.0

    @classmethod
    def create(
        cls,
        slice_shape: Sequence[int],
        angles: object,
        *,
        num_detectors: int,
        detector_spacing: float,
        pixel_size: float,
        source_distance: float,
        detector_distance: float,
        axis_shift: float = 0.0,
        detector_offset: float = 0.0,
    ) -> FanGeometry:
        """Check the parameters and build the geometry.

        :param slice_shape: ``(rows, cols)``.
        :param angles: one-dimensional list, array or tensor of radians, in any order.
        :raises GeometryError: naming every parameter that is out of range, and what was found.
        """
        values, problems = check_slice(
            slice_shape,
            angles,
            num_detectors=num_detectors,
            lengths={
                "detector_spacing": detector_spacing,
                "pixel_size": pixel_size,
                "source_distance": source_distance,
            },
            positions={"axis_shift": axis_shift, "detector_offset": detector_offset},
        )
        if not (math.isfinite(detector_distance) and detector_distance >= 0):
            problems.append(
                f"detector_distance: found {detector_distance}, expected a length >= 0 mm from the "
                "rotation axis to the detector, which faces the source across the axis"
            )
        corner = math.hypot(*slice_shape) * pixel_size / 2
        if math.isfinite(corner) and 0 < source_distance <= corner:
            problems.append(
                f"source_distance: found {source_distance:.6g} mm, but the image reaches "
                f"{corner:.6g} mm from the rotation axis: the source would be inside it; check the "
                "units (mm) of source_distance and pixel_size"
            )
        if problems:
            raise GeometryError("FanBeamCT: " + "; ".join(problems))
        return cls(
            **values,
            detector_spacing=float(detector_spacing),
            pixel_size=float(pixel_size),
            axis_shift=float(axis_shift),
            source_distance=float(source_distance),
            detector_distance=float(detector_distance),
            detector_offset=float(detector_offset),
        )

    # -- rays ----------------------------------------------------------------------------------
    @property
    def span(self) -> float:
        """L, from the source to the detector in mm."""
        return self.source_distance + self.detector_distance

    @property
    def magnification(self) -> float:
        """Size on the detector of a length at the rotation axis."""
        return self.span / self.source_distance

    @property
    def axis_spacing(self) -> float:
        """Detector spacing scaled to the rotation axis, in mm."""
        return self.detector_spacing / self.magnification

    def u(self) -> Floats:
        """Detector pixel centres in mm from the foot of the source."""
        return super().u() + self.detector_offset

    def fan_angles(self) -> Floats:
        """Angle alpha of every detector pixel from the ray through the axis, in radians."""
        return np.arctan(self.u() / self.span) - self._tilt()

    def rays(self) -> tuple[Floats, Floats, Floats]:
        """Lines ``x (cos t + m sin t) + y (sin t - m cos t) = m D - axis_shift``, m = u/L.

        They say that a = m (D + b).
        """
        cos, sin = (v[:, None] for v in self.directions())
        m = (self.u() / self.span)[None, :]
        return cos + m * sin, sin - m * cos, m * self.source_distance - self.axis_shift

    def landing(self, x: Any, y: Any, cos: Any, sin: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """Fractional detector index of points, and detector pixels in a pixel's shadow there."""
        scale = self.span / self.detector_spacing / (self.source_distance - x * sin + y * cos)
        centre = (x * cos + y * sin + self.axis_shift) * scale
        centre += (self.num_detectors - 1) / 2 - self.detector_offset / self.detector_spacing
        return centre, scale * self.pixel_size

    # -- inversion -----------------------------------------------------------------------------
    def inversion_weights(self) -> Floats:
        r"""Quadrature, shares of twice measured rays, and the cosine of the fan.

        With p the line integrals and h the ramp kernel, parallel rays invert by
        :math:`f = \int\!\int w\,p\,h(x\cos\theta + y\sin\theta - s)\,ds\,d\theta` over a full turn,
        the shares w of a line's two measurements adding up to one. In t and u it is
        :math:`ds\,d\theta = (D\cos\gamma + h\sin\gamma)\cos^2\gamma/L\;du\,dt`, the argument of the
        kernel :math:`\cos\gamma\,(D+b)/L\,(u_{xy} - u)`, and :math:`h(cz) = h(z)/c^2`; with lengths
        on the detector scaled to the axis, :math:`f = \int D^2/(D+b)^2\,
        [w\,p\,(\cos\gamma + (h/D)\sin\gamma)] * h\;dt` (Kak and Slaney 1988, section 3.4.2, for an
        axis shift h = 0).
        """
        m = self.u() / self.span
        cosine = (1 + m * self.axis_shift / self.source_distance) / np.sqrt(1 + m**2)
        quadrature, arcs = self._arcs()
        weights: Floats = quadrature[:, None] * self._shares(arcs) * cosine
        return weights

    def inversion_distance(self, x: Any, y: Any, cos: Any, sin: Any) -> Any:  # noqa: ANN401
        """``(D / (D + b))^2``: what lies near the source is seen magnified."""
        return (self.source_distance / (self.source_distance - x * sin + y * cos)) ** 2

    def inversion_margins(self) -> tuple[int, int]:
        """Detector pixels that the side with fewer of them lacks.

        Lines beyond the short side of a detector whose centre is beside the axis are measured from
        the other side only, so their share is zero there; the filtered view is not.
        """
        tilt, edges = self._tilt(), self._edges()
        mirrored = self._mirrored(np.arctan(edges[::-1] / self.span) - tilt)
        lacking = np.array([edges[0] - mirrored[0], mirrored[1] - edges[1]])
        before, after = np.ceil(np.maximum(lacking / self.detector_spacing - 1e-6, 0))
        return int(before), int(after)

    def _tilt(self) -> float:
        """Angle between the ray to u = 0 and the one through the rotation axis."""
        return math.atan2(self.axis_shift, self.source_distance)

    def _edges(self) -> Floats:
        """Both ends of the detector in mm."""
        return self.u()[[0, -1]] + np.array([-0.5, 0.5]) * self.detector_spacing

    def _mirrored(self, alpha: Floats) -> Floats:
        """Where the other measurement of a line, of fan angle -alpha, is on the detector."""
        # a ray along the detector never meets it
        mirrored: Floats = self.span * np.tan(np.clip(self._tilt() - alpha, -1.57, 1.57))
        return mirrored

    def _arcs(self) -> tuple[Floats, list[tuple[float, float]] | None]:
        """Quadrature weight of every angle, and the arcs of the turn that the scan covers.

        A gap of more than ten median steps, or more than three times any other, is an opening and
        no long step; the angles at its edges count for a median step on that side. Without an
        opening the scan is a full turn (``None``).
        """
        distinct, gaps, member = angular_cells(np.asarray(self.angles), 2 * math.pi)
        if len(distinct) == 1:
            return shared_weights(gaps, member), None
        median = float(np.median(gaps))
        opened = gaps > 10 * median
        largest, second = np.sort(gaps)[:-3:-1]
        opened[np.argmax(gaps)] |= largest > 3 * second
        if not opened.any():
            return shared_weights(gaps, member), None
        step = float(np.median(gaps[~opened])) if not opened.all() else 0.0
        ends = np.flatnonzero(opened)
        arcs = []
        for last, end in zip(np.roll(ends, 1), ends, strict=True):
            first = distinct[(last + 1) % len(distinct)]
            length = np.mod(distinct[end] - first, 2 * math.pi)
            arcs.append((float(first) - step / 2, float(length) + step))
        return shared_weights(np.where(opened, step, gaps), member), arcs

    def _shares(self, arcs: list[tuple[float, float]] | None) -> Floats:
        r"""Share of every ray among the measurements of its line, ``(angles, detectors)``.

        A line seen from both sides enters with :math:`c/(c + c')`, where c falls smoothly to zero
        towards the ends of the scan and the edges of the detector and c' is that of the other
        measurement (zero where there is none): the shares add up to one whatever c is (Noo,
        Defrise, Clackdoyle and Kudo 2002, Phys. Med. Biol. 47:2525). With
        :math:`c = \sin^2(\pi e / 2E)` of the distance e to the end, cut at E, this is Parker's
        choice (1982, Med. Phys. 9:254) up to the shape of the step: over the rays of one fan angle
        that are measured twice it rises from 0 to 1 with zero slope at both ends. It also holds for
        longer scans up to a full turn, for shorter ones, where lines measured once count fully, and
        for a detector whose centre is beside the axis.
        """
        alpha = self.fan_angles()
        time = np.asarray(self.angles)[:, None]
        edges = self._edges()
        axis = self.span * math.tan(self._tilt())
        taper = min(axis - edges[0], edges[1] - axis)

        def on_detector(u: Floats) -> Floats:
            edge = np.minimum(u - edges[0], edges[1] - u)
            return _rise(edge, taper) if taper > 0 else (edge > 0).astype(float)

        widest = float(np.abs(alpha).max())
        here = on_detector(self.u())[None, :] * _covered(time, arcs, widest)
        there = on_detector(self._mirrored(alpha))[None, :] * _covered(
            time + math.pi - 2 * alpha[None, :], arcs, widest
        )
        shares: Floats = here / np.maximum(here + there, 1e-300)
        return shares

    def seen(self) -> npt.NDArray[np.bool_]:
        """Pixel centres that every view sees, on the detector or by the line's other measurement.

        So a detector beside the axis has over a full turn the disc of its long side.
        """
        _, arcs = self._arcs()
        low, high = self._edges()
        x, y = self.x()[None, :], self.y()[:, None]
        inside = np.ones((self.rows, self.cols), dtype=bool)
        for t, cos, sin in zip(self.angles, *self.directions(), strict=True):
            depth = self.source_distance - x * sin + y * cos
            u = (x * cos + y * sin + self.axis_shift) * self.span / depth
            missed = np.nonzero(inside & ((u < low) | (u > high)))
            if not len(missed[0]):
                continue
            alpha = np.arctan(u[missed] / self.span) - self._tilt()
            other = self._mirrored(alpha)
            again = (other >= low) & (other <= high)
            again &= _covered(t + math.pi - 2 * alpha, arcs, 1.0) > 0
            inside[missed] = again
        return inside


def _rise(distance: Floats, width: float) -> Floats:
    """From 0 at an end (and beyond it) smoothly to 1 at ``width``."""
    share: Floats = np.sin(np.clip(distance / width, 0, 1) * (math.pi / 2)) ** 2
    return share


def _covered(time: Floats, arcs: list[tuple[float, float]] | None, widest: float) -> Floats:
    """Window over the scan at source angles ``time``: 0 outside the arcs, 1 well within."""
    if arcs is None:
        return np.ones_like(time)
    window = np.zeros_like(time)
    for start, length in arcs:
        along = np.mod(time - start, 2 * math.pi)
        # at half a turn plus the fan this is half of the fan, as in Parker's weights
        width = np.clip((length - math.pi + 2 * widest) / 4, 1e-9, _WIDEST_TAPER)
        window = np.maximum(window, _rise(np.minimum(along, length - along), float(width)))
    return window
