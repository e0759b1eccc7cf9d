"""Pseudoinverse guidance: moment matching with an isotropic covariance."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.linalg import quick_dot, row_scale
from sciinv.random import RowNoise
from sciinv.solvers.base import GuidedSolver, Step
from sciinv.solvers.guidance.covariance import (
    check_choice,
    check_prior_std,
    declared_std,
    prior_variance,
)
from sciinv.solvers.integrators import Integrator
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule

Weighting = Literal["score", "paper"]
WEIGHTINGS: tuple[Weighting, ...] = ("score", "paper")


class IsotropicGuidance(GuidedSolver):
    r"""Guidance by :math:`p(x_0\mid x_\sigma)\approx N(D, r^2 I)`, :math:`r^2=c s^2/(c+s^2)`.

    ``c`` is the variance of an image component under the prior: ``prior_std**2`` if given, else
    the square of ``sigma_data`` if the prior declares it, else that of Tweedie's covariance at the
    first level, where ``r^2`` is made ``s^2 trace(J) / n`` with four random probes a row.

    :param prior_std: ``c^(1/2)``; 0 ignores the spread.
    """

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int,
        prior_std: float | None,
        integrator: str | Integrator,
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
        self.prior_std = prior_std
        self._variance = torch.ones(1, dtype=torch.float64)

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return the state at the first level; take the variance of the prior."""
        state = start + sigma * noise.normal_like(start)
        std = declared_std(self.prior) if self.prior_std is None else self.prior_std
        if std is None:
            self._variance = prior_variance(self.linearise(state, sigma), sigma, noise)
            self._release()
        else:
            self._variance = torch.full(
                (state.shape[0],), std**2, dtype=torch.float64, device=state.device
            )
        return state

    def spread_squared(self, s: float) -> Tensor:
        """Return ``r^2`` of every row, ``(R,)`` float64."""
        return self._variance * s**2 / (self._variance + s**2)


class PiGDM(IsotropicGuidance):
    r"""Pseudoinverse-guided diffusion: the clean image given the state is ``N(D, r^2 I)``.

    With :math:`r^2 = c s^2/(c+s^2)`, what noise of level s leaves open of a variance c, and a
    linear operator with white noise,

    .. math::
        g = J^T A^T (r^2 A A^T + \sigma_y^2 I)^{-1}(y - A D), \qquad D_y = D + s^2 g.

    The system is solved by conjugate gradients in image space,
    :math:`(A^T A + \sigma_y^2/r^2)\,u = A^T(y - A D)`, :math:`g = J^T u/r^2`. Data without noise
    take the same form with the tiny level of ``noiseless=True``; no pseudoinverse is formed.

    - ``weighting="score"`` (default): :math:`D_y` is used for the clean image and for the implied
      noise, so the weight is right for every integrator.
    - ``limit`` (default True): where the true covariance :math:`s^2 J` is far above
      :math:`r^2` (the coarse part of smooth images), :math:`s^2 g` overshoots by that ratio and
      the steps diverge. Its factor :math:`s^2` is therefore at most
      :math:`r^2 |u|^2/|J^T u|^2`, what the assumed covariance allows; with
      :math:`s^2 J = r^2 I` that changes nothing. False is as published.
    - ``weighting="paper"``: the published step, the integrator's step without guidance and then a
      displacement of :math:`r^2 g = J^T u` whatever the step, with the published code's factor
      :math:`(\bar\alpha_t\bar\alpha_{t'})^{1/2}`. The paper takes ``integrator="ancestral"`` (its
      eta 1) and data of unit variance (``prior_std=1``).

    Cost per evaluation: one forward and one vjp of the network, up to ``cg + 1`` A^T A. An
    estimate of ``c`` takes one forward and four vjps, once.

    :param prior: denoiser ``D(x, sigma)`` that can be differentiated.
    :param steps: noise levels.
    :param prior_std: ``c^(1/2)``, the standard deviation of an image component (real or imaginary
        part). By default the ``sigma_data`` that the prior declares; else ``c`` is chosen so that
        ``r^2 = s^2 trace(J) / n`` at the first level, by four random probes.
    :param cg: largest number of conjugate-gradient iterations.
    :param weighting: ``"score"`` or ``"paper"``.
    :param limit: bound the guidance of ``"score"`` by the assumed covariance.
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
    exact_for: ClassVar[str] = "white images, N(m, c I), as the steps grow"
    reference: ClassVar[str] = (
        "Song, Vahdat, Mardani, Kautz, Pseudoinverse-Guided Diffusion Models for Inverse Problems, "
        "ICLR 2023, OpenReview 9_gsMA8MRKQ"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        prior_std: float | None = None,
        cg: int = 30,
        weighting: Weighting = "score",
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
            prior_std=prior_std,
            integrator=integrator,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            schedule=schedule,
            noiseless=noiseless,
        )
        check_prior_std(prior_std)
        check_choice("weighting", weighting, WEIGHTINGS)
        if cg < 1:
            raise ValueError(f"cg: found {cg}, expected at least 1")
        self.cg = cg
        self.weighting: Weighting = weighting
        self.limit = limit

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return a state of the first level, around the guided estimate there."""
        state = super().init(problem, noise, sigma, start)
        if self.weighting == "paper":
            return state
        # as MomentMatching: the error of the start becomes second order in std / sigma_max
        mean = self.denoise(start, sigma, 0.0, problem, noise)
        self._release()
        return mean + (state - start)

    def denoise(
        self, x: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Tensor:
        """Return ``D + s^2 g``."""
        d, u, pull, r_sq = self._guidance(x, s, problem)
        weight = s**2 / r_sq
        if self.limit:
            weight = torch.minimum(
                weight, quick_dot(u, u) / quick_dot(pull, pull).clamp_min(1e-300)
            )
        return d + row_scale(weight, x) * pull

    def _guidance(
        self, x: Tensor, s: float, problem: Problem
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``D``, ``u``, ``J^T u = r^2 g`` and ``r^2``."""
        at = self.linearise(x, s)
        r_sq = self.spread_squared(s)
        rhs = problem.aty - problem.normal(at.d)
        u = problem.solve(problem.sigma**2 / r_sq, rhs, max_iter=self.cg)
        return at.d, u, at.jacobian(u), r_sq

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Step with the guided estimate, or as published: without it, then move by ``r^2 g``."""
        if self.weighting == "score":
            return super().step(state, s, s_next, problem, noise)
        pulls: list[Tensor] = []
        estimates: list[Tensor] = []

        def unguided(x: Tensor, level: float, target: float) -> Tensor:
            if pulls:  # the corrector of Heun
                return self.evaluate(x, level)
            d, _, pull, _ = self._guidance(x, level, problem)
            pulls.append(pull)
            estimates.append(d)
            return d

        moved = self.integrator(unguided, state, s, s_next, noise) + pulls[0]
        return Step(moved, estimates[0] + pulls[0])
