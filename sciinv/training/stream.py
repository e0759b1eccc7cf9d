"""Batches of patches from a moving window of images, each a function of its step alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sciinv.errors import DataError
from sciinv.training.config import DataSection
from sciinv.training.source import Image, Source, Unreadable
from sciinv.training.stop import ignore_signals

_PREFETCH = 4
_TRIES = 4
_EMPTY = 0.03  # mean magnitude below which a patch is mostly air


class _Numbered(Dataset[Image | Unreadable]):
    """Images of a source from some number on; ends only at the end of the integers."""

    def __init__(self, source: Source, first: int) -> None:
        self.source = source
        self.first = first

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Image | Unreadable:
        return self.source.image(self.first + index)


class _InOrder(torch.utils.data.Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        index = 0
        while True:
            yield index
            index += 1


def numbered(source: Source, first: int, workers: int) -> Generator[Image | Unreadable, None, None]:
    """Yield images ``first``, ``first + 1``, ... in order, made by ``workers`` processes."""
    if workers == 0:
        index = first
        while True:
            yield source.image(index)
            index += 1
    loader = DataLoader(
        _Numbered(source, first),
        batch_size=None,
        sampler=_InOrder(),
        num_workers=workers,
        prefetch_factor=_PREFETCH,
        multiprocessing_context="spawn",
        collate_fn=_as_it_is,
        worker_init_fn=ignore_signals,
    )
    images = iter(loader)
    try:
        yield from images
    finally:
        del images  # ends the worker processes


def _as_it_is(image: Any) -> Any:  # noqa: ANN401
    return image


class Stream:
    """Batches ``(B, C, patch, patch)``; the batch of step n does not depend on where one began.

    The window of step n holds ``window`` images from ``floor(n * fresh)`` on (those that cannot be
    read are missing), and crops, flips and gains come from the seed ``(*seed, n)``. So a
    resumed run sees what an uninterrupted one would have seen.

    :param source: images.
    :param data: window, patch size, augmentation, workers.
    :param batch: patches per step.
    :param seed: of the crops.
    :param first: step to begin with.
    :param skipped: told where an image could not be read and why, once for every place.
    :raises DataError: at an image that cannot be read, with ``on_error = "stop"``; where no image
        of the window can be read, in any case.
    """

    def __init__(
        self,
        source: Source,
        data: DataSection,
        batch: int,
        seed: tuple[int, ...],
        first: int = 0,
        skipped: Callable[[str, str], None] = lambda where, reason: None,
    ) -> None:
        self.data = data
        self.batch = batch
        self.seed = seed
        self.step = first
        self._images = numbered(source, self._oldest(first), data.workers)
        self._window: deque[Image | Unreadable] = deque(maxlen=data.window)
        self._skipped = skipped
        self._told: set[str] = set()

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        known = (
            self._oldest(self.step - 1)
            if self._window
            else self._oldest(self.step) - self.data.window
        )
        for _ in range(self._oldest(self.step) - known):
            self._window.append(self._checked(next(self._images)))
        usable = [image for image in self._window if not isinstance(image, Unreadable)]
        if not usable:
            raise DataError("data.files", found=f"no readable image among {len(self._window)}",
                            expected="image files")  # fmt: skip
        rng = np.random.default_rng((*self.seed, self.step))
        chosen = rng.integers(len(usable), size=self.batch)
        patches = [self._patch(usable[int(i)], rng) for i in chosen]
        self.step += 1
        return torch.from_numpy(np.stack(patches))

    def _oldest(self, step: int) -> int:
        """Number of the oldest image in the window of a step."""
        return math.floor(step * self.data.fresh)

    def close(self) -> None:
        """End the worker processes."""
        self._images.close()

    def _checked(self, image: Image | Unreadable) -> Image | Unreadable:
        if isinstance(image, Unreadable):
            if self.data.on_error == "stop":
                raise image.error()
            if image.where not in self._told:
                self._told.add(image.where)
                self._skipped(image.where, image.reason)
        return image

    def _patch(self, image: Image, rng: np.random.Generator) -> Image:
        size = self.data.patch
        for _ in range(_TRIES):
            top = int(rng.integers(image.shape[1] - size + 1))
            left = int(rng.integers(image.shape[2] - size + 1))
            patch = image[:, top : top + size, left : left + size]
            if float(np.abs(patch).mean()) > _EMPTY:
                break
        if self.data.flips:
            flips = int(rng.integers(8))
            patch = patch[:, ::-1] if flips & 1 else patch
            patch = patch[:, :, ::-1] if flips & 2 else patch
            patch = patch.transpose(0, 2, 1) if flips & 4 else patch
        return np.ascontiguousarray(patch * np.float32(rng.uniform(*self.data.gain)))
