"""Sphinx configuration. Figures and tables of the pages are made from the package at build time."""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from _make import figures, tables  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import sciinv  # noqa: E402

project = "sciinv"
author = "the sciinv developers"
copyright = "2026, the sciinv developers"  # noqa: A001
version = release = sciinv.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "generated", "_make", "auto_examples/**/*.ipynb"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autoclass_content = "both"

html_theme = "furo"
html_title = f"sciinv {version}"
html_static_path: list[str] = []

# the gallery shows every example directory that says what it holds in GALLERY_HEADER.rst;
# -D plot_gallery=0 lays the pages out without running the scripts
examples = DOCS.parent / "examples"
if (examples / "GALLERY_HEADER.rst").exists():
    sphinx_gallery_conf = {
        "examples_dirs": [str(examples)],
        "gallery_dirs": ["auto_examples"],
        "filename_pattern": r"\.py$",
        "ignore_pattern": r"(__init__|conftest|_helpers)\.py$",
        "download_all_examples": False,
        "remove_config_comments": True,
        "show_memory": False,
        "within_subsection_order": "FileNameSortKey",
        "reset_modules": ("matplotlib",),
        "abort_on_example_error": True,
    }


def _escape_norms(app: object, what: str, name: str, obj: object, opt: object, lines: list) -> None:
    """Escape ``|``: in our docstrings it is a norm, in reStructuredText a substitution."""
    literal = None  # indentation of the line that opened a literal block
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if literal is not None and (not line.strip() or indent > literal):
            continue
        literal = indent if line.rstrip().endswith("::") else None
        parts = re.split(r"(``.*?``|`[^`]*`)", line)
        lines[number] = "".join(
            part if part.startswith("`") else re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts
        )


def setup(app: Sphinx) -> None:
    """Register what autodoc does with docstrings."""
    app.connect("autodoc-process-docstring", _escape_norms)


generated = DOCS / "generated"
generated.mkdir(exist_ok=True)
figures.make_all(generated)
tables.make_all(generated)
