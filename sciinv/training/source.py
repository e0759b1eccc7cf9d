"""Images to train on. A source answers "image number i" always alike, whoever asks and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sciinv.data.phantoms.world import World
from sciinv.errors import DataError
from sciinv.training.config import TrainingConfig

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Unreadable:
    """What stands in the place of an image that cannot be read: where, and why."""

    where: str
    reason: str

    @classmethod
    def of(cls, path: Path, error: DataError) -> Unreadable:
        """Take the reason from an error about a file."""
        return cls(str(path), str(error).removeprefix(f"{path}: "))

    def error(self) -> DataError:
        """Return the error that stops a run."""
        return DataError(self.where, hint=self.reason)


class Source(Protocol):
    """Images by number.

    Every image is ``(channels, H, W)`` float32 with a robust maximum of about 1, at least as large
    as the patches, and depends on its number only: that is what makes a run resumable, and the
    same with any number of workers.
    """

    @property
    def skipped(self) -> Sequence[Unreadable]:
        """What was left out already when the source was made."""
        ...

    def image(self, index: int) -> Image | Unreadable:
        """Return image ``index``, or why there is none.

        Bad files do not raise: an error of a worker process reaches the user as pages of text.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What a model card says about these images, as plain JSON types."""
        ...


class Procedural:
    """Scenes of a procedural world.

    :param world: what is drawn.
    :param size: side of the scenes in pixels.
    :param channels: 1 or 2.
    :param seed: image i is drawn from the seed ``(*seed, i)``.
    """

    skipped: Sequence[Unreadable] = ()

    def __init__(self, world: World, size: int, channels: int, seed: tuple[int, ...]) -> None:
        self.world = world
        self.size = size
        self.channels = channels
        self.seed = seed

    def image(self, index: int) -> Image:
        """Draw scene ``index``."""
        rng = np.random.default_rng((*self.seed, index))
        drawn = self.world.draw((self.size, self.size), rng, complex_=self.channels == 2)
        parts = [drawn.real, drawn.imag] if self.channels == 2 else [drawn]
        return np.stack(parts).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """Name of the world and what was left out of it."""
        return {
            "source": "procedural scenes, no measured data (sciinv.data.phantoms)",
            "world": self.world.name,
            "without": list(self.world.without),
            "scene": self.size,
        }


def make_source(config: TrainingConfig, role: int, rank: int = 0) -> Source:
    """Build the source of a run.

    :param role: 0 for training, 1 for held-out images; other numbers give other images.
    :param rank: of the process: each draws its own images.
    :raises DataError: an unknown world, files that are missing.
    """
    data = config.data
    seed = (config.run.seed, role, rank)
    if data.source == "procedural":
        try:
            world = World(data.world, without=data.without)
        except ValueError as error:
            raise DataError("[data]", "world", found=data.world, hint=str(error)) from None
        if world.name == "ct" and config.prior.channels == 2:
            raise DataError("[data]", "world", found="'ct', which is real, for two channels",
                            expected="another world, or channels = 1 in [prior]")  # fmt: skip
        return Procedural(world, data.scene, config.prior.channels, seed)
    from sciinv.training.files import FileSource

    return FileSource(config, seed, held_out=role == 1)
