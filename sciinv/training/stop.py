"""Ctrl-C and SIGTERM ask a run to stop at the next step; the second Ctrl-C ends it at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A flag that the signals set while this is entered; call it to ask.

    Outside the main thread, where Python handles no signals, it is never set.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._old: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Tell whether the run should stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended."""
        return 0 if self.signal is None else 128 + self.signal

    def __enter__(self) -> Stop:
        """Take over both signals."""
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._set) for number in _SIGNALS}
        return self

    def __exit__(self, *args: object) -> None:
        """Give them back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _set(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


def ignore_signals(worker: int) -> None:
    """Let a worker process outlive the signals: the run still needs its images for one step.

    Both signals reach all processes of a terminal or of a SLURM job at once.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
