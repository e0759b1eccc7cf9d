"""Simulated scans against Fourier transforms, line integrals and counting statistics."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from sciinv.data.checks import check_scan
from sciinv.data.simulate import (
    birdcage_maps,
    cartesian_mask,
    simulate_ct,
    simulate_mri,
    undersample,
)
from sciinv.errors import DataError


def image(*shape, seed=0, complex_=False):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if complex_ else x


def dft(x):
    """The centred orthonormal transform, from its definition."""
    out = np.asarray(x, dtype=complex)
    for axis in range(-x.ndim, 0):
        n = x.shape[axis]
        i = np.arange(n) - n // 2
        matrix = np.exp(-2j * np.pi * np.outer(i, i) / n) / math.sqrt(n)
        out = np.moveaxis(np.tensordot(matrix, out, axes=(1, axis)), 0, axis)
    return out


def test_import_needs_no_torch():
    code = "import sys, sciinv.data.simulate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- masks ---------------------------------------------------------------------------------------
def test_variable_density_lines():
    mask = cartesian_mask((128, 128), 4, 16, 0)
    lines = mask[0]
    assert (mask == lines).all()
    assert lines.sum() == 32
    assert lines[64 - 8 : 64 + 8].all()
    counts = np.zeros(128)
    for seed in range(200):
        counts += cartesian_mask((1, 128), 4, 16, seed)[0]
    inner = counts[np.r_[32:56, 72:96]].mean()
    outer = counts[np.r_[:32, 96:128]].mean()
    # (1 - r)^2 makes the inner half of the outer lines several times as likely
    assert inner > 3 * outer > 0


def test_uniform_lines():
    lines = cartesian_mask((4, 30), 3, 0, 0, "uniform")[0]
    assert np.flatnonzero(lines).tolist() == list(range(0, 30, 3))
    lines = cartesian_mask((4, 31), 4, 5, 0, "uniform")[0]
    assert set(np.flatnonzero(lines)) == {3, 7, 11, 13, 14, 15, 16, 17, 19, 23, 27}


@pytest.mark.parametrize("shape", [(64, 48), (33, 40)])
def test_poisson_points(shape):
    mask = cartesian_mask(shape, 6, 8, 3, "poisson")
    assert mask.sum() == round(math.prod(shape) / 6)
    a, b = shape[0] // 2, shape[1] // 2
    assert mask[a - 4 : a + 4, b - 4 : b + 4].all()
    edge = mask.copy()
    edge[shape[0] // 4 : -shape[0] // 4, shape[1] // 4 : -shape[1] // 4] = False
    points = np.argwhere(edge)
    distance = np.sqrt(((points[:, None] - points) ** 2).sum(-1))
    np.fill_diagonal(distance, np.inf)
    # random points of this density would nearly always have neighbours at distance 1
    assert distance.min() > math.sqrt(2)
    centre = mask[shape[0] // 4 : -shape[0] // 4, shape[1] // 4 : -shape[1] // 4]
    assert centre.mean() > 1.5 * edge.mean() * 4 / 3


def test_masks_of_volumes():
    lines = cartesian_mask((4, 6, 32), 4, 4, 0)
    assert (lines == lines[:1, :1]).all()
    assert lines[0, 0].sum() == 8
    points = cartesian_mask((16, 6, 32), 4, 4, 0, "poisson")
    assert (points == points[:, :1]).all()
    assert points[:, 0].sum() == 128
    across = cartesian_mask((8, 16), 2, 2, 0, readout_axis=1)
    assert (across == across[:, :1]).all()
    assert across[:, 0].sum() == 4
    assert cartesian_mask((3, 4), 4, 1, 0, "full").all()


def test_masks_are_reproducible_and_refuse():
    for pattern in ("variable_density", "poisson"):
        a, b, c = (cartesian_mask((32, 32), 4, 4, seed, pattern) for seed in (1, 1, 2))
        assert (a == b).all()
        assert (a != c).any()
    with pytest.raises(ValueError, match="calibration lines exceed"):
        cartesian_mask((8, 32), 8, 10)
    with pytest.raises(ValueError, match="calibration square"):
        cartesian_mask((16, 16), 8, 10, pattern="poisson")
    with pytest.raises(ValueError, match="pattern"):
        cartesian_mask((8, 32), 4, 4, pattern="spiral")
    with pytest.raises(ValueError, match="acceleration"):
        cartesian_mask((8, 32), 0.5, 4)


# -- MRI -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(16, 24), (15, 21)])
def test_kspace_is_the_transform_of_maps_times_image(shape):
    x = image(2, *shape, complex_=True)
    scan = check_scan(simulate_mri(x, coils=3, calibration_lines=2, rng=0, include_maps=True))
    mask = scan.geometry.mask
    maps = birdcage_maps(3, shape)
    assert scan.data.shape == (2, 3, *shape)
    for s in range(2):
        for c in range(3):
            expected = np.where(mask, dft(maps[c] * x[s]), 0)
            np.testing.assert_allclose(scan.data[s, c], expected, atol=2e-6)
            np.testing.assert_allclose(scan.coil_maps[s, c], maps[c], atol=1e-6)
    np.testing.assert_allclose(scan.reference, np.abs(x), rtol=1e-6)
    assert (scan.noise_std, scan.acceleration) == (None, pytest.approx(4, rel=0.1))


def test_volume_is_transformed_in_three_axes():
    x = image(4, 6, 8)
    scan = check_scan(
        simulate_mri(x, coils=1, pattern="full", volume=True, voxel_size=(3.0, 1.0, 2.0))
    )
    assert scan.data.shape == (1, 1, 4, 6, 8)
    np.testing.assert_allclose(scan.data[0, 0], dft(x), atol=2e-6)
    assert scan.reference.shape == (1, 4, 6, 8)
    np.testing.assert_allclose(scan.affine @ [3, 4, 1.5, 1], [0, 0, 0, 1])


def test_operator_reproduces_the_data():
    import torch

    from sciinv.operators.mri import CartesianMRI

    x = image(12, 10, complex_=True)
    scan = simulate_mri(x, coils=4, acceleration=2, calibration_lines=2, rng=1, include_maps=True)
    physics = CartesianMRI(
        (12, 10),
        mask=torch.from_numpy(scan.geometry.mask),
        coil_maps=torch.from_numpy(scan.coil_maps),
    )
    y = physics.A(torch.from_numpy(np.stack([x.real, x.imag])[None]).float())
    expected = torch.from_numpy(np.stack([scan.data.real, scan.data.imag], axis=1))
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_noise_level_per_component():
    scan = simulate_mri(
        np.zeros((64, 64)), coils=4, acceleration=2, calibration_lines=8, noise_std=0.3, rng=5
    )
    mask = scan.geometry.mask
    assert scan.noise_std == 0.3
    assert (scan.data[..., ~mask] == 0).all()
    noise = scan.data[..., mask]
    parts = np.concatenate([noise.real.ravel(), noise.imag.ravel()])
    # standard error of a Gaussian standard deviation: std / sqrt(2 n)
    assert abs(parts.std() - 0.3) < 5 * 0.3 / math.sqrt(2 * parts.size)
    assert abs(parts.mean()) < 5 * 0.3 / math.sqrt(parts.size)
    correlation = np.corrcoef(noise.real.ravel(), noise.imag.ravel())[0, 1]
    assert abs(correlation) < 5 / math.sqrt(noise.size)
    again = simulate_mri(
        np.zeros((64, 64)),
        coils=4,
        acceleration=2,
        calibration_lines=8,
        noise_std=0.3,
        rng=5,
        state_noise=False,
    )
    assert (again.data == scan.data).all()
    assert again.noise_std is None


@pytest.mark.parametrize("shape", [(12, 10), (4, 12, 9)])
def test_coil_maps_are_those_of_sigpy(shape):
    from sigpy.mri.sim import birdcage_maps as sigpy_maps

    for coils in (2, 8, 12):
        expected = sigpy_maps((coils, *shape), r=1.7)
        np.testing.assert_allclose(birdcage_maps(coils, shape, radius=1.7), expected, atol=1e-12)


def test_coil_maps_are_smooth_and_normalised():
    for shape in ((64, 50), (24, 32, 30)):
        maps = birdcage_maps(8, shape)
        np.testing.assert_allclose((np.abs(maps) ** 2).sum(0), 1, rtol=1e-12)
        # inside the central disc the nearest coil is half of its radius away, so phase and
        # magnitude change by about 2 each per half field of view
        y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape[-2:]], indexing="ij")
        maps = np.where(x**2 + y**2 < 1, maps, np.nan)
        for axis, n in enumerate(shape):
            assert np.nanmax(np.abs(np.diff(maps, axis=axis + 1))) * n / 2 < 4
    assert (birdcage_maps(1, (3, 4)) == 1).all()
    with pytest.raises(ValueError, match="coils"):
        birdcage_maps(0, (3, 4))


def test_mri_orientation():
    """The first row is anterior, the first column the patient's right: +y and +x... of RAS."""
    scan = simulate_mri(np.eye(6), pattern="full", voxel_size=(5.0, 2.0, 3.0))
    centre = np.array([3, 3, 0, 1.0])
    np.testing.assert_allclose(scan.affine @ centre, [0, 0, 0, 1])
    np.testing.assert_allclose(scan.affine @ (centre + [1, 0, 0, 0]), [0, -2, 0, 1])
    np.testing.assert_allclose(scan.affine @ (centre + [0, 1, 0, 0]), [-3, 0, 0, 1])


def test_mri_errors():
    with pytest.raises(ValueError, match="image"):
        simulate_mri(np.zeros(4))
    with pytest.raises(ValueError, match="image"):
        simulate_mri(np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="noise_std"):
        simulate_mri(np.zeros((8, 8)), noise_std=-1.0)
    with pytest.raises(ValueError, match="mask"):
        simulate_mri(np.zeros((8, 8)), mask=np.ones((8, 9), bool))
    with pytest.raises(ValueError, match="coil_maps"):
        simulate_mri(np.zeros((8, 8)), pattern="full", coil_maps=np.ones((2, 8, 9)))


# -- CT ------------------------------------------------------------------------------------------
def test_projections_of_a_disc_are_its_chords():
    """Off-centre disc: chord 2 sqrt(R^2 - u^2) at u = k - (x cos t + y sin t + shift)."""
    n, pixel, radius, x0, y0, shift = 64, 0.5, 8.0, 3.0, -2.0, 1.25
    fine = 4 * n
    centres = (np.arange(fine) - (fine - 1) / 2) * pixel / 4
    disc = 0.03 * ((centres - x0) ** 2 + (-centres[:, None] - y0) ** 2 < radius**2)
    scan = check_scan(
        simulate_ct(
            disc,
            image_shape=(n, n),
            num_angles=7,
            pixel_size=pixel,
            detector_spacing=0.75,
            axis_shift=shift,
        )
    )
    g = scan.geometry
    assert (g.image_shape, g.pixel_size, g.axis_shift) == ((n, n), pixel, shift)
    np.testing.assert_allclose(g.angles, np.arange(7) * np.pi / 7)
    k = (np.arange(g.num_detectors) - (g.num_detectors - 1) / 2) * 0.75
    middle = x0 * np.cos(g.angles) + y0 * np.sin(g.angles) + shift
    u = k - middle[:, None]
    chord = 0.03 * 2 * np.sqrt(np.maximum(radius**2 - u**2, 0))
    # away from the rim, where the staircase of the pixels dominates
    inside = np.abs(u) < radius - 1.5
    np.testing.assert_allclose(scan.data[0][inside], chord[inside], rtol=0.015)
    assert np.abs(scan.data[0][np.abs(u) > radius + 1.0]).max() == 0
    assert scan.reference.shape == (1, n, n)
    np.testing.assert_allclose(scan.reference.sum() * pixel**2, 0.03 * np.pi * radius**2, rtol=0.01)
    # every projection has the mass of the image
    mass = scan.data[0].sum(1) * 0.75
    np.testing.assert_allclose(mass, 0.03 * np.pi * radius**2, rtol=0.01)


def test_same_image_given_coarse_or_fine():
    x = np.abs(image(8, 8)) * 0.01
    a = simulate_ct(x, num_angles=4, supersample=2)
    b = simulate_ct(x.repeat(2, 0).repeat(2, 1), num_angles=4, supersample=2, image_shape=(8, 8))
    np.testing.assert_allclose(a.data, b.data, rtol=1e-6)
    np.testing.assert_allclose(a.reference, b.reference, rtol=1e-6)
    np.testing.assert_allclose(a.reference[0], x, rtol=1e-6)


def test_no_inverse_crime():
    import torch

    from sciinv.operators.ct import ParallelBeamCT

    x = ellipses_image() * 0.02
    scan = simulate_ct(x, num_angles=9)
    g = scan.geometry
    physics = ParallelBeamCT(
        g.image_shape,
        g.angles,
        num_detectors=g.num_detectors,
        detector_spacing=g.detector_spacing,
        pixel_size=g.pixel_size,
        backend="torch",
        dtype=torch.float64,
    )
    own = physics.A(torch.from_numpy(x)[None, None])[0, 0].numpy()
    difference = np.linalg.norm(own - scan.data[0]) / np.linalg.norm(own)
    # close, because it is the same object; not equal, because the discretisation differs
    assert 1e-3 < difference < 0.1


def ellipses_image():
    yy, xx = np.mgrid[-1:1:32j, -1:1:32j]
    body = (xx / 0.8) ** 2 + (yy / 0.6) ** 2 < 1
    hole = (xx - 0.3) ** 2 + (yy + 0.1) ** 2 < 0.04
    return body - 0.5 * hole


def test_counts_are_poisson_of_the_dose():
    x = np.full((2, 24, 24), 0.02)
    dose = 400.0
    clean = simulate_ct(x, num_angles=40)
    scan = check_scan(simulate_ct(x, num_angles=40, dose=dose, rng=3))
    assert (scan.counts == np.round(scan.counts)).all()
    assert (scan.blank == dose).all()
    expected = dose * np.exp(-clean.data.astype(float))
    z = (scan.counts - expected) / np.sqrt(expected)
    # 5 standard errors of a mean and of a variance of a Poisson variable (kurtosis 1 / mean)
    assert abs(z.mean()) < 5 / math.sqrt(z.size)
    assert abs(z.var() - 1) < 5 * math.sqrt((2 + 1 / expected.min()) / z.size)
    np.testing.assert_allclose(scan.data, -np.log(scan.counts / dose), rtol=1e-5, atol=1e-6)
    assert scan.noise_std is None
    assert scan.valid is None


def test_zero_counts_are_masked():
    scan = check_scan(simulate_ct(np.full((16, 16), 0.2), num_angles=12, dose=20.0, rng=0))
    assert scan.valid is not None
    assert (scan.valid == (scan.counts > 0)).all()
    assert not scan.valid.all()


def test_gaussian_noise_of_line_integrals():
    scan = simulate_ct(np.full((32, 32), 0.01), num_angles=60, noise_std=0.05, rng=1)
    clean = simulate_ct(np.full((32, 32), 0.01), num_angles=60)
    noise = (scan.data - clean.data).ravel()
    assert scan.noise_std == 0.05
    assert abs(noise.std() - 0.05) < 5 * 0.05 / math.sqrt(2 * noise.size)
    assert scan.counts is None


def test_ct_orientation():
    """At t = 0 the detector runs along the columns, at pi / 2 from the last row to the first."""
    x = np.zeros((9, 9))
    x[1, 6] = 1.0
    scan = simulate_ct(x, angles=[0.0, np.pi / 2], num_detectors=9)
    assert scan.data[0].argmax(axis=1).tolist() == [6, 7]
    np.testing.assert_allclose(scan.affine @ [4, 4, 0, 1], [0, 0, 0, 1])
    np.testing.assert_allclose(scan.affine @ [1, 6, 0, 1], [-2, 3, 0, 1])


def test_ct_errors():
    x = np.ones((8, 8))
    with pytest.raises(ValueError, match="image_shape"):
        simulate_ct(x, image_shape=(3, 3))
    with pytest.raises(ValueError, match="dose"):
        simulate_ct(x, dose=100.0, noise_std=0.1)
    with pytest.raises(ValueError, match="dose"):
        simulate_ct(-x, dose=100.0)
    with pytest.raises(ValueError, match="num_angles"):
        simulate_ct(x, num_angles=0)
    with pytest.raises(ValueError, match="image"):
        simulate_ct(np.ones(3))


# -- undersampling -------------------------------------------------------------------------------
def test_undersample_mri():
    x = image(2, 32, 32, complex_=True)
    full = simulate_mri(x, coils=4, pattern="full", rng=0).with_(reference=None)
    scan = check_scan(undersample(full, 4, calibration_lines=4, rng=1))
    mask = scan.geometry.mask
    assert mask[0].sum() == 8
    assert (scan.data[..., mask] == full.data[..., mask]).all()
    assert (scan.data[..., ~mask] == 0).all()
    # unit maps: the root sum of squares of the full data is the magnitude
    np.testing.assert_allclose(scan.reference, np.abs(x), rtol=1e-4, atol=1e-5)
    twice = undersample(scan, 1, mask=cartesian_mask((32, 32), 2, 4, 5))
    assert (twice.geometry.mask == (mask & cartesian_mask((32, 32), 2, 4, 5))).all()
    assert full.geometry.mask.all()
    with pytest.raises(DataError, match="no sampled position"):
        undersample(scan, mask=np.zeros((32, 32), bool))
    with pytest.raises(DataError, match="mask"):
        undersample(scan, mask=np.zeros((32, 31), bool))


def test_undersample_keeps_masks_that_differ_between_slices():
    full = simulate_mri(image(2, 16, 16), coils=2, pattern="full")
    masks = np.stack([cartesian_mask((16, 16), 2, 4, s) for s in (0, 1)])
    scan = full.with_(
        geometry=type(full.geometry)(image_shape=(16, 16), mask=masks),
        data=np.where(masks[:, None], full.data, 0),
    )
    fewer = check_scan(undersample(scan, 2, calibration_lines=4, rng=7))
    extra = cartesian_mask((16, 16), 2, 4, 7)
    assert (fewer.geometry.mask == (masks & extra)).all()
    assert (fewer.data == np.where((masks & extra)[:, None], full.data, 0)).all()


def test_undersample_ct():
    x = np.full((2, 12, 12), 0.05)
    scan = simulate_ct(x, num_angles=10, dose=1000.0, rng=0)
    fewer = check_scan(undersample(scan, 3, offset=1))
    np.testing.assert_array_equal(fewer.geometry.angles, scan.geometry.angles[1::3])
    for name in ("data", "counts", "blank"):
        np.testing.assert_array_equal(getattr(fewer, name), getattr(scan, name)[:, 1::3])
    assert fewer.reference is scan.reference
    assert fewer.geometry.axis_shift == scan.geometry.axis_shift
    with pytest.raises(DataError, match="integer"):
        undersample(scan, 2.5)
    with pytest.raises(DataError, match="offset"):
        undersample(scan, 2, offset=10)
