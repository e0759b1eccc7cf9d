"""The small Krylov solves against dense algebra, and the floor that keeps them bounded."""

from __future__ import annotations

import pytest
import torch

from sciinv.solvers.krylov import floored_update, sqrt_times

N, M, ROWS = 12, 8, 3
S, SIGMA = 1.3, 0.2


def spd(generator: torch.Generator, size: int = N, low: float = 0.05) -> torch.Tensor:
    """A symmetric matrix with eigenvalues between ``low`` and 1, as a denoiser's Jacobian."""
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return (q * torch.linspace(low, 1, size, dtype=torch.float64)) @ q.T


def setting(seed: int = 0):  # noqa: ANN201
    g = torch.Generator().manual_seed(seed)
    j = spd(g)
    a = torch.randn(M, N, generator=g, dtype=torch.float64) / N**0.5
    rho = torch.randn(ROWS, M, generator=g, dtype=torch.float64)
    return j, a, rho


def update(j: torch.Tensor, a: torch.Tensor, rho: torch.Tensor, count: int, **options):  # noqa: ANN003, ANN201
    return floored_update(
        lambda v: v @ j.T,
        lambda v: v @ (a.T @ a),
        rho @ a,
        s=options.pop("s", S),
        sigma=SIGMA,
        count=count,
        **options,
    )


def dense(j: torch.Tensor, a: torch.Tensor, rho: torch.Tensor, s: float = S) -> torch.Tensor:
    system = SIGMA**2 * torch.eye(M, dtype=torch.float64) + s**2 * a @ j @ a.T
    return s**2 * torch.linalg.solve(system, rho.T).T @ a @ j.T


@pytest.mark.parametrize("s", [80.0, 1.3, 0.02])
def test_full_space_equals_the_dense_solve(s: float) -> None:
    j, a, rho = setting()
    exact = dense(j, a, rho, s)
    found = update(j, a, rho, N, s=s)
    assert float((found - exact).norm() / exact.norm()) < 1e-10


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_equals_preconditioned_conjugate_gradients(count: int) -> None:
    j, a, rho = setting(1)
    found = update(j, a, rho, count)
    # (J^-1 / s^2 + A^T A / sigma^2) d = A^T rho / sigma^2, preconditioned by s^2 J
    precision = torch.linalg.inv(j) / S**2 + a.T @ a / SIGMA**2
    for row in range(ROWS):
        b = rho[row] @ a / SIGMA**2
        d, r = torch.zeros_like(b), b
        z = S**2 * j @ r
        p = z
        for _ in range(count):
            step = (r @ z) / (p @ precision @ p)
            d = d + step * p
            r_new = r - step * precision @ p
            z_new = S**2 * j @ r_new
            p = z_new + (r_new @ z_new) / (r @ z) * p
            r, z = r_new, z_new
        assert float((found[row] - d).norm() / d.norm()) < 1e-9


def test_the_floor_is_inactive_for_a_symmetric_jacobian_below_the_bound() -> None:
    j, a, rho = setting(2)
    tight = update(j, a, rho, 5, jacobian_bound=torch.ones(ROWS, dtype=torch.float64))
    loose = update(j, a, rho, 5, jacobian_bound=torch.full((ROWS,), 1e12, dtype=torch.float64))
    assert float((tight - loose).norm() / loose.norm()) < 1e-9


def test_the_floor_bounds_the_update_of_an_indefinite_jacobian() -> None:
    # without a floor the system of this Jacobian is nearly singular by construction
    j, a, rho = setting(3)
    values, vectors = torch.linalg.eigh(j)
    values[:4] = -values[:4]
    bad = (vectors * values) @ vectors.T
    floored = update(bad, a, rho, N, jacobian_bound=torch.full((ROWS,), 2.0).double())
    # with p^T J p >= |J p|^2 / b the update is at most b s^2 |A^T rho| / sigma^2
    limit = 2 * S**2 / SIGMA**2 * (rho @ a).norm(dim=1)
    assert bool((floored.norm(dim=1) <= limit).all())


def test_a_space_that_closes_early_is_no_trouble() -> None:
    j, a, _ = setting(4)
    identity = torch.eye(N, dtype=torch.float64)
    a2 = torch.zeros_like(a)
    a2[0, 0] = 1.0  # one measured pixel: the space has one dimension
    rho = torch.ones(ROWS, M, dtype=torch.float64)
    found = update(identity, a2, rho, 8)
    assert torch.allclose(found, dense(identity, a2, rho), atol=1e-12)
    assert float(update(j, a, torch.zeros(ROWS, M, dtype=torch.float64), 4).abs().max()) == 0


def test_rows_do_not_see_each_other() -> None:
    j, a, rho = setting(5)
    rho[1] *= 1e6
    together = update(j, a, rho, 5)
    alone = update(j, a, rho[:1], 5)
    assert torch.allclose(together[:1], alone, rtol=1e-10, atol=1e-12)


def test_root_equals_the_dense_root() -> None:
    g = torch.Generator().manual_seed(6)
    j = spd(g)
    z = torch.randn(ROWS, N, generator=g, dtype=torch.float64)
    root, largest = sqrt_times(lambda v: v @ j.T, z, N)
    values, vectors = torch.linalg.eigh(j)
    exact = z @ (vectors * values.sqrt()) @ vectors.T
    assert float((root - exact).norm() / exact.norm()) < 1e-10
    assert torch.allclose(largest, torch.ones(ROWS, dtype=torch.float64))


def test_root_takes_negative_ritz_values_as_zero() -> None:
    z = torch.ones(1, 2, dtype=torch.float64)
    diagonal = torch.tensor([4.0, -1.0], dtype=torch.float64)
    root, _ = sqrt_times(lambda v: v * diagonal, z, 2)
    assert torch.allclose(root, torch.tensor([[2.0, 0.0]], dtype=torch.float64), atol=1e-12)


def test_three_products_give_the_root_of_a_smooth_spectrum() -> None:
    # the default of MMT: the error of the spread is small next to the spread itself
    g = torch.Generator().manual_seed(7)
    j = spd(g, 60, low=0.3)
    z = torch.randn(4, 60, generator=g, dtype=torch.float64)
    root, _ = sqrt_times(lambda v: v @ j.T, z, 3)
    values, vectors = torch.linalg.eigh(j)
    exact = z @ (vectors * values.sqrt()) @ vectors.T
    assert float((root - exact).norm() / exact.norm()) < 0.01
