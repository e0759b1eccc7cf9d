"""Step-wise triple-consistent sampling."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.linalg import row_scale
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver, Step
from sciinv.solvers.decoupled.potential import Potential
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule

StepRule = Literal["sigma", "paper"]

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class SITCOM(Solver):
    r"""Change the network's *input* until its output fits the data, then add fresh noise.

    .. math::
        v^* = \arg\min_v\; -\log p\bigl(y\mid A(D(v,\sigma))\bigr)
              + \lambda\frac{|v-x|^2}{2\sigma^2}, \qquad x' = D(v^*,\sigma) + \sigma' z,

    by Adam from :math:`v=x` with vjps through the network. Images are outputs of the denoiser, so
    they stay near what the prior knows. A row ends where its data fit to the noise. The published
    scripts return the step that is best against the *ground truth*; this returns the last one.

    ``step_rule="sigma"`` (default): Adam's rate is ``rate`` times the level, as ``v`` is known to
    about one level. ``"paper"``: ``rate * sqrt(1 + sigma^2)``, the published rate (0.01 to 0.02)
    of the variance-preserving variable. Rates fall linearly to zero over the inner iterations, so
    that their end is a minimum and not a cycle around it.

    Cost per step: up to ``inner`` + 1 forwards, ``inner`` vjps, ``inner`` + 1 A and vjps of A.

    :param prior: denoiser ``D(x, sigma)`` that can be differentiated.
    :param steps: noise levels; published 20.
    :param inner: Adam iterations a step; published 20 to 30.
    :param rate: largest change of an input component per iteration, see ``step_rule``; 0.3 lets
        20 iterations cross three levels and reaches the noise where 0.1 does not always.
    :param step_rule: ``"sigma"`` or ``"paper"``.
    :param lam: ``lambda``, dimensionless: 1 weighs the input's noise as noise; the published code
        has 0.
    :param to_noise: end a row where its data fit to the noise; False runs all iterations.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DIFFERENTIABLE, Capability.LIKELIHOOD, Capability.VJP}
    )
    exact_for: ClassVar[str] = "nothing (a fit takes the place of a draw)"
    reference: ClassVar[str] = (
        "Alkhouri, Liang, Huang, Dai, Qu, Ravishankar, Wang, SITCOM: Step-wise Triple-Consistent "
        "Diffusion Sampling for Inverse Problems, ICML 2025, arXiv 2410.04479"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 20,
        inner: int = 20,
        rate: float = 0.3,
        step_rule: StepRule = "sigma",
        lam: float = 1.0,
        to_noise: bool = True,
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
        if inner < 1:
            raise ValueError(f"inner: found {inner}, expected at least 1")
        if not rate > 0 or not lam >= 0:
            raise ValueError(
                f"rate, lam: found {rate}, {lam}, expected a positive number and one that is not "
                "negative"
            )
        if step_rule not in ("sigma", "paper"):
            raise ValueError(f"step_rule: found {step_rule!r}, expected 'sigma' or 'paper'")
        self.inner = inner
        self.rate = rate
        self.step_rule = step_rule
        self.lam = lam
        self.to_noise = to_noise

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Optimise the input, denoise it, add noise of the next level."""
        d = self.evaluate(self.consistent_input(state, s, problem), s)
        if s_next == 0:
            return Step(d, d)
        return Step(d + s_next * noise.normal_like(d), d)

    def consistent_input(self, x: Tensor, s: float, problem: Problem) -> Tensor:
        """Return the input ``v*`` near ``x`` whose denoised image fits the data."""
        potential = Potential(problem)
        rate = self.rate * (s if self.step_rule == "sigma" else math.sqrt(1 + s * s))
        v, first, second = x, torch.zeros_like(x), torch.zeros_like(x)
        active = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        for number in range(1, self.inner + 1):
            at = self.linearise(v, s)
            point = potential.at(at.d)
            if self.to_noise:
                active = active & (potential.misfit(point) > 1)
                # one host synchronisation an iteration; it saves network calls
                if not bool(active.any()):
                    self._release()
                    break
            gradient = at.jacobian(point.gradient) + (self.lam / s**2) * (v - x)
            self._release()  # one graph at a time
            first = _BETA1 * first + (1 - _BETA1) * gradient
            second = _BETA2 * second + (1 - _BETA2) * gradient.square()
            scale = (second / (1 - _BETA2**number)).sqrt() + _EPS
            move = first / ((1 - _BETA1**number) * scale)
            fall = rate * (1 - (number - 1) / self.inner)
            v = v - row_scale(fall * active.double(), v) * move
        return v
