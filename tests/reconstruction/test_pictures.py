"""Pictures of the measurement model: coil maps as they are, and an axis that one can judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sciinv.data.simulate import simulate_fan
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.pictures import coil_pictures, pictures
from sciinv.reconstruction.run import reconstruct

from .conftest import FAST, ct, disc, mri


def test_coil_maps_are_binned_moduli():
    maps = torch.randn(1, 20, 200, 150, dtype=torch.complex64)
    found = coil_pictures(maps)
    assert found.shape == (16, 67, 50)
    np.testing.assert_allclose(found[3, 2, 5], maps[0, 3, 6:9, 15:18].abs().mean(), rtol=1e-5)
    volume = torch.randn(1, 2, 5, 20, 30, dtype=torch.complex64)
    np.testing.assert_allclose(coil_pictures(volume), volume[0, :, 2].abs(), rtol=1e-6)


@pytest.mark.parametrize("fan", [False, True])
def test_the_right_axis_is_the_best(fan):
    image = 0.02 * (disc(48, (2, -3), 16) - 0.7 * disc(48, (5, -6), 4))
    options = {"num_angles": 90, "noise_std": 0.003}
    # a fan over the full circle: an axis that is off doubles edges
    scan = simulate_fan(image, rng=1, **options) if fan else ct(image, **options)
    found = pictures(scan, build_model(scan, 0))["rotation_axis"]
    assert found.shape == (3, 48, 48) and found.dtype == np.float32
    below, right, above = (float(np.linalg.norm(picture - image)) for picture in found)
    assert right < 0.9 * min(below, above)
    # the strip moves with the axis that was taken
    pixel = scan.geometry.detector_spacing
    if not fan:
        moved = replace(scan.geometry, axis_shift=scan.geometry.axis_shift + pixel)
        wrong = scan.with_(geometry=moved)
        strip = pictures(wrong, build_model(wrong, 0))["rotation_axis"]
        np.testing.assert_allclose(strip[0], found[1], atol=1e-6)


def test_results_carry_them():
    maps = reconstruct(mri(disc()), calibrate=False, **FAST).pictures["coil_maps"]
    assert maps.shape == (4, 32, 32) and 0 < maps.max() <= 1.001
    assert set(reconstruct(ct(0.02 * disc()), calibrate=False, **FAST).pictures) == {
        "rotation_axis"
    }
