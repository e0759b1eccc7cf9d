"""Phantoms and scenes against areas, moments, spectra and other closed forms."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from sciinv.data.phantoms import (
    dead_leaves,
    ellipses,
    ellipsoids,
    patches,
    power_law_field,
    ring_field,
    scene,
    shepp_logan,
    smooth_field,
)
from sciinv.data.phantoms.leaves import (
    COLUMNS,
    COS,
    CX,
    CY,
    KIND,
    RX,
    RY,
    VALUE,
    paint,
    random_leaves,
)
from sciinv.data.phantoms.reduce import blur_and_reduce


# -- analytic ----------------------------------------------------------------------------------
def test_ellipse_area_centre_and_moments() -> None:
    value, a, b, cx, cy, degrees = 1.5, 0.5, 0.2, 0.2, -0.3, 30.0
    n, s = 96, 8
    image = ellipses((n, n), [(value, a, b, cx, cy, degrees)], supersample=s)
    x = (2 * np.arange(n) + 1 - n)[None, :] / n
    y = -(2 * np.arange(n) + 1 - n)[:, None] / n
    mass = image.sum()
    # a border of length P crosses about P n s / 2 sub-pixels, each right or wrong at random by 1/2
    tolerance = 4 * 0.5 * np.sqrt(2.3 * n * s / 2) * (2 / (n * s)) ** 2 / (np.pi * a * b)
    assert mass * (2 / n) ** 2 == pytest.approx(value * np.pi * a * b, rel=tolerance)
    mean_x, mean_y = (image * x).sum() / mass, (image * y).sum() / mass
    assert (mean_x, mean_y) == pytest.approx((cx, cy), abs=tolerance)
    # covariance of a uniform ellipse is R diag(a^2, b^2) R^T / 4
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    truth = rotation @ np.diag([a * a, b * b]) @ rotation.T / 4
    dx, dy = x - mean_x, y - mean_y
    found = np.array(
        [
            [(image * dx * dx).sum(), (image * dx * dy).sum()],
            [(image * dx * dy).sum(), (image * dy * dy).sum()],
        ]
    )
    # averaging over a pixel of side 2/n adds (2/n)^2 / 12 to each variance
    np.testing.assert_allclose(found / mass, truth, atol=(2 / n) ** 2 / 12 + tolerance * a * a)


def test_ellipsoid_volume_and_centre() -> None:
    n = 32
    a, b, c = 0.6, 0.4, 0.5
    volume = ellipsoids((n, n, n), [(2.0, a, b, c, 0.1, 0.2, -0.3, 20.0)], supersample=3)
    mass = volume.sum()
    assert mass * (2 / n) ** 3 == pytest.approx(2 * 4 / 3 * np.pi * a * b * c, rel=2e-3)
    z = (2 * np.arange(n) + 1 - n) / n
    assert (volume.sum(axis=(1, 2)) * z).sum() / mass == pytest.approx(-0.3, abs=2e-3)
    assert (volume.sum(axis=(0, 2)) * -z).sum() / mass == pytest.approx(0.2, abs=2e-3)
    assert (volume.sum(axis=(0, 1)) * z).sum() / mass == pytest.approx(0.1, abs=2e-3)


def test_shepp_logan_has_its_known_values() -> None:
    n = 101
    image = shepp_logan((n, n))

    def at(x: float, y: float) -> float:
        return float(image[round((1 - y) * n / 2 - 0.5), round((1 + x) * n / 2 - 0.5)])

    assert at(0.99, 0.99) == 0
    assert at(0.0, 0.9) == pytest.approx(1.0)  # skull
    assert at(0.0, 0.75) == pytest.approx(0.2)  # brain
    assert at(0.22, 0.0) == pytest.approx(0.0, abs=1e-12)  # right ventricle
    assert at(-0.22, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert at(0.0, 0.35) == pytest.approx(0.3)  # big upper body
    assert at(0.0, 0.12) == pytest.approx(0.4)  # small body within the big one
    assert at(0.0, -0.1) == pytest.approx(0.3)
    assert at(0.0, -0.75) == pytest.approx(0.2)
    # the left ventricle is the larger one (1 - 0.8 - 0.2 is not exactly 0)
    dark = np.abs(image[30:70]) < 1e-9
    assert dark[:, : n // 2].sum() > dark[:, n // 2 + 1 :].sum()


def test_central_section_of_the_3d_head_is_the_2d_head() -> None:
    volume = shepp_logan((5, 40, 40), supersample=1)
    np.testing.assert_allclose(volume[2], shepp_logan((40, 40), supersample=1), atol=1e-12)
    assert (volume[0] > 0).sum() < (volume[2] > 0).sum()
    np.testing.assert_allclose(volume[1], volume[3], atol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: shepp_logan((8,)),
        lambda: ellipses((8, 8, 8), [(1, 1, 1, 0, 0, 0)]),
        lambda: ellipses((8, 8), [(1, 1, 1)]),
        lambda: ellipses((8, 8), [(1, 0, 1, 0, 0, 0)]),
        lambda: ellipses((8, 8), [(1, 1, 1, 0, 0, 0)], supersample=0),
        lambda: ellipsoids((8, 8), [(1, 1, 1, 1, 0, 0, 0, 0)]),
    ],
)
def test_malformed_ellipses_are_refused(call: object) -> None:
    with pytest.raises(ValueError, match="found|positive"):
        call()  # type: ignore[operator]


# -- fields ------------------------------------------------------------------------------------
def test_smooth_field_has_unit_variance_and_the_stated_correlation() -> None:
    rng = np.random.default_rng(0)
    wavelength, lag, draws = 12.0, 5, 400
    fields = np.stack([smooth_field((24, 20), rng, wavelength) for _ in range(draws)])
    # amplitude exp(-(f w)^2 / 2), power exp(-(f w)^2): correlation exp(-(pi lag / w)^2)
    truth = np.exp(-((np.pi * lag / wavelength) ** 2))
    here, there = fields[:, 4, 4], fields[:, 4 + lag, 4]
    assert abs((here * here).mean() - 1) < 4 * np.sqrt(2 / draws)
    assert abs((here * there).mean() - truth) < 4 * np.sqrt((1 + truth**2) / draws)
    # not periodic: opposite borders are not neighbours
    ends = (fields[:, 0, 10] * fields[:, -1, 10]).mean()
    assert abs(ends) < 4 / np.sqrt(draws) + 0.01


def test_ring_field_concentrates_at_its_wavelength() -> None:
    field = ring_field((128, 128), np.random.default_rng(1), 10.0, 0.1)
    power = np.abs(np.fft.fft2(field)) ** 2
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :])
    ring = np.abs(radius * 10 - 1) < 0.3
    assert power[ring].sum() / power.sum() > 0.99
    assert field.std() == pytest.approx(1, abs=1e-5)


def test_power_law_field_has_its_slope() -> None:
    field = power_law_field((256, 256), np.random.default_rng(2), 1.5, 1e6)
    power = np.abs(np.fft.fft2(field)) ** 2
    radius = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None, :])

    def ring(low: float, high: float) -> tuple[float, float, int]:
        chosen = (radius >= low) & (radius < high)
        return power[chosen].mean(), (radius[chosen] ** -3.0).mean(), int(chosen.sum())

    low, high = ring(0.03, 0.05), ring(0.2, 0.25)
    # |F|^2 is exponential: relative error sqrt(2 / count), as half of the modes are conjugates
    error = 4 * np.sqrt(2 / low[2] + 2 / high[2])
    assert low[0] / high[0] == pytest.approx(low[1] / high[1], rel=error)


# -- dead leaves -------------------------------------------------------------------------------
def _disc(cy: float, cx: float, radius: float, value: float) -> np.ndarray:
    leaf = np.zeros(COLUMNS)
    leaf[[KIND, CY, CX, COS, RY, RX, VALUE]] = 0, cy, cx, 1, radius, radius, value
    return leaf


def test_last_leaf_is_on_top_and_discs_have_their_area() -> None:
    value = np.zeros((64, 64), dtype=np.float32)
    label = np.zeros((64, 64), dtype=np.int32)
    leaves = np.stack([_disc(30, 30, 20, 0.4), _disc(40, 30, 10, 0.8)])
    paint(value, label, leaves, np.zeros((4, 4), dtype=np.float32))
    assert value[40, 30] == np.float32(0.8)
    assert value[20, 30] == np.float32(0.4)
    assert value[5, 5] == 0
    # Gauss circle problem: the number of lattice points is pi r^2 within 2 sqrt(2) pi r
    assert abs((label > 0).sum() - np.pi * 400) < 2 * np.sqrt(2) * np.pi * 20 / 4
    np.testing.assert_array_equal(value, np.array([0, 0.4, 0.8], np.float32)[label])


def test_leaf_radii_follow_the_power_law() -> None:
    low, high, exponent, count = 2.0, 50.0, 3.0, 4000
    leaves = random_leaves(
        count,
        (64, 64),
        np.random.default_rng(3),
        radius=(low, high),
        exponent=exponent,
        kinds=(1, 0, 0, 0, 0),
    )
    size = np.sort(np.sqrt(leaves[:, RY] * leaves[:, RX]))
    power = 1 - exponent
    truth = (size**power - low**power) / (high**power - low**power)
    # Kolmogorov-Smirnov distance exceeds 1.95 / sqrt(n) with probability 1e-3
    assert np.abs(truth - (np.arange(count) + 0.5) / count).max() < 1.95 / np.sqrt(count)


def test_dead_leaves_cover_as_asked() -> None:
    rng = np.random.default_rng(4)
    # discs much smaller than the image fall independently: a pixel stays bare with exp(-cover)
    bare = [
        (
            dead_leaves((128, 128), rng, radius=(3, 6), cover=1.0, kinds=(1, 0, 0, 0, 0))[1] == 0
        ).mean()
        for _ in range(20)
    ]
    # aspect exp(N(0, .35)) keeps the area; discs centred outside are missing near the border
    border = 2 * 6 / 128
    assert np.exp(-1) - 0.02 < np.mean(bare) < np.exp(-1) + border


def test_dead_leaves_refuse_nonsense() -> None:
    rng = np.random.default_rng(0)
    for bad in ({"radius": (3, 2)}, {"exponent": 1.0}, {"cover": 0.0}, {"max_leaves": 0}):
        with pytest.raises(ValueError, match="expected"):
            dead_leaves((32, 32), rng, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        dead_leaves((32, 32, 32), rng)


# -- reduction ---------------------------------------------------------------------------------
def test_reduction_by_box_is_the_mean_of_blocks() -> None:
    image = np.random.default_rng(5).standard_normal((12, 16)).astype(np.float32)
    small = blur_and_reduce(image, 0.0, crop_spectrum=False)
    np.testing.assert_allclose(small, image.reshape(6, 2, 8, 2).mean(axis=(1, 3)), atol=1e-6)


@pytest.mark.parametrize("sides", [(32, 48), (30, 44)])
@pytest.mark.parametrize("blur", [0.0, 1.3])
def test_reduction_by_cropping_samples_low_frequencies_at_block_centres(
    sides: tuple[int, int], blur: float
) -> None:
    height, width = sides
    fy, fx = 3 / height, -5 / width
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    image = np.exp(2j * np.pi * (fy * y + fx * x)).astype(np.complex64)
    small = blur_and_reduce(image, blur, crop_spectrum=True)
    damping = np.exp(-2 * (np.pi * blur) ** 2 * (fy**2 + fx**2))
    yc, xc = y[::2] + 0.5, x[:, ::2] + 0.5
    truth = damping * np.exp(2j * np.pi * (fy * yc + fx * xc))
    np.testing.assert_allclose(small, truth, atol=2e-6)


def test_reduction_refuses_odd_sides() -> None:
    with pytest.raises(ValueError, match="even"):
        blur_and_reduce(np.zeros((5, 4), np.float32), 1.0, crop_spectrum=False)


# -- scenes ------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["leaves", "shells", "inserts", "field"])
@pytest.mark.parametrize("complex_", [False, True])
def test_scenes_are_reproducible_and_scaled(kind: str, complex_: bool) -> None:
    image = scene((33, 40), np.random.default_rng(6), complex_=complex_, kind=kind)
    again = scene((33, 40), np.random.default_rng(6), complex_=complex_, kind=kind)
    other = scene((33, 40), np.random.default_rng(7), complex_=complex_, kind=kind)
    assert image.shape == (33, 40)
    assert image.dtype == (np.complex64 if complex_ else np.float32)
    np.testing.assert_array_equal(image, again)
    assert np.abs(image - other).max() > 0.1
    assert 0.4 - 1e-5 <= np.quantile(np.abs(image), 0.995) <= 1.1 + 1e-5
    if complex_:
        assert np.abs(image.imag).max() > 0
    else:
        assert image.min() >= 0


def test_shells_and_bodies_lie_in_air() -> None:
    rng = np.random.default_rng(8)
    for kind in ("shells", "inserts"):
        corners = []
        for _ in range(8):
            image = scene((64, 64), rng, kind=kind)
            corners += [image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]]
        # bodies turned into a corner are allowed, but rare; air is exactly dark but for the blur
        assert np.mean(np.array(corners) < 1e-3) > 0.5


def test_scene_refuses_other_shapes_and_kinds() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="16 x 16"):
        scene((8, 64), rng)
    with pytest.raises(ValueError, match="16 x 16"):
        scene((64, 64, 64), rng)
    with pytest.raises(ValueError, match="kind"):
        scene((32, 32), rng, kind="brain")


@pytest.mark.parametrize("channels", [1, 2])
def test_patches_are_reproducible_and_prefixes_agree(channels: int) -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    few = patches(3, 16, np.random.default_rng(9), channels=channels, per_scene=2)
    more = patches(5, 16, np.random.default_rng(9), channels=channels, per_scene=2)
    assert more.shape == (5, channels, 16, 16)
    assert more.dtype == np.float32
    np.testing.assert_array_equal(few, more[:3])
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert len({patch.tobytes() for patch in more}) == 5


def test_patches_refuse_nonsense() -> None:
    rng = np.random.default_rng(0)
    for bad in ({"channels": 3}, {"size": 4}, {"count": -1}, {"per_scene": 0}):
        with pytest.raises(ValueError, match="channels|expected"):
            patches(**{"count": 1, "size": 16, "rng": rng, **bad})  # type: ignore[arg-type]


def test_phantoms_do_not_import_torch() -> None:
    code = "import sys, sciinv.data.phantoms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_crystal_is_compact_lopsided_and_repeatable():
    from sciinv.data.phantoms import crystal

    image = crystal((64, 48), np.random.default_rng(3))
    again = crystal((64, 48), np.random.default_rng(3))
    np.testing.assert_array_equal(image, again)
    modulus = np.abs(image)
    rows, columns = np.nonzero(modulus > 0.1)
    # at most about half of the grid, away from its edges, so that a pattern of twice its size tells
    assert np.ptp(rows) < 0.6 * 64
    assert np.ptp(columns) < 0.6 * 48
    assert modulus[:6].max() == 0
    inside = modulus > 0.5
    assert 0.6 < modulus[inside].mean() < 1.1
    assert np.angle(image[inside]).std() > 0.1
    # not its own point reflection
    twin = modulus[::-1, ::-1]
    overlap = np.sum(modulus * np.roll(twin, (1, 1), (0, 1))) / np.sum(modulus**2)
    assert overlap < 0.97
    assert np.isreal(crystal((32, 32), np.random.default_rng(0), strain=0.0)).all()
