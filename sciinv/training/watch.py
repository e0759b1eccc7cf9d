"""What is told about a run while it goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sciinv.training.config import TrainingConfig, as_table
from sciinv.training.curve import Curve


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

    def step(self, done: int) -> None:
        """After every step."""

    def progress(self, state: Progress) -> None:
        """Every ``log_every`` steps."""

    def curve(self, step: int, curve: Curve, grid: Tensor) -> None:
        """At every checkpoint: denoising of held-out images, and ``(3, N, C, H, W)`` examples.

        The examples are clean, noisy and denoised.
        """

    def skipped(self, where: str, reason: str) -> None:
        """A file could not be read and was left out."""

    def stopped(self, step: int, checkpoint: Path) -> None:
        """The run was asked to stop after ``step`` and wrote a checkpoint to go on from."""

    def end(self, path: Path, card: dict[str, Any]) -> None:
        """The prior has been written."""


class Watchers(Watcher):
    """Several of them, told in turn."""

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers

    def begin(self, config: TrainingConfig, parameters: int, first: int, batch: int) -> None:
        """Pass on."""
        for watcher in self.watchers:
            watcher.begin(config, parameters, first, batch)

    def step(self, done: int) -> None:
        """Pass on."""
        for watcher in self.watchers:
            watcher.step(done)

    def progress(self, state: Progress) -> None:
        """Pass on."""
        for watcher in self.watchers:
            watcher.progress(state)

    def curve(self, step: int, curve: Curve, grid: Tensor) -> None:
        """Pass on."""
        for watcher in self.watchers:
            watcher.curve(step, curve, grid)

    def skipped(self, where: str, reason: str) -> None:
        """Pass on."""
        for watcher in self.watchers:
            watcher.skipped(where, reason)

    def stopped(self, step: int, checkpoint: Path) -> None:
        """Pass on."""
        for watcher in self.watchers:
            watcher.stopped(step, checkpoint)

    def end(self, path: Path, card: dict[str, Any]) -> None:
        """Pass on."""
        for watcher in self.watchers:
            watcher.end(path, card)


@dataclass
class JsonLog(Watcher):
    """One JSON object a line in ``log.jsonl``, appended, so that a resumed run goes on in it.

    Steps that were lost with a killed run are there twice; the later line counts.
    """

    path: Path

    def _write(self, event: str, **fields: Any) -> None:  # noqa: ANN401
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **fields}) + "\n")

    def begin(self, config: TrainingConfig, parameters: int, first: int, batch: int) -> None:
        """Write the configuration."""
        self._write("begin", first=first, parameters=parameters, batch=batch,
                    config=as_table(config))  # fmt: skip

    def progress(self, state: Progress) -> None:
        """Write loss, speed and times."""
        self._write("progress", **asdict(state))

    def curve(self, step: int, curve: Curve, grid: Tensor) -> None:
        """Write the denoising curve."""
        self._write("curve", step=step, curve=curve)

    def skipped(self, where: str, reason: str) -> None:
        """Write which file was left out."""
        self._write("skipped", where=where, reason=reason)

    def stopped(self, step: int, checkpoint: Path) -> None:
        """Write where the run can go on."""
        self._write("stopped", step=step, checkpoint=checkpoint.name)

    def end(self, path: Path, card: dict[str, Any]) -> None:
        """Write that the prior is there."""
        self._write("end", path=path.name)
