"""Tweedie moment projection: moment matching with a diagonal in measurement space."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.linalg import quick_dot, row_scale
from sciinv.random import RowNoise
from sciinv.solvers.base import GuidedSolver
from sciinv.solvers.guidance.covariance import check_choice
from sciinv.solvers.integrators import Integrator
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule

Rows = Literal["ones", "image"]
ROWS: tuple[Rows, ...] = ("ones", "image")


class TMPD(GuidedSolver):
    r"""Tweedie moment projected diffusion: the matched covariance is replaced by its row sums.

    With :math:`V=\sigma^2 J` as in :class:`MomentMatching`, the matrix
    :math:`\sigma_y^2 I + A V A^T` becomes the diagonal

    .. math:: c = \max(\sigma_y^2,\; \sigma_y^2 + A V A^T 1), \qquad
        D_y = D + V A^T\bigl((y - A D)/c\bigr),

    so that no system is solved. The diagonal is right where :math:`A V A^T` is diagonal: a mask of
    pixels that are independent, or of Fourier coefficients of a stationary image. Where the data
    are correlated the sums are too large and the guidance too weak (blur, tomography); where signs
    cancel they can be far too small. The factor :math:`s^2` of :math:`V` in front is therefore at
    most :math:`\rho^T\rho_c/|J^T A^T\rho_c|^2`, :math:`\rho = y - A D`, :math:`\rho_c = \rho/c`,
    a step of gradient descent that cannot overshoot; with the right diagonal that changes nothing.

    - ``rows="ones"`` (default): :math:`A V A^T 1_m`, over what was measured.
    - ``rows="image"``: :math:`A V A^T (A 1_n)` as in the authors' code, the same where
      :math:`A 1_n = 1_m` (masks, averages), in other units where an operator has a gain.

    Cost per evaluation: one forward and two vjps of the network, two A and two A^T (``"image"``:
    one more A).

    :param prior: denoiser ``D(x, sigma)`` that can be differentiated.
    :param steps: noise levels.
    :param rows: ``"ones"`` or ``"image"``.
    :param limit: bound the guidance as above; False is as published.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.LINEAR,
            Capability.ADJOINT,
            Capability.GAUSSIAN,
            Capability.WHITE,
            Capability.VJP,
        }
    )
    exact_for: ClassVar[str] = "N(m, C) where A C A^T is diagonal, as the steps grow"
    reference: ClassVar[str] = (
        "Boys, Girolami, Pidstrigach, Reich, Mosca, Akyildiz, Tweedie Moment Projected Diffusions "
        "for Inverse Problems, TMLR 2024, arXiv 2310.06721"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        rows: Rows = "ones",
        limit: bool = True,
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
        check_choice("rows", rows, ROWS)
        self.rows: Rows = rows
        self.limit = limit

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return a state of the first level, around the guided estimate there."""
        # as MomentMatching: the error of the start becomes second order in std / sigma_max
        mean = self.denoise(start, sigma, 0.0, problem, noise)
        self._release()
        return mean + sigma * noise.normal_like(start)

    def denoise(
        self, x: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Tensor:
        """Return ``D + V A^T ((y - A D) / c)``."""
        at = self.linearise(x, s)
        with torch.no_grad():
            if self.rows == "ones":
                ones = problem.masked(torch.ones_like(problem.y))
            else:
                ones = problem.masked(problem.A(torch.ones_like(x)))
            sums = s**2 * problem.A(at.jacobian(problem.A_adjoint(ones)))
            variance = problem.sigma**2 + sums.clamp_min(0)
            residual = problem.masked(problem.y - problem.A(at.d))
            scaled = residual / variance
            pull = at.jacobian(problem.A_adjoint(scaled))
        weight = torch.full((x.shape[0],), s**2, dtype=torch.float64, device=x.device)
        if self.limit:
            most = quick_dot(residual, scaled) / quick_dot(pull, pull).clamp_min(1e-300)
            weight = torch.minimum(weight, most)
        return at.d + row_scale(weight, x) * pull
