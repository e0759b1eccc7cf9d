"""Bare arrays with a side-car, as tests of their formats write and refuse them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sciinv import load
from sciinv.errors import DataError


def write(folder: Path, data, side: str, **files) -> Path:
    """Write ``scan.npy``, its side-car and the arrays that the side-car names."""
    np.save(folder / "scan.npy", data)
    for name, value in files.items():
        np.save(folder / f"{name}.npy", value)
    (folder / "scan.toml").write_text(side)
    return folder / "scan.npy"


def refused(path: Path, *words: str) -> None:
    """Loading it gives one line with all these words."""
    with pytest.raises(DataError) as caught:
        load(path)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def noted(scan, *words: str) -> bool:
    """One of the scan's notes has all these words."""
    return any(all(word in note for word in words) for note in scan.notes)
