"""Moment-matched transitions: sciinv's own sampler for linear operators."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver, Step
from sciinv.solvers.krylov import floored_update, sqrt_times
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule


class MMT(Solver):
    r"""Moment-matched transitions: *draw* the clean image instead of plugging in its mean.

    At every level the clean image given the state is modelled by the Gaussian
    :math:`N(D, V)`, :math:`V=\sigma^2 J`, that has its true first two moments. Given the data it is
    again Gaussian, and is drawn exactly by Matheron's rule,

    .. math::
        x_0 = D + \delta + V A^T(\sigma_y^2 I + A V A^T)^{-1}\,(y + \sigma_y z - A(D+\delta)),
        \qquad \delta = \sigma J^{1/2} z',

    and the draw enters the ancestral posterior
    :math:`x' = a x + (1-a) x_0 + \sigma'\sqrt{1-a}\,z''`, :math:`a=(\sigma'/\sigma)^2`. The next
    state then has the right mean *and* covariance at any step size, where plugging in the mean
    loses the variance :math:`(1-a)^2 V_y` at every step. Exact for a Gaussian prior on any grid;
    needs no tuning: all constants are noise levels and dimensions.

    Cost per step: one forward, ``lanczos + krylov`` vjps, ``krylov + 1`` A^T A, one A^T.

    :param prior: denoiser ``D(x, sigma)`` that can be differentiated.
    :param steps: noise levels; 10 to 20 are enough.
    :param krylov: dimension of the Krylov space of the data system; 5 suffices for masks with
        orthonormal rows, CT and blur want 15 to 20. It, not ``steps``, sets the accuracy.
    :param lanczos: dimension of the space in which the root of ``J`` is taken.
    :param sigma_min: last level above zero. The last step is a draw, so no tiny levels are needed:
        by default a third of the smallest posterior standard deviation that the data can give,
        ``sigma_y / |A| / 3``, and not below the prior's smallest level.
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
    exact_for: ClassVar[str] = "Gaussian priors, at any number of steps, as the Krylov spaces grow"
    reference: ClassVar[str] = "sciinv, docs/methods/mmt"

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 20,
        krylov: int = 15,
        lanczos: int = 3,
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
        if krylov < 1 or lanczos < 1:
            raise ValueError(
                f"krylov, lanczos: found {krylov}, {lanczos}, expected at least 1 of each"
            )
        self.krylov = krylov
        self.lanczos = lanczos

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Draw the clean image given state and data, then the next state given both."""
        at = self.linearise(state, s)
        spread, ritz = sqrt_times(at.jacobian, noise.normal_like(state), self.lanczos)
        proposal = at.d + s * spread
        z = noise.normal(problem.measurement_shape, dtype=state.dtype, device=state.device)
        data = problem.aty + problem.sigma * problem.A_adjoint(z)  # A^T (y + sigma_y z)
        x0 = proposal + floored_update(
            at.jacobian,
            problem.normal,
            data - problem.normal(proposal),
            s=s,
            sigma=problem.sigma,
            count=self.krylov,
            jacobian_bound=2 * ritz.clamp_min(1.0),
        )
        if s_next == 0:
            return Step(x0, x0)
        a = (s_next / s) ** 2
        fresh = noise.normal_like(state)
        return Step(a * state + (1 - a) * x0 + s_next * math.sqrt(1 - a) * fresh, x0)

    def _default_sigma_min(self, problem: Problem) -> float:
        floor = super()._default_sigma_min(problem)
        return max(floor, problem.sigma / problem.norm / 3)
