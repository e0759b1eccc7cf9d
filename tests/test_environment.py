"""``environment.yml`` and ``pyproject.toml`` ask for the same packages at the same floors."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent

CONDA_NAMES = {"pytorch": "torch"}
# pip's torchvision, which deepinv asks for, would replace conda's torch: it is named beside it
CONDA_ONLY = {"pip", "torchvision"}


def requirement(text: str) -> tuple[str, str]:
    """Split ``Name[extra]>=1.2`` into its normalised name and its version range."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+?)(?:\[.*\])?((?:[<>=!~].*)?)", text.strip())
    assert match, text
    return re.sub(r"[-_.]+", "-", match[1]).lower(), match[2].replace(" ", "")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def conda_and_pip() -> tuple[dict[str, str], dict[str, str], list[str]]:
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(requirement(e) for e in entries if isinstance(e, str))
    block = next(e["pip"] for e in entries if isinstance(e, dict))
    options = [e for e in block if e.startswith("-")]
    return conda, dict(requirement(e) for e in block if not e.startswith("-")), options


def test_same_names_and_floors() -> None:
    conda, pip, _ = conda_and_pip()
    python = conda.pop("python")
    for name in CONDA_ONLY:
        assert name in conda
        del conda[name]
    stated = {CONDA_NAMES.get(name, name): spec for name, spec in conda.items()} | pip
    assert stated == dict(requirement(d) for d in project()["dependencies"])
    assert python == project()["requires-python"]


def test_only_python_and_torch_come_from_conda() -> None:
    conda, _, options = conda_and_pip()
    assert set(conda) == {"python", "pytorch", *CONDA_ONLY}
    assert options == ["--editable ."]


def test_no_index_or_registry_is_named() -> None:
    for name in ("pyproject.toml", "environment.yml", "Makefile", ".ci/run", "README.md"):
        text = (ROOT / name).read_text()
        for word in ("--index-url", "--extra-index-url", "find-links", "pypi.org", "download."):
            assert word not in text, f"{name} names {word}"


# import name -> name of the distribution, where they differ
DISTRIBUTION = {
    "astra": "astra-toolbox",
    "cupy": "cupy-cuda12x",
    "lightning_fabric": "lightning-fabric",
    "PIL": "pillow",
    "pywt": "pywavelets",
}


def test_every_imported_package_is_declared() -> None:
    known = {requirement(d)[0] for d in project()["dependencies"]}
    for extra in ("cuda", "filters", "twix", "dask", "dicom", "train"):
        known |= {requirement(d)[0] for d in project()["optional-dependencies"][extra]}
    undeclared = {}
    for path in (ROOT / "sciinv").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in {n.partition(".")[0] for n in names} - {"sciinv"} - sys.stdlib_module_names:
                if requirement(DISTRIBUTION.get(name, name))[0] not in known:
                    undeclared[name] = str(path.relative_to(ROOT))
    assert not undeclared
