"""What a long run tells while it runs. Libraries never print: the command line draws this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from sciinv.solvers.base import StepInfo


class Progress:
    """Silent by default; a subclass draws bars or writes lines.

    ``interrupted`` may be set at any time, also by a signal handler: the run then ends after the
    step at hand, with what is finished.
    """

    interrupted: bool = False

    def phase(self, name: str, text: str, seconds: float | None = None) -> None:
        """Report that a phase found or finished something."""

    def preview(self, image: NDArray[Any], name: str) -> None:
        """Receive the classical reconstruction ``(slices, *shape)`` as soon as it is known."""

    def step(self, done: int, total: int, info: StepInfo) -> object:
        """Receive a step; return ``sciinv.solvers.STOP`` to end with what is finished."""
        return None
