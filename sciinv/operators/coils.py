"""Coil sensitivities from the scan itself (ESPIRiT), and the region that the coils can see."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from sciinv.errors import DataError
from sciinv.kspace import sampled_block

# widest calibration region taken automatically, by number of image axes; more samples give no
# better kernels, but the calibration matrix grows with their product
_WIDEST = {2: 64, 3: 32}
_POWER_ITERATIONS = 100
# complex numbers of the pixelwise coil-by-coil matrices held at once (32 MiB in single precision)
_CHUNK = 2**22


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


def estimate_coil_maps(
    kspace: Tensor,
    *,
    mask: Tensor | None = None,
    calibration: int | Sequence[int] | None = None,
    kernel: int = 5,
    threshold: float = 0.01,
    crop: float = 0.0,
    fold_phase: bool = False,
) -> Tensor:
    r"""Estimate coil sensitivities from the calibration region of the scan, by ESPIRiT.

    Uecker et al., Magn. Reson. Med. 71, 2014: the rows of the calibration matrix (all ``kernel``
    -sized blocks of the region) span a subspace; its projector acts as a coil-by-coil matrix in
    every pixel, whose dominant eigenvector is the vector of sensitivities. One set of maps, with
    ``sum_c |s_c|^2 = 1``.

    The region may be a rectangle; with few calibration lines the many readout samples are what
    makes the maps usable.

    :param kspace: complex ``(B, coils, *spatial)``, centred, zero where not sampled.
    :param mask: sampled positions ``(*spatial)`` or ``(B, *spatial)``; by default where the k-space
        is not zero.
    :param calibration: widths of the region, a number for all axes or one per axis; by default
        :func:`calibration_region` up to 64 (3D: 32) samples per axis.
    :param kernel: kernel width in samples.
    :param threshold: singular values below this share of the largest are noise.
    :param crop: set maps to zero where the eigenvalue (0 to 1) is not larger than this.
    :param fold_phase: multiply the maps by :func:`low_resolution_phase`, so that the image becomes
        nearly real. Otherwise their phase is that of the strongest combination of coils (which is
        smooth where the image is).
    :returns: complex ``(B, coils, *spatial)``, in the precision and on the device of ``kspace``.
    :raises DataError: if the k-space is not complex or its calibration region too small.
    """
    kspace = _checked(kspace)
    spatial = tuple(kspace.shape[2:])
    masks = _masks(kspace, mask)
    maps = torch.empty_like(kspace)
    for index, (data, sampled) in enumerate(zip(kspace, masks, strict=True)):
        region = _widths(calibration_region(sampled), spatial, calibration, kernel)
        block = data[(slice(None), *region)].to(torch.complex128)
        maps[index] = _espirit(block, _low_resolution(data, region), kernel, threshold, crop)
    if fold_phase:
        phase = low_resolution_phase(kspace, maps, mask=mask, calibration=calibration)
        maps = maps * phase[:, None]
    return maps


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
    kspace = _checked(kspace)
    if coil_maps.shape != kspace.shape or not coil_maps.is_complex():
        raise DataError(
            "coil maps", "coil_maps", found=f"{coil_maps.dtype} {tuple(coil_maps.shape)}",
            expected=f"complex {tuple(kspace.shape)}, the shape of the k-space",
        )  # fmt: skip
    phases = []
    for data, maps, sampled in zip(kspace, coil_maps, _masks(kspace, mask), strict=True):
        region = _widths(calibration_region(sampled), tuple(data.shape[1:]), calibration, 1)
        phases.append(_unit((maps.conj() * _low_resolution(data, region)).sum(0)))
    return torch.stack(phases)


def sensitivity_support(kspace: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return where the coils receive a signal: outside of it only a prior speaks.

    Root sum of squares of the Hann-windowed calibration data, above both 6 % of its bright level
    (99th percentile) and twice what the noise alone gives; holes filled, grown by the resolution
    that undersampling leaves uncertain (two pixels at least). The noise level is taken from the
    samples farthest from the centre.

    :param kspace: complex ``(B, coils, *spatial)``, zero where not sampled.
    :param mask: sampled positions as in :func:`estimate_coil_maps`.
    :returns: bool ``(B, *spatial)``.
    :raises DataError: if the k-space is not complex or its centre not sampled.
    """
    kspace = _checked(kspace)
    spatial = tuple(kspace.shape[2:])
    support = []
    for data, sampled in zip(kspace, _masks(kspace, mask), strict=True):
        region = _widths(calibration_region(sampled), spatial, None, 1)
        window = _window(spatial, region, data.device)
        rss = _low_resolution(data, region).abs().square().sum(0).sqrt()
        # the image of white noise with standard deviation s per complex sample, seen through the
        # window, has standard deviation s |window| / sqrt(n)
        gain = math.sqrt(float(window.square().sum()) / math.prod(spatial))
        noise = _outer_noise(data, sampled) * gain
        bright = float(np.quantile(rss.cpu().numpy(), 0.99))
        region_seen = (rss > max(0.06 * bright, 2.0 * noise)).cpu().numpy()
        filled = ndimage.binary_fill_holes(region_seen)
        grown = ndimage.binary_dilation(filled, iterations=2)
        support.append(torch.from_numpy(grown))
    return torch.stack(support).to(kspace.device)


def _checked(kspace: object) -> Tensor:
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


def _masks(kspace: Tensor, mask: Tensor | None) -> list[Tensor]:
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


def _widths(
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


def _window(spatial: tuple[int, ...], region: tuple[slice, ...], device: torch.device) -> Tensor:
    """Hann window over the region, centred on the k-space centre, zero outside of it."""
    window = torch.ones(spatial, dtype=torch.float64, device=device)
    for axis, (part, n) in enumerate(zip(region, spatial, strict=True)):
        index = torch.arange(n, dtype=torch.float64, device=device)
        half = max(n // 2 - part.start, part.stop - 1 - n // 2) + 1
        profile = torch.cos(0.5 * math.pi * (index - n // 2) / half).square()
        profile = profile * ((index >= part.start) & (index < part.stop))
        window = window * profile.reshape([-1 if a == axis else 1 for a in range(len(spatial))])
    return window


def _low_resolution(scan: Tensor, region: tuple[slice, ...]) -> Tensor:
    """Coil images ``(coils, *spatial)`` of the windowed calibration data."""
    axes = tuple(range(1, scan.ndim))
    window = _window(tuple(scan.shape[1:]), region, scan.device)
    k = scan * window.to(scan.real.dtype)
    k = torch.fft.ifftshift(k, dim=axes)
    return torch.fft.fftshift(torch.fft.ifftn(k, dim=axes, norm="ortho"), dim=axes)


def _outer_noise(data: Tensor, sampled: Tensor) -> float:
    """Noise per complex sample over all coils, from the tenth of the samples farthest out.

    For complex Gaussian noise of variance s^2 the median of |n|^2 is s^2 log 2.
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
    variance = data[:, far].abs().square().median(1).values.double() / math.log(2.0)
    return math.sqrt(float(variance.sum()))


def _espirit(block: Tensor, low: Tensor, kernel: int, threshold: float, crop: float) -> Tensor:
    """Maps ``(coils, *spatial)`` from the calibration ``block`` and low-resolution images."""
    coils, spatial = low.shape[0], tuple(low.shape[1:])
    dims = len(spatial)
    # the projector needs double precision (it comes from squares); the rest is as good as the data
    correlations = _projector(block, kernel, threshold).to(low.dtype)
    # exp(+2 pi i d n / N) for the displacements d of the projector and the pixels n of each axis
    phases = []
    for n in spatial:
        shift = torch.arange(1 - kernel, kernel, dtype=torch.float64, device=low.device)
        pixel = torch.arange(n, dtype=torch.float64, device=low.device) - n // 2
        angle = 2 * math.pi * torch.outer(pixel, shift) / n
        phases.append(torch.polar(torch.ones_like(angle), angle).to(low.dtype))
    rows = max(1, _CHUNK // (coils**2 * math.prod(spatial[1:])))
    maps = torch.empty_like(low)
    for start in range(0, spatial[0], rows):
        part = slice(start, min(start + rows, spatial[0]))
        matrix = correlations
        for axis in range(dims):
            # contract the leading displacement axis; its pixel axis goes to the end
            phase = phases[axis][part] if axis == 0 else phases[axis]
            matrix = torch.tensordot(matrix, phase, dims=([0], [1]))
        matrix = matrix.movedim((0, 1), (-2, -1)).contiguous()
        matrix = matrix / kernel**dims
        vector, value = _dominant(matrix, low[:, part].movedim(0, -1))
        maps[:, part] = torch.where((value > crop)[..., None], vector, 0.0).movedim(-1, 0)
    # the strongest combination of coils in the calibration data gets phase zero
    flat = block.flatten(1)
    _, vectors = torch.linalg.eigh(flat @ flat.mH)
    combined = vectors[:, -1].conj().to(low.dtype) @ maps.flatten(1)
    return maps * _unit(combined.reshape(spatial).conj())


def _unit(z: Tensor) -> Tensor:
    """Numbers divided by their modulus, 1 where it is zero."""
    size = z.abs()
    return torch.where(size > 0, z / torch.where(size > 0, size, 1.0), 1.0)


def _projector(block: Tensor, kernel: int, threshold: float) -> Tensor:
    """Correlations of the signal-space kernels, ``(*displacements, coils, coils)``.

    With the projector ``P`` on the row space of the calibration matrix, entry ``(d, a, b)`` is the
    sum of ``P[(a, m), (b, m')]`` over all kernel positions with ``m - m' = d``.
    """
    coils, dims = block.shape[0], block.ndim - 1
    blocks = block
    for axis in range(dims):
        blocks = blocks.unfold(1 + axis, kernel, 1)
    # (coils, *positions, *kernel) -> (positions, coils * kernel)
    blocks = blocks.movedim(0, dims).reshape(-1, coils * kernel**dims)
    values, vectors = torch.linalg.eigh(blocks.mH @ blocks)
    # eigenvalues of M^H M are the squares of the singular values of M
    kept = vectors[:, values > threshold**2 * values[-1]]
    # rows of V^H are the kernels, so kernels k[a, m] = conj(V[(a, m), :])
    projector = (kept.conj() @ kept.T).reshape([coils, kernel**dims] * 2)
    offsets = torch.cartesian_prod(*[torch.arange(kernel)] * dims).reshape(-1, dims)
    width = 2 * kernel - 1
    displacement = offsets[:, None] - offsets[None] + (kernel - 1)
    strides = torch.tensor([width ** (dims - 1 - axis) for axis in range(dims)])
    target = (displacement * strides).sum(-1).flatten().to(block.device)
    pairs = projector.permute(1, 3, 0, 2).reshape(-1, coils, coils)
    result = torch.zeros(width**dims, coils, coils, dtype=block.dtype, device=block.device)
    result.index_add_(0, target, pairs)
    return result.reshape(*[width] * dims, coils, coils)


def _dominant(matrix: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Dominant eigenvectors ``(..., coils)`` and eigenvalues of Hermitian matrices, by powers."""
    size = torch.linalg.vector_norm(start, dim=-1, keepdim=True)
    scale = size.mean().clamp_min(torch.finfo(size.dtype).tiny)
    # a little of every coil, so that no start is orthogonal to the answer
    vector = (start / scale + 1e-3)[..., None]
    value = torch.ones_like(size[..., None])
    for _ in range(_POWER_ITERATIONS):
        vector = matrix @ vector
        value = torch.linalg.vector_norm(vector, dim=-2, keepdim=True)
        vector = vector / value.clamp_min(torch.finfo(value.dtype).tiny)
    return vector[..., 0], value[..., 0, 0]
