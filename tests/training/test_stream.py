"""The batch of a step is a function of the step alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv.errors import DataError
from sciinv.training.config import DataSection, TrainingConfig
from sciinv.training.source import Image, Unreadable, make_source
from sciinv.training.stream import Stream

Make = Callable[..., TrainingConfig]


def stream(config: TrainingConfig, first: int = 0) -> Stream:
    return Stream(make_source(config, 0), config.data, 5, (1, 2), first)


@pytest.mark.parametrize("fresh", [0.5, 1.0, 3.0])
def test_resumed_stream_equals_the_uninterrupted_one(make: Make, fresh: float) -> None:
    config = make(data__fresh=fresh)
    whole = list(islice(stream(config), 9))
    late = list(islice(stream(config, first=4), 5))
    assert len({float(batch.sum()) for batch in whole}) == 9  # they do differ
    for a, b in zip(whole[4:], late, strict=True):
        assert torch.equal(a, b)


def test_workers_change_nothing(make: Make) -> None:
    alone = list(islice(stream(make()), 4))
    helped = stream(make(data__workers=2))
    for batch in alone:
        assert torch.equal(batch, next(helped))
    helped.close()


class Numbers:
    """Image i has the value i everywhere; some numbers are missing."""

    skipped = ()

    def __init__(self, missing: frozenset[int] = frozenset()) -> None:
        self.missing = missing

    def image(self, index: int) -> Image | Unreadable:
        if index in self.missing:
            return Unreadable(f"file{index % 2}", "damaged")
        return np.full((1, 16, 16), index, dtype=np.float32)

    def describe(self) -> dict[str, object]:
        return {}


def data(**changes: object) -> DataSection:
    values = {"patch": 16, "scene": 16, "window": 4, "gain": (1.0, 1.0), "flips": False}
    return DataSection.model_validate({**values, **changes})


@pytest.mark.parametrize(("fresh", "step", "oldest"), [(1.0, 6, 6), (0.5, 7, 3), (2.5, 3, 7)])
def test_window_holds_the_images_it_says(fresh: float, step: int, oldest: int) -> None:
    batches = Stream(Numbers(), data(fresh=fresh), 64, (0,))
    batch = next(islice(batches, step, None))
    assert set(batch[:, 0, 0, 0].tolist()) == set(range(oldest, oldest + 4))


def test_unreadable_images_are_named_once_and_left_out() -> None:
    told: list[tuple[str, str]] = []
    source = Numbers(frozenset({1, 2, 3, 5, 7}))
    batches = Stream(source, data(on_error="skip"), 64, (0,), 0, lambda *what: told.append(what))
    values = {float(v) for batch in islice(batches, 5) for v in batch[:, 0, 0, 0]}
    assert values == {0.0, 4.0, 6.0}
    assert told == [("file1", "damaged"), ("file0", "damaged")]


def test_unreadable_image_stops_where_that_is_asked_for() -> None:
    with pytest.raises(DataError, match="^file1: damaged$"):
        next(Stream(Numbers(frozenset({1})), data(), 4, (0,)))


def test_nothing_but_unreadable_images_is_an_error() -> None:
    source = Numbers(frozenset(range(9)))
    with pytest.raises(DataError, match="no readable image among 4"):
        next(Stream(source, data(on_error="skip"), 4, (0,)))


def test_flips_are_the_eight_symmetries_and_gains_stay_in_range(tmp_path: Path) -> None:
    class One(Numbers):
        def image(self, index: int) -> Image | Unreadable:
            return np.arange(1.0, 257.0, dtype=np.float32).reshape(1, 16, 16)

    batch = next(Stream(One(), data(flips=True, gain=(0.5, 2.0)), 400, (3,)))
    gains = batch.amax(dim=(1, 2, 3)) / 256
    assert 0.5 <= float(gains.min()) < 0.55 and 1.9 < float(gains.max()) <= 2.0
    shapes = {tuple((patch / gain).round().flatten().tolist()) for patch, gain
              in zip(batch, gains, strict=True)}  # fmt: skip
    assert len(shapes) == 8
