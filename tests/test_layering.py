"""Lower layers never import higher ones, not even inside functions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sciinv

PACKAGE = Path(sciinv.__file__).parent

# lowest first; parts of one layer may use each other unless FORBIDDEN says otherwise
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "channels", "random", "linalg", "capabilities", "kspace", "lazy"}),
    frozenset({"operators"}),
    frozenset({"priors", "data", "baselines"}),
    frozenset({"solvers", "metrics"}),
    frozenset({"result", "report"}),
    frozenset({"reconstruction"}),
    frozenset({"training"}),
    frozenset({"cli"}),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}

# a prior knows no file and a solver knows no scan, although the layers would allow it
FORBIDDEN = {("priors", "data"), ("solvers", "data"), ("data", "priors"), ("metrics", "solvers")}


def part_of(path: Path) -> str:
    """Return the layer part (module or subpackage below ``sciinv``) that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_parts(source: str, package: str) -> list[tuple[int, str]]:
    """Return ``(line, part)`` for every import of something of sciinv, wherever it stands.

    :param source: Python text.
    :param package: dotted package that the module lives in, for relative imports.
    """
    found: list[tuple[int, str]] = []

    def add(line: int, dotted: str) -> None:
        pieces = dotted.split(".")
        if pieces[0] != "sciinv" or len(pieces) == 1:
            return
        lazy = sciinv._LAZY.get(pieces[1])
        part = lazy.split(".")[1] if lazy else pieces[1]
        if part in RANK or (PACKAGE / part).exists() or (PACKAGE / f"{part}.py").exists():
            found.append((line, part))

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            for alias in node.names:
                add(node.lineno, f"{base}.{alias.name}")
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            first = node.args[0] if node.args else None
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                add(node.lineno, str(first.value))
    return found


def violations(part: str, imports: list[tuple[int, str]]) -> list[str]:
    """Return one sentence for each import that the layers do not allow."""
    bad = []
    for line, other in imports:
        if other == part:
            continue
        if other not in RANK:
            bad.append(f"line {line}: {other} belongs to no layer")
        elif RANK[other] > RANK[part]:
            bad.append(f"line {line}: {part} imports the higher layer {other}")
        elif (part, other) in FORBIDDEN:
            bad.append(f"line {line}: {part} must not import {other}")
    return bad


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def test_every_part_has_a_layer() -> None:
    parts = {part_of(p) for p in FILES} - {"__main__"}
    assert parts <= set(RANK), f"add {sorted(parts - set(RANK))} to LAYERS"


@pytest.mark.parametrize("part", sorted(RANK))
def test_lower_layers_do_not_import_higher_ones(part: str) -> None:
    problems = []
    for path in FILES:
        if part_of(path) == part:
            package = ".".join(["sciinv", *path.relative_to(PACKAGE).parent.parts])
            found = violations(part, imported_parts(path.read_text(), package))
            problems += [f"{path.relative_to(PACKAGE)}, {text}" for text in found]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("operators", "import sciinv.solvers.base"),
        ("operators", "from sciinv import solvers"),
        ("operators", "def f():\n    from sciinv.cli import app"),
        ("linalg", "from . import operators"),
        ("priors", "from ..data import Scan"),
        ("priors", "from sciinv import load"),
        ("solvers", "from sciinv.data.scan import Scan"),
        ("data", "from importlib import import_module\nimport_module('sciinv.reconstruction')"),
    ],
)
def test_the_check_finds_violations(part: str, source: str) -> None:
    package = "sciinv" if part == "linalg" else f"sciinv.{part}"
    assert violations(part, imported_parts(source, package))
