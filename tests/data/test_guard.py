"""The guarded HDF5 opener refuses everything that leads out of the file or explodes."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sciinv.data.guard import open_hdf5
from sciinv.errors import DataError


@pytest.fixture
def victim(tmp_path):
    """A file elsewhere whose content must never be read."""
    path = tmp_path / "elsewhere" / "secret.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["k"] = np.arange(8.0)
        file["inner/k"] = np.arange(8.0)
    return path


def refusal(path: Path, name: str, **kwargs) -> str:
    with open_hdf5(path) as file, pytest.raises(DataError) as caught:
        file.read(name, **kwargs)
    text = str(caught.value)
    assert str(path) in text
    assert name in text
    assert "\n" not in text
    return text


def test_plain_data_sets_are_read_exactly(tmp_path, rng):
    path = tmp_path / "plain.h5"
    real = rng.standard_normal((3, 4)).astype(">f4")
    z = (rng.standard_normal(5) + 1j * rng.standard_normal(5)).astype(np.complex64)
    pair = np.zeros(5, dtype=[("real", "f8"), ("imag", "f8")])
    pair["real"], pair["imag"] = z.real, z.imag
    with h5py.File(path, "w") as file:
        file.create_dataset("a/b/real", data=real, compression="gzip", shuffle=True)
        file["z"] = z
        file["pair"] = pair
        file["soft"] = h5py.SoftLink("/a/b")
        file["text"] = "grüße"
        file.attrs["unit"] = "mm"
        file.attrs["number"] = 3
    with open_hdf5(path) as file:
        read = file.read("a/b/real", ndim=2)
        np.testing.assert_array_equal(read, real)
        assert read.dtype == np.dtype("=f4")
        np.testing.assert_array_equal(file.read("/soft/real"), real)
        np.testing.assert_array_equal(file.read("z", kinds="c"), z)
        np.testing.assert_array_equal(file.read("pair", kinds="c"), z.astype(complex))
        assert file.get("nothing") is None
        assert "a/b" in file
        assert "a/c" not in file
        assert file.text("text") == "grüße"
        assert file.attrs() == {"unit": "mm", "number": 3}
        assert file.attr("unit") == "mm"
        assert file.attr("number", "a") is None


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"kinds": "c"}, ["float64", "complex"]),
        ({"ndim": 3}, ["2 axes", "3 axes"]),
        ({"kinds": "iu"}, ["float64", "integers"]),
    ],
)
def test_wrong_dtype_and_rank(tmp_path, kwargs, words):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros((2, 2))
    text = refusal(path, "x", **kwargs)
    assert all(word in text for word in words)


def test_missing_and_group(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["group/x"] = np.zeros(3)
    assert "group" in refusal(path, "kspace")
    assert "a group" in refusal(path, "group")


@pytest.mark.parametrize("name", ["k", "ext/k", "soft", "chain/k"])
def test_external_links_at_any_component(tmp_path, victim, name):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["k"] = h5py.ExternalLink(str(victim), "/k")
        file["ext"] = h5py.ExternalLink(str(victim), "/inner")
        file["soft"] = h5py.SoftLink("/ext/k")
        file["chain"] = h5py.SoftLink("ext")
    assert "external link" in refusal(path, name)
    with open_hdf5(path) as file, pytest.raises(DataError, match="external link"):
        _ = name in file


def test_soft_link_cycle(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = h5py.SoftLink("/b")
        file["b"] = h5py.SoftLink("/a")
        file["self"] = h5py.SoftLink("self/x")
    assert "cycle" in refusal(path, "a")
    assert "cycle" in refusal(path, "self")


def test_external_raw_storage(tmp_path):
    secret = tmp_path / "hostname"
    secret.write_bytes(b"0123456789abcdef")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (16,), dtype="u1", external=[(str(secret), 0, 16)])
    assert "external raw storage" in refusal(path, "x")


def test_virtual_data_set(tmp_path, victim):
    path = tmp_path / "a.h5"
    layout = h5py.VirtualLayout(shape=(8,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(victim), "k", shape=(8,))
    with h5py.File(path, "w") as file:
        file["own"] = np.arange(8.0)
        file.create_virtual_dataset("x", layout)
        same = h5py.VirtualLayout(shape=(8,), dtype="f8")
        same[:] = h5py.VirtualSource(".", "own", shape=(8,))
        file.create_virtual_dataset("same", same)
    assert "virtual" in refusal(path, "x")
    assert "virtual" in refusal(path, "same")


@pytest.mark.parametrize("name", ["vlen", "strings", "references", "compound"])
def test_types_that_are_not_numbers(tmp_path, name):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("vlen", (2,), dtype=h5py.vlen_dtype(np.float32))
        data[0] = [1.0, 2.0]
        file["strings"] = np.array(["a", "b"], dtype=h5py.string_dtype())
        file.create_dataset("references", (2,), dtype=h5py.ref_dtype)
        file["compound"] = np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])
    assert "dtype" in refusal(path, name, kinds="fiubc")


def test_four_pebibytes_in_a_kilobyte(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (2**25, 2**24), dtype="f8", chunks=(64, 64))
    assert path.stat().st_size < 4096
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "declared" in refusal(path, "x")
    # kilobytes; far below the smallest array that the rule lets through
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_many_data_sets_each_below_the_limit(tmp_path):
    """The rule is cumulative: none of these is refused alone."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for index in range(40):
            file.create_dataset(f"x{index}", (2**23,), dtype="u1", chunks=(2**16,))
    with open_hdf5(path) as file, pytest.raises(DataError, match="declared"):
        for index in range(40):
            file.read(f"x{index}")


def test_unknown_filter_is_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((8,))
        # 300 is free for private tests; optional, so that creation does not ask for it
        creation.set_filter(300, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((8,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, space, creation)
    text = refusal(path, "x")
    assert "filter 300" in text
    assert "hdf5plugin" in text


def test_filters_of_hdf5plugin_are_found(tmp_path):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "a.h5"
    data = np.arange(1000.0).reshape(10, 100)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=data, **hdf5plugin.Blosc())
    with open_hdf5(path) as file:
        np.testing.assert_array_equal(file.read("x"), data)


def test_the_same_filter_twice_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((8,))
        creation.set_deflate(9)
        creation.set_deflate(9)
        space = h5py.h5s.create_simple((8,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_FLOAT, space, creation)
    assert "filters" in refusal(path, "x")


def test_plugin_path_of_the_environment_is_ignored(tmp_path):
    """A folder in HDF5_PLUGIN_PATH is not even listed while a guarded file is open."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
    code = (
        "import sys\n"
        "from sciinv.data.guard import open_hdf5\n"
        "from h5py import h5pl\n"
        "n = h5pl.size()\n"
        "with open_hdf5(sys.argv[1]) as f:\n"
        "    assert h5pl.size() == 0\n"
        "assert n >= 1 and h5pl.size() == n and h5pl.get(0).endswith(b'evil')\n"
    )
    env = {**os.environ, "HDF5_PLUGIN_PATH": str(tmp_path / "evil")}
    root = Path(__file__).resolve().parents[2]
    env["PYTHONPATH"] = str(root)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_other_file_is_opened(tmp_path, victim):
    """Seen from the kernel: the target of the links is never opened."""
    path = tmp_path / "a.h5"
    layout = h5py.VirtualLayout(shape=(8,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(victim), "k", shape=(8,))
    with h5py.File(path, "w") as file:
        file["k"] = h5py.ExternalLink(str(victim), "/k")
        file.create_dataset("raw", (16,), dtype="u1", external=[(str(victim), 0, 16)])
        file.create_virtual_dataset("virtual", layout)
    code = (
        "import sys\n"
        "from sciinv.data.guard import open_hdf5\n"
        "from sciinv.errors import DataError\n"
        "with open_hdf5(sys.argv[1]) as f:\n"
        "    for name in ('k', 'raw', 'virtual'):\n"
        "        try:\n"
        "            f.read(name)\n"
        "        except DataError:\n"
        "            continue\n"
        "        raise SystemExit(name)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    log = tmp_path / "trace"
    subprocess.run(
        [
            "strace",
            "-f",
            "-e",
            "trace=open,openat",
            "-o",
            str(log),
            sys.executable,
            "-c",
            code,
            path,
        ],
        check=True,
        env=env,
    )
    trace = log.read_text()
    assert path.name in trace
    assert "secret.h5" not in trace


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_truncated_file(tmp_path, keep):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(5000.0)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(DataError, match="truncated") as caught, open_hdf5(path) as file:
        file.read("x")
    assert str(path) in str(caught.value)


def test_garbage_behind_the_signature(tmp_path, rng):
    path = tmp_path / "a.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + rng.bytes(3000))
    with pytest.raises(DataError, match="readable"), open_hdf5(path):
        pass


def test_text_limits(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["long"] = "x" * 1000
        file["numbers"] = np.zeros(3)
    with open_hdf5(path) as file:
        with pytest.raises(DataError, match="at most 100"):
            file.text("long", max_bytes=100)
        with pytest.raises(DataError, match="a string"):
            file.text("numbers")


def test_huge_attributes_are_left_out(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["huge"] = np.zeros(20_000)
        file.attrs["small"] = 1.5
        file.attrs["objects"] = np.array(["a", "b"], dtype=h5py.string_dtype())
    with open_hdf5(path) as file:
        assert file.attrs() == {"small": 1.5}


@pytest.mark.slow
def test_mutated_files_never_raise_anything_else(tmp_path, rng):
    """Bytes of the metadata overwritten at random: a DataError or a result, nothing else."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("g/x", data=np.arange(64.0).reshape(8, 8), compression="gzip")
        file["g/x"].attrs["unit"] = "mm"
    original = bytearray(path.read_bytes())
    outcomes = set()
    for _ in range(300):
        data = bytearray(original)
        for position in rng.integers(0, len(data), size=3):
            data[position] = rng.integers(256)
        path.write_bytes(data)
        try:
            with open_hdf5(path) as file:
                file.read("g/x")
                file.attrs("g/x")
            outcomes.add("read")
        except DataError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
