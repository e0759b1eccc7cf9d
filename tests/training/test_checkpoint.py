"""Damaged and foreign checkpoints are refused, and nothing is ever unpickled."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sciinv.errors import DataError
from sciinv.training import TrainingConfig
from sciinv.training.average import PowerAverage
from sciinv.training.checkpoint import State, read_checkpoint, write_checkpoint
from sciinv.training.loop import build_network

Make = Callable[..., TrainingConfig]


def state_of(config: TrainingConfig, *, moved: bool = False) -> State:
    """A state as at the begin, or after a step of the optimiser."""
    net = build_network(config)
    averages = [PowerAverage(net, width) for width in config.average.widths]
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    state = State(net, averages, adam)
    if moved:
        torch.manual_seed(1)
        for weight in net.parameters():
            weight.grad = torch.randn_like(weight)
        adam.step()
        averages[0].update(net, 2)
        state.step, state.seconds, state.loss_scale = 2, 7.5, {"scale": 1024.0}
    return state


@pytest.fixture
def written(make: Make, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, make(), state_of(make(), moved=True))
    return path


def test_everything_comes_back(make: Make, written: Path) -> None:
    before, after = state_of(make(), moved=True), state_of(make())
    read_checkpoint(written, make(), after)
    assert (after.step, after.seconds, after.loss_scale) == (2, 7.5, {"scale": 1024.0})
    for a, b in [(before.net, after.net), *(
        (x.net, y.net) for x, y in zip(before.averages, after.averages, strict=True)
    )]:  # fmt: skip
        for key, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[key])
    moments = after.optimiser.state_dict()["state"]
    for number, fields in before.optimiser.state_dict()["state"].items():
        for name, value in fields.items():
            assert torch.equal(value, moments[number][name])


def test_moments_follow_the_layout_of_the_weights(make: Make, written: Path) -> None:
    state = state_of(make())
    read_checkpoint(written, make(), state)
    state.net.to(memory_format=torch.channels_last)
    before = {w: m["exp_avg"].clone() for w, m in state.optimiser.state.items()}
    state.place()
    for weight, moments in state.optimiser.state.items():
        assert moments["exp_avg"].stride() == weight.stride()
        assert torch.equal(moments["exp_avg"], before[weight])
        assert moments["step"].shape == ()


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change tensors and header of a checkpoint."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["sciinv"])
    tensors = load_file(path)
    change(tensors, about)
    save_file(tensors, path, metadata={"sciinv": json.dumps(about)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, a: a.update(format="sciinv-training/9"), "format"),
        (lambda t, a: a.pop("step"), "header"),
        (lambda t, a: a.update(config=3), "header"),
        (lambda t, a: a.update(devices=4), "found a run on 4, expected 1 as now"),
        (lambda t, a: a["config"]["noise"].update(sigma_data=0.5), r"noise\.sigma_data"),
        (lambda t, a: a["config"].update(wrong={}), "wrong"),
        (lambda t, a: t.pop("net.head.weight"), "weights"),
        (lambda t, a: t.update({"net.more": torch.zeros(1)}), "weights"),
        (lambda t, a: t.pop("average1.head.weight"), "weights"),
        (lambda t, a: t.pop("optimiser.3.exp_avg"), "optimiser"),
        (lambda t, a: t.update({"optimiser.3.evil": torch.zeros(1)}), "optimiser"),
        (lambda t, a: t.update({"optimiser.3.exp_avg": torch.zeros(7)}), "optimiser"),
        (lambda t, a: t.update({"optimiser.999.step": torch.zeros(())}), "optimiser"),
    ],
)
def test_foreign_checkpoints_are_refused(
    make: Make, written: Path, change: Callable[..., None], message: str
) -> None:
    rewrite(written, change)
    with pytest.raises(DataError, match=message) as caught:
        read_checkpoint(written, make(), state_of(make()))
    assert str(written) in str(caught.value)


def test_cut_files_are_refused(make: Make, written: Path) -> None:
    whole = written.read_bytes()
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        written.write_bytes(whole[:size])
        with pytest.raises(DataError, match="expected an intact checkpoint"):
            read_checkpoint(written, make(), state_of(make()))


class Evil:
    """Leaves a mark if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("write", [
    lambda path, evil: path.write_bytes(pickle.dumps(evil)),
    lambda path, evil: torch.save({"net": evil}, path),
])  # fmt: skip
def test_a_pickle_is_not_opened(
    make: Make, tmp_path: Path, write: Callable[[Path, Evil], None]
) -> None:
    path, mark = tmp_path / "checkpoint.safetensors", tmp_path / "mark"
    write(path, Evil(mark))
    with pytest.raises(DataError, match="expected an intact checkpoint"):
        read_checkpoint(path, make(), state_of(make()))
    assert not mark.exists()


def test_fields_that_came_later_get_their_default(make: Make, written: Path) -> None:
    rewrite(written, lambda t, a: a["config"]["data"].pop("phase"))
    read_checkpoint(written, make(), state_of(make()))
    with pytest.raises(DataError, match=r"data\.phase: found 'smooth' .* expected 'none'"):
        read_checkpoint(written, make(data__phase="none"), state_of(make()))
