"""DICOM and NIfTI of one result, read by their own libraries: values, world coordinates, names."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pydicom
import pytest

from sciinv.errors import DataError
from sciinv.report import dicom as module
from sciinv.report.dicom import check_dicom, write_dicom
from sciinv.report.store import write_images
from sciinv.result import Result, Status

LETTER_F = np.array(
    [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0], *[[1, 0, 0, 0, 0]] * 3],
    dtype=np.float32,
)  # fmt: skip
MARK = (1, 4, 2)  # slice, row, column
AFFINE = np.array(
    # columns: row, column, slice; oblique, three spacings, slices not along an axis
    [[-0.2, -0.70, 1.0, 11.0], [-1.4, 0.10, 0.5, -22.0], [0.3, 0.14, 3.8, 33.0], [0, 0, 0, 1.0]]
)


def perpendicular(affine):
    """Turn the axes of an affine by the least amount that makes them perpendicular."""
    u, _, vt = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    out = affine.copy()
    out[:3, :3] = (u @ vt) * np.linalg.norm(affine[:3, :3], axis=0)
    return out


def made(kind="mri", samples=4, affine=None, slices=3, volumes=None, **changes):
    rng = np.random.default_rng(0)
    image = np.broadcast_to(LETTER_F, (slices, *LETTER_F.shape)).copy()
    image[MARK] = 9.0
    if volumes:
        image = np.stack([image * (n + 1) for n in range(volumes)])
    elif volumes == 0:
        image = image[None]
    values = image + 0.01 * rng.normal(size=(samples, *image.shape))
    values = values.astype(np.complex64 if kind == "mri" else np.float32)
    fields = {
        "samples": values, "baseline": values[0], "baseline_name": "FBP", "kind": kind,
        "visible": np.ones(image.shape, bool), "units": "a.u." if kind == "mri" else "1/mm",
        "affine": perpendicular(AFFINE) if affine is None else affine, "name": "letter",
        "status": Status.DONE, "chi_squared": 1.0, "chi_squared_tolerance": 0.01,
    }  # fmt: skip
    return Result(**(fields | changes))


def written(tmp_path, result):
    write_dicom(result, tmp_path)
    return tmp_path


def series(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def lps(dataset, row, column):
    """Position of a pixel by the equation of the standard (PS3.3 C.7.6.2.1.1)."""
    along = np.array(dataset.ImageOrientationPatient, float)
    between_rows, between_columns = map(float, dataset.PixelSpacing)
    position = np.array(dataset.ImagePositionPatient, float)
    return position + along[:3] * between_columns * column + along[3:] * between_rows * row


@pytest.mark.parametrize("kind", ["mri", "ct"])
def test_marked_voxel_lies_at_one_place_in_nifti_and_dicom(tmp_path, kind):
    result = made(kind)
    write_images(result, tmp_path, samples=False)
    image = nib.load(tmp_path / "mean.nii.gz")
    found = np.unravel_index(np.argmax(image.get_fdata()), image.shape)
    ras = nib.affines.apply_affine(image.affine, found)
    expected = perpendicular(AFFINE) @ [MARK[1], MARK[2], MARK[0], 1]
    np.testing.assert_allclose(ras, expected[:3], atol=1e-4)
    assert image.get_sform(coded=True)[1] == image.get_qform(coded=True)[1] == 1

    (tmp_path / "dicom").mkdir()
    slices = series(written(tmp_path / "dicom", result) / "mean")
    brightest = max(slices, key=lambda s: s.pixel_array.max())
    row, column = np.unravel_index(np.argmax(brightest.pixel_array), brightest.pixel_array.shape)
    np.testing.assert_allclose(lps(brightest, row, column) * [-1, -1, 1], ras, atol=1e-4)

    std = pydicom.dcmread(tmp_path / "dicom" / "std.dcm")
    assert std.SOPClassUID == pydicom.uid.ParametricMapStorage
    assert std.StudyInstanceUID == brightest.StudyInstanceUID
    assert std.FrameOfReferenceUID == brightest.FrameOfReferenceUID
    frame = std.PerFrameFunctionalGroupsSequence
    shared = std.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == (
        brightest.ImageOrientationPatient
    )
    assert shared.PixelMeasuresSequence[0].PixelSpacing == brightest.PixelSpacing
    values = np.frombuffer(std.FloatPixelData, "<f4").reshape(3, 6, 5)
    for dataset in slices:
        # frames may come in another order: the position says which slice one is
        distances = [
            np.linalg.norm(np.subtract(
                f.PlanePositionSequence[0].ImagePositionPatient, dataset.ImagePositionPatient
            ).astype(float)) for f in frame
        ]  # fmt: skip
        assert min(distances) < 1e-4
        np.testing.assert_array_equal(
            values[int(np.argmin(distances))], result.std[dataset.InstanceNumber - 1]
        )


@pytest.mark.parametrize("kind", ["mri", "ct"])
def test_values_come_back_within_half_a_step(tmp_path, kind):
    sign = 1 if kind == "mri" else -1
    result = made(kind, samples=1)
    small = (sign * 1e-5 * result.samples).astype(result.samples.dtype)
    result = replace(result, samples=small)
    slices = series(written(tmp_path, result) / "mean")
    for dataset in slices:
        values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        expected = result.mean[dataset.InstanceNumber - 1]
        step = float(dataset.RescaleSlope)
        np.testing.assert_allclose(values, expected, atol=0.51 * step)
        assert step == pytest.approx(float(np.ptp(result.mean)) / 65535, rel=1e-6)
    # one sample says nothing about the spread
    assert [path.name for path in tmp_path.iterdir()] == ["mean"]


def test_series_is_derived_and_names_nobody(tmp_path):
    slices = series(written(tmp_path, made("ct", name="DOE^JOHN", oriented=False)) / "mean")
    assert len({s.SOPInstanceUID for s in slices}) == 3
    assert len({s.SeriesInstanceUID for s in slices}) == 1
    for s in slices:
        assert s.SOPClassUID == pydicom.uid.CTImageStorage
        assert list(s.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert s.SOPInstanceUID.startswith("2.25.")
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime"):
            assert keyword in s and not s[keyword].value
        assert "position assumed" in s.DerivationDescription
        assert "[1/mm]" in s.SeriesDescription
    for path in tmp_path.rglob("*.dcm"):
        assert b"DOE" not in path.read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    other = series(written(again, made("ct")) / "mean")
    assert other[0].StudyInstanceUID != slices[0].StudyInstanceUID


def test_without_highdicom_the_std_is_a_second_series(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "has_parametric_maps", lambda: False)
    result = made()
    folder = written(tmp_path, result)
    mean, std = series(folder / "mean"), series(folder / "std")
    assert mean[0].SeriesInstanceUID != std[0].SeriesInstanceUID
    assert mean[0].StudyInstanceUID == std[0].StudyInstanceUID
    assert "standard deviation" in std[0].SeriesDescription
    values = std[2].pixel_array * float(std[2].RescaleSlope) + float(std[2].RescaleIntercept)
    np.testing.assert_allclose(values, result.std[2], atol=0.51 * float(std[2].RescaleSlope))


def test_volumes(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = series(written(tmp_path / "one", made(volumes=0)) / "mean")
    assert len(one) == 3 and one[0].MRAcquisitionType == "3D"
    assert one[1].pixel_array.max() > 2 * one[0].pixel_array.max()  # the mark's slice
    names = {p.name for p in written(tmp_path / "two", made(volumes=2)).iterdir()}
    assert names == {"mean1", "mean2", "std1.dcm", "std2.dcm"}


def test_one_slice_and_constant_image(tmp_path):
    flat = np.full((3, 1, 4, 5), 2, np.complex64)
    visible = np.ones((1, 4, 5), bool)
    result = replace(made(), samples=flat, baseline=flat[0], visible=visible)
    (only,) = series(written(tmp_path, result) / "mean")
    assert float(only.RescaleIntercept) + only.pixel_array.max() * float(only.RescaleSlope) == 2
    assert (tmp_path / "std.dcm").exists()


def test_refusals(tmp_path, monkeypatch):
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    with pytest.raises(DataError, match="rows and columns at an angle"):
        write_dicom(made(affine=sheared), tmp_path)
    with pytest.raises(DataError, match="a diffraction image, expected MRI or CT"):
        check_dicom("diffraction")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'sciinv\[dicom\]'"):
        check_dicom("ct")
    assert not list(tmp_path.iterdir())
