"""What is told about a run while it goes on."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sciinv.training.config import TrainingConfig

Curve = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Progress:
    """State after some step.

    :param step: steps done, of ``steps``.
    :param loss: mean since the last report.
    :param gradient: norm of the gradient before clipping, of the last step.
    :param rate: learning rate of the last step.
    :param seconds: spent since the run began, interruptions excluded.
    :param images_per_second: all devices together, since the last report.
    :param remaining: expected seconds to the end.
    """

    step: int
    steps: int
    loss: float
    gradient: float
    rate: float
    seconds: float
    images_per_second: float
    remaining: float


class Watcher:
    """Is told what happens; this one keeps silent. Called on the first process only."""

    def begin(self, config: TrainingConfig, parameters: int, first: int, batch: int) -> None:
        """Before step ``first``; ``batch`` images go into every step, all devices together."""

    def progress(self, state: Progress) -> None:
        """Every ``log_every`` steps."""

    def curve(self, step: int, curve: Curve, grid: Tensor) -> None:
        """At every checkpoint: denoising of held-out images, and ``(3, N, C, H, W)`` examples."""

    def skipped(self, where: str, reason: str) -> None:
        """A file could not be read and was left out."""

    def end(self, path: Path, card: dict[str, Any]) -> None:
        """The prior has been written."""


class Watchers(Watcher):
    """Several of them."""

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers

    def begin(self, config: TrainingConfig, parameters: int, first: int, batch: int) -> None:
        for watcher in self.watchers:
            watcher.begin(config, parameters, first, batch)

    def progress(self, state: Progress) -> None:
        for watcher in self.watchers:
            watcher.progress(state)

    def curve(self, step: int, curve: Curve, grid: Tensor) -> None:
        for watcher in self.watchers:
            watcher.curve(step, curve, grid)

    def skipped(self, where: str, reason: str) -> None:
        for watcher in self.watchers:
            watcher.skipped(where, reason)

    def end(self, path: Path, card: dict[str, Any]) -> None:
        for watcher in self.watchers:
            watcher.end(path, card)


@dataclass
class JsonLog(Watcher):
    """One JSON object a line in ``log.jsonl``, appended, so that a resumed run goes on in it."""

    path: Path
    began: float = field(default_factory=time.time)

    def _write(self, event: str, **fields: Any) -> None:  # noqa: ANN401
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **fields}) + "\n")

    def begin(self, config: TrainingConfig, parameters: int, first: int, batch: int) -> None:
        self._write("begin", first=first, parameters=parameters, batch=batch,
                    config=config.model_dump(mode="json"))  # fmt: skip

    def progress(self, state: Progress) -> None:
        self._write("progress", **asdict(state))

    def curve(self, step: int, curve: Curve, grid: Tensor) -> None:
        self._write("curve", step=step, curve=curve)

    def skipped(self, where: str, reason: str) -> None:
        self._write("skipped", where=where, reason=reason)

    def end(self, path: Path, card: dict[str, Any]) -> None:
        self._write("end", path=path.name)
