"""The negative log density that a data step samples or minimises, for any likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciinv.linalg import row_dot, row_scale
from sciinv.solvers.problem import Problem


@dataclass(frozen=True)
class Point:
    """An image with the value and the gradient of the potential there, one per row.

    :param x: ``(R, C, ...)``.
    :param value: ``(R,)`` float64.
    :param gradient: ``(R, C, ...)``.
    :param ax: ``A x``, ``(R, ...)``.
    :param square: ``|y - A x|^2 / sigma^2`` of white noise, ``(R,)`` float64.
    """

    x: Tensor
    value: Tensor
    gradient: Tensor
    ax: Tensor
    square: Tensor | None = None

    def replaced(self, rows: Tensor, other: Point) -> Point:
        """Return this point with the rows of ``other`` where ``rows`` (``(R,)`` bool) is set."""

        def choose(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(rows.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        return Point(
            choose(other.x, self.x),
            choose(other.value, self.value),
            choose(other.gradient, self.gradient),
            choose(other.ax, self.ax),
            None if self.square is None or other.square is None
            else choose(other.square, self.square),
        )  # fmt: skip


class Potential:
    """``U(x) = -log p(y | A x) + |x - c|^2 / (2 r^2)``; without a centre the first term alone.

    Costs one A and one vector-Jacobian product of A a call.

    :param centre: ``c``, ``(R, C, ...)``.
    :param r: positive standard deviation around the centre.
    """

    def __init__(
        self, problem: Problem, centre: Tensor | None = None, r: float = float("inf")
    ) -> None:
        self.problem = problem
        self.centre = centre
        self.r = r

    def at(self, x: Tensor) -> Point:
        """Evaluate."""
        problem, likelihood = self.problem, self.problem.likelihood
        ax = problem.A(x)
        square = None
        if problem.white:
            # one pass over the measurements, which may be many times the image
            residual = problem.residual(ax)
            square = row_dot(residual, residual) / problem.sigma**2
            value = square / 2 + problem.count * math.log(problem.sigma * math.sqrt(2 * math.pi))
            gradient = -problem.vjp(x, residual) / problem.sigma**2
        else:
            terms = problem.masked(likelihood.log_prob_terms(problem.y, ax))
            value = -terms.flatten(1).sum(1)
            gradient = -problem.vjp(x, problem.masked(likelihood.gradient(problem.y, ax)))
        if self.centre is not None:
            away = x - self.centre
            value = value + row_dot(away, away) / (2 * self.r**2)
            gradient = gradient + away / self.r**2
        return Point(x, value, gradient, ax, square)

    def misfit(self, point: Point) -> Tensor:
        """Squared residual over its expectation, ``(R,)`` float64; 1 fits to the noise."""
        problem, likelihood = self.problem, self.problem.likelihood
        if point.square is not None:
            return point.square / problem.count
        square = problem.masked(likelihood.residual(problem.y, point.ax)).double().square()
        expected = problem.masked(likelihood.expected_square(point.ax)).double()
        return square.flatten(1).sum(1) / expected.flatten(1).sum(1).clamp_min(1e-300)

    def curvature(self, point: Point) -> Tensor:
        """Second derivative along the gradient, ``(R,)`` float64, by a finite difference.

        It is positive and at least ``1 / r^2``; a scale for step sizes, not an exact number.
        """
        n = point.x[0].numel()
        length = row_dot(point.gradient, point.gradient).sqrt()
        # a thousandth of the image, or of one whose components are about 1 or vary by r: far above
        # rounding and small for the operator, also where the image is zero
        spread = min(self.r, 1.0) * n**0.5
        distance = 1e-3 * row_dot(point.x, point.x).sqrt().clamp_min(spread)
        factor = torch.where(length > 0, distance / length.clamp_min(1e-300), 0.0)
        moved = self.at(point.x - row_scale(factor, point.x) * point.gradient)
        change = moved.gradient - point.gradient
        found = row_dot(change, change).sqrt() / distance
        floor = 0.0 if self.centre is None else 1 / self.r**2
        return found.clamp_min(max(floor, 1e-300))
