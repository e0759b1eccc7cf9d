"""Models of MRI scans, Cartesian and not: maps, phase, noise level and scale from the scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from deepinv.physics import GaussianNoise
from numpy.typing import NDArray
from torch import Tensor

from sciinv.baselines import cg_sense
from sciinv.baselines.common import squared_norm
from sciinv.channels import to_channels
from sciinv.data.noise import estimate_mri_noise, estimate_noncartesian_noise
from sciinv.data.scale import mri_scale
from sciinv.data.scan import MRIGeometry, NonCartesianGeometry, Scan
from sciinv.errors import DataError
from sciinv.operators import (
    CartesianMRI,
    NonCartesianMRI,
    calibration_kspace,
    compress_coils,
    estimate_coil_maps,
    estimate_noise_covariance,
    low_resolution_phase,
    map_quality,
    mix_coils,
    noise_covariance,
    prewhiten,
    sensitivity_support,
)
from sciinv.reconstruction.excess import excess_by_radius
from sciinv.reconstruction.model import Model

# the denoiser knows nothing finer than this share of the intensity scale, and neither do the maps:
# with maps of a few lines too small a noise level of a point estimate is harmful; with maps
# estimated a second time 0.006 is better than 0.008 (a phantom: 0.3 dB)
_FLOOR = 0.005
# share of the samples, farthest out, that is taken for noise
_OUTER = 0.05
# of the image that only has to show where the data are missed
_FIRST_LAMBDA, _FIRST_ITERATIONS = 0.01, 30

Say = Callable[[str, str], None]


@dataclass(frozen=True)
class Coils:
    """What to do with the coils before anything else.

    :param number: compress them to so many virtual ones; ``None`` keeps all.
    :param prewhiten: mix them so that their noise is white and equal.
    """

    number: int | None = None
    prewhiten: bool = False


def cartesian_model(
    scan: Scan,
    geometry: MRIGeometry,
    index: int,
    noise_std: float | None,
    scale: float | None,
    coils: Coils,
    say: Say,
) -> Model:
    """Build the model of one slice of centred Cartesian k-space."""
    shape = tuple(geometry.image_shape)
    mask = geometry.mask if geometry.mask.shape == shape else geometry.mask[index]
    sampled = torch.from_numpy(np.ascontiguousarray(mask))
    k = torch.from_numpy(np.ascontiguousarray(scan.data[index]).astype(np.complex64))[None]
    given = noise_std or scan.noise_std
    covariance = estimate_noise_covariance(k, sampled) if coils.prewhiten else None
    k, known = _mixed(scan, index, coils, k, k, sampled, covariance, say)
    # what no coil sees need not be explained: CG-SENSE of a real brain gains 0.8 dB at R = 4
    maps, phase, warnings = _maps(known, k, sampled, "auto", say)
    noise = 1.0 if coils.prewhiten else given
    if noise is None:
        noise = estimate_mri_noise(k[0].numpy(), mask, geometry.readout_axis)
    unit = scale or mri_scale(k[0].numpy(), mask, maps[0].numpy())
    _tell(scan, noise, given, unit, scale, "outer k-space", say)
    visible = sensitivity_support(k, sampled)[0].numpy()
    sigma = noise / unit
    physics = CartesianMRI(shape, mask=sampled, coil_maps=maps, noise_model=GaussianNoise(sigma))
    return Model(
        to_channels(k) / unit, physics, unit, sigma, noise, _FLOOR, shape,
        np.asarray(visible, bool), phase=phase, centre=None if phase is None else (k, sampled),
        warnings=warnings,
    )  # fmt: skip


def noncartesian_model(
    scan: Scan,
    geometry: NonCartesianGeometry,
    index: int,
    noise_std: float | None,
    scale: float | None,
    coils: Coils,
    say: Say,
) -> Model:
    """Build the model of one slice along a trajectory.

    Maps, phase, support and scale come from the centre of k-space, which a small least-squares
    problem brings to the Cartesian grid. A first CG-SENSE image shows at which distance from that
    centre the data are missed by more than their noise, and samples are weighted accordingly.
    """
    shape = tuple(geometry.image_shape)
    field = geometry.field_map
    if field is not None and field.ndim > len(shape):
        field = field[index]
    raw = np.ascontiguousarray(scan.data[index]).astype(np.complex64)
    samples = torch.from_numpy(raw.reshape(1, raw.shape[0], -1))
    centre, sampled = calibration_kspace(samples, geometry.trajectory, shape)
    given = noise_std or scan.noise_std
    radius = np.linalg.norm(geometry.trajectory, axis=-1).ravel()
    covariance = None
    if coils.prewhiten:
        outer = radius >= np.quantile(radius, 1 - _OUTER)
        covariance = noise_covariance(samples[0][:, torch.from_numpy(outer)])
    # the fully sampled centre tells which virtual coils hold the signal
    samples, known = _mixed(scan, index, coils, samples, centre, sampled, covariance, say)
    if coils != Coils():
        centre, sampled = calibration_kspace(samples, geometry.trajectory, shape)
    # off the grid, artefacts lie outside the object too: a crop would heap them up at its border
    maps, phase, warnings = _maps(known, centre, sampled, 0.0, say)
    noise = 1.0 if coils.prewhiten else given
    if noise is None:
        mixed = samples[0].numpy().reshape(samples.shape[1], *raw.shape[1:])
        noise = estimate_noncartesian_noise(mixed, geometry.trajectory)
    unit = scale or mri_scale(centre[0].numpy(), sampled.numpy() != 0, maps[0].numpy())
    _tell(scan, noise, given, unit, scale, "the outermost samples", say)
    sigma = noise / unit
    y = to_channels(samples) / unit

    def operator(weights: NDArray[np.float64] | None) -> NonCartesianMRI:
        return NonCartesianMRI(
            shape,
            geometry.trajectory,
            maps,
            weights=weights,
            density=geometry.density,
            field_map=field,
            readout_times=geometry.readout_times if field is not None else None,
            noise_model=GaussianNoise(sigma),
        )

    first = operator(None)
    image = cg_sense(y, first, lam=_FIRST_LAMBDA * evenness(first), max_iter=_FIRST_ITERATIONS)
    square = ((y - first.A(image)) / sigma).square().mean((0, 1, 2)).numpy()
    factor = excess_by_radius(square, np.ones(1), radius)
    visible = sensitivity_support(centre, sampled, outer_is_noise=False)[0].numpy()
    return Model(
        y * torch.from_numpy(1 / factor).to(y), operator(1 / factor), unit, sigma, noise, _FLOOR,
        (geometry.num_shots, geometry.num_samples), np.asarray(visible, bool), phase=phase,
        centre=None if phase is None else (centre, sampled), preview=image,
        excess=float(factor.max()), warnings=warnings,
    )  # fmt: skip


def evenness(physics: NonCartesianMRI) -> float:
    """Mean sampling density over that of the densest place in k-space.

    CG-SENSE counts its regularisation in units of ``|A|^2``, the density of the densest place.
    Where the centre is sampled a hundred times as densely as the rest, that would blur the image.
    """
    norm = squared_norm(physics, torch.ones(1, *physics.img_size))
    density = float(physics.weights.square().sum()) / math.prod(physics.image_shape)
    return min(1.0, density / float(norm.amax()))


def _mixed(
    scan: Scan,
    index: int,
    coils: Coils,
    data: Tensor,
    centre: Tensor,
    sampled: Tensor,
    covariance: Tensor | None,
    say: Say,
) -> tuple[Tensor, Tensor | None]:
    """Whiten and compress the coils of the data and of the file's maps.

    :param centre: Cartesian k-space that tells about the coils; ``data`` itself if they are that.
    :param covariance: of the noise over the coils, if it is to be whitened.
    :returns: data and known coil maps ``(1, coils, *image_shape)``.
    """
    maps = None
    if scan.coil_maps is not None:
        maps = torch.from_numpy(np.ascontiguousarray(scan.coil_maps[index]))[None]
    if covariance is not None:
        data, matrix = prewhiten(data, covariance)
        centre = mix_coils(matrix, centre)
        maps = None if maps is None else mix_coils(matrix, maps)
        say("coils", "noise whitened by its covariance in outer k-space")
    before = data.shape[1]
    if coils.number is not None and coils.number < before:
        compressed = compress_coils(centre, coils=coils.number, mask=sampled)
        data = mix_coils(compressed.matrix, data)
        maps = None if maps is None else mix_coils(compressed.matrix, maps)
        say("coils", f"{before} coils compressed to {coils.number} virtual ones")
    return data, maps


def _maps(
    known: Tensor | None, kspace: Tensor, sampled: Tensor, crop: float | Literal["auto"], say: Say
) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Coil maps ``(1, coils, *image_shape)``, the phase folded into them if they are ours."""
    count = kspace.shape[1]
    if known is not None:
        maps, phase, how = known, None, f"{count} coil maps from the file"
    else:
        maps = estimate_coil_maps(kspace, mask=sampled, crop=crop)
        phase = low_resolution_phase(kspace, maps, mask=sampled)
        maps = maps * phase[:, None]
        source = "from the scan's own centre of k-space"
        how = f"a single coil, {source}" if count == 1 else f"ESPIRiT, {count} coils, {source}"
    quality = map_quality(kspace, maps, sampled)
    if quality.level in ("good", "fair"):
        how += f"; they leave {100 * float(quality.unexplained.max()):.2g} % unexplained"
    say("coils", how)
    return maps, phase, (quality.verdict,) if quality.level == "poor" else ()


def _tell(
    scan: Scan,
    noise: float,
    given: float | None,
    unit: float,
    scale: float | None,
    source: str,
    say: Say,
) -> None:
    if not noise > 0:
        raise DataError(scan.source, "noise", found=noise, expected="a positive noise level",
                        hint="give --noise")  # fmt: skip
    say("noise", f"{noise:.3g} per real component, {'given' if given else f'from {source}'}")
    say("scale", f"{unit:.3g} a.u. is 1 for the prior" + (" (given)" if scale else ""))


__all__ = ["Coils", "cartesian_model", "evenness", "noncartesian_model"]
