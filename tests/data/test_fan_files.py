"""Fan beams through side-cars: geometry, fewer views; every mistake is one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from sciinv.data import CTGeometry, FanGeometry, ParallelGeometry, load

from . import bare_files
from .bare_files import refused

SIDECARS = Path(__file__).resolve().parents[2] / "examples" / "sidecars"
SIDE = """
kind = "ct"
quantity = "line_integrals"
axes = ["angle", "detector"]
[ct]
beam = "fan"
angles = { stop = 360, count = 40, unit = "deg" }
source_distance = 200.0
detector_distance = 100.0
detector_spacing = 0.75
axis_shift = 0.5
"""


def sinogram(rng, angles=40, detectors=32):
    return rng.random((angles, detectors)).astype(np.float32)


def write(folder: Path, data, side: str = SIDE, **files) -> Path:
    return bare_files.write(folder, data, side, **files)


def test_geometry(tmp_path, rng):
    data = sinogram(rng)
    scan = load(write(tmp_path, data))
    g = scan.geometry
    assert isinstance(g, FanGeometry) and isinstance(g, CTGeometry)
    assert (scan.kind, scan.units, scan.num_coils, scan.acceleration) == ("ct", "1/mm", 1, 1.0)
    np.testing.assert_array_equal(scan.data[0], data)
    np.testing.assert_allclose(g.angles, np.arange(40) * np.pi / 20)
    assert (g.num_detectors, g.detector_spacing) == (32, 0.75)
    assert (g.source_distance, g.detector_distance, g.magnification) == (200.0, 100.0, 1.5)
    assert (g.axis_shift, g.detector_offset, g.image_shape) == (0.5, 0.0, (32, 32))
    assert (g.pixel_size, g.slice_spacing) == (0.5, 0.5)  # as the detector sees it at the axis
    np.testing.assert_allclose(scan.affine @ [15.5, 15.5, 0, 1], [0, 0, 0, 1])


def test_everything_stated(tmp_path, rng):
    side = SIDE.replace("detector_distance = 100.0", "source_detector_distance = 300.0")
    side += "detector_offset = 1.5\npixel_size = 0.4\nimage_shape = [20, 24]\nslice_spacing = 2.0\n"
    g = load(write(tmp_path, sinogram(rng), side)).geometry
    assert (g.detector_distance, g.detector_offset) == (100.0, 1.5)
    assert (g.pixel_size, g.image_shape, g.slice_spacing) == (0.4, (20, 24), 2.0)


def test_the_column_of_the_axis(tmp_path, rng):
    """Where the axis projects, u = axis_shift * magnification, is the middle of that column."""
    side = SIDE.replace("axis_shift = 0.5", "axis_column = 18.5\ndetector_offset = -0.3")
    g = load(write(tmp_path, sinogram(rng), side)).geometry
    u = g.axis_shift * g.magnification
    assert (u - g.detector_offset) / g.detector_spacing + (32 - 1) / 2 == pytest.approx(18.5)


def test_clockwise_negates_the_angles(tmp_path, rng):
    data = sinogram(rng)
    for side in (SIDE, SIDE.replace('beam = "fan"', "").replace("source_distance = 200.0", "")
                 .replace("detector_distance = 100.0", "")):  # fmt: skip
        one = load(write(tmp_path, data, side)).geometry
        other = load(write(tmp_path, data, side + 'direction = "clockwise"\n')).geometry
        np.testing.assert_array_equal(other.angles, -one.angles)
    assert isinstance(other, ParallelGeometry)


@pytest.mark.parametrize(("step", "views"), [(1, 40), (3, 14), (12, 4)])
def test_fewer_views(tmp_path, rng, step, views):
    data = sinogram(rng)
    scan = load(write(tmp_path, data, SIDE + f"view_step = {step}\n"))
    np.testing.assert_array_equal(scan.data[0], data[::step])
    np.testing.assert_allclose(scan.geometry.angles, np.arange(40)[::step] * np.pi / 20)
    assert len(scan.geometry.angles) == views
    assert any(f"1 of {step} views" in note for note in scan.notes) == (step > 1)


def test_fewer_views_of_counts(tmp_path, rng):
    """Blank and dark that differ from view to view are thinned out with the data."""
    counts = rng.poisson(1000, (40, 32))
    blank = 2000.0 + 10 * np.arange(40)[:, None] + np.zeros(32)
    side = SIDE.replace("line_integrals", "counts") + "view_step = 4\nphoton_counts = true\n"
    side += '[blank]\nfile = "blank.npy"\n[dark]\nfile = "dark.npy"\n'
    scan = load(write(tmp_path, counts, side, blank=blank, dark=np.full(32, 2.0)))
    assert scan.counts is not None and scan.blank is not None
    np.testing.assert_allclose(scan.counts[0], counts[::4] - 2)
    np.testing.assert_allclose(scan.blank[0], blank[::4] - 2)
    expected = -np.log((counts[::4] - 2) / (blank[::4] - 2))
    np.testing.assert_allclose(scan.data[0], expected, rtol=1e-5, atol=1e-6)


# mistakes -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('beam = "fan"', 'beam = "cone"', ["ct.beam", "'cone'", '"fan"']),
        ('beam = "fan"', "", ["ct.source_distance", "parallel", 'beam = "fan"']),
        ("source_distance = 200.0", "", ["ct.source_distance", "no such key"]),
        ("detector_distance = 100.0", "", ["source_detector_distance", "no such key"]),
        ("detector_spacing = 0.75", "", ["ct.detector_spacing", "no such key"]),
        ("200.0", "-200.0", ["ct.source_distance", "positive"]),
        (
            "200.0",
            "11.0\npixel_size = 0.5",
            ["source_distance", "inside the image", "11.31", "unit (mm)"],
        ),
        ("200.0", "0.2\npixel_size = 0.5", ["source_distance", "inside the image"]),
        ("count = 40", "count = 41", ["angles", "41 angles", "40"]),
        ("count = 40", "count = 39", ["angles", "39 angles", "40"]),
        ("detector_distance = 100.0", "source_detector_distance = 150.0", ["below source_dist"]),
        (
            "detector_distance = 100.0",
            "detector_distance = 100.0\nsource_detector_distance = 300.0",
            ["source_detector_distance", "only one of the two"],
        ),
        ("axis_shift", "detector_ofset", ["detector_ofset", "mean ct.detector_offset?"]),
        ("axis_shift = 0.5", "view_step = 0", ["ct.view_step", "whole number"]),
        ("axis_shift = 0.5", "view_steps = 2", ["ct.view_steps", "mean ct.view_step?"]),
        ("axis_shift = 0.5", 'direction = "left"', ["ct.direction", '"clockwise"']),
        ("axis_shift", "source_distanse", ["source_distanse", "mean ct.source_distance?"]),
    ],
)
def test_mistakes_in_the_side_car(tmp_path, rng, old, new, words):
    assert old in SIDE
    refused(write(tmp_path, sinogram(rng), SIDE.replace(old, new, 1)), *words)


@pytest.mark.parametrize("columns", [31, 33])
@pytest.mark.parametrize("name", ["blank", "dark"])
def test_a_blank_of_one_column_more_or_less(tmp_path, rng, columns, name):
    beams = {"blank": np.full(32, 2000.0), "dark": np.full(32, 1.0)}
    beams[name] = np.ones(columns)
    side = SIDE.replace("line_integrals", "counts")
    side += '[blank]\nfile = "blank.npy"\n[dark]\nfile = "dark.npy"\n'
    path = write(tmp_path, rng.poisson(1000, (40, 32)), side, **beams)
    refused(path, f"{name}, detector", f"found {columns}", "expected 32 as the data")


@pytest.mark.parametrize("beam", ["fan", "parallel"])
def test_negative_counts(tmp_path, rng, beam):
    counts = rng.poisson(1000, (40, 32)).astype(float)
    counts[3, 4] = -1
    side = (
        SIDE
        if beam == "fan"
        else SIDE.split("[ct]")[0]
        + ("[ct]\nangles = { stop = 180, count = 40, unit = 'deg' }\naxis_shift = 0.0\n")
    )
    side = side.replace("line_integrals", "counts") + '[blank]\nfile = "blank.npy"\n'
    path = write(tmp_path, counts, side, blank=np.full(32, 2000.0))
    refused(path, "data", "1 negative counts", "photon_counts = false")
    with_dark_removed = side.replace("axis_shift", "photon_counts = false\naxis_shift")
    scan = load(write(tmp_path, counts, with_dark_removed, blank=np.full(32, 2000.0)))
    assert scan.valid is not None and not scan.valid[0, 3, 4]


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_not_finite(tmp_path, rng, value):
    data = sinogram(rng)
    data[1, 2] = value
    refused(write(tmp_path, data), "NaN or Inf", "(1, 2)")


def test_constant_sinogram(tmp_path):
    refused(write(tmp_path, np.zeros((40, 32), np.float32)), "constant sinogram")


def test_wrong_number_of_axes(tmp_path, rng):
    refused(write(tmp_path, sinogram(rng)[None]), "3 axes", "2 axes")


# real data ----------------------------------------------------------------------------------------
@pytest.mark.data
@pytest.mark.parametrize(("name", "step"), [("twelfth", 12), ("twentyfourth", 24)])
def test_real_disc(real_data, name, step):
    path = real_data / "ct_fanbeam_htc2022_ta.mat"
    scan = load(path, sidecar=SIDECARS / f"ct_fanbeam_htc2022_{name}.toml")
    full = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["CtDataFull"]
    g = scan.geometry
    np.testing.assert_array_equal(scan.data[0], full.sinogram[::step].astype(np.float32))
    np.testing.assert_allclose(g.angles, np.deg2rad(full.parameters.angles[::step]))
    assert g.source_distance == full.parameters.distanceSourceOrigin
    assert g.source_distance + g.detector_distance == pytest.approx(
        full.parameters.distanceSourceDetector
    )
    assert g.magnification == pytest.approx(full.parameters.geometricMagnification)
    assert g.pixel_size == pytest.approx(2 * full.parameters.effectivePixelSizePost)
    assert g.detector_spacing == full.parameters.pixelSizePost


# the rotation axis --------------------------------------------------------------------------------
def simulated(shift, offset=0.0, span=2 * np.pi):
    from sciinv.data.simulate import simulate_fan

    c = np.arange(48) - 23.5
    x, y = c[None], -c[:, None]
    image = 0.02 * ((x - 5) ** 2 + (y + 4) ** 2 < 15**2) + 0.02 * ((x + 2) ** 2 + y**2 < 5**2)
    return simulate_fan(image, num_angles=120, span=span, axis_shift=shift, detector_offset=offset)


@pytest.mark.parametrize(("shift", "offset"), [(2.3, 0.0), (-1.7, 3.0)])
def test_an_axis_that_is_not_stated_is_found(tmp_path, shift, offset):
    scan = simulated(shift, offset)
    g = scan.geometry
    side = SIDE.replace("axis_shift = 0.5", f"detector_offset = {offset}").replace("40", "120")
    side = side.replace("0.75", f"{g.detector_spacing}").replace("200.0", f"{g.source_distance}")
    side = side.replace("100.0", f"{g.detector_distance}")
    found = load(write(tmp_path, scan.data[0], side))
    # a tenth of a pixel
    assert found.geometry.axis_shift == pytest.approx(shift, abs=0.1)
    column = (shift * 1.5 - offset) / g.detector_spacing + (g.num_detectors - 1) / 2
    (note,) = [note for note in found.notes if "rotation axis" in note]
    number = float(note.split("column ")[1].split(" ")[0])
    assert number == pytest.approx(column, abs=0.15)


def test_an_axis_that_cannot_be_found_is_assumed(tmp_path, rng):
    """Half a turn of a fan measures too few lines twice."""
    side = SIDE.replace("axis_shift = 0.5", "").replace("stop = 360", "stop = 180")
    scan = load(write(tmp_path, sinogram(rng), side))
    assert scan.geometry.axis_shift == 0.0
    assert any("axis assumed in the detector centre" in note for note in scan.notes)
