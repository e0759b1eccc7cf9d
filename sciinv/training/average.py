"""Averages of the weights over training, without a half-life to choose."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


def power(width: float) -> float:
    """Exponent gamma of the profile ``t^gamma`` whose relative standard deviation is ``width``.

    Solves ``(gamma + 1) / ((gamma + 2)^2 (gamma + 3)) = width^2`` by bisection (Karras, Aittala,
    Lehtinen, Hellsten, Aila, Laine, CVPR 2024, equation 126).
    """
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = 0.5 * (low + high)
        if (middle + 1) / ((middle + 2) ** 2 * (middle + 3)) > width**2:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


class PowerAverage:
    """One average of a network's weights, with the weight ``t^gamma`` at step t.

    :param net: network to follow; its weights are copied.
    :param width: relative standard deviation of the profile: 0.05 averages over the last part of
        the run, 0.1 over more of it.
    """

    def __init__(self, net: nn.Module, width: float) -> None:
        self.width = width
        self.gamma = power(width)
        self.net = copy.deepcopy(net).requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Device of the averaged weights."""
        return next(self.net.parameters()).device

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after step ``step``, counted from 1."""
        share = -math.expm1((self.gamma + 1) * math.log1p(-1 / step)) if step > 1 else 1.0
        torch._foreach_lerp_(list(self.net.parameters()), list(net.parameters()), share)
