"""Two processes on CPUs under torchrun: one model, the average of both gradients."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sciinv.training import TrainingConfig
from sciinv.training.config import RunSection
from sciinv.training.device import is_first_process, processes
from sciinv.training.loop import build_network
from sciinv.training.loss import denoising_loss
from sciinv.training.source import make_source
from sciinv.training.stream import Stream
from sciinv.training.update import learning_rate, noise_of_step

Make = Callable[..., TrainingConfig]

# each process also writes the weights that it ended with
SCRIPT = """
import os, sys
from safetensors.torch import save_file
from sciinv.cli import app
from sciinv.training import loop

build = loop.build_network
def keep(config):
    global net
    net = build(config)
    return net
loop.build_network = keep
app(["train", "--config", sys.argv[1], "-o", sys.argv[2]], standalone_mode=False)
state = {name: value.contiguous() for name, value in net.state_dict().items()}
save_file(state, sys.argv[2] + f"/rank{os.environ['RANK']}.safetensors")
"""


@pytest.mark.slow
def test_two_processes_train_one_model(tiny: Path, make: Make, tmp_path: Path) -> None:
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    text = tiny.read_text().replace("steps = 24", "steps = 60\nrate = 5e-3")
    tiny.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
         str(port), str(script), str(tiny), str(out)],
        capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [load_file(out / f"rank{rank}.safetensors") for rank in (0, 1)]
    for key, value in ranks[0].items():
        assert torch.equal(value, ranks[1][key]), key
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in log].count("begin") == 1 == done.stdout.count("parameters")
    assert log[0]["batch"] == 8
    losses = [event["loss"] for event in log if event["event"] == "progress"]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])

    # the same by hand: one process, both batches
    config = make()
    net = build_network(config)
    adam = torch.optim.Adam(net.parameters(), lr=1.0, betas=config.optimiser.betas)
    streams = [
        Stream(make_source(config, 0, rank), config.data, 4, (0, 2, rank)) for rank in (0, 1)
    ]
    for step in range(config.optimiser.steps):
        adam.param_groups[0]["lr"] = learning_rate(step, config.optimiser)
        adam.zero_grad()
        for rank, stream in enumerate(streams):
            clean = next(stream)
            sigma, normal = noise_of_step(config, clean, rank, step)
            loss = denoising_loss(net, clean, sigma, normal, config.noise.sigma_data)
            (loss / 2).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), config.optimiser.clip)
        adam.step()
    start = build_network(config).state_dict()
    for key, value in net.state_dict().items():
        moved = float((value - start[key]).norm())
        assert float((value - ranks[0][key]).norm()) < 0.01 * moved + 1e-6, key


@pytest.mark.parametrize(
    ("environment", "expected", "first"),
    [
        ({}, (3, 1), True),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8", "RANK": "4",
          "LOCAL_RANK": "0"}, (4, 2), False),
        ({"SLURM_JOB_NAME": "train", "SLURM_NTASKS": "16", "SLURM_PROCID": "0",
          "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "8"}, (8, 2), True),
        ({"SLURM_JOB_NAME": "interactive", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, (3, 1), True),
    ],
)  # fmt: skip
def test_launchers_say_how_many_processes(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str],
    expected: tuple[int, int], first: bool,
) -> None:  # fmt: skip
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "SLURM_JOB_NAME", "SLURM_NTASKS",
                 "SLURM_PROCID"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes(RunSection(devices=3)) == expected
    assert is_first_process() is first
