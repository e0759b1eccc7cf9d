"""Decoupled data consistency with diffusion purification."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver, Step
from sciinv.solvers.decoupled.descent import fit_to_noise
from sciinv.solvers.integrators import Euler
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule, edm_sigmas


class DCDP(Solver):
    r"""Fit the data, add noise, denoise; with less noise every time.

    .. math::
        v = \text{descent on } -\log p(y\mid Av) \text{ from } x, \qquad
        x \leftarrow \mathrm{purify}(v + \sigma z, \sigma),

    where purification is the denoiser itself (``ode_steps=1``) or the probability-flow ODE from
    :math:`\sigma` to zero. The state is a clean image. The descent ends, row by row, where the data
    fit to the noise; run to convergence it would fit the noise and leave the prior only what
    the operator does not see.

    Cost per step: up to ``descent`` A^T A (linear operator and white noise), else A and vjps of A;
    ``ode_steps`` forwards.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: number of purifications.
    :param descent: most iterations of one data fit.
    :param ode_steps: Euler steps of a purification; published: 20 for latent, 1 or 20 for pixels.
    :param sigma_max: noise of the first purification, 1.5 by default in units where images have a
        standard deviation of about 1 (published: step 400 of 1000, 1.4): more would erase the fit.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DIFFERENTIABLE, Capability.LIKELIHOOD}
    )
    exact_for: ClassVar[str] = "nothing (a fit takes the place of a draw)"
    reference: ClassVar[str] = (
        "Li, Kwon, Liang, Alkhouri, Ravishankar, Qu, Decoupled Data Consistency with Diffusion "
        "Purification for Image Restoration, arXiv 2403.06054"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 30,
        descent: int = 50,
        ode_steps: int = 1,
        sigma_min: float | None = None,
        sigma_max: float | None = 1.5,
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
        if descent < 1 or ode_steps < 1:
            raise ValueError(
                f"descent, ode_steps: found {descent}, {ode_steps}, expected at least 1 of each"
            )
        self.descent = descent
        self.ode_steps = ode_steps

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return the start image itself: noise comes after the first fit."""
        return start

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Fit the data, then purify at level ``s``."""
        x = fit_to_noise(problem, state, iterations=self.descent)
        x = x + s * noise.normal_like(x)
        floor = min(s, self._default_sigma_min(problem))
        levels = edm_sigmas(self.ode_steps, floor, s)
        for level, target in zip(levels, levels[1:], strict=False):
            x = Euler()(lambda v, at, _: self.evaluate(v, at), x, level, target, noise)
        return Step(x, x)
