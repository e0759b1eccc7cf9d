"""The intensity scale: one number, from the measurement alone, that makes images about 1.

Priors see images whose robust maximum is about 1. The factor must not come from a reference or from
the finished reconstruction, so it is taken from a first, crude image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.noise import calibration_region
from sciinv.errors import DataError

__all__ = ["ct_scale", "low_resolution_magnitude", "mri_scale", "noncartesian_scale", "object_mask"]


def low_resolution_magnitude(
    kspace: NDArray[Any],
    mask: NDArray[np.bool_] | None = None,
    coil_maps: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Combined magnitude of the fully sampled centre of k-space, its outer half tapered.

    The taper (flat, then a cosine over the outer half: Tukey) suppresses ringing; a full Hann
    window would halve the resolution again and make the level depend on the undersampling (by 28 %
    instead of 14 % between a full scan and 12 calibration lines of a real brain).

    :param kspace: centred, ``(coils, *image_shape)``.
    :param mask: sampled positions ``image_shape``; nonzero samples by default.
    :param coil_maps: ``(coils, *image_shape)``; sum of squares over the coils without them.
    :returns: magnitude image ``image_shape``, in units of the orthonormal transform of k-space.
    """
    kspace = np.asarray(kspace)
    region = calibration_region(kspace, mask)
    axes = tuple(range(-len(region), 0))
    windowed = np.zeros(kspace.shape, dtype=np.complex128)
    index = (slice(None), *region)
    block = kspace[index].astype(np.complex128)
    for axis, part in zip(axes, region, strict=True):
        n = part.stop - part.start
        if n == kspace.shape[axis]:
            continue  # complete axis: nothing to taper
        t = np.abs(2 * np.arange(n) + 1 - n) / n  # 0 in the middle, just below 1 at the ends
        window = np.cos(np.pi * np.maximum(t - 0.5, 0.0)) ** 2
        shape = [1] * block.ndim
        shape[axis] = n
        block = block * window.reshape(shape)
    windowed[index] = block
    image = np.fft.fftshift(
        np.fft.ifftn(np.fft.ifftshift(windowed, axes=axes), axes=axes, norm="ortho"), axes=axes
    )
    if coil_maps is not None:
        return np.asarray(np.abs(np.sum(np.conj(coil_maps) * image, axis=0)))
    return np.asarray(np.sqrt(np.sum(np.abs(image) ** 2, axis=0)))


def mri_scale(
    kspace: NDArray[Any],
    mask: NDArray[np.bool_] | None = None,
    coil_maps: NDArray[Any] | None = None,
) -> float:
    """99th percentile of the low-resolution combined magnitude.

    Robust against single bright voxels (vessels, fat near a coil); on real heads it is the level
    of bright tissue.

    :param kspace: centred, ``(coils, *image_shape)``; see :func:`low_resolution_magnitude`.
    :raises DataError: the magnitude is zero.
    """
    value = float(np.percentile(low_resolution_magnitude(kspace, mask, coil_maps), 99.0))
    if not value > 0:
        raise DataError("kspace", "scale", found=value, expected="signal in the centre of k-space")
    return value


def noncartesian_scale(image: NDArray[Any]) -> float:
    """99th percentile of the magnitude of a first image, as :func:`mri_scale` takes it.

    :param image: combined gridded image (density-weighted adjoint or some CG steps), real or
        complex, any shape. Its values must be those of the image itself: weights have to be scaled
        so that the adjoint inverts the operator on average.
    :raises DataError: the image is zero or not finite.
    """
    value = float(np.percentile(np.abs(np.asarray(image)), 99.0))
    if not (np.isfinite(value) and value > 0):
        raise DataError("image", "scale", found=value, expected="signal")
    return value


def object_mask(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of the object: those above a fifth of the 99.5th percentile."""
    image = np.asarray(image, dtype=np.float64)
    return np.asarray(image > 0.2 * np.percentile(image, 99.5))


def ct_scale(image: NDArray[Any]) -> float:
    """90th percentile of a quick reconstruction inside the object.

    :param image: quick reconstruction (some SIRT iterations, or FBP), any shape, 1/mm.
    :raises DataError: the image has no positive object.
    """
    image = np.asarray(image, dtype=np.float64)
    inside = image[object_mask(image)]
    value = float(np.percentile(inside, 90.0)) if inside.size else 0.0
    if not (np.isfinite(value) and value > 0):
        raise DataError("image", "scale", found=value, expected="an object that attenuates")
    return value
