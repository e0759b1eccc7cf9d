"""From detector signal to line integrals, and where the rotation axis lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

__all__ = ["Transmission", "find_rotation_axis", "flat_field", "looks_like_photon_counts"]


@dataclass(frozen=True)
class Transmission:
    """A corrected transmission measurement, all arrays of one shape.

    :param line_integrals: -log(counts / blank), float32; 0 where ``valid`` is False.
    :param transmission: counts / blank, float32; 1 where ``valid`` is False.
    :param counts: signal less dark, float32, not negative.
    :param blank: open beam less dark, float32.
    :param valid: False where the line integral is unknown: no counts, or a dead pixel.
    """

    line_integrals: NDArray[np.float32]
    transmission: NDArray[np.float32]
    counts: NDArray[np.float32]
    blank: NDArray[np.float32]
    valid: NDArray[np.bool_]


def flat_field(
    signal: NDArray[Any],
    flat: NDArray[Any],
    dark: NDArray[Any] | float = 0.0,
    *,
    where: Path | str = "scan",
) -> Transmission:
    """Compute -log((signal - dark) / (flat - dark)), masking samples that carry no information.

    Zero counts have no finite line integral and are masked (``valid`` False) instead of clipped:
    a clipped value would pull the reconstruction towards an arbitrary attenuation. They stay in
    ``counts``, where a Poisson likelihood uses them rightly.

    :param signal: detector signal, any shape.
    :param flat: open-beam signal, broadcasts to ``signal``.
    :param dark: signal without beam, broadcasts to ``signal``.
    :param where: named in errors.
    :raises DataError: dark above flat on average, more than half of the samples dead or empty.
    """
    signal = np.asarray(signal, dtype=np.float64)
    open_beam = np.asarray(flat, dtype=np.float64)
    closed = np.asarray(dark, dtype=np.float64)
    if closed.mean() >= open_beam.mean():
        raise DataError(
            where,
            "dark field",
            found=f"mean {closed.mean():.6g}, not below the flat field's {open_beam.mean():.6g}",
            expected="dark below flat",
            hint="are the two swapped?",
        )
    blank = np.broadcast_to(open_beam - closed, signal.shape)
    counts = signal - closed
    alive = blank > 0
    valid = alive & (counts > 0)
    if 2 * np.count_nonzero(valid) < valid.size:
        raise DataError(
            where,
            "counts",
            found=f"{valid.size - np.count_nonzero(valid)} of {valid.size} samples without counts "
            "above dark",
            expected="counts in at least half of the samples",
        )
    ratio = np.divide(counts, blank, out=np.ones_like(counts), where=valid)
    return Transmission(
        line_integrals=(-np.log(ratio) + 0.0).astype(np.float32),  # + 0.0: no negative zeros
        transmission=ratio.astype(np.float32),
        counts=np.maximum(counts, 0.0).astype(np.float32),
        blank=np.maximum(blank, 0.0).astype(np.float32),
        valid=valid,
    )


def looks_like_photon_counts(counts: NDArray[Any], *, axis: int = -2) -> bool:
    """Tell whether counts are integers whose scatter is that of a Poisson variable.

    The scatter is taken from second differences along ``axis`` (the angles), divided by the local
    mean; for Poisson counts the ratio of variances is 1. Detector grey values (a gain, a smoothing
    point spread) fall outside 0.75 to 1.33.

    :param counts: raw counts, two or more axes.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if counts.shape[axis] < 8 or np.any(counts < 0) or np.any(counts != np.round(counts)):
        return False
    x = np.moveaxis(counts, axis, 0)
    difference = x[:-2] - 2 * x[1:-1] + x[2:]
    variance = x[:-2] + 4 * x[1:-1] + x[2:]
    used = variance > 0
    if not used.any():
        return False
    # a pooled ratio: an average of ratios would be biased where counts are few
    ratio = float(np.sum(difference[used] ** 2) / np.sum(variance[used]))
    return 0.75 < ratio < 1.33


def find_rotation_axis(
    sinogram: NDArray[Any], angles: NDArray[Any], *, search: float | None = None
) -> float:
    """Find the detector column onto which the rotation axis projects.

    Parallel projections obey p(t + pi, c + s) = p(t, c - s). The sinogram is continued to a full
    turn with its mirror image about a candidate column c, and the energy of its 2D Fourier
    transform outside the double wedge that any object inside the field of view fills is minimised
    (Vo et al. 2014, Optics Express 22:19078). Needs no reconstruction; sub-pixel.

    :param sinogram: line integrals ``(angles, detectors)``.
    :param angles: radians; any order, covering at least about half a turn, near evenly spaced.
    :param search: half width of the search in columns around the detector centre, a quarter of
        the detector by default.
    :returns: column, counted from 0; the detector centre is ``(detectors - 1) / 2``.
    :raises DataError: the angles cover too little of half a turn.
    """
    half = _half_turn(np.asarray(sinogram, dtype=np.float64), np.asarray(angles, float))
    columns = half.shape[1]
    centre = (columns - 1) / 2
    width = columns / 4 if search is None else float(search)
    # coarse: on a binned detector, where the criterion is as broad and far cheaper
    factor = max(1, columns // 128)
    binned = half[:, : columns // factor * factor].reshape(len(half), -1, factor).mean(axis=2)
    criterion = _DoubleWedge(binned)
    candidates = np.arange(np.ceil(centre - width), centre + width + 1e-9, factor)
    scores = [criterion((c - (factor - 1) / 2) / factor) for c in candidates]
    best = candidates[np.argmin(scores)]
    criterion = _DoubleWedge(half)
    for span, step in ((factor + 1.0, 1.0), (1.0, 0.25), (0.3, 0.05)):
        candidates = best + np.arange(-span, span + step / 2, step)
        best = candidates[np.argmin([criterion(c) for c in candidates])]
    return float(best)


def _half_turn(sinogram: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sort by angle and keep one half turn."""
    if sinogram.ndim != 2 or len(angles) != len(sinogram):
        raise DataError(
            "find_rotation_axis",
            "angles",
            found=f"{len(angles)} angles, sinogram {sinogram.shape}",
            expected="one angle for each row of a 2D sinogram",
        )
    order = np.argsort(angles, kind="stable")
    angles, sinogram = angles[order] - angles[order[0]], sinogram[order]
    step = float(np.median(np.diff(angles))) if len(angles) > 1 else np.inf
    keep = angles < np.pi - 0.5 * step
    covered = angles[keep][-1] + step
    if keep.sum() < 8 or abs(covered - np.pi) > max(2 * step, 0.05):
        raise DataError(
            "find_rotation_axis",
            "angles",
            found=f"{np.rad2deg(covered):.1f} degrees in {int(keep.sum())} steps",
            expected="projections over half a turn",
            hint="state the rotation axis (axis_column) in a side-car",
        )
    return sinogram[keep]


class _DoubleWedge:
    """Energy outside the double wedge of the full-turn sinogram, as a function of the axis."""

    def __init__(self, half: NDArray[np.float64]) -> None:
        rows, columns = half.shape
        self._half = half
        self._columns = columns
        # |angular frequency| (per radian) <= radius of the object (columns) x |frequency| (per
        # column, times 2 pi) holds inside; half the detector bounds the radius
        angular = np.abs(np.fft.fftfreq(2 * rows)) * 2 * rows
        radial = 2 * np.pi * np.abs(np.fft.rfftfreq(columns)) * (columns / 2)
        outside = angular[:, None] > radial[None, :] + 2
        # the lowest detector frequencies carry the truncation, not the symmetry
        outside[:, : max(2, columns // 200)] = False
        # the wedge leaves room at low detector frequencies only: the others need no transform
        self._used = outside.any(axis=0)
        self._outside = outside[:, self._used]
        self._spectrum = np.fft.rfft(half, axis=1)[:, self._used]

    def __call__(self, centre: float) -> float:
        """Return the criterion for the axis at a column."""
        # mirror image about the column: column k takes the value at 2 centre - k
        source = 2 * centre - np.arange(self._columns)
        low = np.floor(source).astype(int)
        weight = source - low
        inside = (low >= 0) & (low < self._columns - 1)
        safe = np.clip(low, 0, self._columns - 2)
        mirrored = self._half[:, safe] * (1 - weight) + self._half[:, safe + 1] * weight
        # columns that the mirror image lacks are those of the first half turn themselves: a step
        # to zero would decide the criterion
        mirrored = np.where(inside, mirrored, self._half)
        second = np.fft.rfft(mirrored, axis=1)[:, self._used]
        spectrum = np.abs(np.fft.fft(np.concatenate([self._spectrum, second]), axis=0))
        return float(np.mean(spectrum[self._outside]))
