"""Noise level from the measurement itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

__all__ = [
    "calibration_region",
    "coil_noise",
    "estimate_mri_noise",
    "estimate_sinogram_noise",
    "sinogram_noise_map",
]

# median of |x| of a standard normal variable: MAD to standard deviation
_MAD = 0.6744897501960817


def _robust_std(x: NDArray[Any], axis: int | tuple[int, ...] | None = None) -> NDArray[Any]:
    return np.asarray(np.median(np.abs(x), axis=axis) / _MAD)


def _parts(z: NDArray[Any]) -> NDArray[Any]:
    """Real and imaginary parts along a new last axis."""
    return np.stack([z.real, z.imag], axis=-1)


def calibration_region(
    kspace: NDArray[Any], mask: NDArray[np.bool_] | None = None
) -> tuple[slice, ...]:
    """Return the largest fully sampled block around the centre that grows axis by axis.

    :param kspace: centred ``(coils, *image_shape)``.
    :param mask: sampled positions, nonzero samples by default.
    """
    sampled = np.any(np.asarray(kspace) != 0, axis=0) if mask is None else np.asarray(mask, bool)
    shape = sampled.shape
    low = [n // 2 for n in shape]
    high = [n // 2 + 1 for n in shape]
    growing = list(range(len(shape)))
    while growing:
        for axis in list(growing):
            grown = False
            for side in (0, 1):
                a, b = low.copy(), high.copy()
                if side == 0:
                    a[axis] -= 1
                else:
                    b[axis] += 1
                if a[axis] < 0 or b[axis] > shape[axis]:
                    continue
                block = tuple(slice(x, y) for x, y in zip(a, b, strict=True))
                if sampled[block].all():
                    low, high, grown = a, b, True
            if not grown:
                growing.remove(axis)
    return tuple(slice(x, y) for x, y in zip(low, high, strict=True))


def coil_noise(
    kspace: NDArray[Any],
    mask: NDArray[np.bool_] | None = None,
    readout_axis: int | None = None,
) -> NDArray[np.float64]:
    """Standard deviation per real component of each coil; see :func:`estimate_mri_noise`."""
    z = np.asarray(kspace)
    sampled = np.any(z != 0, axis=0) if mask is None else np.asarray(mask, bool)
    if sampled.shape != z.shape[1:]:
        raise DataError(
            "kspace", "mask", found=f"shape {sampled.shape}", expected=f"shape {z.shape[1:]}"
        )
    far = _distance(sampled.shape, readout_axis)
    # a tenth of the samples, at least 64: those farthest from the centre of k-space
    values = np.sort(far[sampled])
    wanted = max(64, sampled.sum() // 10)
    if values.size < 64:
        raise DataError(
            "kspace", "noise", found=f"{values.size} samples", expected="64 or more"
        )
    chosen = sampled & (far >= values[max(0, values.size - wanted)])
    return _robust_std(_parts(z[:, chosen]), axis=(1, 2)).astype(np.float64)


def _distance(shape: tuple[int, ...], readout_axis: int | None) -> NDArray[np.float64]:
    """How far from the signal a position is: 0 at the centre of k-space, 1 at the edge."""
    coordinates = np.meshgrid(
        *[np.abs(np.arange(n) - n // 2) / max(n / 2, 1) for n in shape], indexing="ij"
    )
    if readout_axis is None:
        return np.sqrt(sum(c**2 for c in coordinates) / len(shape))
    rest = [c for axis, c in enumerate(coordinates) if axis != readout_axis]
    # both must be far: the ends of the readout and the outer lines
    return np.asarray(np.minimum.reduce([coordinates[readout_axis], np.maximum.reduce(rest)]))


def estimate_mri_noise(
    kspace: NDArray[Any],
    mask: NDArray[np.bool_] | None = None,
    readout_axis: int | None = None,
) -> float:
    """Noise level of k-space."""
    return float(np.sqrt(np.mean(coil_noise(kspace, mask, readout_axis) ** 2)))


def estimate_sinogram_noise(sinogram: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> float:
    """Noise level of line integrals."""
    raise NotImplementedError


def sinogram_noise_map(sinogram: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[Any]:
    """Noise map."""
    raise NotImplementedError
