"""The MATLAB 5 reader against files from scipy's writer."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from sciinv.data.formats.matlab import read_array
from sciinv.errors import DataError


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "dtype",
    ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "c8", "c16"],
)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 4, 2), (1, 700)])
def test_what_scipy_wrote(tmp_path, rng, dtype, packed, shape):
    path = tmp_path / "a.mat"
    array = (100 * rng.random(shape)).astype(dtype)
    if array.dtype.kind == "c":
        array = array + 1j * array[::-1]
    others = {
        "a": 1.0,
        "text": "hello",
        "s": {"x": np.arange(3)},
        "z": np.array([[1, "x"]], dtype=object),
    }
    scipy.io.savemat(path, {**others, "wanted": array, "last": np.ones(4)}, do_compression=packed)
    found = read_array(path, "wanted")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(read_array(path, "last"), np.ones((1, 4)))


@pytest.mark.parametrize(("name", "kind"), [("s", "struct"), ("z", "cell"), ("text", "char")])
def test_other_classes(tmp_path, name, kind):
    path = tmp_path / "a.mat"
    scipy.io.savemat(
        path, {"s": {"x": 1}, "z": np.array([[1, "x"]], dtype=object), "text": "hi", "n": 1.0}
    )
    with pytest.raises(DataError, match=f"class {kind}"):
        read_array(path, name)
    assert read_array(path, None) == 1.0  # the only numbers


NESTED = {
    "s": {
        "x": np.arange(12.0).reshape(3, 4),
        "inner": {"y": np.array([[1 + 2j, 3]]), "deep": {"z": np.int16(7)}},
        "text": "hi",
        "cells": np.array([[1, "x"]], dtype=object),
        "empty": np.zeros((0, 0)),
        "a_rather_long_name_of_a_field": 5.0,
    },
    "several": np.array([(1.0,), (2.0,)], dtype=[("x", object)]),
    "n": 1.0,
}


@pytest.mark.parametrize("packed", [False, True])
def test_fields_of_structures(tmp_path, packed):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, NESTED, do_compression=packed)
    np.testing.assert_array_equal(read_array(path, "s.x"), NESTED["s"]["x"])
    np.testing.assert_array_equal(read_array(path, "s.inner.y"), NESTED["s"]["inner"]["y"])
    deep = read_array(path, "s.inner.deep.z")
    assert (deep, deep.dtype) == (7, np.int16)
    assert read_array(path, "s.a_rather_long_name_of_a_field") == 5.0
    assert read_array(path, "s.empty").size == 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("s.X", ["X", "no such array", "x, inner, text"]),
        ("s.innr.y", ["innr", "mean inner?"]),
        ("t.x", ["t", "no such array"]),
        ("s.text", ["s.text", "class char"]),
        ("s.cells", ["s.cells", "class cell"]),
        ("s.inner", ["s.inner", "class struct"]),
        ("s.x.y", ["s.x", "numbers, not a structure"]),
        ("n.x", ["n", "numbers, not a structure"]),
        ("several.x", ["several", "array of structures"]),
        ("s", ["class struct", "named by a dot", "s.x, s.inner"]),
        ("s.", ["s"]),
        (".x", ["a.mat"]),
    ],
)
def test_wrong_fields(tmp_path, name, words, packed):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, NESTED, do_compression=packed)
    with pytest.raises(DataError) as caught:
        read_array(path, name)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_a_file_of_one_structure_names_its_fields(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"s": {"x": 1.0, "y": 2.0}})
    with pytest.raises(DataError, match="s.x, s.y"):
        read_array(path, None)


def test_bomb_in_a_structure(tmp_path, monkeypatch):
    monkeypatch.setattr("sciinv.data.files.MAX_UNBACKED_BYTES", 2**20)
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"s": {"m": np.zeros((2**12, 2**10), "f4")}}, do_compression=True)
    with pytest.raises(DataError, match="bomb"):
        read_array(path, "s.m")


def test_sparse_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"m": scipy.sparse.eye(3).tocsc()})
    with pytest.raises(DataError, match="sparse"):
        read_array(path, "m")


def test_logical(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"m": np.array([[True, False]])})
    np.testing.assert_array_equal(read_array(path, "m"), [[1, 0]])


def test_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr("sciinv.data.files.MAX_UNBACKED_BYTES", 2**20)
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"m": np.zeros((2**12, 2**10), "f4")}, do_compression=True)
    with pytest.raises(DataError, match="bomb"):
        read_array(path, "m")


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_mutated_files(tmp_path, rng, packed):
    """Bytes overwritten at random: numbers or a DataError, nothing else."""
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"m": rng.random((9, 8)), "s": {"x": 1}}, do_compression=packed)
    original = path.read_bytes()
    outcomes = set()
    for _ in range(400):
        data = bytearray(original)
        for position in rng.integers(0, len(data), size=rng.integers(1, 5)):
            data[position] = rng.integers(256)
        path.write_bytes(data[: rng.integers(200, len(data) + 1)])
        try:
            read_array(path, "m")
            read_array(path, "s.x")
            outcomes.add("read")
        except DataError:
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.data
def test_real_files_read_as_by_scipy(real_data):
    for name, key in (
        ("pet_transmission_phantom_trans.mat", "test"),
        ("mri_spiral20ch_ksp.mat", "dat"),
    ):
        expected = scipy.io.loadmat(real_data / name)[key]
        np.testing.assert_array_equal(read_array(real_data / name, key), expected)
    full = scipy.io.loadmat(
        real_data / "ct_fanbeam_htc2022_ta.mat", squeeze_me=True, struct_as_record=False
    )["CtDataFull"]
    for name, expected in (
        ("CtDataFull.sinogram", full.sinogram),
        ("CtDataFull.parameters.angles", full.parameters.angles),
        ("CtDataFull.parameters.distanceSourceOrigin", full.parameters.distanceSourceOrigin),
    ):
        found = read_array(real_data / "ct_fanbeam_htc2022_ta.mat", name)
        np.testing.assert_array_equal(np.squeeze(found), expected)
