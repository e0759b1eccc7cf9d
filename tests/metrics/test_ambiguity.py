"""Alignment along the trivial ambiguities: exact recovery, and nothing that was not allowed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv.errors import DataError
from sciinv.metrics.ambiguity import align, conjugate_flip, r_factor

SHAPES = [(8, 9), (7, 7), (12, 8), (5, 6, 8), (7, 5, 4)]


def random_image(shape, rng, complex_):
    z = rng.normal(size=shape) + (1j * rng.normal(size=shape) if complex_ else 0)
    return z


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("flipped", [True, False])
def test_recovers_exactly(shape, complex_, flipped, rng):
    truth = random_image(shape, rng, complex_)
    shift = tuple(int(rng.integers(0, n)) for n in shape)
    angle = 2.1 if complex_ else np.pi
    moved = np.roll(conjugate_flip(truth) if flipped else truth, shift, range(len(shape)))
    moved = moved * (np.exp(1j * angle) if complex_ else -1)
    found, info = align(moved, truth, return_info=True)
    np.testing.assert_allclose(found, truth, atol=1e-13)
    assert np.iscomplexobj(found) == complex_
    assert info.flipped == flipped
    assert info.correlation == pytest.approx(1)
    # the three say what was done
    again = conjugate_flip(moved) if info.flipped else moved
    again = np.roll(again, tuple(int(s) for s in info.shift), range(len(shape)))
    np.testing.assert_allclose(again * np.exp(1j * info.phase), truth, atol=1e-13)
    np.testing.assert_array_equal(align(moved, truth), found)


def test_the_pattern_does_not_change_under_the_flip(rng):
    for shape in SHAPES:
        z = random_image(shape, rng, True)
        np.testing.assert_allclose(
            np.abs(np.fft.fftn(conjugate_flip(z))), np.abs(np.fft.fftn(z)), atol=1e-12
        )
        np.testing.assert_array_equal(conjugate_flip(conjugate_flip(z)), z)
        centre = tuple(n // 2 for n in shape)
        assert conjugate_flip(z)[centre] == np.conj(z[centre])


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("shape", [(32, 31), (15, 16, 16)])
def test_fractions_of_a_pixel(shape, complex_, rng):
    # band limited, so that a shift by a fraction is exact
    spectrum = np.fft.fftn(random_image(shape, rng, complex_))
    grids = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    spectrum *= sum(g**2 for g in grids) < 0.2**2
    truth = np.fft.ifftn(spectrum)
    shift = (3.25, -1.7, 0.4)[: len(shape)]
    ramp = np.exp(-2j * np.pi * sum(s * g for s, g in zip(shift, grids, strict=True)))
    moved = np.fft.ifftn(spectrum * ramp)
    if not complex_:
        truth, moved = truth.real, moved.real
    found, info = align(moved, truth, upsample=20, return_info=True)
    np.testing.assert_allclose(info.shift, -np.array(shift), atol=1e-12)
    np.testing.assert_allclose(found, truth, atol=1e-13)
    coarse = np.linalg.norm(align(moved, truth) - truth) / np.linalg.norm(truth)
    assert coarse > 0.05  # whole pixels are not enough here


def test_only_what_is_allowed(rng):
    truth = random_image((9, 8), rng, True)
    twin = conjugate_flip(truth)
    assert not np.allclose(align(twin, truth, flip=False), truth)
    np.testing.assert_allclose(align(twin, truth, shifts=False, phase=False), truth, atol=1e-14)
    shifted = np.roll(truth, 2, 0)
    np.testing.assert_array_equal(align(shifted, truth, shifts=False, flip=False, phase=False),
                                  shifted)  # fmt: skip
    np.testing.assert_allclose(align(shifted, truth, phase=False), truth, atol=1e-14)
    turned = truth * np.exp(0.5j)
    np.testing.assert_array_equal(align(turned, truth, phase=False), turned)
    np.testing.assert_allclose(align(turned, truth, shifts=False), truth, atol=1e-14)
    negative = -truth.real
    np.testing.assert_array_equal(align(negative, truth.real, shifts=False, flip=False), truth.real)


def test_is_the_nearest_of_all_under_noise(rng):
    truth = random_image((6, 5), rng, True)
    noisy = np.roll(conjugate_flip(truth), (2, 3), (0, 1)) + 0.8 * random_image((6, 5), rng, True)
    best = np.inf
    for z in (noisy, conjugate_flip(noisy)):
        for row in range(6):
            for column in range(5):
                moved = np.roll(z, (row, column), (0, 1))
                moved = moved * np.exp(1j * np.angle(np.vdot(moved, truth)))
                best = min(best, np.linalg.norm(moved - truth))
    assert np.linalg.norm(align(noisy, truth) - truth) == pytest.approx(best)


def test_takes_tensors_and_refuses_nonsense(rng):
    truth = random_image((6, 6), rng, False)
    found = align(torch.as_tensor(np.roll(truth, 1, 0)), torch.as_tensor(truth))
    np.testing.assert_allclose(found, truth)
    with pytest.raises(DataError, match=r"found shape \(6, 5\)"):
        align(truth[:, :5], truth)
    with pytest.raises(DataError, match="zeros"):
        align(np.zeros((6, 6)), truth)
    with pytest.raises(DataError, match="NaN"):
        align(np.full((6, 6), np.nan), truth)
    with pytest.raises(DataError, match="upsample"):
        align(truth, truth, upsample=0)


def test_r_factor_by_hand():
    measured = np.array([3.0, 1.0, 0.0, 9.0])
    model = np.array([2j, -1.5, 0.5, 0.0])
    mask = np.array([1, 1, 1, 0])
    assert r_factor(measured, model, mask) == pytest.approx((1 + 0.5 + 0.5) / 4)
    assert r_factor(measured, 7 * measured, fit=True) == pytest.approx(0, abs=1e-15)
    assert r_factor(measured, 7 * measured) == pytest.approx(6)
    assert r_factor(measured, np.zeros(4), fit=True) == pytest.approx(1)
    for bad in (np.zeros(4), np.full(4, np.nan), np.ones(3)):
        with pytest.raises(DataError):
            r_factor(bad, model)
    with pytest.raises(DataError, match="mask"):
        r_factor(measured, model, np.zeros(4))
