"""What a whole run does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sciinv.errors import DataError, NumericalError
from sciinv.priors import load
from sciinv.training import Progress, TrainingConfig, Watcher, train
from sciinv.training.average import PowerAverage
from sciinv.training.config import make_config
from sciinv.training.curve import denoising_curve, overall
from sciinv.training.evaluate import as_denoiser, best_average, held_out_images
from sciinv.training.export import write_prior
from sciinv.training.loop import build_network
from sciinv.training.update import learning_rate

Make = Callable[..., TrainingConfig]


class Record(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.states: list[Progress] = []
        self.skips: list[str] = []

    def progress(self, state: Progress) -> None:
        self.states.append(state)

    def skipped(self, where: str, reason: str) -> None:
        self.skips.append(Path(where).name)


def test_training_lowers_the_loss_and_writes_a_prior_that_denoises(
    make: Make, tmp_path: Path
) -> None:
    record = Record()
    config = make(optimiser__steps=150, optimiser__batch=8, optimiser__rate=5e-3)
    prior = train(config, tmp_path / "out", watcher=record)
    assert prior is not None
    losses = [state.loss for state in record.states]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert record.states[-1].step == 150 and record.states[-1].remaining == 0
    again = load(tmp_path / "out" / "prior.safetensors", channels=1)
    curve = denoising_curve(again, held_out_images(config))
    assert again.card["denoising"] == curve
    assert curve["0.2"]["error_over_sigma"] < 0.8
    assert again.card["images_seen"] == 150 * 8


def test_two_passes_of_four_equal_one_of_eight(make: Make, tmp_path: Path) -> None:
    common = {"optimiser__steps": 8, "optimiser__warmup": 2}
    train(make(optimiser__batch=4, optimiser__accumulate=2, **common), tmp_path / "passes")
    train(make(optimiser__batch=8, **common), tmp_path / "whole")
    start = build_network(make()).state_dict()
    a, b = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("passes", "whole"))
    for key, value in start.items():
        moved = float((b[f"net.{key}"] - value).norm())
        apart = float((a[f"net.{key}"] - b[f"net.{key}"]).norm())
        # Adam divides by the gradient: where that is next to zero, rounding decides the sign
        assert apart < 1e-3 * moved + 1e-7, key


@pytest.mark.parametrize("precision", ["bf16"])
def test_low_precision_stays_finite_and_close(make: Make, tmp_path: Path, precision: str) -> None:
    record, full = Record(), Record()
    options = {"optimiser__steps": 15, "optimiser__batch": 8}
    prior = train(make(run__precision=precision, **options), tmp_path / "low", watcher=record)
    train(make(**options), tmp_path / "full", watcher=full)
    assert prior is not None
    assert all(bool(torch.isfinite(p).all()) for p in prior.parameters())
    # the weights themselves stay in single precision
    assert load_file(tmp_path / "low" / "checkpoint.safetensors")["net.head.weight"].dtype == (
        torch.float32
    )
    low, high = record.states[-1].loss, full.states[-1].loss
    assert abs(low - high) < 0.05 * high
    assert low != high


def test_a_gradient_that_is_not_finite_stops_the_run(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "stack.npy"
    big = np.load(path)
    big[:] = 1e25
    np.save(path, big)
    with pytest.raises(NumericalError, match=r"gradient of step 0 is not finite.*optimiser\.rate"):
        train(make(data__scale=1.0), tmp_path / "out")


def test_learning_rate_rises_stays_and_falls() -> None:
    recipe = make_config({"optimiser": {"steps": 100, "warmup": 10, "rate": 1.0,
                                        "decay_from": 0.4}}).optimiser  # fmt: skip
    rates = [learning_rate(step, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1 == rates[40]
    assert rates[70] == pytest.approx(0.5) and rates[99] == pytest.approx(1 / 60)
    assert np.all(np.diff(rates[:10]) > 0) and np.all(np.diff(rates[41:]) < 0)


def test_the_average_that_denoises_best_is_taken(make: Make) -> None:
    config = make()
    held_out = held_out_images(config)
    good, bad = (PowerAverage(build_network(config), 0.1) for _ in range(2))
    torch.nn.init.normal_(bad.net.tail.weight)  # type: ignore[operator, union-attr, arg-type]
    assert best_average(config, [bad, good], held_out) is good
    assert best_average(config, [good, bad], held_out) is good


def test_weights_that_half_precision_cannot_hold_are_refused(make: Make, tmp_path: Path) -> None:
    config = make()
    net = build_network(config)
    held_out = held_out_images(config)
    with torch.no_grad():  # beyond the largest half, but multiplied by zero in the end
        net.head.weight.fill_(1e5)
        net.tail.weight.fill_(0.0)
    path = tmp_path / "prior.safetensors"
    with pytest.raises(NumericalError, match="half precision costs"):
        write_prior(path, config, net, {}, held_out)
    assert not path.exists()


def test_half_precision_keeps_the_curve(make: Make, tmp_path: Path) -> None:
    config = make()
    net = build_network(config)
    torch.manual_seed(0)
    torch.nn.init.normal_(net.tail.weight, std=0.05)
    held_out = held_out_images(config)
    written = write_prior(tmp_path / "p.safetensors", config, net, {"name": "x"}, held_out)
    full = denoising_curve(as_denoiser(config, net, {}), held_out)
    assert abs(overall(written.card["denoising"]) - overall(full)) < 0.01
    for key, value in net.state_dict().items():
        assert torch.equal(written.net.state_dict()[key], value.half().float())


def test_held_out_images_are_not_trained_on_and_bad_files_are_told(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "broken.npy").write_bytes(b"no array")
    files = {"data__files": ["stack.npy", "broken.npy"]}
    with pytest.raises(DataError, match=r"broken\.npy"):
        train(make(**files), tmp_path / "stop")
    assert not (tmp_path / "stop").exists()
    record = Record()
    prior = train(make(data__on_error="skip", **files), tmp_path / "skip", watcher=record)
    assert record.skips == ["broken.npy"]
    assert prior is not None
    facts = prior.card["training_data"]
    assert (facts["files_read"], facts["files_left_out"], facts["slices_held_out"]) == (1, 1, 2)
    assert str(tmp_path) not in json.dumps(prior.card)


def test_procedural_worlds_train_and_unknown_ones_are_named(tmp_path: Path) -> None:
    table = {
        "network": {"widths": [4], "features": 4},
        "data": {"scene": 32, "patch": 16, "window": 2, "held_out": 1, "world": "generic"},
        "optimiser": {"steps": 2, "batch": 2}, "run": {"accelerator": "cpu"},
    }  # fmt: skip
    prior = train(make_config(table), tmp_path / "out")
    assert prior is not None and prior.card["training_data"]["world"] == "generic"
    table["data"] = {"world": "moon"}
    with pytest.raises(DataError, match="world: found moon"):
        train(make_config(table), tmp_path / "moon")
    table["data"] = {"world": "ct"}
    with pytest.raises(DataError, match="channels = 1"):
        train(make_config(table), tmp_path / "ct")
