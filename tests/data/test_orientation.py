"""World coordinates against what the words of a radiographer say, and against nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sciinv.data.orientation import against_forward, axes_of, scanner_affine, stack_order
from sciinv.errors import DataError

WHERE = Path("scan.h5")
LEFT, POSTERIOR, SUPERIOR = np.eye(3)


@pytest.mark.parametrize(
    ("row", "column", "normal", "codes"),
    [
        (POSTERIOR, LEFT, SUPERIOR, "PLS"),
        (-SUPERIOR, LEFT, POSTERIOR, "ILP"),
        (-SUPERIOR, POSTERIOR, -LEFT, "IPR"),
        (LEFT, -POSTERIOR, -SUPERIOR, "LAI"),
    ],
)
def test_letters(row, column, normal, codes):
    axes = axes_of(row, column, normal)
    affine = scanner_affine(np.zeros(3), axes, (4, 6, 8), (3.0, 1.0, 2.0))
    assert "".join(nib.aff2axcodes(affine)) == codes
    np.testing.assert_allclose(nib.affines.voxel_sizes(affine), (1, 2, 3))


@pytest.mark.parametrize("shape", [(4, 6, 8), (5, 7, 9), (1, 2, 3)])
def test_stated_position_is_the_voxel_in_the_middle(shape):
    axes = axes_of(POSTERIOR, LEFT, SUPERIOR)
    affine = scanner_affine(np.array([10.0, -20.0, 30.0]), axes, shape, (3.0, 1.0, 2.0))
    middle = [shape[1] // 2, shape[2] // 2, shape[0] // 2, 1]
    # 10 mm left, 20 mm anterior, 30 mm superior
    np.testing.assert_allclose(affine @ middle, [-10, 20, 30, 1])
    np.testing.assert_allclose(affine[:, 0], [0, -1, 0, 0])
    np.testing.assert_allclose(affine[:, 1], [-2, 0, 0, 0])
    np.testing.assert_allclose(affine[:, 2], [0, 0, 3, 0])


def test_position_of_the_first_slice():
    axes = axes_of(POSTERIOR, LEFT, SUPERIOR)
    affine = scanner_affine(
        np.array([0.0, 0.0, 7.0]), axes, (4, 6, 8), (3.0, 1.0, 2.0), centre_slice=0
    )
    np.testing.assert_allclose(affine @ [3, 4, 0, 1], [0, 0, 7, 1])
    np.testing.assert_allclose(affine @ [3, 4, 3, 1], [0, 0, 16, 1])


@pytest.mark.parametrize(
    "row", [np.zeros(3), 2 * POSTERIOR, LEFT, np.array([np.nan, 1, 0]), [0, 0.99, 0.05]]
)
def test_what_is_no_direction(row):
    assert axes_of(np.asarray(row, float), LEFT, SUPERIOR) is None


def test_rounded_directions_become_unit_vectors():
    axes = axes_of(np.array([0.0, 0.999, 0.0]), LEFT, SUPERIOR)
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("volume", [False, True])
def test_images_of_the_forward_transform(rng, volume):
    """The same object at the same place, whichever transform made the image."""
    shape = (4, 6, 7)  # even and odd
    k = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    encoded = (0, 1, 2) if volume else (1, 2)
    shifted = np.fft.ifftshift(k, encoded)
    forward = np.fft.fftshift(np.fft.fftn(shifted, axes=encoded), encoded)
    inverse = np.fft.fftshift(np.fft.ifftn(shifted, axes=encoded, norm="forward"), encoded)
    axes = axes_of(POSTERIOR, LEFT, SUPERIOR)
    slices = {"centre_slice": None if volume else 0}
    stated = scanner_affine(np.ones(3), axes, shape, (3.0, 1.0, 2.0), **slices)
    ours = scanner_affine(
        np.ones(3), against_forward(axes, volume=volume), shape, (3.0, 1.0, 2.0), **slices
    )
    for index in ([2, 3, 3], [4, 5, 1], [1, 1, 2]):
        where = stated @ [*index, 1]
        row, column, place = np.rint(np.linalg.solve(ours, where))[:3].astype(int)
        np.testing.assert_allclose(
            inverse[place, row, column], forward[index[2], index[0], index[1]], atol=1e-9
        )


def test_stack():
    axes = axes_of(POSTERIOR, LEFT, SUPERIOR)
    z = np.array([5.0, -1.0, 2.0])
    order, distance, even = stack_order(z[:, None] * SUPERIOR, axes, WHERE)
    assert (list(order), distance, even) == ([1, 2, 0], 3.0, True)
    _, distance, even = stack_order(np.array([0.0, 1, 4])[:, None] * SUPERIOR, axes, WHERE)
    assert (distance, even) == (2.0, False)
    assert stack_order(np.ones((3, 3)), axes, WHERE)[1:] == (None, True)
    for bad, word in (
        ([[0, 0, 0], [0, 0, 0], [0, 0, 3]], "two slices at one place"),
        ([[0, 0, 0], [4, 0, 3]], "within their plane"),
    ):
        with pytest.raises(DataError, match=word):
            stack_order(np.array(bad, float), axes, WHERE)
