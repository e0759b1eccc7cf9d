"""Turn values from anywhere into plain JSON and harmless text."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any) -> Any:  # noqa: ANN401
    """Return strings, numbers, lists and dicts only, fit for ``json.dumps(allow_nan=False)``.

    Non-finite numbers become the strings ``"nan"``, ``"inf"`` and ``"-inf"``, which ``float``
    reads back. Of a path only the last part is kept: folders name users and patients.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):  # file names that are no UTF-8 carry lone surrogates
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, complex):
        return {"real": plain(value.real), "imag": plain(value.imag)}
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [plain(item) for item in items]
    return str(value)


def harmless(text: object) -> str:
    """Replace control, bidirectional and other unprintable characters by their escapes.

    Line feeds and tabs stay. Names from files may carry terminal escape sequences or characters
    that reorder what the reader sees.
    """
    return "".join(
        char
        if char.isprintable() or char in "\n\t"
        else char.encode("unicode_escape", "backslashreplace").decode("ascii")
        for char in str(text)
    )


def show(value: Any) -> str:  # noqa: ANN401
    """Write a setting or a number for a reader."""
    value = plain(value)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(show, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} = {show(item)}" for key, item in value.items())
    return str(value)
