"""Projection onto noised data between the steps of a score-based model, and Score-MRI."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.linalg import quick_dot, row_scale
from sciinv.random import RowNoise
from sciinv.solvers.base import Step
from sciinv.solvers.guidance.common import check_share
from sciinv.solvers.guidance.projection import ProjectionSolver
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule

Data = Literal["noised", "plain"]
Predictor = Literal["ancestral", "reverse_diffusion"]


class ScoreSDE(ProjectionSolver):
    r"""Score-based reconstruction: steps on the prior, each followed by a data step.

    Predictor (ancestral, or the reverse diffusion :math:`x+(s^2-s'^2)\nabla\log p_s(x) +
    \sqrt{s^2-s'^2}\,z`), data step, and ``corrector`` times a Langevin step
    :math:`x + \epsilon\nabla\log p_{s'}(x) + \sqrt{2\epsilon}\,z` with
    :math:`\epsilon = 2(r|z|/|\nabla\log p_{s'}|)^2`, row by row (and with ``soft`` at most
    :math:`2r^2s'^2`, its size on pure noise), and a data step. The data step is

    .. math:: x \leftarrow x + \lambda A^+(y + s'Az - Ax)

    on data noised to the level of the state (``data="noised"``, Song et al.) or on the data as
    they are (``"plain"``, Score-MRI). The published codes replace samples of k-space or of the
    sinogram; :math:`A^+` by conjugate gradients does that for every linear operator. By default
    noise in the data weakens the replacement direction by direction (``soft``).

    Score-MRI as published: ``steps=2000, data="plain", soft=False, corrector=1,
    predictor="reverse_diffusion"``.

    Cost per step: ``1 + corrector`` times one forward and ``cg + 1`` A^T A.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: noise levels.
    :param weight: :math:`\lambda`, 0 to 1.
    :param data: ``"noised"`` or ``"plain"``.
    :param soft: replace a direction only as far as its noise allows; ``False`` always replaces.
    :param predictor: ``"ancestral"`` or ``"reverse_diffusion"``; they agree for small steps.
    :param corrector: Langevin steps at each level above zero.
    :param snr: :math:`r`, ratio of step and noise of the corrector; 0.16 in the paper.
    :param cg: most iterations of conjugate gradients for ``A^+``.
    :param cg_tol: their relative residual.
    """

    needs: ClassVar[frozenset[Capability]] = ProjectionSolver.needs
    exact_for: ClassVar[str] = "nothing but complete exact data (the free part is not conditioned)"
    reference: ClassVar[str] = (
        "Song, Shen, Xing, Ermon, Solving Inverse Problems in Medical Imaging with Score-Based "
        "Generative Models, ICLR 2022, arXiv 2111.08005; Chung, Ye, Score-Based Diffusion Models "
        "for Accelerated MRI, Medical Image Analysis 2022, arXiv 2110.05243"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        weight: float = 1.0,
        data: Data = "noised",
        soft: bool = True,
        predictor: Predictor = "ancestral",
        corrector: int = 0,
        snr: float = 0.16,
        cg: int = 30,
        cg_tol: float = 1e-6,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        schedule: Schedule = "edm",
        noiseless: bool = False,
    ) -> None:
        super().__init__(
            prior,
            steps=steps,
            weight=weight,
            soft=soft,
            cg=cg,
            cg_tol=cg_tol,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            schedule=schedule,
            noiseless=noiseless,
        )
        if data not in ("noised", "plain"):
            raise ValueError(f"data: found {data!r}, expected 'noised' or 'plain'")
        if predictor not in ("ancestral", "reverse_diffusion"):
            raise ValueError(
                f"predictor: found {predictor!r}, expected 'ancestral' or 'reverse_diffusion'"
            )
        if corrector < 0:
            raise ValueError(f"corrector: found {corrector}, expected at least 0")
        check_share("snr", snr)
        self.data = data
        self.predictor = predictor
        self.corrector = corrector
        self.snr = snr

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return noise of the first level with the measured part replaced."""
        return self._data(problem, super().init(problem, noise, sigma, start), sigma, noise)

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Predict, put the data in; correct, put the data in."""
        if self.predictor == "ancestral" or s_next == 0:
            x, d = self.ancestral(state, s, s_next, noise)
        else:
            d = self.evaluate(state, s)
            gap = s**2 - s_next**2
            x = state + gap / s**2 * (d - state) + math.sqrt(gap) * noise.normal_like(state)
        x = self._data(problem, x, s_next, noise)
        for _ in range(self.corrector if s_next > 0 else 0):
            d = self.evaluate(x, s_next)
            x = self._data(problem, self._correct(x, d, s_next, noise), s_next, noise)
        return Step(x, d)

    def _correct(self, x: Tensor, d: Tensor, s: float, noise: RowNoise) -> Tensor:
        """Make one Langevin step; its size comes from the norms of each row."""
        z = noise.normal_like(x)
        score = (d - x) / s**2
        squared = quick_dot(z, z) / quick_dot(score, score).clamp_min(1e-300)
        if self.soft:
            # a weak pull of the data cannot hold a state that walks further than its noise
            squared = squared.clamp(max=s**2)
        epsilon = 2 * self.snr**2 * squared
        return x + row_scale(epsilon, x) * score + row_scale(torch.sqrt(2 * epsilon), x) * z

    def _data(self, problem: Problem, x: Tensor, level: float, noise: RowNoise) -> Tensor:
        return self.project(problem, x, level, noise, noised=self.data == "noised")


__all__ = ["ScoreSDE"]
