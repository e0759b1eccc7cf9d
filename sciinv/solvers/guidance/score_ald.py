"""Annealed Langevin dynamics with a likelihood term."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.linalg import quick_dot, row_scale
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver, Step
from sciinv.solvers.guidance.common import DATA_NEEDS
from sciinv.solvers.problem import Prior, Problem

StepRule = Literal["stable", "paper"]

# the published code: alpha = 5e-5 (s / 0.0066)^2, and the data's pull five times the score's
_PAPER_STEP = 5e-5 / 0.0066**2
_PAPER_PULL = 5.0


class ScoreALD(Solver):
    r"""Annealed Langevin: at each level some steps on prior and likelihood of the noisy state.

    .. math::
        x \leftarrow x + \alpha\Bigl(\nabla\log p_s(x) +
        \frac{A^T(y-Ax)}{\sigma_y^2+\gamma^2}\Bigr) + \sqrt{2\alpha}\,z

    The data are compared with the noisy state itself, whose residual has the covariance
    :math:`\sigma_y^2 + s^2AA^T`; so :math:`\gamma = s|A|` is the inflation that never takes the
    noise of the state for a misfit. It vanishes with the level. At one level the steps sample the
    product :math:`p_s(x)\,N(y; Ax, \sigma_y^2+\gamma^2)`; for Gaussian priors with the covariance
    :math:`H^{-1}(1-\alpha H/2)^{-1}`, :math:`H` the precision of the product.

    - ``step_rule="stable"`` (default): :math:`\alpha` is ``step`` over the largest curvature,
      :math:`1/s^2 + |A|^2/(\sigma_y^2+\gamma^2)`; below 2 it cannot diverge.
    - ``step_rule="paper"``: the published code, :math:`\alpha=5\cdot10^{-5}(s/0.0066)^2`, the pull
      of the data scaled to five times the norm of the score, here row by row; neither
      :math:`\sigma_y` nor :math:`\gamma` enters.

    Cost per level: ``inner`` times one forward and one A^T A; one forward at the end.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: noise levels, spaced geometrically.
    :param inner: Langevin steps at each level.
    :param step: step size in units of the stable one, above 0 and below 2.
    :param gamma: inflation in units of :math:`s|A|`.
    :param step_rule: ``"stable"`` or ``"paper"``.
    """

    needs: ClassVar[frozenset[Capability]] = DATA_NEEDS
    exact_for: ClassVar[str] = "any prior, in the limit of many small steps at ever lower levels"
    reference: ClassVar[str] = (
        "Jalal, Arvinte, Daras, Price, Dimakis, Tamir, Robust Compressed Sensing MRI with Deep "
        "Generative Priors, NeurIPS 2021, arXiv 2108.01368"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        inner: int = 3,
        step: float = 0.5,
        gamma: float = 1.0,
        step_rule: StepRule = "stable",
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        noiseless: bool = False,
    ) -> None:
        super().__init__(
            prior, steps=steps, sigma_min=sigma_min, sigma_max=sigma_max, noiseless=noiseless
        )
        if step_rule not in ("stable", "paper"):
            raise ValueError(f"step_rule: found {step_rule!r}, expected 'stable' or 'paper'")
        if inner < 1 or not 0 < step < 2 or not gamma >= 0:
            raise ValueError(
                f"inner, step, gamma: found {inner}, {step}, {gamma}, expected at least 1, "
                "a number between 0 and 2 and one that is not negative"
            )
        self.inner = inner
        self.step_size = step
        self.gamma = gamma
        self.step_rule = step_rule

    def levels(self, problem: Problem) -> list[float]:
        """Geometric levels, then 0."""
        grid = super().levels(problem)
        if self.steps == 1:
            return grid
        ratio = (grid[-2] / grid[0]) ** (1 / (self.steps - 1))
        return [grid[0] * ratio**i for i in range(self.steps)] + [0.0]

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Make the Langevin steps of level ``s``; the last level ends with its denoised image."""
        variance = problem.sigma**2 + (self.gamma * s * problem.norm) ** 2
        curvature = 1 / s**2 + problem.norm**2 / variance
        alpha = self.step_size / curvature
        if self.step_rule == "paper":
            alpha = _PAPER_STEP * s**2
        x = state
        for _ in range(self.inner):
            d = self.evaluate(x, s)
            score = (d - x) / s**2
            pull = problem.aty - problem.normal(x)
            if self.step_rule == "paper":
                ratio = quick_dot(score, score) / quick_dot(pull, pull).clamp_min(1e-300)
                pull = row_scale(_PAPER_PULL * ratio.sqrt(), x) * pull
            else:
                pull = pull / variance
            x = x + alpha * (score + pull) + math.sqrt(2 * alpha) * noise.normal_like(x)
        if s_next == 0:
            d = x = self.evaluate(x, s)
        return Step(x, d)


__all__ = ["ScoreALD"]
