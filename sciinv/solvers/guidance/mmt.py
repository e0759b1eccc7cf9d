"""Moment-matched transitions: sciinv's own sampler."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver, Step
from sciinv.solvers.guidance.covariance import (
    COVARIANCES,
    Covariance,
    check_choice,
    check_prior_std,
    diagonal_variance,
    scalar_variance,
)
from sciinv.solvers.guidance.linearisation import (
    QuadraticModel,
    conditional_shift,
)
from sciinv.solvers.krylov import Map, floored_update, sqrt_times
from sciinv.solvers.problem import Linearised, Prior, Problem
from sciinv.solvers.proximal import moment_draw
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

    ``covariance`` replaces ``V`` everywhere: ``"diagonal"`` and ``"scalar"`` are estimated as by
    :class:`MomentMatching`. They save most vjps and lose the correlations of the uncertainty, so
    they are exact only for a prior of independent components.

    Non-linear operators and other likelihoods: ``newton`` Gauss-Newton steps (linearised operator,
    Fisher information, see :mod:`sciinv.solvers.guidance.linearisation`) find the most likely
    clean image given state and data; it is drawn around that with the curvature there (Laplace's
    approximation), exact for nothing.

    Cost per step: one forward, ``lanczos + krylov`` vjps, ``krylov + 1`` A^T A, one A^T. The
    diagonal and scalar covariances need ``probes`` vjps instead, none with ``prior_std``. Where
    the problem is not linear and Gaussian there are ``newton + 1`` systems.

    :param prior: denoiser ``D(x, sigma)`` that can be differentiated.
    :param steps: noise levels; 10 to 20 are enough.
    :param krylov: dimension of the Krylov space of the data system; 5 suffices for masks with
        orthonormal rows, CT and blur want 15 to 20. It, not ``steps``, sets the accuracy.
    :param lanczos: dimension of the space in which the root of ``J`` is taken.
    :param covariance: ``"full"``, ``"diagonal"`` or ``"scalar"``.
    :param prior_std: standard deviation of an image component, only for ``"scalar"``; estimated
        from ``J`` if not given.
    :param probes: random vectors of the estimates of the diagonal and the trace.
    :param newton: Gauss-Newton steps where the problem is not linear and Gaussian; one leaves
        chi-squared at 1.2 to 2 for diffraction and counts, three at about 1.
    :param sigma_min: last level above zero. The last step is a draw, so no tiny levels are needed:
        by default a third of the smallest posterior standard deviation that the data can give,
        ``sigma_y / |A| / 3``, and not below the prior's smallest level (which it is where the
        problem is not linear with white noise).
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.DIFFERENTIABLE,
            Capability.ADJOINT,
            Capability.LIKELIHOOD,
            Capability.VJP,
        }
    )
    exact_for: ClassVar[str] = (
        "Gaussian priors with linear operators and Gaussian noise, at any number of steps, as the "
        "Krylov spaces grow"
    )
    reference: ClassVar[str] = "sciinv, docs/methods/mmt"

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 20,
        krylov: int = 15,
        lanczos: int = 3,
        covariance: Covariance = "full",
        prior_std: float | None = None,
        probes: int = 4,
        newton: int = 3,
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
        if probes < 1 or newton < 1:
            raise ValueError(
                f"probes, newton: found {probes}, {newton}, expected at least 1 of each"
            )
        check_choice("covariance", covariance, COVARIANCES)
        check_prior_std(prior_std)
        self.krylov = krylov
        self.lanczos = lanczos
        self.covariance: Covariance = covariance
        self.prior_std = prior_std
        self.probes = probes
        self.newton = newton

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Draw the clean image given state and data, then the next state given both."""
        at = self.linearise(state, s)
        multiply, spread, bound = self._spread(at, s, noise)
        if problem.linear_white:
            x0 = moment_draw(
                at.d, spread, multiply, problem, noise, s=s, krylov=self.krylov, bound=bound
            )
        else:
            x0 = self._draw_linearised(at.d, spread, multiply, bound, s, problem, noise)
        if s_next == 0:
            return Step(x0, x0)
        a = (s_next / s) ** 2
        fresh = noise.normal_like(state)
        return Step(a * state + (1 - a) * x0 + s_next * math.sqrt(1 - a) * fresh, x0)

    def _spread(
        self, at: Linearised, s: float, noise: RowNoise
    ) -> tuple[Map, Tensor, Tensor | None]:
        """Return ``v -> V v / s^2``, a draw from ``N(0, V)`` and a bound of ``V / s^2``."""
        if self.covariance == "full":
            root, ritz = sqrt_times(at.jacobian, noise.normal_like(at.d), self.lanczos)
            return at.jacobian, s * root, 2 * ritz.clamp_min(1.0)
        if self.covariance == "scalar":
            variance = scalar_variance(at, s, noise, self.probes, self.prior_std)
        else:
            variance = diagonal_variance(at, s, noise, self.probes)
        share = variance / s**2

        def multiply(v: Tensor) -> Tensor:
            return share * v

        return multiply, variance.sqrt() * noise.normal_like(at.d), None

    def _draw_linearised(
        self,
        d: Tensor,
        spread: Tensor,
        multiply: Map,
        bound: Tensor | None,
        s: float,
        problem: Problem,
        noise: RowNoise,
    ) -> Tensor:
        """Draw around the most likely image with the curvature of the likelihood there."""
        mean = d
        if not problem.quadratic:
            mean = d + conditional_shift(
                problem,
                multiply,
                d,
                s=s,
                krylov=self.krylov,
                newton=self.newton,
                bound=bound,
            )
        model = QuadraticModel(problem, mean)
        pull = model.draw(noise) - model.normal(spread)
        if problem.quadratic:
            pull = pull + model.gradient
        return (
            mean
            + spread
            + floored_update(
                multiply,
                model.normal,
                pull,
                s=s,
                sigma=1.0,
                count=self.krylov,
                jacobian_bound=bound,
            )
        )

    def _default_sigma_min(self, problem: Problem) -> float:
        floor = super()._default_sigma_min(problem)
        if not problem.linear_white:
            return floor
        return max(floor, problem.sigma / problem.norm / 3)
