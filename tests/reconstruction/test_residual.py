"""What the report says of the residual: grain where the model is right, structure where not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sciinv.baselines import cg_sense, sirt
from sciinv.data.simulate import birdcage_maps, simulate_mri
from sciinv.reconstruction.build import build_model
from sciinv.report.page import grain

from .conftest import blob, ct, disc


def ct_residual(shift: float) -> np.ndarray:
    """Residual of a fit to a scan whose rotation axis is ``shift`` pixels from where it is said."""
    image = 0.02 * (disc(48, radius=17) - 0.6 * disc(48, (5, -6), 5) + 0.5 * disc(48, (-8, 3), 3))
    scan = ct(image, num_angles=90, noise_std=0.01)
    moved = replace(scan.geometry, axis_shift=scan.geometry.axis_shift + shift)
    model = build_model(scan.with_(geometry=moved), 0, noise_std=0.01)
    return model.residual_map(sirt(model.y, model.physics, iterations=60, nonneg=True))


def test_a_shifted_rotation_axis_shows():
    right, wrong = ct_residual(0.0), ct_residual(1.5)
    assert abs(grain(right)) < 0.1 < 0.3 < grain(wrong)


def mri_residual(turn: bool) -> np.ndarray:
    scan = simulate_mri(
        blob(), coil_maps=birdcage_maps(4, (32, 32)), noise_std=0.01, acceleration=1.5,
        calibration_lines=10, include_maps=True, rng=1,
    )  # fmt: skip
    if turn:
        scan = scan.with_(coil_maps=np.ascontiguousarray(scan.coil_maps[:, [1, 2, 3, 0]]))
    model = build_model(scan, 0, noise_std=0.01)
    return model.residual_map(cg_sense(model.y, model.physics, lam=1e-3))


def test_wrong_coil_maps_show():
    right, wrong = mri_residual(False), mri_residual(True)
    assert grain(wrong) > grain(right) + 0.2
