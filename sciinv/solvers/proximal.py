"""Data steps of decoupled methods: a Gaussian around a centre meets the measurements.

``p(x | c, y)`` is proportional to ``exp(-|A x - y|^2 / (2 sigma^2) - |x - c|^2 / (2 r^2))`` for a
linear operator and white noise; its mean and draws need one linear system on image-sized vectors.
"""

from __future__ import annotations

from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.random import RowNoise
from sciinv.solvers.problem import Problem


def is_quadratic(problem: Problem) -> bool:
    """Tell whether the data term is a quadratic form: linear operator, white Gaussian noise."""
    return problem.white and isinstance(problem.physics, LinearPhysics)


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
    z = noise.normal(problem.measurement_shape, dtype=centre.dtype, device=centre.device)
    data = problem.aty + problem.sigma * problem.A_adjoint(z)
    return problem.solve(tau, data + tau * moved, moved, max_iter=max_iter, tol=tol)
