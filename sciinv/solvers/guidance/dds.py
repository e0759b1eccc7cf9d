"""Decomposed diffusion sampling: a few conjugate-gradient steps from the denoised image."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.random import RowNoise
from sciinv.solvers.base import GuidedSolver, Step
from sciinv.solvers.guidance.common import DATA_NEEDS, check_cg, check_share, correction
from sciinv.solvers.integrators import Integrator
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule

PAPER_WEIGHT = 1.0


class DDS(GuidedSolver):
    r"""Decomposed diffusion sampling: the denoised image meets the data in a Krylov space.

    .. math::
        \hat d = \arg\min_v \tfrac12|v-D|^2 + \tfrac{\gamma}{2}|Av-y|^2

    by at most ``cg`` conjugate-gradient iterations from :math:`D`. With
    :math:`\gamma = V/\sigma_y^2` and :math:`V` the variance of the clean image given the state,
    :math:`V = s^2/(1+s^2/c)` for a prior variance :math:`c` per component, this is the mean of
    :math:`N(D, VI)` given the data, and :math:`E[x_0\mid x_s, y]` itself for the prior
    :math:`N(\mu, cI)`. With exact data (``noiseless``) it is :math:`D - A^+(AD-y)`.

    :math:`\hat d` is a conditional denoiser and any integrator takes it. The published sampler
    keeps the implied noise of :math:`D`, not of :math:`\hat d`, and re-draws a share of it,
    :math:`x' = \hat d + s'(\sqrt{1-\eta^2}\,(x-D)/s+\eta z)`: set ``eta_renoise``.

    Cost per step: one forward, up to ``cg + 1`` A^T A (Heun: two evaluations).

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: noise levels.
    :param cg: most conjugate-gradient iterations; 5 in the paper. Few of them leave directions
        that the operator sees weakly to the denoiser.
    :param cg_tol: their relative residual.
    :param weight: ``"derived"`` (above), ``"paper"`` (the constant 1, in units of the measurement)
        or a positive constant :math:`\gamma`.
    :param prior_std: :math:`\sqrt c`; by default what the prior declares (``sigma_data``), else
        infinite, :math:`V = s^2`.
    :param integrator: Heun by default: ancestral steps lose a fifth of the spread at 20 steps.
    :param eta_renoise: share of re-drawn noise, 0 to 1 (0.85 in the paper), of the published
        sampler; by default (``None``) the integrator is used.
    """

    needs: ClassVar[frozenset[Capability]] = DATA_NEEDS
    exact_for: ClassVar[str] = "priors N(mu, c I) with prior_std = sqrt(c), as steps grow"
    reference: ClassVar[str] = (
        "Chung, Lee, Ye, Decomposed Diffusion Sampler for Accelerating Large-Scale Inverse "
        "Problems, ICLR 2024, arXiv 2303.05754"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 25,
        cg: int = 10,
        cg_tol: float = 1e-6,
        weight: float | str = "derived",
        prior_std: float | None = None,
        eta_renoise: float | None = None,
        integrator: str | Integrator = "heun",
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
        check_cg(cg, cg_tol)
        if weight not in ("derived", "paper") and (isinstance(weight, str) or not weight > 0):
            raise ValueError(
                f"weight: found {weight!r}, expected 'derived', 'paper' or a positive number"
            )
        if prior_std is not None and not prior_std > 0:
            raise ValueError(f"prior_std: found {prior_std}, expected a positive number")
        if eta_renoise is not None:
            check_share("eta_renoise", eta_renoise)
        self.cg = cg
        self.cg_tol = cg_tol
        self.weight = weight
        self.prior_std = prior_std
        self.eta_renoise = eta_renoise

    def denoise(
        self, x: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Tensor:
        """Return the denoised image moved to the data."""
        return self._move(self.evaluate(x, s), s, problem)

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Make a step of the integrator, or of the published sampler."""
        if self.eta_renoise is None:
            return super().step(state, s, s_next, problem, noise)
        d = self.evaluate(state, s)
        hat = self._move(d, s, problem)
        if s_next == 0:
            return Step(hat, hat)
        kept = math.sqrt(1 - self.eta_renoise**2) * s_next / s
        x = hat + kept * (state - d) + self.eta_renoise * s_next * noise.normal_like(state)
        return Step(x, hat)

    def _move(self, d: Tensor, s: float, problem: Problem) -> Tensor:
        """Solve ``(A^T A + 1/gamma) v = A^T y + d/gamma`` from ``d``."""
        tau = self._inverse_weight(s, problem)
        # for the difference to d: the tolerance is relative to what there is to correct
        return d + correction(problem, d, tau, max_iter=self.cg, tol=self.cg_tol)

    def _inverse_weight(self, s: float, problem: Problem) -> float:
        if self.noiseless:
            return 0.0
        if self.weight == "derived":
            std = self.prior_std or getattr(self.prior, "sigma_data", None) or math.inf
            return problem.sigma**2 * (1 / s**2 + 1 / float(std) ** 2)
        return 1 / (PAPER_WEIGHT if isinstance(self.weight, str) else self.weight)


__all__ = ["DDS"]
