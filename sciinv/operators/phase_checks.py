"""Shapes, supports, masks and measurements of diffraction, and what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv.errors import DataError, GeometryError
from sciinv.operators.base import NonlinearOperator


def check_pattern(y: Tensor, physics: Physics, *, allow_negative: bool = False) -> None:
    """Refuse measurements that cannot be amplitudes or counts.

    Pixels that the operator's measurement mask excludes may hold anything.

    :param y: ``(B, L, *pattern_shape)``.
    :param physics: the operator that measured ``y``.
    :param allow_negative: accept negative values as long as they look like noise around zero
        (together less than half of what the positive ones add up to).
    :raises DataError: NaN, Inf, negative values, or a scan without any count.
    :raises GeometryError: ``y`` does not have the operator's shape.
    """
    where = type(physics).__name__
    if isinstance(physics, NonlinearOperator):
        physics.check_measurement(y)
    mask = getattr(physics, "measurement_mask", None)
    seen = torch.ones_like(y, dtype=torch.bool) if mask is None else (mask != 0).expand(y.shape)
    bad = int((seen & ~torch.isfinite(y)).sum())
    if bad:
        raise DataError(
            where,
            "pattern",
            found=f"{bad} NaN or infinite values",
            expected="finite values",
            hint="mark dead pixels in the operator's mask",
        )
    values = torch.where(seen, y, torch.zeros_like(y)).flatten(1).double()
    lost = -values.clamp_max(0).sum(1)
    total = values.clamp_min(0).sum(1)
    excess = lost > 0.5 * total if allow_negative else lost > 0
    if bool(excess.any()):
        raise DataError(
            where,
            "pattern",
            found=f"{int((values < 0).sum())} negative values down to {float(values.min()):.4g}",
            expected="amplitudes or counts, which are not negative",
            hint="is this a logarithm? after subtracting a background, clip at zero",
        )
    if not bool((total > 0).all()):
        raise DataError(
            where,
            "pattern",
            found=f"nothing but zeros in scan {int((total > 0).int().argmin())}",
            expected="counts where the detector is not masked",
        )


def padded_shape(
    name: str,
    spatial: tuple[int, ...],
    oversampling: float | Sequence[float],
    pattern_shape: Sequence[int] | None,
) -> tuple[int, ...]:
    """Return the size of the padded grid."""
    if pattern_shape is not None:
        pattern = tuple(int(n) for n in pattern_shape)
        what = f"pattern_shape: found {pattern}"
    else:
        if isinstance(oversampling, (int, float)):
            factors = [float(oversampling)] * len(spatial)
        else:
            factors = [float(f) for f in oversampling]
        if len(factors) != len(spatial) or not all(math.isfinite(f) and f >= 1 for f in factors):
            raise GeometryError(
                f"{name}: oversampling: found {oversampling}, expected one number of at least 1, "
                f"or {len(spatial)} of them"
            )
        # 1e-9: a product that is whole but for rounding must not be raised by one
        pattern = tuple(math.ceil(f * n - 1e-9) for f, n in zip(factors, spatial, strict=True))
        what = f"oversampling: found {oversampling}"
    if len(pattern) != len(spatial) or any(
        large < small for large, small in zip(pattern, spatial, strict=True)
    ):
        raise GeometryError(
            f"{name}: {what}, expected a pattern of {len(spatial)} axes, none shorter than the "
            f"object's {spatial}"
        )
    return pattern


def margins(small: tuple[int, ...], large: tuple[int, ...]) -> list[int]:
    """Zeros before and after each axis, last axis first as torch wants them."""
    around: list[int] = []
    for n, full in zip(reversed(small), reversed(large), strict=True):
        before = full // 2 - n // 2
        around += [before, full - n - before]
    return around


def check_diversity(name: str, masks: Tensor, spatial: tuple[int, ...]) -> None:
    """Refuse diversity masks of a wrong shape, without values or with NaN."""
    if masks.ndim != len(spatial) + 1 or tuple(masks.shape[1:]) != spatial or not len(masks):
        expected = ", ".join(map(str, spatial))
        raise GeometryError(
            f"{name}: masks: found shape {tuple(masks.shape)}, expected (L, {expected})"
        )
    if not bool(torch.isfinite(torch.view_as_real(masks) if masks.is_complex() else masks).all()):
        raise GeometryError(f"{name}: masks: found NaN or Inf")
    if not bool((masks != 0).flatten(1).any(1).all()):
        raise GeometryError(f"{name}: masks: found a mask that is zero everywhere")


def support_mask(name: str, support: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Return the support as 0 and 1, ``(B or 1, 1, *spatial)``."""
    support = torch.as_tensor(support)
    dims = len(spatial)
    if support.ndim not in (dims, dims + 1) or tuple(support.shape[-dims:]) != spatial:
        raise GeometryError(
            f"{name}: support: found shape {tuple(support.shape)}, expected {spatial} or "
            f"(B, {', '.join(map(str, spatial))})"
        )
    inside = (support != 0).reshape(-1, 1, *spatial)
    if not inside.shape[0] or not bool(inside.flatten(1).any(1).all()):
        raise GeometryError(f"{name}: support: found no pixel inside, expected at least one")
    return inside


def detector_mask(name: str, mask: Tensor, patterns: int, pattern: tuple[int, ...]) -> Tensor:
    """Return the detector's mask as 0 and 1, ``(B or 1, L or 1, *pattern)``."""
    mask = torch.as_tensor(mask)
    dims = len(pattern)
    lead = tuple(mask.shape[: mask.ndim - dims])
    if (
        tuple(mask.shape[-dims:]) != pattern
        or len(lead) > 2
        or (len(lead) > 0 and lead[-1] not in (1, patterns))
    ):
        sizes = ", ".join(map(str, pattern))
        raise GeometryError(
            f"{name}: mask: found shape {tuple(mask.shape)}, expected {pattern}, "
            f"({patterns}, {sizes}) or (B, {patterns}, {sizes})"
        )
    if mask.is_complex() or not bool(((mask == 0) | (mask == 1)).all()):
        raise GeometryError(f"{name}: mask: found values besides 0 and 1 (1: measured)")
    seen = mask.reshape(*(1,) * (2 - len(lead)), *mask.shape)
    if not seen.shape[0] or not bool((seen != 0).flatten(1).any(1).all()):
        raise GeometryError(f"{name}: mask: found a scan without any measured pixel")
    return seen
