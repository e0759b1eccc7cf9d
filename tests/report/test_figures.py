"""Figures: windows, orientation letters, scale bars and pixels that can be decoded again."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sciinv.report import figures
from sciinv.report.canvas import DPI, MARGIN, TITLE, Panel, draw_grid, length_text, nice_length
from sciinv.report.figures import result_views as views
from sciinv.report.geometry import axis_codes, voxel_size


def decode(png):
    """Pixels of a PNG as floats, grey levels averaged over the colours."""
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float64)
    return image.mean(axis=-1)


# geometry ---------------------------------------------------------------------------------------
def test_codes_name_the_direction_of_each_index(rng):
    ends = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    for _ in range(20):
        # a signed permutation, turned by less than 30 degrees
        axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
        turn = np.linalg.qr(np.eye(3) + 0.15 * rng.uniform(-1, 1, (3, 3)))[0]
        turn *= np.sign(np.diag(turn))
        size = rng.uniform(0.5, 4, 3)
        affine = np.eye(4)
        affine[:3, :3] = turn @ axes * size
        for index, letter in enumerate(axis_codes(affine)):
            axis, sign = ends[letter]
            assert sign * affine[axis, index] > 0.7 * size[index]
        np.testing.assert_allclose(voxel_size(affine), size)


def test_letters_of_a_radiological_stack(make):
    axial, coronal, sagittal = views(make(slices=9))
    assert axial.title == "Axial" and axial.letters == ("R", "L", "A", "P")
    assert coronal.title == "Coronal" and coronal.letters == ("R", "L", "S", "I")
    assert sagittal.title == "Sagittal" and sagittal.letters == ("A", "P", "S", "I")
    assert axial.spacing == (1.5, 1.2)
    assert coronal.spacing == (3.0, 1.2)
    assert sagittal.spacing == (3.0, 1.5)


def test_cuts_show_the_voxels_that_the_letters_name(make):
    result = make(slices=9)
    # one voxel in the superior, anterior, right corner of what is seen
    marked = np.zeros(result.visible.shape, np.float32)
    slice_, row, column = 8, 2, 3
    marked[slice_, row, column] = 1
    for view in views(result):
        ends = list(view.index)
        for axis, position in enumerate((slice_, row, column)):
            if not isinstance(ends[axis], slice):
                ends[axis] = position  # the same cut, moved onto the marked voxel
        moved = type(view)(**(vars(view) | {"index": tuple(ends)}))
        image = moved.cut(marked)
        up, left = np.argwhere(image == 1)[0]
        left_letter, right_letter, top, bottom = view.letters
        toward = {"S": True, "I": False, "A": True, "P": False, "R": True, "L": False}
        assert (up < image.shape[0] / 2) == toward[top] != toward[bottom]
        assert (left < image.shape[1] / 2) == toward[left_letter] != toward[right_letter]


def test_views_are_cropped_to_what_is_seen(make):
    visible = np.zeros((1, 40, 50), bool)
    visible[0, 20:24, 10:30] = True
    view = views(make(shape=(40, 50), visible=visible, residual=None))[0]
    image = view.cut(np.arange(2000).reshape(1, 40, 50))
    # four pixels of border on each side
    assert image.shape == (12, 28)
    assert image[0, 0] == 16 * 50 + 6


def test_unknown_directions_get_no_letters(make):
    for view in views(make(slices=9, oriented=False)):
        assert view.letters is None
        assert view.title not in ("Axial", "Coronal", "Sagittal")


def test_middle_slice_is_the_middle_of_what_is_seen(make):
    result = make(slices=10)
    visible = result.visible.copy()
    visible[:6] = False
    assert views(make(slices=10, visible=visible))[0].index[0] == 8


# windows and scale bars -------------------------------------------------------------------------
def test_window_ignores_outliers_and_the_invisible(rng):
    values = rng.uniform(0, 1, 10_000)
    values[:10] = 1e6
    visible = np.ones(10_000, bool)
    visible[:5_000] = False
    values[10:5_000] = -50
    low, high = figures.window(values, visible)
    # 0.5 % of a uniform density at each end; zero is shown black
    assert low == 0.0
    assert 0.99 < high <= 1.0


@pytest.mark.parametrize(
    "values", [np.zeros(9), np.full(9, 3.0), np.full(9, -2.0), np.full(9, np.nan), np.zeros(0)]
)
def test_window_of_nothing_is_still_a_window(values):
    low, high = figures.window(values)
    assert np.isfinite([low, high]).all() and low < high


def test_nice_lengths():
    cases = ((30, 20), (50, 50), (99, 50), (0.12, 0.1), (7, 5))
    for most, expected in cases:
        assert nice_length(most) == pytest.approx(expected)
    assert length_text(0.2) == "200 \N{GREEK SMALL LETTER MU}m"
    assert length_text(20.0) == "20 mm"


def test_scale_bar_is_as_long_as_it_says():
    # 100 columns of 0.8 mm: the bar is the nice length below 24 mm, 20 mm, a quarter of the width
    panel = Panel(np.zeros((60, 100)), "", (0, 1), spacing=(0.8, 0.8), bar_unit="mm")
    pixels = decode(draw_grid([panel], max_width=5.0, max_height=9.0))
    inside = pixels[int((MARGIN + TITLE) * DPI) + 3 : -int(MARGIN * DPI) - 3]
    width = 5.0 * DPI - 2 * MARGIN * DPI
    inside = inside[:, int(MARGIN * DPI) + 3 : -int(MARGIN * DPI) - 3]
    longest = max(int((row > 200).sum()) for row in inside)
    # the ends are antialiased: one pixel on either side
    assert abs(longest - width / 4) <= 2


def test_panels_keep_the_proportions_of_the_pixels():
    # 20 x 40 pixels of 3 x 1 mm are 60 mm tall and 40 mm wide
    panel = Panel(np.zeros((20, 40)), "", (0, 1), spacing=(3.0, 1.0))
    dark = decode(draw_grid([panel], max_width=4.0, max_height=3.0)) < 50
    tall, wide = (np.ptp(np.flatnonzero(dark.any(axis=axis))) + 1 for axis in (1, 0))
    assert tall / wide == pytest.approx(1.5, rel=0.02)


# pictures ---------------------------------------------------------------------------------------
def test_plain_png_maps_the_window_to_grey():
    image = np.array([[-1.0, 0.0, 1.0], [2.0, 3.0, np.nan]])
    np.testing.assert_array_equal(
        decode(figures.plain_png(image, (0.0, 2.0))), [[0, 0, 128], [255, 255, 0]]
    )
    assert decode(figures.plain_png(np.zeros((900, 300)), (0, 1), longest=300)).shape == (300, 100)


@pytest.mark.parametrize(("kind", "shape"), [("mri", (60, 9)), ("ct", (9, 60))])
def test_every_shape_gives_every_figure(make, kind, shape):
    result = make(kind, slices=8, shape=shape, reference=None)
    found = figures.all_figures(result)
    assert set(found) == {"overview", "samples", "orthogonal", "residual", "histogram"}
    for png in found.values():
        pixels = decode(png)
        assert max(pixels.shape) < 2000
        assert pixels.std() > 5  # something is drawn
        assert b"matplotlib" not in png[:400].lower()  # no program versions in the metadata


def test_mean_is_left_and_baseline_beside_it_in_the_same_window(make):
    samples = np.zeros((2, 1, 40, 40), np.float32)
    samples[:, :, 10:30, 10:30] = 1.0
    baseline = np.full((1, 40, 40), 0.5, np.float32)
    visible = np.ones((1, 40, 40), bool)
    fields = {"samples": samples, "baseline": baseline, "visible": visible, "oriented": False}
    pixels = decode(figures.overview(make("ct", shape=(40, 40), replaced=fields)))
    row = pixels[int((MARGIN + TITLE + 1.5) * DPI)]
    third = row.size // 3
    # full white in the middle of the mean, half grey all over the baseline
    assert row[third // 2] > 250
    assert abs(row[third + third // 2] - 127.5) < 2


def test_preview_shows_the_middle_slice(make):
    images = np.zeros((3, 40, 40), np.complex64)
    images[1, :20] = 2j
    affine = np.diag([1.0, 1, 1, 1])
    pixels = decode(figures.preview(images, affine, units="a.u.", title="First", oriented=False))
    column = pixels[:, pixels.shape[1] // 2 + 40]
    top = int((MARGIN + TITLE) * DPI)
    assert column[top + 40] > 250  # the upper half is bright in the modulus
    assert column[top + 400] < 5


def test_pictures_of_the_model_are_drawn(make):
    assert figures.coil_maps(make()) is None and figures.rotation_axis(make()) is None
    maps = np.zeros((3, 20, 20), np.float32)
    maps[1] = 0.5
    maps[2] = 1.0
    pixels = decode(figures.coil_maps(make(replaced={"pictures": {"coil_maps": maps}})))
    row = pixels[int((MARGIN + TITLE + 0.7) * DPI)]
    # black, half and white: one window for all
    assert {0, 128, 255} <= set(np.round(row).astype(int)) or (row < 1).any() and (row > 254).any()
    strip = {"rotation_axis": np.stack([maps[1] + np.eye(20, dtype=np.float32)] * 3)}
    assert decode(figures.rotation_axis(make("ct", replaced={"pictures": strip}))).std() > 5
    with pytest.raises(ValueError, match="pictures"):
        make(replaced={"pictures": {"other": maps}})


def test_residual_shows_what_was_not_measured_in_blue(make):
    residual = np.full((20, 20), np.nan, np.float32)
    png = figures.residual(make(residual=residual))
    colours = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    blue = (colours == (0x5B, 0x7A, 0x99)).all(axis=1).mean()
    assert blue > 0.3
    assert figures.residual(make(residual=None)) is None


def test_degenerate_results_are_drawn(make):
    nothing = np.zeros((1, 24, 20), bool)
    assert figures.overview(make(visible=nothing)) and figures.histogram(make(visible=nothing))
    zeros = np.zeros((2, 1, 24, 20), np.float32)
    constant = make("ct", replaced={"samples": zeros, "baseline": zeros[0]})
    assert figures.overview(constant) and figures.histogram(constant)
    assert figures.orthogonal(make(slices=3)) is None


def test_texts_cannot_break_a_figure(make):
    # mathtext, glyphs without a font and control characters; warnings are errors here
    name = "$\\frac{x}$ \N{CJK UNIFIED IDEOGRAPH-4E2D}\x1b[31m"
    result = make(baseline_name=name, units=name)
    assert figures.overview(result) and figures.histogram(result)


def test_pyplot_is_never_imported():
    code = (
        "import sys, sciinv.report.figures, sciinv.report.page;"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
