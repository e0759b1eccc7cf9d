"""A run that was killed and resumed ends in the same bits as one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sciinv.errors import DataError
from sciinv.training import TrainingConfig, Watcher, train
from sciinv.training.run_folder import CHECKPOINT, PRIOR

Make = Callable[..., TrainingConfig]

# dies by SIGKILL at step 20, half through writing its second checkpoint
KILLED = """
import os, signal, sys
from pathlib import Path
from sciinv.training import checkpoint, load_config, train

save = checkpoint.save_file
calls = 0

def save_half(tensors, path, metadata):
    global calls
    calls += 1
    save(tensors, path, metadata=metadata)
    if calls == 2:
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_file = save_half
train(load_config(sys.argv[1]), sys.argv[2])
"""


def weights(folder: Path, name: str = CHECKPOINT) -> dict[str, Tensor]:
    return load_file(folder / name)


def assert_same(a: Path, b: Path) -> None:
    for name in (CHECKPOINT, PRIOR):
        x, y = weights(a, name), weights(b, name)
        assert x.keys() == y.keys()
        for key in x:
            assert torch.equal(x[key], y[key]), (name, key)


def test_resumed_after_kill_9_equals_uninterrupted(tiny: Path, make: Make, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny), str(killed)], capture_output=True, timeout=300
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (killed / PRIOR).exists()
    train(make(), killed, resume=True)
    train(make(), whole)
    assert_same(killed, whole)
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in whole.iterdir())


class Crash(Watcher):
    """Raises after some step."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.first: int | None = None

    def begin(self, config: TrainingConfig, parameters: int, first: int, batch: int) -> None:
        self.first = first

    def step(self, done: int) -> None:
        if done == self.at:
            raise ZeroDivisionError


@pytest.mark.parametrize(
    "options",
    [
        {"run__precision": "bf16"},
        {"optimiser__accumulate": 2, "data__fresh": 0.5, "run__channels_last": False},
    ],
)
def test_resumed_after_a_crash_equals_uninterrupted(
    make: Make, tmp_path: Path, options: dict[str, Any]
) -> None:
    config = make(**options)
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    with pytest.raises(ZeroDivisionError):
        train(config, broken, watcher=Crash(17))
    watcher = Crash(0)
    train(config, broken, resume=True, watcher=watcher)
    assert watcher.first == 10
    train(config, whole)
    assert_same(broken, whole)


def test_stop_writes_a_checkpoint_at_once_and_the_run_goes_on(make: Make, tmp_path: Path) -> None:
    class Listen(Watcher):
        at: int | None = None

        def stopped(self, step: int, checkpoint: Path) -> None:
            assert checkpoint.exists()
            self.at = step

    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    asked = iter([False] * 12 + [True])
    watcher = Listen()
    assert train(make(), stopped, watcher=watcher, stop=lambda: next(asked)) is None
    assert watcher.at == 13
    assert not (stopped / PRIOR).exists()
    assert train(make(), stopped, resume=True) is not None
    train(make(), whole)
    assert_same(stopped, whole)


def test_a_finished_run_that_is_resumed_stays_the_same(make: Make, tmp_path: Path) -> None:
    train(make(), tmp_path / "a")
    before = weights(tmp_path / "a", PRIOR)
    train(make(), tmp_path / "a", resume=True)
    after = weights(tmp_path / "a", PRIOR)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_another_configuration_does_not_resume(make: Make, tmp_path: Path) -> None:
    train(make(), tmp_path / "a")
    with pytest.raises(DataError, match=r"optimiser\.rate: found 0\.0016 .* expected 0\.001"):
        train(make(optimiser__rate=0.001), tmp_path / "a", resume=True)
    # what does not touch the numbers may change
    train(make(run__log_every=7, prior__description="better"), tmp_path / "a", resume=True)
