"""One step of the reverse process from level ``s`` to ``s_next``, given a clean estimate.

Every integrator takes ``denoise(x, s)``, an estimate of ``E[x0 | x_s (, y)]``, and uses it both as
the clean image and in the implied noise ``(x - d) / s``; so any conditional denoiser can be
sampled with any of them. Variance-exploding convention throughout: ``x_s = x0 + s n``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sciinv.random import RowNoise

Denoise = Callable[[Tensor, float, float], Tensor]  # (x, s, s_next) -> clean estimate


class Integrator(Protocol):
    """Anything that makes one step."""

    def __call__(
        self, denoise: Denoise, x: Tensor, s: float, s_next: float, noise: RowNoise
    ) -> Tensor:
        """Return the state at ``s_next``."""
        ...


@dataclass(frozen=True)
class Euler:
    """Probability-flow ODE, first order: ``x' = d + (s'/s) (x - d)``."""

    def __call__(
        self, denoise: Denoise, x: Tensor, s: float, s_next: float, noise: RowNoise
    ) -> Tensor:
        """Step; draws no noise."""
        d = denoise(x, s, s_next)
        return d + (s_next / s) * (x - d)


@dataclass(frozen=True)
class Heun:
    """Probability-flow ODE, second order (Karras et al. 2022, arXiv 2206.00364, algorithm 1).

    The corrector uses the same conditional denoiser: with the prior's alone the order drops to 1.
    """

    def __call__(
        self, denoise: Denoise, x: Tensor, s: float, s_next: float, noise: RowNoise
    ) -> Tensor:
        """Step; draws no noise. Two evaluations, one at the last step."""
        slope = (x - denoise(x, s, s_next)) / s
        euler = x + (s_next - s) * slope
        if s_next == 0:
            return euler
        slope_next = (euler - denoise(euler, s_next, s_next)) / s_next
        return x + (s_next - s) * (slope + slope_next) / 2


@dataclass(frozen=True)
class DDIM:
    """DDIM (Song, Meng, Ermon 2021, arXiv 2010.02502) in variance-exploding units.

    :param eta_ddim: 0 is deterministic (equals :class:`Euler`), 1 is :class:`Ancestral`. It is
        *not* the share of re-drawn noise that DDRM, DDNM and DDS call eta.
    """

    eta_ddim: float = 0.0

    def __call__(
        self, denoise: Denoise, x: Tensor, s: float, s_next: float, noise: RowNoise
    ) -> Tensor:
        """Step."""
        d = denoise(x, s, s_next)
        if s_next == 0:
            return d
        variance = self.eta_ddim**2 * s_next**2 * (s**2 - s_next**2) / s**2
        kept = math.sqrt(max(s_next**2 - variance, 0.0)) / s
        step = d + kept * (x - d)
        if variance == 0:
            return step
        return step + math.sqrt(variance) * noise.normal_like(x)


@dataclass(frozen=True)
class Ancestral:
    """Draw from ``q(x' | x, x0 = d)``, the posterior of the forward chain."""

    def __call__(
        self, denoise: Denoise, x: Tensor, s: float, s_next: float, noise: RowNoise
    ) -> Tensor:
        """Step."""
        return DDIM(1.0)(denoise, x, s, s_next, noise)


INTEGRATORS: dict[str, Integrator] = {
    "euler": Euler(),
    "heun": Heun(),
    "ddim": DDIM(),
    "ancestral": Ancestral(),
}


def resolve_integrator(integrator: str | Integrator) -> Integrator:
    """Return the integrator of that name, or the object itself."""
    if not isinstance(integrator, str):
        return integrator
    try:
        return INTEGRATORS[integrator]
    except KeyError:
        raise ValueError(
            f"integrator: found {integrator!r}, expected one of {', '.join(INTEGRATORS)}"
        ) from None
