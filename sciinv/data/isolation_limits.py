"""How much memory and time reading a file may take."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sciinv.data.formats.arrays import locate
from sciinv.data.sidecar import ArrayRef, Sidecar
from sciinv.errors import DataError

__all__ = ["MEMORY", "SECONDS", "Limits", "limits_for", "machine_memory", "size_of"]

#: Environment variables that replace the limits: ``SCIINV_READ_MEMORY=8GB``, ``..._SECONDS=600``.
MEMORY, SECONDS = "SCIINV_READ_MEMORY", "SCIINV_READ_SECONDS"
# address space: readers hold a few copies of compressed integers as complex or double numbers
_MEMORY, _MEMORY_PER_BYTE = 2.5e9, 16
# a slow network file system, and readers written in Python
_TIME, _BYTES_PER_SECOND = 60.0, 5e6
_LEAST_MEMORY = 256e6
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30,
          "ti": 2**40}  # fmt: skip
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*(?:([kmgt]i?)?b)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """Of one reading process.

    :param memory: bytes of address space (and of all arrays that it hands back).
    :param seconds: from its start to its last byte.
    """

    memory: int
    seconds: float


def limits_for(size: int) -> Limits:
    """Return the limits for ``size`` bytes of files.

    Memory: 2.5 GB and 16 times the size, at most what the machine has. Time: 60 s and 1 s for each
    5 MB. The environment variables :data:`MEMORY` and :data:`SECONDS` replace them.

    :raises DataError: such a variable is not a size, or not a positive number.
    """
    memory = min(_MEMORY + _MEMORY_PER_BYTE * size, machine_memory() or math.inf)
    seconds = _TIME + size / _BYTES_PER_SECOND
    if text := os.environ.get(MEMORY):
        match = _NUMBER.fullmatch(text)
        memory = float(match[1]) * _UNITS[(match[2] or "").lower()] if match else 0.0
        if not _LEAST_MEMORY <= memory < 2**63:
            raise DataError(
                MEMORY, found=repr(text), expected="a size of at least 256 MB, for example 8GB"
            )
    if text := os.environ.get(SECONDS):
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < 1e7:
            raise DataError(
                SECONDS, found=repr(text), expected="seconds, above 0 and below 10 million"
            )
    return Limits(int(memory), seconds)


def machine_memory() -> int | None:
    """Return the bytes of memory of this machine, ``None`` if it does not tell."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return size if size > 0 else None


def size_of(path: Path, sidecar: Sidecar | None) -> int:
    """Return the bytes of all files that belong to a scan; those that are not there count 0."""
    total = 0
    for file in set(_files(path, sidecar)):
        with suppress(OSError):
            total += file.stat().st_size
    return total


def _files(path: Path, sidecar: Sidecar | None) -> Iterator[Path]:
    if path.is_dir():
        yield from path.iterdir()
    for one in (path, *_of_sidecar(path, sidecar)):
        yield one
        if one.suffix in (".cfl", ".hdr"):  # of which either may be named
            yield one.with_suffix(".cfl")


def _of_sidecar(path: Path, sidecar: Sidecar | None) -> Iterator[Path]:
    if sidecar is None:
        return
    refs: list[ArrayRef | None] = list(sidecar.arrays.values())
    refs.append(sidecar.angles.ref if sidecar.angles else None)
    refs.append(sidecar.trajectory.ref if sidecar.trajectory else None)
    for ref in refs:
        if ref is not None:
            with suppress(DataError):  # the reader says what is wrong with it
                yield locate(path, sidecar, ref, "data")
