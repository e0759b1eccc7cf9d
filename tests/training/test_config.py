"""Configurations: what is wrong is named with file, field, what was found and expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sciinv.errors import DataError
from sciinv.priors import available
from sciinv.training.config import TrainingConfig, as_table, load_config

CONFIGS = Path(__file__).parents[2] / "configs"
Make = Callable[..., TrainingConfig]


def test_an_empty_file_is_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    assert load_config(path) == TrainingConfig()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[optimiser]\nrate = -1", ["optimiser.rate", "found -1", "greater than 0"]),
        ("[optimiser]\nsteps = 1.5", ["optimiser.steps", "found 1.5", "integer"]),
        ("[optimizer]\nrate = 1", ["optimizer", "expected optimiser"]),
        ("[noise]\nsigma_dat = 1", ["noise.sigma_dat", "expected sigma_data"]),
        ("[noise]\nsigma_min = 7.0", ["noise", "sigma_min must be below sigma_max"]),
        ("[data]\nsource = 'images'", ["data", "needs files"]),
        ("[data]\npatch = 256", ["data", "patch must not be larger than scene"]),
        ("[prior]\nchannels = 3", ["prior.channels", "found 3", "1 or 2"]),
        ("[prior]\nname = '../x'", ["prior.name", "found '../x'"]),
        ("[average]\nwidths = [0.4]", ["average", "between 0 and 0.28"]),
        ("[run]\nprecision = 'half'", ["run.precision", "found 'half'", "bf16"]),
        ("[run", ["TOML", "found"]),
    ],
)
def test_errors_name_file_field_found_and_expected(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load_config(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#" * (2**20 + 1), "1048577 bytes, expected a training configuration of at most"),
        ("run = " + "[" * 10_000, "nesting that is too deep"),
        ("a." * 300_000 + "a = 1", "nesting that is too deep"),
        ("run = " + "9" * 5000, "valid TOML"),
        ("[run]\nseed = 1\nseed = 2", "Cannot overwrite a value"),
        ("[optimiser]\nrate = 1e400", "optimiser.rate: found inf"),
        ("a = '\udcff'", "valid TOML"),
    ],
)
def test_hostile_files_are_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=words) as caught:
        load_config(path)
    assert "bad.toml" in str(caught.value) and len(str(caught.value)) < 1000


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.toml: found no such file"):
        load_config(tmp_path / "nowhere.toml")


def test_changes_replace_fields(tiny: Path) -> None:
    config = load_config(
        tiny, ["optimiser.rate=2e-4", "prior.name=other", "data.gain=[1.0, 1.0]", "run.seed = 7"]
    )
    assert config.optimiser.rate == 2e-4
    assert config.prior.name == "other"
    assert config.data.gain == (1.0, 1.0)
    assert config.run.seed == 7
    assert config.optimiser.batch == load_config(tiny).optimiser.batch


@pytest.mark.parametrize("change", ["optimiser.rate", "rate=1", "=1", "optimiser.=1"])
def test_malformed_change_is_refused(tiny: Path, change: str) -> None:
    with pytest.raises(DataError, match=r"--set: found .*expected section\.field=value"):
        load_config(tiny, [change])


def test_files_are_relative_to_the_configuration_and_shown_without_folders(tiny: Path) -> None:
    config = load_config(tiny)
    assert config.data.files == (str(tiny.parent / "stack.npy"),)
    shown = json.dumps(as_table(config))
    assert "stack.npy" in shown
    assert str(tiny.parent) not in shown


@pytest.mark.parametrize("name", sorted(available()))
def test_shipped_priors_are_those_of_their_configuration(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.toml")
    assert config.prior.name == name
    card = available()[name]
    assert card["config"] == as_table(config)
    assert card["steps"] == config.optimiser.steps
