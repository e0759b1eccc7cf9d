"""Flat-field correction, photon counts and the rotation axis against known truth."""

from __future__ import annotations

import numpy as np
import pytest

from sciinv.data.correct import find_rotation_axis, flat_field, looks_like_photon_counts
from sciinv.errors import DataError


def sinogram(angles, columns, axis, blobs=None):
    """Exact projections of Gaussian blobs; the detector coordinate of column k is k - axis."""
    s = np.arange(columns) - axis
    blobs = blobs or [(8, 3, 4, 1.0), (-10, 6, 2, 0.7), (2, -12, 1.5, 0.5)]
    return sum(
        height
        * np.exp(
            -((s[None] - (x * np.cos(angles) + y * np.sin(angles))[:, None]) ** 2) / (2 * w**2)
        )
        for x, y, w, height in blobs
    )


def test_flat_field_is_beer_lambert(rng):
    p = rng.uniform(0, 3, (2, 5, 7))
    flat, dark = rng.uniform(900, 1000, (2, 1, 7)), rng.uniform(10, 20, (2, 1, 7))
    result = flat_field(dark + (flat - dark) * np.exp(-p), flat, dark)
    np.testing.assert_allclose(result.line_integrals, p, atol=1e-5)
    np.testing.assert_allclose(result.transmission, np.exp(-p), rtol=1e-6)
    np.testing.assert_allclose(result.counts, (flat - dark) * np.exp(-p), rtol=1e-5)
    np.testing.assert_allclose(result.blank, np.broadcast_to(flat - dark, p.shape), rtol=1e-6)
    assert result.valid.all()


def test_flat_field_masks_instead_of_clipping():
    signal = np.array([[50.0, 10.0, 5.0, 60.0, 110.0, 110.0]])
    flat = np.array([[110.0, 110.0, 110.0, 10.0, 110.0, 110.0]])  # the fourth pixel is dead
    result = flat_field(signal, flat, 10.0)
    np.testing.assert_array_equal(result.valid, [[True, False, False, False, True, True]])
    expected = [[-np.log(0.4), 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(result.line_integrals, expected, atol=1e-6)
    assert not np.signbit(result.line_integrals).any()
    np.testing.assert_array_equal(result.counts, [[40, 0, 0, 50, 100, 100]])
    np.testing.assert_array_equal(result.blank, [[100, 100, 100, 0, 100, 100]])


def test_flat_field_refuses_swapped_fields():
    with pytest.raises(DataError, match="below"):
        flat_field(np.full(4, 50.0), np.full(4, 10.0), np.full(4, 100.0), where="f.h5")


def test_photon_counts_are_recognised_by_their_scatter(rng):
    mean = 5 + 40 * sinogram(np.linspace(0, np.pi, 60), 50, 25)
    counts = rng.poisson(mean)
    assert looks_like_photon_counts(counts)
    assert not looks_like_photon_counts(counts * 2)  # a gain
    assert not looks_like_photon_counts(counts + 0.5)
    assert not looks_like_photon_counts(counts - 20)
    assert not looks_like_photon_counts(np.round(1000 + rng.standard_normal((60, 50))))
    assert not looks_like_photon_counts(np.zeros((60, 50)))
    assert not looks_like_photon_counts(counts[:4])


@pytest.mark.parametrize("axis", [63.5, 51.3, 70.75, 60.0])
@pytest.mark.parametrize(("count", "span"), [(90, np.pi), (181, np.pi), (180, 2 * np.pi)])
def test_axis_of_exact_projections(axis, count, span):
    angles = np.arange(count) * span / count
    assert find_rotation_axis(sinogram(angles, 128, axis), angles) == pytest.approx(axis, abs=0.1)


@pytest.mark.parametrize("columns", [127, 300, 513])
def test_axis_for_other_detectors(columns):
    angles = np.arange(120) * np.pi / 120
    axis = (columns - 1) / 2 + 0.11 * columns
    found = find_rotation_axis(sinogram(angles, columns, axis), angles)
    assert found == pytest.approx(axis, abs=0.15)


def test_axis_in_noise(rng):
    angles = np.arange(120) * np.pi / 120
    noisy = sinogram(angles, 128, 57.2) + 0.03 * rng.standard_normal((120, 128))
    assert find_rotation_axis(noisy, angles) == pytest.approx(57.2, abs=0.5)


def test_axis_does_not_depend_on_order_start_or_sense(rng):
    angles = np.arange(120) * np.pi / 120
    p = sinogram(angles, 128, 57.2)
    order = rng.permutation(120)
    assert find_rotation_axis(p[order], angles[order]) == find_rotation_axis(p, angles)
    assert find_rotation_axis(p, -angles) == pytest.approx(57.2, abs=0.1)
    assert find_rotation_axis(p, angles + 1.0) == pytest.approx(57.2, abs=0.1)


def test_axis_moves_with_the_detector():
    angles = np.arange(120) * np.pi / 120
    p = sinogram(angles, 128, 57.2)
    mirrored = find_rotation_axis(p[:, ::-1], angles)
    assert mirrored == pytest.approx(127 - 57.2, abs=0.1)


@pytest.mark.parametrize("angles", [np.arange(40) * np.pi / 80, np.arange(4) * np.pi / 4])
def test_axis_needs_half_a_turn(angles):
    with pytest.raises(DataError, match="half a turn"):
        find_rotation_axis(sinogram(angles, 64, 31.5), angles)


def test_axis_needs_matching_angles():
    with pytest.raises(DataError, match="one angle for each row"):
        find_rotation_axis(np.zeros((10, 20)), np.arange(9))


@pytest.mark.data
def test_axis_of_the_tooth(real_data):
    """Two slices, found alone, agree with each other and with the published 296.0 to 296.5."""
    from sciinv.data import load

    scan = load(real_data / "ct_parallel_tooth.h5")
    columns = [find_rotation_axis(one, scan.geometry.angles) for one in scan.data]
    assert columns == pytest.approx([296.0, 296.0], abs=0.5)
