"""What a run leaves behind: images on request, one run a folder; conversions to other formats."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pydicom
import pytest
import tifffile

from sciinv.data.load import load
from sciinv.data.native import write_scan
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import simulate_mri
from sciinv.errors import DataError
from sciinv.reconstruction.run import reconstruct
from sciinv.report.lock import output_lock
from sciinv.result import load_result

from .conftest import FAST, refused, run

HOLDER = """
import sys, time
from pathlib import Path
from sciinv.report.lock import output_lock
with output_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A scan whose voxels have three different lengths."""
    scan = simulate_mri(
        shepp_logan((32, 32)), coils=3, acceleration=2.0, calibration_lines=8, noise_std=0.02,
        voxel_size=(5.0, 2.0, 1.5), rng=1,
    )  # fmt: skip
    return write_scan(scan, tmp_path_factory.mktemp("in") / "scan.h5")


@pytest.fixture(scope="module")
def everything(source, tmp_path_factory, shipped):
    """Folder with all optional outputs."""
    folder = tmp_path_factory.mktemp("everything") / "out"
    ran = run("reconstruct", source, "-o", folder, "--tiff", "--dicom", *FAST)
    assert ran.code == 0, ran.err
    return folder


def test_the_scan_has_a_name_of_the_users_choice_only(everything, source, tmp_path):
    assert load_result(everything).name == "MRI scan"
    # in Python too
    options = {"num_samples": 1, "steps": 1, "krylov": 1, "calibrate": False}
    assert reconstruct(source, **options).name == "MRI scan"
    assert reconstruct(source, name="case 8", **options).name == "case 8"
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciinv.result.Result.save", lambda self, folder, **k: kept.append((self, k)))
        ran = run("reconstruct", source, "-o", tmp_path / "x", "--name", "case 7", *FAST)
    assert ran.code == 0, ran.err
    ((result, options),) = kept
    assert result.name == "case 7"
    assert options == {"overwrite": False, "tiff": False, "dicom": False}


def test_optional_images_hold_the_result(everything):
    folder = everything
    result = load_result(folder)
    mean = tifffile.imread(folder / "tiff" / "mean.tif")
    np.testing.assert_array_equal(mean, result.mean[0])
    (path,) = (folder / "dicom" / "mean").iterdir()
    dataset = pydicom.dcmread(path)
    values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    np.testing.assert_allclose(values, result.mean[0], atol=float(dataset.RescaleSlope))
    assert [float(v) for v in dataset.PixelSpacing] == [2.0, 1.5]
    assert "position assumed" in dataset.DerivationDescription


def test_dicom_of_a_diffraction_image_is_refused_before_the_work(tmp_path):
    file = tmp_path / "pattern.h5"
    assert run("simulate", file, "--kind", "diffraction", "--size", 16).code == 0
    refused(run("reconstruct", file, "-o", tmp_path / "x", "--dicom"), "expected MRI or CT")
    assert [p.name for p in tmp_path.iterdir()] == ["pattern.h5"]


# the lock ---------------------------------------------------------------------------------------
@pytest.fixture
def holder(tmp_path):
    """Another process that writes into ``out``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_second_run_into_one_folder_names_folder_and_process(tmp_path, scans, holder):
    ran = run("reconstruct", scans / "mri.h5", "-o", tmp_path / "out", *FAST)
    refused(ran, str(tmp_path / "out"), f"process {holder.pid} ", "one run at a time")
    assert [p.name for p in tmp_path.iterdir()] == [".out.lock"]
    with output_lock(tmp_path / "another"):
        assert (tmp_path / ".another.lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / ".out.lock").exists()
    with output_lock(tmp_path / "out"):
        assert (tmp_path / ".out.lock").read_text() == f"{os.getpid()}\n"
    assert not list(tmp_path.iterdir())


def test_lock_makes_missing_parents_and_removes_them_if_nothing_came(tmp_path):
    with pytest.raises(KeyboardInterrupt), output_lock(tmp_path / "a" / "b" / "out"):
        assert (tmp_path / "a" / "b").is_dir()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with output_lock(tmp_path / "a" / "out"):
        (tmp_path / "a" / "out").mkdir()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["out"]


def test_lock_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(DataError, match="cannot be written"), output_lock(tmp_path / "out"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def test_what_a_killed_process_left_while_saving_is_cleared(tmp_path, scans, result):
    old = tmp_path / ".out.0123abcd.old"
    shutil.copytree(result[0], old)
    (tmp_path / ".out.0123abcd.partial").mkdir()
    (tmp_path / ".out.0123abcd.partial" / "half.h5").write_bytes(b"x")
    others = [".out.backup.old", ".other.0123abcd.partial", "out.0123abcd.partial"]
    for name in others:
        (tmp_path / name).mkdir()
    # killed between the two renames: the older result is back, and not replaced unasked
    refused(run("reconstruct", scans / "mri.h5", "-o", tmp_path / "out", *FAST), "an older result")
    assert load_result(tmp_path / "out").num_samples == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["out", *others])


# convert ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["mri.h5", "stack.h5", "ct.h5"])
def test_convert_keeps_the_whole_scan(tmp_path, scans, name):
    ran = run("convert", scans / name, tmp_path / "new.h5")
    assert ran.code == 0, ran.err
    assert ran.out.endswith("new.h5\n")
    before, after = load(scans / name), load(tmp_path / "new.h5")
    for field in ("data", "affine", "reference", "valid", "counts"):
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    for field in ("kind", "units", "noise_std", "notes", "header"):
        assert getattr(after, field) == getattr(before, field)
    assert [p.name for p in tmp_path.iterdir()] == ["new.h5"]


def test_convert_to_fastmri(tmp_path, scans):
    ran = run("convert", scans / "stack.h5", tmp_path / "new.h5", "--to", "fastmri")
    assert ran.code == 0, ran.err
    before, after = load(scans / "stack.h5"), load(tmp_path / "new.h5")
    assert after.format == "fastmri"
    np.testing.assert_array_equal(after.data, before.data)
    np.testing.assert_array_equal(after.reference, before.reference)
    np.testing.assert_array_equal(
        np.broadcast_to(after.geometry.mask, before.data[:, 0].shape),
        np.broadcast_to(before.geometry.mask, before.data[:, 0].shape),
    )
    assert after.geometry.voxel_size == before.geometry.voxel_size
    with h5py.File(tmp_path / "new.h5") as file:
        assert file["kspace"].dtype == np.complex64 and file["kspace"].shape == (2, 3, 32, 32)
        assert file["mask"].shape == (32,)
        text = file["ismrmrd_header"][()].decode()
        assert file["reconstruction_rss"].shape == (2, 32, 32)
    assert re.search(r"<encodedSpace><matrixSize><x>32</x><y>32</y><z>1</z>", text)
    # what the format cannot hold is said
    assert before.noise_std is None or "noise level" in ran.out


def test_convert_refuses_what_fastmri_cannot_hold(tmp_path, scans):
    spiral = tmp_path / "spiral.h5"
    words = ("--size", 16, "--coils", 2, "--trajectory", "spiral")
    assert run("simulate", spiral, *words).code == 0
    new = tmp_path / "new.h5"
    for file, word in ((scans / "ct.h5", "a ct scan"), (spiral, "non-Cartesian 2D MRI")):
        refused(run("convert", file, new, "--to", "fastmri"), file.name, word)
    assert [p.name for p in tmp_path.iterdir()] == ["spiral.h5"]


def test_convert_replaces_only_with_force_and_never_its_own_scan(tmp_path, scans):
    file, old = tmp_path / "scan.h5", tmp_path / "old.h5"
    file.write_bytes((scans / "ct.h5").read_bytes())
    old.write_text("kept")
    refused(run("convert", file, old), "an existing file", "--force")
    assert old.read_text() == "kept"
    refused(run("convert", file, file, "--force"), "the scan itself")
    refused(run("convert", file, tmp_path), "a folder")
    refused(run("convert", file, tmp_path / "no" / "x.h5"), "no such folder")
    refused(run("convert", old, tmp_path / "x.h5"), "old.h5", "found text")
    assert run("convert", file, old, "--force").code == 0
    assert load(old).kind == "ct"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.h5", "scan.h5"]


def test_interrupted_conversion_leaves_nothing(tmp_path, scans, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    for target in ("sciinv", "fastmri"):
        ran = run("convert", scans / "mri.h5", tmp_path / "x.h5", "--to", target)
        assert ran.code == 130
        assert not list(tmp_path.iterdir())
