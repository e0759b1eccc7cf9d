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
