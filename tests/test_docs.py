"""The documentation builds without warnings, its examples run, and its links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WRITTEN = (*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")))
TEXTS = [p for p in WRITTEN if not {"generated", "_build", "auto_examples"} & set(p.parts)]
MADE_BY_THE_BUILD = ("generated/", "../generated/", "auto_examples/")


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_documentation_builds_without_warnings(tmp_path: Path) -> None:
    # built from a copy: the gallery and the figures are written beside the sources
    ignore = shutil.ignore_patterns("_build", "generated", "auto_examples", "__pycache__")
    for name in ("docs", "examples"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    shutil.copy(ROOT / "SECURITY.md", tmp_path)  # a page of the documentation too
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         "-D", "plot_gallery=0", "docs", "html"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "html" / "index.html").exists()


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_files_exist(page: Path) -> None:
    targets = re.findall(r"!?\[[^\]]*\]\(([^)#\s]+)", page.read_text())
    local = [t for t in targets if "://" not in t and not t.startswith(MADE_BY_THE_BUILD)]
    missing = [t for t in local if not (page.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("name", ["README.md", "docs/start.md", "docs/extending.md"])
def test_examples_of_a_page_run(name: str) -> None:
    blocks = [b for b in python_blocks(ROOT / name) if "scan.h5" not in b]
    assert blocks
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks):
        code = compile(block, f"{name}, example {number + 1}", "exec")
        exec(code, namespace)  # noqa: S102 - our own documentation


def test_examples_name_public_things_only() -> None:
    for page in TEXTS:
        for block in python_blocks(page):
            assert not re.search(r"from sciinv[\w.]*\._|import sciinv[\w.]*\._", block), page
