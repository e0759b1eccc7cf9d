"""Coil sensitivities from the scan itself (ESPIRiT), and the region that the coils can see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, overload

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from sciinv.errors import DataError
from sciinv.operators.coil_calibration import (
    calibration_region,
    calibration_slices,
    calibration_window,
    checked_kspace,
    low_resolution_images,
    outer_noise,
    outermost_samples,
    scan_masks,
    unit_phase,
)
from sciinv.operators.espirit import crop_weight, espirit

__all__ = [
    "calibration_region",
    "estimate_coil_maps",
    "low_resolution_phase",
    "sensitivity_support",
]


@overload
def estimate_coil_maps(
    kspace: Tensor,
    *,
    mask: Tensor | None = ...,
    calibration: int | Sequence[int] | None = ...,
    kernel: int = ...,
    threshold: float = ...,
    crop: float | Literal["auto", "soft"] = ...,
    fold_phase: bool = ...,
    sets: int = ...,
    return_eigenvalues: Literal[False] = ...,
) -> Tensor: ...


@overload
def estimate_coil_maps(
    kspace: Tensor,
    *,
    mask: Tensor | None = ...,
    calibration: int | Sequence[int] | None = ...,
    kernel: int = ...,
    threshold: float = ...,
    crop: float | Literal["auto", "soft"] = ...,
    fold_phase: bool = ...,
    sets: int = ...,
    return_eigenvalues: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def estimate_coil_maps(
    kspace: Tensor,
    *,
    mask: Tensor | None = None,
    calibration: int | Sequence[int] | None = None,
    kernel: int = 5,
    threshold: float = 0.01,
    crop: float | Literal["auto", "soft"] = 0.0,
    fold_phase: bool = False,
    sets: int = 1,
    return_eigenvalues: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Estimate coil sensitivities from the calibration region of the scan, by ESPIRiT.

    Uecker et al., Magn. Reson. Med. 71, 2014: the rows of the calibration matrix (all ``kernel``
    -sized blocks of the region) span a subspace; its projector acts as a coil-by-coil matrix in
    every pixel, whose dominant eigenvector is the vector of sensitivities, with eigenvalue 1 where
    it explains the data. Every set of maps has ``sum_c |s_c|^2 = 1``.

    The region may be a rectangle; with few calibration lines the many readout samples are what
    makes the maps usable.

    An object larger than the field of view folds onto itself: two points of the object share a
    pixel, no single vector of sensitivities explains it, and the second eigenvalue is 1 there too.
    With ``sets=2`` the coil images are ``s_c1 x_1 + s_c2 x_2`` (the paper's soft-SENSE).

    :param kspace: complex ``(B, coils, *spatial)``, centred, zero where not sampled.
    :param mask: sampled positions ``(*spatial)`` or ``(B, *spatial)``; by default where the k-space
        is not zero.
    :param calibration: widths of the region, a number for all axes or one per axis; by default
        :func:`calibration_region` up to 64 (3D: 32) samples per axis.
    :param kernel: kernel width in samples.
    :param threshold: singular values below this share of the largest are noise; with more than one
        set those below the largest singular value of noise of the scan's level, too.
    :param crop: set maps to zero where the eigenvalue (0 to 1) is not larger than this. ``"auto"``
        chooses the number for each scan, the first percentile of the eigenvalue in
        :func:`sensitivity_support`, and crops nothing inside that support. ``"soft"`` multiplies
        the maps by a weight instead that falls from 1 at that level ``1 - d`` to 0 at ``1 - 2 d``,
        so that an image has no hard edge there (their root sum of squares is then that weight).
        With a ``threshold`` below the noise all eigenvalues are near 1 and neither drops anything.
    :param fold_phase: multiply the maps by :func:`low_resolution_phase`, so that the image becomes
        nearly real (for one set only). Otherwise their phase is that of the strongest combination
        of coils (which is smooth where the image is).
    :param sets: number of sets of maps, in order of their eigenvalues.
    :param return_eigenvalues: return the eigenvalues, too.
    :returns: complex ``(B, coils, *spatial)``, with more than one set ``(B, sets, coils,
        *spatial)``, in the precision and on the device of ``kspace``; with ``return_eigenvalues``
        a pair, the second real ``(B, *spatial)`` or ``(B, sets, *spatial)``.
    :raises DataError: if the k-space is not complex or its calibration region too small.
    :raises ValueError: if ``sets`` or ``crop`` have no meaning.
    """
    kspace = checked_kspace(kspace)
    spatial = tuple(kspace.shape[2:])
    coils = kspace.shape[1]
    if not 1 <= sets <= coils:
        raise ValueError(f"sets: found {sets}, expected 1 to {coils}, the number of coils")
    if isinstance(crop, str) and crop not in ("auto", "soft"):
        raise ValueError(f"crop: found {crop!r}, expected a number, 'auto' or 'soft'")
    if fold_phase and sets > 1:
        raise ValueError(
            f"fold_phase: found True with {sets} sets of maps, expected one set: two images that "
            "share a pixel have no common phase"
        )
    masks = scan_masks(kspace, mask)
    maps = kspace.new_empty((kspace.shape[0], sets, coils, *spatial))
    values = kspace.real.new_empty((kspace.shape[0], sets, *spatial))
    for index, (data, sampled) in enumerate(zip(kspace, masks, strict=True)):
        region = calibration_slices(calibration_region(sampled), spatial, calibration, kernel)
        block = data[(slice(None), *region)].to(torch.complex128)
        noise = 0.0
        if sets > 1:
            total = int(sampled.sum())
            outer = outermost_samples(data, sampled, min(total, max(48, total // 20)))
            noise = math.sqrt(float(outer.abs().square().median(1).values.mean()) / math.log(2.0))
        maps[index], values[index] = espirit(
            block, low_resolution_images(data, region), kernel, threshold, sets, noise
        )
        if isinstance(crop, str):
            seen = sensitivity_support(data[None], sampled)[0]
        else:
            seen = torch.ones(spatial, dtype=torch.bool, device=kspace.device)
        maps[index] *= crop_weight(values[index], crop, seen)[:, None]
    if sets == 1:
        maps, values = maps[:, 0], values[:, 0]
    if fold_phase:
        phase = low_resolution_phase(kspace, maps, mask=mask, calibration=calibration)
        maps = maps * phase[:, None]
    return (maps, values) if return_eigenvalues else maps


def low_resolution_phase(
    kspace: Tensor,
    coil_maps: Tensor,
    *,
    mask: Tensor | None = None,
    calibration: int | Sequence[int] | None = None,
) -> Tensor:
    r"""Return the phase of the image that the Hann-windowed calibration data give.

    ``phase = u / |u|`` with ``u = sum_c conj(s_c) x_c`` over the low-resolution coil images
    ``x_c``. An image reconstructed with maps ``s_c * phase`` is nearly real; that image times
    ``phase`` is the one reconstructed with maps ``s_c``.

    :param kspace: complex ``(B, coils, *spatial)``, centred, zero where not sampled.
    :param coil_maps: complex sensitivities, shape of ``kspace``.
    :param mask: sampled positions as in :func:`estimate_coil_maps`.
    :param calibration: widths of the region as in :func:`estimate_coil_maps`.
    :returns: complex ``(B, *spatial)`` of modulus 1; 1 where no coil sees anything.
    :raises DataError: if the k-space or the maps do not fit or the centre is not sampled.
    """
    kspace = checked_kspace(kspace)
    if coil_maps.shape != kspace.shape or not coil_maps.is_complex():
        raise DataError(
            "coil maps", "coil_maps", found=f"{coil_maps.dtype} {tuple(coil_maps.shape)}",
            expected=f"complex {tuple(kspace.shape)}, the shape of the k-space",
        )  # fmt: skip
    phases = []
    for data, maps, sampled in zip(kspace, coil_maps, scan_masks(kspace, mask), strict=True):
        region = calibration_slices(
            calibration_region(sampled), tuple(data.shape[1:]), calibration, 1
        )
        phases.append(unit_phase((maps.conj() * low_resolution_images(data, region)).sum(0)))
    return torch.stack(phases)


def sensitivity_support(
    kspace: Tensor, mask: Tensor | None = None, *, outer_is_noise: bool = True
) -> Tensor:
    """Return where the coils receive a signal: outside of it only a prior speaks.

    Root sum of squares of the Hann-windowed calibration data, above both 6 % of its bright level
    (99th percentile) and twice what the noise alone gives; holes filled, grown by the resolution
    that undersampling leaves uncertain (two pixels at least). The noise level is taken from the
    samples farthest from the centre.

    :param kspace: complex ``(B, coils, *spatial)``, zero where not sampled.
    :param mask: sampled positions as in :func:`estimate_coil_maps`.
    :param outer_is_noise: False where only the centre of k-space is there, whose outermost samples
        hold signal. Its image is fine enough to show dim rims for themselves (the scalp of a head
        at 4 %), so 3 % of the bright level count then, grown by four pixels.
    :returns: bool ``(B, *spatial)``.
    :raises DataError: if the k-space is not complex or its centre not sampled.
    """
    kspace = checked_kspace(kspace)
    spatial = tuple(kspace.shape[2:])
    level, grow = (0.06, 2) if outer_is_noise else (0.03, 4)
    support = []
    for data, sampled in zip(kspace, scan_masks(kspace, mask), strict=True):
        region = calibration_slices(calibration_region(sampled), spatial, None, 1)
        window = calibration_window(spatial, region, data.device)
        rss = low_resolution_images(data, region).abs().square().sum(0).sqrt()
        # the image of white noise with standard deviation s per complex sample, seen through the
        # window, has standard deviation s |window| / sqrt(n)
        gain = math.sqrt(float(window.square().sum()) / math.prod(spatial))
        variance = float(outer_noise(data, sampled).sum()) if outer_is_noise else 0.0
        noise = math.sqrt(variance) * gain
        bright = float(np.quantile(rss.cpu().numpy(), 0.99))
        region_seen = (rss > max(level * bright, 2.0 * noise)).cpu().numpy()
        filled = ndimage.binary_fill_holes(region_seen)
        grown = ndimage.binary_dilation(filled, iterations=grow)
        support.append(torch.from_numpy(grown))
    return torch.stack(support).to(kspace.device)
