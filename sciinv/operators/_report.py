"""What the checks of operators share: errors by check, refusals and words."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sciinv.errors import GeometryError, SciinvError
from sciinv.operators.base import Operator


class CheckError(SciinvError):
    """An operator or a solver broke its contract; the text lists every failed check."""


class Report:
    """Errors by check, and the sentences for those that are too large."""

    def __init__(self, rtol: float) -> None:
        self.rtol = rtol
        self.errors: dict[str, float] = {}
        self.failures: list[str] = []

    def number(self, check: str, error: float, *, limit: float | None = None) -> None:
        """Note an error, which fails above ``limit`` (by default the report's)."""
        limit = self.rtol if limit is None else limit
        self.errors[check] = max(error, self.errors.get(check, 0.0))
        if not error <= limit:  # NaN fails
            self.failures.append(f"{check}: error {error:.2e}, expected at most {limit:.0e}")

    def compare(self, check: str, found: Tensor, expected: Tensor) -> None:
        """Note the relative distance of two tensors."""
        if found.shape != expected.shape:
            self.true(
                check, False, f"found shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
            )
            return
        scale = max(float(expected.double().norm()), math.sqrt(torch.finfo(torch.float64).tiny))
        self.number(check, float((found.double() - expected.double()).norm()) / scale)

    def true(self, check: str, ok: bool, text: str) -> None:
        """Note a check without a number."""
        self.errors.setdefault(check, 0.0)
        if not ok:
            self.errors[check] = math.inf
            self.failures.append(f"{check}: {text}")

    def attempt(self, check: str, function: Callable[[], None]) -> None:
        """Run one group of checks; whatever it raises is one of its failures."""
        try:
            function()
        except Exception as error:  # a foreign operator may raise anything
            self.true(check, False, f"raised {type(error).__name__}: {error}")

    def finish(self, name: str) -> dict[str, float]:
        """Return the errors by check, or raise a :class:`CheckError` with every failure."""
        if self.failures:
            failures = "\n  ".join(dict.fromkeys(self.failures))
            raise CheckError(f"{name}: {len(self.failures)} failed:\n  {failures}")
        return self.errors


def check_refusals(
    report: Report, name: str, function: Callable[..., object], value: Tensor
) -> None:
    """Note what ``function`` does with wrong shapes and complex tensors; it must refuse them."""
    wrong = {
        "no batch axis": value[0],
        "one axis too many": value[None],
        "a wrong length": torch.cat([value, value[..., :1]], -1),
        "a complex tensor": torch.complex(value, value),
    }
    for what, bad in wrong.items():
        try:
            function(bad)
        except GeometryError:
            continue
        except Exception as error:
            text = f"{name}: {what}: found {error!r}, expected a GeometryError"
        else:
            text = f"{name}: accepted {what}"
        report.true("refusals", False, text)
    report.true("refusals", True, "")


def check_words(report: Report, op: Operator) -> None:
    """Check ``summary`` and ``repr``."""
    fields = op.summary()
    report.true(
        "words",
        len(fields) > 0 and all(type(v) is str for v in fields.values()),
        f"summary: found {fields!r}, expected strings",
    )
    report.true("words", type(op).__name__ in repr(op), "repr does not name the class")
