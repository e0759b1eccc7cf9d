"""Models of MRI scans, Cartesian and not: maps, phase, noise level and scale from the scan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from deepinv.physics import GaussianNoise
from torch import Tensor

from sciinv.channels import to_channels
from sciinv.data.noise import estimate_mri_noise, estimate_noncartesian_noise
from sciinv.data.scale import mri_scale
from sciinv.data.scan import MRIGeometry, NonCartesianGeometry, Scan
from sciinv.errors import DataError
from sciinv.operators import CartesianMRI, NonCartesianMRI, estimate_coil_maps
from sciinv.operators.calibration import calibration_kspace
from sciinv.operators.coils import low_resolution_phase, sensitivity_support
from sciinv.reconstruction.model import Model

# the denoiser knows nothing finer than this share of the intensity scale, and neither do the maps:
# as noise level of a point estimate, too small is harmful, too large is mild
_FLOOR = 0.008

Say = Callable[[str, str], None]


def cartesian_model(
    scan: Scan,
    geometry: MRIGeometry,
    index: int,
    noise_std: float | None,
    scale: float | None,
    say: Say,
) -> Model:
    """Build the model of one slice of centred Cartesian k-space."""
    kspace = np.ascontiguousarray(scan.data[index]).astype(np.complex64)
    shape = tuple(geometry.image_shape)
    mask = geometry.mask if geometry.mask.shape == shape else geometry.mask[index]
    k = torch.from_numpy(kspace)[None]
    sampled = torch.from_numpy(np.ascontiguousarray(mask))
    maps, phase = _maps(scan, index, k, sampled, say)
    noise = noise_std or scan.noise_std
    if noise is None:
        noise = estimate_mri_noise(kspace, mask, geometry.readout_axis)
    unit = scale or mri_scale(kspace, mask, maps[0].numpy())
    _tell(scan, noise, noise_std or scan.noise_std, unit, scale, "outer k-space", say)
    visible = sensitivity_support(k, sampled)[0].numpy()
    sigma = noise / unit
    physics = CartesianMRI(shape, mask=sampled, coil_maps=maps, noise_model=GaussianNoise(sigma))
    return Model(
        to_channels(k) / unit, physics, unit, sigma, noise, _FLOOR, shape,
        np.asarray(visible, bool), phase=phase,
    )  # fmt: skip


def noncartesian_model(
    scan: Scan,
    geometry: NonCartesianGeometry,
    index: int,
    noise_std: float | None,
    scale: float | None,
    say: Say,
) -> Model:
    """Build the model of one slice along a trajectory.

    Maps, phase, support and scale come from the centre of k-space, which a small least-squares
    problem brings to the Cartesian grid.
    """
    kspace = np.ascontiguousarray(scan.data[index]).astype(np.complex64)
    shape = tuple(geometry.image_shape)
    field = geometry.field_map
    if field is not None and field.ndim > len(shape):
        field = field[index]
    samples = torch.from_numpy(kspace.reshape(1, kspace.shape[0], -1))
    centre, sampled = calibration_kspace(samples, geometry.trajectory, shape)
    maps, phase = _maps(scan, index, centre, sampled, say)
    noise = noise_std or scan.noise_std
    if noise is None:
        noise = estimate_noncartesian_noise(kspace, geometry.trajectory)
    unit = scale or mri_scale(centre[0].numpy(), sampled.numpy() != 0, maps[0].numpy())
    _tell(scan, noise, noise_std or scan.noise_std, unit, scale, "neighbouring samples", say)
    sigma = noise / unit
    physics = NonCartesianMRI(
        shape,
        geometry.trajectory,
        maps,
        density=geometry.density,
        field_map=field,
        readout_times=geometry.readout_times if field is not None else None,
        noise_model=GaussianNoise(sigma),
    )
    visible = sensitivity_support(centre, sampled)[0].numpy()
    return Model(
        to_channels(samples) / unit, physics, unit, sigma, noise, _FLOOR,
        (geometry.num_shots, geometry.num_samples), np.asarray(visible, bool), phase=phase,
    )  # fmt: skip


def _maps(
    scan: Scan, index: int, kspace: Tensor, sampled: Tensor, say: Say
) -> tuple[Tensor, Tensor | None]:
    """Coil maps ``(1, coils, *image_shape)``, and the phase folded into them if they are ours."""
    if scan.coil_maps is not None:
        say("coils", f"{scan.num_coils} coil maps from the file")
        return torch.from_numpy(np.ascontiguousarray(scan.coil_maps[index]))[None], None
    maps = estimate_coil_maps(kspace, mask=sampled)
    phase = low_resolution_phase(kspace, maps, mask=sampled)
    how = "a single coil" if scan.num_coils == 1 else f"ESPIRiT, {scan.num_coils} coils"
    say("coils", f"{how}, from the scan's own centre of k-space")
    return maps * phase[:, None], phase


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


__all__ = ["cartesian_model", "noncartesian_model"]
