"""NXtomo: frames anywhere in the stack, units, entries, beam; one voxel through to NIfTI."""

from __future__ import annotations

import h5py
import nibabel as nib
import numpy as np
import pytest

from sciinv.data import load
from sciinv.data.scan import FanGeometry, ParallelGeometry
from sciinv.report.store import image_axes, write_nifti

from . import nxtomo_files as nx
from .bare_files import noted, refused

THETA = nx.angles()
P = nx.projections(nx.letter_f(), THETA)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.nx"


def usual() -> nx.Stack:
    """Dark and flat frames, then the projections."""
    return nx.Stack().darks().flats(1e4).views(P, THETA)


def is_right(scan, p=P, theta=THETA, atol=2e-4) -> None:
    assert (scan.kind, scan.format) == ("ct", "nxtomo")
    assert isinstance(scan.geometry, ParallelGeometry)
    expected = np.broadcast_to(p, (nx.ROWS, *p.shape))
    np.testing.assert_allclose(scan.data, expected, atol=atol)
    np.testing.assert_allclose(scan.geometry.angles, theta, atol=1e-6)


def test_line_integrals_angles_and_lengths(path):
    scan = load(nx.write(path, usual()))
    is_right(scan)
    g = scan.geometry
    assert (g.detector_spacing, g.pixel_size, g.slice_spacing) == (0.5, 0.5, 1.0)
    assert scan.units == "1/mm"
    assert scan.counts is None  # with a dark field they are not photon counts
    assert g.axis_shift == pytest.approx(0, abs=0.1)
    assert noted(scan, "found at column")


@pytest.mark.parametrize(
    "options",
    [
        {"entry": "1.1"},
        {"entry": "entry1/tomo_entry"},
        {"as_bytes": True},
        {"linked": True},
        {"unit": "rad"},
        {"length": (5e-4, "m")},
        {"length": (500.0, "um")},
        {"length": (500.0, "micron")},
    ],
    ids=str,
)
def test_names_links_texts_and_units(path, options):
    stack = usual()
    if options.get("unit") == "rad":
        stack.degrees = list(np.deg2rad(stack.degrees))
    scan = load(nx.write(path, stack, **options))
    is_right(scan)
    assert scan.geometry.detector_spacing == pytest.approx(0.5)


def test_frames_anywhere_and_invalid_ones(path):
    """Flats in between and at the end, darks last, invalid frames full of NaN."""
    stack = nx.Stack()
    stack.views(P[:20], THETA[:20]).invalid().flats(1e4, 1).invalid().flats(1e4, 1)
    stack.views(P[20:45], THETA[20:45]).invalid(77.0).views(P[45:], THETA[45:])
    stack.flats(1e4).darks(1)
    scan = load(nx.write(path, stack))
    is_right(scan)
    assert noted(scan, "3 of", "invalid")
    assert noted(scan, "2 sets of flat fields")


def test_a_beam_that_drifts_is_interpolated(path):
    """Flats before, in the middle and after; the beam falls linearly in between, to one half."""
    frames = np.arange(2 * nx.VIEWS + 3)
    beam = 1e4 * (1 - frames / frames[-1] / 2)
    stack, twice = nx.Stack(), np.concatenate([THETA, THETA + np.pi])
    p = nx.projections(nx.letter_f(), twice)
    stack.flats(beam[0], 1)
    stack.views(p[: nx.VIEWS], twice[: nx.VIEWS], beam[1 : nx.VIEWS + 1])
    stack.flats(beam[nx.VIEWS + 1], 1)
    stack.views(p[nx.VIEWS :], twice[nx.VIEWS :], beam[nx.VIEWS + 2 : -1])
    stack.flats(beam[-1], 1).darks()
    is_right(load(nx.write(path, stack)), p, twice)


def test_every_second_view_keeps_its_beam(path, tmp_path):
    """The open beam of each view goes with it when a side-car drops views."""
    beam = np.linspace(1e4, 5e3, nx.VIEWS + 2)
    stack = nx.Stack().flats(beam[0], 1).views(P, THETA, beam[1:-1]).flats(beam[-1], 1).darks()
    (tmp_path / "scan.toml").write_text('kind = "ct"\n[ct]\nview_step = 2\naxis_column = 16\n')
    is_right(load(nx.write(path, stack)), P[::2], THETA[::2])


def test_the_beam_monitor_scales_the_open_beam(path):
    current = 1 + 0.3 * np.sin(np.arange(nx.VIEWS))
    stack = nx.Stack().darks().flats(2e4, monitor=2.0).views(P, THETA, 1e4 * current, current)
    scan = load(nx.write(path, stack, control__data=np.asarray(stack.monitor)))
    is_right(scan)
    assert noted(scan, "beam monitor")
    # a monitor that says nothing changes nothing
    other = load(nx.write(path.with_name("b.nx"), usual(), control__data=np.zeros(64)))
    is_right(other)


def test_no_dark_frame(path):
    stack = nx.Stack(dark=0.0).flats(1e4).views(P, THETA)
    scan = load(nx.write(path, stack))
    is_right(scan)
    assert noted(scan, "no dark frame")


def test_alignment_frames_are_left_out(path):
    stack = usual().views(P[:2] * 0.5, THETA[:2])
    control = np.asarray(stack.keys)
    control[-2:] = -1
    extra = {"instrument__detector__image_key_control": control}
    scan = load(nx.write(path, stack, **extra))
    is_right(scan)
    assert noted(scan, "2 alignment frames")


def test_a_full_turn_with_both_ends_is_noted(path):
    theta = np.linspace(0, 2 * np.pi, 61)
    p = nx.projections(nx.letter_f(), theta)
    scan = load(nx.write(path, nx.Stack().darks().flats(1e4).views(p, theta)))
    is_right(scan, p, theta)
    assert noted(scan, "1 of 61 angles repeat")
    assert not noted(load(nx.write(path.with_name("b.nx"), usual())), "repeat")


def test_the_axis_of_the_file_is_used(path):
    p = nx.projections(nx.letter_f(), THETA, axis=14.25)
    stack = nx.Stack().darks().flats(1e4).views(p, THETA)
    extra = {"instrument__detector__x_rotation_axis_pixel_position": 14.25}
    scan = load(nx.write(path, stack, **extra))
    assert scan.geometry.axis_shift == pytest.approx((14.25 - 16) * 0.5)
    assert noted(scan, "column 14.25", "states")


@pytest.mark.parametrize(("name", "value"), [("field_of_view", "Half"), ("half_acquisition", True)])
def test_half_of_the_object_is_seen(path, name, value):
    """An axis near the edge: the image reaches as far as any view does."""
    extra = {f"instrument__detector__{name}": value}
    refused(nx.write(path, usual(), **extra), name, "axis_column")
    extra["instrument__detector__x_rotation_axis_pixel_position"] = 4.0
    path = path.with_name("b.nx")
    assert load(nx.write(path, usual(), **extra)).image_shape == (57, 57)


def test_pixel_size_at_the_sample_comes_first(path):
    nx.write(path, usual(), sample__x_pixel_size=0.25)
    with h5py.File(path, "a") as file:
        file["entry/sample/x_pixel_size"].attrs["units"] = "mm"
    g = load(path).geometry
    assert (g.detector_spacing, g.slice_spacing) == (0.25, 1.0)


@pytest.mark.parametrize("length", [None, (0.5, None)])
def test_no_usable_pixel_size(path, length):
    """As for other files without one."""
    scan = load(nx.write(path, usual(), length=length))
    assert (scan.geometry.detector_spacing, scan.units) == (1.0, "1/pixel")
    assert noted(scan, "no unit") == (length is not None)


def test_angles_without_a_unit(path):
    assert noted(load(nx.write(path, usual(), unit=None)), "degrees assumed")
    stack = usual()
    stack.degrees = [d / 18 for d in stack.degrees]  # up to 9.8: neither is certain
    refused(nx.write(path.with_name("b.nx"), stack, unit=None), "9.83", "a unit")


def test_the_first_of_several_scans(path):
    nx.write(path, usual(), entry="entry0000")
    nx.write(path, nx.Stack().darks().flats(1e4).views(2 * P, THETA), entry="entry0001")
    scan = load(path)
    is_right(scan)
    assert noted(scan, "2 scans")


def test_side_cars(path, tmp_path):
    nx.write(path, usual())
    side = tmp_path / "scan.toml"
    side.write_text('kind = "ct"\n[ct]\naxis_column = 15.0\ndetector_spacing = 0.1\n')
    g = load(path).geometry
    assert (g.axis_shift, g.detector_spacing, g.slice_spacing) == pytest.approx((-0.1, 0.1, 0.1))
    # with axes it is HDF5 like any other
    side.write_text(
        'kind = "ct"\nquantity = "line_integrals"\naxes = ["angle", "slice", "detector"]\n'
        '[data]\nname = "entry/instrument/detector/data"\n'
        '[ct]\nangles = { start = 0.0, stop = 180.0, count = 64, unit = "deg" }\n'
    )
    assert load(path).format == "hdf5"


def test_a_tube_is_not_parallel(path, tmp_path):
    extra = {"instrument__source__type": "Fixed Tube X-ray"}
    nx.write(path, usual(), **extra)
    refused(path, "source/type", "parallel", "side-car")
    (tmp_path / "scan.toml").write_text(
        'kind = "ct"\n[ct]\nbeam = "fan"\nsource_distance = 100\ndetector_distance = 50\n'
        "detector_spacing = 0.75\n"
    )
    assert isinstance(load(path).geometry, FanGeometry)


def change(name, value, units=None):
    def apply(file):
        del file[f"entry/{name}"]
        if value is not None:
            file[f"entry/{name}"] = value
            if units is not None:
                file[f"entry/{name}"].attrs["units"] = units

    return apply


KEY, ANGLE = "instrument/detector/image_key", "sample/rotation_angle"


@pytest.mark.parametrize(
    ("apply", "words"),
    [
        (change(KEY, None), ["image_key", "what each frame is"]),
        (change(KEY, np.ones(5, int)), ["5 keys", "64"]),
        (change(KEY, np.full(64, 7)), ["7", "projection"]),
        (change(KEY, np.full(64, 2)), ["no projection"]),
        (change(KEY, np.zeros(64, int)), ["no flat field", "axes"]),
        (change(ANGLE, None), ["rotation_angle"]),
        (change(ANGLE, np.zeros(5), "deg"), ["5 angles", "64"]),
        (change(ANGLE, np.zeros(64), "furlong"), ["furlong"]),
        (change("instrument/detector/data", np.zeros((64, 33))), ["2 axes", "3 axes"]),
        (change("instrument/detector/x_pixel_size", 0.0, "mm"), ["x_pixel_size", "positive"]),
        (change("instrument/detector/x_pixel_size", 1.0, "inch"), ["x_pixel_size", "inch"]),
    ],
)
def test_mistakes_are_one_line(path, apply, words):
    nx.write(path, usual())
    with h5py.File(path, "a") as file:
        apply(file)
    refused(path, *words)


def test_swapped_keys_and_bad_pixels(path):
    stack = usual()
    stack.keys = [{1: 2, 2: 1}.get(k, k) for k in stack.keys]
    refused(nx.write(path, stack), "dark below flat")
    stack = usual()
    stack.frames[10] = np.full((nx.ROWS, nx.COLUMNS), np.nan)
    refused(nx.write(path.with_name("b.nx"), stack), "projection frames")


def test_frames_in_another_file_are_refused(path):
    """As masters of beamlines have them: links out of the file, virtual data sets."""
    nx.write(path, usual())
    with h5py.File(path, "a") as file:
        del file["entry/instrument/detector/data"]
        file["entry/instrument/detector/data"] = h5py.ExternalLink("raw.h5", "/data")
        file["other"] = h5py.ExternalLink("raw.h5", "/entry")
    refused(path, "external link")


def test_nothing_identifying_is_kept(path):
    extra = {"sample__name": "CANARY", "title": "CANARY", "instrument__name": "CANARY",
             "start_time": "CANARY"}  # fmt: skip
    nx.write(path, usual(), entry="CANARY-a", **extra)
    nx.write(path, usual(), entry="CANARY-b")
    scan = load(path)
    assert "CANARY" not in repr((scan.header, scan.notes))


def test_marker_through_back_projection_to_nifti(path, tmp_path):
    """The marked voxel is where the file's geometry has it, in the picture and in mm."""
    import torch

    from sciinv.baselines import fbp
    from sciinv.reconstruction.ct_model import tomograph

    p = nx.projections(nx.letter_f(), THETA, axis=14.5)
    stack = nx.Stack().darks().flats(1e4).views(p, THETA)
    scan = load(nx.write(path, stack))
    physics = tomograph(scan.geometry, scan.image_shape)
    sinogram = torch.as_tensor(scan.data[:1, None])
    image = fbp(sinogram, physics)[0].numpy()
    assert np.unravel_index(image[0].argmax(), image[0].shape) == nx.MARKER
    letter = nx.letter_f()
    assert image[0][letter == 1].mean() > 5 * abs(image[0][letter == 0].mean())
    write_nifti(tmp_path / "a.nii.gz", image_axes(image), scan.affine, "FBP", oriented=False)
    nifti = nib.load(tmp_path / "a.nii.gz")
    data = np.asarray(nifti.dataobj)
    world = nib.affines.apply_affine(
        nifti.affine, [*np.unravel_index(data[..., 0].argmax(), data.shape[:2]), 0]
    )
    row, column = nx.MARKER
    # rows run from anterior to posterior, columns from right to left, about the rotation axis
    expected = [-(column - 16) * nx.PIXEL, -(row - 16) * nx.PIXEL, -1.0]
    np.testing.assert_allclose(world, expected, atol=1e-5)


@pytest.mark.data
def test_the_real_tooth_as_nxtomo(real_data, path):
    """The same scan in both layouts is the same."""
    source = real_data / "ct_parallel_tooth.h5"
    with h5py.File(source) as file:
        data, white, dark = (
            file[f"exchange/{name}"][()] for name in ("data", "data_white", "data_dark")
        )
        theta = file["exchange/theta"][()]
    keys = np.repeat([2, 1, 0], [len(dark), len(white), len(data)])
    with h5py.File(path, "w") as file:
        file["entry/definition"] = "NXtomo"
        file["entry/instrument/detector/data"] = np.concatenate([dark, white, data])
        file["entry/instrument/detector/image_key"] = keys
        file["entry/sample/rotation_angle"] = np.where(keys == 0, 0.0, 0.0)
        file["entry/sample/rotation_angle"][keys == 0] = theta
        file["entry/sample/rotation_angle"].attrs["units"] = "degree"
    scan, other = load(path), load(source)
    assert scan.format == "nxtomo"
    np.testing.assert_allclose(scan.data, other.data, atol=1e-5)
    np.testing.assert_array_equal(scan.geometry.angles, other.geometry.angles)
    assert scan.geometry.axis_shift == pytest.approx(other.geometry.axis_shift, abs=0.06)
