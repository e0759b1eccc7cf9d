"""What every estimate from the calibration region of a scan starts with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciinv.errors import DataError
from sciinv.kspace import sampled_block

# widest calibration region taken automatically, by number of image axes; more samples give no
# better kernels, but the calibration matrix grows with their product
_WIDEST = {2: 64, 3: 32}


def calibration_region(mask: Tensor | NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the fully sampled block around the centre of k-space, one slice per axis.

    See :func:`sciinv.kspace.sampled_block`.

    :param mask: sampled positions of one scan, ``(*spatial)``.
    :raises DataError: if the centre itself is not sampled.
    """
    sampled = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask) != 0
    if not sampled[tuple(n // 2 for n in sampled.shape)]:
        raise DataError(
            "calibration", "mask", found="an unsampled centre of k-space",
            expected="a fully sampled block around index n // 2",
            hint="give coil maps from a reference scan",
        )  # fmt: skip
    return sampled_block(sampled)


def checked_kspace(kspace: object) -> Tensor:
    """Return the k-space if it is complex, finite and ``(B, coils, *spatial)``, or say what is not.

    :raises DataError: otherwise.
    """
    if not isinstance(kspace, Tensor) or not kspace.is_complex() or kspace.ndim not in (4, 5):
        found = (
            f"{kspace.dtype} {tuple(kspace.shape)}"
            if isinstance(kspace, Tensor)
            else type(kspace).__name__
        )
        raise DataError(
            "coil maps", "kspace", found=found,
            expected="a complex tensor (B, coils, H, W) or (B, coils, D, H, W)",
        )  # fmt: skip
    if not bool(torch.isfinite(torch.view_as_real(kspace)).all()):
        raise DataError("coil maps", "kspace", found="NaN or Inf", expected="finite numbers")
    return kspace


def scan_masks(kspace: Tensor, mask: Tensor | None) -> list[Tensor]:
    """Return one boolean mask ``(*spatial)`` per scan."""
    if mask is None:
        return list((kspace != 0).any(1))
    mask = torch.as_tensor(mask) != 0
    spatial = tuple(kspace.shape[2:])
    if tuple(mask.shape) == spatial:
        return [mask] * kspace.shape[0]
    if tuple(mask.shape) == (kspace.shape[0], *spatial):
        return list(mask)
    raise DataError(
        "coil maps", "mask", found=tuple(mask.shape),
        expected=f"{spatial} or {(kspace.shape[0], *spatial)}",
    )  # fmt: skip


def calibration_slices(
    region: tuple[slice, ...],
    spatial: tuple[int, ...],
    calibration: int | Sequence[int] | None,
    kernel: int,
) -> tuple[slice, ...]:
    """Cut the fully sampled block to the widths asked for, around the centre."""
    dims = len(spatial)
    if calibration is None:
        widths = [min(_WIDEST[dims], part.stop - part.start) for part in region]
    else:
        widths = [calibration] * dims if isinstance(calibration, int) else list(calibration)
        if len(widths) != dims:
            raise DataError("coil maps", "calibration", found=widths, expected=f"{dims} widths")
    result = []
    for axis, (part, width, n) in enumerate(zip(region, widths, spatial, strict=True)):
        start = n // 2 - width // 2
        if calibration is None:
            start = min(max(start, part.start), part.stop - width)
        elif start < part.start or start + width > part.stop:
            raise DataError(
                "coil maps", "calibration", found=f"width {width} along axis {axis}",
                expected=f"at most the fully sampled indices {part.start} to {part.stop - 1}",
            )  # fmt: skip
        if width < kernel:
            raise DataError(
                "coil maps", "calibration",
                found=f"{width} fully sampled samples along axis {axis}",
                expected=f"at least the kernel width {kernel}",
                hint="give coil maps from a reference scan",
            )  # fmt: skip
        result.append(slice(start, start + width))
    return tuple(result)


def calibration_window(
    spatial: tuple[int, ...], region: tuple[slice, ...], device: torch.device
) -> Tensor:
    """Hann window over the region, centred on the k-space centre, zero outside of it."""
    window = torch.ones(spatial, dtype=torch.float64, device=device)
    for axis, (part, n) in enumerate(zip(region, spatial, strict=True)):
        index = torch.arange(n, dtype=torch.float64, device=device)
        half = max(n // 2 - part.start, part.stop - 1 - n // 2) + 1
        profile = torch.cos(0.5 * math.pi * (index - n // 2) / half).square()
        profile = profile * ((index >= part.start) & (index < part.stop))
        window = window * profile.reshape([-1 if a == axis else 1 for a in range(len(spatial))])
    return window


def low_resolution_images(scan: Tensor, region: tuple[slice, ...]) -> Tensor:
    """Coil images ``(coils, *spatial)`` of the windowed calibration data."""
    axes = tuple(range(1, scan.ndim))
    window = calibration_window(tuple(scan.shape[1:]), region, scan.device)
    k = scan * window.to(scan.real.dtype)
    k = torch.fft.ifftshift(k, dim=axes)
    return torch.fft.fftshift(torch.fft.ifftn(k, dim=axes, norm="ortho"), dim=axes)


def outer_noise(data: Tensor, sampled: Tensor) -> Tensor:
    """Noise variance per complex sample of every coil, from the tenth of the samples farthest out.

    For complex Gaussian noise of variance s^2 the median of |n|^2 is s^2 log 2.

    :param data: one scan ``(coils, *spatial)``.
    :param sampled: bool ``(*spatial)``.
    :returns: float64 ``(coils,)``.
    """
    radius = torch.zeros(sampled.shape, dtype=torch.float64, device=data.device)
    for axis, n in enumerate(sampled.shape):
        index = (torch.arange(n, dtype=torch.float64, device=data.device) - n // 2) / n
        radius = radius + index.square().reshape(
            [-1 if a == axis else 1 for a in range(sampled.ndim)]
        )
    sampled = sampled.to(data.device)
    far = sampled & (
        radius >= torch.quantile(radius[sampled][:: max(1, sampled.sum() // 10**6)], 0.9)
    )
    return data[:, far].abs().square().median(1).values.double() / math.log(2.0)


def unit_phase(z: Tensor) -> Tensor:
    """Numbers divided by their modulus, 1 where it is zero."""
    size = z.abs()
    return torch.where(size > 0, z / torch.where(size > 0, size, 1.0), 1.0)


def outermost_samples(data: Tensor, sampled: Tensor, count: int) -> Tensor:
    """Return the samples farthest out along all axes, ``(coils, count)``.

    Farthest by the product of the normalised distances from the centre along the axes, as in
    :func:`sciinv.data.noise.estimate_mri_noise`: the signal of objects with edges is largest on
    the axes themselves, and equal on hyperbolas.

    :param data: one scan ``(coils, *spatial)``.
    :param sampled: bool ``(*spatial)`` with ``count`` samples or more.
    """
    product = torch.ones(sampled.shape, dtype=torch.float64, device=data.device)
    for axis, n in enumerate(sampled.shape):
        # half a sample is added so that no axis makes the product exactly zero
        distance = (torch.arange(n, dtype=torch.float64, device=data.device) - n // 2).abs() + 0.5
        product *= (distance / n).reshape([-1 if a == axis else 1 for a in range(sampled.ndim)])
    sampled = sampled.to(data.device)
    return data[:, sampled][:, product[sampled].topk(count).indices]
