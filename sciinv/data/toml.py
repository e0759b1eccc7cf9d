"""TOML that others wrote: bounded in size and in the time that parsing takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from sciinv.errors import DataError

__all__ = ["MAX_BYTES", "line_of", "read_toml"]

MAX_BYTES = 2**20
# 32 parts of one dotted key: the time that tomllib takes grows with the square of their number
_DOTTED = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")
# of a line that is looked at for a key
_LINE = 1000


def read_toml(path: Path, what: str) -> tuple[dict[str, Any], str]:
    """Return the table and the text of a TOML file.

    :param what: of the file, for the message.
    :raises DataError: missing, more than 1 MB, not UTF-8, no TOML, too deeply nested.
    """
    if not path.is_file():
        raise DataError(path, found="no such file", expected=f"{what} (TOML)")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(path, found=f"{size} bytes", expected=f"{what} of at most {MAX_BYTES}")
        text = path.read_text(encoding="utf-8")
        if _DOTTED.search(text):
            raise RecursionError
        return tomllib.loads(text), text
    except DataError:
        raise
    except OSError as error:
        raise DataError(path, found=error.strerror or error, expected=f"{what} (TOML)") from None
    except ValueError as error:  # also bytes that are not UTF-8, and absurdly long numbers
        raise DataError(path, found=str(error)[:200], expected="valid TOML") from None
    except RecursionError:
        raise DataError(path, found="nesting that is too deep", expected="valid TOML") from None


def line_of(text: str, field: str) -> int | None:
    """Return the number of the first line that gives a key, as TOML's tables do; ``None``: none.

    :param field: the key with its tables, joined by dots.
    """
    *tables, key = field.split(".")
    name = f"[\"']?{re.escape(key)}[\"']?"
    given = re.compile(rf"(?:\[.*\b{name}\s*\]|(?:.*[\s.,{{])?{name}\s*[=.])")
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()[:_LINE]
        if line.startswith("["):
            table = line.split("#")[0].strip("[] ")
        # not a key of the same name in another table
        here = table in ("", field) or ".".join(tables) == table or table in tables
        if here and given.match(line):
            return number
    return None
