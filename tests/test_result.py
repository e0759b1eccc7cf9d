"""Result: statistics against NumPy, files against nibabel, atomic saving, reading back."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import h5py
import nibabel as nib
import numpy as np
import pytest

from sciinv.errors import DataError
from sciinv.report import save as save_module
from sciinv.report import store
from sciinv.result import Result, Status, StdCalibration, load_result

LETTER_F = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ],
    dtype=np.float32,
)


def rotation(x, y, z):
    """Rotate about the three axes in turn."""
    out = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
        out = turn @ out
    return out


def oblique():
    """Affine of a rotated stack with three different spacings, row and column exchanged in RAS."""
    axes = rotation(0.2, -0.3, 0.1) @ np.array([[0, -1, 0], [-1, 0, 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = axes * [1.5, 0.75, 4.0]
    affine[:3, 3] = [11, -22, 33]
    return affine


def small(samples=5, slices=3, image=LETTER_F, kind="ct", **changes):
    """A stack of letters F that differ by slice, sample and pixel."""
    rng = np.random.default_rng(1)
    stack = image * (1 + np.arange(slices, dtype=np.float32)).reshape(-1, *[1] * image.ndim)
    values = stack + 0.1 * rng.normal(size=(samples, *stack.shape))
    values = values.astype(np.float32)
    if kind == "mri":
        values = (values * np.exp(0.3j + 1j * rng.normal(size=values.shape))).astype(np.complex64)
    visible = np.ones(stack.shape, bool)
    visible[..., 0, :] = False
    fields = {
        "samples": values,
        "baseline": values[0],
        "baseline_name": "FBP",
        "visible": visible,
        "kind": kind,
        "units": "1/mm",
        "affine": oblique(),
        "name": "letter",
        "status": Status.DONE,
        "chi_squared": 1.0,
        "chi_squared_tolerance": 0.01,
    }
    return Result(**(fields | changes))


@pytest.fixture(scope="module")
def complex_result():
    """A complex result with everything filled in."""
    rng = np.random.default_rng(2)
    result = small(kind="mri")
    return small(
        kind="mri",
        units="a.u.",
        estimate=(result.baseline * np.complex64(0.9j)),
        null_space=np.where(result.visible, result.baseline * np.complex64(0.2j), 0),
        residual=rng.normal(size=(7, 6)).astype(np.float32),
        pictures={"coil_maps": rng.random((3, 7, 6), np.float32)},
        reference=np.abs(result.baseline),
        stats={"nfe": np.int64(20), "seconds": 1.5, "timings": {"read": 0.5}, "odd": np.nan},
        provenance={"seed": 3, "settings": {"steps": {"value": 10, "origin": "default"}}},
        notes=("a note",),
        warnings=("a warning",),
        std_calibration=StdCalibration(1.5, 1.5, 0.25, "3 of 9 shots", 42),
    )


@pytest.fixture(scope="module")
def saved(complex_result, tmp_path_factory):
    """Folder of the complex result."""
    return complex_result.save(tmp_path_factory.mktemp("results") / "out")


# statistics -------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["ct", "mri"])
def test_statistics_are_those_of_the_displayed_quantity(kind):
    result = small(kind=kind)
    values = np.abs(result.samples) if kind == "mri" else result.samples
    values = values.astype(np.float64)
    seen = result.visible
    for name, expected in (("mean", values.mean(0)), ("std", values.std(0, ddof=1))):
        found = getattr(result, name)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[seen], expected[seen], rtol=1e-6)
        assert np.all(found[~seen] == 0)
    low, high = result.interval(0.5)
    for end, q in ((low, 0.25), (high, 0.75)):
        expected = np.quantile(values, q, axis=0, method="weibull")
        # interpolated in the float32 of the samples
        np.testing.assert_allclose(end[seen], expected[seen], rtol=1e-6, atol=1e-6)
    assert np.all(low[~seen] == 0)


@pytest.mark.parametrize("samples", [2, 4, 8, 18, 19, 40])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_interval_holds_the_next_draw_as_often_as_it_says(samples, factor):
    pixels = 40000
    rng = np.random.default_rng(samples)
    truth, *drawn = rng.normal(3.0, 0.1, (samples + 1, 1, 1, pixels))
    drawn = np.stack(drawn).astype(np.float32)
    # samples whose spread about their mean is too small by the factor of the calibration
    narrow = drawn.mean(0) + (drawn - drawn.mean(0)) / np.float32(factor)
    result = small(
        samples=samples, slices=1, image=np.ones((1, pixels), np.float32),
        std_calibration=StdCalibration(factor, factor, 0.1, "some", 1),
    )  # fmt: skip
    result = replace(result, samples=narrow, visible=np.ones((1, 1, pixels), bool))
    low, high = result.interval(0.9)
    inside = float(np.mean((low <= truth) & (truth <= high)))
    assert inside == pytest.approx(0.9, abs=4 * np.sqrt(0.9 * 0.1 / pixels))


def test_mean_of_modulus_differs_from_modulus_of_mean():
    result = small(kind="mri")
    expected = np.where(result.visible, result.samples.astype(np.complex128).mean(0), 0)
    np.testing.assert_allclose(result.complex_mean, expected, atol=1e-6)
    assert result.complex_mean.dtype == np.complex64
    seen = result.visible & (np.abs(result.baseline) > 0.5)
    assert np.all(result.mean[seen] > np.abs(result.complex_mean)[seen])


def test_calibration_widens_std_and_interval():
    plain, found = small(kind="mri"), StdCalibration(2.0, 2.0, 0.3, "6 of 15 lines", 999)
    wide = small(kind="mri", std_calibration=found)
    np.testing.assert_allclose(wide.std, 2 * plain.std, rtol=1e-6)
    np.testing.assert_array_equal(wide.raw_std, plain.std)
    for old, new in zip(plain.interval(0.5), wide.interval(0.5), strict=True):
        expected = np.maximum(plain.mean + 2 * (old - plain.mean), 0)
        np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-6)
    assert "times 2.00" in found.text
    assert "2.00 \N{PLUS-MINUS SIGN} 0.30" in found.text


def test_calibration_says_when_nothing_is_widened():
    kept = StdCalibration(1.0, 0.8, 0.2, "6 of 15 lines", 999)
    assert "0.80" in kept.text
    assert "is that of the samples." in kept.text
    missing = StdCalibration(reason="4 lines can be left out, 8 are needed")
    assert "not calibrated (4 lines can be left out" in missing.text
    assert small(std_calibration=missing).std_factor == 1.0


def test_one_sample_has_no_spread():
    result = small(samples=1)
    assert np.all(np.isnan(result.std[result.visible]))
    assert np.all(result.std[~result.visible] == 0)


@pytest.mark.parametrize("q", [-0.1, 1.1, np.nan])
def test_quantile_refuses_what_is_no_probability(q):
    with pytest.raises(ValueError, match="probability"):
        small().quantile(q)
    with pytest.raises(ValueError, match="probability"):
        small().interval(q)


def test_all_problems_are_named_at_once():
    with pytest.raises(ValueError, match=r"baseline.*visible.*kind.*affine.*residual") as error:
        small(
            baseline=np.zeros((2, 2)),
            visible=np.ones((3, 7, 6)),
            kind="pet",
            affine=np.diag([1.0, 1, 0, 1]),
            residual=np.zeros(3, np.float32),
        )
    assert "samples" not in str(error.value)


def test_status_of_fit():
    assert Status.of_fit(1.02, 0.001) is Status.DONE
    assert Status.of_fit(1.51, 0.001) is Status.MISFIT
    assert Status.of_fit(0.49, 0.001) is Status.MISFIT
    assert Status.of_fit(1.9, 0.2) is Status.DONE  # few data: 4.5 standard deviations
    assert Status.of_fit(float("nan")) is Status.FAILED
    assert all(status.text.endswith(".") for status in Status)
    assert Status("misfit") is Status.MISFIT


def test_import_is_light():
    code = (
        "import sys, sciinv.result, sciinv.report;"
        "print([m for m in ('torch', 'h5py', 'nibabel', 'matplotlib', 'jinja2')"
        " if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# files ------------------------------------------------------------------------------------------
def test_folder_holds_everything(saved):
    names = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    images = ("mean", "std", "baseline", "estimate", "null_space", "mask", "samples")
    images += ("mean_phase", "baseline_phase", "estimate_phase")
    figures = ("overview", "samples", "null_space", "residual", "reference", "histogram")
    figures += ("coil_maps",)
    expected = {f"{name}.nii.gz" for name in images} | {f"figures/{n}.png" for n in figures}
    assert names == expected | {"result.h5", "run.json", "report.html"}
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    umask = os.umask(0)
    os.umask(umask)
    assert saved.stat().st_mode & 0o777 == 0o777 & ~umask


def test_voxels_lie_where_the_affine_says(saved, complex_result):
    image = nib.load(saved / "mean.nii.gz")
    data = np.asarray(image.dataobj)
    assert data.shape == (7, 6, 3)
    # the tip of the upper bar of the F in the second slice, marked by its own value
    row, column, slice_ = 1, 4, 1
    assert data[row, column, slice_] == complex_result.mean[slice_, row, column]
    np.testing.assert_allclose(data, np.moveaxis(complex_result.mean, 0, -1))
    world = nib.affines.apply_affine(image.affine, (row, column, slice_))
    expected = oblique() @ [row, column, slice_, 1]
    np.testing.assert_allclose(world, expected[:3], atol=1e-5)  # float32 header
    # built from a radiological stack: rows to posterior, columns to left, slices to superior
    assert nib.aff2axcodes(image.affine) == ("P", "L", "S")


def test_both_nifti_forms_agree_and_carry_units(saved):
    for name in ("mean", "std", "baseline", "estimate", "null_space", "mask", "samples"):
        image = nib.load(saved / f"{name}.nii.gz")
        for form in (image.get_sform, image.get_qform):
            affine, code = form(coded=True)
            assert code == 1
            # the quaternion is stored in float32
            np.testing.assert_allclose(affine, oblique(), atol=1e-4)
        assert image.header.get_xyzt_units()[0] == "mm"
        np.testing.assert_allclose(image.header.get_zooms()[:3], (1.5, 0.75, 4.0), rtol=1e-6)
        assert image.get_data_dtype() == (np.uint8 if name == "mask" else np.float32)
        assert len(image.header.extensions) == 0


def test_samples_are_the_last_axis(saved, complex_result):
    data = np.asarray(nib.load(saved / "samples.nii.gz").dataobj)
    assert data.shape == (7, 6, 3, 5)
    np.testing.assert_array_equal(data[..., 4], complex_result.magnitude[4].transpose(1, 2, 0))


def test_one_volume_has_its_depth_as_slices(tmp_path):
    volume = np.stack([LETTER_F * k for k in (1, 2, 3, 4)])
    result = small(slices=1, image=volume, samples=1)
    folder = result.save(tmp_path / "out", samples=False)
    data = np.asarray(nib.load(folder / "mean.nii.gz").dataobj)
    assert data.shape == (7, 6, 4)
    np.testing.assert_array_equal(data[2, 1], result.mean[0, :, 2, 1])
    # one sample: no standard deviation is invented; samples were not asked for
    assert not (folder / "std.nii.gz").exists()
    assert not (folder / "samples.nii.gz").exists()


def test_null_space_part_and_its_share(saved, complex_result):
    data = np.asarray(nib.load(saved / "null_space.nii.gz").dataobj)
    seen = complex_result.visible
    expected = np.where(seen, 0.2 * np.abs(complex_result.baseline), 0)
    np.testing.assert_allclose(data, expected.transpose(1, 2, 0), rtol=1e-6)
    # energies over what is seen, of the complex mean
    mean = complex_result.samples.mean(0)[seen]
    share = np.sum(expected[seen] ** 2) / np.sum(np.abs(mean) ** 2)
    assert complex_result.prior_share == pytest.approx(share, rel=1e-5)
    assert json.loads((saved / "run.json").read_text())["prior_share"] == pytest.approx(share)
    assert small().prior_share is None
    zero = small(null_space=np.zeros_like(small().baseline))
    assert zero.prior_share == 0.0


def test_estimate_is_written_as_displayed(saved, complex_result, tmp_path):
    data = np.asarray(nib.load(saved / "estimate.nii.gz").dataobj)
    expected = 0.9 * np.abs(complex_result.baseline)
    np.testing.assert_allclose(data, expected.transpose(1, 2, 0), rtol=1e-6)
    # sampling that started from noise has none
    plain = small(samples=2)
    assert plain.estimate is None
    folder = plain.save(tmp_path / "out")
    assert not (folder / "estimate.nii.gz").exists()
    assert load_result(folder).estimate is None
    # real images keep their sign
    real = small(samples=2, estimate=-plain.baseline).save(tmp_path / "real")
    data = np.asarray(nib.load(real / "estimate.nii.gz").dataobj)
    np.testing.assert_array_equal(data, -plain.baseline.transpose(1, 2, 0))
    np.testing.assert_array_equal(load_result(real).estimate, -plain.baseline)


def test_phase_is_a_second_file_in_radians(saved, complex_result):
    for name, magnitude, phase in (
        ("baseline", "baseline", "baseline_phase"), ("estimate", "estimate", "estimate_phase"),
    ):  # fmt: skip
        size, angle = (
            np.asarray(nib.load(saved / f"{n}.nii.gz").dataobj) for n in (magnitude, phase)
        )
        expected = getattr(complex_result, name).transpose(1, 2, 0)
        assert angle.dtype == np.float32
        np.testing.assert_allclose(size * np.exp(1j * angle), expected, atol=1e-5)


def test_assumed_orientation_is_not_called_the_scanners(tmp_path):
    store.write_images(small(oriented=False), tmp_path, samples=True)
    for name in ("mean", "std", "samples"):
        image = nib.load(tmp_path / f"{name}.nii.gz")
        assert image.get_sform(coded=True)[1] == image.get_qform(coded=True)[1] == 2
        np.testing.assert_allclose(image.affine, oblique(), atol=1e-5)


def test_optional_files_are_written_with_the_rest(tmp_path, light):
    folder = small(kind="ct").save(tmp_path / "out", tiff=True, dicom=True)
    assert {p.name for p in (folder / "tiff").iterdir()} == {"mean.tif", "std.tif"}
    assert {p.name for p in (folder / "dicom").iterdir()} == {"mean", "std.dcm"}
    with pytest.raises(DataError, match="a diffraction image"):
        small(kind="diffraction").save(tmp_path / "other", dicom=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_result_h5_says_its_units(saved):
    with h5py.File(saved / "result.h5") as file:
        images = ("samples", "baseline", "mean", "std", "estimate", "null_space", "reference")
        assert {file[name].attrs["units"] for name in images} == {"a.u."}
        assert file.attrs["format"] == "sciinv-result"


def test_sheared_affine_leaves_qform_unset(tmp_path):
    affine = np.eye(4)
    affine[0, 1] = 0.4
    store.write_nifti(tmp_path / "x.nii.gz", np.zeros((2, 3, 4), np.float32), affine, "\N{SNOWMAN}")
    image = nib.load(tmp_path / "x.nii.gz")
    np.testing.assert_allclose(image.affine, affine, atol=1e-7)
    assert image.get_qform(coded=True)[1] == 0


def test_run_json_is_strict(saved):
    def refuse(token):
        raise AssertionError(token)

    data = json.loads((saved / "run.json").read_text(), parse_constant=refuse)
    assert data["stats"] == {"nfe": 20, "seconds": 1.5, "timings": {"read": 0.5}, "odd": "nan"}
    assert data["status"] == "done"
    assert data["shape"] == [3, 7, 6]


def test_reading_back_gives_the_same(saved, complex_result):
    for path in (saved, saved / "result.h5"):
        again = load_result(path)
        for name in (
            "samples", "baseline", "estimate", "null_space", "visible", "affine", "residual",
            "reference",
        ):  # fmt: skip
            found, expected = getattr(again, name), getattr(complex_result, name)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(again.std, complex_result.std)
        (name, maps), *others = again.pictures.items()
        assert name == "coil_maps" and not others
        np.testing.assert_array_equal(maps, complex_result.pictures["coil_maps"])
    for name in ("name", "kind", "units", "status", "chi_squared", "notes", "warnings"):
        assert getattr(again, name) == getattr(complex_result, name)
    assert again.provenance == complex_result.provenance
    assert again.std_calibration == complex_result.std_calibration
    run = json.loads((saved / "run.json").read_text())
    assert run["std_calibration"]["factor"] == 1.5
    assert "3 of 9 shots" in run["std_calibration"]["text"]
    assert "3 of 9 shots" in (saved / "report.html").read_text()


# saving is atomic -------------------------------------------------------------------------------
@pytest.fixture
def light(monkeypatch):
    """Saving without drawing: a marker file stands for the content."""
    state = {"text": "first", "error": None}

    def fill(result, folder, *, samples):
        for name in ("run.json", "result.h5"):
            (folder / name).write_text(state["text"])
        if state["error"] is not None:
            raise state["error"]

    monkeypatch.setattr(save_module, "_fill", fill)
    return state


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("bug")])
def test_interruption_leaves_nothing(tmp_path, light, error):
    light["error"] = error
    with pytest.raises(type(error)):
        small().save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_full_disc_is_one_clear_error_and_keeps_the_old_result(tmp_path, light):
    small().save(tmp_path / "out")
    light.update(text="second", error=OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(DataError, match="No space left on device") as error:
        small().save(tmp_path / "out", overwrite=True)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "run.json").read_text() == "first"


def test_overwriting_swaps_old_for_new(tmp_path, light):
    small().save(tmp_path / "out")
    (tmp_path / "out" / "mean_phase.nii.gz").touch()
    with pytest.raises(DataError, match="an older result"):
        small().save(tmp_path / "out")
    light["text"] = "second"
    small().save(tmp_path / "out", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"run.json", "result.h5"}
    assert (tmp_path / "out" / "run.json").read_text() == "second"


def test_old_result_returns_if_the_swap_fails(tmp_path, light, monkeypatch):
    small().save(tmp_path / "out")
    light["text"] = "second"
    rename = save_module.Path.rename

    def fail(self, target):
        if self.name.endswith(".partial"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(save_module.Path, "rename", fail)
    with pytest.raises(DataError, match="Input/output error"):
        small().save(tmp_path / "out", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "run.json").read_text() == "first"


def test_preview_does_not_count_and_is_kept(tmp_path, light):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "preview.png").write_bytes(b"png")
    small().save(tmp_path / "out")
    assert (tmp_path / "out" / "preview.png").read_bytes() == b"png"
    assert (tmp_path / "out" / "run.json").exists()


def test_foreign_folders_and_files_are_never_replaced(tmp_path, light):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for name, found in (("home", "a folder with other files"), ("file", "a file")):
        with pytest.raises(DataError, match=found):
            small().save(tmp_path / name, overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").exists()


def test_unwritable_place_is_a_data_error(tmp_path, light):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="a folder that can be written"):
        small().save(tmp_path / "file" / "out")


def test_missing_parents_are_made(tmp_path, light):
    assert small().save(tmp_path / "a" / "b").is_dir()


# reading ----------------------------------------------------------------------------------------
def damage(path, case):
    """Turn a good ``result.h5`` into a bad one."""
    if case == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif case == "text":
        path.write_text("no HDF5")
    else:
        with h5py.File(path, "r+") as file:
            if case == "other":
                del file.attrs["format"]
            elif case == "version":
                file.attrs["version"] = 99
            elif case == "missing":
                del file["samples"]
            elif case == "link":
                del file["samples"]
                file["samples"] = h5py.ExternalLink("/etc/hostname", "x")
            elif case == "json":
                del file["metadata"]
                file["metadata"] = "{"
            elif case == "fields":
                del file["metadata"]
                file["metadata"] = "{}"
            elif case == "shape":
                del file["visible"]
                file["visible"] = np.ones((2, 2), bool)


@pytest.mark.parametrize(
    "case",
    ["truncated", "text", "other", "version", "missing", "link", "json", "fields", "shape"],
)
def test_bad_files_are_one_data_error(tmp_path, saved, case):
    path = tmp_path / "result.h5"
    path.write_bytes((saved / "result.h5").read_bytes())
    damage(path, case)
    with pytest.raises(DataError, match=r"result\.h5") as error:
        load_result(tmp_path)
    assert "\n" not in str(error.value)


def test_missing_result_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no such result"):
        load_result(tmp_path)
