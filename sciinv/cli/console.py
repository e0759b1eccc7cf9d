"""Plain output lines, and a progress bar where there is a terminal."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciinv.reconstruction.progress import Progress
from sciinv.report.plain import harmless, plain

if TYPE_CHECKING:
    from sciinv.solvers.base import StepInfo

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # SIGTERM: what batch systems send
_LINES = 10  # progress lines where there is no terminal


def say(text: str = "") -> None:
    """Write a line to standard output, control characters escaped."""
    sys.stdout.write(fold(harmless(text)) + "\n")
    sys.stdout.flush()


def fold(text: str) -> str:
    """Wrap a long line at words where there is a terminal; elsewhere lines stay whole."""
    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or len(text) <= width or "\n" in text:
        return text
    return textwrap.fill(
        text, width, subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False
    )


def phase_line(name: str, text: str, seconds: float | None = None) -> str:
    """Format ``  name      text      1.2 s``."""
    took = "" if seconds is None else f"{seconds:8.1f} s"
    line = text.replace("\n", "\\n")  # one line, whatever a file's header holds
    return f"  {name:<9} {line:<65}{took}".rstrip()


def clock(seconds: float) -> str:
    """Format seconds as ``m:ss``."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


class Console(Progress):
    """Draws what a run tells.

    :param quiet: write nothing.
    :param lines: one JSON object a line instead of text.
    :param preview_path: where to write the classical preview.
    """

    def __init__(
        self, *, quiet: bool = False, lines: bool = False, preview_path: Path | None = None
    ) -> None:
        self.quiet, self.lines, self.preview_path = quiet, lines, preview_path
        self.affine, self.units, self.oriented = np.eye(4), "", False
        self.interrupted = False
        #: the signal that asked for the end of the run
        self.signal: int | None = None
        self.sampled = False
        self._begin = time.perf_counter()
        self._sampling: float | None = None
        self._told = -1
        self._bar = sys.stdout.isatty() and not quiet and not lines
        self._residual = 1.0

    def emit(self, kind: str, **fields: Any) -> None:  # noqa: ANN401
        """Write one JSON line, if asked for."""
        if self.lines and not self.quiet:
            sys.stdout.write(json.dumps(plain({"event": kind, **fields}), allow_nan=False) + "\n")
            sys.stdout.flush()

    def phase(self, name: str, text: str, seconds: float | None = None) -> None:
        """Write a line."""
        self.emit("phase", phase=name, text=text, seconds=seconds)
        if not self.quiet and not self.lines:
            say(phase_line(name, text, seconds))

    def preview(self, image: NDArray[Any], name: str) -> None:
        """Write the preview picture."""
        if self.preview_path is None:
            return
        from sciinv.report.figures import preview

        png = preview(image, self.affine, units=self.units, title=name, oriented=self.oriented)
        self.preview_path.parent.mkdir(parents=True, exist_ok=True)
        self.preview_path.write_bytes(png)
        self.phase("preview", f"{name}: {self.preview_path}", time.perf_counter() - self._begin)

    def step(self, done: int, total: int, info: StepInfo) -> object:
        """Draw the bar; end the run after Ctrl-C."""
        from sciinv.solvers import STOP

        now = time.perf_counter()
        if self._sampling is None:
            # the first step is over; its share of the time is estimated from the rest
            self._sampling, self._first = now, done
        left = None
        if done > self._first:
            left = (now - self._sampling) / (done - self._first) * (total - done)
        self.emit("step", done=done, total=total, sigma=info.sigma, nfe=info.nfe, left=left)
        if not self.quiet and not self.lines:
            self._draw(done, total, info, left)
        return STOP if self.interrupted else None

    def _draw(self, done: int, total: int, info: StepInfo, left: float | None) -> None:
        remaining = "" if left is None else f"left {clock(left)}"
        if self._bar:
            filled = round(24 * done / total)
            bar = "#" * filled + "-" * (24 - filled)
            end = "\n" if done >= total else ""
            sys.stdout.write(f"\r  sample   [{bar}] {done / total:4.0%}  {remaining:<12}{end}")
            sys.stdout.flush()
            return
        tenth = _LINES * done // total
        if tenth > self._told:
            self._told = tenth
            say(phase_line("sample", f"{done / total:4.0%}  {remaining}"))

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended."""
        return 128 + (self.signal or signal.SIGINT)

    def __enter__(self) -> Console:
        """Take over Ctrl-C and SIGTERM: the first ends the sampling with what is finished."""
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, *args: object) -> None:
        """Give both back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        first, self.signal = self.signal is None, self.signal or number
        # also where the exception below is lost, as Python does with those in destructors
        self.interrupted = True
        if not first or self._sampling is None or self.sampled:
            # a scheduler may send SIGTERM several times: once is enough
            if first or number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        if not self.quiet and not self.lines:
            if self._bar:
                say()
            say("  note      stopping after this step; Ctrl-C again to stop at once")
