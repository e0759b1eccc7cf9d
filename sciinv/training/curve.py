"""How well a prior denoises images that it has not seen, over the noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciinv.priors import EDMDenoiser

SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_ROWS = 4

Curve = dict[str, dict[str, float]]


@torch.no_grad()
def denoising_curve(
    denoiser: EDMDenoiser, clean: Tensor, sigmas: tuple[float, ...] = SIGMAS, seed: int = 1
) -> Curve:
    """Denoise images with fresh noise at some levels.

    :param clean: ``(N, C, H, W)``.
    :param seed: of the noise, the same at every call.
    :return: for every sigma (as text, for JSON) ``psnr`` in dB for a peak of 1, and
        ``error_over_sigma``, the root mean square error in units of the noise.
    """
    result = {}
    for sigma in sigmas:
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(clean.shape, generator=generator)
        noisy = clean + sigma * normal.to(clean)
        denoised = torch.cat([denoiser(part, sigma) for part in noisy.split(_ROWS)])
        error = float((denoised - clean).double().square().mean().sqrt())
        result[f"{sigma:g}"] = {
            "psnr": round(-20 * math.log10(max(error, 1e-12)), 3),
            "error_over_sigma": round(error / sigma, 4),
        }
    return result


def overall(curve: Curve) -> float:
    """Mean PSNR over the levels of a curve, in dB: one number to compare networks by."""
    return sum(row["psnr"] for row in curve.values()) / len(curve)


def contact_sheet(examples: Tensor) -> Tensor:
    """Lay out clean, noisy and denoised images as one grey picture, one row of each.

    :param examples: ``(3, N, C, H, W)``; of two channels the magnitude is shown.
    :return: ``(3 H, N W)``, black is 0 and white the brightest clean value of a column.
    """
    values = examples[:, :, 0].clamp_min(0) if examples.shape[2] == 1 else examples.norm(dim=2)
    white = values[:1].amax(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
    rows, columns, height, width = values.shape
    shown = (values / white).clamp(0, 1).permute(0, 2, 1, 3)
    return shown.reshape(rows * height, columns * width)
