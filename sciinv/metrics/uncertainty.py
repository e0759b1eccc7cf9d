"""Whether the stated uncertainty is true: coverage, calibration curve, chi-squared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sciinv.errors import DataError
from sciinv.metrics.arrays import Real, real, selection, stack

_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def coverage(
    samples: ArrayLike, truth: ArrayLike, *, level: float = 0.9, mask: ArrayLike | None = None
) -> float:
    """Fraction of the true values inside the central interval of their samples.

    The interval ends at the order statistics that a further draw lies between with probability
    ``level``: positions ``(1 -+ level)/2 (S + 1)``, interpolated where they are not whole. So
    exact posterior samples cover ``level`` whatever their number; plain sample quantiles cover
    less.

    :param samples: ``(S, *shape)``, one scan; complex values are compared by magnitude.
    :param truth: ``shape``.
    :param level: above 0; at most ``(S - 1) / (S + 1)``, beyond which S samples have no interval.
    :param mask: values that count.
    """
    s, t, m = _samples_and_truth(samples, truth, mask, "coverage")
    count = s.shape[0]
    most = (count - 1) / (count + 1)
    if not 0 < level <= most + 1e-12:
        need = int(np.ceil((1 + level) / (1 - level) - 1e-9)) if 0 < level < 1 else None
        raise DataError(
            "coverage",
            "level",
            found=level,
            expected=f"above 0 and at most {most:.3f} for {count} samples",
            hint=f"a level of {level} needs {need} samples" if need else None,
        )
    ends = [max(0.0, (1 - level) / 2), min(1.0, (1 + level) / 2)]
    low, high = np.quantile(s[:, m], ends, axis=0, method="weibull")
    inside = (t[m] >= low) & (t[m] <= high)
    return float(inside.mean())


def calibration_curve(
    samples: ArrayLike,
    truth: ArrayLike,
    *,
    levels: Sequence[float] | None = None,
    mask: ArrayLike | None = None,
) -> tuple[Real, Real]:
    """Nominal and observed coverage of the central intervals; the diagonal is calibrated.

    :param levels: those that S samples attain without interpolation by default,
        ``(S + 1 - 2 k) / (S + 1)``.
    :return: nominal and observed levels, each ``(number of levels,)``, rising.
    """
    s, t, m = _samples_and_truth(samples, truth, mask, "calibration_curve")
    count = s.shape[0]
    if levels is None:
        k = np.arange(count // 2, 0, -1)
        nominal = (count + 1 - 2 * k) / (count + 1)
    else:
        nominal = np.sort(np.asarray(levels, dtype=np.float64))
    observed = [coverage(s, t, level=float(level), mask=m) for level in nominal]
    return nominal, np.asarray(observed)


def normal_curve(
    samples: ArrayLike,
    truth: ArrayLike,
    *,
    levels: Sequence[float] = _LEVELS,
    factor: float = 1.0,
    mask: ArrayLike | None = None,
) -> tuple[Real, Real]:
    """Nominal and observed coverage of ``mean +- t sqrt(1 + 1/S) std``.

    The interval that mean and standard deviation of S samples stand for if the values are normally
    distributed: Student's t with S - 1 degrees of freedom, so that few samples do not look
    over-confident only because they are few. Every level is possible, unlike with ranks.

    :param samples: ``(S, *shape)``, one scan; complex values are compared by magnitude.
    :param truth: ``shape``.
    :param levels: nominal, each between 0 and 1.
    :param factor: the standard deviation is multiplied by it first.
    :param mask: values that count.
    :return: nominal and observed levels.
    """
    s, t, m = _samples_and_truth(samples, truth, mask, "normal_curve")
    nominal = np.sort(np.asarray(levels, dtype=np.float64))
    if nominal.size == 0 or not ((nominal > 0) & (nominal < 1)).all():
        raise DataError("normal_curve", "levels", found=levels, expected="values between 0 and 1")
    if not 0 < factor < float("inf"):
        raise DataError("normal_curve", "factor", found=factor, expected="a positive number")
    count = s.shape[0]
    error = np.abs(s[:, m].mean(axis=0) - t[m])
    spread = factor * np.sqrt(1 + 1 / count) * s[:, m].std(axis=0, ddof=1)
    ends = stats.t.ppf((1 + nominal) / 2, count - 1)
    return nominal, np.array([float(np.mean(error <= end * spread)) for end in ends])


def error_over_std(samples: ArrayLike, truth: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """Root mean square error of the mean over that which the spread of S samples promises.

    The promise is ``sqrt(1 + 1/S)`` times the standard deviation, as the mean of few samples errs
    by itself. 1 is calibrated, 2 means errors twice as large as stated.

    :param samples: ``(S, *shape)``, one scan; complex values are compared by magnitude.
    :param truth: ``shape``.
    :param mask: values that count.
    :return: infinite if all samples are equal.
    """
    s, t, m = _samples_and_truth(samples, truth, mask, "error_over_std")
    count = s.shape[0]
    square = float(np.mean((s[:, m].mean(axis=0) - t[m]) ** 2))
    variance = (1 + 1 / count) * float(np.mean(s[:, m].var(axis=0, ddof=1)))
    return float(np.sqrt(square / variance)) if variance > 0 else float("inf")


def chi_squared(residual_norm: float, count: int, *, sigma: float = 1.0) -> float:
    """Squared residual over its expected value, ``|A x - y|^2 / (count sigma^2)``.

    For the true image it is 1 with a standard deviation of ``sqrt(2 / count)``; the same holds for
    a posterior sample up to the number of parameters that the data determine, and a posterior mean
    lies below 1. Far above 1: model or noise level wrong; far below: the noise is fitted.

    :param residual_norm: norm of ``A x - y`` over the measured components.
    :param count: number of measured real components (``measurement_count()`` of an operator).
    :param sigma: noise standard deviation per real component; 1 for whitened data.
    """
    if not (0 <= residual_norm < float("inf") and count >= 1 and 0 < sigma < float("inf")):
        raise DataError(
            "chi_squared",
            found=f"residual_norm={residual_norm}, count={count}, sigma={sigma}",
            expected="a finite norm, at least one component and a noise level above zero",
        )
    return (residual_norm / sigma) ** 2 / count


def _samples_and_truth(
    samples: ArrayLike, truth: ArrayLike, mask: ArrayLike | None, where: str
) -> tuple[Real, Real, NDArray[np.bool_]]:
    s, t = stack(samples, where, least=2), real(truth, where, "truth")
    if s.shape[1:] != t.shape:
        raise DataError(where, "samples", found=f"shape {s.shape}", expected=f"(S, *{t.shape})")
    return s, t, selection(mask, t.shape, where)
