"""Checks and conversions that the metrics share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciinv.errors import DataError

Real = NDArray[np.float64]


def magnitude(x: ArrayLike, *, channel_axis: int) -> Real:
    """Magnitude of an array whose ``channel_axis`` holds real and imaginary part, or one value.

    :param channel_axis: axis of length 1 (real: its absolute value is *not* taken) or 2; removed.
    :raises DataError: for another length.
    """
    a = np.asarray(x)
    length = a.shape[channel_axis]
    if length not in (1, 2):
        raise DataError(
            "magnitude", f"axis {channel_axis}", found=f"length {length}", expected="1 or 2"
        )
    if length == 1:
        single: Real = np.take(a, 0, axis=channel_axis).astype(np.float64)
        return single
    parts = np.moveaxis(a.astype(np.float64), channel_axis, 0)
    result: Real = np.hypot(parts[0], parts[1])
    return result


def real(x: ArrayLike, where: str, field: str) -> Real:
    """float64 copy of real values, magnitude of complex ones; refuses NaN and Inf."""
    a: NDArray[Any] = np.asarray(x)
    if a.dtype == object:
        raise DataError(where, field, found="objects", expected="numbers")
    b = (np.abs(a) if np.iscomplexobj(a) else a).astype(np.float64)
    if a.size == 0 or not np.isfinite(b).all():
        found = "no values" if a.size == 0 else f"{int((~np.isfinite(b)).sum())} NaN or Inf"
        raise DataError(where, field, found=found, expected="finite values")
    return b


def pair(
    image: ArrayLike, reference: ArrayLike, mask: ArrayLike | None, where: str
) -> tuple[Real, Real, NDArray[np.bool_]]:
    """Image, reference and mask of one shape."""
    a, b = real(image, where, "image"), real(reference, where, "reference")
    if a.shape != b.shape:
        raise DataError(where, "image", found=f"shape {a.shape}", expected=f"{b.shape}")
    return a, b, selection(mask, b.shape, where)


def selection(mask: ArrayLike | None, shape: tuple[int, ...], where: str) -> NDArray[np.bool_]:
    """Boolean mask of ``shape``; everything by default."""
    if mask is None:
        return np.ones(shape, dtype=bool)
    m = np.asarray(mask)
    if m.shape != shape:
        raise DataError(where, "mask", found=f"shape {m.shape}", expected=f"{shape}")
    m = m.astype(bool)
    if not m.any():
        raise DataError(where, "mask", found="no pixel", expected="at least one")
    return m


def stack(samples: ArrayLike, where: str, *, least: int) -> Real:
    """Samples ``(S, ...)`` as float64, at least ``least`` of them."""
    s = real(samples, where, "samples")
    if s.ndim < 1 or s.shape[0] < least:
        count = s.shape[0] if s.ndim else 0
        raise DataError(where, "samples", found=count, expected=f"at least {least} on axis 0")
    return s


def check_range(data_range: float, where: str) -> None:
    """Refuse a peak value that is not above zero."""
    if not 0 < data_range < float("inf"):
        raise DataError(where, "data_range", found=data_range, expected="a finite value above zero")
