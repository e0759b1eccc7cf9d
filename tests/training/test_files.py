"""Every kind of file gives the image that was written into it."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Picture

from sciinv.data.scale import ct_scale
from sciinv.errors import DataError
from sciinv.training.config import TrainingConfig, make_config
from sciinv.training.files import FileSource, find_files
from sciinv.training.readers import open_stack
from sciinv.training.source import Unreadable

RNG = np.random.default_rng(3)
COUNT, HEIGHT, WIDTH = 5, 18, 21
VALUES = RNG.integers(0, 4000, (COUNT, HEIGHT, WIDTH)).astype(np.uint16)


def config_of(*files: Path, channels: int = 1, **data: Any) -> TrainingConfig:
    section = {"source": "images", "files": [str(f) for f in files], "patch": 16, "scene": 32}
    return make_config({"prior": {"channels": channels}, "data": {**section, **data}})


def source_of(*files: Path, held_out: bool = False, **options: Any) -> FileSource:
    return FileSource(config_of(*files, **options), (0, int(held_out), 0), held_out)


def read_all(path: Path, **options: Any) -> NDArray[Any]:
    file = open_stack(path, **options)
    assert file.shape == (HEIGHT, WIDTH)
    return np.stack([file.read(i) for i in range(file.count)])


# readers ------------------------------------------------------------------------------------------
def test_nifti_slices_are_scaled_as_the_header_says(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        volume = np.moveaxis(VALUES, 0, -1).astype(np.int16)
        image = nibabel.Nifti1Image(volume, np.eye(4))
        image.header.set_slope_inter(2.0, -1000.0)
        # nibabel stores values through the inverse of the slope
        nibabel.save(nibabel.Nifti1Image(2.0 * volume - 1000.0, np.eye(4), image.header),
                     tmp_path / name)  # fmt: skip
        np.testing.assert_allclose(read_all(tmp_path / name), 2.0 * VALUES - 1000, atol=0.2)


def test_hdf5_slices_real_and_complex(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    z = (VALUES + 1j * VALUES[::-1]).astype(np.complex64)
    with h5py.File(path, "w") as file:
        file["image"] = z.reshape(1, COUNT, HEIGHT, WIDTH)
        file["energy"] = 3.0
    np.testing.assert_array_equal(read_all(path), z)
    with h5py.File(path, "a") as file:
        file["other"] = VALUES
    with pytest.raises(DataError, match=r"data\.dataset: found data sets image, other"):
        open_stack(path)
    np.testing.assert_array_equal(read_all(path, dataset="other"), VALUES)


def test_npy_tiff_png_and_dicom_slices(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    np.testing.assert_array_equal(read_all(tmp_path / "a.npy"), VALUES)
    tifffile.imwrite(tmp_path / "a.tif", VALUES, photometric="minisblack")
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif"), VALUES)
    Picture.fromarray(VALUES[1]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_all(tmp_path / "a.png"), VALUES[1:2])
    write_dicom(tmp_path / "a.dcm", VALUES[2].astype(np.int16))
    np.testing.assert_array_equal(read_all(tmp_path / "a.dcm"), VALUES[2:3] - 1024.0)


def test_colours_become_grey(tmp_path: Path) -> None:
    colour = RNG.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    grey = colour @ np.array([0.299, 0.587, 0.114])
    Picture.fromarray(colour).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    for name in ("a.png", "a.tif"):
        np.testing.assert_allclose(read_all(tmp_path / name)[0], grey, atol=1.0)


def write_dicom(path: Path, values: NDArray[np.int16]) -> None:
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["test"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = values.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
    file.PixelRepresentation = 1
    file.RescaleSlope, file.RescaleIntercept = "1", "-1024"
    file.PixelData = values.tobytes()
    pydicom.dcmwrite(path, file, enforce_file_format=True)


@pytest.mark.parametrize("name", ["big.npy", "big.h5", "big.nii", "big.tif"])
def test_one_slice_is_read_not_the_volume(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    big = np.zeros((128, 128, 128), dtype=np.float32)
    big += RNG.random(128, dtype=np.float32)
    if name.endswith("npy"):
        np.save(path, big)
    elif name.endswith("h5"):
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=big, chunks=(1, 128, 128), compression="gzip")
    elif name.endswith("nii"):
        nibabel.save(nibabel.Nifti1Image(big, np.eye(4)), path)
    else:
        tifffile.imwrite(path, big, photometric="minisblack")
    file = open_stack(path)
    file.read(3)
    tracemalloc.start()
    file.read(77)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < big.nbytes / 8


# which slice is which image -----------------------------------------------------------------------
def marked(path: Path, count: int, first: int) -> Path:
    """A stack whose slices carry their own number (plus 1) in every pixel."""
    numbers = np.arange(first, first + count, dtype=np.float32) + 1
    np.save(path, np.broadcast_to(numbers[:, None, None], (count, 16, 16)))
    return path


def numbers_of(source: FileSource, indices: range) -> list[int]:
    images = [source.image(i) for i in indices]
    return [round(float(image[0, 0, 0])) for image in images if not isinstance(image, Unreadable)]


def test_every_slice_comes_once_an_epoch_in_a_new_order(tmp_path: Path) -> None:
    files = [marked(tmp_path / f"{n}.npy", 3, 3 * n) for n in range(12)]
    source = source_of(*files, scale=1.0)
    held_out = source_of(*files, scale=1.0, held_out=True)
    size = len(source)
    first = numbers_of(source, range(size))
    second = numbers_of(source, range(size, 2 * size))
    # by name with numbers by value, file 11 is the last: 10 % of 12 files, at least one
    assert set(first) == set(second) == set(range(1, 34))
    assert first != second
    assert set(numbers_of(held_out, range(len(held_out)))) == {34, 35, 36}
    assert numbers_of(source_of(*files, scale=1.0), range(size)) == first


def test_of_one_file_the_last_slices_are_held_out(tmp_path: Path) -> None:
    path = marked(tmp_path / "one.npy", 20, 0)
    train, test = source_of(path, scale=1.0), source_of(path, scale=1.0, held_out=True)
    assert set(numbers_of(train, range(18))) == set(range(1, 19))
    assert set(numbers_of(test, range(2))) == {19, 20}


def test_a_single_image_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found a single image, expected two or more"):
        source_of(marked(tmp_path / "one.npy", 1, 0))


def test_folders_are_searched_and_other_files_passed_over(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("s10.npy", "s9.npy", "deep/s1.npy"):
        marked(tmp_path / name, 2, 0)
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / ".hidden.npy").write_bytes(b"")
    found = [p.relative_to(tmp_path).as_posix() for p in find_files([str(tmp_path)])]
    assert found == ["deep/s1.npy", "s9.npy", "s10.npy"]


@pytest.mark.parametrize(("make", "message"), [
    (lambda p: p / "none", "no such file or folder"),
    (lambda p: (p / "empty").mkdir() or p / "empty", "a folder without image files"),
])  # fmt: skip
def test_names_without_images_are_errors(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        source_of(make(tmp_path))


# what is done to the values -----------------------------------------------------------------------
def test_intensities_are_scaled_as_a_reconstruction_would(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, VALUES)
    source = source_of(path, scene=32)
    image = source.image(0)
    assert not isinstance(image, Unreadable)
    raw = next(s for s in VALUES if np.allclose(image[0] / image[0].max(), s / s.max()))
    np.testing.assert_allclose(image[0], raw / ct_scale(VALUES.astype(float)), rtol=1e-5)
    fixed = source_of(path, scale=500.0, offset=100.0).image(0)
    assert not isinstance(fixed, Unreadable)
    np.testing.assert_allclose(fixed[0], (raw + 100.0) / 500.0, rtol=1e-5)


def test_hounsfield_units_need_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "ct.npy"
    np.save(path, np.where(VALUES > 2000, 50, -1000).astype(np.int16))
    bad = source_of(path).image(0)
    assert isinstance(bad, Unreadable)
    assert "ct.npy" in bad.where and "down to -1000" in bad.reason and "offset" in bad.reason
    good = source_of(path, offset=1000.0).image(0)
    assert not isinstance(good, Unreadable)
    assert set(np.unique(good).round(3)) == {0.0, 1.0}


def test_complex_images_keep_their_phase_and_real_ones_get_one(tmp_path: Path) -> None:
    path = tmp_path / "z.npy"
    z = (VALUES * np.exp(2j * VALUES)).astype(np.complex64)
    np.save(path, z)
    pair = source_of(path, channels=2, scale=1000.0).image(0)
    assert not isinstance(pair, Unreadable)
    whole = pair[0] + 1j * pair[1]
    assert any(np.allclose(1000 * whole, s, rtol=1e-4, atol=1e-2) for s in z)
    magnitude = source_of(path, scale=1000.0).image(0)
    assert not isinstance(magnitude, Unreadable)
    np.testing.assert_allclose(magnitude[0], np.abs(whole), rtol=1e-4, atol=1e-6)

    np.save(path, VALUES)
    plain = source_of(path, channels=2, phase="none").image(0)
    turned = source_of(path, channels=2).image(0)
    assert not isinstance(plain, Unreadable) and not isinstance(turned, Unreadable)
    assert np.all(plain[1] == 0)
    np.testing.assert_allclose(np.hypot(*turned), plain[0], rtol=1e-3, atol=1e-5)
    assert float(np.abs(turned[1]).max()) > 0.05


def test_large_images_give_parts(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    large = np.arange(4 * 100 * 90, dtype=np.float32).reshape(4, 100, 90)
    np.save(path, large)
    source = source_of(path, scale=1.0)
    parts = [source.image(i) for i in range(6)]
    corners = set()
    for part in parts:
        assert not isinstance(part, Unreadable) and part.shape == (1, 32, 32)
        number, rest = divmod(round(float(part[0, 0, 0])), 9000)
        row, column = divmod(rest, 90)
        np.testing.assert_array_equal(part[0], large[number, row : row + 32, column : column + 32])
        corners.add((row, column))
    assert len(corners) > 3
    whole = source_of(path, scale=1.0, held_out=True).image(0)
    assert not isinstance(whole, Unreadable) and whole.shape == (1, 100, 90)


# bad files ----------------------------------------------------------------------------------------
def bad_files(folder: Path) -> dict[str, Path]:
    """Files that cannot be opened, by reason."""
    folder.mkdir(exist_ok=True)
    paths = {name: folder / name for name in
             ("cut.npy", "pickle.npy", "text.nii", "text.h5", "text.png", "text.tif", "text.dcm",
              "empty.npy", "line.npy", "small.npy", "words.npy")}  # fmt: skip
    np.save(folder / "whole.npy", VALUES)
    paths["cut.npy"].write_bytes((folder / "whole.npy").read_bytes()[:500])
    (folder / "whole.npy").unlink()
    np.save(paths["pickle.npy"], np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name in paths:
        if name.startswith("text"):
            paths[name].write_text("this is no image\n" * 20)
    paths["empty.npy"].write_bytes(b"")
    np.save(paths["line.npy"], np.zeros(64))
    np.save(paths["small.npy"], np.ones((3, 15, 40)))
    np.save(paths["words.npy"], np.full((3, 16, 16), "x"))
    return paths


def test_unreadable_files_stop_the_run_by_name(tmp_path: Path) -> None:
    good = [marked(tmp_path / f"{n}.npy", 2, 0) for n in range(3)]
    for name, path in bad_files(tmp_path / "bad").items():
        if name == "words.npy":  # seen when a slice is read
            continue
        with pytest.raises(DataError) as caught:
            source_of(*good, path)
        assert str(path) in str(caught.value), name


def test_unreadable_files_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    good = [marked(tmp_path / f"{n}.npy", 2, 0) for n in range(3)]
    bad = bad_files(tmp_path / "bad")
    source = source_of(*bad.values(), *good, on_error="skip", scale=1.0)
    seen_late = {str(bad["words.npy"])}
    assert {item.where for item in source.skipped} == {str(p) for p in bad.values()} - seen_late
    images = [source.image(i) for i in range(len(source))]
    late = {image.where for image in images if isinstance(image, Unreadable)}
    assert late <= seen_late
    kept = [image for image in images if not isinstance(image, Unreadable)]
    assert len(kept) >= 4
    with pytest.raises(DataError, match="none that can be read"):
        source_of(*(p for p in bad.values() if p.name != "words.npy"), on_error="skip")


def test_nan_and_damage_inside_a_file_are_reported_with_the_slice(tmp_path: Path) -> None:
    path = tmp_path / "nan.npy"
    holes = VALUES.astype(np.float32)
    holes[:, 3, 3] = np.nan
    np.save(path, holes)
    image = source_of(path, scale=1.0).image(0)
    assert isinstance(image, Unreadable) and "NaN" in image.reason and "slice" in image.reason
    np.save(path, np.zeros_like(VALUES))
    image = source_of(path).image(0)
    assert isinstance(image, Unreadable) and "zeros" in image.reason


def test_dicom_without_pydicom_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dicom(tmp_path / "a.dcm", VALUES[2].astype(np.int16))
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pip install 'sciinv\[dicom\]'"):
        open_stack(tmp_path / "a.dcm")


def test_what_a_card_says_of_files_has_no_folders(tmp_path: Path) -> None:
    files = [marked(tmp_path / f"{n}.npy", 2, 0) for n in range(3)]
    facts = source_of(*files).describe()
    assert facts["slices"] == 4 and facts["slices_held_out"] == 2
    assert str(tmp_path) not in repr(facts)
    assert list(itertools.chain(facts["files"])) == ["0.npy", "1.npy", "2.npy"]
