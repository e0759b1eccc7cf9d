"""Names of a package that are imported on first use (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attach(
    package: str, modules: Mapping[str, str], public: list[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package whose names are imported lazily.

    :param package: its ``__name__``.
    :param modules: name -> dotted module that defines it. No module of the package may be called
        like an exported name: importing it would hide the name.
    :param public: its ``__all__``.
    """

    def get(name: str) -> Any:  # noqa: ANN401
        if name in modules:
            value = getattr(import_module(modules[name]), name)
            setattr(sys.modules[package], name, value)  # found without this function next time
            return value
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def listing() -> list[str]:
        return sorted(public)

    return get, listing
