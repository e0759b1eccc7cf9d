"""A small grey picture in the terminal: half blocks in 24-bit or 256 colours, or ASCII shades."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sciinv.report.geometry import View

_SHADES = " .:-=+*#%@"  # dark to bright, as on a dark terminal
_HALF = "\N{UPPER HALF BLOCK}"
_MOST = (72, 30)  # columns and lines of a picture, whatever the terminal holds
_KEPT = 4  # lines of the terminal for what stands around it
_CELL = 2.0  # height over width of a character


class Mode(StrEnum):
    """How grey values are drawn."""

    TRUE = "24-bit"
    INDEXED = "256 colours"
    ASCII = "ASCII"


def mode_of(environment: Mapping[str, str], encoding: str | None, *, terminal: bool) -> Mode:
    """Say what a terminal can show.

    ``NO_COLOR``, a dumb terminal, an encoding without half blocks and, unless ``FORCE_COLOR`` is
    set, output that goes elsewhere get ASCII.
    """
    term = environment.get("TERM", "")
    plain = bool(environment.get("NO_COLOR")) or term in ("", "dumb")
    forced = bool(environment.get("FORCE_COLOR"))
    if plain or not (terminal or forced) or not _can_encode(encoding):
        return Mode.ASCII
    if environment.get("COLORTERM", "") in ("truecolor", "24bit") or term.endswith("-direct"):
        return Mode.TRUE
    return Mode.INDEXED if "256color" in term else Mode.ASCII


def _can_encode(encoding: str | None) -> bool:
    try:
        _HALF.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def here() -> tuple[Mode, tuple[int, int]]:
    """Return the mode of standard output, and the columns and lines that a picture may take."""
    mode = mode_of(os.environ, sys.stdout.encoding, terminal=sys.stdout.isatty())
    size = shutil.get_terminal_size()
    return mode, (min(size.columns - 1, _MOST[0]), min(size.lines - _KEPT, _MOST[1]))


def draw(
    image: NDArray[np.floating],
    view: View,
    window: tuple[float, float],
    mode: Mode,
    room: tuple[int, int],
) -> list[str]:
    """Lines of a picture with the letters of its directions around it.

    :param image: 2D, rows downwards, as ``view`` cuts it.
    :param window: values shown black and white.
    :param room: columns and lines that all of it may take.
    """
    letters = view.letters or ("", "", "", "")
    margin = 2 if view.letters else 0
    columns, lines = max(room[0] - 2 * margin, 8), max(room[1] - margin, 4)
    tall, wide = image.shape[0] * view.spacing[0], image.shape[1] * view.spacing[1]
    # characters are about twice as high as wide; a half block is a square pixel
    scale = min(columns / wide, _CELL * lines / tall)
    width = max(int(round(wide * scale)), 2)
    height = max(int(round(tall * scale / _CELL)), 1)
    grey = _shrink(image, window, width, height * (1 if mode is Mode.ASCII else 2))
    rows = _ascii(grey) if mode is Mode.ASCII else _blocks(grey, mode)
    if not view.letters:
        return rows
    left, right, top, bottom = letters
    middle = len(rows) // 2
    sides = [(left, right) if n == middle else (" ", " ") for n in range(len(rows))]
    body = [f"{a} {row} {b}".rstrip() for (a, b), row in zip(sides, rows, strict=True)]
    pad = " " * (margin + (width - 1) // 2)
    return [pad + top, *body, pad + bottom]


def _shrink(
    image: NDArray[np.floating], window: tuple[float, float], width: int, height: int
) -> NDArray[np.float64]:
    """Grey values in [0, 1] of a size, averaged over the pixels that fall together."""
    from PIL import Image

    low, high = window
    finite = np.nan_to_num(np.asarray(image, np.float32), nan=low, posinf=high, neginf=low)
    grey = np.clip((finite - low) / max(high - low, 1e-30), 0, 1)
    small = Image.fromarray(np.ascontiguousarray(grey, np.float32)).resize(
        (width, height), Image.Resampling.BOX
    )
    return np.asarray(small, np.float64)


def _ascii(grey: NDArray[np.float64]) -> list[str]:
    levels = np.minimum((grey * len(_SHADES)).astype(int), len(_SHADES) - 1)
    return ["".join(_SHADES[level] for level in row) for row in levels]


def _blocks(grey: NDArray[np.float64], mode: Mode) -> list[str]:
    """Two pixels a character: the upper one is its ink, the lower one its paper."""
    if mode is Mode.TRUE:
        levels = np.rint(grey * 255).astype(int)
        colour = "{0};2;{1};{1};{1}"
    else:
        # 24 greys from 232, with black and white of the colour cube around them
        steps = np.rint(grey * 25).astype(int)
        levels = np.select([steps == 0, steps == 25], [16, 231], 231 + steps)
        colour = "{0};5;{1}"
    lines = []
    for upper, lower in zip(levels[::2], levels[1::2], strict=True):
        text, before = "", None
        for pair in zip(upper.tolist(), lower.tolist(), strict=True):
            if pair != before:
                text += f"\x1b[{colour.format(38, pair[0])};{colour.format(48, pair[1])}m"
            text, before = text + _HALF, pair
        lines.append(text + "\x1b[0m")
    return lines
