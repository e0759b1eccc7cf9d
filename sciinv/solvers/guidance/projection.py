"""Base of the methods that replace the measured part of a noisy state."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver
from sciinv.solvers.guidance.common import DATA_NEEDS, check_cg, check_share, data_step
from sciinv.solvers.integrators import Ancestral
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule


class ProjectionSolver(Solver):
    """Unconditional steps on the prior, each followed by a data step on the noisy state.

    :param weight: share of the replacement, 0 to 1.
    :param soft: replace a direction only as far as the noise of its data allows, see
        :func:`~sciinv.solvers.guidance.common.data_step`; ``False`` replaces all that is measured,
        noise included.
    :param cg: most iterations of conjugate gradients.
    :param cg_tol: their relative residual.
    """

    needs: ClassVar[frozenset[Capability]] = DATA_NEEDS

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int,
        weight: float = 1.0,
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

    def ancestral(
        self, x: Tensor, s: float, s_next: float, noise: RowNoise
    ) -> tuple[Tensor, Tensor]:
        """Return the unconditional ancestral step and the denoised image it used."""
        d = self.evaluate(x, s)
        return Ancestral()(lambda *_: d, x, s, s_next, noise), d

    def project(
        self, problem: Problem, x: Tensor, level: float, noise: RowNoise, *, noised: bool = True
    ) -> Tensor:
        """Pull a state of that level to the data, noised to the level too if ``noised``."""
        if self.weight == 0:
            return x
        return data_step(
            problem,
            x,
            noise.normal_like(x) if noised and level > 0 else None,
            level,
            sigma=problem.sigma if self.soft and not self.noiseless else 0.0,
            weight=self.weight,
            max_iter=self.cg,
            tol=self.cg_tol,
        )


__all__ = ["ProjectionSolver"]
