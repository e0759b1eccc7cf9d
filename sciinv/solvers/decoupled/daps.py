"""Decoupled annealing posterior sampling."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from torch import Tensor

from sciinv.capabilities import DESCRIPTION, Capability, prior_capabilities
from sciinv.errors import IncompatibleError
from sciinv.random import RowNoise
from sciinv.solvers.base import DEFAULT_SIGMA_MIN, Solver, Step
from sciinv.solvers.decoupled.langevin import likelihood_draw
from sciinv.solvers.integrators import Euler
from sciinv.solvers.krylov import sqrt_times
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.proximal import moment_draw
from sciinv.solvers.schedule import Schedule, edm_sigmas

Covariance = Literal["published", "jacobian"]
Centre = Literal["tweedie", "ode"]
Width = Literal["vp", "sigma"]


class DAPS(Solver):
    r"""Decoupled annealing: draw the clean image given state *and* data, then forget the state.

    .. math::
        x_0 \sim p(x_0\mid x_\sigma, y) \propto p(x_0\mid x_\sigma)\,p(y\mid x_0),
        \qquad x_{\sigma'} = x_0 + \sigma' z.

    If the draw is exact, every state has the law :math:`p(x_{\sigma}\mid y)` on any grid of levels.
    All error is in the model of :math:`p(x_0\mid x_\sigma)`:

    - ``covariance="published"`` (default): :math:`N(c, r^2 I)`, :math:`c` the denoised image
      (``centre="tweedie"``) or the end of the probability-flow ODE (``"ode"``, as published), and
      :math:`r=\sigma` (``width="sigma"``, as published) or
      :math:`r^2=\sigma^2/(1+\sigma^2)` (``"vp"``), the spread of an image of unit variance. The
      defaults are those with the smallest error on Gaussian priors (table in the documentation):
      the published pair is the spread of the *noise*, not of :math:`x_0`, and over-disperses.
    - ``covariance="jacobian"``: :math:`N(D, \sigma^2 J)`, the true first two moments. Exact for
      Gaussian priors on any grid; needs a linear operator, white noise and vjps.

    For a linear operator and white Gaussian noise the draw is exact, by perturbation and conjugate
    gradients; for everything else by Metropolis-adjusted Langevin steps.

    Cost per step: ``centre="tweedie"`` one forward, ``"ode"`` up to ``ode_steps``; then up to
    ``cg`` A^T A, or ``1.2 langevin`` A and vjps of A. ``covariance="jacobian"``: one forward,
    ``lanczos + krylov`` vjps, ``krylov + 1`` A^T A.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: noise levels.
    :param centre: ``"tweedie"`` or ``"ode"``, see above.
    :param width: ``"vp"`` or ``"sigma"``, see above.
    :param ode_steps: Euler steps of the probability-flow ODE from the level down to zero.
    :param langevin: Langevin steps of a draw where it is not exact.
    :param exact: False takes Langevin steps for linear operators as well.
    :param cg: largest number of conjugate-gradient iterations of an exact draw.
    :param tol: relative residual at which these end.
    :param krylov: dimension of the Krylov space of ``covariance="jacobian"``.
    :param lanczos: dimension of the space in which the root of ``J`` is taken.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DIFFERENTIABLE, Capability.LIKELIHOOD}
    )
    exact_for: ClassVar[str] = (
        'white priors of unit variance; covariance="jacobian": all normal priors, on any grid'
    )
    reference: ClassVar[str] = (
        "Zhang, Chu, Berner, Meng, Anandkumar, Song, Improving Diffusion Inverse Problem Solving "
        "with Decoupled Noise Annealing, CVPR 2025, arXiv 2407.01521"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        covariance: Covariance = "published",
        centre: Centre = "tweedie",
        width: Width = "vp",
        ode_steps: int = 5,
        langevin: int = 50,
        exact: bool = True,
        cg: int = 50,
        tol: float = 1e-4,
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
        for name, value, allowed in (
            ("covariance", covariance, ("published", "jacobian")),
            ("centre", centre, ("tweedie", "ode")),
            ("width", width, ("vp", "sigma")),
        ):
            if value not in allowed:
                raise ValueError(f"{name}: found {value!r}, expected one of {', '.join(allowed)}")
        for name, number in (
            ("ode_steps", ode_steps),
            ("langevin", langevin),
            ("cg", cg),
            ("krylov", krylov),
            ("lanczos", lanczos),
        ):
            if number < 1:
                raise ValueError(f"{name}: found {number}, expected at least 1")
        if not tol > 0:
            raise ValueError(f"tol: found {tol}, expected a positive number")
        self.covariance = covariance
        self.centre = centre
        self.width = width
        self.ode_steps = ode_steps
        self.langevin = langevin
        self.exact = exact
        self.cg = cg
        self.tol = tol
        self.krylov = krylov
        self.lanczos = lanczos

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return the state at the first level; refuse what the chosen covariance cannot do."""
        if self.covariance == "jacobian":
            gaps = []
            if not problem.linear_white:
                gaps.append("a linear operator with white Gaussian noise")
            if Capability.VJP not in prior_capabilities(self.prior):
                gaps.append(DESCRIPTION[Capability.VJP])
            if gaps:
                raise IncompatibleError(
                    f'DAPS: covariance="jacobian" needs {" and ".join(gaps)}; '
                    'covariance="published" does not'
                )
        return super().init(problem, noise, sigma, start)

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Draw the clean image given state and data, then add noise of the next level."""
        if self.covariance == "jacobian":
            x0 = self._moment_draw(state, s, problem, noise)
        else:
            x0 = likelihood_draw(
                problem,
                self._centre(state, s, noise),
                s if self.width == "sigma" else s / math.sqrt(1 + s * s),
                noise,
                cg=self.cg,
                tol=self.tol,
                langevin=self.langevin,
                exact=self.exact,
            )
        if s_next == 0:
            return Step(x0, x0)
        return Step(x0 + s_next * noise.normal_like(x0), x0)

    def _centre(self, state: Tensor, s: float, noise: RowNoise) -> Tensor:
        """Denoise at once, or follow the probability-flow ODE to zero."""
        if self.centre == "tweedie":
            return self.evaluate(state, s)
        floor = min(s, self._floor())
        levels = edm_sigmas(self.ode_steps, floor, s)
        for level, target in zip(levels, levels[1:], strict=False):
            state = Euler()(lambda x, at, _: self.evaluate(x, at), state, level, target, noise)
        return state

    def _floor(self) -> float:
        """Last level of the ODE above zero."""
        return self.sigma_min or float(getattr(self.prior, "sigma_min", None) or DEFAULT_SIGMA_MIN)

    def _moment_draw(self, state: Tensor, s: float, problem: Problem, noise: RowNoise) -> Tensor:
        """Draw from the moment-matched Gaussian given the data, as MMT does."""
        at = self.linearise(state, s)
        spread, ritz = sqrt_times(at.jacobian, noise.normal_like(state), self.lanczos)
        return moment_draw(
            at.d,
            s * spread,
            at.jacobian,
            problem,
            noise,
            s=s,
            krylov=self.krylov,
            bound=2 * ritz.clamp_min(1.0),
        )
