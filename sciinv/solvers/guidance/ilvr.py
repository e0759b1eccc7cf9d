"""Iterative latent variable refinement: unconditional steps, measured part replaced."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.random import RowNoise
from sciinv.solvers.base import Step
from sciinv.solvers.guidance.projection import ProjectionSolver
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule


class ILVR(ProjectionSolver):
    r"""Latent variable refinement: after each ancestral step the measured part is replaced.

    With the unconditional ancestral step :math:`\tilde x'`,

    .. math:: x' = \tilde x' + A^+\,(y + s' A z - A\tilde x'),

    so that :math:`A x'` is the measurement with the noise that an image at level :math:`s'` would
    show. The published filter (down- and up-sampling) is :math:`A^+A`. By default noise in the
    data weakens the replacement direction by direction (``soft``).

    Cost per step: one forward, ``cg + 1`` A^T A.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: noise levels.
    :param until: level below which steps are unconditional; 0 refines to the end. (The paper's
        demonstrations leave the last steps free, which softness does by itself for noisy data.)
    :param soft: replace a direction only as far as its noise allows; ``False`` always replaces.
    :param cg: most iterations of conjugate gradients for ``A^+``.
    :param cg_tol: their relative residual.
    """

    exact_for: ClassVar[str] = "nothing (the free part does not see the data but for the denoiser)"
    reference: ClassVar[str] = (
        "Choi, Kim, Jeong, Gwon, Yoon, ILVR: Conditioning Method for Denoising Diffusion "
        "Probabilistic Models, ICCV 2021, arXiv 2108.02938"
    )
    needs: ClassVar[frozenset[Capability]] = ProjectionSolver.needs

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        until: float = 0.0,
        soft: bool = True,
        cg: int = 30,
        cg_tol: float = 1e-6,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        schedule: Schedule = "edm",
        noiseless: bool = False,
    ) -> None:
        super().__init__(
            prior,
            steps=steps,
            soft=soft,
            cg=cg,
            cg_tol=cg_tol,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            schedule=schedule,
            noiseless=noiseless,
        )
        if not until >= 0:
            raise ValueError(f"until: found {until}, expected a level that is not negative")
        self.until = until

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Step ancestrally, then replace the measured part."""
        x, d = self.ancestral(state, s, s_next, noise)
        if s_next < self.until:
            return Step(x, d)
        return Step(self.project(problem, x, s_next, noise), d)


__all__ = ["ILVR"]
