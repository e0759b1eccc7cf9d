"""What the simulators share: coil sensitivities, finer grids, checks of their arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_stack", "birdcage_maps", "coarse_and_fine", "non_negative", "with_noise"]


def birdcage_maps(
    coils: int, shape: Sequence[int], *, radius: float = 1.5
) -> NDArray[np.complex128]:
    """Return smooth coil sensitivities of a birdcage array, of unit root sum of squares.

    The coils stand evenly on a circle (3D: up to 8 on each of several rings) around the image;
    sensitivity falls as 1/distance and its phase turns about each coil (the model of SigPy).
    With the default radius the coils on the diagonals stand just outside the corners, where the
    maps are steep; inside the central disc they are smooth.

    :param coils: number of coils, 1 or more; a single one is 1 everywhere.
    :param shape: ``(H, W)`` or ``(D, H, W)``.
    :param radius: of the circle over half the field of view; larger is smoother.
    :return: ``(coils, *shape)``.
    """
    if coils < 1 or len(shape) not in (2, 3):
        raise ValueError(f"found {coils} coils and shape {tuple(shape)}, expected 1 or more, 2D/3D")
    if coils == 1:
        return np.ones((1, *shape), dtype=np.complex128)
    per_ring = 8 if len(shape) == 3 else coils
    ring, place = np.divmod(np.arange(coils), per_ring)
    angle = 2 * np.pi * place / per_ring
    # half fields of view, 0 at index n / 2; a coil is seen along the last two axes
    grids = [(np.arange(n) - n / 2) / (n / 2) for n in shape]
    column: tuple[slice | None, ...] = (slice(None), *[None] * len(shape))
    dx = grids[-1] - radius * np.cos(angle)[column]
    dy = grids[-2][:, None] - radius * np.sin(angle)[column]
    distance = np.hypot(dx, dy)
    phase = np.arctan2(dx, -dy) - angle[column]
    if len(shape) == 3:
        dz = grids[0][:, None, None] - (ring - (ring[-1] / 2))[column]
        distance = np.hypot(distance, dz)
        # rings are turned against each other, so that coils above one another differ in phase
        phase = phase - (2 * np.pi / per_ring * ring)[column]
    if not distance.all():
        raise ValueError(f"radius: {radius} puts a coil onto a pixel; take another")
    magnitude = 1 / distance
    magnitude = magnitude / np.sqrt((magnitude**2).sum(0))
    return np.asarray(magnitude * np.exp(1j * phase), dtype=np.complex128)


def non_negative(**values: float) -> None:
    """Refuse numbers that are negative or not finite.

    :raises ValueError: naming the first.
    """
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: found {value}, expected a finite number of 0 or more")


def as_stack(image: NDArray[Any], volume: bool) -> NDArray[Any]:
    """Return an image, a stack or one volume as a stack ``(slices, *image_shape)``.

    :raises ValueError: another number of axes, NaN or Inf.
    """
    x = np.asarray(image)
    if x.ndim not in (2, 3) or (volume and x.ndim != 3) or not np.isfinite(x).all():
        raise ValueError(
            f"image: found shape {x.shape}, expected finite (H, W), (slices, H, W) or, with "
            "volume=True, (D, H, W)"
        )
    return x[None] if x.ndim == 2 or volume else x


def with_noise(
    samples: NDArray[Any], noise_std: float, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Add white noise of this standard deviation to both real components."""
    result = np.asarray(samples, dtype=np.complex128)
    if noise_std > 0:
        parts = rng.standard_normal((2, *result.shape))
        result = result + noise_std * (parts[0] + 1j * parts[1])
    return result


def coarse_and_fine(
    stack: NDArray[np.float64], shape: tuple[int, ...], supersample: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the image to be reconstructed and the finer one to be projected."""
    height, width = shape
    factor = stack.shape[1] // height if height else 0
    if factor < 1 or stack.shape[1:] != (height * factor, width * factor):
        raise ValueError(
            f"image_shape: found {shape} for an image {stack.shape[1:]}, expected its shape or "
            "that divided by an integer"
        )
    blocks = stack.reshape(len(stack), height, factor, width, factor)
    coarse = np.asarray(blocks.mean(axis=(2, 4)), dtype=np.float64)
    split = math.ceil(supersample / factor)
    fine = stack.repeat(split, axis=1).repeat(split, axis=2)
    return coarse, fine
