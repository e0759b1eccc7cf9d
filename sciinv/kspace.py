"""Facts about which samples of k-space a scan has, in NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sampled_block(sampled: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the fully sampled block around the centre ``n // 2``, one slice per axis.

    The block grows from the centre by one sample per axis and side in turn, as long as everything
    in it is sampled: all readout samples times the calibration lines of a scan undersampled along
    one axis, about the largest square of one undersampled along two.

    :param sampled: bool ``(*spatial)``.
    :returns: the centre alone if its neighbours, or itself, are not sampled.
    """
    low = [n // 2 for n in sampled.shape]
    high = [n // 2 + 1 for n in sampled.shape]
    # (axis, -1 or +1): sides that may still move outwards; a slab that is not sampled stays so as
    # the block grows, so a side that stopped never moves again
    sides = [(axis, step) for axis in range(sampled.ndim) for step in (-1, 1)]
    if not sampled[tuple(low)]:
        sides = []
    while sides:
        for axis, step in list(sides):
            edge = low[axis] - 1 if step < 0 else high[axis]
            slab = [slice(a, b) for a, b in zip(low, high, strict=True)]
            slab[axis] = slice(edge, edge + 1)
            if not 0 <= edge < sampled.shape[axis] or not sampled[tuple(slab)].all():
                sides.remove((axis, step))
            elif step < 0:
                low[axis] = edge
            else:
                high[axis] = edge + 1
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))
