"""Integrators on equations with known solutions, and the grids of noise levels."""

from __future__ import annotations

import math

import pytest
import torch

from sciinv.random import RowNoise
from sciinv.solvers import DDIM, Ancestral, Euler, Heun
from sciinv.solvers.integrators import resolve_integrator
from sciinv.solvers.schedule import edm_sigmas, vp_sigmas


def noise(rows: int = 1, seed: int = 0) -> RowNoise:
    return RowNoise([torch.Generator().manual_seed(seed + i) for i in range(rows)])


def unit_gaussian(x: torch.Tensor, s: float, s_next: float) -> torch.Tensor:
    """``D`` of the prior N(0, 1): the flow is ``x(s) = x(S) sqrt((1 + s^2) / (1 + S^2))``."""
    return x / (1 + s**2)


def flow_error(integrator, steps: int) -> float:  # noqa: ANN001
    levels = [10 * (0.1 / 10) ** (i / steps) for i in range(steps + 1)]
    x = torch.tensor([[3.0]], dtype=torch.float64)
    for s, s_next in zip(levels, levels[1:], strict=False):
        x = integrator(unit_gaussian, x, s, s_next, noise())
    return abs(float(x) - 3.0 * math.sqrt((1 + 0.1**2) / (1 + 10**2)))


@pytest.mark.parametrize(("integrator", "order"), [(Euler(), 1), (Heun(), 2)])
def test_order_of_convergence(integrator: object, order: int) -> None:
    ratio = flow_error(integrator, 100) / flow_error(integrator, 200)
    assert 2**order * 0.9 < ratio < 2**order * 1.1


def test_ddim_without_noise_is_euler() -> None:
    x = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    euler = Euler()(unit_gaussian, x, 2.0, 0.7, noise(2))
    assert torch.allclose(DDIM(0.0)(unit_gaussian, x, 2.0, 0.7, noise(2)), euler, rtol=1e-14)


def test_full_ddim_is_the_ancestral_posterior() -> None:
    # q(x' | x, x0 = d) = N(a x + (1-a) d, s'^2 (1-a)), a = (s'/s)^2
    s, s_next, rows = 2.0, 0.7, 4
    a = (s_next / s) ** 2
    x = torch.full((rows, 1, 5000), 1.5, dtype=torch.float64)
    mean = a * x + (1 - a) * x / (1 + s**2)
    for integrator in (DDIM(1.0), Ancestral()):
        drawn = integrator(unit_gaussian, x, s, s_next, noise(rows)) - mean
        std = s_next * math.sqrt(1 - a)
        # 20,000 draws: five standard errors of the mean and of the variance
        assert abs(float(drawn.mean())) < 5 * std / math.sqrt(20000)
        assert abs(float(drawn.var()) / std**2 - 1) < 5 * math.sqrt(2 / 20000)


def test_last_step_returns_the_estimate() -> None:
    x = torch.ones(1, 1, 3, dtype=torch.float64)
    for integrator in (Euler(), Heun(), DDIM(0.5), Ancestral()):
        assert torch.allclose(
            integrator(unit_gaussian, x, 0.5, 0.0, noise()), unit_gaussian(x, 0.5, 0.0)
        )


def test_names() -> None:
    assert resolve_integrator("heun") == Heun()
    assert resolve_integrator(DDIM(0.3)) == DDIM(0.3)
    with pytest.raises(ValueError, match=r"found 'rk4', expected one of euler, heun"):
        resolve_integrator("rk4")


@pytest.mark.parametrize("grid", [edm_sigmas, vp_sigmas])
def test_grids_fall_from_the_largest_to_the_smallest_level_and_zero(grid) -> None:  # noqa: ANN001
    levels = grid(9, 0.01, 50.0)
    assert len(levels) == 10
    assert levels[0] == pytest.approx(50.0, rel=1e-9)
    assert levels[-2] == pytest.approx(0.01, rel=1e-9)
    assert levels[-1] == 0.0
    assert all(high > low for high, low in zip(levels, levels[1:], strict=False))
    assert grid(1, 0.01, 50.0) == [50.0, 0.0]


def test_edm_grid_is_the_published_one() -> None:
    # Karras et al. eq. 5 worked by hand for three levels: the middle one is the mean of the roots
    middle = ((80.0 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7
    assert edm_sigmas(3, 0.002, 80.0)[1] == pytest.approx(middle, rel=1e-12)


@pytest.mark.parametrize("bad", [(0, 0.1, 1.0), (5, 0.0, 1.0), (5, 2.0, 1.0), (5, 0.1, math.inf)])
def test_impossible_grids_are_refused(bad: tuple[int, float, float]) -> None:
    for grid in (edm_sigmas, vp_sigmas):
        with pytest.raises(ValueError, match="expected"):
            grid(*bad)
