"""A small crystal, as coherent diffraction sees one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sciinv.data.phantoms.fields import smooth_field

# direction of a facet's normal in radians and its distance from the centre in half widths: no two
# facets are parallel, so that the crystal differs from its mirror images
_FACETS = ((0.2, 0.5), (1.5, 0.42), (2.6, 0.55), (3.9, 0.36), (5.2, 0.5))


def crystal(
    shape: Sequence[int], rng: np.random.Generator, *, strain: float = 0.8
) -> NDArray[np.complex128]:
    """Five-faceted plate with an amplitude near 1 and a smooth phase.

    It takes up about half of the grid along each axis and is surrounded by nothing, so its pattern
    determines it up to position, point reflection and global phase.

    :param shape: ``(H, W)``.
    :param rng: draws amplitude and phase.
    :param strain: standard deviation of the phase in radians.
    """
    height, width = (int(n) for n in shape)
    y = ((np.arange(height) - height // 2) / (height / 2))[:, None]
    x = ((np.arange(width) - width // 2) / (width / 2))[None, :]
    plate = np.ones((height, width))
    pixel = 2 / min(height, width)
    for angle, distance in _FACETS:
        away = x * np.cos(angle) + y * np.sin(angle) - distance
        plate *= np.clip(0.5 - away / (2 * pixel), 0, 1)  # edges of two pixels
    wavelength = min(height, width) / 3.2
    amplitude = plate * (0.85 + 0.1 * smooth_field((height, width), rng, wavelength))
    phase = strain * smooth_field((height, width), rng, 1.5 * wavelength)
    return np.asarray(amplitude * np.exp(1j * phase))
