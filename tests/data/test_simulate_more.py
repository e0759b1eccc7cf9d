"""Simulated trajectories, fan beam and diffraction against sums, chords and photon statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sciinv.data import (
    DiffractionGeometry,
    FanGeometry,
    NonCartesianGeometry,
    load,
    write_scan,
)
from sciinv.data.checks import check_scan
from sciinv.data.simulate import (
    birdcage_maps,
    simulate_ct,
    simulate_diffraction,
    simulate_fan,
    simulate_noncartesian,
    undersample,
)
from sciinv.data.simulate_noncartesian import make_trajectory
from sciinv.errors import DataError


def image(*shape, seed=0, complex_=False):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if complex_ else x


def transform(x, k):
    """Samples of one image at k (..., dim) cycles per field of view, by the sum itself."""
    flat = k.reshape(-1, k.shape[-1])
    grids = np.meshgrid(*(np.arange(n) - n // 2 for n in x.shape), indexing="ij")
    phase = sum(np.multiply.outer(flat[:, a] / n, grids[a]) for a, n in enumerate(x.shape))
    total = np.tensordot(np.exp(-2j * np.pi * phase), x, axes=x.ndim)
    return (total / math.sqrt(x.size)).reshape(k.shape[:-1])


# trajectories -------------------------------------------------------------------------------------
@pytest.mark.parametrize("trajectory", ["radial", "spiral"])
@pytest.mark.parametrize("shape", [(12, 15), (16, 16)])
def test_samples_are_the_sum_over_pixels(trajectory, shape):
    x = image(2, *shape, complex_=True)
    scan = check_scan(simulate_noncartesian(x, trajectory=trajectory, shots=5, coils=3))
    g = scan.geometry
    assert isinstance(g, NonCartesianGeometry)
    assert scan.data.shape == (2, 3, 5, g.num_samples)
    maps = birdcage_maps(3, shape)
    for s in range(2):
        for c in range(3):
            expected = transform(maps[c] * x[s], g.trajectory)
            # single precision of the scan, and 7e-6 of the gridding where that is SigPy's
            np.testing.assert_allclose(
                scan.data[s, c], expected, atol=3e-5 * np.abs(expected).max()
            )
    np.testing.assert_allclose(scan.reference, np.abs(x), rtol=1e-6)


def test_a_given_3d_trajectory_of_a_volume(rng):
    x = image(6, 8, 7)
    k = rng.uniform(-0.5, 0.5, (3, 20, 3)) * np.array(x.shape)
    scan = check_scan(simulate_noncartesian(x, trajectory=k, volume=True, coils=1))
    assert (scan.num_slices, scan.image_shape) == (1, (6, 8, 7))
    expected = transform(x, k)
    np.testing.assert_allclose(scan.data[0, 0], expected, atol=3e-5 * np.abs(expected).max())


def test_field_map_turns_the_phase_with_time():
    """A uniform off-resonance f turns the sample at time t by exp(-2 pi i f t)."""
    x, times = image(12, 12, complex_=True), 1e-4 * np.arange(24)
    options = {"trajectory": "radial", "shots": 4, "coils": 2}
    plain = simulate_noncartesian(x, **options)
    scan = simulate_noncartesian(
        x, **options, field_map=np.full((12, 12), 80.0), readout_times=times
    )
    expected = plain.data * np.exp(-2j * np.pi * 80.0 * times)
    # the phase is interpolated between time segments to 1e-4
    np.testing.assert_allclose(scan.data, expected, atol=3e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(scan.geometry.readout_times, np.stack([times] * 4))
    check_scan(scan)


def test_noise_along_a_trajectory():
    x = image(24, 24)
    options = {"trajectory": "radial", "acceleration": 0.2, "coils": 4}
    clean = simulate_noncartesian(x, **options).data
    scan = simulate_noncartesian(x, **options, noise_std=0.3, rng=1)
    noise = scan.data - clean
    count = 2 * noise.size
    for part in (noise.real, noise.imag):
        # 5 standard errors of a standard deviation
        assert abs(part.std() / 0.3 - 1) < 5 / math.sqrt(count)
        assert abs(part.mean()) < 5 * 0.3 / math.sqrt(count / 2)
    assert scan.noise_std == 0.3
    np.testing.assert_array_equal(
        scan.data, simulate_noncartesian(x, **options, noise_std=0.3, rng=1).data
    )


def test_golden_angle_spokes_and_nyquist_arms():
    k = make_trajectory("radial", (32, 32), 2.0)
    assert k.shape == (math.ceil(math.pi * 32 / 4), 64, 2)
    angles = np.unwrap(np.arctan2(k[:, 0, 0], k[:, 0, 1]), period=math.pi)
    golden = math.pi * (math.sqrt(5) - 1) / 2
    np.testing.assert_allclose(np.diff(angles) % math.pi, golden % math.pi, atol=1e-9)
    for rate in (1.0, 3.0):
        arms = make_trajectory("spiral", (48, 48), rate, shots=8)
        radius = np.hypot(arms[..., 0], arms[..., 1])
        assert radius.max() == pytest.approx(24)
        # along a ray from the centre, arms of the whole set are `rate` cycles per FOV apart
        turns = np.unwrap(np.arctan2(arms[0, 1:, 0], arms[0, 1:, 1]))
        per_turn = 2 * np.pi * (radius[0, -1] - radius[0, 1]) / (turns[-1] - turns[0])
        assert per_turn / 8 == pytest.approx(rate, rel=1e-6)
        steps = np.hypot(*np.moveaxis(np.diff(arms[0], axis=0), -1, 0))
        assert steps.max() < 1.1


def test_every_nth_shot():
    scan = simulate_noncartesian(
        image(16, 16),
        shots=9,
        field_map=np.zeros((16, 16)),
        readout_times=1e-5 * np.arange(32),
    )
    density = np.arange(9 * 32, dtype=np.float32).reshape(9, 32)
    scan = scan.with_(geometry=scan.geometry.__class__(
        **{**vars(scan.geometry), "density": density}
    ))  # fmt: skip
    fewer = check_scan(undersample(scan, 4, offset=1))
    np.testing.assert_array_equal(fewer.data, scan.data[:, :, 1::4])
    np.testing.assert_array_equal(fewer.geometry.trajectory, scan.geometry.trajectory[1::4])
    # what is kept stands for all of k-space
    assert fewer.geometry.density.sum() == pytest.approx(density.sum(), rel=1e-5)
    ratio = fewer.geometry.density / density[1::4]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
    assert fewer.geometry.readout_times.shape == (2, 32)
    assert "2 of 9 shots" in fewer.notes[-1]
    with pytest.raises(DataError, match="offset below 9"):
        undersample(scan, 2.5)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"trajectory": "zigzag"}, "zigzag"),
        ({"trajectory": "spiral", "volume": True}, "spiral"),
        ({"trajectory": np.zeros((4, 2))}, "shots, samples"),
        ({"acceleration": 0.0}, "acceleration"),
        ({"shots": 0}, "shots"),
        ({"noise_std": -1.0}, "noise_std"),
        ({"field_map": np.zeros((8, 8))}, "readout_times"),
        ({"coil_maps": np.ones((2, 4, 4))}, "coil_maps"),
    ],
)
def test_trajectory_errors(options, word):
    x = np.ones((8, 8, 8)) if options.get("volume") else np.ones((8, 8))
    with pytest.raises(ValueError, match=word):
        simulate_noncartesian(x, **options)


# fan beam -----------------------------------------------------------------------------------------
def disc(n, pixel, radius, x0, y0, fine=8):
    """A disc of 1/mm, averaged over pixels."""
    c = ((np.arange(n * fine) + 0.5) / fine - n / 2) * pixel
    inside = (c[None, :] - x0) ** 2 + (-c[:, None] - y0) ** 2 <= radius**2
    return inside.reshape(n, fine, n, fine).mean((1, 3))


@pytest.mark.parametrize(("shift", "offset"), [(0.0, 0.0), (3.0, -4.0)])
def test_fan_projections_of_a_disc_are_its_chords(shift, offset):
    """Rays drawn from the documented places of source and detector, chords from geometry alone."""
    n, pixel, radius, centre = 64, 1.5, 15.0, np.array([14.0, -8.0])
    scan = simulate_fan(
        disc(n, pixel, radius, *centre), num_angles=16, pixel_size=pixel, axis_shift=shift,
        detector_offset=offset, source_distance=250.0, detector_distance=120.0, supersample=2,
    )  # fmt: skip
    g = scan.geometry
    assert isinstance(g, FanGeometry) and check_scan(scan) is scan
    k = np.arange(g.num_detectors)
    u = (k - (g.num_detectors - 1) / 2) * g.detector_spacing + g.detector_offset
    for angle, row in zip(g.angles, scan.data[0], strict=True):
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-np.sin(angle), np.cos(angle)])
        # the axis at lateral position `shift`: source and detector are moved back by it
        source = -250.0 * across - shift * along
        pixels = 120.0 * across + (u[:, None] - shift) * along
        ray = pixels - source
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        to = centre - source
        distance = np.abs(ray[:, 0] * to[1] - ray[:, 1] * to[0])
        chord = 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0))
        inside = distance < 0.8 * radius
        assert inside.sum() > 10
        error = np.abs(row - chord)[inside]
        # pixels of 0.75 mm on the edge of a disc of 15 mm: measured 0.54 mm of a 30 mm chord; a ray
        # that is 0.5 mm beside its place is off by 1.3 mm at the ends of this range
        assert error.max() < 0.6 and error.mean() < 0.2
        assert np.abs(row[distance > radius + 2 * pixel]).max() < 1e-6


def test_fan_of_a_far_source_is_parallel():
    x = disc(32, 1.0, 8.0, 4.0, 3.0)
    options = {"num_angles": 7, "span": math.pi, "num_detectors": 61, "axis_shift": 1.5}
    far = simulate_fan(
        x, **options, source_distance=1e6, detector_distance=0.0, detector_spacing=1.0
    )
    np.testing.assert_allclose(far.data, simulate_ct(x, **options).data, atol=2e-3)


@pytest.mark.parametrize(("shift", "offset"), [(0.0, 0.0), (5.0, 0.0), (0.0, -9.0)])
def test_the_default_detector_sees_the_whole_image(shift, offset):
    scan = simulate_fan(np.ones((20, 28)), num_angles=24, axis_shift=shift, detector_offset=offset)
    edges = scan.data[..., [0, -1]]
    assert np.abs(edges).max() < 1.5  # at most the tip of a corner, of 34 mm of chord
    assert scan.geometry.magnification == pytest.approx(1.5)


def test_fan_counts_and_fewer_views():
    scan = simulate_fan(disc(32, 1.0, 8.0, 4.0, 3.0) * 0.02, num_angles=20, dose=500.0, rng=2)
    g = scan.geometry
    counts = scan.counts[0, :, :10]  # beside the disc: open beam
    assert counts.mean() == pytest.approx(500, abs=5 * math.sqrt(500 / counts.size))
    assert counts.var() == pytest.approx(500, rel=5 * math.sqrt(2 / counts.size))
    fewer = check_scan(undersample(scan, 5))
    assert isinstance(fewer.geometry, FanGeometry)
    assert fewer.geometry.source_distance == g.source_distance
    np.testing.assert_array_equal(fewer.counts, scan.counts[:, ::5])
    np.testing.assert_array_equal(fewer.geometry.angles, g.angles[::5])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"source_distance": 5.0}, "source_distance"),
        ({"source_distance": 50.0, "detector_distance": -1.0}, "detector_distance"),
        ({"dose": 100.0, "noise_std": 0.1}, "dose"),
        ({"pixel_size": 0.0}, "pixel_size"),
        ({"span": 9.0}, "span"),
        ({"image_shape": (3, 3)}, "image_shape"),
    ],
)
def test_fan_errors(options, word):
    with pytest.raises(ValueError, match=word):
        simulate_fan(np.ones((8, 8)), **options)


# diffraction --------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(6, 7), (5, 8)])
@pytest.mark.parametrize("oversampling", [2.0, (3.0, 1.5)])
def test_intensity_is_the_squared_transform_of_the_padded_object(shape, oversampling):
    x = image(*shape, complex_=True)
    scan = check_scan(simulate_diffraction(x, oversampling=oversampling))
    g = scan.geometry
    assert isinstance(g, DiffractionGeometry)
    ratios = (oversampling,) * 2 if isinstance(oversampling, float) else oversampling
    assert g.pattern_shape == tuple(math.ceil(r * n) for r, n in zip(ratios, shape, strict=True))
    grids = [np.arange(n) - n // 2 for n in g.pattern_shape]
    k = np.stack(np.meshgrid(*grids, indexing="ij"), -1) * np.array(shape) / g.pattern_shape
    # in cycles per field of the object: the sum over it, scaled to the larger grid
    expected = np.abs(transform(x, k)) ** 2 * x.size / math.prod(g.pattern_shape)
    np.testing.assert_allclose(scan.data[0], expected, rtol=1e-5, atol=1e-6 * expected.max())
    np.testing.assert_allclose(scan.reference[0], np.abs(x), rtol=1e-6)
    # no energy is lost
    assert scan.data.sum() == pytest.approx((np.abs(x) ** 2).sum(), rel=1e-5)


def test_photons():
    x = image(16, 16, complex_=True)
    clean = simulate_diffraction(x).data[0].astype(float)
    scan = simulate_diffraction(x, photons=2e5, background=1.5, rng=3)
    counts = scan.data[0]
    mean = clean * 2e5 / clean.sum() + 1.5
    assert np.array_equal(counts, np.round(counts))
    z = (counts - mean) / np.sqrt(mean)
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    # variance of z**2 is 2 + 1 / mean for Poisson counts
    assert abs((z**2).mean() - 1) < 5 * math.sqrt((2 + 1 / mean).mean() / z.size)
    # the reference is in the units of the counts
    assert (scan.reference**2).sum() == pytest.approx(2e5, rel=1e-4)


def test_beam_stop():
    x = image(16, 16)
    scan = check_scan(simulate_diffraction(x, photons=1e5, beam_stop=3.5, rng=1))
    whole = simulate_diffraction(x, photons=1e5, rng=1)
    i = np.arange(32) - 16
    outside = np.hypot(i[:, None], i[None]) > 3.5
    np.testing.assert_array_equal(scan.valid[0], outside)
    np.testing.assert_array_equal(scan.data[0], np.where(outside, whole.data[0], 0))


def test_diffraction_of_a_stack_and_of_a_volume():
    x = image(3, 6, 8)
    stack = check_scan(simulate_diffraction(x, photons=1e4, rng=0))
    assert (stack.data.shape, stack.image_shape) == ((3, 12, 16), (6, 8))
    volume = check_scan(simulate_diffraction(x, volume=True, photons=1e4, rng=0))
    assert (volume.data.shape, volume.image_shape) == ((1, 6, 12, 16), (3, 6, 8))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"photons": 0.0}, "photons"),
        ({"photons": math.inf}, "photons"),
        ({"background": 1.0}, "without photons"),
        ({"beam_stop": 100.0}, "covers the pattern"),
        ({"beam_stop": -1.0}, "beam_stop"),
        ({"oversampling": 0.5}, "oversampling"),
    ],
)
def test_diffraction_errors(options, word):
    with pytest.raises(ValueError, match=word):
        simulate_diffraction(np.ones((8, 8)), **options)


def test_an_empty_object():
    with pytest.raises(ValueError, match="only zeros"):
        simulate_diffraction(np.zeros((8, 8)), photons=10.0)


# all ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("simulate", [simulate_noncartesian, simulate_fan, simulate_diffraction])
def test_what_is_simulated_can_be_written_and_read(tmp_path, simulate):
    scan = simulate(np.ones((8, 8)))
    again = load(write_scan(scan, tmp_path / "scan.h5"))
    np.testing.assert_array_equal(again.data, scan.data)
    np.testing.assert_array_equal(again.reference, scan.reference)
    assert type(again.geometry) is type(scan.geometry)


def test_diffraction_is_not_undersampled():
    with pytest.raises(DataError, match="diffraction"):
        undersample(simulate_diffraction(np.ones((8, 8))), 2)
