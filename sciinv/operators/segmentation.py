"""Off-resonance by time segments: a sum of few products of a time and a space factor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import GeometryError

# largest error of the phase factor of any pixel at any sample
TOLERANCE = 1e-4
_BINS = 1000
_LARGEST = 128
# turns of phase that the field makes during the readout: real scans make tens at most
_TURNS = 500
# readout times at which the number of segments is chosen
_CHECKED_TIMES = 400
_CHUNK = 4096


@dataclass(frozen=True)
class Segmentation:
    """``exp(-2 pi i f t_j) ~ sum_l weights[l, j] exp(-2 pi i f times[l])``.

    :param times: of the segments, in s, ``(L,)``.
    :param weights: complex ``(L, samples)``.
    :param error: largest modulus of the difference over the frequencies of the field map.
    """

    times: NDArray[np.float64]
    weights: NDArray[np.complex128]
    error: float

    @classmethod
    def create(
        cls,
        frequencies: NDArray[np.float64],
        readout_times: NDArray[np.float64],
        segments: int | None = None,
        *,
        tolerance: float = TOLERANCE,
    ) -> Segmentation:
        """Fit the time factors by least squares over the histogram of the frequencies.

        Sutton et al., IEEE Trans. Med. Imaging 22, 2003; the histogram fit of Fessler et al., IEEE
        Trans. Signal Process. 53, 2005. Half of the weight follows the histogram and half is even
        over the frequencies that occur, so that few pixels far off resonance are right too.

        :param frequencies: field map in Hz, any shape.
        :param readout_times: seconds, ``(samples,)``.
        :param segments: their number; by default the smallest that keeps the error below
            ``tolerance``.
        :raises GeometryError: if that takes more than 128 segments, or the units are implausible.
        """
        found, share = _histogram(frequencies.ravel())
        times, inverse = np.unique(readout_times, return_inverse=True)
        checked = times[:: max(1, len(times) // _CHECKED_TIMES)]
        checked = np.union1d(checked, times[-1:])
        turns = np.ptp(found) * np.ptp(times)
        counts = range(1, _LARGEST + 1) if segments is None else (segments,)
        for count in counts if turns <= _TURNS else ():
            nodes = _nodes(times, count)
            _, error = _fit(found, share, nodes, checked)
            if segments is not None or error <= tolerance:
                weights, error = _fit(found, share, nodes, times)
                if segments is not None or error <= tolerance:
                    return cls(nodes, weights[:, inverse.reshape(-1)], error)
        raise GeometryError(
            f"field_map and readout_times: found {np.ptp(found):.4g} Hz over {np.ptp(times):.4g} s,"
            f" {turns:.4g} turns of phase, expected at most {_TURNS} and so few that {_LARGEST} "
            "segments do; are the times in seconds and the field in Hz?"
        )


def _histogram(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies that occur, the two extremes exactly, and their weights with sum one."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.array([low]), np.ones(1)
    counts, edges = np.histogram(values, bins=_BINS)
    keep = counts > 0
    middle = (edges[:-1] + edges[1:])[keep] / 2
    middle[0], middle[-1] = low, high
    share = counts[keep] / counts.sum()
    return middle, 0.5 * share + 0.5 / len(share)


def _nodes(times: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    if count == 1:
        return np.array([(times[0] + times[-1]) / 2])
    return np.linspace(times[0], times[-1], count)


def _fit(
    frequencies: NDArray[np.float64],
    share: NDArray[np.float64],
    nodes: NDArray[np.float64],
    times: NDArray[np.float64],
) -> tuple[NDArray[np.complex128], float]:
    root = np.sqrt(share)[:, None]
    basis = np.exp(-2j * np.pi * np.outer(frequencies, nodes))
    # segments that the frequencies cannot tell apart share their part instead of cancelling
    inverse = np.linalg.pinv(root * basis, rcond=1e-9)
    weights = np.empty((len(nodes), len(times)), dtype=np.complex128)
    error = 0.0
    for start in range(0, len(times), _CHUNK):
        part = slice(start, start + _CHUNK)
        truth = np.exp(-2j * np.pi * np.outer(frequencies, times[part]))
        weights[:, part] = inverse @ (root * truth)
        error = max(error, float(np.abs(basis @ weights[:, part] - truth).max()))
    return weights, error
