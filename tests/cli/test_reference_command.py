"""--reference: DICOM and NIfTI beside results, on their grid and in their scale."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from sciinv.data import load
from sciinv.result import Result, Status, load_result

from ..data import image_files as files
from .conftest import FAST, refused, run

pydicom = pytest.importorskip("pydicom")


def stored(image: np.ndarray) -> np.ndarray:
    """Counts up to 1000, as scanners store them."""
    return np.round(1000 * np.abs(image) / np.abs(image).max()).astype(np.int16)


def series(folder, image, **changes):
    scale = {"Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None}
    return files.write_series(folder, stored(image), **{**scale, **changes})


@pytest.fixture(scope="module")
def truth(scans) -> np.ndarray:
    return load(scans / "mri.h5").reference


@pytest.fixture
def oriented(tmp_path):
    """A result whose place is known: mean is twice the letter."""
    image = 2 * files.letter_f() / 900.0 + 0.5
    samples = np.stack([image, image]).astype(np.float32)
    result = Result(
        samples=samples, baseline=samples[0], baseline_name="FBP",
        visible=np.ones(files.SHAPE, bool), kind="ct", units="1/mm", affine=files.nifti_affine(),
        name="a", status=Status.DONE, chi_squared=1.0, chi_squared_tolerance=0.1,
    )  # fmt: skip
    return result.save(tmp_path / "result")


def test_evaluate_against_dicom_of_another_scale(result, truth, tmp_path):
    """The scale is fitted and told; the figures are those of the truth in its own scale."""
    folder, _ = result
    images = series(tmp_path / "a", truth)
    ran = run("evaluate", folder, "--reference", images, "--json")
    assert ran.code == 0, ran.err
    rows = json.loads(ran.out)
    factor = float(rows["notes"][-1].partition("times ")[2].partition(",")[0])
    assert factor == pytest.approx(truth.max() / 1000, rel=0.2)
    matched = tmp_path / "a.npy"
    np.save(matched, stored(truth) * factor)
    direct = json.loads(run("evaluate", folder, "--reference", matched, "--json").out)
    assert "notes" not in direct
    assert rows["NRMSE"] == pytest.approx(direct["NRMSE"], rel=1e-3)
    assert "note" in run("evaluate", folder, "--reference", images).out


def test_evaluate_against_nifti_keeps_a_scale_that_fits(result, truth, tmp_path):
    folder, _ = result
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.moveaxis(1.1 * truth, 0, -1), np.eye(4)), path)
    rows = json.loads(run("evaluate", folder, "--reference", path, "--json").out)
    assert "notes" not in rows
    np.save(tmp_path / "a.npy", 1.1 * truth)
    direct = json.loads(run("evaluate", folder, "--reference", tmp_path / "a.npy", "--json").out)
    assert rows["NRMSE"] == pytest.approx(direct["NRMSE"], rel=1e-4)
    nib.save(nib.Nifti1Image(np.moveaxis(1000 * truth, 0, -1), np.eye(4)), path)
    rows = json.loads(run("evaluate", folder, "--reference", path, "--json").out)
    assert "another scale" in rows["notes"][-1]
    assert rows["NRMSE"] < direct["NRMSE"] + 0.1


def test_evaluate_on_another_grid(oriented, tmp_path):
    """Hounsfield units, half the pixels and slices in another order: fitted and interpolated."""
    coarse = files.letter_f()[:, ::2, ::2]
    spacing = [2 * s for s in files.SPACING[1:]]
    images = files.write_series(tmp_path / "a", coarse, order=[4, 2, 0, 1, 3], PixelSpacing=spacing)
    ran = run("evaluate", oriented, "--reference", images, "--json")
    assert ran.code == 0, ran.err
    rows = json.loads(ran.out)
    assert any("interpolated linearly" in note for note in rows["notes"])
    assert any("plus" in note for note in rows["notes"])
    same = files.write_series(tmp_path / "b", files.letter_f())
    exact = json.loads(run("evaluate", oriented, "--reference", same, "--json").out)
    assert exact["NRMSE"] < 1e-5 < 1e-3 < rows["NRMSE"]
    assert not any("interpolated" in note for note in exact["notes"])


def test_evaluate_refuses_what_does_not_fit(oriented, result, tmp_path):
    unlike = files.write_series(tmp_path / "a", -files.letter_f())
    refused(run("evaluate", oriented, "--reference", unlike), "nothing in common")
    far = files.write_series(
        tmp_path / "b", files.letter_f()[:1], ImagePositionPatient=[900.0, 0.0, 0.0]
    )
    refused(run("evaluate", oriented, "--reference", far), "elsewhere")
    folder, _ = result
    refused(run("evaluate", folder, "--reference", far), "no known orientation")
    refused(run("evaluate", folder, "--reference", tmp_path / "none"), "no such file")
    (tmp_path / "c.txt").write_text("text")
    refused(run("evaluate", tmp_path / "c.txt", "--reference", folder), "DICOM, NIfTI")


def test_evaluate_an_image(tmp_path):
    """DICOM as the image itself, NIfTI of the same place as the reference."""
    images = files.write_series(
        tmp_path / "a", files.letter_f(), RescaleSlope=1, RescaleIntercept=0
    )
    path = files.write_nifti(tmp_path / "a.nii", files.letter_f())
    rows = json.loads(run("evaluate", images, "--reference", path, "--json").out)
    assert rows["NRMSE"] < 1e-6


def test_reconstruct_with_a_reference(scans, truth, tmp_path):
    """It is in the result, in its scale; the images are those without it; no path is kept."""
    images = series(tmp_path / "CANARY", truth)
    words = ("reconstruct", scans / "mri.h5", "--seed", 3, *FAST)
    ran = run(*words, "-o", tmp_path / "out", "--reference", images)
    assert ran.code == 0, ran.err
    assert run(*words, "-o", tmp_path / "plain").code == 0
    saved, plain = load_result(tmp_path / "out"), load_result(tmp_path / "plain")
    np.testing.assert_array_equal(saved.samples, plain.samples)
    ratio = saved.reference[0] / np.maximum(stored(truth)[0], 1)
    assert np.ptp(ratio[stored(truth)[0] > 0]) < 1e-4 * ratio.max()
    bright = truth > 0.2 * truth.max()
    assert np.median(saved.reference[bright] / truth[bright]) == pytest.approx(1, abs=0.3)
    assert any("another scale" in note for note in saved.notes)
    assert "reference IMAGE" in saved.provenance["command"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "reference" in page
    for file in (tmp_path / "out").rglob("*"):
        assert file.is_dir() or b"CANARY" not in file.read_bytes(), file


def test_reconstruct_some_slices_with_a_reference(scans, tmp_path):
    truth = load(scans / "stack.h5").reference
    np.save(tmp_path / "a.npy", truth)
    words = ("reconstruct", scans / "stack.h5", "-o", tmp_path / "out", "--slices", 1, *FAST)
    assert run(*words, "--reference", tmp_path / "a.npy").code == 0
    np.testing.assert_allclose(load_result(tmp_path / "out").reference, truth[1:], rtol=1e-6)


def test_a_reference_that_does_not_fit_is_told_at_once(scans, tmp_path):
    images = series(tmp_path / "a", files.letter_f())
    ran = run("reconstruct", scans / "mri.h5", "-o", tmp_path / "out", "--reference", images)
    refused(ran, str(images), "no known orientation", "(1, 32, 32)")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["folder", "file.h5", "image.nii.gz", "image.nii", "other.npy"])
def test_an_image_is_no_scan(tmp_path, name):
    path = tmp_path / name
    if name in ("folder", "file.h5"):
        files.write_series(tmp_path / "folder", files.letter_f())
        if name == "file.h5":
            (tmp_path / "folder" / "000").rename(path)
        kind = "DICOM"
    else:
        written = tmp_path / (name if name.startswith("image") else "a.nii")
        files.write_nifti(written, files.letter_f()).rename(path)
        kind = "NIfTI"
    for command in ("reconstruct", "info"):
        refused(run(command, path), f"a {kind} image", "raw data", "--reference")


def test_simulate_from_images(tmp_path):
    images = files.write_series(
        tmp_path / "a", files.letter_f((1, 16, 16)), RescaleIntercept=0, RescaleSlope=1
    )
    ran = run("simulate", tmp_path / "ct.h5", "--kind", "ct", "--image", images, "--angles", 12)
    assert ran.code == 0, ran.err
    expected = 0.02 * files.letter_f((1, 16, 16))
    scan = load(tmp_path / "ct.h5")
    np.testing.assert_allclose(scan.reference, expected, rtol=1e-5)
    assert scan.geometry.pixel_size == 1.0  # these pixels are not square


@pytest.mark.parametrize(("given", "expected"), [((), 0.7), (("--pixel-size", 2.5), 2.5)])
def test_simulate_takes_the_pixel_size_of_the_image(tmp_path, given, expected):
    plain = {"RescaleIntercept": 0, "RescaleSlope": 1, "PixelSpacing": [0.7, 0.7]}
    images = files.write_series(tmp_path / "a", files.letter_f((1, 16, 16)), **plain)
    words = ("--kind", "ct", "--image", images, "--angles", 12, *given)
    ran = run("simulate", tmp_path / "ct.h5", *words)
    assert ran.code == 0, ran.err
    assert load(tmp_path / "ct.h5").geometry.pixel_size == pytest.approx(expected)
