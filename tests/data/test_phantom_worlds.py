"""The procedural worlds: reproducible, in their range, and every ingredient does something."""

from __future__ import annotations

import numpy as np
import pytest

from sciinv.data.phantoms import INGREDIENTS, WORLDS, World
from sciinv.data.phantoms.cortex import fold
from sciinv.data.phantoms.frame import random_frame
from sciinv.data.phantoms.makers import overlay
from sciinv.data.phantoms.tissues import CSF, GREY, WHITE
from sciinv.data.scale import ct_scale

COMPLEX = {"generic": False, "mri": True, "ct": False, "objects": True}


def draws(world: World, seeds: range, size: int = 40, **options: bool) -> list[np.ndarray]:
    return [world.draw((size, size), np.random.default_rng(seed), **options) for seed in seeds]


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("shape", [(16, 16), (17, 48), (64, 33)])
def test_draws_of_any_shape_are_reproducible_and_in_range(
    name: str, shape: tuple[int, int]
) -> None:
    world = World(name)
    seen = set()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        image = world.draw(shape, rng)
        np.testing.assert_array_equal(image, world.draw(shape, np.random.default_rng(seed)))
        seen |= {image.tobytes(), world.draw(shape, rng).tobytes()}
        assert image.shape == shape
        assert image.dtype == (np.complex64 if COMPLEX[name] else np.float32)
        assert np.isfinite(image).all()
        if not COMPLEX[name]:
            assert image.min() >= 0
        level = ct_scale(image) if name == "ct" else np.quantile(np.abs(image), 0.995)
        assert 0.4 - 1e-5 <= level <= 1.1 + 1e-5
    assert len(seen) == 8


def test_one_number_is_taken_from_the_generator() -> None:
    rng, other = np.random.default_rng(4), np.random.default_rng(4)
    World("mri").draw((16, 20), rng)
    other.integers(2**62)
    assert rng.integers(2**62) == other.integers(2**62)


@pytest.mark.parametrize("name", WORLDS)
def test_every_ingredient_changes_some_images_and_leaves_the_others_alone(name: str) -> None:
    complex_ = name != "ct"
    world = World(name)
    whole: dict[int, np.ndarray] = {}
    for ingredient in world.ingredients:
        rest = World(name, without=(ingredient,))
        seen = set()
        for seed in range(200):  # the rarest ingredient is in one image of 50
            if seed not in whole:
                rng = np.random.default_rng(seed)
                whole[seed] = world.draw((16, 16), rng, complex_=complex_)
            other = rest.draw((16, 16), np.random.default_rng(seed), complex_=complex_)
            seen.add(np.array_equal(whole[seed], other))
            if len(seen) == 2 or (seen == {False} and seed == 3):
                break
        # soft edges and phase are in every image, the others are not
        assert seen == ({False} if ingredient in ("soft_edges", "phase") else {True, False})


def test_ingredients_belong_to_worlds() -> None:
    assert set(INGREDIENTS) == {name for world in WORLDS for name in World(world).ingredients}
    assert "metal" not in World("mri").ingredients
    assert World("ct", without="anatomy") == World(
        "ct", without=("heads", "thoraxes", "limbs", "teeth")
    )


def test_air_is_exactly_zero_around_bodies() -> None:
    bodies = World("ct", without=("leaves", "inserts", "shells"))
    empty = [np.mean(image == 0) for image in draws(bodies, range(20), 48)]
    # an ellipse in its box leaves 1 - pi/4 of the box; most bodies do not fill the image
    assert np.median(empty) > 1 - np.pi / 4
    for image in draws(World("objects", without=("inserts", "ringing")), range(20), 64):
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert np.mean(np.abs(border) < 1e-3) > 0.6  # compact: a known support is possible


@pytest.mark.parametrize("name", WORLDS)
def test_power_spectra_fall_as_those_of_natural_images(name: str) -> None:
    n = 64
    window = np.outer(np.hanning(n), np.hanning(n))
    power = np.zeros((n, n))
    for image in draws(World(name), range(24), n):
        power += np.abs(np.fft.fft2(image * window)) ** 2 / np.sum(np.abs(image) ** 2)
    radius = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None, :])
    edges = np.geomspace(0.05, 0.35, 7)
    rings = [(radius >= a) & (radius < b) for a, b in zip(edges, edges[1:], strict=False)]
    slope = np.polyfit(
        [np.log(radius[ring].mean()) for ring in rings],
        [np.log(power[ring].mean()) for ring in rings],
        1,
    )[0]
    # white noise is 0; edges alone give -3, natural images -2 to -3, a blur makes it steeper
    assert -5 < slope < -2


def test_bone_and_metal_stand_out_of_tissue_in_ct() -> None:
    thorax = tuple(set(World("ct").ingredients) - {"thoraxes"})
    tops = [float(i.max() / ct_scale(i)) for i in draws(World("ct", without=thorax), range(12), 64)]
    # ribs and vertebra of 1.5 to 3 times water, partly as thin as the blur
    assert 1.2 < np.median(tops) < 3.2
    value = np.ones((128, 128), np.float32)
    label = np.ones((128, 128), np.int32)
    overlay("metal", (value, label), np.random.default_rng(0))
    metal = value != 1
    # 4 to 8 times the tissue, less or more by the gradients and stripes that leaves may have
    assert 3.4 < value[metal].min() <= value[metal].max() < 8.6
    assert 0 < metal.mean() < 0.1


def residual(world: World, count: int) -> np.ndarray:
    """Median of the absolute phase inside each object."""
    found = []
    for image in draws(world, range(count), 48):
        modulus = np.abs(image)
        found.append(np.median(np.abs(np.angle(image[modulus > 0.2 * modulus.max()]))))
    return np.array(found)


def test_most_mri_images_have_little_phase_left() -> None:
    whole = residual(World("mri"), 30)
    assert np.mean(whole < 0.3) > 0.5
    assert whole.max() > 1  # and some have all of theirs
    unfolded = residual(World("mri", without=("phase_folding",)), 30)
    assert np.mean(unfolded < 0.3) < np.mean(whole < 0.3) - 0.1
    real = residual(World("mri", without=("phase", "phase_steps", "phase_folding")), 6)
    # k-space of even size has one frequency without its opposite: a real object is not quite real
    assert real.max() < 0.02


def test_generic_scenes_are_real_or_complex() -> None:
    world = World("generic", without=("phase", "phase_steps", "phase_folding", "ringing"))
    for seed in range(5):
        real = world.draw((32, 32), np.random.default_rng(seed))
        both = world.draw((32, 32), np.random.default_rng(seed), complex_=True)
        # without phase the same picture but for negative ripples
        np.testing.assert_allclose(both.real, real, atol=1e-3)
        np.testing.assert_allclose(both.imag, 0, atol=1e-6)


def borders(label: np.ndarray, first: int, second: int) -> int:
    """Number of neighbouring pixels of these two tissues."""
    pairs = [(label[1:], label[:-1]), (label[:, 1:], label[:, :-1])]
    return sum(
        int(((a == first) & (b == second)).sum() + ((a == second) & (b == first)).sum())
        for a, b in pairs
    )


def test_cortex_is_a_folded_ribbon_between_white_matter_and_fluid() -> None:
    folds, leaks, grey = [], [], []
    for seed in range(8):
        frame = random_frame((224, 224), np.random.default_rng(seed), close_up=0)
        depth = frame.depth - 15
        smooth, folded = (np.zeros(depth.shape, np.int32) for _ in range(2))
        fold(frame, smooth, depth, np.random.default_rng(seed), folded=False)
        fold(frame, folded, depth, np.random.default_rng(seed))
        assert ((folded > 0) == (depth > 0)).all()
        folds.append(borders(folded, GREY, WHITE) / borders(smooth, GREY, WHITE))
        leaks.append(borders(folded, CSF, WHITE) / max(borders(folded, CSF, GREY), 1))
        grey.append(np.mean(folded[depth > 0] == GREY))
    assert np.median(folds) > 2  # sulci multiply the border
    assert np.median(leaks) < 0.05  # and are lined by grey matter
    assert 0.2 < np.median(grey) < 0.8


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="'mars'.*generic, mri, ct, objects"):
        World("mars")
    with pytest.raises(ValueError, match="'metal'.*'mri'"):
        World("mri", without=("metal",))
    with pytest.raises(ValueError, match="no kind of scene"):
        World("objects", without=("facets", "cells", "grains", "inserts"))
    with pytest.raises(ValueError, match="16 x 16"):
        World("mri").draw((15, 64), np.random.default_rng(0))
    with pytest.raises(ValueError, match="'ct' is real"):
        World("ct").draw((16, 16), np.random.default_rng(0), complex_=True)
