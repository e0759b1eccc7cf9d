"""Orthogonal periodic Daubechies wavelets with four vanishing moments, in torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# scaling filter of Daubechies' extremal-phase wavelet with 4 vanishing moments (Daubechies 1992,
# Ten Lectures on Wavelets, table 6.1), normalised to unit energy
_LOW = (
    0.23037781330885523,
    0.7148465705525415,
    0.6308807679295904,
    -0.02798376941698385,
    -0.18703481171888114,
    0.030841381835986965,
    0.032883011666982945,
    -0.010597401784997278,
)
_HIGH = tuple((-1) ** k * _LOW[len(_LOW) - 1 - k] for k in range(len(_LOW)))
_COARSEST = 8  # no level below this size: the filter is eight samples long


def levels_for(shape: Sequence[int]) -> int:
    """Number of levels that leave at least 8 coarse samples on every axis, 1 to 5.

    Axes shorter than 16 samples are not transformed and do not count.
    """
    sizes = [n for n in shape if n >= 2 * _COARSEST]
    return 0 if not sizes else min(5, *(_halvings(n) for n in sizes))


def _halvings(n: int) -> int:
    count = 0
    while n >= 2 * _COARSEST:
        n = -(-n // 2)
        count += 1
    return count


def padded_shape(shape: Sequence[int], levels: int) -> tuple[int, ...]:
    """Smallest shape that the transform of so many levels accepts."""
    step = 2**levels
    return tuple(-(-n // step) * step if n >= 2 * _COARSEST else n for n in shape)


def _analyse(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """One level along one axis: low and high band, each half as long."""
    even, odd = _phases(x, axis)
    low, high = torch.zeros_like(even), torch.zeros_like(even)
    for j in range(len(_LOW) // 2):
        e, o = torch.roll(even, -j, axis), torch.roll(odd, -j, axis)
        low = low + _LOW[2 * j] * e + _LOW[2 * j + 1] * o
        high = high + _HIGH[2 * j] * e + _HIGH[2 * j + 1] * o
    return low, high


def _synthesise(low: Tensor, high: Tensor, axis: int) -> Tensor:
    """Transpose, and so inverse, of :func:`_analyse`."""
    even, odd = torch.zeros_like(low), torch.zeros_like(low)
    for j in range(len(_LOW) // 2):
        a, b = torch.roll(low, j, axis), torch.roll(high, j, axis)
        even = even + _LOW[2 * j] * a + _HIGH[2 * j] * b
        odd = odd + _LOW[2 * j + 1] * a + _HIGH[2 * j + 1] * b
    return torch.stack([even, odd], axis + 1).flatten(axis, axis + 1)


def _phases(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    pairs = x.unflatten(axis, (x.shape[axis] // 2, 2))
    return pairs.select(axis + 1, 0), pairs.select(axis + 1, 1)


def _coarse(x: Tensor, level: int) -> Tensor:
    """View of the packed coefficients ``(B, C, *spatial)``: the input of a level."""
    for axis, n in enumerate(x.shape[2:], start=2):
        x = x.narrow(axis, 0, n >> level if n >= 2 * _COARSEST else n)
    return x


def forward(x: Tensor, levels: int) -> Tensor:
    """Coefficients of ``(B, C, *spatial)``, packed into the same shape, coarse band first.

    :param x: image whose spatial shape is one of :func:`padded_shape`.
    """
    out = x
    shape = x.shape[2:]
    for level in range(levels):
        block = _coarse(out, level)
        for axis, n in enumerate(shape, start=2):
            if n >= 2 * _COARSEST:
                block = torch.cat(_analyse(block, axis), axis)
        out = out.clone()
        _coarse(out, level).copy_(block)
    return out


def inverse(c: Tensor, levels: int) -> Tensor:
    """Inverse and transpose of :func:`forward`."""
    out = c
    shape = c.shape[2:]
    for level in reversed(range(levels)):
        block = _coarse(out, level)
        for axis, n in reversed(list(enumerate(shape, start=2))):
            if n >= 2 * _COARSEST:
                low, high = block.chunk(2, axis)
                block = _synthesise(low, high, axis)
        out = out.clone()
        _coarse(out, level).copy_(block)
    return out


def soft_threshold(c: Tensor, threshold: Tensor, levels: int) -> Tensor:
    """Shrink the detail coefficients' magnitude (channels together); the coarse band stays.

    :param threshold: broadcastable to ``(B, 1, *spatial)``.
    """
    size = torch.linalg.vector_norm(c, dim=1, keepdim=True)
    shrunk: Tensor = c * (1 - threshold / torch.maximum(size, threshold).clamp_min(1e-38))
    _coarse(shrunk, levels).copy_(_coarse(c, levels))
    return shrunk


def detail_norm(c: Tensor, levels: int) -> Tensor:
    """Sum of the detail coefficients' magnitudes per row, float64 ``(B,)``."""
    size = torch.linalg.vector_norm(c, dim=1, keepdim=True).double()
    coarse = _coarse(size, levels)
    total: Tensor = size.flatten(1).sum(1) - coarse.flatten(1).sum(1)
    return total
