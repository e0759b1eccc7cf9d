"""The main job on small simulated scans: scale, orientation, determinism, provenance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise

import sciinv.priors
from sciinv.data.phantoms import scene
from sciinv.data.scan import MRIGeometry
from sciinv.errors import DataError, SciinvError
from sciinv.operators import CartesianMRI
from sciinv.priors import GaussianField
from sciinv.reconstruction.progress import Progress
from sciinv.reconstruction.run import plan_run, reconstruct
from sciinv.result import Status
from sciinv.solvers import MMT, STOP

from .conftest import FAST, blob, ct, disc, mri

SHIPPED = Path(sciinv.priors.__file__).parent / "shipped" / "generic_2ch.safetensors"


@pytest.fixture(scope="module")
def mri_result(mri_scan):
    return reconstruct(mri_scan, seed=5, **FAST)


@pytest.fixture(scope="module")
def ct_result(ct_scan):
    return reconstruct(ct_scan, seed=5, **FAST)


@pytest.fixture(scope="module")
def full_result():
    """Every line measured: what is missing cannot hide a shift."""
    return reconstruct(mri(blob(), acceleration=1.0), seed=5, **FAST)


def relative_error(result) -> float:
    seen = result.visible
    truth = result.reference[seen]
    return float(np.linalg.norm(result.mean[seen] - truth) / np.linalg.norm(truth))


class Told(Progress):
    def __init__(self, stop_at=None):
        self.phases, self.steps, self.previews, self.stop_at = [], [], [], stop_at

    def phase(self, name, text, seconds=None):
        self.phases.append(f"{name}: {text}")

    def preview(self, image, name):
        self.previews.append(image)

    def step(self, done, total, info):
        self.steps.append((done, total))
        return STOP if done == self.stop_at else None


# what comes out ---------------------------------------------------------------------------------
def test_mri_has_the_shapes_and_kinds_it_says(mri_result):
    assert mri_result.samples.shape == (3, 1, 32, 32)
    assert mri_result.samples.dtype == np.complex64
    assert (mri_result.kind, mri_result.units) == ("mri", "a.u.")
    assert mri_result.baseline_name == "CG-SENSE"
    assert np.isfinite(mri_result.samples).all()


def test_fully_sampled_mri_is_the_truth_to_the_noise(full_result):
    # noise 0.01 on values of 0.5 to 1.5, and Gibbs-free edges
    assert relative_error(full_result) < 0.05


def test_ct_has_the_shapes_and_kinds_it_says(ct_result):
    assert ct_result.samples.shape == (3, 1, 32, 32)
    assert ct_result.samples.dtype == np.float32
    assert (ct_result.kind, ct_result.units) == ("ct", "1/mm")
    assert relative_error(ct_result) < 0.25


@pytest.mark.parametrize(("name", "count"), [("mri", 2 * 4 * 32 * 16), ("ct", 40 * 47)])
def test_samples_differ_and_the_tolerance_counts_the_data(name, count, request):
    result = request.getfixturevalue(f"{name}_result")
    assert result.std[result.visible].mean() > 0
    assert result.chi_squared_tolerance == pytest.approx(np.sqrt(2 / count), rel=1e-6)
    assert result.status is Status.of_fit(result.chi_squared, result.chi_squared_tolerance)


@pytest.mark.parametrize("name", ["full", "ct"])
def test_off_centre_object_lies_where_the_reference_has_it(name, request):
    result = request.getfixturevalue(f"{name}_result")
    for image in (result.mean, result.baseline_magnitude):
        # the fourth power: the blob, not the disc around it
        found, true = (
            [np.average(np.indices((32, 32))[i], weights=a[0].astype(float) ** 4) for i in (0, 1)]
            for a in (image, result.reference)
        )
        # half a pixel: a shift or flip is 8 or more
        assert np.abs(np.subtract(found, true)).max() < 0.5


def test_affine_places_the_slices_that_were_asked_for():
    stack = ct(0.02 * np.stack([disc(16, radius=r) for r in (3, 4, 5)]), slice_spacing=2.5)
    result = reconstruct(stack, slices=slice(1, 3), **FAST)
    assert result.samples.shape[:2] == (3, 2)
    assert np.array_equal(result.reference, stack.reference[1:])
    moved = result.affine @ [0, 0, 0, 1] - stack.affine @ [0, 0, 1, 1]
    assert np.abs(moved).max() < 1e-12
    # larger discs hold more: the slices are in order
    totals = result.mean.sum(axis=(1, 2))
    assert totals[1] > 1.2 * totals[0]


# physical units ---------------------------------------------------------------------------------
def test_attenuation_of_a_disc():
    scan = ct(0.03 * disc(radius=11), num_angles=48, pixel_size=2.0)
    result = reconstruct(scan, **FAST)
    inside = disc(radius=8) == 1
    # 3 %: the shrinkage of the toy prior, and noise
    assert result.mean[0][inside].mean() == pytest.approx(0.03, rel=0.03)
    assert result.baseline[0][inside].mean() == pytest.approx(0.03, rel=0.03)


@pytest.mark.parametrize("factor", [1000.0, 1e-4])
def test_unit_of_kspace_is_the_unit_of_the_image(mri_scan, factor):
    plain = replace(mri_scan, noise_std=None)  # a stated level would not be scaled along
    first = reconstruct(plain, seed=5, **FAST)
    scaled = reconstruct(replace(plain, data=plain.data * np.float32(factor)), seed=5, **FAST)
    error = np.abs(scaled.samples / factor - first.samples).max()
    # float32 through coil maps, CG, Krylov solver and network
    assert error < 2e-3 * np.abs(first.samples).max()
    assert scaled.chi_squared == pytest.approx(first.chi_squared, rel=1e-3)
    assert scaled.provenance["noise"] == pytest.approx(factor * first.provenance["noise"], rel=1e-4)


def test_lengths_scale_attenuation(ct_scan, ct_result):
    """The same line integrals from pixels of twice the size: half the attenuation."""
    g = ct_scan.geometry
    wide = replace(g, pixel_size=2 * g.pixel_size, detector_spacing=2 * g.detector_spacing)
    half = reconstruct(replace(ct_scan, geometry=wide), seed=5, **FAST)
    error = np.abs(2 * half.samples - ct_result.samples).max()
    assert error < 2e-3 * np.abs(ct_result.samples).max()


# determinism ------------------------------------------------------------------------------------
def test_same_seed_same_bits(mri_scan, mri_result):
    again = reconstruct(mri_scan, seed=5, **FAST)
    assert np.array_equal(again.samples, mri_result.samples)
    other = reconstruct(mri_scan, seed=6, **FAST)
    assert not np.array_equal(other.samples, mri_result.samples)


@pytest.mark.parametrize("name", ["mri", "ct"])
def test_samples_do_not_depend_on_their_number(name, request):
    """To rounding: other batch sizes add in another order, which few Krylov vectors amplify."""
    scan, result = (request.getfixturevalue(f"{name}_{what}") for what in ("scan", "result"))
    two = reconstruct(scan, seed=5, **{**FAST, "num_samples": 2})
    one_by_one = reconstruct(scan, seed=5, max_batch=1, **FAST)
    largest = np.abs(result.samples).max()
    assert np.abs(two.samples - result.samples[:2]).max() < 2e-3 * largest
    assert np.abs(one_by_one.samples - result.samples).max() < 2e-3 * largest
    assert np.abs(result.samples[0] - result.samples[1]).max() > 0.05 * largest


def test_a_slice_does_not_depend_on_the_others():
    stack = mri(np.stack([disc(radius=9), disc(centre=(2, 3), radius=6)]))
    both = reconstruct(stack, seed=5, **FAST)
    second = reconstruct(stack, seed=5, slices=slice(1, 2), **FAST)
    assert np.array_equal(second.samples[:, 0], both.samples[:, 1])
    assert not np.array_equal(both.samples[:, 0], both.samples[:, 1])


# truth ------------------------------------------------------------------------------------------
def test_samples_follow_the_exact_posterior_of_a_gaussian_prior():
    """A complex image drawn from the prior, R = 2, four coils; scale 1 and noise as stated."""
    prior = GaussianField.power_law((16, 16), channels=2, std=0.5)
    drawn = prior.sample(1, generator=3)[0].numpy()
    scan = mri(drawn[0] + 1j * drawn[1], noise_std=0.05, calibration_lines=4, include_maps=True)
    result = reconstruct(
        scan, prior=prior, solver=lambda p: MMT(p, steps=10, krylov=30), num_samples=64, scale=1.0
    )
    assert scan.coil_maps is not None
    physics = CartesianMRI(
        (16, 16), mask=torch.from_numpy(scan.geometry.mask),
        coil_maps=torch.from_numpy(scan.coil_maps), noise_model=GaussianNoise(0.05),
        dtype=torch.float64,
    )  # fmt: skip
    y = torch.view_as_real(torch.from_numpy(scan.data)).movedim(-1, 1).double()
    posterior = prior.posterior(y, physics)
    samples = np.stack([result.samples[:, 0].real, result.samples[:, 0].imag], axis=1)
    std = posterior.std[0].numpy()
    assert result.visible.all()
    # 512 components of 64 samples: the mean of squared standard errors is 1 with deviation 0.06,
    # more where components are correlated
    error = (samples.mean(0) - posterior.mean[0].numpy()) / (std / 8)
    assert 0.7 < (error**2).mean() < 1.4
    # the variance has a relative deviation of sqrt(2 / 63) for one component, 1 % for 512
    assert (samples.var(0, ddof=1) / std**2).mean() == pytest.approx(1.0, abs=0.06)
    assert result.chi_squared == pytest.approx(1.0, abs=4 * result.chi_squared_tolerance)
    assert result.status is Status.DONE


@pytest.mark.skipif(not SHIPPED.is_file(), reason="no prior is shipped yet")
def test_shipped_prior_beats_cg_sense_at_four_times_undersampling():
    image = scene((64, 64), np.random.default_rng(7), complex_=True)
    scan = mri(image, coils=6, acceleration=4.0, calibration_lines=12, noise_std=0.02)
    result = reconstruct(scan, prior=SHIPPED, num_samples=4, steps=8, krylov=4)
    seen = result.visible
    errors = [
        float(np.linalg.norm((image - result.reference)[seen]))
        for image in (result.mean, result.baseline_magnitude)
    ]
    assert errors[0] < errors[1]


# options ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", ["MMT", "mmt", "MomentMatching", "DPS", "PnPHQS"])
def test_solver_by_name(mri_scan, solver):
    result = reconstruct(mri_scan, solver=solver, num_samples=2, steps=4)
    assert result.provenance["solver"]["name"].lower() == solver.lower()
    assert result.provenance["solver"]["steps"] == 4
    assert result.stats["steps"] == 4
    assert np.isfinite(result.samples).all()


def test_krylov_reaches_the_named_solver(mri_scan):
    result = reconstruct(mri_scan, solver="MMT", num_samples=1, steps=2, krylov=4)
    assert result.provenance["solver"]["krylov"] == 4


def test_solver_from_a_factory(ct_scan):
    result = reconstruct(ct_scan, solver=lambda prior: MMT(prior, steps=2, krylov=2), num_samples=2)
    assert result.provenance["solver"]["steps"] == 2


def test_prior_from_a_callable(mri_scan, mri_result):
    calls = []

    def shrink(x, sigma):
        calls.append(float(sigma))
        return x * 0.1225 / (0.1225 + sigma**2)

    shrink.sigma_min, shrink.sigma_max = 0.01, 10.0
    result = reconstruct(mri_scan, prior=shrink, seed=5, **FAST)
    assert calls and result.provenance["prior"]["class"] == "function"
    # the toy network's own formula and noise levels, and the same seed: equal to rounding
    assert np.abs(result.samples - mri_result.samples).max() < 2e-3 * np.abs(result.samples).max()


@pytest.mark.parametrize("level", [0.02, 0.2])
def test_stated_noise_is_used(mri_scan, level):
    assert plan_run(mri_scan, noise_std=level, num_samples=1).noise == level
    assert plan_run(replace(mri_scan, noise_std=level), num_samples=1).noise == level


def test_counts_with_few_photons():
    scan = ct(0.05 * disc(radius=10), noise_std=0.0, dose=60.0)
    assert scan.counts is not None and scan.noise_std is None
    told = Told()
    # a smooth prior: independent pixels would be drawn to their mean by so few photons
    prior = GaussianField.power_law((32, 32), std=0.35, sigma_min=0.01, sigma_max=10.0)
    result = reconstruct(scan, prior=prior, progress=told, **FAST)
    inside = disc(radius=7) == 1
    # 8 %: Poisson noise of 60 exp(-1) photons
    assert result.mean[0][inside].mean() == pytest.approx(0.05, rel=0.08)
    assert "Poisson" in " ".join(told.phases)
    assert np.linalg.norm(result.mean - result.reference) < np.linalg.norm(
        result.baseline - result.reference
    )


def test_unusable_samples_do_not_matter(ct_scan, ct_result):
    valid = np.ones(ct_scan.data.shape, bool)
    valid[:, 3:6] = False
    data = np.where(valid, ct_scan.data, 50.0).astype(np.float32)
    result = reconstruct(replace(ct_scan, data=data, valid=valid), seed=5, **FAST)
    assert relative_error(result) < 1.5 * relative_error(ct_result)


# what is masked and said ------------------------------------------------------------------------
def test_outside_the_scanned_disc_is_masked():
    scan = ct(0.02 * disc(radius=8), num_detectors=32)
    result = reconstruct(scan, **FAST)
    assert not result.visible[0, 0, 0] and result.visible[0, 16, 16]
    assert (result.mean[~result.visible] == 0).all() and (result.std[~result.visible] == 0).all()
    assert any("outside the scanned disc" in note for note in result.notes)


def test_scan_notes_are_kept(mri_scan, mri_result):
    assert mri_scan.notes[0] in mri_result.notes
    assert any("near one point estimate" in note for note in mri_result.notes)


def test_provenance_is_plain(mri_result):
    provenance = dict(mri_result.provenance)
    assert provenance["seed"] == 5
    assert provenance["prior"]["name"] == "mri"
    assert provenance["prior"]["card"] == {"name": "toy"}
    assert provenance["solver"]["name"] == "MMT"
    assert set(provenance["versions"]) >= {"sciinv", "python", "torch", "deepinv", "astra-toolbox"}
    assert set(mri_result.stats["timings"]) >= {"model", "preview", "sampling"}
    assert mri_result.stats["nfe"] > 0 and mri_result.stats["peak_memory"] > 2**20
    json.dumps([provenance, dict(mri_result.stats)], allow_nan=False)


def test_plan_says_what_the_run_does(mri_scan, mri_result):
    plan = plan_run(mri_scan, **FAST)
    assert (plan.effort.num_samples, plan.effort.steps, plan.effort.krylov) == (3, 3, 3)
    assert plan.slices == 1 and plan.seconds > 0
    assert plan.noise == mri_result.provenance["noise"]
    assert plan.scale == mri_result.provenance["scale"]


# progress and stopping --------------------------------------------------------------------------
def test_progress_counts_to_the_end():
    stack = mri(np.stack([disc(radius=9), disc(radius=6)]))
    told = Told()
    result = reconstruct(stack, progress=told, max_batch=2, **FAST)
    # 2 slices x 2 blocks (2 and 1 samples) x 3 steps
    assert told.steps == [(i, 12) for i in range(1, 13)]
    assert len(told.previews) == 1
    assert np.array_equal(told.previews[0], result.baseline[:1])


def test_stopped_after_a_block_keeps_its_samples(mri_scan, mri_result):
    result = reconstruct(mri_scan, seed=5, progress=Told(stop_at=7), max_batch=1, **FAST)
    assert result.status is Status.STOPPED
    assert result.num_samples == 2
    largest = np.abs(mri_result.samples).max()
    assert np.abs(result.samples - mri_result.samples[:2]).max() < 1e-4 * largest


def test_stopped_in_the_second_slice_keeps_the_first():
    stack = mri(np.stack([disc(radius=9), disc(radius=6)]))
    result = reconstruct(stack, progress=Told(stop_at=4), **FAST)
    assert result.status is Status.STOPPED
    assert result.samples.shape[:2] == (3, 1)
    assert result.reference.shape[0] == 1


def test_stopped_before_anything_is_finished(mri_scan):
    with pytest.raises(KeyboardInterrupt):
        reconstruct(mri_scan, progress=Told(stop_at=1), **FAST)


# refusals ---------------------------------------------------------------------------------------
def test_no_slice(mri_scan):
    with pytest.raises(DataError, match=r"slices.*0 to 0"):
        reconstruct(mri_scan, slices=slice(3, 5))


def test_unknown_solver(mri_scan):
    with pytest.raises(SciinvError, match=r"'Magic'.*MMT"):
        reconstruct(mri_scan, solver="Magic")


def test_no_signal_in_the_centre(mri_scan):
    data = np.zeros_like(mri_scan.data)
    data[..., 0, 0] = 1
    geometry = MRIGeometry(image_shape=(32, 32), mask=mri_scan.geometry.mask)
    with pytest.raises(SciinvError):
        reconstruct(replace(mri_scan, data=data, geometry=geometry), **FAST)
