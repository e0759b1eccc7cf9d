"""Draws from ``p(y | A x) N(x; c, r^2 I)``: exact for a linear operator, Metropolis else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciinv.linalg import row_dot, row_scale
from sciinv.random import RowNoise
from sciinv.solvers.decoupled.descent import descend
from sciinv.solvers.decoupled.potential import Point, Potential
from sciinv.solvers.problem import Problem
from sciinv.solvers.proximal import proximal_draw

# acceptance at which the Metropolis-adjusted Langevin algorithm mixes fastest in many dimensions
# (Roberts, Rosenthal, J. R. Statist. Soc. B 60, 1998)
BEST_ACCEPTANCE = 0.574
# its step for a unit Gaussian in n dimensions, h = l^2 n^(-1/3) / 2 with l = 1.65 (same paper)
_UNIT_STEP = 1.65**2 / 2


@dataclass(frozen=True)
class Chain:
    """How a Metropolis-adjusted Langevin run ended.

    :param x: last states, ``(R, C, ...)``.
    :param step: step size ``h`` of every row after adaptation, ``(R,)`` float64.
    :param acceptance: mean acceptance probability after adaptation, ``(R,)`` float64.
    """

    x: Tensor
    step: Tensor
    acceptance: Tensor


def mala(
    target: Callable[[Tensor], Point],
    start: Point,
    noise: RowNoise,
    *,
    steps: int,
    step: Tensor,
    adapt: int | None = None,
) -> Chain:
    """Run the Metropolis-adjusted Langevin algorithm, each row a chain of its own.

    Proposals ``x' = x - h grad U(x) + sqrt(2 h) z`` are accepted with probability
    ``min(1, exp(U(x) - U(x') + (|x' - x + h g|^2 - |x - x' + h g'|^2) / (4 h)))``, so the target is
    invariant at any step size, while Langevin steps alone enlarge its variance by O(h).
    During the first ``adapt`` steps every row moves its ``log h`` towards the acceptance 0.574;
    afterwards ``h`` is fixed, as invariance demands.

    One evaluation of the target a step; no row looks at another.

    :param target: ``x -> Point`` of the potential ``U``.
    :param steps: proposals.
    :param step: first ``h`` of every row, ``(R,)``, positive.
    :param adapt: half of the steps by default.
    """
    adapt = steps // 2 if adapt is None else adapt
    current = start
    log_h = step.double().log()
    accepted = torch.zeros_like(log_h)
    for number in range(steps):
        h = log_h.exp()
        wide = row_scale((2 * h).sqrt(), current.x)
        z = noise.normal_like(current.x)
        proposal = target(current.x - row_scale(h, current.x) * current.gradient + wide * z)
        back = row_scale(h, z) * (current.gradient + proposal.gradient) - wide * z
        forward_sq, back_sq = 2 * h * row_dot(z, z), row_dot(back, back)
        log_ratio = current.value - proposal.value + (forward_sq - back_sq) / (4 * h)
        # a proposal where U is not a number is refused
        log_ratio = torch.nan_to_num(log_ratio, nan=-torch.inf, posinf=torch.inf)
        # log Phi(z) of a normal number is the logarithm of a uniform one
        uniform = noise.normal((), dtype=torch.float64, device=z.device)
        current = current.replaced(torch.special.log_ndtr(uniform) < log_ratio, proposal)
        probability = log_ratio.clamp_max(0).exp()
        if number < adapt:
            log_h = log_h + 2 * (probability - BEST_ACCEPTANCE) / (number + 1) ** 0.5
        else:
            accepted = accepted + probability / (steps - adapt)
    return Chain(current.x, log_h.exp(), accepted)


def first_step(potential: Potential, point: Point) -> Tensor:
    """Return a first ``h`` for every row: the best one if all curvatures were the same."""
    return _UNIT_STEP * point.x[0].numel() ** (-1 / 3) / potential.curvature(point)


def likelihood_draw(
    problem: Problem,
    centre: Tensor,
    r: float,
    noise: RowNoise,
    *,
    cg: int,
    tol: float,
    langevin: int,
    exact: bool = True,
) -> Tensor:
    """Draw from ``p(y | A x) N(x; c, r^2 I)``, ``(R, C, ...)``.

    For a linear operator and white noise exactly (:func:`~sciinv.solvers.proximal.proximal_draw`).
    Otherwise by :func:`mala`, from a point that a few steps of descent have brought near the data:
    the law that is kept invariant does not depend on it.

    :param centre: ``c``, ``(R, C, ...)``.
    :param r: positive standard deviation around the centre.
    :param cg: most conjugate-gradient iterations, to ``tol``.
    :param langevin: Langevin steps; a fifth as many steps of descent come before them.
    :param exact: False takes Langevin steps for linear operators too.
    """
    if exact and problem.linear_white:
        return proximal_draw(problem, centre, r, noise, max_iter=cg, tol=tol)
    potential = Potential(problem, centre, r)
    near = descend(potential, centre, iterations=langevin // 5)
    return mala(potential.at, near, noise, steps=langevin, step=first_step(potential, near)).x
