"""Small priors in place of the shipped ones, and small scans with known truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv.data.scan import Scan
from sciinv.data.simulate import simulate_ct, simulate_mri
from sciinv.priors.network import UNet
from sciinv.priors.precondition import EDMDenoiser
from sciinv.priors.store import save

FAST = {"num_samples": 3, "steps": 3, "krylov": 3}
# files of the shipped priors, and their channels
TOYS = {"mri": 2, "ct": 1, "generic_1ch": 1, "generic_2ch": 2}


@pytest.fixture(scope="session")
def small_priors(tmp_path_factory) -> Path:
    """Folder of small priors: their output layer is zero, so they are exactly N(0, 0.35^2)."""
    folder = tmp_path_factory.mktemp("shipped")
    for name, channels in TOYS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = UNet(channels, widths=(4, 6), features=8)
        denoiser = EDMDenoiser(
            net, sigma_data=0.35, sigma_min=0.01, sigma_max=10.0, channels=channels,
            card={"name": "toy"},
        )  # fmt: skip
        save(denoiser, folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module", autouse=True)
def shipped(small_priors) -> Iterator[Path]:
    """The small priors in place of the shipped ones, for the tests of this folder only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciinv.priors.store.SHIPPED", small_priors)
        yield small_priors


def disc(n: int = 32, centre: tuple[float, float] = (0.0, 0.0), radius: float = 10.0):
    """A disc of value 1, antialiased; the centre counts rows and columns from the middle."""
    fine = 4
    at = (np.arange(n * fine) + 0.5) / fine - 0.5 - (n - 1) / 2
    inside = np.hypot(at[:, None] - centre[0], at[None] - centre[1]) <= radius
    return inside.reshape(n, fine, n, fine).mean(axis=(1, 3))


def mri(image, **changes) -> Scan:
    options = {"coils": 4, "acceleration": 2.0, "calibration_lines": 10, "noise_std": 0.01,
               "rng": 1}  # fmt: skip
    return simulate_mri(image, **{**options, **changes})


def ct(image, **changes) -> Scan:
    return simulate_ct(image, **{"num_angles": 40, "noise_std": 0.002, "rng": 1, **changes})


def blob():
    """A complex object with a bright blob off centre, no side alike."""
    return (disc(radius=12) * 0.5 + disc(centre=(-6, 4), radius=3)) * np.exp(0.4j)


@pytest.fixture(scope="session")
def mri_scan() -> Scan:
    return mri(blob())


@pytest.fixture(scope="session")
def ct_scan() -> Scan:
    return ct(0.02 * np.abs(blob()))
