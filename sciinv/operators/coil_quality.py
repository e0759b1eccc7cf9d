"""How well coil maps explain the calibration data of their scan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciinv.errors import DataError
from sciinv.operators.coil_calibration import (
    calibration_region,
    calibration_slices,
    calibration_window,
    checked_kspace,
    low_resolution_images,
    outermost_samples,
    scan_masks,
)
from sciinv.operators.coils import sensitivity_support

GOOD = 0.01
POOR = 0.10
# share of noise in the low-resolution coil images above which nothing can be said
_NOISY = 0.5

Level = Literal["good", "fair", "poor", "noisy"]


@dataclass(frozen=True)
class MapQuality:
    """What coil maps cannot explain; see :func:`map_quality`.

    :param unexplained: share of each scan's signal energy, ``(B,)``, float64, 0 to 1.
    :param noise: share of noise in the energy of the low-resolution images, ``(B,)``, float64.
    :param pixels: share in every pixel of :attr:`support`, 0 elsewhere, ``(B, *spatial)``.
    :param support: where the coils see something, bool ``(B, *spatial)``.
    """

    unexplained: Tensor
    noise: Tensor
    pixels: Tensor
    support: Tensor

    @property
    def level(self) -> Level:
        """``"good"``, ``"fair"`` or ``"poor"`` for the worst scan; ``"noisy"``: cannot be told."""
        worst = float(self.unexplained.max())
        if worst > POOR:
            return "noisy" if float(self.noise[self.unexplained.argmax()]) > _NOISY else "poor"
        if float(self.noise.max()) > _NOISY:
            return "noisy"
        return "good" if worst < GOOD else "fair"

    @property
    def verdict(self) -> str:
        """One sentence for a report."""
        worst = float(self.unexplained.max())
        which = ""
        if len(self.unexplained) > 1:
            which = f" (scan {int(self.unexplained.argmax())}, the worst of {len(self.noise)})"
        share = f"{100 * worst:.2g} % of the low-resolution signal{which}"
        if self.level == "noisy":
            return (
                f"Coil maps cannot be judged: {100 * float(self.noise.max()):.0f} % of the "
                "calibration data's energy is noise."
            )
        if self.level == "good":
            return f"Coil maps are good: they leave {share} unexplained."
        if self.level == "fair":
            return (
                f"Coil maps are fair: they leave {share} unexplained, expected below "
                f"{100 * GOOD:g} %; edges or folded parts of the object may be wrong."
            )
        return (
            f"Coil maps are poor: they leave {share} unexplained, expected below "
            f"{100 * GOOD:g} %; they may belong to another scan, orientation, coil order or sign "
            "convention."
        )


def map_quality(kspace: Tensor, maps: Tensor, mask: Tensor | None = None) -> MapQuality:
    r"""Measure the share of the calibration data that no image seen through the maps can give.

    In every pixel of :func:`~sciinv.operators.coils.sensitivity_support`, the low-resolution coil
    images ``x_c`` are projected onto the maps: ``e = sum_c |x_c - s_c sum_d conj(s_d) x_d|^2`` for
    maps of unit norm (others are normalised; with several sets onto their span). The figure is
    ``(sum e - noise) / (sum |x|^2 - noise)`` where ``noise`` is what independent noise of the level
    of the outermost samples gives in either sum.

    Products of maps and image are blurred by the window of the calibration data and the image
    alone is not known, so maps that are exactly right leave up to 0.3 % with 8 or more calibration
    lines; below 1 % is called good. Maps moved by a sixteenth of the field of view along both axes
    leave 3 to 8 %, by an eighth over 10 %, and conjugated, permuted, mirrored or transposed ones
    16 % or more, called poor (the tests hold the sweep, of eight coils). Two coils that see nearly
    the same are nearly explained by any maps: there conjugated or mirrored ones left 4 to 8 %,
    called fair. :func:`sciinv.data.kspace_checks.suspect_axes` compares maps with their variants
    and finds these, too.

    Necessary, not sufficient: maps estimated from the same samples were made to explain them. In
    particular an object wider than the field of view, whose folded pixels no single set explains,
    shows in the eigenvalues of ``estimate_coil_maps(..., sets=2, return_eigenvalues=True)``.

    :param kspace: complex ``(B, coils, *spatial)``, centred, zero where not sampled.
    :param maps: complex ``(B or 1, coils, *spatial)`` or ``(B or 1, sets, coils, *spatial)``.
    :param mask: sampled positions ``(*spatial)`` or ``(B, *spatial)``; by default where the k-space
        is not zero.
    :raises DataError: if k-space and maps do not fit or the centre is not sampled.
    """
    kspace = checked_kspace(kspace)
    batch, spatial = kspace.shape[0], tuple(kspace.shape[2:])
    stacked = maps[:, None] if maps.ndim == kspace.ndim else maps
    if (
        not maps.is_complex()
        or stacked.ndim != kspace.ndim + 1
        or stacked.shape[0] not in (1, batch)
        or stacked.shape[2:] != kspace.shape[1:]
    ):
        raise DataError(
            "map quality", "maps", found=f"{maps.dtype} {tuple(maps.shape)}",
            expected=f"complex {tuple(kspace.shape)}, or with sets after the first axis",
        )  # fmt: skip
    stacked = stacked.to(kspace).expand(batch, *stacked.shape[1:])
    support = sensitivity_support(kspace, mask)
    unexplained, noise_share, pixels = [], [], []
    masks = scan_masks(kspace, mask)
    for data, sampled, sets, seen in zip(kspace, masks, stacked, support, strict=True):
        region = calibration_slices(calibration_region(sampled), spatial, None, 1)
        low = low_resolution_images(data, region)
        window = calibration_window(spatial, region, data.device)
        gain = float(window.square().sum()) / math.prod(spatial)
        total = int(sampled.sum())
        outer = outermost_samples(data, sampled, min(total, max(48, total // 20)))
        # the median of |n|^2 of complex Gaussian noise is log 2 times its variance
        variance = outer.abs().square().median(1).values * (gain / math.log(2.0))
        error, left = _residual(low, sets, variance)
        power = low.abs().square().sum(0)
        energy = float(power[seen].double().sum())
        noise = min(energy, float(variance.double().sum()) * int(seen.sum()))
        signal = max(energy - noise, torch.finfo(torch.float64).tiny)
        excess = float((error - left)[seen].double().sum())
        unexplained.append(min(1.0, max(0.0, excess / signal)))
        noise_share.append(noise / energy if energy > 0 else 1.0)
        share = (error - left) / power.clamp_min(torch.finfo(power.dtype).tiny)
        pixels.append(torch.where(seen, share.clamp(0, 1), 0.0))
    return MapQuality(
        torch.tensor(unexplained, dtype=torch.float64),
        torch.tensor(noise_share, dtype=torch.float64),
        torch.stack(pixels),
        support,
    )


def _residual(low: Tensor, sets: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Energy of coil images outside of the span of the maps, and what noise puts there.

    :param low: ``(coils, *spatial)``.
    :param sets: ``(sets, coils, *spatial)``.
    :param variance: of the noise in each coil image, ``(coils,)``.
    """
    basis = sets.movedim((0, 1), (-1, -2))
    gram = basis.mH @ basis
    # maps are zero where they were cropped; there is nothing to project on
    inverse = torch.linalg.pinv(gram, hermitian=True) if sets.shape[0] > 1 else _reciprocal(gram)
    images = low.movedim(0, -1)[..., None]
    fitted = basis @ (inverse @ (basis.mH @ images))
    error = (images - fitted).abs().square().sum((-2, -1))
    # diagonal of the projector
    held = ((basis @ inverse) * basis.conj()).sum(-1).real
    return error, (variance * (1 - held)).sum(-1)


def _reciprocal(gram: Tensor) -> Tensor:
    size = gram.real
    return torch.where(size > 0, 1 / torch.where(size > 0, size, 1.0), 0.0).to(gram.dtype)
