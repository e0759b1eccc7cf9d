"""Coil maps and phase a second time: nearer to the true ones, and only where they can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv.channels import to_channels
from sciinv.data.scan import Scan
from sciinv.data.simulate import birdcage_maps, simulate_mri, simulate_noncartesian
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.refine import can_refine, refine_maps
from sciinv.reconstruction.run import reconstruct

from .conftest import FAST, disc

N = 48
TRUE_MAPS = birdcage_maps(4, (N, N))


def head() -> np.ndarray:
    """Discs in a disc, with a phase of some turns."""
    image = disc(N, radius=18) - 0.5 * disc(N, (-5, 4), 7) + 0.4 * disc(N, (7, -6), 4)
    row, column = np.mgrid[:N, :N] / N - 0.5
    return image * np.exp(2j * np.pi * (2.5 * row**2 + column - 1.5 * row * column))


def lines(**changes) -> Scan:
    options = {"coil_maps": TRUE_MAPS, "acceleration": 4.0, "calibration_lines": 8,
               "noise_std": 0.005, "rng": 3}  # fmt: skip
    return simulate_mri(head(), **{**options, **changes})


def radial() -> Scan:
    return simulate_noncartesian(head(), coil_maps=TRUE_MAPS, shots=40, noise_std=0.005, rng=3)


def errors(model: Model) -> tuple[float, float]:
    """Relative error of the maps, any common phase allowed, and of the phase of the object."""
    inside = np.abs(head()) > 0.1
    maps = model.physics.coil_maps[0].numpy()[:, inside]
    true = TRUE_MAPS[:, inside] / np.linalg.norm(TRUE_MAPS[:, inside], axis=0)
    shared = np.abs((maps.conj() * true).sum(0)) / np.linalg.norm(maps, axis=0)
    # what is left of the object's phase when the maps have taken theirs
    left = (maps.conj() * true).sum(0) * head()[inside]
    return float(np.sqrt(1 - shared.mean() ** 2)), float(np.abs(np.angle(left)).mean())


def true_image(model: Model) -> torch.Tensor:
    """The true object as the model sees it."""
    maps = model.physics.coil_maps[0]
    combined = (maps.conj() * torch.from_numpy(TRUE_MAPS * head()[None])).sum(0)
    power = maps.abs().square().sum(0).clamp_min(1e-6)
    return to_channels((combined / power / model.scale)[None]).float()


@pytest.mark.parametrize(
    ("make", "share"),
    [
        (lines, 0.9),
        (lambda: lines(pattern="poisson", calibration_lines=10), 0.9),
        # the centre of a radial scan is wide already: the maps need not gain, the phase does
        (radial, 1.05),
    ],
    ids=["lines", "square", "radial"],
)
def test_maps_and_phase_come_nearer_to_the_truth(make, share):
    model = build_model(make(), 0)
    assert can_refine(model)
    image = true_image(model)
    better, turned = refine_maps(model, image)
    before, after = errors(model), errors(better)
    assert after[0] < share * before[0]
    assert after[1] < 0.8 * before[1]
    # the same image in the user's eyes, and none of what the first model held has changed
    np.testing.assert_allclose(better.to_physical(turned), model.to_physical(image), atol=1e-5)
    assert errors(model) == before


def test_what_is_known_or_wide_stays():
    # maps of the file, all lines, a wide calibration region
    for scan in (
        lines(include_maps=True),
        lines(acceleration=1.0),
        lines(acceleration=1.2, calibration_lines=32),
    ):
        assert not can_refine(build_model(scan, 0))


def test_reconstruction_with_few_calibration_lines_gains():
    scan = lines()
    with_lines = reconstruct(scan, seed=1, **FAST)
    without = reconstruct(scan, seed=1, refine_maps=False, **FAST)
    inside = np.abs(head()) > 0.1
    better, worse = (
        float(np.linalg.norm((r.mean[0] - scan.reference[0])[inside]))
        for r in (with_lines, without)
    )
    assert "coil maps" in with_lines.stats["timings"]
    assert "coil maps" not in without.stats["timings"]
    assert better < worse
