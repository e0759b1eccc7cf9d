"""Compact objects in empty space, as coherent diffraction sees them: crystals, cells, grains."""

from __future__ import annotations

import numpy as np

from sciinv.data.phantoms.fields import power_law_field, smooth_field
from sciinv.data.phantoms.frame import Image, Part, paint_inside, random_frame
from sciinv.data.phantoms.leaves import ELLIPSE, STAR, random_leaves


def facets(shape: tuple[int, int], rng: np.random.Generator, tile: Image) -> Part:
    """Facetted crystal, in part twinned or with holes; a nearly even amplitude."""
    frame = random_frame(shape, rng, aspect=(0.6, 1.6), size=(0.4, 0.9), wobble=0.0, close_up=0.0)
    normals = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 9))))
    away = np.full(shape, -1e3, dtype=np.float32)
    for normal in normals:
        distance = rng.uniform(0.45, 0.95)
        side = frame.u * np.float32(np.cos(normal)) + frame.v * np.float32(np.sin(normal))
        away = np.maximum(away, side - np.float32(distance))
    body = (away < 0) & (frame.radius < 1)
    label = body.astype(np.int32)
    value = np.where(body, np.float32(1), np.float32(0))
    if rng.uniform() < 0.3:  # thinner towards some facets
        value *= np.clip(-away / np.float32(rng.uniform(0.1, 0.6)), 0, 1)
    if rng.uniform() < 0.4:  # domains
        cut = frame.u * rng.normal() + frame.v * rng.normal() > rng.uniform(-0.3, 0.3)
        label[body & cut] = 2
        value[body & cut] *= np.float32(rng.uniform(0.6, 1.2))
    rows = [
        frame.leaf(
            STAR, rng.uniform(-0.6, 0.6, 2).tolist(), rng.uniform(0.03, 0.15, 2).tolist(), 0.0
        )
        for _ in range(int(rng.choice([0, 0, 1, 4])))
    ]
    paint_inside((value, label), rows, tile, body, first_label=20)
    return value, label


def cells(shape: tuple[int, int], rng: np.random.Generator, tile: Image) -> Part:
    """A cell: a soft envelope, a membrane, a nucleus, vesicles and granules."""
    frame = random_frame(shape, rng, aspect=(0.6, 1.6), size=(0.5, 0.9), wobble=0.15, close_up=0.0)
    body = frame.radius < 1
    label = body.astype(np.int32)
    dome = np.sqrt(np.maximum(1 - frame.radius**2, 0))
    flat = np.float32(rng.uniform(0, 1))
    value = (np.float32(rng.uniform(0.3, 0.8)) * (flat * body + (1 - flat) * dome)).astype(
        np.float32
    )
    if rng.uniform() < 0.6:
        rim = body & (frame.radius > 1 - rng.uniform(0.02, 0.08))
        value[rim] += np.float32(rng.uniform(0.1, 0.4))
    painted = value.copy()
    rows = [
        frame.leaf(STAR, rng.normal(0, 0.2, 2).tolist(), rng.uniform(0.2, 0.4, 2).tolist(), 0.5)
    ]
    for _ in range(int(rng.integers(3, 30))):
        size = np.exp(rng.uniform(np.log(0.02), np.log(0.14)))
        at = rng.uniform(-0.8, 0.8, 2).tolist()
        rows.append(frame.leaf(ELLIPSE, at, (size, size * rng.uniform(0.6, 1.6)), rng.uniform()))
    paint_inside((painted, label), rows, tile, body, first_label=20)
    mix = np.float32(rng.uniform(0.3, 1.0))
    return (value + mix * (painted - value)).astype(np.float32), label


def grains(shape: tuple[int, int], rng: np.random.Generator, tile: Image) -> Part:
    """A cluster of particles: filled shapes of power-law sizes within a rough envelope."""
    frame = random_frame(shape, rng, aspect=(0.6, 1.6), size=(0.5, 0.9), wobble=0.25, close_up=0.0)
    body = frame.radius < 1
    label = np.zeros(shape, dtype=np.int32)
    value = np.zeros(shape, dtype=np.float32)
    side = frame.pixels
    count = int(np.exp(rng.uniform(np.log(12), np.log(300))))
    rows = random_leaves(
        count, shape, rng, radius=(0.03 * side + 1.5, max(0.35 * side, 4.0)),
        exponent=rng.uniform(1.2, 2.6), kinds=(3, 2, 2, 0.5, 0.2), values=(0.3, 1.0),
    )  # fmt: skip
    rows[:, 1] = frame.centre[0] + rng.normal(0, 0.35, count) * frame.pixels
    rows[:, 2] = frame.centre[1] + rng.normal(0, 0.35, count) * frame.pixels
    paint_inside((value, label), list(rows), tile, body, first_label=1)
    if rng.uniform() < 0.3:
        porous = power_law_field(shape, rng, rng.uniform(1, 2), side / rng.uniform(2, 10))
        keep = porous + 0.3 * smooth_field(shape, rng, side) > rng.uniform(-1.2, 0.0)
        value[body & (label == 0) & keep] = np.float32(rng.uniform(0.2, 0.8))
        label[body & (label == 0) & keep] = 1
    return value, label
