"""The power-function average against its definition."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from sciinv.training.average import PowerAverage, power


@pytest.mark.parametrize("width", [0.02, 0.05, 0.1, 0.2])
def test_profile_has_the_asked_for_width(width: float) -> None:
    gamma = power(width)
    mean = (gamma + 1) / (gamma + 2)
    variance = (gamma + 1) / (gamma + 3) - mean**2
    assert math.sqrt(variance) == pytest.approx(width, rel=1e-9)


@pytest.mark.parametrize("width", [0.05, 0.15])
def test_average_is_the_weighted_sum(width: float) -> None:
    torch.manual_seed(0)
    net = nn.Linear(3, 2).double()
    average = PowerAverage(net, width)
    history = []
    steps = 37
    for step in range(1, steps + 1):
        with torch.no_grad():
            for value in net.parameters():
                value.add_(torch.randn_like(value))
        average.update(net, step)
        history.append(copy.deepcopy(net.state_dict()))
    # weights t^gamma, integrated over each step
    rise = average.gamma + 1
    weights = [(t / steps) ** rise - ((t - 1) / steps) ** rise for t in range(1, steps + 1)]
    assert sum(weights) == pytest.approx(1)
    for name, value in average.net.state_dict().items():
        expected = sum(w * state[name] for w, state in zip(weights, history, strict=True))
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


def test_average_does_not_follow_gradients() -> None:
    net = nn.Linear(2, 2)
    average = PowerAverage(net, 0.1)
    assert not any(p.requires_grad for p in average.net.parameters())
    before = average.net.weight.clone()
    with torch.no_grad():
        net.weight.add_(1.0)
    assert torch.equal(average.net.weight, before)
