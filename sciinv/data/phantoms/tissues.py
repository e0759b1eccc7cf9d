"""Tissues and what they look like: signal of common MRI contrasts, attenuation of CT."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

(
    AIR,
    SKIN,
    FAT,
    BONE,
    MARROW,
    CSF,
    GREY,
    WHITE,
    MUSCLE,
    BLOOD,
    LUNG,
    ORGAN,
    ENAMEL,
    DENTINE,
    METAL,
    TISSUES,
) = range(16)

# air skin fat bone marrow csf grey white muscle blood lung organ enamel dentine metal; relative
# signal of T1-, T2-, proton-density-weighted, FLAIR and gradient-echo images at 1.5 to 3 T
_MRI = (
    (0, 0.6, 1.0, 0.05, 0.8, 0.15, 0.5, 0.72, 0.5, 0.3, 0.05, 0.55, 0.02, 0.05, 0),
    (0, 0.4, 0.75, 0.04, 0.6, 1.0, 0.6, 0.42, 0.3, 0.1, 0.06, 0.5, 0.02, 0.05, 0),
    (0, 0.6, 0.9, 0.08, 0.7, 0.95, 0.85, 0.7, 0.7, 0.4, 0.08, 0.75, 0.02, 0.05, 0),
    (0, 0.5, 0.6, 0.04, 0.5, 0.12, 0.75, 0.6, 0.4, 0.2, 0.05, 0.5, 0.02, 0.05, 0),
    (0, 0.5, 0.65, 0.05, 0.35, 0.8, 0.8, 0.68, 0.6, 1.0, 0.03, 0.7, 0.02, 0.05, 0),
)
# attenuation relative to water at 60 to 80 keV, smallest and largest
_CT = (
    (0, 0),
    (1.0, 1.1),
    (0.88, 0.93),
    (1.5, 3.0),
    (1.05, 1.5),
    (0.99, 1.02),
    (1.03, 1.06),
    (1.01, 1.04),
    (1.03, 1.08),
    (1.04, 1.07),
    (0.15, 0.4),
    (1.03, 1.1),
    (2.6, 3.4),
    (1.6, 2.2),
    (4.0, 8.0),
)


def mri_palette(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw one signal per tissue, ``(TISSUES,)`` in 0 to about 1.2.

    Six in ten are one of the common contrasts, each tissue jittered by 15 %; the others are random,
    with dark bone and lung.
    """
    jitter = np.exp(rng.normal(0, 0.15, TISSUES))
    random = rng.uniform(0.05, 1, TISSUES)
    random[[BONE, LUNG, ENAMEL, DENTINE]] *= 0.3
    random[[AIR, METAL]] = 0
    known = np.array(_MRI[int(rng.integers(len(_MRI)))]) * jitter
    chosen = known if rng.uniform() < 0.6 else random
    return chosen.astype(np.float32)


def ct_palette(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw one attenuation per tissue relative to water, ``(TISSUES,)``; blood may be enhanced."""
    low, high = np.array(_CT).T
    chosen = low + (high - low) * rng.uniform(size=len(low))
    if rng.uniform() < 0.3:  # contrast agent
        chosen[BLOOD] = rng.uniform(1.15, 1.8)
    return chosen.astype(np.float32)
