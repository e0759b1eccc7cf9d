"""sciinv's own format: everything comes back, and an independent reader finds what docs say."""

from __future__ import annotations

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest

from sciinv.data import MRIGeometry, ParallelGeometry, Scan, load, write_scan
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


def same(a, b):
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


@pytest.mark.parametrize("name", ["mri", "ct"])
def test_round_trip(request, tmp_path, name):
    scan = request.getfixturevalue(name)
    path = write_scan(scan, tmp_path / "out.h5")
    again = load(path)
    assert again.format == "sciinv"
    assert again.source == path
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
        (lambda f: f.attrs.__setitem__("sciinv_format", 2), ["sciinv_format", "2", "newer"]),
        (lambda f: f.attrs.__setitem__("kind", "us"), ["kind", "'us'"]),
        (lambda f: f.attrs.__delitem__("kind"), ["kind", "None"]),
        (lambda f: f.__delitem__("data"), ["data", "no such data set"]),
        (lambda f: f.__delitem__("affine"), ["affine"]),
        (lambda f: f.__delitem__("geometry"), ["geometry/image_shape"]),
        (lambda f: geometry(f, "image_shape", 6.5), ["image_shape", "integers"]),
        (lambda f: geometry(f, "voxel_size", [1.0, -1.0, 1.0]), ["voxel_size", "-1"]),
        (lambda f: geometry(f, "readout_axis", 5), ["readout_axis", "5"]),
        (lambda f: f.attrs.__setitem__("noise_std", -1.0), ["noise_std", "-1"]),
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
