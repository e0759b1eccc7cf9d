"""Where a model is wrong: the residual of a first image by distance from the centre of k-space.

Off-resonance, a trajectory that is a little off: what a measurement model leaves out is a share of
the signal, and the signal is strongest in the middle of k-space. One noise level
for all samples then either trusts the middle too much, which puts ripples into the image, or the
rest too little, which blurs it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHELLS = 24
_FEWEST = 64


def excess_by_radius(
    square: NDArray[np.floating], expected: NDArray[np.floating], radius: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the factor by which the noise level of every sample is to be raised, at least 1.

    The root of the mean squared residual over its expectation in shells that hold equally many
    samples, interpolated along the logarithm of the factor.

    :param square: squared residual in units of the noise, averaged over coils, ``(samples,)``;
        NaN where nothing was measured.
    :param expected: its expectation if the model were right, broadcast to ``square``.
    :param radius: distance of every sample from the centre of k-space.
    :returns: ``(samples,)`` float64.
    """
    square, radius = np.asarray(square, np.float64), np.asarray(radius, np.float64)
    expected = np.broadcast_to(np.asarray(expected, np.float64), square.shape)
    measured = np.flatnonzero(np.isfinite(square))
    if measured.size == 0:
        return np.ones(square.shape)
    order = measured[np.argsort(radius[measured], kind="stable")]
    shells = np.array_split(order, min(_SHELLS, max(1, order.size // _FEWEST)))
    centres = np.array([radius[shell].mean() for shell in shells])
    ratio = np.array([square[shell].sum() / max(expected[shell].sum(), 1e-300) for shell in shells])
    factor = np.sqrt(np.maximum(ratio, 1.0))
    return np.asarray(np.exp(np.interp(radius, centres, np.log(factor))))
