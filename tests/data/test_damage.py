"""Damage that mutants found: each case in its smallest form."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys

import h5py
import nibabel as nib
import numpy as np
import pytest

from sciinv.data import load, read_image, write_scan
from sciinv.data.guard import _overlaps, open_hdf5
from sciinv.data.heaps import check_heaps
from sciinv.errors import DataError
from sciinv.result import load_result

from . import bare_files
from .bare_files import refused

SIDE = 'kind = "mri"\nquantity = "kspace"\naxes = ["coil", "row", "column"]\n'


def test_free_space_of_no_size_in_a_heap_is_refused(tmp_path):
    """libhdf5 walks over it for ever."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["units"] = "deg"  # of variable length: in a heap
        file["text"] = "hello"
    check_heaps(path)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    at = heap + 16
    while (step := struct.unpack_from("<HHIQ", content, at))[0]:
        at += 16 + -(-step[3] // 8) * 8
    for size in (0, 8, step[3] + 1, 2**63):
        struct.pack_into("<Q", content, at + 8, size)
        path.write_bytes(content)
        for reads in (lambda file: file.attrs(), lambda file: file.text("text")):
            with open_hdf5(path) as file, pytest.raises(DataError, match=f"heap at byte {heap}"):
                reads(file)


def test_a_reference_to_a_heap_that_moved_is_refused_too(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["units"] = "deg"
        file["numbers"] = np.zeros(600)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    reference = struct.pack("<IQI", 3, heap, 1)
    assert content.count(reference) == 1
    fake = content.index(bytes(64), heap + 4096) + 11  # among the numbers
    content[fake : fake + 16] = content[heap : heap + 16]
    path.write_bytes(content.replace(reference, struct.pack("<IQI", 3, fake, 1)))
    with open_hdf5(path) as file, pytest.raises(DataError, match=f"heap at byte {fake}"):
        file.attrs()


def test_heaps_of_other_widths_and_words_that_look_like_one(tmp_path):
    path = tmp_path / "a.h5"
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_sizes(4, 4)
    creation.set_userblock(512)
    handle = h5py.h5f.create(str(path).encode(), h5py.h5f.ACC_TRUNC, creation)
    with h5py.File(handle) as file:
        file["words"] = np.frombuffer(b"GCOL\0\0\0\0" * 8, np.uint8)
        file["texts"] = ["some", "texts", "of some length" * 500] * 50
        file["odd"] = np.frombuffer(b"GCOL\1" * 64, np.uint8)
        del file["odd"]
    with h5py.File(path, "r+") as file:
        file.attrs["more"] = "text"
    with open_hdf5(path) as file:
        assert file.attr("more") == "text"


def test_millions_of_chunks_without_data_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("many", (2**24,), "u1", chunks=(1,), compression=1)
        file.create_dataset("few", (1000,), "u1", chunks=(1,), compression=1)
    with open_hdf5(path) as file:
        assert file.read("few").sum() == 0
        with pytest.raises(DataError, match="many: found 16777216 chunks of .* without data"):
            file.read("many")


@pytest.mark.parametrize("stated", [0, 1, 8, 2**31])
def test_bitshuffle_for_elements_of_another_size_is_refused(tmp_path, stated):
    """It divides by the size: 0 ends the process by a signal."""
    hdf5plugin = pytest.importorskip("hdf5plugin")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        options = dict(hdf5plugin.Bitshuffle(cname="zstd"))
        file.create_dataset("x", data=np.arange(64, dtype="f4"), chunks=(64,), **options)
        filter_ = file["x"].id.get_create_plist().get_filter(0)
    content = path.read_bytes()
    known = struct.pack("<3I", *filter_[2][:3])
    assert filter_[2][2] == 4 and content.count(known) == 1
    with open_hdf5(path) as file:
        np.testing.assert_array_equal(file.read("x"), np.arange(64))
    path.write_bytes(content.replace(known, known[:8] + struct.pack("<I", stated)))
    with open_hdf5(path) as file, pytest.raises(DataError, match=f"elements of {stated} bytes"):
        file.read("x")


def test_members_of_a_compound_over_each_other_are_refused(tmp_path):
    """libhdf5 frees a buffer twice when it converts them."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((4, 4), np.complex64)
    with open_hdf5(path) as guarded:
        assert guarded.read("data", kinds="c").dtype == np.complex64
    content = bytearray(path.read_bytes())
    # the first member as stored: size 4, offset 0, precision 32, exponent and mantissa, bias 127
    stored = struct.pack("<IHHBBBBI", 4, 0, 32, 23, 8, 0, 23, 127)
    struct.pack_into("<I", content, content.index(stored) + 12, 1023)  # that of eight bytes
    path.write_bytes(content)
    with h5py.File(path) as file:
        assert file["data"].dtype["r"].itemsize == 8
    with open_hdf5(path) as guarded, pytest.raises(DataError, match="over each other"):
        guarded.read("data", kinds="c")


@pytest.mark.parametrize(
    ("offsets", "wrong"), [((0, 4), False), ((4, 0), False), ((0, 6), False), ((0, 2), True)]
)
def test_members_are_looked_at_in_every_order_and_depth(offsets, wrong):
    pair = {"names": ["a", "b"], "formats": ["<f4", "<f4"], "offsets": offsets, "itemsize": 10}
    inner = np.dtype(pair)
    assert _overlaps(inner) == wrong
    assert _overlaps(np.dtype([("x", "<i4"), ("y", inner, (3,))])) == wrong


def test_a_scan_without_values_or_place_is_refused(tmp_path, rng):
    data = rng.standard_normal((2, 6, 5, 2)) @ [1, 1j]
    scan = load(bare_files.write(tmp_path, data, SIDE))
    path = write_scan(scan, tmp_path / "a.h5")
    for affine in (np.diag([1.0, 1, 0, 1]), np.ones((4, 4)), np.diag([1, np.nan, 1, 1])):
        with pytest.raises(DataError, match=r"affine: found .* expected (three|finite)"):
            write_scan(scan.with_(affine=affine), tmp_path / "b.h5")
        with h5py.File(path, "r+") as file:
            file["affine"][...] = affine
        refused(path, "affine")
    with h5py.File(path, "r+") as file:
        file["affine"][...] = scan.affine
        del file["data"]
        file["data"] = np.zeros((0, 2, 6, 5), np.complex64)
    refused(path, "data: found shape (0, 2, 6, 5)")


def test_a_long_text_of_the_file_does_not_fill_the_screen(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exchange/data"] = np.ones((3, 2, 4))
        file["exchange/data_white"] = np.ones((2, 4))
        file["exchange/theta"] = [0.0, 1, 2]
        file["exchange/theta"].attrs["units"] = "x\n\x1b]0;" * 5000
    with pytest.raises(DataError) as caught:
        load(tmp_path / "a.h5")
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value) and "\\x1b]0;" in str(caught.value)


def test_a_sidecar_that_names_a_file_at_length(tmp_path, rng):
    """The main process looks for it too, to find how large it is."""
    side = SIDE + f"[data]\nfile = '{'x' * 3000}'\n"
    refused(bare_files.write(tmp_path, np.ones(3), side), "scan.toml: data.file", "too long")


@pytest.mark.parametrize("name", ["../k.npy", "sub/../../k.npy", "..\\k.npy", "/etc/hostname"])
def test_a_sidecar_names_no_file_outside_its_folder(tmp_path, rng, name):
    folder = tmp_path / "scan"
    (folder / "sub").mkdir(parents=True)
    np.save(tmp_path / "k.npy", np.ones((2, 6, 5), np.complex64))
    side = SIDE + f"[data]\nfile = '{name}'\n"
    refused(bare_files.write(folder, np.ones(3), side), "scan.toml: data.file", name.split("\\")[0])
    np.save(folder / "sub" / "k.npy", rng.standard_normal((2, 6, 5, 2)) @ [1, 1j])
    assert load(bare_files.write(folder, np.ones(3), SIDE + '[data]\nfile = "sub/k.npy"\n')).kind


def test_a_gzip_whose_beginning_is_damaged_is_no_image(tmp_path):
    content = bytearray(gzip.compress(bytes(range(256)) * 8, mtime=0))
    content[10:14] = b"\xff" * 4
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nii\.gz: found no DICOM and no NIfTI"):
        read_image(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_a_place_is_refused(tmp_path, value):
    path = tmp_path / "a.nii"
    image = nib.Nifti1Image(np.ones((3, 4, 2), np.float32), np.diag([1.0, 2, 3, 1]))
    content = bytearray(image.to_bytes())
    struct.pack_into("<hh", content, 252, 0, 0)  # codes of qform and sform
    struct.pack_into("<f", content, 88, value)  # pixdim[3]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nii: affine"):
        read_image(path)


def test_nobody_else_speaks_of_a_damaged_image(tmp_path):
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(np.ones((3, 4, 2), np.float32), np.eye(4)), path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<h", content, 70, 4096)  # a code of no type of numbers
    path.write_bytes(content)
    # in a process of its own: pytest listens to all loggers
    code = f"from sciinv.data import read_image\ntry: read_image({str(path)!r})\n"
    code += "except ValueError as error: print(error)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "a.nii: " in ran.stdout and ran.stderr == ""


@pytest.mark.parametrize("key", ["format", "version"])
def test_an_array_as_mark_of_a_result_is_refused(tmp_path, key):
    path = tmp_path / "result.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "sciinv-result", "version": 1, key: [1.0, 2.0]})
    with pytest.raises(DataError, match=r"result\.h5: found"):
        load_result(path)


def test_a_result_whose_metadata_nest_too_deep_is_refused(tmp_path):
    path = tmp_path / "result.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "sciinv-result", "version": 1})
        for name in ("samples", "baseline"):
            file[name] = np.ones((1, 1, 2, 2), np.float32)
        file["visible"] = np.ones((1, 2, 2), bool)
        file["affine"] = np.eye(4)
        file["metadata"] = "[" * 100_000
    with pytest.raises(DataError, match=r"result\.h5"):
        load_result(path)
