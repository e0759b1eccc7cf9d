"""Every row is its own problem: conjugate gradients and random numbers."""

from __future__ import annotations

import pytest
import torch

from sciinv.linalg import conjugate_gradient, quick_dot, row_dot, row_scale
from sciinv.random import RowNoise, as_generator, child_generators


def spd() -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(10, 10, generator=g, dtype=torch.float64)
    return a @ a.T + 0.5 * torch.eye(10, dtype=torch.float64)


def test_conjugate_gradient_solves() -> None:
    a = spd()
    b = torch.randn(3, 1, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, info = conjugate_gradient(lambda v: v @ a, b, max_iter=40, tol=1e-12)
    exact = torch.linalg.solve(a, b.reshape(3, 10).T).T.reshape(b.shape)
    assert float((x - exact).norm() / exact.norm()) < 1e-10
    assert float(info.relative_residual.max()) < 1e-12


def test_a_row_of_conjugate_gradients_ignores_its_neighbours() -> None:
    a = spd()
    b = torch.randn(3, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    b[1] *= 1e8
    b[2] = 0
    together, _ = conjugate_gradient(lambda v: v @ a, b, max_iter=4, tol=1e-3)
    for row in range(3):
        alone, _ = conjugate_gradient(lambda v: v @ a, b[row : row + 1], max_iter=4, tol=1e-3)
        assert torch.allclose(together[row : row + 1], alone, rtol=1e-10, atol=1e-12)


def test_a_tolerance_per_row() -> None:
    a = spd()
    b = torch.randn(2, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    _, info = conjugate_gradient(
        lambda v: v @ a, b, max_iter=40, tol=torch.tensor([0.5, 1e-10], dtype=torch.float64)
    )
    assert 1e-6 < float(info.relative_residual[0]) < 0.5
    assert float(info.relative_residual[1]) < 1e-10


def test_a_row_without_positive_curvature_keeps_its_iterate() -> None:
    diagonal = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)
    b = torch.ones(2, 2, dtype=torch.float64)
    x, _ = conjugate_gradient(lambda v: v * diagonal, b, max_iter=5, tol=1e-12)
    assert torch.allclose(x[0], torch.tensor([1.0, 0.5], dtype=torch.float64))
    assert torch.equal(x[1], torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e22])
def test_conjugate_gradient_in_float32_at_any_scale(rows: int, scale: float) -> None:
    # squares of 1e-25 and 1e22 are outside float32
    a = spd().float()
    b = scale * torch.randn(rows, 1, 10, generator=torch.Generator().manual_seed(4))
    x, info = conjugate_gradient(lambda v: v @ a, b, max_iter=60, tol=1e-5)
    exact = torch.linalg.solve(a.double(), b.double().reshape(rows, 10).T).T
    assert float((x.double().reshape(rows, 10) - exact).norm() / exact.norm()) < 1e-3
    assert float(info.relative_residual.max()) < 1e-4


def test_one_row_is_solved_as_many_are() -> None:
    a = spd()
    b = torch.randn(2, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    start = torch.ones_like(b)
    many, _ = conjugate_gradient(lambda v: v @ a, b, start, max_iter=5, tol=1e-12)
    one, info = conjugate_gradient(lambda v: v @ a, b[:1], start[:1], max_iter=5, tol=1e-12)
    assert torch.allclose(one, many[:1], rtol=1e-9)
    assert info.iterations == 5
    assert torch.equal(start, torch.ones_like(b)), "the start was overwritten"


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("where", ["b", "map"])
def test_numbers_that_are_none_spoil_their_row_alone(rows: int, where: str) -> None:
    b = torch.ones(rows, 4, dtype=torch.float64)
    diagonal = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).repeat(rows, 1)
    (b if where == "b" else diagonal)[0, 2] = torch.nan
    x, info = conjugate_gradient(lambda v: v * diagonal, b, max_iter=9, tol=1e-12)
    assert bool(x[0].isnan().all())
    assert bool(info.relative_residual[0].isnan())
    if rows == 2:
        assert torch.allclose(x[1] * diagonal[1], b[1])


def test_a_gradient_goes_through_conjugate_gradients() -> None:
    a = spd()

    def solve(b: torch.Tensor) -> torch.Tensor:
        return conjugate_gradient(lambda v: v @ a, b, max_iter=30, tol=1e-14)[0].sum()

    b = torch.ones(1, 10, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(solve(b), b)
    exact = torch.linalg.solve(a, torch.ones(10, dtype=torch.float64))
    assert torch.allclose(found[0], exact, rtol=1e-6)


def test_a_gradient_reaches_the_parameters_of_the_map() -> None:
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    b = torch.ones(1, 4, dtype=torch.float64)
    x, _ = conjugate_gradient(lambda v: weight * v, b, max_iter=5, tol=1e-12)
    (found,) = torch.autograd.grad(x.sum(), weight)
    assert float(found) == pytest.approx(-1.0)  # d(4 / w) / dw at 2


def test_quick_dot_is_good_to_rounding() -> None:
    x = torch.rand(2, 3, 500_000, generator=torch.Generator().manual_seed(6))
    assert torch.allclose(quick_dot(x, x), row_dot(x, x), rtol=1e-6, atol=0)
    assert quick_dot(x, x).dtype == torch.float64


def test_row_dot_accumulates_in_float64() -> None:
    x = torch.full((1, 4, 250_000), 0.1)
    exact = float(x[0, 0, 0].double() ** 2) * 1_000_000
    assert abs(float(row_dot(x, x)) / exact - 1) < 1e-12
    assert row_scale(torch.tensor([2.0, 3.0]).double(), torch.ones(2, 1, 4)).shape == (2, 1, 1)


def test_noise_of_a_row_is_the_same_whatever_the_number_of_rows() -> None:
    many = RowNoise(child_generators(as_generator(5), 400))
    few = RowNoise(child_generators(as_generator(5), 3))
    for _ in range(2):
        a = many.normal((2, 3), dtype=torch.float64, device=torch.device("cpu"))
        b = few.normal((2, 3), dtype=torch.float64, device=torch.device("cpu"))
        assert torch.equal(a[:3], b)
    assert not torch.equal(a[0], a[1])


def test_float32_and_float64_runs_see_the_same_noise() -> None:
    a, b = (
        RowNoise(child_generators(as_generator(6), 2)).normal_like(torch.zeros(2, 5, dtype=dtype))
        for dtype in (torch.float32, torch.float64)
    )
    assert torch.equal(a.double(), b)


def test_the_global_generator_is_untouched() -> None:
    before = torch.random.get_rng_state()
    RowNoise(child_generators(as_generator(None), 2)).normal_like(torch.zeros(2, 3))
    assert torch.equal(before, torch.random.get_rng_state())


def test_as_generator() -> None:
    g = torch.Generator().manual_seed(1)
    assert as_generator(g) is g
    assert as_generator(3).initial_seed() == 3
    assert as_generator(None).initial_seed() != as_generator(None).initial_seed()
