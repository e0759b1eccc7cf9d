"""Units of trajectories: converted rightly, and named when they are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from sciinv.data.trajectory import (
    UNITS,
    check_extent,
    scaled_density,
    suspected_unit,
    to_cycles,
)
from sciinv.errors import DataError

SHAPE = (192, 160)
FOV = (384.0, 400.0)  # mm


@pytest.fixture
def cycles(rng):
    """A full trajectory in cycles per field of view, shots x samples x dim."""
    k = rng.uniform(-1, 1, (5, 40, 2)) * np.array(SHAPE) / 2
    k[0, 0] = np.array(SHAPE) / 2
    return k


def in_unit(cycles, unit):
    """The same trajectory in another unit, from the definition of the unit alone."""
    per_mm = cycles / np.array(FOV)
    per_pixel = cycles / np.array(SHAPE)
    return {
        "cycles/fov": cycles,
        "1/m": 1000 * per_mm,
        "1/cm": 10 * per_mm,
        "1/mm": per_mm,
        "rad/m": 2000 * np.pi * per_mm,
        "rad/pixel": 2 * np.pi * per_pixel,
        "normalised": per_pixel,
        "normalised to -1..1": 2 * per_pixel,
    }[unit]


@pytest.mark.parametrize("unit", UNITS)
def test_units(cycles, unit):
    result = to_cycles(in_unit(cycles, unit), unit, FOV, SHAPE, "scan.npy")
    np.testing.assert_allclose(result, cycles, rtol=1e-12)
    assert result.dtype == np.float64


@pytest.mark.parametrize("unit", UNITS)
def test_only_per_metre_needs_a_field_of_view(cycles, unit):
    values = in_unit(cycles, unit)
    if unit == "1/m":
        with pytest.raises(DataError, match="fov: found no field of view.*mri.fov"):
            to_cycles(values, unit, None, SHAPE, "scan.npy")
    else:
        to_cycles(values, unit, None, SHAPE, "scan.npy")


@pytest.mark.parametrize("given", UNITS)
@pytest.mark.parametrize("true", UNITS)
def test_a_wrong_unit_is_refused_and_the_right_one_named(cycles, given, true):
    if given == true:
        return
    with pytest.raises(DataError) as caught:
        to_cycles(in_unit(cycles, true), given, FOV, SHAPE, "scan.npy")
    assert f"looks like {true}: " in str(caught.value)


@pytest.mark.parametrize("true", ["1/cm", "1/mm", "rad/m", "normalised to -1..1"])
def test_units_that_are_not_read_are_named(cycles, true):
    values = in_unit(cycles, true)
    if true == "1/mm":  # largest coordinates between 0.2 and 0.25: no other unit has these
        assert np.abs(values).max() < 0.26
    assert suspected_unit(values, FOV, SHAPE) == true
    with pytest.raises(DataError, match=f"looks like {true}.*rescale it"):
        to_cycles(values, "cycles/fov", FOV, SHAPE, "scan.npy")


def test_the_message_says_the_numbers():
    k = np.array([[[249.6, 0.0], [0.0, -249.5]]])
    with pytest.raises(DataError) as caught:
        to_cycles(k, "cycles/fov", (384.0, 384.0), (192, 192), "k.npy")
    text = str(caught.value)
    assert text.startswith("k.npy: trajectory: found coordinates up to 249.6 cycles/fov")
    assert "at most 96 cycles/FOV for 192 pixels" in text
    assert "looks like 1/m: 249.6 with FOV 384 mm is 95.85 cycles/FOV" in text


def test_without_a_field_of_view_per_metre_is_guessed_from_the_excess():
    with pytest.raises(DataError, match="looks like 1/m: state unit and mri.fov"):
        to_cycles(np.full((1, 4, 2), 249.6), "cycles/fov", None, (192, 192), "k.npy")


@pytest.mark.parametrize(
    ("share", "fits"),
    [(1.0, True), (1 + 1.9e-3, True), (1 + 2.1e-3, False), (0.126, True), (0.124, False)],
)
def test_limits(share, fits):
    """Up to N/2 + N/1000, down to an eighth of N/2; an image of low resolution is no mistake."""
    k = np.zeros((1, 2, 2))
    k[0, 0, 1] = share * 100  # 200 columns
    if fits:
        check_extent(k, (64, 200), "scan.npy")
    else:
        with pytest.raises(DataError, match="for 200 pixels"):
            check_extent(k, (64, 200), "scan.npy")


def test_one_axis_beyond_the_grid_is_enough():
    k = np.zeros((1, 2, 3))
    k[0, 0] = [5.0, 10.0, 10.0]  # 8 partitions
    with pytest.raises(DataError, match="at most 4 cycles/FOV for 8 pixels"):
        check_extent(k, (8, 64, 64), "scan.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(cycles, value):
    cycles[2, 3, 1] = value
    with pytest.raises(DataError, match=r"1 values NaN or Inf, the first at \(2, 3, 1\)"):
        to_cycles(cycles, "cycles/fov", None, SHAPE, "scan.npy")


def test_wrong_number_of_components(cycles):
    with pytest.raises(DataError, match="found 2 components, expected 3"):
        to_cycles(cycles, "cycles/fov", None, (8, 8, 8), "scan.npy")


def test_agrees_with_the_operators_own_conversion(cycles):
    trajectories = pytest.importorskip("sciinv.operators.trajectories")
    for unit in UNITS:
        values = in_unit(cycles, unit)
        ours = to_cycles(values, unit, FOV, SHAPE, "scan.npy")
        theirs = trajectories.trajectory_from(values, unit, FOV, SHAPE)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# density weights ----------------------------------------------------------------------------------
@pytest.mark.parametrize("unit", [1.0, 3e-4])
def test_weights_of_a_ramp_become_areas(unit):
    """Spokes weighted by |k|: the area of rings cut by the angle between spokes."""
    spokes, samples, n = 101, 128, 64
    t = np.arange(spokes) * np.pi / spokes
    r = (np.arange(samples) - samples // 2) * n / samples
    k = r[None, :, None] * np.stack([np.sin(t), np.cos(t)], -1)[:, None]
    density, factor = scaled_density(unit * np.abs(r) + np.zeros((spokes, 1)), k)
    rings = np.abs(r) * (np.pi / spokes) * (n / samples)
    np.testing.assert_allclose(density, rings + np.zeros((spokes, 1)), rtol=0.02)
    assert factor == pytest.approx(np.pi / spokes * n / samples / unit, rel=0.02)


def test_equal_weights_of_a_grid_become_one():
    grid = np.stack(np.meshgrid(np.arange(-8, 8), np.arange(-6, 6), np.arange(-5, 5)), -1)
    density, _ = scaled_density(np.full((16 * 12, 10), 7.0), grid.reshape(16 * 12, 10, 3) * 1.0)
    # the hull ends at the outermost samples, half a cell short on every side
    np.testing.assert_allclose(density, 15 * 11 * 9 / (16 * 12 * 10), rtol=1e-6)


def test_weights_without_an_area_stay():
    k = np.linspace(-4, 4, 50)[None, :, None] * np.array([1.0, 0.0])
    density, factor = scaled_density(np.ones((1, 50)), k)
    assert factor == 1.0 and (density == 1).all()


def test_weighted_adjoint_returns_the_level_of_the_image():
    torch = pytest.importorskip("torch")
    from sciinv.data.simulate import simulate_noncartesian
    from sciinv.operators.noncartesian import NonCartesianMRI

    n = 64
    y, x = np.mgrid[:n, :n] - n / 2
    disc = 1 / (1 + np.exp((np.hypot(x, y) - n / 4) / 1.5))
    scan = simulate_noncartesian(disc, coils=1)
    k = scan.geometry.trajectory
    density, _ = scaled_density(np.hypot(k[..., 0], k[..., 1]) + 1 / 16, k)
    z = scan.data[0, 0].ravel()
    physics = NonCartesianMRI((n, n), k, density=density, dtype=torch.float64)
    image = physics.A_dagger(torch.from_numpy(np.stack([z.real, z.imag])[None]).double())
    inside = image[0, 0].numpy()[np.hypot(x, y) < n / 5]
    # 3 % at 64 pixels: spokes start at -N/2 but end a step before N/2, so the hull is lopsided
    assert inside.mean() == pytest.approx(1.0, abs=0.05)
