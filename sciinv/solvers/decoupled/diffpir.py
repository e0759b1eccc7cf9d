"""Denoising diffusion with a proximal data step."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver, Step
from sciinv.solvers.decoupled.descent import descend
from sciinv.solvers.decoupled.potential import Potential
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.proximal import proximal_mean
from sciinv.solvers.schedule import Schedule

Width = Literal["vp", "sigma"]


class DiffPIR(Solver):
    r"""Denoise, pull the denoised image to the data, and step to the next level.

    .. math::
        \hat x = \arg\max_v\; \log p(y\mid Av) - \frac{|v - D|^2}{2 r^2}, \qquad
        x' = \hat x + \sigma'\Bigl(\sqrt{1-\eta^2}\,\frac{x-\hat x}{\sigma} + \eta z\Bigr).

    :math:`\hat x` is :math:`E[x_0\mid x_\sigma, y]` if :math:`x_0` given the state is
    :math:`N(D, r^2 I)`. ``width="vp"`` (default) takes
    :math:`r^2=\sigma^2/(1+\sigma^2)/\lambda`, its spread for an image of unit variance;
    ``"sigma"`` the published :math:`\sigma^2/\lambda`. Images are smoother, so less uncertain, than
    white ones: :math:`\lambda=2` by default. With :math:`\eta=0` the step is Euler's of the
    probability-flow ODE; the published noise (``eta_renoise**2 = zeta``, 0.1 for deblurring, the
    default, 0.25 for super-resolution, 1 for inpainting) lets samples change modes and costs
    variance that no number of steps brings back.

    Cost per step: one forward, then up to ``cg`` A^T A (linear operator and white noise), else
    ``descent`` A and vjps of A.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: noise levels.
    :param lam: ``lambda``, dimensionless; trust in the denoised image.
    :param width: ``"vp"`` or ``"sigma"``, see above.
    :param eta_renoise: share of the noise that is drawn afresh, in [0, 1].
    :param cg: largest number of conjugate-gradient iterations of a data step.
    :param tol: relative residual at which these end.
    :param descent: evaluations of the potential where there is no linear system.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DIFFERENTIABLE, Capability.LIKELIHOOD}
    )
    exact_for: ClassVar[str] = "white priors of unit variance, lam=1, eta_renoise=0, as steps grow"
    reference: ClassVar[str] = (
        "Zhu, Zhang, Liang, Cao, Wen, Timofte, Van Gool, Denoising Diffusion Models for "
        "Plug-and-Play Image Restoration, CVPRW 2023, arXiv 2305.08995"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        lam: float = 2.0,
        width: Width = "vp",
        eta_renoise: float = 0.1**0.5,
        cg: int = 50,
        tol: float = 1e-4,
        descent: int = 20,
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
        if not lam > 0 or not tol > 0:
            raise ValueError(f"lam, tol: found {lam}, {tol}, expected positive numbers")
        if width not in ("vp", "sigma"):
            raise ValueError(f"width: found {width!r}, expected 'vp' or 'sigma'")
        if not 0 <= eta_renoise <= 1:
            raise ValueError(f"eta_renoise: found {eta_renoise}, expected a number in [0, 1]")
        if cg < 1 or descent < 1:
            raise ValueError(f"cg, descent: found {cg}, {descent}, expected at least 1 of each")
        self.lam = lam
        self.width = width
        self.eta_renoise = eta_renoise
        self.cg = cg
        self.tol = tol
        self.descent = descent

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Denoise, solve the proximal problem, step with its solution as the clean image."""
        clean = self.data_step(self.evaluate(state, s), s, problem)
        if s_next == 0:
            return Step(clean, clean)
        kept = math.sqrt(1 - self.eta_renoise**2) / s
        implied = kept * (state - clean)
        if self.eta_renoise > 0:
            implied = implied + self.eta_renoise * noise.normal_like(state)
        return Step(clean + s_next * implied, clean)

    def data_step(self, centre: Tensor, s: float, problem: Problem) -> Tensor:
        """Return the image nearest to ``centre`` and the data, weighted by ``r`` and the noise."""
        r = s / math.sqrt(self.lam * (1 + s * s if self.width == "vp" else 1.0))
        if problem.linear_white:
            return proximal_mean(problem, centre, r, max_iter=self.cg, tol=self.tol)
        return descend(Potential(problem, centre, r), centre, iterations=self.descent).x
