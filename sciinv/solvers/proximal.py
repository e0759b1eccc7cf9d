"""Data steps of decoupled methods: a Gaussian around a centre meets the measurements.

``p(x | c, y)`` is proportional to ``exp(-|A x - y|^2 / (2 sigma^2) - |x - c|^2 / (2 r^2))`` for a
linear operator and white noise; its mean and draws need one linear system on image-sized vectors.
"""

from __future__ import annotations

from torch import Tensor

from sciinv.random import RowNoise
from sciinv.solvers.krylov import Map, floored_update
from sciinv.solvers.problem import Problem


def proximal_mean(
    problem: Problem, centre: Tensor, r: float, *, max_iter: int, tol: float = 1e-4
) -> Tensor:
    """Return the mean (and maximum) of ``p(x | c, y)``, ``(R, C, ...)``.

    :param centre: ``c``, ``(R, C, ...)``; conjugate gradients start from it.
    :param r: positive standard deviation around the centre.
    """
    tau = (problem.sigma / r) ** 2
    return problem.solve(tau, problem.aty + tau * centre, centre, max_iter=max_iter, tol=tol)


def proximal_draw(
    problem: Problem,
    centre: Tensor,
    r: float,
    noise: RowNoise,
    *,
    max_iter: int,
    tol: float = 1e-4,
) -> Tensor:
    """Draw from ``p(x | c, y)`` exactly (to ``tol``): perturb centre and data, then solve.

    Papandreou, Yuille, Gaussian Sampling by Local Perturbations, NeurIPS 2010.
    """
    tau = (problem.sigma / r) ** 2
    moved = centre + r * noise.normal_like(centre)
    z = problem.measurement_noise(noise, centre)
    data = problem.aty + problem.sigma * problem.A_adjoint(z)
    return problem.solve(tau, data + tau * moved, moved, max_iter=max_iter, tol=tol)


def moment_draw(
    d: Tensor,
    spread: Tensor,
    jacobian: Map,
    problem: Problem,
    noise: RowNoise,
    *,
    s: float,
    krylov: int,
    bound: Tensor | None = None,
) -> Tensor:
    """Draw from ``N(d, V)`` given the data, ``V = s^2 J``, by Matheron's rule, ``(R, C, ...)``.

    :param spread: a draw from ``N(0, V)``.
    :param jacobian: ``v -> J v``.
    :param krylov: dimension of the space of the data system.
    :param bound: of the eigenvalues of ``J``, see :func:`sciinv.solvers.krylov.floored_update`.
    """
    proposal = d + spread
    z = problem.measurement_noise(noise, d)
    data = problem.aty + problem.sigma * problem.A_adjoint(z)  # A^T (y + sigma_y z)
    return proposal + floored_update(
        jacobian,
        problem.normal,
        data - problem.normal(proposal),
        s=s,
        sigma=problem.sigma,
        count=krylov,
        jacobian_bound=bound,
    )
