"""Split Gibbs sampling with a diffusion model as prior."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from sciinv.capabilities import DESCRIPTION, Capability, prior_capabilities
from sciinv.errors import IncompatibleError
from sciinv.random import RowNoise
from sciinv.solvers.base import DEFAULT_SIGMA_MAX, DEFAULT_SIGMA_MIN, Solver, Step
from sciinv.solvers.decoupled.langevin import likelihood_draw
from sciinv.solvers.integrators import Ancestral
from sciinv.solvers.krylov import sqrt_times
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import edm_sigmas

# where no noise level in units of the image is at hand: a twentieth of its standard deviation
_RHO_MIN = 0.05

Transition = Literal["ancestral", "moments"]


class PnPDM(Solver):
    r"""Split Gibbs: an image that the prior draws and one that the data draw, coupled by ``rho``.

    .. math::
        \pi(x, z) \propto p(x)\,p(y\mid z)\,e^{-|x-z|^2/(2\rho^2)}: \qquad
        z \sim p(y\mid z)\,N(z; x, \rho^2 I), \quad x \sim p(x)\,N(z; x, \rho^2 I).

    The first draw is exact for a linear operator and white noise (perturbation and conjugate
    gradients), by Metropolis-adjusted Langevin steps otherwise. The second is the reverse *SDE*
    from level :math:`\rho`, at which :math:`z` is a noisy image, to zero; the probability-flow ODE
    of the published default maps :math:`z` to one image and draws nothing. :math:`\rho` falls from
    ``rho_max`` by ``decay`` an iteration and stays at ``rho_min``.

    At fixed :math:`\rho` the law of :math:`x` tends to :math:`p(x)\,N(y; Ax, \sigma_y^2 I +
    \rho^2 AA^T)` whatever the prior: the posterior of noise enlarged by :math:`\rho`. The
    iterations needed grow as :math:`1/\rho^2`, which annealing avoids.

    Ancestral steps lose spread: 5 % with 100 levels, 9 % with 50 under Gaussian priors.
    ``transition="moments"`` draws the clean image from :math:`N(D, \sigma^2 J)` at every level
    instead, which is exact for Gaussian priors with any number of levels and costs ``lanczos``
    vjps each.

    Cost per step: one forward for every level of the prior's grid below ``rho``, and one; up to
    ``cg`` A^T A, or ``1.2 langevin`` A and vjps of A. The state is the clean image.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: iterations.
    :param rho_max: first coupling, in units where images have a standard deviation of about 1.
    :param rho_min: last coupling, same units. By default ``sigma_y / |A| / 2`` for a linear
        operator and white noise, which enlarges the noise by at most 12 %, but not below the
        prior's smallest level; 0.05 otherwise.
    :param decay: factor an iteration; by default such that ``rho_min`` is reached after four fifths
        of the iterations.
    :param prior_steps: levels of the whole grid between ``sigma_max`` and ``sigma_min``; ``rho`` is
        put into it, and those below are walked.
    :param transition: of the prior's draw, ``"ancestral"`` or ``"moments"``.
    :param lanczos: dimension of the space in which the root of ``J`` is taken for ``"moments"``.
    :param langevin: Langevin steps of a draw where it is not exact.
    :param exact: False takes Langevin steps for linear operators as well.
    :param cg: largest number of conjugate-gradient iterations of an exact draw.
    :param tol: relative residual at which these end.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DIFFERENTIABLE, Capability.LIKELIHOOD}
    )
    exact_for: ClassVar[str] = (
        "its own law, the posterior with noise enlarged by rho_min, for any prior"
    )
    reference: ClassVar[str] = (
        "Wu, Sun, Chen, Zhang, Yue, Bouman, Principled Probabilistic Imaging using Diffusion "
        "Models as Plug-and-Play Priors, NeurIPS 2024, arXiv 2405.18782"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 30,
        rho_max: float = 3.0,
        rho_min: float | None = None,
        decay: float | None = None,
        prior_steps: int = 100,
        transition: Transition = "ancestral",
        lanczos: int = 3,
        langevin: int = 50,
        exact: bool = True,
        cg: int = 50,
        tol: float = 1e-4,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        noiseless: bool = False,
    ) -> None:
        super().__init__(
            prior, steps=steps, sigma_min=sigma_min, sigma_max=sigma_max, noiseless=noiseless
        )
        if not 0 < (rho_max if rho_min is None else rho_min) <= rho_max:
            raise ValueError(
                f"rho_min, rho_max: found {rho_min}, {rho_max}, expected 0 < rho_min <= rho_max"
            )
        if decay is not None and not 0 < decay <= 1:
            raise ValueError(f"decay: found {decay}, expected a number in (0, 1]")
        if min(prior_steps, lanczos, langevin, cg) < 1:
            raise ValueError(
                f"prior_steps, lanczos, langevin, cg: found {prior_steps}, {lanczos}, {langevin}, "
                f"{cg}, expected at least 1 of each"
            )
        if transition not in ("ancestral", "moments"):
            raise ValueError(f"transition: found {transition!r}, expected 'ancestral' or 'moments'")
        if not tol > 0:
            raise ValueError(f"tol: found {tol}, expected a positive number")
        self.rho_max = rho_max
        self.rho_min = rho_min
        self.decay = decay
        self.prior_steps = prior_steps
        self.transition = transition
        self.lanczos = lanczos
        self.langevin = langevin
        self.exact = exact
        self.cg = cg
        self.tol = tol

    def levels(self, problem: Problem) -> list[float]:
        """Couplings ``rho`` of all iterations, then 0."""
        last = self.rho_min
        if last is None and problem.linear_white:
            last = max(problem.sigma / problem.norm / 2, self._default_sigma_min(problem))
        last = min(_RHO_MIN if last is None else last, self.rho_max)
        falling = max(1, round(0.8 * self.steps) - 1)
        decay = self.decay or (last / self.rho_max) ** (1 / falling)
        rhos = [max(last, self.rho_max * decay**k) for k in range(self.steps)]
        return [*rhos, 0.0]

    def prior_levels(self, rho: float) -> list[float]:
        """Levels of the prior's draw: ``rho``, those of the grid below it, 0."""
        top = self.sigma_max or getattr(self.prior, "sigma_max", None) or DEFAULT_SIGMA_MAX
        low = self.sigma_min or getattr(self.prior, "sigma_min", None) or DEFAULT_SIGMA_MIN
        grid = edm_sigmas(self.prior_steps, min(low, top), top)
        return [rho, *(level for level in grid if level < rho)]

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return ``start + rho n`` at the first coupling: a chain may begin anywhere."""
        if self.transition == "moments" and Capability.VJP not in prior_capabilities(self.prior):
            raise IncompatibleError(
                f'PnPDM: transition="moments" needs {DESCRIPTION[Capability.VJP]}; '
                'transition="ancestral" does not'
            )
        return super().init(problem, noise, sigma, start)

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Draw ``z`` given image and data, then the image given ``z``, both at coupling ``s``."""
        z = likelihood_draw(
            problem,
            state,
            s,
            noise,
            cg=self.cg,
            tol=self.tol,
            langevin=self.langevin,
            exact=self.exact,
        )
        x = self.prior_draw(z, s, noise)
        return Step(x, x)

    def prior_draw(self, z: Tensor, rho: float, noise: RowNoise) -> Tensor:
        """Draw from ``p(x0 | x0 + rho n = z)`` by the reverse SDE."""

        def clean(x: Tensor, level: float, target: float) -> Tensor:
            if self.transition == "ancestral":
                return self.evaluate(x, level)
            at = self.linearise(x, level)
            spread, _ = sqrt_times(at.jacobian, noise.normal_like(x), self.lanczos)
            self._release()  # one graph at a time
            return at.d + level * spread

        levels = self.prior_levels(rho)
        for level, target in zip(levels, levels[1:], strict=False):
            z = Ancestral()(clean, z, level, target, noise)
        return z
