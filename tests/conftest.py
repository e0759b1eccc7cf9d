"""Options and fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SEED = 20240
# hundreds of tests read a file: they do it in their own process, those of isolation say otherwise
os.environ.setdefault("SCIINV_READ_ISOLATED", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sciinv")
    group.addoption("--device", default="cpu", help="torch device for tests that take one")
    group.addoption(
        "--dtype",
        default="float64",
        choices=["float32", "float64"],
        help="precision of those tests",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked ``cuda`` where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    if torch.cuda.is_available():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Any:
    """The torch device of ``--device``."""
    import torch

    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def dtype(request: pytest.FixtureRequest) -> Any:
    """The torch dtype of ``--dtype``."""
    import torch

    return getattr(torch, request.config.getoption("--dtype"))


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator, the same for every test."""
    return np.random.default_rng(SEED)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real scans: SCIINV_REAL_DATA, or a shared folder beside the checkout; or skip."""
    named = os.environ.get("SCIINV_REAL_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder of real scans (set SCIINV_REAL_DATA)")
    return folder
