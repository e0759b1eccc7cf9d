"""A command line in this process, and small scans that are made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sciinv.cli import app
from sciinv.data.native import write_scan
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import simulate_ct, simulate_mri
from sciinv.priors.network import UNet
from sciinv.priors.precondition import EDMDenoiser
from sciinv.priors.store import save

FAST = ("--samples", "3", "--steps", "3", "--krylov", "2")
# files of the shipped priors, and their channels
TOYS = {"mri": 2, "ct": 1, "generic_1ch": 1, "generic_2ch": 2}


@dataclass
class Ran:
    code: int
    out: str
    err: str


def run(*words: object) -> Ran:
    """Run ``sciinv words`` in this process."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    return Ran(done.exit_code, done.stdout, done.stderr)


def refused(ran: Ran, *words: str, code: int = 1) -> str:
    """Expect an exit code and one line on standard error that holds all words."""
    assert ran.code == code, (ran.code, ran.out, ran.err)
    assert ran.err.startswith("sciinv: ")
    assert ran.err.count("\n") == 1 and ran.err.endswith("\n"), ran.err
    assert "Traceback" not in ran.err + ran.out
    assert "not expected;" not in ran.err, ran.err
    for word in words:
        assert word in ran.err, ran.err
    return ran.err


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """Folder with ``mri.h5`` (3 coils), ``stack.h5`` (2 slices) and ``ct.h5``, 32 x 32."""
    folder = tmp_path_factory.mktemp("scans")
    image = shepp_logan((32, 32))
    options = {"coils": 3, "acceleration": 2.0, "calibration_lines": 8, "noise_std": 0.02}
    write_scan(simulate_mri(image, rng=1, **options), folder / "mri.h5")
    stack = np.stack([image, image[::-1]])
    write_scan(simulate_mri(stack, rng=1, **options), folder / "stack.h5")
    ct = simulate_ct(0.02 * np.clip(image, 0, None), num_angles=24, dose=1e4, rng=1)
    write_scan(ct, folder / "ct.h5")
    return folder


@pytest.fixture(scope="session")
def result(scans, small_priors, tmp_path_factory) -> tuple[Path, Ran]:
    """One saved reconstruction, and what the command wrote to the console."""
    folder = tmp_path_factory.mktemp("out") / "mri"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciinv.priors.store.SHIPPED", small_priors)
        return folder, run("reconstruct", scans / "mri.h5", "-o", folder, "--seed", 3, *FAST)


def toy_prior(channels: int) -> EDMDenoiser:
    """A small network whose output layer is still zero: exactly the prior N(0, 0.35^2)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet(channels, widths=(4, 6), features=8)
    return EDMDenoiser(
        net, sigma_data=0.35, sigma_min=0.01, sigma_max=10.0, channels=channels,
        card={"name": "toy", "description": "nothing"},
    )  # fmt: skip


@pytest.fixture(scope="session")
def small_priors(tmp_path_factory) -> Path:
    """Folder of small priors in place of the shipped ones: fast, and there before any training."""
    folder = tmp_path_factory.mktemp("shipped")
    for name, channels in TOYS.items():
        save(toy_prior(channels), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module", autouse=True)
def shipped(small_priors) -> Iterator[Path]:
    """The small priors in place of the shipped ones, for the tests of this folder only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciinv.priors.store.SHIPPED", small_priors)
        yield small_priors
