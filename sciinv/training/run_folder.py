"""What lies in the folder of a run, and when it may be written over."""

from __future__ import annotations

import shutil
from pathlib import Path

from sciinv.errors import DataError
from sciinv.training.device import is_first_process

CHECKPOINT, PRIOR, LOG, TENSORBOARD = (
    "checkpoint.safetensors", "prior.safetensors", "log.jsonl", "tensorboard",
)  # fmt: skip
_OTHERS = ("card.md", "card.png")


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to write over an older run, or remove it.

    :param resume: the older run goes on.
    :param overwrite: the older run is removed (its files only).
    :raises DataError: both are asked for, the folder is a file, or it holds an older run and none
        is asked for.
    """
    if resume and overwrite:
        raise DataError("--resume", found="--overwrite too", expected="one of the two")
    if folder.exists() and not folder.is_dir():
        raise DataError(folder, found="a file", expected="a folder to write into")
    older = [name for name in (PRIOR, CHECKPOINT) if (folder / name).exists()]
    if not older or resume:
        return
    if not overwrite:
        what = "a finished prior" if PRIOR in older else "the checkpoint of an unfinished run"
        raise DataError(
            folder, found=f"{what} ({older[0]})", expected="an empty or new folder",
            hint="--resume goes on with it, --overwrite begins again, -o takes another folder",
        )  # fmt: skip
    if is_first_process():
        for name in (PRIOR, CHECKPOINT, LOG, *_OTHERS):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
