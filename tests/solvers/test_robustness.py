"""Denoisers that are wrong by 5 and 10 %: their Jacobians are neither symmetric nor positive."""

from __future__ import annotations

import pytest
import torch

from sciinv.solvers import LGD, MMT, TMPD, MomentMatching, PiGDM
from sciinv.solvers.krylov import floored_update
from sciinv.solvers.truth import exact_problem

PROBLEM = exact_problem("mri", (8, 8), scans=2)


def perturbed(share: float):  # noqa: ANN201
    """``D`` plus an error of ``share`` times its own uncertainty, rough in ``x``."""
    prior = PROBLEM.prior
    size = PROBLEM.truth[0].numel()
    matrix = torch.randn(
        size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ) * (3 / size**0.5)

    def denoiser(x: torch.Tensor, sigma: float) -> torch.Tensor:
        spread = sigma / (1 + sigma**2) ** 0.5  # std of x0 given x for a unit variance
        u = x.flatten(1) / (1 + sigma**2) ** 0.5
        error = torch.tanh(u @ matrix.to(x) * (1 / min(1.0, sigma + 0.1)))
        return prior(x, sigma) + share * spread * error.reshape(x.shape)

    return denoiser


SOLVERS = {
    "MMT": lambda p: MMT(p, steps=20, sigma_max=20.0),
    "MomentMatching": lambda p: MomentMatching(p, steps=20, sigma_max=20.0, sigma_min=0.01),
    "MMT, scalar": lambda p: MMT(p, steps=20, sigma_max=20.0, covariance="scalar"),
    "MMT, diagonal": lambda p: MMT(p, steps=20, sigma_max=20.0, covariance="diagonal"),
    "PiGDM": lambda p: PiGDM(p, steps=40, sigma_max=20.0, sigma_min=0.01),
    "TMPD": lambda p: TMPD(p, steps=40, sigma_max=20.0, sigma_min=0.01),
    "LGD": lambda p: LGD(p, steps=40, draws=4, sigma_max=20.0, sigma_min=0.01),
}


def run(make, denoiser):  # noqa: ANN001, ANN201
    solver = make(denoiser)
    return solver.sample(PROBLEM.y, PROBLEM.physics, 8, generator=0, return_info=True)


@pytest.mark.parametrize("share", [0.05, 0.10])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_perturbed_denoiser_does_not_blow_up(name: str, share: float) -> None:
    samples, info = run(SOLVERS[name], perturbed(share))
    assert float(info.chi_squared.max()) < 3
    spread = PROBLEM.posterior.std
    error = (samples.mean(0) - PROBLEM.posterior.mean) / spread
    # one posterior standard deviation (root mean square), 8 samples alone make 0.35 of it
    assert float(error.square().mean().sqrt()) < 1.0


def test_plain_conjugate_gradients_blow_up_where_the_floored_solve_does_not() -> None:
    n, m, s, sigma, count = 40, 25, 1.0, 0.05, 15
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    q, _ = torch.linalg.qr(normal(n, n))
    eigenvalues = torch.logspace(-3, 0, n, dtype=torch.float64)
    exact = (q * eigenvalues) @ q.T
    wrong = exact + 0.1 * normal(n, n) / n**0.5
    a = normal(m, n) / n**0.5
    x0 = s * normal(20, n) @ (q * eigenvalues.sqrt()) @ q.T
    rho = x0 @ a.T + sigma * normal(20, m)
    system = sigma**2 * torch.eye(m, dtype=torch.float64) + s**2 * a @ exact @ a.T
    truth = s**2 * torch.linalg.solve(system, rho.T).T @ a @ exact

    def error(update: torch.Tensor) -> float:
        return float(((update - truth).norm(dim=1) / truth.norm(dim=1)).max())

    def plain(j: torch.Tensor) -> torch.Tensor:
        w, r = torch.zeros_like(rho), rho
        p, rr = r, r.square().sum(1, keepdim=True)
        for _ in range(count):
            ap = sigma**2 * p + s**2 * (p @ a) @ j.T @ a.T
            alpha = rr / (p * ap).sum(1, keepdim=True)
            w, r = w + alpha * p, r - alpha * ap
            new = r.square().sum(1, keepdim=True)
            p, rr = r + new / rr * p, new
        return s**2 * (w @ a) @ j.T

    def floored(j: torch.Tensor) -> torch.Tensor:
        return floored_update(
            lambda v: v @ j.T, lambda v: v @ (a.T @ a), rho @ a, s=s, sigma=sigma, count=count
        )

    assert error(plain(exact)) < 0.1  # both are right for an exact Jacobian
    assert error(floored(exact)) < 0.1
    assert error(floored(wrong)) < 2
    assert error(plain(wrong)) > 1e3
