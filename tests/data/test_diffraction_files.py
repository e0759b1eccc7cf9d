"""Diffraction patterns through side-cars: centre, frames, masks; mistakes are one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from sciinv.data import DiffractionGeometry, load

from . import bare_files
from .bare_files import noted, refused

SIDECARS = Path(__file__).resolve().parents[2] / "examples" / "sidecars"
SIDE = """
kind = "diffraction"
quantity = "counts"
axes = ["row", "column"]
[diffraction]
oversampling = 2.0
"""
SIDE3 = SIDE.replace('["row"', '["frame", "row"')


def pattern(rng, *shape, centre=None):
    """Poisson counts with a speckle at the centre, ``n // 2`` by default."""
    centre = tuple(n // 2 for n in shape) if centre is None else centre
    counts = rng.poisson(3.0, shape)
    counts[centre] = 1000
    counts[(*centre[:-1], centre[-1] - 1)] = 600
    counts[(*centre[:-1], centre[-1] + 1)] = 400
    return counts.astype(np.int32)


def write(folder: Path, data, side: str = SIDE, **files) -> Path:
    return bare_files.write(folder, data, side, **files)


def test_one_pattern(tmp_path, rng):
    data = pattern(rng, 24, 32)
    scan = load(write(tmp_path, data))
    g = scan.geometry
    assert isinstance(g, DiffractionGeometry)
    assert (scan.kind, scan.num_slices, scan.num_coils, scan.acceleration) == (
        "diffraction", 1, 1, 1.0,
    )  # fmt: skip
    assert scan.data.dtype == np.float32
    np.testing.assert_array_equal(scan.data, data[None])
    assert (g.pattern_shape, g.image_shape, g.oversampling) == ((24, 32), (12, 16), (2.0, 2.0))
    assert scan.image_shape == (12, 16)
    assert scan.valid is None
    np.testing.assert_allclose(scan.affine @ [6, 8, 0, 1], [0, 0, 0, 1])


def test_3d_pattern_and_pixel_size(tmp_path, rng):
    data = pattern(rng, 9, 24, 32)
    side = SIDE3.replace("2.0", "[3.0, 2.0, 1.6]") + "voxel_size = [1e-4, 2e-5, 3e-5]\n"
    scan = load(write(tmp_path, data, side))
    assert scan.geometry.image_shape == (3, 12, 20)
    assert scan.geometry.oversampling == (3.0, 2.0, 1.6)
    assert scan.geometry.pixel_size == (1e-4, 2e-5, 3e-5)
    assert scan.data.shape == (1, 9, 24, 32)


@pytest.mark.parametrize("n", range(2, 40))
@pytest.mark.parametrize("oversampling", [1.0, 1.7, 2.0, 3.0])
def test_the_object_fits_its_pattern(n, oversampling):
    from sciinv.data.formats.diffraction import object_shape

    (m,), (ratio,) = object_shape((n,), (oversampling,))
    assert 1 <= m <= n
    assert abs(m - n / oversampling) <= 0.5 or m == 1
    assert ratio == n / m


def test_image_shape_instead_of_oversampling(tmp_path, rng):
    side = SIDE.replace("oversampling = 2.0", "image_shape = [10, 8]")
    g = load(write(tmp_path, pattern(rng, 24, 32), side)).geometry
    assert (g.image_shape, g.oversampling) == ((10, 8), (2.4, 4.0))


def test_amplitudes_are_squared(tmp_path, rng):
    data = np.sqrt(pattern(rng, 8, 8))
    scan = load(write(tmp_path, data, SIDE.replace("counts", "amplitude")))
    np.testing.assert_allclose(scan.data[0], data**2, rtol=1e-6)
    assert noted(scan, "squares")


def test_background(tmp_path, rng):
    data = pattern(rng, 8, 8)
    scan = load(write(tmp_path, data, SIDE + "background = 3\n"))
    np.testing.assert_array_equal(scan.data[0], np.where(data < 3, 0, data))
    changed = int(((data > 0) & (data < 3)).sum())
    assert noted(scan, f"{changed} samples set to 0")


def test_one_frame(tmp_path, rng):
    data = pattern(rng, 5, 8, 10)
    scan = load(write(tmp_path, data, SIDE3 + "frame = 2\n"))
    np.testing.assert_array_equal(scan.data, data[2][None])
    assert scan.geometry.pattern_shape == (8, 10)
    assert noted(scan, "frame 2 of 5")


def test_slices_are_patterns_of_their_own(tmp_path, rng):
    data = np.stack([pattern(rng, 8, 10), 2 * pattern(rng, 8, 10)])
    scan = load(write(tmp_path, data, SIDE.replace('["row"', '["slice", "row"')))
    np.testing.assert_array_equal(scan.data, data)


@pytest.mark.parametrize("shape", [(8, 10), (9, 11)])
def test_dc_first(tmp_path, rng, shape):
    data = pattern(rng, *shape)
    first = np.fft.ifftshift(data)
    assert first[0, 0] == 1000
    scan = load(write(tmp_path, first, SIDE + "dc_first = true\n"))
    np.testing.assert_array_equal(scan.data[0], data)


@pytest.mark.parametrize("shape", [(20, 24), (21, 25), (20, 25)])
@pytest.mark.parametrize("move", [(-3, 2), (1, 0), (0, -1), (4, 5)])
@pytest.mark.parametrize("stated", [True, False])
def test_off_centre_patterns_are_cropped_around_the_centre(tmp_path, rng, shape, move, stated):
    centre = tuple(n // 2 + d for n, d in zip(shape, move, strict=True))
    data = pattern(rng, *shape, centre=centre)
    side = SIDE + (f"centre = {list(centre)}\n" if stated else "")
    scan = load(write(tmp_path, data, side))
    found = scan.data[0]
    assert np.unravel_index(found.argmax(), found.shape) == tuple(n // 2 for n in found.shape)
    # a window of the data, as large as can be: one more row or column would not fit around it
    start = [c - n // 2 for c, n in zip(centre, found.shape, strict=True)]
    window = tuple(slice(a, a + n) for a, n in zip(start, found.shape, strict=True))
    np.testing.assert_array_equal(found, data[window])
    for c, have, full in zip(centre, found.shape, shape, strict=True):
        more = have + 1
        assert c - more // 2 < 0 or c - more // 2 + more > full
    assert noted(scan, "stated" if stated else "brightest", str(centre), "cropped")


def test_a_hot_pixel_is_not_taken_for_the_centre(tmp_path, rng):
    data = pattern(rng, 20, 24)
    data[3, 4] = 10_000
    scan = load(write(tmp_path, data))
    np.testing.assert_array_equal(scan.data[0], data)
    assert not noted(scan, "cropped")


def test_a_stated_centre_wins_over_a_brighter_place(tmp_path, rng):
    data = pattern(rng, 20, 24)
    data[3:5, 4:6] = 10_000
    scan = load(write(tmp_path, data, SIDE + "centre = [10, 12]\n"))
    np.testing.assert_array_equal(scan.data[0], data)


@pytest.mark.parametrize("marks", ["good", "bad"])
def test_mask(tmp_path, rng, marks):
    """A beam stop hides the centre, so the brightest pixel left is not taken for it."""
    data = pattern(rng, 20, 24)
    good = np.ones((20, 24), bool)
    good[8:13, 10:15] = False
    good[0, 0] = False
    data[0, 0] = -1  # as some detectors mark dead pixels
    data[3, 4] = 50
    side = SIDE.replace("[diff", '[mask]\nfile = "mask.npy"\n[diff') + f'mask_marks = "{marks}"\n'
    mask = good if marks == "good" else ~good
    scan = load(write(tmp_path, data, side, mask=mask.astype(np.uint8)))
    assert scan.valid is not None
    np.testing.assert_array_equal(scan.valid[0], good)
    np.testing.assert_array_equal(scan.data[0], np.where(good, data, 0))
    assert noted(scan, "beam stop") and noted(scan, "26 of 480 pixels are masked")


def test_one_mask_serves_all_frames(tmp_path, rng):
    data = pattern(rng, 5, 8, 10)
    good = rng.random((8, 10)) < 0.9
    good[4, 5] = True
    side = SIDE3.replace("[diff", '[mask]\nfile = "mask.npy"\n[diff')
    scan = load(write(tmp_path, data, side, mask=good))
    np.testing.assert_array_equal(scan.valid[0], np.stack([good] * 5))
    scan = load(write(tmp_path, data, side + "frame = 2\n", mask=good))
    np.testing.assert_array_equal(scan.valid[0], good)


def test_dead_pixels_that_are_nan_are_fine_under_a_mask(tmp_path, rng):
    data = pattern(rng, 8, 10).astype(float)
    data[1, 1] = np.nan
    refused(write(tmp_path, data), "pattern", "NaN or Inf", "(0, 1, 1)")
    side = SIDE.replace("[diff", '[mask]\nfile = "mask.npy"\n[diff')
    scan = load(write(tmp_path, data, side, mask=np.isfinite(data)))
    assert scan.data[0, 1, 1] == 0 and not scan.valid[0, 1, 1]


# mistakes -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"counts"', '"kspace"', ["quantity", '"counts" or "amplitude"']),
        ('quantity = "counts"', "", ["quantity", "no such key", "amplitude"]),
        ('"column"]', '"col"]', ["axes", "'col'", "did you mean 'column'?"]),
        ('["row", "column"]', '["frame", "row"]', ["axes", '"column"']),
        ('["row", "column"]', '["frame", "row", "column"]', ["2 axes", "3 axes"]),
        ("2.0", "0.5", ["diffraction.oversampling", "1 or more"]),
        ("2.0", "[2.0, 2.0, 2.0]", ["diffraction.oversampling", "2 as the pattern"]),
        ("oversampling = 2.0", "image_shape = [30, 8]", ["image_shape", "at most (24, 32)"]),
        (
            "oversampling = 2.0",
            "oversampling = 2.0\nimage_shape = [3, 8]",
            ["image_shape", "oversampling as well"],
        ),
        ("oversampling", "oversamplin", ["oversamplin", "mean diffraction.oversampling?"]),
        ("oversampling = 2.0", "center = [3, 3]", ["center", "mean diffraction.centre?"]),
        ("oversampling = 2.0", "centre = [3]", ["diffraction.centre", "(24, 32)"]),
        ("oversampling = 2.0", "centre = [3, 40]", ["diffraction.centre", "(24, 32)"]),
        ("oversampling = 2.0", "centre = [-1, 4]", ["diffraction.centre", "index"]),
        ("oversampling = 2.0", "centre = [2, 4]", ["centre", "(2, 4)", "near (12, 16)"]),
        ("oversampling = 2.0", "frame = 3", ["diffraction.frame", "'row'", '"frame"']),
        ("oversampling = 2.0", "background = true", ["diffraction.background", "number"]),
        ("[diffraction]", "[ct]\n[diffraction]", ["ct", 'kind = "ct"']),
        ('kind = "diffraction"', 'kind = "mri"', ["diffraction", 'kind = "diffraction"']),
        ('kind = "diffraction"', 'kind = "difraction"', ["kind", "'difraction'"]),
    ],
)
def test_mistakes_in_the_side_car(tmp_path, rng, old, new, words):
    assert old in SIDE
    refused(write(tmp_path, pattern(rng, 24, 32), SIDE.replace(old, new, 1)), *words)


def test_frame_beyond_the_stack(tmp_path, rng):
    path = write(tmp_path, pattern(rng, 5, 8, 10), SIDE3 + "frame = 5\n")
    refused(path, "diffraction.frame", "found 5", "an index below 5")


def test_zero_frequency_at_the_corner(tmp_path, rng):
    data = np.fft.ifftshift(pattern(rng, 24, 32))
    refused(write(tmp_path, data), "centre", "(0, 0)", "near (12, 16)", "dc_first = true")


@pytest.mark.parametrize("quantity", ["counts", "amplitude"])
def test_negative_values(tmp_path, rng, quantity):
    data = pattern(rng, 24, 32)
    data[3, 4] = -2
    path = write(tmp_path, data, SIDE.replace("counts", quantity))
    refused(path, "pattern", f"1 negative {quantity}", "mask")


@pytest.mark.parametrize("more", ["", "background = 2000\n"])
def test_empty_pattern(tmp_path, rng, more):
    data = pattern(rng, 24, 32) if more else np.zeros((24, 32))
    refused(write(tmp_path, data, SIDE + more), "pattern", "no count")


def test_one_empty_pattern_of_several(tmp_path, rng):
    data = np.stack([pattern(rng, 8, 10), np.zeros((8, 10))])
    path = write(tmp_path, data, SIDE.replace('["row"', '["slice", "row"'))
    refused(path, "no count in pattern 1")


def test_complex_numbers(tmp_path, rng):
    refused(write(tmp_path, pattern(rng, 8, 10) + 1j), "pattern", "complex128", "real")


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((24, 31)), ["mask", "(24, 31)", "(24, 32)"]),
        (np.zeros((24, 32)), ["mask", "no usable pixel", "mask_marks"]),
        (np.full((24, 32), np.nan), ["mask", "NaN"]),
    ],
)
def test_wrong_masks(tmp_path, rng, mask, words):
    side = SIDE.replace("[diff", '[mask]\nfile = "mask.npy"\n[diff')
    refused(write(tmp_path, pattern(rng, 24, 32), side, mask=mask), *words)


# real data ----------------------------------------------------------------------------------------
@pytest.mark.data
def test_real_crystal(real_data):
    path = real_data / "phase_bcdi_crystal.tif"
    raw = tifffile.imread(path)
    whole = load(path, sidecar=SIDECARS / "phase_bcdi_crystal.toml")
    np.testing.assert_array_equal(whole.data[0], raw)
    assert whole.geometry.pattern_shape == (72, 128, 128)
    assert whole.geometry.image_shape == (36, 64, 64)
    assert not noted(whole, "cropped")
    central = load(path, sidecar=SIDECARS / "phase_bcdi_crystal_central.toml")
    np.testing.assert_array_equal(central.data[0], raw[36])
    assert (central.geometry.pattern_shape, central.image_shape) == ((128, 128), (64, 64))
