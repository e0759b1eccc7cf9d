"""Loss-guided diffusion: the likelihood averaged over draws of the clean image."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.linalg import quick_dot, row_scale
from sciinv.random import RowNoise
from sciinv.solvers.guidance.covariance import check_prior_std
from sciinv.solvers.guidance.pigdm import IsotropicGuidance
from sciinv.solvers.integrators import Integrator
from sciinv.solvers.problem import Linearised, Prior, Problem
from sciinv.solvers.schedule import Schedule


class LGD(IsotropicGuidance):
    r"""Loss-guided diffusion (LGD-MC): Monte Carlo instead of a linear system.

    The likelihood of the state is an average over the clean images it may come from, here over K
    draws from :math:`N(D, r^2 I)`, :math:`r^2=c s^2/(c+s^2)` as in :class:`PiGDM`:

    .. math::
        p(y\mid x_\sigma)\approx\frac1K\sum_k p(y\mid A(x_k)), \quad x_k = D + r z_k, \qquad
        D_y = D + s^2 J^T\sum_k w_k \nabla\log p(y\mid A(x_k)),

    with :math:`w = \mathrm{softmax}(\log p(y\mid A(x_k)))` of every row, taken in logarithms. Half
    of the draws are the mirror images of the others. Any likelihood and any differentiable
    operator.

    For a linear operator with white noise and K to infinity this is :class:`PiGDM`. With m
    measured components the weights of K draws differ by factors of some :math:`e^{m}`, so beyond
    ten components one draw takes all the weight and the average is that of :class:`DPS` at a
    perturbed image: far too strong a pull. The displacement is therefore not longer than Polyak's
    step of gradient descent and s per component (root mean square), as in :class:`DPS`; neither
    limit acts where the average is accurate.

    Cost per evaluation: one forward and one vjp of the network, ``draws`` A and A^T.

    :param prior: denoiser ``D(x, sigma)`` that can be differentiated.
    :param steps: noise levels.
    :param draws: K, even, or 1.
    :param prior_std: ``c^(1/2)`` as in :class:`PiGDM`; 0 makes all draws ``D``, as in DPS.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DIFFERENTIABLE, Capability.LIKELIHOOD, Capability.VJP}
    )
    exact_for: ClassVar[str] = "nothing at a finite number of draws"
    reference: ClassVar[str] = (
        "Song, Zhang, Yin, Mardani, Liu, Kautz, Chen, Vahdat, Loss-Guided Diffusion Models for "
        "Plug-and-Play Controllable Generation, ICML 2023, PMLR 202"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        draws: int = 8,
        prior_std: float | None = None,
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
        check_prior_std(prior_std, zero=True)
        if draws < 1 or (draws > 1 and draws % 2):
            raise ValueError(f"draws: found {draws}, expected 1 or an even number")
        self.draws = draws

    def denoise(
        self, x: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Tensor:
        """Return ``D`` moved along the gradient of the averaged likelihood."""
        at = self.linearise(x, s)
        gradient, deviance = self._average(at, s, problem, noise)
        pull = at.jacobian(gradient)
        polyak = deviance / quick_dot(pull, pull).clamp_min(1e-300)
        move = row_scale(polyak.clamp_max(s**2), x) * pull
        rms = (quick_dot(move, move) / move[0].numel()).sqrt()
        limit = (s / rms.clamp_min(1e-300)).clamp(max=1.0)
        return at.d + row_scale(limit, move) * move

    @torch.no_grad()
    def _average(
        self, at: Linearised, s: float, problem: Problem, noise: RowNoise
    ) -> tuple[Tensor, Tensor]:
        """Return the weighted gradient and deviance of the draws, one after the other.

        The sum is kept relative to the largest log likelihood so far, so nothing overflows and
        only one draw is in memory.
        """
        r = row_scale(self.spread_squared(s).sqrt(), at.d)
        largest = torch.full((at.d.shape[0],), -torch.inf, dtype=torch.float64, device=at.d.device)
        total = torch.zeros_like(largest)
        square = torch.zeros_like(largest)
        gradient = torch.zeros_like(at.d)
        offset = torch.zeros_like(at.d)
        for number in range(self.draws):
            offset = -offset if number % 2 else r * noise.normal_like(at.d)
            at_draw, log_p, deviance = self._score(at.d + offset, problem)
            new = torch.maximum(largest, log_p)
            keep, weight = torch.exp(largest - new), torch.exp(log_p - new)
            total = keep * total + weight
            square = keep * square + weight * deviance
            gradient.mul_(row_scale(keep, gradient))
            gradient.addcmul_(row_scale(weight, gradient), at_draw)
            largest = new
        return gradient / row_scale(total, gradient), square / total

    def _score(self, x: Tensor, problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
        """Return gradient, log likelihood and deviance of one image per row."""
        if problem.white:
            # up to a constant, in which all draws agree: no logarithm, no pass in float64
            gradient, square = problem.score(x)
            return gradient, -square / 2, square
        likelihood, y, ax = problem.likelihood, problem.y, problem.A(x)
        terms = likelihood.log_prob_terms(y, ax)
        log_p = problem.masked(terms).flatten(1).sum(1)
        gradient = problem.vjp(x, problem.masked(likelihood.gradient(y, ax)))
        # twice what one Fisher step of every component gains, which for counts leads to the data: a
        # draw below zero has a huge gradient, and by its squared residual alone Polyak's step is
        # nothing; where Fisher's step overshoots there is no gain and the residual is left
        gain = 2 * (likelihood.log_prob_terms(y, likelihood.linearise(y, ax)[0]) - terms)
        square = likelihood.residual(y, ax).double().square()
        deviance = problem.masked(torch.maximum(square, gain)).flatten(1).sum(1)
        return gradient, log_p, deviance
