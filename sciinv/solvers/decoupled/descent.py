"""Minimisers of the data misfit, each row with its own step size and its own end."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciinv.linalg import add_rows, host_dot, quick_dot, row_dot, row_scale
from sciinv.solvers.decoupled.potential import Point, Potential
from sciinv.solvers.problem import Problem

# longest move of a component, in units where images have a standard deviation of about 1: where few
# counts are expected the gradient is huge and says nothing of the distance
_REACH = 1.0


def descend(
    potential: Potential, start: Tensor, *, iterations: int, to_noise: bool = False
) -> Point:
    """Minimise a potential by gradient descent with Barzilai and Borwein's step.

    A trial that does not lower the potential (Armijo's rule) is refused and the row's step cut to a
    quarter, so every row's potential falls monotonically. No component moves by more than 1 a step.
    Barzilai, Borwein, IMA J. Numer. Anal. 8, 1988.

    :param start: ``(R, C, ...)``.
    :param iterations: evaluations of the potential.
    :param to_noise: a row ends once its squared residual is what noise alone explains.
    """
    point = potential.at(start)
    if iterations < 1:
        return point
    step = 1 / potential.curvature(point)
    for _ in range(iterations):
        active = torch.ones_like(step, dtype=torch.bool)
        if to_noise:
            active = potential.misfit(point) > 1
            # one host synchronisation an iteration; it saves whole operator calls
            if not bool(active.any()):
                break
        peak = point.gradient.flatten(1).abs().amax(1).double().clamp_min(1e-300)
        step = torch.minimum(step, _REACH / peak)
        trial = potential.at(point.x - row_scale(step, point.x) * point.gradient)
        slope = row_dot(point.gradient, point.gradient)
        better = trial.value <= point.value - 1e-4 * step * slope
        change = trial.gradient - point.gradient
        # <dx, dg> with dx = -step * gradient
        bent = -step * row_dot(point.gradient, change)
        longer = torch.where(bent > 0, step**2 * slope / bent.clamp_min(1e-300), 4 * step)
        longer = longer.clamp(min=step / 100, max=step * 100)
        step = torch.where(active, torch.where(better, longer, step / 4), step)
        point = point.replaced(active & better, trial)
    return point


def fit_to_noise(problem: Problem, start: Tensor, *, iterations: int) -> Tensor:
    """Move an image as little as needed until the data fit to the noise.

    Minimises the misfit from ``start`` and ends, row by row, where it reaches 1 (Morozov's
    discrepancy principle): going on would fit the noise. For a linear operator and white noise by
    conjugate gradients on the normal equations, the last step of each row shortened to end exactly
    there; otherwise by :func:`descend`.

    :param start: ``(R, C, ...)``; a row that fits already is returned as it is.
    :param iterations: at most; A^T A, or A and its vjp, once an iteration.
    """
    if not problem.linear_white:
        return descend(Potential(problem), start, iterations=iterations, to_noise=True).x
    x = start.clone()
    nx = problem.normal(x)
    r = problem.aty - nx  # A^T (y - A x)
    # |y - A x|^2 - m sigma^2, what is left to explain
    excess = (problem.residual_sq(x, nx) - problem.count * problem.sigma**2).tolist()
    floor = (1e-14 * problem.yy).tolist()
    p = r.clone()
    # numbers of each row: on the CPU lists at once, elsewhere tensors that are read together
    host = x.device.type == "cpu"
    rr: list[float] | Tensor = host_dot(r, r) if host else quick_dot(r, r)
    for _ in range(iterations):
        if not any(left > least for left, least in zip(excess, floor, strict=True)):
            break
        ap = problem.normal(p)
        if isinstance(rr, Tensor):
            # one host synchronisation an iteration; it saves whole operator calls
            slopes, bends = torch.stack([rr, quick_dot(p, ap)]).tolist()
        else:
            slopes, bends = rr, host_dot(p, ap)
        alpha = [0.0] * len(slopes)
        for row, (slope, bend) in enumerate(zip(slopes, bends, strict=True)):
            if excess[row] > floor[row] and slope > 0 and bend > 0:
                alpha[row], excess[row] = _line_step(slope, bend, excess[row])
        add_rows(x, alpha, p, out=x)
        add_rows(r, [-a for a in alpha], ap, out=r)
        beta: list[float] | Tensor
        if isinstance(rr, Tensor):
            new = quick_dot(r, r)
            beta, rr = new / rr.clamp_min(1e-300), new
        else:
            squares = host_dot(r, r)
            beta = [n / max(old, 1e-300) for n, old in zip(squares, rr, strict=True)]
            rr = squares
        add_rows(r, beta, p, out=p)
    return x


def _line_step(slope: float, bend: float, excess: float) -> tuple[float, float]:
    """Return the step along a direction and what is left to explain after it.

    ``|y - A (x + a p)|^2`` falls by ``2 a slope - a^2 bend``, most at ``slope / bend``; the step
    ends before, where nothing is left.
    """
    square = slope**2 - bend * excess
    if square >= 0:
        return excess / (slope + math.sqrt(square)), 0.0
    whole = slope / bend
    return whole, excess - whole * slope
