"""TIFF stacks read back by tifffile and pillow: values, pages, voxel size, unit."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from sciinv.report.tiff import write_tiff, write_tiffs
from sciinv.result import Result, Status


def made(samples=3, shape=(4, 6, 5), kind="mri", **changes):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(samples, *shape)).astype(np.complex64 if kind == "mri" else "f4")
    fields = {
        "samples": values, "baseline": values[0], "baseline_name": "x", "kind": kind,
        "estimate": -2 * values[0], "visible": np.ones(shape, bool), "units": "a.u.",
        "affine": np.diag([2.0, 0.5, 4.0, 1.0]), "name": "x", "status": Status.DONE,
        "chi_squared": 1.0, "chi_squared_tolerance": 0.01,
    }  # fmt: skip
    return Result(**(fields | changes))


def ratio(page, tag):
    top, bottom = page.tags[tag].value
    return bottom / top


def test_stacks_have_a_page_a_slice_and_the_voxel_size(tmp_path):
    result = made()
    files = write_tiffs(result, tmp_path)
    assert [f.name for f in files] == ["mean.tif", "std.tif", "estimate.tif"]
    expected = (result.mean, result.std, 2 * np.abs(result.baseline))
    for path, images in zip(files, expected, strict=True):
        with tifffile.TiffFile(path) as file:
            assert len(file.pages) == 4
            data = file.asarray()
            assert data.dtype == np.float32
            np.testing.assert_allclose(data, images, rtol=1e-6)
            facts = file.imagej_metadata
            assert facts["unit"] == "mm" and facts["spacing"] == 4.0 and facts["slices"] == 4
            # x runs along a row: it is the distance of columns
            assert ratio(file.pages[0], "XResolution") == pytest.approx(0.5, rel=1e-6)
            assert ratio(file.pages[0], "YResolution") == pytest.approx(2.0, rel=1e-6)
            assert "DateTime" not in file.pages[0].tags
    with Image.open(files[0]) as image:
        assert image.n_frames == 4
        image.seek(2)
        np.testing.assert_array_equal(np.asarray(image), result.mean[2])


def test_real_images_keep_their_sign_and_one_sample_has_no_std(tmp_path):
    result = made(samples=1, kind="ct", estimate=None, units="1/pixel")
    (path,) = write_tiffs(result, tmp_path)
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(file.asarray(), result.mean)
        assert file.asarray().min() < 0
        assert file.imagej_metadata["unit"] == "pixel"


def test_one_slice_and_several_volumes(tmp_path):
    one = np.ones((1, 3, 4), np.float32)
    write_tiff(tmp_path / "one.tif", one, (1, 1, 1), unit="mm")
    assert tifffile.imread(tmp_path / "one.tif").shape == (3, 4)
    many = np.arange(120, dtype=np.float32).reshape(2, 5, 3, 4)
    write_tiff(tmp_path / "many.tif", many, (1, 1, 1), unit="mm")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "many.tif"), many)


def test_beyond_4_gib_is_a_big_tiff(tmp_path, monkeypatch):
    monkeypatch.setattr("sciinv.report.tiff._CLASSIC_MAX", 10)
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    write_tiff(tmp_path / "big.tif", images, (2.0, 0.5, 3.0), unit="mm")
    with tifffile.TiffFile(tmp_path / "big.tif") as file:
        assert file.is_bigtiff and len(file.pages) == 2
        np.testing.assert_array_equal(file.asarray(), images)
        assert ratio(file.pages[0], "XResolution") == pytest.approx(0.5)
        assert file.shaped_metadata[0]["spacing"] == 3.0
