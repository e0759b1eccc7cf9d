"""Procedural images: phantoms with known truth and random scenes to train generic priors on.

Everything here is NumPy and numba, deterministic given a ``numpy.random.Generator``, and free of
measured data. :class:`World` mixes scenes into the worlds that priors are trained on.
"""

from __future__ import annotations

from sciinv.data.phantoms.analytic import ellipses, ellipsoids, shepp_logan
from sciinv.data.phantoms.crystal import crystal
from sciinv.data.phantoms.fields import power_law_field, ring_field, smooth_field
from sciinv.data.phantoms.leaves import dead_leaves
from sciinv.data.phantoms.scenes import patches, scene
from sciinv.data.phantoms.world import INGREDIENTS, WORLDS, World

__all__ = [
    "INGREDIENTS",
    "WORLDS",
    "World",
    "crystal",
    "dead_leaves",
    "ellipses",
    "ellipsoids",
    "patches",
    "power_law_field",
    "ring_field",
    "scene",
    "shepp_logan",
    "smooth_field",
]
