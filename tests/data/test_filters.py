"""HDF5 filters: those of hdf5plugin are read, no other is loaded, and chunks do not explode."""

from __future__ import annotations

import bz2
import os
import resource
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from sciinv.data.files import MAX_UNBACKED_BYTES
from sciinv.data.filters import FILTERS, no_plugin_path
from sciinv.data.guard import open_hdf5
from sciinv.errors import DataError

hdf5plugin = pytest.importorskip("hdf5plugin")
ROOT = Path(__file__).resolve().parents[2]
LOSSLESS = {
    "blosc": hdf5plugin.Blosc(),
    "blosc lz4 shuffle": hdf5plugin.Blosc(cname="lz4", shuffle=2),
    "blosc2": hdf5plugin.Blosc2(),
    "bitshuffle": hdf5plugin.Bitshuffle(),
    "bitshuffle alone": hdf5plugin.Bitshuffle(cname="none"),
    "bitshuffle zstd": hdf5plugin.Bitshuffle(cname="zstd"),
    "lz4": hdf5plugin.LZ4(),
    "zstd": hdf5plugin.Zstd(),
    "bzip2": hdf5plugin.BZip2(),
    "zfp": hdf5plugin.Zfp(reversible=True),
}
BOMBS = {
    "blosc": hdf5plugin.Blosc(),
    "blosc2": hdf5plugin.Blosc2(),
    "lz4": hdf5plugin.LZ4(),
    "zstd": hdf5plugin.Zstd(),
    "bshuf": hdf5plugin.Bitshuffle(),
}


def refusal(path: Path, name: str = "x") -> str:
    with open_hdf5(path) as file, pytest.raises(DataError) as caught:
        file.read(name)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def write_chunk(path, filters, payload: bytes, chunk: int = 2**16) -> None:
    """A data set of one chunk of bytes whose stored form is ``payload``."""
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((chunk,))
        for number, options in filters:
            creation.set_filter(number, h5py.h5z.FLAG_OPTIONAL, options)
        space = h5py.h5s.create_simple((chunk,))
        data = h5py.h5d.create(file.id, b"x", h5py.h5t.STD_U8LE, space, creation)
        data.write_direct_chunk((0,), payload)


def test_the_table_is_that_of_hdf5plugin():
    from hdf5plugin import FILTERS as theirs

    ours = {number: name.replace("bitshuffle", "bshuf") for number, name in FILTERS.items()}
    assert ours == {number: name for name, number in theirs.items()}


@pytest.mark.parametrize("name", sorted(LOSSLESS))
def test_lossless_filters_are_read_exactly(tmp_path, rng, name):
    path = tmp_path / "a.h5"
    data = rng.integers(0, 500, (23, 37)).astype(np.float32)
    with h5py.File(path, "w") as file:
        # chunks at the edges are stored whole
        file.create_dataset("x", data=data, chunks=(10, 16), **LOSSLESS[name])
    with open_hdf5(path) as file:
        np.testing.assert_array_equal(file.read("x"), data)


@pytest.mark.parametrize("name", ["SZ", "SZ3", "Sperr"])
def test_lossy_filters_are_read(tmp_path, name):
    options = {"tolerance": 1e-3} if name == "Sperr" else {"absolute": 1e-3}
    key = next(iter(options))
    maker = getattr(hdf5plugin, name)
    filters = maker(absolute=options[key])
    data = np.sin(np.linspace(0, 9, 4096)).reshape(64, 64).astype(np.float32)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=data, chunks=data.shape, **filters)
    with open_hdf5(path) as file:
        np.testing.assert_allclose(file.read("x"), data, atol=2e-3)


def test_shuffle_and_checksums_stay_allowed(tmp_path, rng):
    path = tmp_path / "a.h5"
    data = rng.integers(0, 9, (50, 60))
    with h5py.File(path, "w") as file:
        for number, options in enumerate(
            (
                {"compression": "gzip", "shuffle": True, "fletcher32": True},
                {"compression": "lzf", "shuffle": True},
                {"compression": "szip"},
                {"scaleoffset": 0},
                {"shuffle": True, "fletcher32": True, **hdf5plugin.Zstd()},
            )
        ):
            file.create_dataset(f"x{number}", data=data, chunks=(20, 20), **options)
    with open_hdf5(path) as file:
        for number in range(5):
            np.testing.assert_array_equal(file.read(f"x{number}"), data)


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_chunk_that_states_more_than_it_may(tmp_path, name):
    """A stored chunk of another data set, of 64 MB of zeros, under one of 64 kB."""
    size = 2**26
    with h5py.File(tmp_path / "source.h5", "w") as file:
        data = file.create_dataset("x", (size,), "u1", chunks=(size,), **BOMBS[name])
        data[...] = np.zeros(size, "u1")
        packed = data.id.read_direct_chunk((0,))[1]
        number, _, options, _ = data.id.get_create_plist().get_filter(0)
    path = tmp_path / "a.h5"
    write_chunk(path, [(number, options)], packed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = refusal(path)
    assert "bomb" in text
    assert "chunk (0,)" in text
    assert str(size) in text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes


@pytest.mark.parametrize("name", ["deflate", "bzip2"])
def test_a_stream_that_does_not_end(tmp_path, name):
    """Streams that state no size are unpacked only as far as they may be long."""
    packer = zlib.compressobj(9) if name == "deflate" else bz2.BZ2Compressor(9)
    blocks = MAX_UNBACKED_BYTES // 2**20 + 20 if name == "deflate" else 40
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(blocks)) + packer.flush()
    path = tmp_path / "a.h5"
    write_chunk(path, [(1, (9,)) if name == "deflate" else (307, (9,))], packed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "bomb" in refusal(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_a_stream_that_does_not_end_meets_the_limit_of_the_reading_process(tmp_path, monkeypatch):
    """There it is not unpacked twice: the limit of memory ends it."""
    from sciinv.data import load

    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(2**24)) for _ in range(28)) + packer.flush()
    path = tmp_path / "a.h5"
    write_chunk(path, [(1, (9,))], packed)
    (tmp_path / "a.toml").write_text(
        'kind = "ct"\nquantity = "line_integrals"\naxes = ["detector"]\n[data]\nname = "x"\n'
    )
    monkeypatch.setenv("SCIINV_READ_ISOLATED", "1")
    monkeypatch.setenv("SCIINV_READ_MEMORY", "400MB")
    with pytest.raises(DataError, match="filter returned failure") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_many_small_files_worth_of_zeros_are_refused(tmp_path):
    """The rule on the whole data set holds behind these filters as well."""
    path = tmp_path / "a.h5"
    side = 2**12
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", (40, side, side), "u1", chunks=(1, side, side),
                                   **hdf5plugin.Blosc2())  # fmt: skip
        data[0] = 0
        packed = data.id.read_direct_chunk((0, 0, 0))[1]
        for index in range(1, 40):
            data.id.write_direct_chunk((index, 0, 0), packed)
    assert "declared" in refusal(path)


def test_compressions_on_top_of_each_other(tmp_path):
    path = tmp_path / "a.h5"
    write_chunk(path, [(32015, (3,)), (1, (6,))], b"anything")
    assert "on top of each other" in refusal(path)


def test_a_filter_that_is_not_installed(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros(100), chunks=(100,), **hdf5plugin.Zstd())
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    text = refusal(path)
    assert "filter 32015 (zstd)" in text
    assert "pip install 'sciinv[filters]'" in text


@pytest.mark.parametrize("number", [2, 307, 32001, 32004, 32008, 32015, 32026])
def test_damaged_chunks_are_one_sentence(tmp_path, rng, number):
    path = tmp_path / f"{number}.h5"
    for payload in (rng.bytes(200), b"\x01"):
        # of bitshuffle: block size and lz4
        write_chunk(path, [(number, (0, 2))], payload)
        assert "found" in refusal(path)


def test_a_chunk_that_is_too_short(tmp_path):
    """Behind the end of what was unpacked lies other memory."""
    path = tmp_path / "a.h5"
    with h5py.File(tmp_path / "source.h5", "w") as file:
        data = file.create_dataset("x", (100,), "u1", chunks=(100,), **hdf5plugin.Zstd())
        data[...] = 1
        packed = data.id.read_direct_chunk((0,))[1]
    write_chunk(path, [(32015, (3,))], packed)
    assert "100 bytes when unpacked, expected 65536" in refusal(path)


def test_the_search_path_comes_back_when_the_last_file_is_closed():
    from h5py import h5pl

    count = h5pl.size()
    assert count
    with no_plugin_path():
        with no_plugin_path():
            assert h5pl.size() == 0
        assert h5pl.size() == 0
    assert h5pl.size() == count


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_plugin_of_the_environment_is_opened(tmp_path):
    """Seen from the kernel: neither for filters that are known nor for unknown ones."""
    evil = tmp_path / "evil"
    evil.mkdir()
    for library in Path(hdf5plugin.PLUGIN_PATH).glob("libh5zstd*"):
        shutil.copy(library, evil / library.name)
    assert any(evil.iterdir())
    known, unknown = tmp_path / "known.h5", tmp_path / "unknown.h5"
    with h5py.File(known, "w") as file:
        file.create_dataset("x", data=np.arange(100.0), chunks=(100,), **hdf5plugin.Zstd())
    write_chunk(unknown, [(300, ())], b"anything")
    code = (
        "import sys\n"
        "from sciinv.data.guard import open_hdf5\n"
        "from sciinv.errors import DataError\n"
        "with open_hdf5(sys.argv[1]) as f:\n"
        "    assert f.read('x')[-1] == 99\n"
        "with open_hdf5(sys.argv[2]) as f:\n"
        "    try:\n"
        "        f.read('x')\n"
        "    except DataError:\n"
        "        print('refused')\n"
    )
    # what h5py does by itself, to show that this test sees a plug-in that is loaded
    plain = "import h5py, sys\nprint('read', h5py.File(sys.argv[1])['x'][-1])\n"
    env = {**os.environ, "HDF5_PLUGIN_PATH": str(evil), "PYTHONPATH": str(ROOT)}
    log = tmp_path / "trace"

    def traced(text: str) -> tuple[str, str]:
        words = ["strace", "-f", "-e", "trace=file", "-o", log, sys.executable, "-c", text]
        done = subprocess.run(
            [*words, known, unknown], check=True, env=env, capture_output=True, text=True
        )
        return done.stdout, "\n".join(
            line for line in log.read_text().splitlines() if "execve" not in line
        )

    out, trace = traced(code)
    assert out == "refused\n"
    assert known.name in trace
    assert str(evil) not in trace
    out, trace = traced(plain)
    assert out == "read 99.0\n"
    assert str(evil) in trace
