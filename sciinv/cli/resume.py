"""What an interrupted run leaves beside its output folder, and how the next one takes it up."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

from sciinv.errors import DataError

if TYPE_CHECKING:
    from sciinv.reconstruction.checkpoint import Kept


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, with what to tell the user.

    :param code: exit code: 128 and the number of the signal.
    """

    def __init__(self, text: str, code: int = 128 + signal.SIGINT) -> None:
        super().__init__(text)
        self.code = code


def parts_folder(folder: Path) -> Path:
    """Where finished parts of a run into ``folder`` lie: ``.NAME.parts`` beside it."""
    folder = folder.expanduser().absolute()
    if folder.is_symlink():
        folder = folder.resolve()
    return folder.with_name(f".{folder.name}.parts")


def take_up(folder: Path, resume: bool | None, command: str) -> Kept | None:
    """Look for parts of an interrupted run; remove them if the user said so.

    Hours of work are never thrown away unasked: without a word of the user there is an error.

    :param resume: go on from the parts, remove them, or ``None``: the user did not say.
    :param command: what to type to go on, for the error.
    :returns: what is there to go on from.
    """
    from sciinv.reconstruction.checkpoint import kept_parts, remove_parts

    parts = parts_folder(folder)
    kept = kept_parts(parts)
    if kept is None or resume is False:
        remove_parts(parts)
        return None
    if resume is None:
        raise DataError(
            folder,
            found=f"an interrupted run, {kept} finished",
            expected="none",
            hint=f"go on with: {command}; or begin again with --no-resume in place of --resume",
        )
    return kept


def leave(folder: Path) -> Kept | None:
    """Remove parts of which none is finished; return what stays."""
    from sciinv.reconstruction.checkpoint import kept_parts, remove_parts

    parts = parts_folder(folder)
    kept = kept_parts(parts)
    if kept is None:
        remove_parts(parts)
    return kept
