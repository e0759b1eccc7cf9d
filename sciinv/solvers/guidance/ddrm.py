"""Denoising diffusion restoration models: every singular direction on its own."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.operators.spectral import Spectrum
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver, Step
from sciinv.solvers.guidance.common import (
    DATA_NEEDS,
    PAPER_ETA,
    ROUNDING,
    check_share,
    problem_spectrum,
    renoise_shares,
    spectral_floor,
)
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule


class DDRM(Solver):
    r"""Denoising diffusion restoration: data and denoiser meet in each singular direction.

    With :math:`A = U\,\mathrm{diag}(S)\,V^T`, :math:`\bar x = V^T x`, :math:`\bar d = V^T D(x, s)`
    and :math:`\bar y = U^T y / S`, whose noise is :math:`\sigma_y/S`, the next state is along a
    direction that

    - is not measured: :math:`\bar d + s'(\sqrt{1-\eta^2}\,(\bar x-\bar d)/s + \eta z)`,
    - is measured with more noise than :math:`s'`:
      :math:`\bar d + s'(\sqrt{1-\eta^2}\,(\bar y-\bar d)\,S/\sigma_y + \eta z)`,
    - is measured with less: :math:`(1-\eta_b)\bar d + \eta_b\bar y +
      \sqrt{s'^2 - \eta_b^2\sigma_y^2/S^2}\,z`.

    Were the denoiser to return the true image, every state would be that image plus white noise of
    the right level, for any :math:`\eta, \eta_b`, also different ones. As it returns a mean
    instead, the spread is too small: a fixed :math:`\eta` re-draws noise around that mean at every
    step, more often with more steps.

    Cost per step: one forward, one V, one V^T; no A.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: noise levels; the paper's 20 are too few for a sample to change modes.
    :param sigma_min: last level above zero, not below the prior's smallest; by default what the
        data leave open along the directions that they measure (its variance: half of the mean for
        a white image of unit variance): further down most directions are noisier than the level,
        and every denoising only shrinks the image again.
    :param eta_renoise: share of re-drawn noise, 0 to 1; 0.85, the paper's, by default: samples
        change modes. ``None`` is 0.85 along measured directions, and along the others that of
        ancestral steps, :math:`\eta^2 = 1 - s'^2/s^2`, with which their spread is right for small
        steps.
    :param eta_b: weight of the data along well-measured directions, 0 to 1.
    """

    needs: ClassVar[frozenset[Capability]] = DATA_NEEDS | {Capability.SVD}
    exact_for: ClassVar[str] = "nothing (a denoiser in the place of the clean image)"
    reference: ClassVar[str] = (
        "Kawar, Elad, Ermon, Song, Denoising Diffusion Restoration Models, NeurIPS 2022, "
        "arXiv 2201.11793"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        eta_renoise: float | None = PAPER_ETA,
        eta_b: float = 1.0,
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
        if eta_renoise is not None:
            check_share("eta_renoise", eta_renoise)
        check_share("eta_b", eta_b)
        self.eta_renoise = eta_renoise
        self.eta_b = eta_b
        self._spectrum: Spectrum | None = None

    def _default_sigma_min(self, problem: Problem) -> float:
        floor = super()._default_sigma_min(problem)
        return floor if self.noiseless else spectral_floor(problem, floor)

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return the data noised to the first level where they are better than it."""
        self._spectrum = directions = problem_spectrum(problem)
        blank = start + sigma * noise.normal_like(start)
        spread = self._spread(directions, problem)
        seen = (directions.values > 0) & (spread <= sigma * (1 + ROUNDING))
        missing = (sigma**2 - spread**2).clamp_min(0).sqrt()
        coefficients = directions.forward(blank)
        noise_of = directions.forward((blank - start) / sigma)
        move = directions.data + missing * noise_of - coefficients
        return blank + directions.backward(torch.where(seen, move, torch.zeros_like(move)))

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Denoise, then step along every direction by the rule that its noise asks for."""
        directions = self._spectrum
        assert directions is not None  # noqa: S101  init was called
        d = self.evaluate(state, s)
        eta, eta_noisy = renoise_shares(self.eta_renoise, s, s_next)
        kept = s_next * math.sqrt(1 - eta**2)
        if s_next > 0:
            z = noise.normal_like(state)
            free = d + (kept / s) * (state - d) + eta * s_next * z
            fresh = directions.forward(z)
        else:
            free, fresh = d, torch.zeros((), dtype=d.dtype, device=d.device)
        d_bar, spread = directions.forward(d), self._spread(directions, problem)
        apart = directions.data - d_bar
        # where the data are exact the other rule is taken
        precision = torch.where(spread > 0, 1 / spread, torch.zeros_like(spread))
        kept_noisy = s_next * math.sqrt(1 - eta_noisy**2)
        noisy = d_bar + kept_noisy * precision * apart + eta_noisy * s_next * fresh
        missing = (s_next**2 - (self.eta_b * spread) ** 2).clamp_min(0).sqrt()
        clean = d_bar + self.eta_b * apart + missing * fresh
        chosen = torch.where(spread <= s_next * (1 + ROUNDING), clean, noisy)
        move = chosen - directions.forward(free)
        move = torch.where(directions.values > 0, move, torch.zeros_like(move))
        return Step(free + directions.backward(move), d)

    def _spread(self, directions: Spectrum, problem: Problem) -> Tensor:
        """Return the noise of the data along each direction, ``sigma_y / S``; 0 if S is."""
        return 0.0 * directions.inverse if self.noiseless else problem.sigma * directions.inverse


__all__ = ["DDRM"]
