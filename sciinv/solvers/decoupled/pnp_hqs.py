"""Plug-and-play half-quadratic splitting: a deterministic point estimate."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver, Step
from sciinv.solvers.problem import Prior, Problem


class PnPHQS(Solver):
    r"""Half-quadratic splitting with a denoiser as prior, annealed from coarse to fine.

    At every level :math:`z = D(x, \sigma)`, then

    .. math::
        x = \arg\min_x |Ax-y|^2/\sigma_y^2 + \lambda|x-z|^2/\sigma^2.

    No noise enters: the result is one image, an approximate maximum a posteriori estimate, and all
    samples are equal. On real scans it is a better point estimate than the mean of noisy samplers;
    use :class:`~sciinv.solvers.MMT` for the spread. The levels are spaced logarithmically.

    Cost per step: one forward, up to ``cg`` A^T A.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: levels.
    :param weight: ``lambda``, dimensionless.
    :param cg: largest number of conjugate-gradient iterations of a data step, started from the
        denoised image.
    :param flips: mirror the image along each axis in turn before the denoiser and back after it,
        one flip a step, which averages out the network's preference for a direction.
    :param sigma_max: first level, 0.15 by default: above it the start image knows more.
    :param sigma_min: last level, 0.01 by default.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.LINEAR, Capability.ADJOINT, Capability.GAUSSIAN, Capability.WHITE}
    )
    exact_for: ClassVar[str] = "nothing (a point estimate)"
    reference: ClassVar[str] = (
        "Zhang, Li, Zuo, Zhang, Van Gool, Timofte, Plug-and-Play Image Restoration with Deep "
        "Denoiser Prior, IEEE TPAMI 2021, arXiv 2008.13751"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 32,
        weight: float = 1.0,
        cg: int = 12,
        flips: bool = True,
        sigma_min: float | None = 0.01,
        sigma_max: float | None = 0.15,
        noiseless: bool = False,
    ) -> None:
        super().__init__(
            prior, steps=steps, sigma_min=sigma_min, sigma_max=sigma_max, noiseless=noiseless
        )
        if not weight > 0 or cg < 1:
            raise ValueError(f"weight, cg: found {weight}, {cg}, expected positive numbers")
        self.weight = weight
        self.cg = cg
        self.flips = flips
        self._step = 0

    def levels(self, problem: Problem) -> list[float]:
        """Geometric levels, then 0."""
        grid = super().levels(problem)
        if self.steps == 1:
            return grid
        first, last = grid[0], grid[-2]
        ratio = (last / first) ** (1 / (self.steps - 1))
        return [first * ratio**i for i in range(self.steps)] + [0.0]

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return the start image itself: no noise."""
        self._step = 0
        return start

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Denoise, then solve for the image that fits the data near the denoised one."""
        axes = self._axes(state)
        z = self.evaluate(state.flip(axes) if axes else state, s)
        z = z.flip(axes).contiguous() if axes else z
        tau = self.weight * (problem.sigma / s) ** 2
        x = problem.solve(tau, problem.aty + tau * z, z, max_iter=self.cg)
        return Step(x, x)

    def _axes(self, x: Tensor) -> list[int]:
        """Spatial axes mirrored in this step: all combinations in turn."""
        number, self._step = self._step, self._step + 1
        if not self.flips:
            return []
        spatial = range(2, x.ndim)
        return [axis for bit, axis in enumerate(spatial) if number >> bit & 1]
