"""Devices and processes, by Lightning Fabric."""

from __future__ import annotations

import os
from typing import Any

import torch

from sciinv.errors import SciinvError
from sciinv.training.config import RunSection

_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def launch(run: RunSection) -> Any:  # noqa: ANN401
    """Join the processes of the launcher, or start those that ``run`` asks for.

    Under ``torchrun`` and ``srun`` the number of devices and nodes is theirs; otherwise
    ``run.devices`` processes are started on this machine.

    :return: a launched ``lightning_fabric.Fabric``.
    :raises SciinvError: Lightning Fabric is not installed, or the machine lacks what is asked for.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise SciinvError(
            "training needs Lightning Fabric and TensorBoard: pip install 'sciinv[train]'"
        ) from None
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    devices, nodes = processes(run)
    # one process an accelerator is what data-parallel training is; on CPUs it is one a device too
    options: dict[str, Any] = {
        "accelerator": run.accelerator, "devices": devices, "num_nodes": nodes,
        "precision": _PRECISION[run.precision],
    }  # fmt: skip
    try:
        fabric = Fabric(**options)
    except (RuntimeError, ValueError) as error:
        raise SciinvError(f"training: devices: {' '.join(str(error).split())}") from None
    fabric.launch()
    return fabric


def processes(run: RunSection) -> tuple[int | str, int]:
    """Return devices a node and nodes: what the launcher says, else what ``run`` says."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        here = int(env["LOCAL_WORLD_SIZE"])
        return here, int(env["WORLD_SIZE"]) // here
    batch = env.get("SLURM_JOB_NAME") not in ("bash", "interactive")
    if batch and "SLURM_NTASKS" in env and "SLURM_PROCID" in env:
        nodes = int(env.get("SLURM_NNODES", "1"))
        return int(env.get("SLURM_NTASKS_PER_NODE", int(env["SLURM_NTASKS"]) // nodes)), nodes
    return run.devices, run.nodes


def is_first_process() -> bool:
    """Tell whether this is the process that writes files, before any process has joined."""
    env = os.environ
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in env:
            return int(env[name]) == 0
    return True


def any_of(fabric: Any, flag: bool) -> bool:  # noqa: ANN401
    """Tell every process whether ``flag`` is set on any of them."""
    if fabric.world_size == 1:
        return flag
    mark = torch.tensor(float(flag), device=fabric.device)
    return bool(fabric.all_reduce(mark, reduce_op="max") > 0)


def gathered(fabric: Any, items: list[Any]) -> list[Any]:  # noqa: ANN401
    """Return the items of all processes, on all of them."""
    if fabric.world_size == 1:
        return list(items)
    lists: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(lists, items)
    return [item for part in lists for item in part]
