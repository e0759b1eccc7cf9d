"""What each procedural world is mixed of: kinds of scenes and chances of the ingredients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recipe:
    """Mixture of one world.

    :param scenes: weight of each kind of scene.
    :param chances: probability of each further ingredient in an image.
    :param more: second chance of an ingredient for one kind of scene, ``(kind, ingredient)``.
    :param blur: range of the standard deviation of the blur, final pixels.
    :param shading: range of the strength of the shading (log units).
    :param phase: standard deviations (radians) among which the smooth phase's bound is drawn.
    :param complex_: whether images are complex by default.
    """

    scenes: Mapping[str, float]
    chances: Mapping[str, float]
    more: Mapping[tuple[str, str], float] = field(default_factory=dict)
    blur: tuple[float, float] = (0.3, 1.5)
    shading: tuple[float, float] = (0.05, 0.4)
    phase: tuple[float, ...] = (0.5, 3.0, 3.0)
    complex_: bool = False


_MORE = {
    ("discs", "patterns"): 0.5,
    ("inserts", "patterns"): 0.15,
    ("teeth", "cracks"): 0.6,
    ("heads", "vessels"): 0.4,
    ("thoraxes", "vessels"): 0.5,
    ("limbs", "septa"): 0.4,
}
# soft_edges is always there; the chance only marks it as an ingredient
_COMMON = {"warp": 0.3, "texture": 0.4, "soft_edges": 1.0, "cortex": 0.9}

RECIPES: Mapping[str, Recipe] = {
    "generic": Recipe(
        scenes={
            "leaves": 0.28,
            "shells": 0.16,
            "inserts": 0.14,
            "fields": 0.07,
            "discs": 0.08,
            "heads": 0.13,
            "thoraxes": 0.05,
            "limbs": 0.04,
            "teeth": 0.05,
        },
        chances=_COMMON
        | {
            "vessels": 0.15,
            "septa": 0.12,
            "cracks": 0.08,
            "patterns": 0.1,
            "gratings": 0.08,
            "air": 0.5,
            "shading": 0.5,
            "ringing": 0.6,
            "phase": 1.0,
            "phase_steps": 0.35,
            "phase_folding": 0.4,
        },
        more=_MORE,
    ),
    "mri": Recipe(
        scenes={
            "heads": 0.38,
            "thoraxes": 0.08,
            "limbs": 0.08,
            "discs": 0.14,
            "leaves": 0.12,
            "shells": 0.12,
            "inserts": 0.06,
            "fields": 0.02,
        },
        chances=_COMMON
        | {
            "vessels": 0.15,
            "septa": 0.08,
            "patterns": 0.06,
            "gratings": 0.04,
            "air": 0.8,
            "shading": 0.7,
            "ringing": 0.6,
            "phase": 1.0,
            "phase_steps": 0.4,
            "phase_folding": 0.65,
        },
        more=_MORE,
        blur=(0.3, 1.2),
        shading=(0.05, 0.5),
        complex_=True,
    ),
    "ct": Recipe(
        scenes={
            "heads": 0.1,
            "thoraxes": 0.14,
            "limbs": 0.08,
            "teeth": 0.22,
            "discs": 0.2,
            "leaves": 0.1,
            "shells": 0.06,
            "inserts": 0.1,
        },
        chances=_COMMON
        | {
            "cortex": 0.5,
            "vessels": 0.06,
            "septa": 0.05,
            "cracks": 0.1,
            "patterns": 0.06,
            "gratings": 0.02,
            "metal": 0.05,
            "air": 0.8,
            "texture": 0.3,
            "cupping": 0.3,
        },
        more=_MORE,
        blur=(0.4, 1.2),
    ),
    "objects": Recipe(
        scenes={"facets": 0.4, "cells": 0.2, "grains": 0.25, "inserts": 0.15},
        chances={
            "cracks": 0.05,
            "patterns": 0.1,
            "warp": 0.3,
            "texture": 0.5,
            "shading": 0.3,
            "soft_edges": 1.0,
            "ringing": 0.3,
            "phase": 1.0,
            "phase_steps": 0.3,
        },
        phase=(0.5, 2.0, 4.0),
        complex_=True,
    ),
}
