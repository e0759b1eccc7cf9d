"""Errors that name where, what was found, what was expected and what to do."""

from __future__ import annotations

import re

_LONGEST = 600


class SciinvError(Exception):
    """Base of every error that sciinv raises on purpose; its text is fit for a user."""


class DataError(SciinvError, ValueError):
    """A file, data set or array is missing, damaged or not what the field requires.

    ``where``, ``field``, ``found``, ``expected`` and ``hint`` are kept as text, or ``None``.
    """

    def __init__(
        self,
        where: object,
        field: str | None = None,
        *,
        found: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        """Build the one-line message ``where: field: found ..., expected ...; hint``."""
        self.where = str(where)
        self.field, self.found, self.expected, self.hint = (
            None if part is None else str(part) for part in (field, found, expected, hint)
        )
        parts = [self.where]
        if field:
            parts.append(_shown(field))
        tail = []
        if found is not None:
            tail.append(f"found {_shown(found)}")
        if expected is not None:
            tail.append(f"expected {_shown(expected)}")
        message = ": ".join([*parts, ", ".join(tail)] if tail else parts)
        separator = "; " if tail else ": "
        super().__init__(f"{message}{separator}{hint}" if hint else message)


def _shown(value: object) -> str:
    """Text of a value on one line: names and texts of a file may be anything, of any length."""
    text = str(value)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 100]} ... {text[-90:]}"
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape", "backslashreplace").decode("ascii")
        for char in text
    )


class GeometryError(SciinvError, ValueError):
    """A geometry parameter contradicts the data or the other parameters."""


class IncompatibleError(SciinvError, ValueError):
    """A solver, a prior and an operator do not fit together; the text names what does."""


class NumericalError(SciinvError, ArithmeticError):
    """A computation left the finite numbers; the text names solver, step and quantity."""


def reason_of(error: BaseException) -> str:
    """Return why a file could not be written or read, in the system's few words.

    libhdf5 wraps them into a page of details, in an error without ``strerror``.
    """
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    inner = re.search("error message = '([^']+)'", text)
    return inner[1] if inner else text
