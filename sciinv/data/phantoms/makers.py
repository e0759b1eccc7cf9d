"""Kinds of scenes by name, and what is painted over them."""

from __future__ import annotations

import numpy as np

from sciinv.data.phantoms import anatomy, compact
from sciinv.data.phantoms.curves import add_curves
from sciinv.data.phantoms.frame import Image, Part
from sciinv.data.phantoms.leaves import paint, random_leaves
from sciinv.data.phantoms.patterns import add_pattern
from sciinv.data.phantoms.scenes import (
    field_scene,
    inserts_scene,
    leaves_scene,
    random_tile,
    shells_scene,
)
from sciinv.data.phantoms.tissues import AIR, TISSUES, ct_palette, mri_palette

MAKERS = (
    "leaves",
    "shells",
    "inserts",
    "fields",
    "heads",
    "thoraxes",
    "limbs",
    "teeth",
    "discs",
    "facets",
    "cells",
    "grains",
)


def make(
    kind: str, world: str, shape: tuple[int, int], rng: np.random.Generator, *, folded: bool
) -> Part:
    """Draw a scene of one kind; ``folded`` heads have a cortex.

    :return: ``(H, W)`` values, not negative and about 0 to 1 (CT: relative to water), and labels.
    """
    if kind == "leaves":
        return leaves_scene(shape, rng, air=False)
    if kind == "shells":
        return shells_scene(shape, rng)
    if kind == "inserts":
        return inserts_scene(shape, rng)
    if kind == "fields":
        return field_scene(shape, rng, air=False)
    tile = random_tile(rng)
    if kind in ("facets", "cells", "grains"):
        maker = {"facets": compact.facets, "cells": compact.cells, "grains": compact.grains}[kind]
        return maker(shape, rng, tile)
    palette = _palette(kind, world, rng)
    if kind == "heads":
        return anatomy.head(shape, rng, palette, tile, folded=folded)
    body = {
        "thoraxes": anatomy.thorax,
        "limbs": anatomy.limb,
        "teeth": anatomy.tooth,
        "discs": anatomy.disc,
    }
    return body[kind](shape, rng, palette, tile)


def _palette(kind: str, world: str, rng: np.random.Generator) -> Image:
    """Draw how tissues look in this world; teeth are dense everywhere."""
    if world == "ct":
        return ct_palette(rng)
    if world == "generic" and (kind == "teeth" or rng.uniform() < 0.4):
        random = rng.uniform(0, 1, TISSUES).astype(np.float32)
        random[AIR] = 0
        return random
    return mri_palette(rng)


def overlay(name: str, part: Part, rng: np.random.Generator) -> None:
    """Paint vessels, septa, cracks, gratings, patterns or metal over a scene, in place."""
    value, label = part
    where = value > 0.02
    if not where.any():
        return
    top = float(value.max())
    typical = float(value[where].mean())
    colour = float(rng.choice([0.0, 0.3, 1.0, 1.0], p=[0.3, 0.2, 0.25, 0.25]))
    colour = colour * typical * rng.uniform(0.6, 1.3) if colour < 1 else rng.uniform(0.5, 1) * top
    if name == "vessels":
        add_curves(
            part, rng, where, count=int(rng.integers(1, 9)), radius=(0.6, 3.0), value=colour,
            mark=100, branches=int(rng.integers(2, 14)),
        )  # fmt: skip
    elif name == "septa":
        add_curves(
            part, rng, where, count=int(rng.integers(1, 10)), radius=(0.6, 2.0), value=colour,
            mark=101, branches=1, wander=0.015,
        )  # fmt: skip
    elif name == "cracks":
        add_curves(
            part, rng, where, count=int(rng.integers(1, 6)), radius=(0.5, 2.5), value=0.0,
            mark=102, branches=int(rng.integers(1, 4)), fork=0.01,
            wander=float(rng.choice([0.01, 0.05])),
        )  # fmt: skip
    elif name == "gratings":
        for _ in range(int(rng.integers(1, 4))):
            add_pattern(part, rng, where, value=colour, mark=103, size=(0.1, 0.5), kind="sinusoid")
    elif name == "patterns":
        for _ in range(int(rng.integers(1, 5))):
            add_pattern(part, rng, where, value=colour, mark=104)
    else:
        count = int(rng.integers(1, 5))
        low = float(rng.uniform(2.0, 6.0))
        leaves = random_leaves(
            count, value.shape, rng, radius=(low, low + 0.03 * min(value.shape)), exponent=2.0,
            kinds=(3, 1, 1, 0, 0), values=(4.0 * typical, 8.0 * typical),
        )  # fmt: skip
        inside = np.argwhere(where)
        leaves[:, 1:3] = inside[rng.integers(len(inside), size=count)]
        leaves[:, 17] = 0  # polished
        paint(value, label, leaves, np.zeros((1, 1), np.float32), first_label=105)
