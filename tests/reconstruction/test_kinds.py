"""Non-Cartesian MRI, fan beams and diffraction through the main job, on simulated scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sciinv.priors
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import (
    simulate_diffraction,
    simulate_fan,
    simulate_mri,
    simulate_noncartesian,
)
from sciinv.errors import DataError, IncompatibleError
from sciinv.metrics.ambiguity import align
from sciinv.operators import radial_trajectory
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.mri_model import Coils
from sciinv.reconstruction.run import plan_run, reconstruct

from .conftest import blob, disc, mri

# krylov 3, which the other tests take, does not solve the data system of these operators
SHIPPED = Path(sciinv.priors.__file__).parent / "shipped" / "generic_2ch.safetensors"
FAST = {"num_samples": 3, "steps": 4, "krylov": 12}


def radial(**changes):
    options = {"shots": 60, "samples": 64, "coils": 4, "noise_std": 0.01, "rng": 1}
    return simulate_noncartesian(blob(), **{**options, **changes})


def fan(**changes):
    options = {"num_angles": 80, "noise_std": 0.002, "rng": 1}
    return simulate_fan(0.02 * np.abs(blob()), **{**options, **changes})


def crystal(volume=False, **changes):
    """A lopsided object of 12 pixels with a little phase."""
    x = disc(24, radius=5) * (1 + 0.5 * disc(24, centre=(-2, 3), radius=2.5))
    x = x * np.exp(0.3j * np.linspace(-1, 1, 24))
    if volume:
        x = np.array([x * w for w in (0, 0, 0.4, 0.8, 1, 0.7, 0, 0)])
    return crystal_of(x, volume=volume, **changes)


def crystal_of(x, **changes):
    return simulate_diffraction(x, **{"photons": 1e6, "rng": 1, **changes})


def error(result) -> float:
    seen = result.visible
    truth = np.abs(result.reference)[seen]
    return float(np.linalg.norm(result.mean[seen] - truth) / np.linalg.norm(truth))


def test_noncartesian_fits_and_its_baseline_is_the_truth():
    result = reconstruct(radial(), seed=5, **FAST)
    assert result.samples.shape == (3, 1, 32, 32)
    assert (result.kind, result.baseline_name) == ("mri", "CG-SENSE")
    assert error(replace(result, samples=result.baseline[None])) < 0.04
    # spokes leave the corners of k-space to the prior, which is white noise here: of 28 % of the
    # pixels' variance (0.35 of the scale, which is 1 of 1.5) only the share 1 - pi / 4 is free
    assert error(result) < 0.35
    assert result.residual.shape == (60, 64)
    assert result.provenance["operator"]["operator"] == "NonCartesianMRI"
    assert 0.7 < result.chi_squared < 1.3


def test_noncartesian_is_not_turned_or_mirrored():
    result = reconstruct(radial(), seed=5, **FAST)
    seen, truth = result.visible[0], np.abs(result.reference[0])
    for image, times in ((result.baseline_magnitude[0], 3), (result.mean[0], 1.2)):
        right = np.linalg.norm((image - truth)[seen])
        for wrong in (truth[::-1], truth[:, ::-1], truth.T, np.roll(truth, 1, 0)):
            assert np.linalg.norm((image - wrong)[seen]) > times * right


@pytest.mark.parametrize("cartesian", [True, False])
def test_volumes_are_denoised_slice_by_slice(cartesian):
    sizes = 8 * np.sqrt(np.clip(1 - ((np.arange(10) - 5) / 5) ** 2, 0, 1))
    volume = np.array([disc(20, radius=r + 0.01) for r in sizes]) * np.exp(0.3j)
    options = {"volume": True, "coils": 4, "noise_std": 0.01, "rng": 1}
    if cartesian:
        scan = simulate_mri(volume, acceleration=2.0, calibration_lines=10, **options)
    else:
        spokes = radial_trajectory((10, 20, 20), spokes=400)
        scan = simulate_noncartesian(volume, trajectory=spokes, **options)
    # calibration draws twice more, which is slow off the grid and has tests of its own
    result = reconstruct(
        scan, prior=SHIPPED, seed=5, num_samples=2, steps=6, krylov=16, calibrate=cartesian
    )
    assert result.samples.shape == (2, 1, 10, 20, 20)
    assert error(result) < 0.12
    assert 0.6 < result.chi_squared < 1.5
    # the ball is not in the middle of its slices
    truth = np.abs(result.reference)
    right, turned = (np.linalg.norm(result.mean - t) for t in (truth, truth[:, ::-1]))
    assert turned > 1.5 * right


def test_signal_that_the_model_misses_counts_less():
    scan = radial()
    # every spoke with its own gain: the error is a share of the signal, largest in the middle
    gain = 1 + 0.3 * np.random.default_rng(0).standard_normal((60, 1))
    broken = scan.with_(data=(scan.data * gain).astype(np.complex64))
    right, wrong = (build_model(s, 0) for s in (scan, broken))
    assert right.excess < 2 < wrong.excess
    weights = wrong.physics.weights.reshape(60, 64)
    radius = np.linalg.norm(scan.geometry.trajectory, axis=-1)
    assert weights[radius < 2].mean() < 0.5 * weights[radius > 14].mean()
    # chi-squared of the weighted data is then about one
    assert 0.5 < wrong.misfit(wrong.preview) < 1.5
    result = reconstruct(broken, seed=5, **FAST)
    assert any("misses the data by up to" in w for w in result.warnings)
    assert error(result) < 0.45


@pytest.mark.parametrize("make", [radial, lambda: mri(blob(), coils=6)])
def test_fewer_coils_and_white_noise_give_the_same_image(make):
    scan = make()
    told = []
    model = build_model(scan, 0, coils=Coils(3, True), say=lambda p, t: told.append(t))
    assert model.physics.coils == 3
    assert model.noise == 1.0
    assert any("compressed to 3" in t for t in told)
    plain = reconstruct(scan, seed=5, **FAST)
    fewer = reconstruct(scan, seed=5, coils=3, **FAST)
    mixed = reconstruct(scan, seed=5, coils=3, prewhiten=True, **FAST)

    def difference(result) -> float:
        # of the baselines: samples of the white prior differ by a quarter from seed to seed
        a, b = (np.where(plain.visible, r.baseline_magnitude, 0) for r in (plain, result))
        return float(np.linalg.norm((a * b).sum() / (b * b).sum() * b - a) / np.linalg.norm(a))

    assert fewer.provenance["operator"]["coils"] == "3"
    assert fewer.provenance["noise"] == plain.provenance["noise"]
    assert difference(fewer) < 0.04
    assert mixed.provenance["operator"]["coils"] == "3"
    assert mixed.provenance["noise"] == 1.0
    assert 0.7 < mixed.chi_squared < 1.3
    # the image is the root sum of squares of the whitened coils, which shades it: on 32 x 32 pixels
    # the outer samples that give the covariance still hold signal
    assert difference(mixed) < 0.25


def test_wrong_maps_are_told():
    scan = mri(blob(), coils=4, include_maps=True)
    assert not build_model(scan, 0).warnings
    turned = scan.with_(coil_maps=np.ascontiguousarray(scan.coil_maps[:, ::-1]))
    assert any("poor" in w for w in build_model(turned, 0).warnings)


def test_fan_beam_is_quantitative_and_upright():
    result = reconstruct(fan(), seed=5, **FAST)
    assert (result.kind, result.units) == ("ct", "1/mm")
    assert error(result) < 0.12
    truth = result.reference[0]
    for wrong in (truth[::-1], truth[:, ::-1], truth.T):
        assert np.linalg.norm(result.mean[0] - wrong) > 1.5 * np.linalg.norm(result.mean[0] - truth)
    inside = disc(radius=8) * (1 - disc(centre=(-6, 4), radius=5)) > 0.99
    assert abs(result.mean[0][inside].mean() / 0.01 - 1) < 0.03
    assert result.residual.shape == (80, fan().geometry.num_detectors)


def test_fan_beam_photon_counts():
    result = reconstruct(fan(noise_std=0.0, dose=2000.0), seed=5, **FAST)
    # noise of the white prior in every pixel, but no bias: counts fall to exp(-0.24) of 2000
    inside = disc(radius=8) * (1 - disc(centre=(-6, 4), radius=5)) > 0.99
    assert abs(result.mean[0][inside].mean() / 0.01 - 1) < 0.03
    assert 0.5 < result.chi_squared < 1.5


@pytest.mark.parametrize("volume", [False, True])
def test_diffraction_finds_the_object_up_to_what_no_pattern_tells(volume):
    scan = crystal(volume)
    result = reconstruct(scan, seed=5, num_samples=2, prior=SHIPPED)
    assert (result.kind, result.baseline_name) == ("diffraction", "hybrid input-output")
    assert result.samples.shape == (2, 1, *scan.image_shape)
    assert result.visible.mean() < 1
    truth = scan.reference[0]
    found = np.abs(align(result.samples[0, 0], truth.astype(complex)))
    # 80 pixels of the plane, or four slices of them, from 1e6 photons: 0.14 to 0.28 was seen
    assert np.linalg.norm(found - np.abs(truth)) < 0.32 * np.linalg.norm(truth)
    assert 0.3 < result.chi_squared < 1.5
    assert any("conjugate twin" in note for note in result.notes)
    assert result.residual.shape == scan.geometry.pattern_shape


def test_diffraction_with_another_solver_or_noise_is_refused():
    with pytest.raises(
        IncompatibleError, match=r"PnPHQS.*a linear operator.*solvers that fit: .*DPS"
    ):
        reconstruct(crystal(), solver="PnPHQS", **FAST)
    with pytest.raises(DataError, match="photon counts"):
        plan_run(crystal(), noise_std=0.1)


def test_a_beam_stop_is_not_zero_intensity():
    scan = crystal(beam_stop=1.0)
    assert not scan.valid.all()
    model = build_model(scan, 0)
    assert model.physics.measurement_count() == int(scan.valid.sum())
    assert np.isnan(model.residual_map(model.start)).sum() == (~scan.valid).sum()


def test_phasing_that_fits_but_is_not_reproducible_is_told():
    # a symmetric head that fills its grid: half-and-half mixtures explain the pattern as well
    failed = build_model(crystal_of(shepp_logan((32, 32))), 0)
    assert any("not reproducible" in w for w in failed.warnings)
    assert not build_model(crystal(), 0).warnings
