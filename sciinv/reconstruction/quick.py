"""A first picture of a scan within a second or two: no coil maps, no noise level, no phasing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.scan import (
    CTGeometry,
    DiffractionGeometry,
    MRIGeometry,
    NonCartesianGeometry,
    Scan,
)

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics

# coils that receive the most are enough for a picture
_COILS = 8
# pixels across a quick tomogram, and projections of it
_PIXELS, _ANGLES = 192, 180


@dataclass(frozen=True)
class Picture:
    """A first image of the middle slice.

    :param images: ``(1, *image_shape)``, real, in the axes of the affine.
    :param name: how it was made.
    :param affine: 4 x 4 voxel (row, column, slice) index to RAS mm.
    :param units: of the values.
    """

    images: NDArray[np.float32]
    name: str
    affine: NDArray[np.float64]
    units: str
    oriented: bool


def quick_picture(scan: Scan) -> Picture:
    """Make a classical image of the middle slice; of diffraction show the pattern itself."""
    index = scan.num_slices // 2
    geometry = scan.geometry
    if isinstance(geometry, DiffractionGeometry):
        pattern = np.log1p(np.clip(scan.data[index], 0, None).astype(np.float32))
        return Picture(pattern[None], "pattern, log(1 + counts)", np.eye(4), "/pixel", False)
    if isinstance(geometry, MRIGeometry):
        image, name = _zero_filled(scan.data[index]), "zero-filled, root sum of squares"
    elif isinstance(geometry, NonCartesianGeometry):
        image, name = _gridded(scan.data[index], geometry), "gridded, root sum of squares"
    else:
        image, name = _tomogram(scan.data[index], geometry), "quick filtered back-projection"
    return Picture(image[None], name, scan.affine, scan.units, scan.oriented)


def _strongest(data: NDArray[Any]) -> NDArray[np.complex64]:
    power = np.sum(np.abs(data) ** 2, axis=tuple(range(1, data.ndim)))
    return np.asarray(data[np.sort(np.argsort(power)[-_COILS:])], np.complex64)


def _zero_filled(kspace: NDArray[Any]) -> NDArray[np.float32]:
    total = np.zeros(kspace.shape[1:], np.float32)
    axes = tuple(range(kspace.ndim - 1))
    for coil in _strongest(kspace):
        image = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(coil), axes=axes, norm="ortho"))
        total += np.abs(image).astype(np.float32) ** 2
    return np.sqrt(total)


def _gridded(data: NDArray[Any], geometry: NonCartesianGeometry) -> NDArray[np.float32]:
    # torch takes a while to import: only where it is needed
    import torch

    from sciinv.channels import to_channels, to_complex
    from sciinv.operators import NonCartesianMRI

    coils = _strongest(data)
    y = to_channels(torch.from_numpy(coils.reshape(len(coils), -1)))
    physics = NonCartesianMRI(geometry.image_shape, geometry.trajectory, density=geometry.density)
    images = to_complex(physics.A_dagger(y)).abs()
    return images.square().sum(0).sqrt().numpy().astype(np.float32)


def _tomogram(sinogram: NDArray[Any], geometry: CTGeometry) -> NDArray[np.float32]:
    """Back-project some of the projections onto coarse pixels, shown on the grid of the scan."""
    import torch

    from sciinv.baselines import fbp

    physics, step, coarse = quick_tomograph(geometry)
    p = torch.from_numpy(np.ascontiguousarray(sinogram[::step], np.float32))[None, None]
    image = fbp(p, physics)[0, 0].numpy().repeat(coarse, 0).repeat(coarse, 1)
    start = [(n - m) // 2 for n, m in zip(image.shape, geometry.image_shape, strict=True)]
    cut = tuple(slice(s, s + m) for s, m in zip(start, geometry.image_shape, strict=True))
    return np.asarray(image[cut], np.float32)


def quick_tomograph(geometry: CTGeometry) -> tuple[LinearPhysics, int, int]:
    """Return an operator on larger pixels with some of the angles; their step; the pixels' size."""
    from sciinv.reconstruction.ct_model import coarse_tomograph

    coarse = max(1, math.ceil(max(geometry.image_shape) / _PIXELS))
    step = max(1, len(geometry.angles) // _ANGLES)
    return coarse_tomograph(geometry, coarse, step), step, coarse
