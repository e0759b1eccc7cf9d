"""What the problem of a block of rows offers: noise where there are data, and its residual."""

from __future__ import annotations

import torch
from deepinv.physics import GaussianNoise

from sciinv.operators import CartesianMRI
from sciinv.random import RowNoise, as_generator, child_generators
from sciinv.solvers.finite import FiniteCheck
from sciinv.solvers.problem import Problem


def scans() -> tuple[torch.Tensor, CartesianMRI]:
    """Two scans that measure different parts of k-space: 12 and 6 of 36 positions."""
    mask = torch.zeros(2, 6, 6)
    mask[0, :, :2] = 1
    mask[1, :, 3] = 1
    physics = CartesianMRI((6, 6), mask, noise_model=GaussianNoise(0.1))
    x = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    return physics.A(x), physics


def noise(rows: list[int]) -> RowNoise:
    children = child_generators(as_generator(3), 4)
    return RowNoise([children[row] for row in rows])


def test_noise_is_drawn_where_there_are_data() -> None:
    y, physics = scans()
    problem = Problem(y, physics, torch.tensor([0, 1, 0, 1]), 0.1)
    z = problem.measurement_noise(noise([0, 1, 2, 3]), y)
    mask = physics.measurement_mask.expand(y.shape)[problem.scan_of_row] != 0
    assert z.shape == (4, *y.shape[1:])
    assert bool((z[~mask] == 0).all())
    assert bool((z[mask] != 0).all())


def test_noise_of_a_row_does_not_depend_on_the_block() -> None:
    y, physics = scans()
    whole = Problem(y, physics, torch.tensor([0, 1, 0, 1]), 0.1)
    together = whole.measurement_noise(noise([0, 1, 2, 3]), y)
    for row in range(4):
        alone = Problem(y, physics, torch.tensor([row % 2]), 0.1)
        assert torch.equal(alone.measurement_noise(noise([row]), y), together[row : row + 1])


def test_noise_is_standard_normal() -> None:
    y, physics = scans()
    problem = Problem(y, physics, torch.zeros(1, dtype=torch.long), 0.1)
    source = noise([0])
    draws = torch.cat([problem.measurement_noise(source, y) for _ in range(2000)])
    measured = draws.flatten(1)[:, problem._measured[0]]
    # 48,000 draws: five standard errors of the mean and of the variance
    assert measured.numel() == 48_000
    assert abs(float(measured.mean())) < 5 / 48_000**0.5
    assert abs(float(measured.var()) - 1) < 5 * (2 / 48_000) ** 0.5


def test_the_residual_is_zero_where_nothing_was_measured() -> None:
    y, physics = scans()
    spoiled = torch.where(physics.measurement_mask.expand(y.shape) != 0, y, 7.0)
    problem = Problem(spoiled, physics, torch.tensor([0, 1]), 0.1)
    x = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    found = problem.residual(problem.A(x))
    assert torch.allclose(found, y - physics.A(x), atol=1e-6)


def test_a_finite_state_whose_sum_overflows_passes() -> None:
    check = FiniteCheck("X", [1.0, 0.0], deferred=False)
    check.look(torch.full((1, 1, 4, 4), 3e38), 1, lambda: "never asked")
