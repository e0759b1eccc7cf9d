"""Finished parts of a run on disk, from which an interrupted run goes on.

A folder holds ``manifest.json`` (settings, versions, digests of scan and prior; the effort that was
chosen), ``slice-NNNN.h5`` for every finished slice and, while a slice is being sampled,
``slice-NNNN-batch-NNNN.h5`` for samples that are finished. Every file appears whole or not at all.
Plain HDF5 and JSON: nothing is ever unpickled.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sciinv.errors import DataError
from sciinv.reconstruction.effort import Effort
from sciinv.reconstruction.parts import Batch, Plan, Slice
from sciinv.report.plain import plain

FORMAT = "sciinv-parts/1"
_MANIFEST = "manifest.json"
_OURS = re.compile(r"(manifest\.json|slice-\d{4,}(-batch-\d{4,})?\.h5)(\.part)?")
_PART = re.compile(r"slice-(\d{4,})(-batch-\d{4,})?\.h5")
_MOST_TEXT = 64 * 2**20
_HINT = "go on with what began the run, or begin again (--no-resume, or another folder)"
# what is compared by a digest, and how to say that it differs
_DIGESTS = {
    "scan": "another scan (data, geometry, units or noise level)",
    "prior": "another prior",
}


@dataclass(frozen=True)
class Kept:
    """What a folder of parts holds.

    :param slices: finished slices.
    :param batches: finished batches of samples of the next one.
    :param of: slices of the run.
    """

    slices: int
    batches: int
    of: int

    def __str__(self) -> str:
        """Say it in words."""
        text = f"{self.slices} of {self.of} slice{'s' if self.of > 1 else ''}"
        if not self.batches:
            return text
        batches = f"{self.batches} batch{'es' if self.batches > 1 else ''} of samples"
        return f"{text} and {batches} of the next" if self.slices else f"{batches} of a slice"


class Checkpoint:
    """Writes and reads the parts of one run; without a folder it keeps nothing.

    :param folder: made when there is something to keep.
    :param settings: what the numbers of the run depend on: name -> plain JSON value.
    :raises DataError: the folder holds parts of a run with other settings, or is damaged.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._settings: dict[str, Any] = plain(settings)
        self.plan: Plan | None = None
        self.chosen: dict[str, Any] = {}
        if folder is None or not (folder / _MANIFEST).exists():
            return
        manifest = _read_manifest(folder)
        _compare(folder, manifest["settings"], self._settings)
        self.chosen = manifest["chosen"]
        self.plan = _plan(folder, manifest["plan"])

    def begin(self, plan: Plan, chosen: Mapping[str, Any]) -> None:
        """Keep what was decided on this machine, so that a resumed run does the same.

        :param chosen: plain JSON values besides the plan.
        """
        if self.folder is None:
            return
        about = {"format": FORMAT, "settings": self._settings, "chosen": plain(chosen),
                 "plan": asdict(plan)}  # fmt: skip
        text = json.dumps(about, indent=1, allow_nan=False)
        self._put(_MANIFEST, text.encode())

    def put_slice(self, index: int, part: Slice, state: Mapping[str, Any]) -> None:
        """Keep a slice, and what the run has to say until then; its batches are dropped."""
        if self.folder is None:
            return
        self._put(_slice_name(index), _pack(part, state))
        for path in self.folder.glob(f"slice-{index:04d}-batch-*.h5"):
            path.unlink()

    def get_slice(self, index: int) -> tuple[Slice, dict[str, Any]] | None:
        """Return a slice and the state that was kept with it, if there is one."""
        found = self._get(_slice_name(index), Slice)
        return None if found is None else (Slice(**found[0]), found[1])

    def put_batch(self, index: int, number: int, batch: Batch) -> None:
        """Keep some samples of a slice."""
        if self.folder is not None:
            self._put(_batch_name(index, number), _pack(batch, {}))

    def get_batch(self, index: int, number: int) -> Batch | None:
        """Return samples of a slice, if they were kept."""
        found = self._get(_batch_name(index, number), Batch)
        return None if found is None else Batch(**found[0])

    def _put(self, name: str, content: bytes | memoryview) -> None:
        assert self.folder is not None  # noqa: S101  by the callers
        path = self.folder / name
        part = path.with_name(f"{name}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())  # a power cut leaves no name without its data
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise DataError(
                path, found=error.strerror or error, expected="a file that can be written",
                hint="what was finished before is kept: make room, then go on with --resume",
            ) from error  # fmt: skip

    def _get(self, name: str, kind: type) -> tuple[dict[str, Any], dict[str, Any]] | None:
        from sciinv.data.guard import open_hdf5

        if self.folder is None or self.plan is None or not (self.folder / name).exists():
            return None
        path = self.folder / name
        with open_hdf5(path) as file:
            text = file.text("about", max_bytes=_MOST_TEXT)
            values: dict[str, Any] = {
                item.name: file.get(item.name, kinds="cfiub") for item in fields(kind)
            }
        try:
            about = json.loads(text)
            numbers, state = about["numbers"], about["state"]
            known = {item.name for item in fields(kind)}
            values |= {name: _unplain(value) for name, value in numbers.items() if name in known}
            if values["samples"] is None:
                raise ValueError("no samples")
            return values, dict(state)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(path, "about", found=error, expected="a finished part", hint=_HINT
                            ) from error  # fmt: skip


def kept_parts(folder: Path) -> Kept | None:
    """Say what a folder of parts holds; ``None`` if nothing is finished there.

    :raises DataError: the manifest is damaged.
    """
    if not (folder / _MANIFEST).is_file():
        return None
    found = [_PART.fullmatch(path.name) for path in folder.iterdir()]
    slices = {m[1] for m in found if m and m[2] is None}
    batches = sum(1 for m in found if m and m[2] is not None and m[1] not in slices)
    if not slices and not batches:
        return None
    return Kept(len(slices), batches, int(_read_manifest(folder)["plan"].get("slices", 0)))


def remove_parts(folder: Path) -> None:
    """Remove a folder of parts.

    :raises DataError: something else lies in it, which is never removed.
    """
    if not folder.is_dir() or folder.is_symlink():
        return
    names = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in names if not _OURS.fullmatch(name)]
    if foreign:
        raise DataError(folder, found=f"{foreign[0]}, which no run wrote",
                        expected="parts of a run", hint="remove the folder by hand")  # fmt: skip
    # the manifest last: parts without one are never taken for anything
    for name in sorted(names, key=lambda name: name.startswith(_MANIFEST)):
        (folder / name).unlink()
    folder.rmdir()


def _slice_name(index: int) -> str:
    return f"slice-{index:04d}.h5"


def _batch_name(index: int, number: int) -> str:
    return f"slice-{index:04d}-batch-{number:04d}.h5"


def _pack(part: Slice | Batch, state: Mapping[str, Any]) -> memoryview:
    """HDF5 of a part in memory, so that a full disc is met by one plain write."""
    import h5py

    buffer = io.BytesIO()
    numbers = {}
    with h5py.File(buffer, "w") as file:
        for item in fields(part):
            value = getattr(part, item.name)
            if isinstance(value, np.ndarray):
                file[item.name] = value
            elif item.name != "model":
                numbers[item.name] = plain(value)
        about = {"numbers": numbers, "state": plain(state)}
        file["about"] = json.dumps(about, allow_nan=False)
    return buffer.getbuffer()


def _unplain(value: Any) -> Any:  # noqa: ANN401
    """Undo :func:`sciinv.report.plain.plain` for numbers and tuples."""
    if value in ("nan", "inf", "-inf"):
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        if path.stat().st_size > _MOST_TEXT:
            raise ValueError("too much text")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']!r}")
        if not all(isinstance(manifest[key], dict) for key in ("settings", "chosen", "plan")):
            raise ValueError("no tables")
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(path, found=error, expected=f"what a run writes ({FORMAT})", hint=_HINT
                        ) from error  # fmt: skip
    return dict(manifest)


def _plan(folder: Path, stored: Mapping[str, Any]) -> Plan:
    try:
        return Plan(**{**stored, "effort": Effort(**stored["effort"])})
    except (KeyError, TypeError) as error:
        raise DataError(folder / _MANIFEST, "plan", found=error, expected="a complete plan",
                        hint=_HINT) from error  # fmt: skip


def _compare(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse settings that differ from those that the parts were made with."""
    for name in [*now, *(name for name in before if name not in now)]:
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        other = _DIGESTS.get(name)
        raise DataError(
            folder, name,
            found=f"{other or _say(old)} in the interrupted run",
            expected="this one" if other else f"{_say(new)} as now",
            hint=_HINT,
        )  # fmt: skip


def _say(value: object) -> str:
    return "none" if value is None else f"{value}"
