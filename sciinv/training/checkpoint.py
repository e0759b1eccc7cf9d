"""The state of a run on disk: safetensors and JSON, written atomically, never a pickle."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
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
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
_NEEDED = {"step", "seconds", "config"}


@dataclass
class State:
    """All that changes while a run goes on.

    :param net: the network, before it is compiled or distributed.
    :param averages: averages of its weights.
    :param optimiser: Adam, before it is distributed.
    :param step: steps done.
    :param seconds: spent on them.
    :param devices: processes that take part.
    :param loss_scale: state of the loss scale of float16 training, plain numbers.
    """

    net: nn.Module
    averages: list[PowerAverage]
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    devices: int = 1
    loss_scale: dict[str, Any] = field(default_factory=dict)

    def place(self) -> None:
        """Bring the moments of the optimiser to device and memory layout of the weights."""
        for weight, moments in self.optimiser.state.items():
            for name, value in moments.items():
                if value.shape == weight.shape and value.ndim:
                    moments[name] = torch.empty_like(weight, requires_grad=False).copy_(value)


def write_checkpoint(path: Path, config: TrainingConfig, state: State) -> None:
    """Write everything that the run needs to go on; the file appears whole or not at all."""
    tensors = {f"net.{name}": value for name, value in state.net.state_dict().items()}
    for index, average in enumerate(state.averages):
        weights = average.net.state_dict()
        tensors |= {f"average{index}.{name}": value for name, value in weights.items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
    tensors = {name: value.detach().to("cpu").contiguous().clone()
               for name, value in tensors.items()}  # fmt: skip
    about = {"format": FORMAT, "step": state.step, "seconds": round(state.seconds, 1),
             "devices": state.devices, "loss_scale": state.loss_scale,
             "config": as_table(config)}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    # only one process writes here; what a killed one left is written over
    part = path.with_name(f"{path.name}.part")
    save_file(tensors, part, metadata={_KEY: json.dumps(about, sort_keys=True)})
    with part.open("rb") as file:
        os.fsync(file.fileno())  # else a power cut could leave the new name without its data
    part.replace(path)


def read_checkpoint(path: Path, config: TrainingConfig, state: State) -> None:
    """Restore a run in place.

    :param state: as a new run begins, with ``devices`` of this one.
    :raises DataError: the file is damaged, or belongs to another configuration (fields that do not
        touch the numbers, such as the number of steps between checkpoints, may differ) or another
        number of devices.
    """
    tensors, about = _read(path)
    _check_config(path, about["config"], config)
    devices = about.get("devices", state.devices)
    if devices != state.devices:
        raise DataError(path, "devices", found=f"a run on {devices}",
                        expected=f"{state.devices} as now")  # fmt: skip
    _load(path, state.net, _part(tensors, "net."))
    for index, average in enumerate(state.averages):
        _load(path, average.net, _part(tensors, f"average{index}."))
    _load_optimiser(path, state.optimiser, _part(tensors, "optimiser."))
    state.step, state.seconds = int(about["step"]), float(about["seconds"])
    state.loss_scale = dict(about.get("loss_scale", {}))


def _load_optimiser(
    path: Path, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for place, value in tensors.items():
        first, _, what = place.partition(".")
        if not first.isdecimal() or what not in _MOMENTS:
            raise DataError(path, "optimiser", found=place, expected="the moments of Adam")
        moments.setdefault(int(first), {})[what] = value
    groups = optimiser.state_dict()["param_groups"]
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for number, weight in enumerate(weights):
        found = moments.get(number, {})
        good = found.keys() == _MOMENTS and all(
            value.shape == weight.shape for name, value in found.items() if name != "step"
        )
        if moments and not good:
            raise DataError(path, "optimiser", found=f"no complete state of tensor {number}",
                            expected=f"that of {len(weights)} tensors")  # fmt: skip
    if len(moments) > len(weights):
        raise DataError(path, "optimiser", found=f"state of {len(moments)} tensors",
                        expected=f"of {len(weights)}")  # fmt: skip
    optimiser.load_state_dict({"state": moments, "param_groups": groups})


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
    if not about.keys() >= _NEEDED or not isinstance(about["config"], dict):
        raise DataError(path, "header", found=sorted(about), expected=sorted(_NEEDED))
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
    for section, values in as_table(config).items():
        for name, value in values.items():
            other = before[section][name]
            if (section, name) not in _FREE and other != value:
                raise DataError(path, f"{section}.{name}", found=f"{other!r} in the checkpoint",
                                expected=f"{value!r} of the configuration",
                                hint="resume with the configuration that began the run, "
                                "or train into another folder")  # fmt: skip
