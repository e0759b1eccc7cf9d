"""Noise-level grids, from the largest level down to zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Schedule = Literal["edm", "vp"]


def edm_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """Return ``steps`` levels of Karras et al. (2022, arXiv 2206.00364, eq. 5), then 0.

    ``sigma_i = (smax^(1/rho) + i/(steps-1) (smin^(1/rho) - smax^(1/rho)))^rho``.
    """
    _check(steps, sigma_min, sigma_max)
    if steps == 1:
        return [sigma_max, 0.0]
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(high + i / (steps - 1) * (low - high)) ** rho for i in range(steps)] + [0.0]


def vp_sigmas(
    steps: int,
    sigma_min: float,
    sigma_max: float,
    beta_min: float = 0.1,
    beta_max: float = 20.0,
) -> list[float]:
    """Return the levels of a variance-preserving chain with linear beta(t), then 0.

    ``1 + sigma^2 = 1 / alpha_bar(t)`` with
    ``alpha_bar(t) = exp(-(beta_max - beta_min) t^2 / 2 - beta_min t)`` (Song et al. 2021, arXiv
    2011.13456, eq. 33), at equidistant t between the two limits.
    """
    _check(steps, sigma_min, sigma_max)
    span = beta_max - beta_min

    def time_of(sigma: float) -> float:
        return (math.sqrt(beta_min**2 + 2 * span * math.log1p(sigma**2)) - beta_min) / span

    first, last = time_of(sigma_max), time_of(sigma_min)
    if steps == 1:
        return [sigma_max, 0.0]
    times = [first + i / (steps - 1) * (last - first) for i in range(steps)]
    return [math.sqrt(math.expm1(span * t * t / 2 + beta_min * t)) for t in times] + [0.0]


def _check(steps: int, sigma_min: float, sigma_max: float) -> None:
    if steps < 1:
        raise ValueError(f"steps: found {steps}, expected at least 1")
    if not 0 < sigma_min <= sigma_max < math.inf:
        raise ValueError(
            f"noise levels: found sigma_min={sigma_min}, sigma_max={sigma_max}, "
            "expected 0 < sigma_min <= sigma_max"
        )


SCHEDULES: dict[str, Callable[[int, float, float], list[float]]] = {
    "edm": edm_sigmas,
    "vp": vp_sigmas,
}
