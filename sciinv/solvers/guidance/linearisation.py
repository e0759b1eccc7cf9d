"""Any differentiable operator and any likelihood as a linear Gaussian problem around an image.

Around ``x`` the log likelihood is taken as
``g^T (v - x) - (v - x)^T H (v - x) / 2`` with its gradient ``g = A'^T grad log p`` and the
Gauss-Newton curvature ``H = A'^T W A'``, ``W`` the Fisher information of every measured component
(Fisher scoring). For white Gaussian noise and a linear operator nothing is approximated.
"""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.linalg import row_dot, row_scale
from sciinv.random import RowNoise
from sciinv.solvers.krylov import Map, floored_solve
from sciinv.solvers.problem import Problem

# the smallest share of a Gauss-Newton step that is tried is 2^-10
_HALVINGS = 10


def jvp(problem: Problem, x: Tensor, v: Tensor) -> Tensor:
    """Return ``A'(x) v`` of every row.

    Forward differentiation; for an operator that only knows its transposed product the transpose
    of that.
    """
    physics = problem.physics
    if isinstance(physics, LinearPhysics):
        return physics.A(v)
    try:
        tangent: Tensor = torch.func.jvp(physics.A, (x,), (v,))[1]
    except (NotImplementedError, RuntimeError):
        with torch.enable_grad():
            zero = torch.zeros_like(problem.y).requires_grad_(True)
            product = physics.A_vjp(x, zero)
            (tangent,) = torch.autograd.grad(product, zero, v)
    return tangent.detach()


class QuadraticModel:
    """The log likelihood of a block of rows around one image, and what is solved with it.

    :param problem: any differentiable operator and likelihood.
    :param at: image to linearise at, ``(R, C, ...)``.
    """

    def __init__(self, problem: Problem, at: Tensor) -> None:
        self.problem = problem
        self.at = at
        likelihood = problem.likelihood
        with torch.no_grad():
            ax = problem.A(at)
            self.weight = problem.masked(likelihood.information(ax))
            residual = problem.masked(likelihood.gradient(problem.y, ax))
            self.gradient = problem.vjp(at, residual).contiguous()

    def normal(self, v: Tensor) -> Tensor:
        """Return ``H v = A'^T W A' v``."""
        product = self.weight * jvp(self.problem, self.at, v)
        with torch.no_grad():
            return self.problem.vjp(self.at, product).contiguous()

    def draw(self, noise: RowNoise) -> Tensor:
        """Draw from ``N(0, H)``: the gradient of the likelihood at the truth, ``A'^T W^1/2 z``."""
        y = self.problem.y
        z = self.problem.measurement_noise(noise, y)
        with torch.no_grad():
            return self.problem.vjp(self.at, self.weight.sqrt() * z).contiguous()

    def about(self, centre: Tensor) -> Tensor:
        """Return the gradient of the model at another image, ``g + H (at - centre)``."""
        return self.gradient + self.normal(self.at - centre)


def log_likelihood(problem: Problem, x: Tensor) -> Tensor:
    """Return ``log p(y | A x)`` of every row, ``(R,)`` float64, of what was measured."""
    with torch.no_grad():
        terms = problem.likelihood.log_prob_terms(problem.y, problem.A(x))
    return problem.masked(terms).flatten(1).sum(1)


def conditional_shift(
    problem: Problem,
    covariance: Map,
    centre: Tensor,
    *,
    s: float,
    krylov: int,
    newton: int,
    bound: Tensor | None = None,
) -> Tensor:
    """Return the step from ``centre`` to the most likely image given the data, ``(R, C, ...)``.

    For ``x0 ~ N(centre, V)`` with ``V = s^2 J`` and a quadratic log likelihood this is the exact
    mean, from one linear system. Otherwise every one of the ``newton`` Gauss-Newton steps
    linearises at the image reached so far, and is halved, row by row, until
    ``-log p(y | x) + (x - centre)^T V^-1 (x - centre) / 2`` falls; a test of all rows after each
    halving costs one synchronisation and saves operator calls.

    :param covariance: ``v -> J v``.
    :param centre: mean of ``x0``, ``(R, C, ...)``.
    :param s: noise level.
    :param krylov: dimension of the Krylov space of each system.
    :param newton: number of Gauss-Newton steps, at least 1.
    :param bound: of the eigenvalues of ``J``, see :func:`sciinv.solvers.krylov.floored_solve`.
    """

    def solve(normal: Map, rhs: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        return floored_solve(
            covariance, normal, rhs, s=s, sigma=sigma, count=krylov, jacobian_bound=bound
        )

    if problem.linear_white:
        return solve(problem.normal, problem.aty - problem.normal(centre), problem.sigma)[1]
    model = QuadraticModel(problem, centre)
    if problem.quadratic:
        return solve(model.normal, model.gradient, 1.0)[1]
    p, shift = torch.zeros_like(centre), torch.zeros_like(centre)
    for number in range(newton):
        if number > 0:
            model = QuadraticModel(problem, centre + shift)
        rhs = model.gradient if number == 0 else model.about(centre)
        p_new, shift_new = solve(model.normal, rhs, 1.0)
        share = _accepted_share(problem, centre, (p, shift), (p_new, shift_new))
        weight = row_scale(share, p)
        p, shift = p + weight * (p_new - p), shift + weight * (shift_new - shift)
    return shift


def _accepted_share(
    problem: Problem,
    centre: Tensor,
    old: tuple[Tensor, Tensor],
    new: tuple[Tensor, Tensor],
) -> Tensor:
    """Return how much of the step from ``old`` to ``new`` lowers the objective, ``(R,)``."""
    # (x - centre)^T V^-1 (x - centre) = p^T V p; a learned V can make it negative
    both = row_dot(old[0], new[1])
    first = row_dot(*old).clamp_min(0)
    last = row_dot(*new).clamp_min(0)

    def objective(t: Tensor) -> Tensor:
        weight = row_scale(t, centre)
        x = centre + old[1] + weight * (new[1] - old[1])
        energy = (1 - t) ** 2 * first + 2 * t * (1 - t) * both + t**2 * last
        return energy / 2 - log_likelihood(problem, x)

    share = torch.ones_like(last)
    before = objective(torch.zeros_like(last))
    for _ in range(_HALVINGS):
        # not "<=": a row that is not finite keeps its step and is reported by the loop over levels
        worse = objective(share) > before
        if not bool(worse.any()):
            break
        share = torch.where(worse, share / 2, share)
    return share
