"""sciinv's own format: everything comes back, and an independent reader finds what docs say."""

from __future__ import annotations

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest

from sciinv.data import (
    DiffractionGeometry,
    FanGeometry,
    MRIGeometry,
    NonCartesianGeometry,
    ParallelGeometry,
    Scan,
    load,
    write_scan,
)
from sciinv.errors import DataError


@pytest.fixture
def mri(tmp_path, rng):
    def z(*shape):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)

    mask = rng.random((6, 5)) < 0.7
    return Scan(
        kind="mri",
        data=z(2, 3, 6, 5) * mask,
        geometry=MRIGeometry((6, 5), mask, (4.0, 1.5, 1.25), 0),
        format="fastmri",
        source=tmp_path / "somewhere.h5",
        units="a.u.",
        affine=rng.standard_normal((4, 4)),
        noise_std=0.25,
        oriented=True,
        coil_maps=z(2, 3, 6, 5),
        reference=rng.random((2, 6, 5)).astype(np.float32),
        notes=("one", "zwei ü"),
        header={"field": "3 T"},
    )


@pytest.fixture
def ct(tmp_path, rng):
    shape = (2, 7, 9)
    return Scan(
        kind="ct",
        data=rng.random(shape).astype(np.float32),
        geometry=ParallelGeometry(rng.random(7), 9, 0.5, (8, 10), 0.4, -1.25, 2.0),
        format="dxchange",
        source=tmp_path / "somewhere.h5",
        units="1/mm",
        affine=np.eye(4),
        valid=rng.random(shape) < 0.9,
        counts=rng.random(shape).astype(np.float32),
        blank=rng.random(shape).astype(np.float32),
    )


@pytest.fixture
def noncartesian(mri, rng):
    shape = (2, 3, 7, 11)
    return replace(
        mri,
        data=(rng.standard_normal(shape) + 1j).astype(np.complex64),
        geometry=NonCartesianGeometry(
            (6, 5),
            rng.uniform(-1, 1, (7, 11, 2)) * [3, 2.5],
            (4.0, 1.5, 1.25),
            density=rng.random((7, 11)).astype(np.float32),
            readout_times=rng.random((7, 11)),
            field_map=rng.standard_normal((2, 6, 5)).astype(np.float32),
        ),
    )


@pytest.fixture
def fan(ct, rng):
    geometry = FanGeometry(rng.random(7), 9, 0.5, (8, 10), 0.4, 40.0, 20.0, -1.25, 2.0, 0.125)
    return replace(ct, geometry=geometry)


@pytest.fixture
def diffraction(tmp_path, rng):
    return Scan(
        kind="diffraction",
        data=rng.poisson(5.0, (2, 5, 8, 9)).astype(np.float32),
        geometry=DiffractionGeometry((5, 8, 9), (2, 4, 5), (2.5, 2.0, 1.8), (1e-5, 2e-5, 3e-5)),
        format="tiff",
        source=tmp_path / "somewhere.h5",
        units="a.u.",
        affine=np.eye(4),
        valid=rng.random((2, 5, 8, 9)) < 0.9,
        reference=rng.random((2, 2, 4, 5)).astype(np.float32),
    )


def same(a, b):
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


ALL = ["mri", "ct", "noncartesian", "fan", "diffraction"]


@pytest.mark.parametrize("name", ALL)
def test_round_trip(request, tmp_path, name):
    scan = request.getfixturevalue(name)
    path = write_scan(scan, tmp_path / "out.h5")
    again = load(path)
    assert again.format == "sciinv"
    assert again.source == path
    assert type(again.geometry) is type(scan.geometry)
    for field in fields(Scan):
        if field.name == "geometry":
            for inner in fields(scan.geometry):
                same(getattr(scan.geometry, inner.name), getattr(again.geometry, inner.name))
        elif field.name not in ("format", "source"):
            same(getattr(scan, field.name), getattr(again, field.name))


def test_nothing_optional(tmp_path, mri):
    bare = replace(
        mri,
        geometry=replace(mri.geometry, readout_axis=None),
        coil_maps=None,
        reference=None,
        noise_std=None,
        notes=(),
        header={},
    )
    again = load(write_scan(bare, tmp_path / "out.h5"))
    assert again.noise_std is None
    assert again.coil_maps is None
    assert again.reference is None
    assert again.geometry.readout_axis is None
    assert again.notes == ()


@pytest.mark.parametrize(("name", "version"), list(zip(ALL, [1, 1, 2, 2, 2], strict=True)))
def test_the_oldest_version_that_can_hold_it_is_written(request, tmp_path, name, version):
    with h5py.File(write_scan(request.getfixturevalue(name), tmp_path / "out.h5")) as file:
        assert file.attrs["sciinv_format"] == version
        assert ("type" in file["geometry"].attrs) == (version > 1)


def test_nothing_optional_of_a_trajectory(tmp_path, noncartesian):
    fields_ = {"density": None, "readout_times": None, "field_map": None}
    bare = replace(noncartesian, geometry=replace(noncartesian.geometry, **fields_))
    again = load(write_scan(bare, tmp_path / "out.h5")).geometry
    assert (again.density, again.readout_times, again.field_map) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("fan", lambda f: geometry(f, "type", "cone"), ["geometry/type", "'cone'", '"fan"']),
        ("fan", lambda f: geometry(f, "type", "noncartesian"), ["geometry/type", '"parallel"']),
        ("fan", lambda f: geometry(f, "source_distance", -4.0), ["source_distance", "-4"]),
        ("fan", lambda f: geometry(f, "source_distance", 2.0), ["source_distance", "inside"]),
        ("fan", lambda f: geometry(f, "detector_distance", -1.0), ["detector_distance", "-1"]),
        ("noncartesian", lambda f: f.__delitem__("geometry/trajectory"), ["trajectory"]),
        (
            "noncartesian",
            lambda f: f["geometry/trajectory"].__setitem__((0, 0), 9.0),
            ["trajectory", "9"],
        ),
        (
            "noncartesian",
            lambda f: f["geometry/density"].__setitem__((0, 0), -1.0),
            ["density", "negative"],
        ),
        (
            "noncartesian",
            lambda f: f.__delitem__("geometry/readout_times"),
            ["readout_times", "field map"],
        ),
        (
            "diffraction",
            lambda f: geometry(f, "pattern_shape", [8, 9]),
            ["oversampling", "expected 2"],
        ),
        ("diffraction", lambda f: geometry(f, "oversampling", [2.0, 2.0]), ["oversampling", "3"]),
        ("diffraction", lambda f: geometry(f, "image_shape", [6, 4, 5]), ["image_shape", "most"]),
    ],
)
def test_wrong_geometries(request, tmp_path, name, change, words):
    path = write_scan(request.getfixturevalue(name), tmp_path / "out.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(DataError) as caught:
        load(path)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_layout_is_the_documented_one(tmp_path, ct):
    with h5py.File(write_scan(ct, tmp_path / "out.h5")) as file:
        assert file.attrs["sciinv_format"] == 1
        assert file.attrs["kind"] == b"ct"
        assert file.attrs["units"] == b"1/mm"
        np.testing.assert_array_equal(file["data"], ct.data)
        np.testing.assert_array_equal(file["geometry/angles"], ct.geometry.angles)
        assert file["geometry"].attrs["axis_shift"] == -1.25
        assert list(file["geometry"].attrs["image_shape"]) == [8, 10]
        assert file["valid"].dtype == np.uint8


def test_file_written_by_hand(tmp_path, rng):
    """From the documentation alone, with h5py only."""
    path = tmp_path / "hand.h5"
    with h5py.File(path, "w") as file:
        file.attrs["sciinv_format"] = 1
        file.attrs["kind"] = "mri"
        file["data"] = (rng.standard_normal((1, 1, 4, 4)) + 0j).astype(np.complex64)
        file["affine"] = np.eye(4)
        file["geometry/mask"] = np.ones((4, 4), np.uint8)
        file["geometry"].attrs["image_shape"] = [4, 4]
    scan = load(path)
    assert scan.geometry.voxel_size == (1.0, 1.0, 1.0)
    assert scan.units == "a.u."


def test_a_failed_write_leaves_the_old_file(tmp_path, mri, ct, monkeypatch):
    path = write_scan(mri, tmp_path / "out.h5")
    before = path.read_bytes()

    def broken(*args):
        raise OSError("disc full")

    monkeypatch.setattr("sciinv.data.native._write_geometry", broken)
    with pytest.raises(OSError, match="disc full"):
        write_scan(ct, path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["out.h5"]


def test_an_inconsistent_scan_is_not_written(tmp_path, mri):
    with pytest.raises(DataError, match="mask"):
        write_scan(
            replace(mri, geometry=replace(mri.geometry, mask=np.ones((5, 6), bool))),
            tmp_path / "out.h5",
        )
    assert not list(tmp_path.iterdir())


def test_a_sidecar_is_refused(tmp_path, mri):
    path = write_scan(mri, tmp_path / "out.h5")
    (tmp_path / "out.toml").write_text('kind = "mri"\n')
    with pytest.raises(DataError, match="describes itself"):
        load(path)


def geometry(file, name, value):
    file["geometry"].attrs[name] = value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.attrs.__setitem__("sciinv_format", 3), ["sciinv_format", "3", "newer"]),
        (lambda f: f.attrs.__setitem__("kind", "us"), ["kind", "'us'"]),
        (lambda f: f.attrs.__delitem__("kind"), ["kind", "None"]),
        (lambda f: f.__delitem__("data"), ["data", "no such data set"]),
        (lambda f: f.__delitem__("affine"), ["affine"]),
        (lambda f: f.__delitem__("geometry"), ["geometry/image_shape"]),
        (lambda f: geometry(f, "image_shape", 6.5), ["image_shape", "integers"]),
        (lambda f: geometry(f, "voxel_size", [1.0, -1.0, 1.0]), ["voxel_size", "-1"]),
        (lambda f: geometry(f, "readout_axis", 5), ["readout_axis", "5"]),
        (lambda f: f.attrs.__setitem__("noise_std", -1.0), ["noise_std", "-1"]),
        (lambda f: f.attrs.__setitem__("oriented", 2), ["oriented", "2", "0 or 1"]),
        (lambda f: f["notes"].__setitem__((), b"no"), ["notes", "JSON"]),
    ],
)  # fmt: skip
def test_wrong_files(tmp_path, mri, change, words):
    path = write_scan(mri, tmp_path / "out.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(DataError) as caught:
        load(path)
    for word in ["out.h5", *words]:
        assert word in str(caught.value), str(caught.value)
