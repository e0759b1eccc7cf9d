"""Small configurations and images to train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sciinv.training.config import TrainingConfig, load_config


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Twenty smooth positive slices of 24 x 24 in an .npy file."""
    rng = np.random.default_rng(5)
    waves = rng.standard_normal((20, 24, 24)).cumsum(1).cumsum(2)
    path = tmp_path / "stack.npy"
    np.save(path, (np.abs(waves) / np.abs(waves).max()).astype(np.float32))
    return path


TINY = """
[prior]
name = "tiny"
channels = 1
[network]
widths = [6, 9]
features = 8
[data]
source = "images"
files = ["stack.npy"]
patch = 16
scene = 24
window = 4
held_out = 2
[optimiser]
steps = 24
batch = 4
warmup = 4
[run]
threads = 1
accelerator = "cpu"
log_every = 5
checkpoint_every = 10
"""


@pytest.fixture
def tiny(stack: Path) -> Path:
    """Configuration of a run of a second, as a file beside its images."""
    path = stack.with_name("tiny.toml")
    path.write_text(TINY)
    return path


@pytest.fixture
def make(tiny: Path) -> Callable[..., TrainingConfig]:
    """The same as an object; keywords ``section__field=value`` replace fields."""

    def build(**changes: Any) -> TrainingConfig:
        options = [f"{name.replace('__', '.')}={_toml(value)}" for name, value in changes.items()]
        return load_config(tiny, options)

    return build


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
