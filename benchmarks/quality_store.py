"""Where results of the quality benchmark are kept: one line a row, one array file a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Store:
    """A folder with ``rows.jsonl`` and ``pictures/*.npz``.

    Rows are only ever appended, by one write each, so that several processes may share the folder;
    of rows of one case and method the last counts.
    """

    folder: Path

    def rows(self) -> dict[tuple[str, str], Row]:
        """Return the latest row of every case and method; rows of failures do not count."""
        path = self.folder / "rows.jsonl"
        found: dict[tuple[str, str], Row] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                row = _parsed(line)
                if row is not None and "error" not in row:
                    found[row["case"], row["method"]] = row
        return found

    def add(self, case: str, method: str, row: Row, picture: Arrays | None = None) -> None:
        """Keep a row, and the arrays of its picture."""
        if picture is not None:
            self.save(f"{case}__{method}", picture)
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"case": case, "method": method, **row}, default=float)
        with (self.folder / "rows.jsonl").open("a") as file:
            file.write(line + "\n")

    def save(self, name: str, arrays: Arrays) -> None:
        """Write arrays under a name; a reader never sees half of them."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.part")
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        temporary.replace(path)

    def load(self, name: str) -> Arrays | None:
        """Read arrays, or return ``None`` if there are none of that name."""
        path = self._path(name)
        if not path.exists():
            return None
        with np.load(path) as file:
            return {key: file[key] for key in file.files}

    def kept(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """Return arrays that are made only once."""
        arrays = self.load(name)
        if arrays is None:
            arrays = make()
            self.save(name, arrays)
        return arrays

    def _path(self, name: str) -> Path:
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
        return self.folder / "pictures" / f"{plain}.npz"


def _parsed(line: str) -> Row | None:
    """Return the row of a line; a line cut off by a killed process is none."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and {"case", "method"} <= row.keys() else None
