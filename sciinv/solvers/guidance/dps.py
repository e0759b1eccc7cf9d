"""Diffusion posterior sampling."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.linalg import quick_dot, row_scale
from sciinv.random import RowNoise
from sciinv.solvers.base import GuidedSolver
from sciinv.solvers.integrators import Integrator
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule

StepRule = Literal["sigma", "paper"]


class DPS(GuidedSolver):
    r"""Diffusion posterior sampling: the likelihood at the denoised image guides the step.

    Replaces :math:`p(y\mid x_\sigma)` by :math:`p(y\mid D(x_\sigma))`, so the spread of
    :math:`x_0` around :math:`D` is ignored: the samples are biased, also for a Gaussian prior (the
    bias is measured in the documentation). Works for every differentiable operator and every
    likelihood of :mod:`sciinv.operators.likelihoods`.

    - ``step_rule="sigma"`` (default): :math:`D_y = D + \zeta\,\sigma^2 J^T g / c` with
      :math:`g = \nabla_D \log p(y\mid A(D))` (:math:`A'^T r/\sigma_y^2` for white noise) and
      :math:`c`, the variance of the residual :math:`r` in units of the noise: what the data show,
      :math:`\max(1, |r|^2/m)`, but at most what the level can explain,
      :math:`1 + \sigma^2 |g|^2/|r|^2`. The displacement is limited to Polyak's step
      of gradient descent and to :math:`\sigma` per component (root mean square). Nothing depends on
      the image's or the measurement's scale.
    - ``step_rule="paper"``: the published update, a displacement
      ``step * sqrt((1+s^2)(1+s'^2)) * grad |r|`` after the ancestral step, here written as the
      equivalent conditional denoiser of :class:`~sciinv.solvers.integrators.Ancestral`; ``step`` is
      the published code's ``scale`` (0.3 for deblurring of images in [-1, 1]).

    Cost per step: one forward and one vjp of the network, one A and one A^T.

    :param prior: denoiser ``D(x, sigma)`` that can be differentiated.
    :param steps: noise levels.
    :param step: guidance strength, dimensionless; 1 by default.
    :param step_rule: ``"sigma"`` or ``"paper"``.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DIFFERENTIABLE, Capability.LIKELIHOOD, Capability.VJP}
    )
    exact_for: ClassVar[str] = "nothing (it ignores the posterior covariance of the denoiser)"
    reference: ClassVar[str] = (
        "Chung, Kim, McCann, Klasky, Ye, Diffusion Posterior Sampling for General Noisy Inverse "
        "Problems, ICLR 2023, arXiv 2209.14687"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        step: float = 1.0,
        step_rule: StepRule = "sigma",
        integrator: str | Integrator = "ancestral",
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        schedule: Schedule = "edm",
        noiseless: bool = False,
    ) -> None:
        super().__init__(
            prior,
            steps=steps,
            integrator=integrator,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            schedule=schedule,
            noiseless=noiseless,
        )
        if step_rule not in ("sigma", "paper"):
            raise ValueError(f"step_rule: found {step_rule!r}, expected 'sigma' or 'paper'")
        if not step >= 0:
            raise ValueError(f"step: found {step}, expected a number that is not negative")
        self.guidance_step = step
        self.step_rule = step_rule

    def denoise(
        self, x: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Tensor:
        """Return ``D`` moved along the gradient of the likelihood at ``D``."""
        at = self.linearise(x, s)
        gradient, r_sq = problem.score(at.d)
        pull = at.jacobian(gradient)
        if self.step_rule == "paper":
            # grad |r| = -J^T A^T r / |r|; the ancestral step multiplies D_y - D by 1 - s'^2/s^2
            weight = self.guidance_step * math.sqrt((1 + s**2) * (1 + s_next**2)) * problem.sigma
            weight /= 1 - (s_next / s) ** 2
            return at.d + row_scale(weight * (r_sq + 1e-24).rsqrt(), x) * pull
        # in units of the noise the residual has covariance 1 + A V A^T, V = s^2 J and J <= 1: what
        # the data show, but never more than the spread of x0 at this level can explain
        gain = quick_dot(gradient, gradient) / r_sq.clamp_min(1e-300)
        variance = torch.minimum((r_sq / problem.count).clamp_min(1.0), 1 + s**2 * gain)
        # gradient descent on |r|^2 / 2 cannot overshoot with Polyak's step
        polyak = r_sq / quick_dot(pull, pull).clamp_min(1e-300)
        factor = self.guidance_step * torch.minimum(s**2 / variance, polyak)
        move = row_scale(factor, x) * pull
        rms = (quick_dot(move, move) / move[0].numel()).sqrt()
        limit = (s / rms.clamp_min(1e-300)).clamp(max=1.0)
        return at.d + row_scale(limit, move) * move
