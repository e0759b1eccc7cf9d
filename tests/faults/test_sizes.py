"""Rows 5, 6 and 9: small files that declare, or unpack to, much; objects instead of numbers."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import tifffile

from sciinv import load
from sciinv.errors import DataError
from sciinv.training.readers import open_stack

SIDE = """
kind = "mri"
quantity = "kspace"
axes = ["coil", "row", "column"]
"""
# reads the files given, in processes of their own, and prints the peak of each kind of process
CODE = """
import resource, sys
from sciinv import load
from sciinv.errors import DataError
for path in sys.argv[1:]:
    try:
        load(path)
    except DataError as error:
        print(error)
# not from getrusage: there the peak of whoever started it counts too
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def npy_header(shape: tuple[int, ...], dtype: str = "<c8") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return out.getvalue()


def _entry(tag: int, kind: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, 1, value)


def bombs(folder: Path) -> list[Path]:
    """Files of a few kB, each of which means gigabytes."""
    large = (4, 2**20, 2**15)  # a TiB
    with h5py.File(folder / "declared.h5", "w") as file:
        file.create_dataset("kspace", (2**10, 2**10, 2**15, 2**17), "c8", chunks=(1, 1, 64, 64))
    with h5py.File(folder / "zeros.h5", "w") as file:
        whole = file.create_dataset(
            "kspace", (1, 512, 512, 512), "c8", chunks=(1, 4, 64, 512), compression="gzip"
        )
        whole[0, :4] = 0
    with h5py.File(folder / "bare.h5", "w") as file:
        file.create_dataset("a", large, "c8", chunks=(1, 64, 64), compression="gzip")
    (folder / "short.npy").write_bytes(npy_header(large) + bytes(4096))
    (folder / "dims.hdr").write_text("# Dimensions\n1 99999 99999 8 1\n")
    (folder / "dims.cfl").write_bytes(bytes(64))
    raw = io.BytesIO()
    tifffile.imwrite(raw, np.zeros((8, 8), np.float32))
    page = bytearray(raw.getvalue())
    for tag in (256, 257):  # width and height of the page, 8 each
        at = next(page.index(one) for kind in (3, 4) if (one := _entry(tag, kind, 8)) in page)
        page[at : at + 12] = _entry(tag, 4, 2**20)
    (folder / "page.tif").write_bytes(page)
    for name in ("bare.h5", "short.npy", "page.tif"):
        (folder / name).with_suffix(".toml").write_text(SIDE)
    return sorted(p for p in folder.iterdir() if p.suffix not in (".toml", ".hdr"))


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the peak of memory")
def test_what_a_file_declares_takes_no_memory(tmp_path):
    paths = bombs(tmp_path)
    assert sum(path.stat().st_size for path in paths) < 1e6
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SCIINV")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *paths],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    *said, asker, readers = done.stdout.splitlines()
    assert len(said) == len(paths), said
    for path, line in zip(paths, said, strict=True):
        assert path.name in line or path.stem in line
        assert "SCIINV_READ" not in line, line  # refused by what it says, not by the limits
    assert int(asker) < 300e3 and int(readers) < 300e3  # kB


def gz_bomb(path: Path, shape: tuple[int, int, int]) -> Path:
    """NIfTI of zeros: a header, and as many bytes as gzip packs a thousandfold."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.open(path, "wb", compresslevel=6) as stream:
        stream.write(header.binaryblock + bytes(4))
        for _ in range(32):
            stream.write(bytes(2**20))
    return path


def test_nii_gz_is_no_scan_and_is_not_unpacked(tmp_path):
    path = gz_bomb(tmp_path / "a.nii.gz", (32000, 32000, 1))
    with pytest.raises(DataError, match="NIfTI image, expected raw data"):
        load(path)


@pytest.mark.parametrize("shape", [(32000, 32000, 1), (512, 512, 32000)])
def test_training_images_that_unpack_to_much(tmp_path, shape):
    path = gz_bomb(tmp_path / "a.nii.gz", shape)
    with pytest.raises(DataError, match=r"a\.nii\.gz: shape: .*bytes stored"):
        open_stack(path)
    sound = nib.Nifti1Image(np.arange(60.0).reshape(3, 4, 5), np.eye(4))
    nib.save(sound, tmp_path / "b.nii.gz")
    assert open_stack(tmp_path / "b.nii.gz").count == 5


class _Bomb:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def test_pickles_in_attributes_and_arrays_are_left_alone(tmp_path):
    victim = tmp_path / "ran"
    bomb = pickle.dumps(_Bomb(victim))
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = (rng.standard_normal((1, 2, 8, 8)) + 1j).astype(np.complex64)
        file.attrs["acquisition"] = np.void(bomb)
        file["kspace"].attrs["pickled"] = np.void(bomb)
    assert load(tmp_path / "a.h5").num_coils == 2
    objects = np.empty(2, object)
    objects[:] = [_Bomb(victim)] * 2
    np.save(tmp_path / "b.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "c.npz", objects, allow_pickle=True)
    (tmp_path / "d.npy").write_bytes(bomb)
    for name in ("b.npy", "c.npz", "d.npy"):
        (tmp_path / name).with_suffix(".toml").write_text(SIDE)
        with pytest.raises(DataError, match=name):
            load(tmp_path / name)
    assert not victim.exists()
