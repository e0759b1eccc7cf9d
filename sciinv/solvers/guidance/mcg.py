"""Manifold-constrained gradients: guidance at the denoised image, then a projection."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.random import RowNoise
from sciinv.solvers.base import Step
from sciinv.solvers.guidance.common import DATA_NEEDS, check_cg, check_share, data_step
from sciinv.solvers.guidance.dps import DPS, StepRule
from sciinv.solvers.integrators import Integrator
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule


class MCG(DPS):
    r"""Manifold-constrained gradient: the step of :class:`DPS`, then the measured part replaced.

    .. math:: x' = \tilde x' + \lambda A^+(y + s'Az - A\tilde x'),

    where :math:`\tilde x'` is the guided ancestral step. The gradient through the denoiser is
    tangent to the manifold of images, and moves what the replacement leaves alone. With
    ``step=0`` it is :class:`~sciinv.solvers.ILVR`, with ``weight=0`` it is :class:`DPS`. By
    default noise in the data weakens the replacement direction by direction (``soft``); the
    published one (``soft=False``) replaces all of it and fails with noisy data.

    Cost per step: one forward and one vjp of the network, one A and A^T, ``cg + 1`` A^T A.

    :param prior: denoiser ``D(x, sigma)`` that can be differentiated.
    :param steps: noise levels.
    :param step: guidance strength, see :class:`DPS`.
    :param step_rule: ``"sigma"`` or ``"paper"``, see :class:`DPS`. The published code moves by
        ``0.1`` times the gradient of the norm of the (filtered back-projected) residual for CT; in
        the paper's formula, a squared norm over the norm, the same step is half as large a number.
    :param weight: :math:`\lambda`, 0 to 1.
    :param soft: replace a direction only as far as its noise allows; ``False`` always replaces.
    :param cg: most iterations of conjugate gradients for ``A^+``.
    :param cg_tol: their relative residual.
    """

    needs: ClassVar[frozenset[Capability]] = DATA_NEEDS | DPS.needs
    exact_for: ClassVar[str] = "nothing (it ignores the posterior covariance of the denoiser)"
    reference: ClassVar[str] = (
        "Chung, Sim, Ryu, Ye, Improving Diffusion Models for Inverse Problems Using Manifold "
        "Constraints, NeurIPS 2022, arXiv 2206.00941"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        step: float = 1.0,
        step_rule: StepRule = "sigma",
        weight: float = 1.0,
        soft: bool = True,
        cg: int = 30,
        cg_tol: float = 1e-6,
        integrator: str | Integrator = "ancestral",
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        schedule: Schedule = "edm",
        noiseless: bool = False,
    ) -> None:
        super().__init__(
            prior,
            steps=steps,
            step=step,
            step_rule=step_rule,
            integrator=integrator,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            schedule=schedule,
            noiseless=noiseless,
        )
        check_share("weight", weight)
        check_cg(cg, cg_tol)
        self.weight = weight
        self.soft = soft
        self.cg = cg
        self.cg_tol = cg_tol

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Make the guided step, then replace the measured part."""
        guided = super().step(state, s, s_next, problem, noise)
        if self.weight == 0:
            return guided
        x = data_step(
            problem,
            guided.state,
            noise.normal_like(state) if s_next > 0 else None,
            s_next,
            sigma=problem.sigma if self.soft and not self.noiseless else 0.0,
            weight=self.weight,
            max_iter=self.cg,
            tol=self.cg_tol,
        )
        return Step(x, guided.estimate)


__all__ = ["MCG"]
