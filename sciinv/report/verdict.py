"""One sentence on whether the result fits its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sciinv.report.plain import harmless

if TYPE_CHECKING:
    from sciinv.result import Result

# above it a run warns of the misfit too
_RAISED = 1.25


def verdict(result: Result) -> str:
    """Say in one sentence whether the samples fit the data, with the numbers and warnings.

    A chi-squared within three tolerances or a tenth of 1 "fits to the noise": an estimated noise
    level is seldom known to better than 5 %.
    """
    from sciinv.result import Status

    chi, tolerance = float(result.chi_squared), float(result.chi_squared_tolerance)
    tolerance = tolerance if np.isfinite(tolerance) else 0.0
    digits = _digits(tolerance)
    expected = f"{1:.{digits}f} \N{PLUS-MINUS SIGN} {max(tolerance, 10.0**-digits):.{digits}f}"
    numbers = f"chi-squared {chi:.{digits}f}, expected {expected}"
    if (raised := noise_raised(result)) is not None:
        numbers += f", at {raised:.1f} times the noise level of the scan"
    if not np.isfinite(chi):
        numbers = "chi-squared is not a number"
    close = abs(chi - 1) <= max(3 * tolerance, 0.1)
    if result.status is Status.FAILED:
        head = f"Failed: do not use these images ({numbers})."
    elif result.status is Status.MISFIT:
        side = "misses" if chi > 1 else "overfits"
        cause = (
            "noise level too low or model wrong" if chi > 1 else "noise level probably set too high"
        )
        head = f"Does not fit: {side} the data ({numbers}): {cause}."
    else:
        fit = "Fits the data to the noise" if close else "Fits the data roughly"
        head = f"{fit} ({numbers})."
    if result.status is Status.STOPPED:
        head = f"Stopped after {_count(result.num_samples, 'sample')}. {head}"
    if result.status is not Status.FAILED and result.prior_share is not None:
        head += f" {percent(result.prior_share)} of the image energy comes from the prior."
    if result.warnings:
        head += f" {_count(len(result.warnings), 'warning')}."
    return harmless(head)


def noise_raised(result: Result) -> float | None:
    """Factor on the noise level that the samples took, if it is above 1.25.

    A run raises it to what its first image leaves unexplained; chi-squared alone hides that.
    """
    found, used = (result.provenance.get(name) for name in ("noise", "noise_used"))
    if not isinstance(found, int | float) or not isinstance(used, int | float) or not found > 0:
        return None
    return used / found if used > _RAISED * found else None


def percent(share: float) -> str:
    """Write a share in per cent with about two digits; small ones as ``below 0.1 %``."""
    if not share >= 0.001:
        return "Below 0.1 %"
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %"


def _digits(tolerance: float) -> int:
    # enough to show one digit of the tolerance, from two to three decimals
    if tolerance <= 0:
        return 2
    return int(np.clip(np.ceil(-np.log10(tolerance)), 2, 3))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
