"""A progress bar where there is a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from sciinv.training.config import TrainingConfig
from sciinv.training.curve import Curve, overall
from sciinv.training.watch import Progress as State
from sciinv.training.watch import Watcher

_SMOOTH = 0.9  # share of the old value in the speed that is shown


class Bar(Watcher):
    """Shows loss, speed, denoising PSNR and the clock time at which the run will be over.

    :param console: to write to, standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.stopped_at: int | None = None
        self._bar: Progress | None = None
        self._task: Any = None
        self._facts = {"loss": "", "psnr": ""}
        self._last: float | None = None
        self._per_step: float | None = None

    def begin(self, config: TrainingConfig, parameters: int, first: int, batch: int) -> None:
        """Say what is trained."""
        self.steps, self.batch = config.optimiser.steps, batch
        start = f", from step {first}" if first else ""
        self._say(
            f"{config.prior.name}: {parameters:,} parameters, {self.steps} steps of {batch} images"
            f"{start}"
        )
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.completed}/{task.total}"), BarColumn(bar_width=24),
                TextColumn("{task.fields[facts]}"), console=self.console,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=self.steps, completed=first, facts="")
            self._bar.start()

    def step(self, done: int) -> None:
        """Move the bar."""
        now = time.monotonic()
        if self._last is not None:
            took = now - self._last
            old = took if self._per_step is None else self._per_step
            self._per_step = _SMOOTH * old + (1 - _SMOOTH) * took
        self._last = now
        if self._bar is not None:
            self._bar.update(self._task, completed=done, facts=self._line(done))

    def _line(self, done: int) -> str:
        if self._per_step is None:
            return ""
        return "  ".join(
            text for text in (
                self._facts["loss"],
                f"{1 / self._per_step:.3g} it/s",
                f"{self.batch / self._per_step:.3g} images/s",
                finish((self.steps - done) * self._per_step),
                self._facts["psnr"],
            ) if text
        )  # fmt: skip

    def progress(self, state: State) -> None:
        """Remember the loss; without a terminal, write a line."""
        self._facts["loss"] = f"loss {state.loss:.4f}"
        if self._bar is None:
            rate = state.images_per_second / self.batch
            line = (
                f"step {state.step}/{state.steps}", self._facts["loss"], f"{rate:.3g} it/s",
                f"{state.images_per_second:.3g} images/s", finish(state.remaining),
                self._facts["psnr"],
            )  # fmt: skip
            self._say("  ".join(text for text in line if text))

    def curve(self, step: int, curve: Curve, grid: Tensor) -> None:
        """Remember how well held-out images are denoised; the time it took is no step."""
        self._facts["psnr"] = f"denoising {overall(curve):.2f} dB"
        self._last = None

    def skipped(self, where: str, reason: str) -> None:
        """Name the file."""
        self._say(f"left out: {where}: {reason}")

    def stopped(self, step: int, checkpoint: Path) -> None:
        """Say where the run stands."""
        self.close()
        self.stopped_at = step
        self._say(f"stopped after step {step}; {checkpoint} holds everything to go on")

    def end(self, path: Path, card: dict[str, Any]) -> None:
        """Show the denoising curve."""
        self.close()
        self._say("noise  PSNR (dB)  error / noise")
        for sigma, row in card["denoising"].items():
            self._say(f"{sigma:<6} {row['psnr']:<10.2f} {row['error_over_sigma']:.3f}")
        self._say(str(path))

    def close(self) -> None:
        """Take the bar away, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str) -> None:
        from sciinv.report.plain import harmless

        self.console.print(harmless(text), markup=False)


def finish(seconds: float, now: datetime | None = None) -> str:
    """Return how long something takes and when it will be over: ``1:02 h left, done at 17:45``."""
    now = now or datetime.now()
    minutes = round(seconds / 60)
    left = f"{minutes // 60}:{minutes % 60:02d} h" if minutes >= 60 else f"{minutes} min"
    left = f"{seconds:.0f} s" if seconds < 90 else left
    end = now + timedelta(seconds=seconds)
    days = (end.date() - now.date()).days
    day = "" if days == 0 else f"{end:%a} " if days < 7 else f"{end:%Y-%m-%d} "
    return f"{left} left, done at {day}{end:%H:%M}"
