"""Reference images: DICOM and NIfTI against pydicom and nibabel, and their place on other grids."""

from __future__ import annotations

import gzip
import resource
import sys

import nibabel as nib
import numpy as np
import pytest

from sciinv.data import read_image
from sciinv.data.reference import Image, image_kind, match_intensity, on_grid
from sciinv.errors import DataError

from . import image_files as files

pydicom = pytest.importorskip("pydicom")
LPS = np.diag([-1.0, -1.0, 1.0])


def refused(path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_image(path)
    text = str(caught.value)
    assert "\n" not in text
    assert "CANARY" not in text
    for word in words:
        assert word in text, text


def marker_of(image: Image) -> np.ndarray:
    """LPS mm of the brightest voxel."""
    slice_, row, column = np.unravel_index(image.values.argmax(), image.values.shape)
    return LPS @ (image.affine @ [row, column, slice_, 1])[:3]


MARKER_LPS = files.world(*files.MARKER)


# DICOM --------------------------------------------------------------------------------------------
def test_series_sorted_by_position_not_by_name(tmp_path):
    folder = files.write_series(tmp_path / "a", files.letter_f(), order=[3, 0, 4, 2, 1])
    image = read_image(folder)
    expected = files.letter_f() * 2.0 - 1000
    np.testing.assert_array_equal(image.values, expected)
    assert image.values.dtype == np.float32
    assert (image.units, image.oriented, image.notes) == ("HU", True, ())
    np.testing.assert_allclose(marker_of(image), MARKER_LPS, atol=1e-4)
    assert "CANARY" not in repr(image)
    assert "20240102" not in repr(image)


def test_only_listed_fields_of_a_header_are_read(tmp_path):
    from sciinv.data import reference_dicom as ours

    files.write_series(tmp_path / "a", files.letter_f()[:1])
    head = ours._header(pydicom, tmp_path / "a" / "000")
    assert {item.keyword for item in head} <= set(ours._FIELDS)
    assert head.Rows == files.SHAPE[1]


def test_stack_against_the_normal(tmp_path):
    """Slices that were written from the far end lie where they lie."""
    folder = files.write_series(tmp_path / "a", files.letter_f(), order=range(4, -1, -1))
    np.testing.assert_allclose(marker_of(read_image(folder)), MARKER_LPS, atol=1e-4)


def test_one_file(tmp_path):
    files.write_series(tmp_path / "a", files.letter_f())
    image = read_image(tmp_path / "a" / "003")
    assert image.values.shape == (1, *files.SHAPE[1:])
    np.testing.assert_allclose(marker_of(image), MARKER_LPS, atol=1e-4)


def test_enhanced_image(tmp_path):
    path = files.write_enhanced(tmp_path / "a", files.letter_f(), order=[2, 4, 0, 1, 3])
    image = read_image(path)
    np.testing.assert_array_equal(image.values, files.letter_f() * 2.0 - 1000)
    assert image.units == "HU"
    np.testing.assert_allclose(marker_of(image), MARKER_LPS, atol=1e-4)


def test_our_own_series_is_read(tmp_path):
    """Mean and standard deviation as --dicom writes them come back where they were."""
    pytest.importorskip("highdicom")
    from sciinv.report.dicom import write_dicom
    from sciinv.result import Result, Status

    samples = np.stack([files.letter_f() / 900.0, files.letter_f() / 450.0]).astype(np.float32)
    result = Result(
        samples=samples, baseline=samples[0], baseline_name="FBP",
        visible=np.ones(files.SHAPE, bool), kind="ct", units="1/mm", affine=files.nifti_affine(),
        name="a", status=Status.DONE, chi_squared=1.0, chi_squared_tolerance=0.1,
    )  # fmt: skip
    write_dicom(result, tmp_path)
    for name, values in (("mean", result.mean), ("std.dcm", result.std)):
        image = read_image(tmp_path / name)
        np.testing.assert_allclose(image.values, values, atol=1e-4)
        np.testing.assert_allclose(image.affine, files.nifti_affine(), atol=1e-4)
        assert image.units == "a.u."


def test_missing_slices_are_interpolated_and_told(tmp_path):
    image = files.letter_f((7, 14, 11))
    folder = files.write_series(tmp_path / "a", image, order=[0, 1, 2, 3, 6])
    found = read_image(folder)
    assert found.values.shape == (7, 14, 11)
    assert "2 slices are missing" in " ".join(found.notes)
    expected = (2 * image[3] + image[6]) / 3 * 2.0 - 1000
    np.testing.assert_allclose(found.values[4], expected, rtol=1e-5)
    np.testing.assert_allclose(marker_of(found), MARKER_LPS, atol=1e-4)


def test_secondary_capture_has_no_place(tmp_path):
    changes = {"ImageOrientationPatient": None, "PixelSpacing": None}
    item = files.data_set(files.letter_f()[0], **changes)
    item.save_as(tmp_path / "a", enforce_file_format=True)
    image = read_image(tmp_path / "a")
    assert not image.oriented
    assert "orientation" in " ".join(image.notes)
    assert "pixel size" in " ".join(image.notes)


def test_mr_has_no_unit(tmp_path):
    changes = {"Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None}
    image = read_image(files.write_series(tmp_path / "a", files.letter_f(), **changes))
    assert image.units == "a.u."
    np.testing.assert_array_equal(image.values, files.letter_f())


def one(folder, **changes):
    return files.write_series(folder, files.letter_f()[:1], **changes)


def test_what_is_no_series(tmp_path):
    folder = files.write_series(tmp_path / "two", files.letter_f())
    files.data_set(files.letter_f()[0], SeriesInstanceUID="1.2.4").save_as(folder / "other")
    refused(folder, "2 series in 6 files")
    folder = files.write_series(tmp_path / "size", files.letter_f())
    files.data_set(files.letter_f()[0, :, :5]).save_as(folder / "other")
    refused(folder, "Columns", "11 and 5")
    folder = files.write_series(tmp_path / "turned", files.letter_f())
    item = files.data_set(files.letter_f()[0], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    item.ImagePositionPatient = [0, 0, 0]
    item.save_as(folder / "other")
    refused(folder, "orientation", "slices that differ")
    place = [0.0, 0.0, 0.0]
    files.write_series(tmp_path / "echoes", files.letter_f(), ImagePositionPatient=place)
    refused(tmp_path / "echoes", "5 images at one place")
    folder = files.write_series(tmp_path / "twice", files.letter_f())
    item = files.data_set(files.letter_f()[0], ImagePositionPatient=list(files.world(2, 0, 0)))
    item.save_as(folder / "other")
    refused(folder, "two slices at one place")
    folder = files.write_series(tmp_path / "tilted", files.letter_f()[:3])
    moved = files.world(3, 0, 0) + 2 * files.DOWN
    files.data_set(files.letter_f()[0], ImagePositionPatient=list(moved)).save_as(folder / "other")
    refused(folder, "within their plane")
    folder = files.write_series(tmp_path / "uneven", files.letter_f()[:3])
    far = list(files.world(3.4, 0, 0))
    files.data_set(files.letter_f()[0], ImagePositionPatient=far).save_as(folder / "other")
    refused(folder, "distances of")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "without DICOM files")


def test_what_is_no_grey_image(tmp_path):
    rgb = np.zeros((14, 33), np.int16)
    item = files.data_set(rgb, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    item.Columns = 11
    item.save_as(tmp_path / "rgb")
    refused(tmp_path / "rgb", "RGB", "grey")
    item = files.data_set(files.letter_f(), NumberOfFrames=5)
    item.save_as(tmp_path / "frames")
    refused(tmp_path / "frames", "5 frames without a position")
    item = files.data_set(files.letter_f()[0], Rows=None)
    item.save_as(tmp_path / "rows")
    refused(tmp_path / "rows", "no image")
    item.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    item.save_as(tmp_path / "DICOMDIR")
    refused(tmp_path / "DICOMDIR", "a DICOMDIR", "folder of one series")
    folder = one(tmp_path / "with")
    item.save_as(folder / "DICOMDIR")
    assert read_image(folder).values.shape[0] == 1


def test_truncated_and_compressed_pixels(tmp_path):
    folder = one(tmp_path / "a")
    data = (folder / "000").read_bytes()
    (folder / "000").write_bytes(data[:-40])
    refused(folder, "000", f"{len(data) - 40} bytes", f"{14 * 11 * 2} bytes of pixels")
    item = files.data_set(files.letter_f()[0])
    item.compress(pydicom.uid.RLELossless)
    item.save_as(tmp_path / "rle")
    image = read_image(tmp_path / "rle")  # pydicom decodes it by itself
    np.testing.assert_array_equal(image.values[0], files.letter_f()[0] * 2.0 - 1000)
    item.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    item.save_as(tmp_path / "mpeg")
    refused(tmp_path / "mpeg", "compressed", "dcmconv")
    item.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    item.save_as(tmp_path / "ls")
    refused(tmp_path / "ls", "compressed", "pip install")
    deflated = files.data_set(files.letter_f()[0])
    deflated.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    deflated.save_as(tmp_path / "deflated")
    refused(tmp_path / "deflated", "deflated")


def test_a_small_file_that_declares_much(tmp_path):
    item = files.data_set(files.letter_f()[0], Rows=60000, Columns=60000)
    item.save_as(tmp_path / "a")
    refused(tmp_path / "a", "a decompression bomb")


def test_links_in_a_folder_are_not_followed(tmp_path):
    other = files.write_series(tmp_path / "other", files.letter_f())
    folder = one(tmp_path / "a")
    (folder / "link").symlink_to(other / "002")
    assert read_image(folder).values.shape[0] == 1


def test_without_pydicom(tmp_path, monkeypatch):
    folder = one(tmp_path / "a")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    refused(folder, "pip install 'sciinv[dicom]'")


def test_damaged_headers_are_one_line(tmp_path, rng):
    path = one(tmp_path / "a") / "000"
    original = path.read_bytes()
    for _ in range(60):
        data = bytearray(original)
        for place in rng.integers(132, len(data), 4):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert read_image(path).values.ndim == 3
        except DataError as error:
            assert "\n" not in str(error)


# NIfTI --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti(tmp_path, name):
    path = files.write_nifti(tmp_path / name, files.letter_f())
    named = path.rename(tmp_path / "no-suffix")
    image = read_image(named)
    np.testing.assert_array_equal(image.values, files.letter_f())
    assert (image.oriented, image.units) == (True, "")
    assert "CANARY" not in repr(image)
    np.testing.assert_allclose(marker_of(image), MARKER_LPS, atol=1e-4)
    # as nibabel has it
    theirs = nib.load(named.rename(tmp_path / name))
    where = np.unravel_index(np.asarray(theirs.dataobj).argmax(), theirs.shape)
    world = nib.affines.apply_affine(theirs.affine, where)
    np.testing.assert_allclose(LPS @ world, marker_of(image), atol=1e-4)


def test_nifti_2_big_endian_and_quaternion(tmp_path):
    volume = np.moveaxis(files.letter_f(), 0, -1).astype(np.float64)
    header = nib.Nifti2Header(endianness=">")
    header.set_data_dtype(np.float64)
    nifti = nib.Nifti2Image(volume, None, header)
    nifti.set_qform(files.nifti_affine(), code=1)
    nifti.set_sform(None, code=0)
    nib.save(nifti, tmp_path / "a.nii")
    image = read_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(image.values, files.letter_f())
    np.testing.assert_allclose(image.affine, files.nifti_affine(), atol=1e-4)


def test_damaged_nifti_headers_are_one_line(tmp_path, rng, capfd):
    original = files.write_nifti(tmp_path / "a.nii", files.letter_f()).read_bytes()
    path = tmp_path / "b.nii"
    for _ in range(100):
        data = bytearray(original)
        for place in rng.integers(4, 344, 4):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert read_image(path).values.ndim == 3
        except DataError as error:
            assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")


def test_gzip_that_breaks_is_no_image(tmp_path):
    packed = bytearray(gzip.compress(bytes(1000)))
    packed[12:16] = b"\xff\xff\xff\xff"
    (tmp_path / "a.nii.gz").write_bytes(packed)
    assert image_kind(tmp_path / "a.nii.gz") is None


def test_nifti_scale_units_and_codes(tmp_path):
    path = tmp_path / "a.nii"
    files.write_nifti(path, files.letter_f(), slope=(0.5, -3.0))
    stored = np.asarray(nib.load(path).dataobj)
    np.testing.assert_allclose(read_image(path).values, np.moveaxis(stored, -1, 0), atol=1e-4)
    metres = files.nifti_affine()
    metres[:3] /= 1e3
    files.write_nifti(path, files.letter_f(), affine=metres, unit="meter")
    np.testing.assert_allclose(read_image(path).affine, files.nifti_affine(), rtol=1e-4)
    for code, oriented in ((0, False), (2, True), (4, False)):
        files.write_nifti(path, files.letter_f(), code=code)
        assert read_image(path).oriented == oriented


def test_a_gz_bomb_stops_at_the_declared_size(tmp_path):
    """A gigabyte behind a small image is not unpacked; one that is declared is refused."""
    plain = files.write_nifti(tmp_path / "a.nii", files.letter_f()).read_bytes()
    path = tmp_path / "a.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(plain)
        for _ in range(256):
            stream.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.testing.assert_array_equal(read_image(path).values, files.letter_f())
    header = nib.Nifti1Header(plain[:348])
    header.set_data_shape((20000, 20000, 10))
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header.binaryblock + plain[348:])
    refused(path, "a decompression bomb")
    offset = bytearray(plain)
    offset[108:112] = np.float32(1e9).tobytes()
    with gzip.open(path, "wb") as stream:
        stream.write(offset)
    refused(path, "a decompression bomb")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes


def test_what_is_no_nifti_image(tmp_path):
    plain = files.write_nifti(tmp_path / "a.nii", files.letter_f())
    data = plain.read_bytes()
    plain.write_bytes(data[:-10])
    refused(plain, "truncated", str(len(data)))
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 3)), np.eye(4)), tmp_path / "b.nii")
    refused(tmp_path / "b.nii", "one volume")
    pair = nib.Nifti1Pair(np.zeros((4, 4, 4)), np.eye(4))
    nib.save(pair, tmp_path / "c.img")
    refused(tmp_path / "c.hdr", "pair")
    rgb = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "d.nii")
    refused(tmp_path / "d.nii", "datatype")
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), np.nan), np.eye(4)), tmp_path / "e.nii")
    refused(tmp_path / "e.nii", "NaN")
    (tmp_path / "f.nii.gz").write_bytes(gzip.compress(b"text")[:-3])
    refused(tmp_path / "f.nii.gz", "no DICOM and no NIfTI")
    assert image_kind(tmp_path / "missing") is None


# a process of its own -----------------------------------------------------------------------------
def test_images_are_read_in_a_process_of_their_own(tmp_path, monkeypatch):
    """What comes back is the same, and so is what is refused; this process parses nothing."""
    folder = files.write_series(tmp_path / "a", files.letter_f(), order=[3, 0, 4, 2, 1])
    path = files.write_nifti(tmp_path / "a.nii.gz", files.letter_f())
    here = [read_image(folder), read_image(path)]
    monkeypatch.setattr("sciinv.data.reference.read_image_here", None)
    monkeypatch.setenv("SCIINV_READ_ISOLATED", "1")
    for image, one in zip(here, (folder, path), strict=True):
        other = read_image(one)
        np.testing.assert_array_equal(image.values, other.values)
        np.testing.assert_array_equal(image.affine, other.affine)
        assert (image.units, image.oriented, image.notes) == (
            other.units, other.oriented, other.notes,
        )  # fmt: skip
    (folder / "000").write_bytes((folder / "000").read_bytes()[:-40])
    refused(folder, "000", "bytes of pixels")


# grids --------------------------------------------------------------------------------------------
def smooth(points: np.ndarray) -> np.ndarray:
    """Something linear in RAS mm, which linear interpolation reproduces."""
    return 3 + points @ [0.2, -0.5, 0.1]


def grid(affine, shape):
    slices, rows, columns = np.indices(shape)
    index = np.stack([rows, columns, slices, np.ones(shape)])
    return np.einsum("ij,j...->...i", affine, index)[..., :3]


def test_interpolation_is_exact_for_linear_images():
    own = files.nifti_affine()
    shape = (9, 30, 28)
    image = Image(smooth(grid(own, shape)).astype(np.float32), own, True)
    other = own.copy()
    other[:3, :3] *= 0.7
    other[:3, 3] = (own @ [4.2, 3.1, 1.3, 1])[:3]
    target = (5, 12, 13)
    found, inside, note = on_grid(image, target, other, True, "x")
    assert inside.all()
    assert "interpolated" in note
    np.testing.assert_allclose(found, smooth(grid(other, target)), rtol=1e-5)
    # a grid that sticks out: outside is 0 and known to be
    other[:3, 3] = (own @ [-5, 3, 1.3, 1])[:3]
    found, inside, note = on_grid(image, target, other, True, "x")
    assert not inside[:, :6].any() and inside[:, 8:].all()
    assert not found[~inside].any()
    assert f"covers {100 * inside.mean():.0f} %" in note


def test_one_slice_of_a_volume_and_a_volume_of_one_slice():
    own = files.nifti_affine()
    values = smooth(grid(own, (9, 30, 28))).astype(np.float32)
    middle = own.copy()
    middle[:3, 3] = (own @ [0, 0, 4, 1])[:3]
    found, inside, _ = on_grid(Image(values, own, True), (1, 30, 28), middle, True, "x")
    np.testing.assert_allclose(found[0], values[4], rtol=1e-5)
    flat = Image(values[4:5], middle, True)
    _, inside, _ = on_grid(flat, (9, 30, 28), own, True, "x")
    np.testing.assert_array_equal(inside.all(axis=(1, 2)), np.arange(9) == 4)


def test_same_shapes_and_unknown_places():
    own = files.nifti_affine()
    values = np.arange(60.0, dtype=np.float32).reshape(3, 4, 5)
    known, unknown = Image(values, own, True), Image(values, np.eye(4), False)
    for image, target, oriented in ((known, own, True), (unknown, own, True), (known, own, False)):
        found, inside, note = on_grid(image, (3, 4, 5), target, oriented, "x")
        np.testing.assert_array_equal(found, values)
        assert inside.all() and note == ""
    # the same shape elsewhere is another grid
    moved = own.copy()
    moved[:3, 3] += own[:3, 2]
    found, inside, _ = on_grid(known, (3, 4, 5), moved, True, "x")
    np.testing.assert_allclose(found[:2], values[1:], rtol=1e-5)
    # one volume of a three-dimensional encoding
    found, _, _ = on_grid(unknown, (1, 3, 4, 5), own, False, "x")
    assert found.shape == (1, 3, 4, 5)
    for image, oriented in ((unknown, True), (known, False)):
        with pytest.raises(DataError, match="no known orientation"):
            on_grid(image, (3, 4, 6), own, oriented, "x")
    far = own.copy()
    far[:3, 3] += 1000
    with pytest.raises(DataError, match="elsewhere"):
        on_grid(known, (3, 4, 5), far, True, "x")


def test_the_marker_of_a_series_on_the_grid_of_a_nifti(tmp_path):
    """Through both readers: the marked voxel lands where the other file has it."""
    series = read_image(files.write_series(tmp_path / "a", files.letter_f(), order=[1, 3, 0, 2, 4]))
    finer = files.nifti_affine() @ np.diag([0.5, 0.5, 1.0, 1.0])
    shape = (5, 28, 22)
    path = files.write_nifti(tmp_path / "a.nii", np.zeros(shape, np.int16), affine=finer)
    target = read_image(path)
    found, _, _ = on_grid(series, shape, target.affine, target.oriented, "x")
    slice_, row, column = np.unravel_index(found.argmax(), shape)
    assert (slice_, row / 2, column / 2) == files.MARKER
    world = nib.affines.apply_affine(nib.load(path).affine, (row, column, slice_))
    np.testing.assert_allclose(LPS @ world, MARKER_LPS, atol=1e-3)


def test_intensities_are_matched(rng):
    truth = rng.random((2, 8, 8)).astype(np.float32)
    mask = truth > 0.2
    matched, factor, constant = match_intensity(4 * truth, truth, mask)
    np.testing.assert_allclose(matched, truth, rtol=1e-5)
    assert (factor, constant) == pytest.approx((0.25, 0.0))
    matched, factor, constant = match_intensity(1000 * truth - 1000, truth, mask, offset=True)
    np.testing.assert_allclose(matched, truth, atol=1e-5)
    assert (factor, constant) == pytest.approx((1e-3, 1.0))
    assert match_intensity(0 * truth, truth, mask)[1] == 0
