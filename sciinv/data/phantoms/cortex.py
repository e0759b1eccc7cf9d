"""Folded cortex: ribbons of grey matter over white matter, with sulci between them."""

from __future__ import annotations

import numpy as np

from sciinv.data.phantoms import tissues as T
from sciinv.data.phantoms.fields import ring_field, smooth_field
from sciinv.data.phantoms.frame import Frame, Image, Labels


def distance_to_zero(field: Image) -> Image:
    """First-order distance in pixels to the zero set of a field, ``|F| / |grad F|``."""
    gy, gx = np.gradient(field)
    slope = np.sqrt(gy * gy + gx * gx)
    floor = np.float32(0.3 * float(slope.mean()) + 1e-12)
    return np.asarray(np.abs(field) / np.maximum(slope, floor), dtype=np.float32)


def fold(
    frame: Frame, label: Labels, depth: Image, rng: np.random.Generator, *, folded: bool = True
) -> None:
    """Label a brain in place where ``depth > 0``: CSF, grey and white matter.

    Sulci follow the zero set of a ring field mixed with rays, so that they run inwards from the
    surface; they thin out at 12 to 30 mm of depth (a head is 85 mm in half width). Grey matter of
    2.5 to 4.5 mm, at least 1.2 final pixels, lines the surface and both banks of every sulcus.

    :param depth: ``(H, W)`` pixels below the brain's surface.
    :param folded: with sulci; without them the brain is smooth.
    """
    shape = (label.shape[0], label.shape[1])
    mm = frame.pixels / 85
    grey = max(2.4, mm * rng.uniform(2.5, 4.5), rng.uniform(2.0, 7.0) if mm < 2 else 0.0)
    csf = mm * np.exp(rng.uniform(np.log(0.4), np.log(3.0)))
    spacing = max(2 * (2 * grey + csf) * rng.uniform(0.8, 1.6), mm * rng.uniform(12, 26))
    reach = mm * rng.uniform(12, 30)
    rays = rng.uniform(0, 1.2) if rng.uniform() < 0.7 else 0.0
    folds = ring_field(shape, rng, spacing, rng.uniform(0.15, 0.4))
    uneven = smooth_field(shape, rng, max(8 * mm, 0.4 * frame.pixels))
    if rays:
        around = np.arctan2(frame.v, frame.u)
        count = max(4.0, 2 * np.pi * 0.75 * frame.pixels / spacing)
        twist = rng.uniform(0.5, 2.0) * uneven + 2.0 * frame.radius * rng.normal()
        folds = folds + np.float32(rays) * np.cos(np.round(count) * around + twist)
    sulcus = distance_to_zero(folds) if folded else np.full(shape, np.float32(1e3))
    beyond = np.maximum(depth - reach * (1 + 0.5 * uneven), 0) * np.float32(rng.uniform(0.2, 0.6))
    sulcus = sulcus + beyond
    if rng.uniform() < 0.8:  # the fissure between the hemispheres, open in front and behind
        wiggle = np.float32(0.012 * frame.pixels) * uneven
        middle = np.abs(frame.u * np.float32(frame.half[0]) + wiggle)
        middle = middle + np.float32(0.3 * frame.half[1]) * np.maximum(0.42 - np.abs(frame.v), 0)
        sulcus = np.minimum(sulcus, middle)
    surface = np.minimum(sulcus - np.float32(0.5 * csf), depth)
    inside = depth > 0
    label[inside] = T.WHITE
    label[inside & (surface < grey)] = T.GREY
    label[inside & (surface < 0)] = T.CSF


def deep_rows(frame: Frame, palette: Image, rng: np.random.Generator) -> list[np.ndarray]:
    """Ventricles and grey nuclei on both sides, as leaf rows from the bottom up."""
    from sciinv.data.phantoms.leaves import STAR

    rows = []
    scale = rng.uniform(0.7, 1.3)
    grow = np.exp(rng.normal(0, 0.35))

    def both(at: tuple[float, float], size: tuple[float, float], tissue: int, turn: float) -> None:
        for side in (-1, 1):
            jitter = rng.normal(0, 0.015, 2)
            rows.append(
                frame.leaf(
                    STAR,
                    (side * at[0] + jitter[0], at[1] * scale + jitter[1]),
                    (size[0] * np.exp(rng.normal(0, 0.1)), size[1] * np.exp(rng.normal(0, 0.1))),
                    float(palette[tissue]),
                    turn=side * turn,
                    wobble=0.12,
                    order=int(rng.integers(2, 5)),
                    phase=float(rng.uniform(0, 6.3)),
                )
            )

    both((0.3, 0.02), (0.1, 0.2), T.GREY, 0.25)  # putamen
    both((0.13, -0.1), (0.09, 0.13), T.GREY, -0.3)  # thalamus
    both((0.17, 0.24), (0.06, 0.12), T.GREY, 0.3)  # caudate
    both((0.1, 0.22), (0.05 * grow, 0.19), T.CSF, 0.35)  # frontal horns
    both((0.2, -0.3), (0.05 * grow, 0.2), T.CSF, -0.45)  # occipital horns
    if rng.uniform() < 0.6:
        rows.append(frame.leaf(STAR, (0, -0.05), (0.015 * grow, 0.12), float(palette[T.CSF])))
    return rows
