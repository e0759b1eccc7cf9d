"""Calibration on held-out data, with samples of posteriors that are known exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.data.scan import DiffractionGeometry
from sciinv.data.simulate import simulate_ct, simulate_mri, simulate_noncartesian
from sciinv.operators import CartesianMRI, whiten
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.calibration import calibrate, units_of, without
from sciinv.reconstruction.ct_model import tomograph
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.run import reconstruct

from .conftest import FAST

TAU, SIGMA = 0.35, 0.02


def mri_case(seed: int, n: int = 48, acceleration: float = 2.0):
    """A scan of white noise of standard deviation TAU, one coil without maps, and its model."""
    rng = np.random.default_rng(seed)
    image = TAU * (rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)))
    scan = simulate_mri(
        image, coils=1, acceleration=acceleration, calibration_lines=8, noise_std=SIGMA, rng=rng
    )
    mask = torch.from_numpy(scan.geometry.mask)
    physics = CartesianMRI((n, n), mask=mask, noise_model=GaussianNoise(SIGMA))
    k = torch.from_numpy(scan.data[0, 0])
    y = torch.stack([k.real, k.imag])[None]
    return scan, Model(y, physics, 1.0, SIGMA, SIGMA, 0.0, (n, n), np.ones((n, n), bool))


def exact(shrink: float, seed: int):
    """Draws of the exact posterior by Matheron's rule; A A^T is a mask, so it needs no solver."""
    generator = torch.Generator().manual_seed(seed)

    def draw(model: Model):
        physics = model.physics
        x = TAU * torch.randn((4, *physics.img_size), generator=generator)
        noise = SIGMA * torch.randn((4, *model.y.shape[1:]), generator=generator)
        gain = TAU**2 / (TAU**2 + SIGMA**2)
        drawn = x + gain * physics.A_adjoint(model.y + noise - physics.A(x))
        mean = gain * physics.A_adjoint(model.y)
        return (mean + shrink * (drawn - mean))[:, None], SIGMA

    return draw


@pytest.mark.parametrize("shrink", [1.0, 0.5])
def test_factor_of_exact_and_of_shrunk_samples(shrink):
    found = []
    for seed in range(12):
        scan, model = mri_case(seed)
        found.append(calibrate(scan, 0, model, exact(shrink, seed), seed=seed))
    measured = np.array([f.measured for f in found])
    errors = np.array([f.standard_error for f in found])
    # the mean of 4 samples errs by 1/S of their variance, which shrinks with them
    true = np.sqrt((1 + shrink**2 / 4) / (shrink**2 * (1 + 1 / 4)))
    pulls = (measured - true) / errors
    assert abs(measured.mean() - true) < 4 * measured.std(ddof=1) / np.sqrt(12)
    assert measured.mean() == pytest.approx(true, rel=0.05)
    # few units: the pulls follow Student's t rather than the normal distribution
    assert np.sqrt(np.mean(pulls**2)) < 2
    assert [f.factor for f in found] == [max(1.0, f.measured) for f in found]


def test_what_is_held_out_and_what_it_counts():
    scan, model = mri_case(0)
    found = calibrate(scan, 0, model, exact(1.0, 0))
    # 24 lines: 8 for the coils, 5 more that happen to touch them, 11 outside; a fifth, twice
    assert found.held_out == "4 of 11 lines of k-space"
    assert found.values == 4 * 2 * 48
    assert found.reason == ""
    assert "4 of 11 lines" in found.text


def test_the_samples_do_not_see_what_is_held_out():
    scan, model = mri_case(1)
    seen = []
    inner = exact(1.0, 1)

    def draw(kept: Model):
        seen.append(kept)
        return inner(kept)

    calibrate(scan, 0, model, draw)
    full = model.physics.measurement_mask != 0
    for kept in seen:
        left = kept.physics.measurement_mask != 0
        assert (
            int((full & ~left).sum())
            == units_of(scan, 0).count // 5 * 48
            == int((full != left).sum())
        )
        assert not kept.y[~left.expand(kept.y.shape)].any()
    both = [full & (kept.physics.measurement_mask == 0) for kept in seen]
    assert not bool((both[0] & both[1]).any())


def test_too_few_lines_are_named():
    scan, model = mri_case(0, acceleration=4.0)  # 12 lines, 8 of them for the coils
    found = calibrate(scan, 0, model, exact(1.0, 0))
    assert (found.factor, found.measured) == (1.0, None)
    assert "4 lines of k-space can be left out, 8 are needed" in found.text


def test_equal_samples_give_no_factor():
    scan, model = mri_case(0)
    inner = exact(0.0, 0)
    found = calibrate(scan, 0, model, inner)
    assert found.measured is None
    assert "alike" in found.reason


def ct_case(seed: int, n: int = 12, views: int = 20):
    rng = np.random.default_rng(seed)
    image = TAU * rng.normal(size=(n, n))
    scan = simulate_ct(image, num_angles=views, noise_std=0.1, rng=rng, supersample=1)
    physics = whiten(tomograph(scan.geometry, (n, n)), 0.1)
    y = physics.whiten_measurement(torch.from_numpy(scan.data[0])[None, None])
    model = Model(y, physics, 1.0, 1.0, 0.1, 0.0, tuple(scan.data.shape[1:]), np.ones((n, n), bool))
    return scan, model


def dense(seed: int):
    """Exact draws with the matrix itself."""
    generator = torch.Generator().manual_seed(seed)

    def draw(model: Model):
        physics = model.physics
        n = int(np.prod(physics.img_size))
        basis = torch.eye(n).reshape(n, *physics.img_size)
        a = physics.A(basis).flatten(1).double().T
        precision = a.T @ a + torch.eye(n) / TAU**2
        root = torch.linalg.cholesky(torch.linalg.inv(precision))
        mean = torch.linalg.solve(precision, a.T @ model.y.flatten().double())
        z = torch.randn((n, 4), generator=generator).double()
        x = (mean[:, None] + root @ z).T.float()
        return x.reshape(4, 1, *physics.img_size), 1.0

    return draw


def test_projections_of_unequal_lengths_are_calibrated_too():
    found = [calibrate(*_ct(seed), dense(seed), seed=seed).measured for seed in range(12)]
    assert abs(np.mean(found) - 1) < 4 * np.std(found, ddof=1) / np.sqrt(12)
    assert np.mean(found) == pytest.approx(1, rel=0.08)


def _ct(seed: int):
    scan, model = ct_case(seed)
    return scan, 0, model


def test_units_of_every_kind():
    radial = simulate_noncartesian(np.ones((16, 16)), shots=9, coils=1, samples=20)
    units = units_of(radial, 0)
    assert (units.count, units.name) == (9, "shots")
    assert units.label.shape == (180,)
    points = simulate_mri(np.ones((32, 32)), coils=1, pattern="poisson", calibration_lines=6)
    units = units_of(points, 0)
    assert units.name == "points of k-space"
    assert units.count == int(points.geometry.mask.sum()) - 36
    assert (units.label[13:19, 13:19] == -1).all()
    pattern = DiffractionGeometry((16, 16), (8, 8), (2.0, 2.0))
    assert "diffraction" in units_of(replace(points, geometry=pattern), 0)


def test_lines_are_ordered_outwards_and_the_calibration_stays():
    scan, _ = mri_case(0)
    label = units_of(scan, 0).label[0].numpy()
    lines = scan.geometry.mask.any(0)
    radius = np.abs(np.arange(48) - 24)
    assert (label[20:28] == -1).all()
    assert (label[~lines] == -1).all()
    outer = label >= 0
    assert outer.sum() == 11
    assert (np.diff(radius[outer][np.argsort(label[outer])]) >= 0).all()


def radial_case():
    scan = simulate_noncartesian(
        np.ones((16, 16)), shots=16, coils=2, samples=32, noise_std=0.1, rng=0, include_maps=True
    )
    return scan, build_model(scan, 0)


@pytest.mark.parametrize("case", [mri_case, ct_case, radial_case])
def test_the_kept_part_measures_as_before(case):
    scan, model = case() if case is radial_case else case(0)
    held = torch.from_numpy(np.isin(units_of(scan, 0).label.numpy(), [2, 5]))
    kept = without(model, held)
    x = torch.randn((1, *model.physics.img_size), generator=torch.Generator().manual_seed(0))
    whole, part = model.physics.A(x), kept.physics.A(x)
    assert torch.allclose(part, torch.where(held, torch.zeros(()), whole), atol=1e-6)
    normal = kept.physics.A_adjoint(part)
    assert torch.allclose(
        kept.physics.A_adjoint_A(x), normal, atol=1e-4 * float(normal.abs().max())
    )
    seen = kept.physics.measurement_mask
    assert not seen.expand(model.y.shape)[held.expand(model.y.shape)].any()
    assert kept.sigma == model.sigma


# in the main job --------------------------------------------------------------------------------
def test_reconstruct_states_what_it_found(ct_scan):
    result = reconstruct(ct_scan, seed=5, **FAST)
    found = result.std_calibration
    assert found.held_out == "16 of 40 projections"
    assert found.measured > 0
    assert found.factor == max(1.0, found.measured)
    assert np.array_equal(result.std, result.raw_std * np.float32(found.factor))
    assert result.provenance["start"]["steps"] == 32  # of the image shown, not of a fold
    again = reconstruct(ct_scan, seed=5, calibrate=False, **FAST)
    assert np.array_equal(again.samples, result.samples)
    assert np.array_equal(again.std, result.raw_std)
    assert "not asked for" in again.std_calibration.text


def test_without_time_the_reason_is_stated(ct_scan):
    result = reconstruct(ct_scan, time_budget=1e-6, **FAST)
    assert result.std_calibration.factor == 1.0
    assert "larger time budget" in result.std_calibration.text
