"""Coil maps and phase once more, from a first image: joint estimation in alternation.

A few calibration lines give maps and phase of low resolution, and their errors are what limits an
image of many times undersampled data. A first image made with these maps predicts the lines of the
centre that were not measured; measured and predicted lines together are a wider calibration region,
from which maps and phase are estimated again (the alternation of JSENSE, Ying and Sheng, Magn.
Reson. Med. 57, 2007, with ESPIRiT in place of polynomials).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from sciinv.channels import to_channels, to_complex
from sciinv.operators import (
    CartesianMRI,
    NonCartesianMRI,
    estimate_coil_maps,
    low_resolution_phase,
)
from sciinv.operators.coil_calibration import calibration_region
from sciinv.reconstruction.model import Model

# lines of the centre that are measured or predicted: maps have no finer detail, and a finer phase
# would follow the errors of the first image (a phantom: 32 best, 24 and 64 within 0.5 dB, all lines
# lose 0.8 dB)
WIDTH = 32


def can_refine(model: Model) -> bool:
    """Whether the maps are our own and the calibration region lacks lines."""
    return model.centre is not None and not bool(_wider(model.centre[1]).eq(model.centre[1]).all())


def refine_maps(model: Model, image: Tensor) -> tuple[Model, Tensor]:
    """Estimate maps and phase again from the measured centre of k-space and an image's prediction.

    :param model: of a scan for which :func:`can_refine` holds.
    :param image: of that model, ``(1, 2, *image_shape)``.
    :returns: the model with new maps and phase, and the same image for that model.
    """
    physics = model.physics
    assert isinstance(physics, CartesianMRI | NonCartesianMRI)  # noqa: S101  has a centre
    assert model.centre is not None and model.phase is not None  # noqa: S101
    assert physics.coil_maps is not None  # noqa: S101
    kspace, sampled = model.centre
    unmasked = CartesianMRI(physics.image_shape, coil_maps=physics.coil_maps)
    predicted = model.scale * to_complex(unmasked.A(image))
    filled = _wider(sampled)
    joint = torch.where(sampled, kspace, predicted.to(kspace)) * filled
    # as in the first estimate: off the grid, artefacts lie outside the object too
    crop: float | Literal["auto"] = "auto" if isinstance(physics, CartesianMRI) else 0.0
    maps = estimate_coil_maps(joint, mask=filled, crop=crop)
    phase = low_resolution_phase(joint, maps, mask=filled)
    refined = physics.rows(torch.zeros(1, dtype=torch.long))  # a shallow copy
    refined.update_parameters(coil_maps=maps * phase[:, None])
    turned = to_complex(image) * model.phase.to(kspace) * phase.conj()
    return replace(model, physics=refined, phase=phase), to_channels(turned).to(image)


def _wider(sampled: Tensor) -> Tensor:
    """Sampled positions and, around the centre, a box of ``WIDTH`` or of the region if wider."""
    region = calibration_region(sampled)
    filled = sampled.clone()
    box = []
    for part, n in zip(region, sampled.shape, strict=True):
        width = min(WIDTH, n)
        start = n // 2 - width // 2
        box.append(slice(min(start, part.start), max(start + width, part.stop)))
    filled[tuple(box)] = True
    return filled
