"""Importing is cheap, and reading files does not need torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "astra,deepinv,h5py,jinja2,matplotlib,nibabel,numba,numpy,pydantic,rich,safetensors,scipy,"
    "sigpy,tifffile,torch,torchvision,typer"
).split(",")

BLOCK_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "deepinv"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
"""


def run(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_after(statement: str) -> set[str]:
    out = run(f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))")
    return {name.partition(".")[0] for name in out.split()}


def test_import_sciinv_imports_nothing_heavy() -> None:
    loaded = loaded_after("import sciinv")
    assert "sciinv" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))


def test_the_probe_sees_a_heavy_import() -> None:
    # guards the test above: the same probe must notice numpy when it is imported
    assert "numpy" in loaded_after("import sciinv, numpy")


def test_command_line_imports_neither_torch_nor_numpy() -> None:
    loaded = loaded_after("import sciinv.cli")
    assert loaded.isdisjoint({"torch", "deepinv", "numpy", "matplotlib", "numba", "scipy"})


@pytest.mark.parametrize(
    "statement",
    [
        "import sciinv.data",
        "import sciinv.data.load",
        "from sciinv import Scan, load",
        "import sciinv.data.noise, sciinv.data.scale",
    ],
)
def test_data_needs_no_torch(statement: str) -> None:
    run(BLOCK_TORCH + statement)


def test_the_block_blocks_torch() -> None:
    attempt = "try:\n    import torch\nexcept ImportError:\n    pass\nelse:\n    sys.exit(1)"
    run(BLOCK_TORCH + attempt)


def test_public_names_resolve() -> None:
    run("import sciinv\nfor name in sciinv.__all__:\n    getattr(sciinv, name)")


def test_unknown_name_is_an_attribute_error() -> None:
    import sciinv

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = sciinv.no_such_name
