"""Denoising diffusion null-space models: the data in the range, the denoiser in the null space."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciinv.capabilities import DESCRIPTION, Capability
from sciinv.errors import IncompatibleError
from sciinv.operators.spectral import Spectrum, has_spectrum
from sciinv.random import RowNoise
from sciinv.solvers.base import Solver, Step
from sciinv.solvers.guidance.common import (
    DATA_NEEDS,
    ROUNDING,
    check_cg,
    check_share,
    correction,
    data_floor,
    data_step,
    problem_spectrum,
    renoise_shares,
    spectral_floor,
)
from sciinv.solvers.problem import Prior, Problem
from sciinv.solvers.schedule import Schedule

Noisy = Literal["auto", "svd", "smooth"]


class DDNM(Solver):
    r"""Null-space models: what was measured is taken from the data, the rest from the denoiser.

    Exact data (``noiseless=True``): :math:`\hat d = D - A^+(AD - y)` and
    :math:`x' = \hat d + s'(\sqrt{1-\eta^2}\,(x-D)/s + \eta z)`, with :math:`A^+` by conjugate
    gradients, for every linear operator. Noisy data are weighted by what their noise leaves:

    - ``noisy="svd"``, the published DDNM+: along a singular direction :math:`\hat d` moves by the
      share 1 where :math:`\sigma_y/S\le s'`, else :math:`\sqrt{1-\eta^2}\,s'S/\sigma_y`, and the
      noise is topped up to :math:`s'`; the same chain as :class:`~sciinv.solvers.DDRM` at
      :math:`\eta_b=1`. Runs where a decomposition is declared or the operator is small.
    - ``noisy="smooth"``, for every linear operator: the state
      :math:`D + s'(\sqrt{1-\eta^2}\,(x-D)/s+\eta z)` is pulled to noised data with the weight
      :math:`S^2/(S^2+\sigma_y^2/2s'^2)`, which keeps its noise level; one linear system.
    - ``noisy="auto"`` (default): the first where there is a decomposition, else the second.

    The simplified scalar form of the paper is the first one for :math:`AA^T=I`.

    Cost per step: one forward; exact data ``cg + 1`` A^T A; SVD one V, one V^T; smooth ``cg + 1``
    A^T A.

    :param prior: denoiser ``D(x, sigma)``.
    :param steps: noise levels.
    :param sigma_min: last level above zero, not below the prior's smallest: further down the data
        are no better than the level, and every denoising only shrinks the image again. By default
        ``sigma_y / |A|``, with the SVD what the data leave open along the directions that they
        measure (its variance: half of the mean for a white image of unit variance).
    :param eta_renoise: share of re-drawn noise, 0 to 1; 0.85 in the paper. By default (``None``)
        that of ancestral steps, :math:`\eta^2 = 1 - s'^2/s^2`; with the SVD 0.85 along directions
        measured with more noise than :math:`s'`.
    :param travel: time travel: after every ``travel`` levels go back as many by adding noise and
        repeat; 0 is off.
    :param repeats: times that each such stretch is done in all.
    :param cg: most iterations of conjugate gradients.
    :param cg_tol: their relative residual.
    """

    needs: ClassVar[frozenset[Capability]] = DATA_NEEDS
    exact_for: ClassVar[str] = "nothing (a denoiser in the place of the clean image)"
    reference: ClassVar[str] = (
        "Wang, Yu, Zhang, Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model, "
        "ICLR 2023, arXiv 2212.00490"
    )

    def __init__(
        self,
        prior: Prior,
        *,
        steps: int = 100,
        eta_renoise: float | None = None,
        noisy: Noisy = "auto",
        travel: int = 0,
        repeats: int = 2,
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
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            schedule=schedule,
            noiseless=noiseless,
        )
        if eta_renoise is not None:
            check_share("eta_renoise", eta_renoise)
        if noisy not in ("auto", "svd", "smooth"):
            raise ValueError(f"noisy: found {noisy!r}, expected 'auto', 'svd' or 'smooth'")
        if travel < 0 or repeats < 1:
            raise ValueError(
                f"travel, repeats: found {travel}, {repeats}, expected at least 0 and 1"
            )
        check_cg(cg, cg_tol)
        self.eta_renoise = eta_renoise
        self.noisy = noisy
        self.travel = travel
        self.repeats = repeats
        self.cg = cg
        self.cg_tol = cg_tol
        self._spectrum: Spectrum | None = None

    def _default_sigma_min(self, problem: Problem) -> float:
        floor = super()._default_sigma_min(problem)
        if self.noiseless:
            return floor
        decomposed = self.noisy != "smooth" and has_spectrum(problem.physics)
        return (spectral_floor if decomposed else data_floor)(problem, floor)

    def levels(self, problem: Problem) -> list[float]:
        """Noise levels; with time travel some come again."""
        grid = super().levels(problem)
        if self.travel == 0:
            return grid
        path = [grid[0]]
        for first in range(0, len(grid) - 1, self.travel):
            stretch = grid[first + 1 : first + 1 + self.travel]
            # level 0 is reached once, at the very end
            again = [grid[first], *stretch] if stretch[-1] > 0 else []
            path += stretch + again * (self.repeats - 1)
        return path

    def init(self, problem: Problem, noise: RowNoise, sigma: float, start: Tensor) -> Tensor:
        """Return a start with noise of the first level; take the decomposition if one is used."""
        self._spectrum = None
        exists = has_spectrum(problem.physics)
        if not self.noiseless and (self.noisy == "svd" or (self.noisy == "auto" and exists)):
            if not exists:
                raise IncompatibleError(
                    f"DDNM: noisy='svd' on {type(problem.physics).__name__} needs "
                    f"{DESCRIPTION[Capability.SVD]}; noisy='smooth' needs none"
                )
            self._spectrum = problem_spectrum(problem)
        return super().init(problem, noise, sigma, start)

    def step(
        self, state: Tensor, s: float, s_next: float, problem: Problem, noise: RowNoise
    ) -> Step:
        """Denoise, put the data in, and add the noise of the next level."""
        if s_next > s:  # time travel: forward in the noising process
            back = state + math.sqrt(s_next**2 - s**2) * noise.normal_like(state)
            return Step(back, state)
        d = self.evaluate(state, s)
        eta, eta_noisy = renoise_shares(self.eta_renoise, s, s_next)
        kept = s_next * math.sqrt(1 - eta**2)
        z = noise.normal_like(state) if s_next > 0 else torch.zeros_like(state)
        free = (kept / s) * (state - d) + (eta * s_next) * z
        if self.noiseless:
            hat = d + correction(problem, d, 0.0, max_iter=self.cg, tol=self.cg_tol)
            return Step(hat + free, hat)
        if self._spectrum is None:
            reference = noise.normal_like(state) if s_next > 0 else None
            x = data_step(
                problem,
                d + free,
                reference,
                s_next,
                sigma=problem.sigma,
                max_iter=self.cg,
                tol=self.cg_tol,
            )
            return Step(x, d)
        directions = self._spectrum
        spread = problem.sigma * directions.inverse
        better = spread <= s_next * (1 + ROUNDING)
        seen = directions.values > 0
        partly = s_next * math.sqrt(1 - eta_noisy**2) / problem.sigma
        share = torch.where(better, 1.0, partly * directions.values)
        topped = (s_next**2 - spread**2).clamp_min(0).sqrt()
        added = torch.where(better, topped, eta_noisy * s_next)
        gap = directions.forward(d) - directions.data
        move = added * directions.forward(z) - share * gap - directions.forward(free)
        move = torch.where(seen, move, torch.zeros_like(move))
        return Step(d + free + directions.backward(move), d)


__all__ = ["DDNM"]
