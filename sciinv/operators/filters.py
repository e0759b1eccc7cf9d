"""Filtered back-projection: ramp filters and an interpolating back-projector.

Kak and Slaney, Principles of Computerized Tomographic Imaging (1988), chapter 3. What parallel and
fan beams do not share is asked of the geometry.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from sciinv.operators.ct_geometry import SliceGeometry

Filter = Literal["ramp", "shepp-logan", "cosine", "hann"]
FILTERS: tuple[str, ...] = get_args(Filter)


def ramp_response(length: int, spacing: float, name: str = "ramp") -> Tensor:
    """Frequency response on the ``length // 2 + 1`` frequencies of ``rfft``, float64, 1/mm.

    It is the transform of the band-limited kernel h(0) = 1/(4 s^2), h(n) = -1/(pi n s)^2 for odd
    n, 0 for even n (Kak and Slaney, eq. 3.61), times the spacing s of the convolution sum. Sampling
    |f| itself instead would put the mean of every projection at zero and shift all values.

    :param length: number of samples after zero padding, at least twice the detector pixels.
    :param spacing: detector spacing in mm.
    :param name: ``"ramp"`` (Ram-Lak) or the ramp times a window that falls towards the highest
        frequency: ``"shepp-logan"`` (sinc), ``"cosine"`` or ``"hann"``.
    :raises ValueError: for any other name.
    """
    if name not in FILTERS:
        raise ValueError(f"filter: found {name!r}, expected one of {', '.join(FILTERS)}")
    n = torch.arange(length, dtype=torch.float64)
    n = torch.minimum(n, length - n)
    kernel = torch.where(n % 2 == 1, -1 / (math.pi * n.clamp(min=1) * spacing) ** 2, 0.0)
    kernel[0] = 1 / (4 * spacing**2)
    response = torch.fft.rfft(kernel).real * spacing
    frequency = torch.arange(length // 2 + 1, dtype=torch.float64) / length  # cycles per sample
    if name == "shepp-logan":
        response *= torch.sinc(frequency)
    elif name == "cosine":
        response *= torch.cos(math.pi * frequency)
    elif name == "hann":
        response *= 0.5 * (1 + torch.cos(2 * math.pi * frequency))
    return response


def filter_projections(sinograms: Tensor, spacing: float, name: str = "ramp") -> Tensor:
    """Filter along the last axis (detectors), zero-padded to avoid wrap-around."""
    width = sinograms.shape[-1]
    length = 2 ** math.ceil(math.log2(max(2 * width, 4)))
    response = ramp_response(length, spacing, name).to(sinograms)
    spectrum = torch.fft.rfft(sinograms, n=length) * response
    return torch.fft.irfft(spectrum, n=length)[..., :width]


def interpolating_backprojection(sinograms: Tensor, geometry: SliceGeometry) -> Tensor:
    """Sum over the angles of each view read at the pixel, linearly between detector pixels.

    This is the back-projection of the inversion formula, not the transpose of a projector.

    :param sinograms: ``(N, angles, detectors)``, the detector widened by
        :meth:`~sciinv.operators.ct_geometry.SliceGeometry.inversion_margins`.
    :return: ``(N, rows, cols)``; pixels off the detector receive nothing from that view.
    """
    count, _, width = sinograms.shape
    skipped, _ = geometry.inversion_margins()
    device, dtype = sinograms.device, sinograms.dtype
    precise = torch.float32 if device.type == "mps" else torch.float64
    x = torch.from_numpy(geometry.x()).to(device, precise)[None, :]
    y = torch.from_numpy(geometry.y()).to(device, precise)[:, None]
    cos, sin = (v.tolist() for v in geometry.directions())
    # one zero detector pixel at either end; (angle, detector, N) keeps the gathered rows together
    source = torch.nn.functional.pad(sinograms, (1, 1)).permute(1, 2, 0).contiguous()
    out = torch.zeros((geometry.num_pixels, count), dtype=dtype, device=device)
    for index in range(len(geometry.angles)):
        centre, _ = geometry.landing(x, y, cos[index], sin[index])
        position = (centre.flatten() + skipped).clamp_(-1, width)
        lower = position.floor().clamp_(max=width - 1)
        fraction = (position - lower).to(dtype).unsqueeze(-1)
        at = lower.long() + 1
        left = source[index].index_select(0, at)
        right = source[index].index_select(0, at + 1)
        value = torch.lerp(left, right, fraction.expand_as(left))
        factor = geometry.inversion_distance(x, y, cos[index], sin[index])
        if factor is None:
            out += value
        else:
            out += value * factor.to(dtype).reshape(-1, 1)
    return out.T.contiguous().reshape(count, geometry.rows, geometry.cols)


def filtered_backprojection(
    sinograms: Tensor, geometry: SliceGeometry, name: str = "ramp"
) -> Tensor:
    """Invert projections, ``(N, angles, detectors) -> (N, rows, cols)`` in 1/mm.

    Each ray is weighted by its share of the integral over the angles
    (:meth:`~sciinv.operators.ct_geometry.SliceGeometry.inversion_weights`), so uneven, unsorted
    and repeated angles come out right.
    """
    weights = torch.from_numpy(geometry.inversion_weights()).to(sinograms)
    weighted = torch.nn.functional.pad(sinograms * weights, geometry.inversion_margins())
    filtered = filter_projections(weighted, geometry.axis_spacing, name)
    return interpolating_backprojection(filtered, geometry)
