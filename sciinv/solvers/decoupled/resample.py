"""Hard data consistency and stochastic resampling, in pixel space."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver, Step
from sciinv.solvers.decoupled.descent import fit_to_noise
from sciinv.solvers.integrators import DDIM
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule


def resample(
    clean: Tensor, ahead: Tensor, s: float, s_next: float, gamma: float, noise: RowNoise
) -> Tensor:
    r"""Draw the state at ``s_next`` from the product of two Gaussians around two proposals.

    ``N(x*, s'^2 I)``, the clean image with fresh noise, times ``N(x', G I)`` around the
    unconditional step, with :math:`G = \gamma s'^2 (1 - s'^2/s^2)`: mean
    :math:`(G x^* + s'^2 x')/(G + s'^2)`, variance :math:`G s'^2/(G + s'^2)`. ``gamma = inf`` is
    fresh noise alone, 0 the unconditional step.

    :param clean: ``x*``, ``(R, C, ...)``.
    :param ahead: ``x'``, ``(R, C, ...)``.
    """
    if math.isinf(gamma):
        weight = 1.0
    else:
        g = gamma * (1 - (s_next / s) ** 2)  # G / s'^2
        weight = g / (1 + g)
    mean = ahead + weight * (clean - ahead)
    return mean + s_next * math.sqrt(weight) * noise.normal_like(mean)


class ReSample(Solver):
    r"""Reconcile the denoised image with the data completely, then go back to the noise level.

    Every ``every`` steps of an unconditional sampler the denoised image :math:`D` is moved along
    the gradient of the misfit to an image :math:`x^*` that fits the data *to the noise*
    (Morozov: :math:`|y-Ax^*|^2 = m\sigma_y^2`, row by row), and the state is drawn anew around
    both :math:`x^*` and the unconditional step (:func:`resample`). The last step returns
    :math:`x^*`.

    The pixel-space form of a latent method: encoder and decoder are the identity. The published
    code stops at a fixed misfit of 1e-6 whatever the noise, and adds a gradient step of DPS between
    the hard steps; here the noise level stops it, and there is no such step.

    Cost per step: one forward; every ``every``-th step up to ``descent`` A^T A (linear operator
    and white noise), else A and vjps of A.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: noise levels.
    :param gamma: weight of the data-consistent image in the draw, dimensionless; ``math.inf``
        forgets the unconditional step. The published code has 40.
    :param every: hard consistency every so many steps, counted from the last one, which always has
        it; published: 10 of 500.
    :param descent: most iterations of one hard consistency.
    :param eta_ddim: of the unconditional step; 0 is deterministic, 1 ancestral.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DIFFERENTIABLE, Capability.LIKELIHOOD}
    )
    exact_for: ClassVar[str] = "nothing (a point that fits takes the place of a draw)"
    reference: ClassVar[str] = (
        "Song, Kwon, Zhang, Hu, Qu, Shen, Solving Inverse Problems with Latent Diffusion Models "
        "via Hard Data Consistency, ICLR 2024, arXiv 2307.08123"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        gamma: float = 40.0,
        every: int = 1,
        descent: int = 50,
        eta_ddim: float = 0.0,
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
        if not gamma >= 0:
            raise ValueError(f"gamma: found {gamma}, expected a number that is not negative")
        if every < 1 or descent < 1:
            raise ValueError(f"every, descent: found {every}, {descent}, expected at least 1")
        if not 0 <= eta_ddim <= 1:
            raise ValueError(f"eta_ddim: found {eta_ddim}, expected a number in [0, 1]")
        self.gamma = gamma
        self.every = every
        self.descent = descent
        self.eta_ddim = eta_ddim
        self._left = 0

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return ``start + sigma n`` and count the steps down."""
        self._left = self.steps
        return super().init(problem, noise, sigma, start)

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Make the unconditional step, or one that is consistent with the data."""
        self._left -= 1
        d = self.evaluate(state, s)
        ahead = DDIM(self.eta_ddim)(lambda *_: d, state, s, s_next, noise)
        if self._left % self.every:
            return Step(ahead, d)
        clean = fit_to_noise(problem, d, iterations=self.descent)
        if s_next == 0:
            return Step(clean, clean)
        return Step(resample(clean, ahead, s, s_next, self.gamma, noise), clean)
