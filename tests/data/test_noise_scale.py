"""Noise estimates against simulated noise of known level; scale against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from sciinv.data import load
from sciinv.data.noise import (
    calibration_region,
    coil_noise,
    estimate_mri_noise,
    estimate_noncartesian_noise,
    estimate_sinogram_noise,
    noncartesian_coil_noise,
    sinogram_noise_map,
)
from sciinv.data.phantoms import scene, shepp_logan
from sciinv.data.scale import (
    ct_scale,
    low_resolution_magnitude,
    mri_scale,
    noncartesian_scale,
    object_mask,
)
from sciinv.data.simulate import simulate_noncartesian
from sciinv.errors import DataError


def fft(x):
    axes = tuple(range(1, x.ndim))
    shifted = np.fft.fftn(np.fft.ifftshift(x, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(shifted, axes=axes)


def disc(n=96, coils=4):
    """A smooth-edged disc seen by coils of linear sensitivity; k-space."""
    y, x = np.mgrid[:n, :n] - n / 2
    image = 1 / (1 + np.exp((np.hypot(x, y) - n / 3) / 1.5))
    weights = [1 + 0.5 * np.cos(2 * np.pi * c / coils) * x / n for c in range(coils)]
    return fft(np.stack([w * image for w in weights]).astype(complex))


def white(rng, shape, std):
    std = np.asarray(std).reshape(-1, *([1] * (len(shape) - 1)))
    return std * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def lines(n, keep, axis):
    mask = np.zeros((n, n), bool)
    mask[(slice(None), keep) if axis == 0 else keep] = True
    return mask


@pytest.mark.parametrize("readout", [0, 1, None])
@pytest.mark.parametrize("undersampled", [False, True])
def test_mri_noise_of_a_known_level(rng, readout, undersampled):
    n, std = 96, 0.02
    k = disc(n)
    k = k + white(rng, k.shape, std)
    mask = np.ones((n, n), bool)
    if undersampled:
        keep = np.r_[2, 7, 15, 26, n // 2 - 8 : n // 2 + 8, 70, 81, 90]
        mask = lines(n, keep, readout or 0)
    found = estimate_mri_noise(k * mask, mask, readout)
    # MAD of normal values: relative standard error 1.17 / sqrt(2 n), n = 2 x samples x coils,
    # at least 48 samples and 4 coils; k = 4 of them, and the little signal at the ends
    samples = 2 * 4 * max(48, mask.sum() // 20)
    assert found == pytest.approx(std, rel=4 * 1.17 / np.sqrt(2 * samples) + 0.02)


def test_coils_have_their_own_levels(rng):
    std = np.array([0.01, 0.02, 0.04, 0.08])
    k = disc()
    k = k + white(rng, k.shape, std)
    found = coil_noise(k)
    np.testing.assert_allclose(found, std, rtol=0.2)
    assert estimate_mri_noise(k) == pytest.approx(np.sqrt(np.mean(found**2)))


def test_noise_scales_with_the_data(rng):
    k = disc()
    k = k + white(rng, k.shape, 0.02)
    assert estimate_mri_noise(1e-4 * k) == pytest.approx(1e-4 * estimate_mri_noise(k))


def test_3d_noise(rng):
    k = white(rng, (2, 12, 20, 16), 0.5)
    assert estimate_mri_noise(k, readout_axis=1) == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize(
    ("mask", "word"), [(np.ones((4, 5), bool), "(4, 5)"), (np.eye(8, dtype=bool), "8 sampled")]
)
def test_mri_noise_refuses(rng, mask, word):
    with pytest.raises(DataError) as caught:
        estimate_mri_noise(white(rng, (2, 8, 8), 1.0), mask)
    assert word in str(caught.value)


@pytest.mark.data
def test_real_brain_noise_agrees_with_other_estimators(real_data):
    """Readout ends of the outer lines, and the background beside the head (not the corners)."""
    scan = load(real_data / "mri_brain16ch_fastmri.h5")
    k = scan.data[0]
    found = estimate_mri_noise(k, scan.geometry.mask, 0) / mri_scale(k)
    assert found == pytest.approx(0.013, abs=0.0005)
    image = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(k, axes=(1, 2)), norm="ortho"), axes=(1, 2)
    )
    beside = image[:, 48:80, :6] / mri_scale(k)
    assert found == pytest.approx(np.sqrt((np.abs(beside) ** 2).mean() / 2), rel=0.1)


# calibration region and scale -----------------------------------------------------------------
def test_calibration_region_of_lines():
    n = 32
    mask = lines(n, np.r_[1, 5, 12:21, 30], 0)
    assert calibration_region(mask[None] * 1.0, mask) == (slice(0, 32), slice(12, 21))


def test_calibration_region_of_a_block_and_of_everything():
    mask = np.zeros((20, 30), bool)
    mask[8:13, 10:22] = True
    mask[0, 0] = True
    assert calibration_region(mask[None] * 1.0) == (slice(8, 13), slice(10, 22))
    assert calibration_region(np.ones((1, 7, 6))) == (slice(0, 7), slice(0, 6))


def test_low_resolution_of_a_full_scan_is_the_image(rng):
    image = rng.random((3, 16, 18)) + 0j
    expected = np.sqrt((np.abs(image) ** 2).sum(0))
    np.testing.assert_allclose(low_resolution_magnitude(fft(image)), expected)
    maps = image / expected
    np.testing.assert_allclose(low_resolution_magnitude(fft(image), None, maps), expected)


def test_mri_scale_of_a_uniform_disc():
    """A disc of height 1 in each of 4 coils has combined magnitude 2; undersampled: nearly so."""
    n = 96
    y, x = np.mgrid[:n, :n] - n / 2
    k = fft(np.stack([(np.hypot(x, y) < n / 3) + 0j] * 4))
    # the mask is stated: the exact spectrum of a disc has zeros, which would count as unsampled
    assert mri_scale(k, np.ones((n, n), bool)) == pytest.approx(2.0)
    mask = lines(n, np.r_[3, 20, n // 2 - 8 : n // 2 + 8, 80], 0)
    assert mri_scale(k * mask, mask) == pytest.approx(2.0, rel=0.1)
    assert mri_scale(5 * k * mask, mask) == pytest.approx(5 * mri_scale(k * mask, mask))


def test_low_resolution_window_is_flat_then_a_cosine():
    """The spectrum of a point is flat: its peak is the sum of the window over sqrt(n)^2."""
    n, calibration = 64, 24
    image = np.zeros((1, n, n), complex)
    image[0, n // 2, n // 2] = 1.0
    mask = lines(n, np.r_[n // 2 - calibration // 2 : n // 2 + calibration // 2], 0)
    peak = low_resolution_magnitude(fft(image) * mask, mask).max()
    # half of the lines at 1, half under a squared cosine of mean 1/2
    assert peak == pytest.approx(0.75 * calibration / n, rel=1e-6)


def test_mri_scale_needs_signal():
    with pytest.raises(DataError, match="centre of k-space"):
        mri_scale(np.zeros((1, 8, 8), complex), np.ones((8, 8), bool))


def test_ct_scale_is_the_level_of_the_object(rng):
    image = 0.0005 * rng.standard_normal((80, 80))
    image[20:60, 20:60] += 0.02
    image[30:34, 30:34] += 0.02  # 1 % of the object twice as dense
    assert ct_scale(image) == pytest.approx(0.02, rel=0.05)
    assert object_mask(image).sum() == 1600
    assert ct_scale(10 * image) == pytest.approx(10 * ct_scale(image))
    with pytest.raises(DataError, match="attenuates"):
        ct_scale(np.zeros((8, 8)))


# sinograms ------------------------------------------------------------------------------------
def smooth_projections(angles=60, columns=200, height=2.0):
    s = np.linspace(-1, 1, columns)
    t = 0.2 * np.cos(np.linspace(0, np.pi, angles))
    return height * np.exp(-((s[None] - t[:, None]) ** 2) / 0.1)


def test_sinogram_noise_of_a_known_level(rng):
    p = smooth_projections()
    noisy = p + 0.03 * rng.standard_normal(p.shape)
    # 12,000 differences, correlated over three columns: standard error about 1.5 %
    assert estimate_sinogram_noise(noisy) == pytest.approx(0.03, rel=0.05)
    spoiled = noisy.copy()
    spoiled[:, 50] = 9.0  # a dead column, an outlier in three of 198 differences
    assert estimate_sinogram_noise(spoiled) == pytest.approx(0.03, rel=0.06)
    valid = np.ones(p.shape, bool)
    valid[:, 100:] = False
    noisy[:, 100:] = 7 * rng.standard_normal(noisy[:, 100:].shape)
    assert estimate_sinogram_noise(noisy, valid) == pytest.approx(0.03, rel=0.07)


def test_noise_map_of_poisson_transmission(rng):
    """-log of Poisson counts has standard deviation 1 / sqrt(mean counts)."""
    p = smooth_projections(height=2.5)
    blank = 2000.0
    counts = rng.poisson(blank * np.exp(-p))
    found = sinogram_noise_map(-np.log(counts / blank))
    expected = 1 / np.sqrt(blank * np.exp(-p))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found / expected, 1.0, atol=0.15)
    assert np.mean(found / expected) == pytest.approx(1.0, abs=0.04)
    # one level for all would be wrong by a factor of three
    assert expected.max() / expected.min() > 3


def test_noise_map_is_infinite_where_unusable(rng):
    p = smooth_projections() + 0.01 * rng.standard_normal((60, 200))
    valid = rng.random(p.shape) > 0.05
    p[~valid] = 0
    found = sinogram_noise_map(p, valid)
    np.testing.assert_array_equal(np.isinf(found), ~valid)


@pytest.mark.parametrize("shape", [(4, 5), (1, 20)])
def test_sinogram_noise_refuses(shape):
    with pytest.raises(DataError, match="expected"):
        estimate_sinogram_noise(np.zeros(shape))


@pytest.mark.data
def test_noise_map_of_real_counts(real_data, request):
    """The map, made from line integrals alone, agrees with the counts it never saw."""
    root = request.config.rootpath / "examples" / "sidecars"
    scan = load(
        real_data / "pet_transmission_phantom_trans.mat",
        sidecar=root / "pet_transmission_phantom.toml",
    )
    counts, valid, blank = scan.counts[0], scan.valid[0], scan.blank[0]
    # the map implies mean counts of 1 / std^2; bins by that, not by the noisy counts themselves
    implied = 1 / sinogram_noise_map(scan.data[0], valid, blank) ** 2
    for low, high in ((5, 10), (10, 20), (20, 40), (40, 60), (60, 100)):
        used = valid & (implied >= low) & (implied < high)
        # the smoothed line integral of few counts is biased (log of a noisy mean), hence 15 %
        assert np.mean(counts[used]) == pytest.approx(np.mean(implied[used]), rel=0.15)


# any trajectory -----------------------------------------------------------------------------------
@pytest.mark.parametrize("rate", [1.0, 4.0])
@pytest.mark.parametrize("std", [0.005, 0.02, 0.1])
def test_noise_along_oversampled_spokes(rate, std):
    """Beyond the image there is noise alone, even with sharp edges: within 10 %, as asked."""
    scan = simulate_noncartesian(
        shepp_logan((64, 64)), acceleration=rate, coils=4, noise_std=std, rng=0
    )
    k = scan.geometry.trajectory
    assert estimate_noncartesian_noise(scan.data[0], k) == pytest.approx(std, rel=0.1)
    # the outermost samples alone would not do
    if std < 0.1:
        ends = scan.data[0][:, :, [0, 1, 2, 3]]
        assert np.median(np.abs(ends.real)) / 0.6745 > 1.2 * std


def test_noise_of_an_object_that_fills_the_field_of_view():
    """Its corners reach beyond on oblique spokes, so those along the axes count."""
    rng = np.random.default_rng(3)
    x = scene((128, 128), rng, complex_=True)
    scan = simulate_noncartesian(x, acceleration=4.0, coils=4, noise_std=0.02, rng=0)
    found = estimate_noncartesian_noise(scan.data[0], scan.geometry.trajectory)
    assert found == pytest.approx(0.02, rel=0.1)


def test_noise_along_a_spiral():
    """Steps of a cycle per field of view: the outermost samples, where k-space is nearly empty."""
    n = 96
    y, x = np.mgrid[:n, :n] - n / 2
    smooth = 1 / (1 + np.exp((np.hypot(x, y) - n / 3) / 1.5))
    scan = simulate_noncartesian(smooth, trajectory="spiral", coils=4, noise_std=0.02, rng=0)
    found = estimate_noncartesian_noise(scan.data[0], scan.geometry.trajectory)
    assert found == pytest.approx(0.02, rel=0.1)


def test_coils_and_units_of_noise_along_a_trajectory(rng):
    """Pure noise: every coil has its level, and the estimate scales with the data."""
    k = simulate_noncartesian(np.ones((64, 64)), coils=1).geometry.trajectory
    levels = np.array([0.5, 1.0, 3.0])
    z = rng.standard_normal((3, *k.shape[:2], 2)) @ [1, 1j] * levels[:, None, None]
    found = noncartesian_coil_noise(z, k)
    np.testing.assert_allclose(found, levels, rtol=0.1)
    assert estimate_noncartesian_noise(z, k) == pytest.approx(np.sqrt((found**2).mean()))
    np.testing.assert_allclose(noncartesian_coil_noise(1e-6 * z, k), 1e-6 * found)


@pytest.mark.parametrize(
    ("shape", "trajectory", "word"),
    [
        ((2, 4, 8), (4, 8, 2), "32 samples"),
        ((2, 4, 80), (4, 79, 2), "trajectory"),
        ((4, 80), (4, 80, 2), "coils, shots, samples"),
    ],
)
def test_noise_along_a_trajectory_refuses(shape, trajectory, word):
    with pytest.raises(DataError, match=word):
        estimate_noncartesian_noise(np.ones(shape, complex), np.zeros(trajectory))


def test_scale_of_a_gridded_image(rng):
    x = rng.standard_normal((40, 50)) * np.exp(1j)
    assert noncartesian_scale(x) == pytest.approx(np.percentile(np.abs(x), 99))
    for bad in (np.zeros((4, 4)), np.full((4, 4), np.nan)):
        with pytest.raises(DataError, match="scale"):
            noncartesian_scale(bad)


@pytest.mark.data
def test_real_spiral_noise_agrees_with_its_last_samples(real_data, request):
    root = request.config.rootpath
    scan = load(
        real_data / "mri_spiral20ch_ksp.mat",
        sidecar=root / "examples" / "sidecars" / "mri_spiral20ch.toml",
    )
    z = scan.data[0][:, :, -8:]  # the outermost 8 of 310 samples of each shot
    coils = np.median(np.abs(np.stack([z.real, z.imag])), axis=(0, 2, 3)) / 0.6745
    found = noncartesian_coil_noise(scan.data[0], scan.geometry.trajectory)
    np.testing.assert_allclose(found, coils, rtol=0.15)
