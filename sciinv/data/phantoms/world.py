"""The procedural worlds: random images to train priors on, free of measured data.

A world is a mixture of scenes and of what may happen to them. Each ingredient draws from its own
random stream, so that leaving one out changes what that ingredient did and nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.phantoms import finish
from sciinv.data.phantoms.frame import MARGIN, Part
from sciinv.data.phantoms.makers import MAKERS, make, overlay
from sciinv.data.phantoms.recipes import RECIPES, Recipe
from sciinv.data.phantoms.reduce import blur_and_reduce
from sciinv.data.phantoms.scenes import add_air
from sciinv.data.scale import ct_scale

__all__ = ["INGREDIENTS", "WORLDS", "World"]

WORLDS = tuple(RECIPES)
_OVERLAYS = ("cortex", "vessels", "septa", "cracks", "patterns", "gratings", "metal", "air")
_FINISH = ("warp", "texture", "shading", "cupping", "soft_edges", "ringing")
_PHASE = ("phase", "phase_steps", "phase_folding")
INGREDIENTS = (*MAKERS, *_OVERLAYS, *_FINISH, *_PHASE)
# names for several ingredients at once
_GROUPS = {"anatomy": ("heads", "thoraxes", "limbs", "teeth")}


@dataclass(frozen=True)
class Streams:
    """Independent random generators by name, all from one seed."""

    seed: int

    def __call__(self, name: str) -> np.random.Generator:
        """Return the generator of that name, from its start."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])


@dataclass(frozen=True)
class World:
    """A world of random images.

    :param name: one of ``WORLDS``: ``"generic"`` (real or complex), ``"mri"`` (complex), ``"ct"``
        (real), ``"objects"`` (complex, compact, for diffraction).
    :param without: ingredients of this world to leave out, see :attr:`ingredients`; ``"anatomy"``
        stands for heads, thoraxes, limbs and teeth.
    :raises ValueError: for an unknown world or ingredient, for an ingredient that this world does
        not have, and when no kind of scene is left.
    """

    name: str
    without: Sequence[str] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise ValueError(f"world: found {self.name!r}, expected one of {', '.join(WORLDS)}")
        without = (self.without,) if isinstance(self.without, str) else tuple(self.without)
        known = self.ingredients
        for group, members in _GROUPS.items():
            inside = tuple(member for member in members if member in known)
            if group in without and inside:
                without = (*(name for name in without if name != group), *inside)
        object.__setattr__(self, "without", without)
        for ingredient in without:
            if ingredient not in known:
                raise ValueError(
                    f"without: found {ingredient!r}, expected ingredients of the world "
                    f"{self.name!r}: {', '.join(known)}"
                )
        if not set(self._recipe.scenes) - set(self.without):
            raise ValueError(f"without: no kind of scene of the world {self.name!r} is left")

    @property
    def _recipe(self) -> Recipe:
        return RECIPES[self.name]

    @property
    def ingredients(self) -> tuple[str, ...]:
        """What this world is made of and can be left out."""
        recipe = self._recipe
        return tuple(
            name for name in INGREDIENTS if name in recipe.scenes or name in recipe.chances
        )

    def draw(
        self, shape: Sequence[int], rng: np.random.Generator, *, complex_: bool | None = None
    ) -> NDArray[Any]:
        """Draw one image, made at twice the resolution and then reduced.

        Takes one number from ``rng``. The 99.5th percentile of the magnitude is between 0.4 and
        1.1; in the world ``ct`` it is :func:`sciinv.data.scale.ct_scale` of the image that is in
        this range, so that thin bone and metal may reach several times 1.

        :param shape: ``(H, W)``, at least 16 x 16.
        :param complex_: complex64, or float32 without negative values; by default complex in the
            worlds ``mri`` and ``objects``.
        :raises ValueError: for another shape, and for a complex image of the world ``ct``.
        """
        if len(shape) != 2 or min(shape) < 16:
            raise ValueError(f"shape: found {tuple(shape)}, expected (H, W) of at least 16 x 16")
        recipe = self._recipe
        complex_ = recipe.complex_ if complex_ is None else complex_
        if complex_ and self.name == "ct":
            raise ValueError("complex_: the world 'ct' is real")
        size = (int(shape[0]), int(shape[1]))
        seed = int(rng.integers(2**62))
        for attempt in range(8):
            image = self._image(size, Streams(seed + attempt), complex_)
            level = _level(image, ct=self.name == "ct")
            if level > 0.02:  # else next to nothing lies in the image
                break
        target = Streams(seed)("level").uniform(0.4, 1.1)
        factor = target / level if level > 1e-6 else 0.0
        return np.ascontiguousarray(image * np.float32(factor))

    def _has(self, ingredient: str, streams: Streams) -> bool:
        """Whether this image has the ingredient; the chance is in the recipe."""
        chance = self._recipe.chances.get(ingredient, 0.0)
        return ingredient not in self.without and bool(streams(f"{ingredient}?").uniform() < chance)

    def _image(self, shape: tuple[int, int], streams: Streams, complex_: bool) -> NDArray[Any]:
        fine = (2 * (shape[0] + 2 * MARGIN), 2 * (shape[1] + 2 * MARGIN))
        value, label = self._scene(fine, streams)
        if self._has("texture", streams):
            value = finish.texture(value, streams("texture"))
        if self._has("shading", streams):
            value = finish.shading(value, streams("shading"), self._recipe.shading)
        if self._has("cupping", streams):
            value = finish.cupping(value, streams("cupping"))
        low, high = self._recipe.blur
        soft = "soft_edges" not in self.without
        # real scans are sharp more often than not
        blur = 2 * (low + soft * (high - low) * streams("soft_edges").uniform() ** 1.5)
        if not complex_:
            real = blur_and_reduce(value, blur, crop_spectrum=False)[MARGIN:-MARGIN, MARGIN:-MARGIN]
            # rounding of the Fourier transforms is not signal: air is exactly zero
            return np.where(real > 1e-5 * max(float(real.max()), 1e-6), real, np.float32(0))
        phase = self._phase(fine, label, streams)
        turned = np.empty(fine, dtype=np.complex64)
        turned.real, turned.imag = value * np.cos(phase), value * np.sin(phase)
        ringing = self._has("ringing", streams)
        image = blur_and_reduce(turned, blur, crop_spectrum=ringing)
        if self._has("phase_folding", streams):
            image = finish.fold_phase(image, streams("phase_folding"))
        return image[MARGIN:-MARGIN, MARGIN:-MARGIN]

    def _scene(self, fine: tuple[int, int], streams: Streams) -> Part:
        # the kind with the smallest exponential waiting time: without one kind, the images of
        # all the others stay what they were
        waits = streams("kind").exponential(size=len(MAKERS))
        kinds = [
            (waits[list(MAKERS).index(kind)] / weight, kind)
            for kind, weight in self._recipe.scenes.items()
            if kind not in self.without
        ]
        kind = min(kinds)[1]
        folded = self._has("cortex", streams)
        part = make(kind, self.name, fine, streams(kind), folded=folded)
        # patterns are what discs and bottles are made for
        for name in ("septa", "vessels", "cracks", "gratings", "patterns", "metal"):
            more = self._recipe.more.get((kind, name))
            chance = streams(f"{kind} {name}").uniform()
            if self._has(name, streams) or (
                more is not None and name not in self.without and chance < more
            ):
                overlay(name, part, streams(name))
        if kind in ("leaves", "fields") and self._has("air", streams):
            add_air(*part, streams("air"))
        if self._has("warp", streams):
            part = finish.warp(part, streams("warp"))
        return part

    def _phase(self, fine: tuple[int, int], label: Any, streams: Streams) -> NDArray[np.float32]:  # noqa: ANN401
        phase = np.zeros(fine, dtype=np.float32)
        if self._has("phase", streams):
            rng = streams("phase")
            strength = float(rng.choice(self._recipe.phase))
            phase += np.float32(rng.uniform(0, 2 * np.pi) if strength > 1 else 0.0)
            phase += finish.smooth_phase(fine, rng, strength)
        if self._has("phase_steps", streams):
            rng = streams("phase_steps")
            phase += finish.phase_steps(label, rng)
            if self.name == "objects" and rng.uniform() < 0.2:
                phase += finish.vortex(fine, rng)
        return phase


def _level(image: NDArray[Any], *, ct: bool) -> float:
    if ct:
        return ct_scale(image) if float(image.max()) > 1e-6 else 0.0
    return float(np.quantile(np.abs(image), 0.995))
