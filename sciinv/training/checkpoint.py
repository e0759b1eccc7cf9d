"""The state of a run on disk: safetensors and JSON, written atomically, never a pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sciinv.errors import DataError
from sciinv.training.average import PowerAverage
from sciinv.training.config import TrainingConfig, as_table, make_config

FORMAT = "sciinv-training/1"
_KEY = "sciinv"


def write_checkpoint(
    path: Path,
    config: TrainingConfig,
    step: int,
    net: nn.Module,
    averages: list[PowerAverage],
    optimiser: torch.optim.Optimizer,
    seconds: float,
) -> None:
    """Write everything that the run needs to go on; the file appears whole or not at all."""
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    for index, average in enumerate(averages):
        state = average.net.state_dict()
        tensors |= {f"average{index}.{name}": value for name, value in state.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
    tensors = {name: value.detach().to("cpu").contiguous().clone()
               for name, value in tensors.items()}  # fmt: skip
    about = {"format": FORMAT, "step": step, "seconds": round(seconds, 1),
             "config": as_table(config)}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(about, sort_keys=True)})
        with Path(temporary).open("rb") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name without its data
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_checkpoint(
    path: Path,
    config: TrainingConfig,
    net: nn.Module,
    averages: list[PowerAverage],
    optimiser: torch.optim.Optimizer,
) -> tuple[int, float]:
    """Restore a run in place.

    :return: finished steps and seconds spent on them.
    :raises DataError: the file is damaged, or belongs to another configuration (fields that do not
        touch the numbers, such as the number of steps between checkpoints, may differ).
    """
    tensors, about = _read(path)
    _check_config(path, about["config"], config)
    _load(path, net, _part(tensors, "net."))
    for index, average in enumerate(averages):
        _load(path, average.net, _part(tensors, f"average{index}."))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimiser.").items():
        number, field = name.split(".", 1)
        moments.setdefault(int(number), {})[field] = value
    groups = optimiser.state_dict()["param_groups"]
    expected = {number for group in groups for number in group["params"]}
    if moments and moments.keys() != expected:
        raise DataError(path, "optimiser", found=f"state of {len(moments)} tensors",
                        expected=f"of {len(expected)}")  # fmt: skip
    optimiser.load_state_dict({"state": moments, "param_groups": groups})
    return int(about["step"]), float(about["seconds"])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            about = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(path, "file", found=str(error), expected="an intact checkpoint") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DataError(path, "format", found=repr(about.get("format")) if isinstance(about, dict)
                        else "no table", expected=repr(FORMAT))  # fmt: skip
    return tensors, about


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items()
            if name.startswith(prefix)}  # fmt: skip


def _load(path: Path, net: nn.Module, state: dict[str, Tensor]) -> None:
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(path, "weights", found=str(error).splitlines()[-1].strip(),
                        expected="those of the configured network") from None  # fmt: skip


# fields that say how a run is carried out, not what its numbers are (threads change roundings)
_FREE = {("run", "log_every"), ("run", "checkpoint_every"), ("data", "workers"),
         ("prior", "description"), ("run", "accelerator"), ("run", "threads"),
         ("run", "devices"), ("run", "nodes")}  # fmt: skip


def _check_config(path: Path, found: dict[str, Any], config: TrainingConfig) -> None:
    # fields that were added since the checkpoint was written get their default
    before = as_table(make_config(found, path))
    for section, fields in as_table(config).items():
        for field, value in fields.items():
            other = before[section][field]
            if (section, field) not in _FREE and other != value:
                raise DataError(path, f"{section}.{field}", found=f"{other!r} in the checkpoint",
                                expected=f"{value!r} of the configuration",
                                hint="resume with the configuration that began the run, "
                                "or train into another folder")  # fmt: skip
