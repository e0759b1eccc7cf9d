"""What a run leaves behind: images on request, one run a folder, and nobody's name in any byte."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from sciinv.data.load import load
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import simulate_mri
from sciinv.errors import DataError
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
SECRETS = (
    "DoeFamilyName", "JaneGivenName", "PID-4711-XQ", "19590203", "1959-02-03", "20190807",
    "2019-08-07", "13:37:42", "ACC-99812", "StElsewhereClinic", "DrOperatorSmith", "RefDrWatson",
    "SN-20551-MAGNET", "StationKappa7", "ProtoSecretName", "WardNine", "1.2.840.99999.77.1",
    "1.2.840.99999.77.2", "1.2.840.99999.77.3", "jdoe_login", "rawdata_of_doe", "CoilSerial-8813",
    "91.25-kg-weight", "patient-attr-5150", "PrivateTagText", "sidecar_of_doe", "DEV-UUID-3f9a",
)  # fmt: skip


def header() -> str:
    """An ISMRMRD header with every field that can name somebody."""
    return f"""<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<subjectInformation><patientName>{SECRETS[0]}^{SECRETS[1]}</patientName>
<patientWeight_kg>{SECRETS[22]}</patientWeight_kg><patientID>{SECRETS[2]}</patientID>
<patientBirthdate>{SECRETS[4]}</patientBirthdate></subjectInformation>
<studyInformation><studyDate>{SECRETS[6]}</studyDate><studyTime>{SECRETS[7]}</studyTime>
<studyID>{SECRETS[3]}</studyID><accessionNumber>{SECRETS[8]}</accessionNumber>
<referringPhysicianName>{SECRETS[11]}</referringPhysicianName>
<studyInstanceUID>{SECRETS[16]}</studyInstanceUID></studyInformation>
<measurementInformation><measurementID>{SECRETS[5]}</measurementID>
<seriesInstanceUIDRoot>{SECRETS[17]}</seriesInstanceUIDRoot>
<protocolName>{SECRETS[14]}</protocolName>
<frameOfReferenceUID>{SECRETS[18]}</frameOfReferenceUID></measurementInformation>
<acquisitionSystemInformation><systemVendor>Acme</systemVendor>
<systemFieldStrength_T>1.5</systemFieldStrength_T><institutionName>{SECRETS[9]}</institutionName>
<stationName>{SECRETS[13]}</stationName><deviceID>{SECRETS[12]}</deviceID>
<deviceSerialNumber>{SECRETS[26]}</deviceSerialNumber>
<coilLabel><coilNumber>0</coilNumber><coilName>{SECRETS[21]}</coilName></coilLabel>
</acquisitionSystemInformation><encoding><trajectory>cartesian</trajectory>
<encodedSpace><matrixSize><x>32</x><y>32</y><z>1</z></matrixSize>
<fieldOfView_mm><x>64</x><y>48</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>32</x><y>32</y><z>1</z></matrixSize>
<fieldOfView_mm><x>64</x><y>48</y><z>5</z></fieldOfView_mm></reconSpace></encoding>
<userParameters><userParameterString><name>operator</name><value>{SECRETS[10]}</value>
</userParameterString><userParameterString><name>ward</name><value>{SECRETS[15]}</value>
</userParameterString><userParameterString><name>private</name><value>{SECRETS[24]}</value>
</userParameterString></userParameters></ismrmrdHeader>"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """A fastMRI file whose header, attributes, name and folders name somebody."""
    folder = tmp_path_factory.mktemp("home") / SECRETS[19]
    folder.mkdir()
    scan = simulate_mri(
        shepp_logan((32, 32)), coils=3, acceleration=2.0, calibration_lines=8, noise_std=0.02, rng=1
    )
    path = folder / f"{SECRETS[20]}.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = scan.data
        file["mask"] = scan.geometry.mask.reshape(-1, 32).any(0).astype(np.float32)
        file["ismrmrd_header"] = header()
        file.attrs["patient_id"] = SECRETS[23]
        file["kspace"].attrs["operator"] = SECRETS[10]
    side = folder / f"{SECRETS[25]}.toml"
    side.write_text('kind = "mri"\n[noise]\nstd = 0.02\n')
    text = path.read_bytes() + side.name.encode() + str(path).encode()
    assert [s for s in SECRETS if s.encode() not in text] == []
    return path


@pytest.fixture(scope="module")
def everything(planted, tmp_path_factory, shipped):
    """Folder with all optional outputs, and what the command wrote to the console."""
    folder = tmp_path_factory.mktemp("everything") / "out"
    side = planted.with_name(f"{SECRETS[25]}.toml")
    words = ("--sidecar", side, "--tiff", "--dicom", "--json", *FAST)
    ran = run("reconstruct", planted, "-o", folder, *words)
    assert ran.code == 0, ran.err
    return folder, ran


def traces(content: bytes) -> list[str]:
    """Secrets that are in some bytes, in the encodings that files use."""
    lower = content.lower()
    codes = ("utf-8", "utf-16-le", "utf-16-be")
    return [s for s in SECRETS if any(s.lower().encode(code) in lower for code in codes)]


def test_traces_are_found():
    assert traces(b"x JDOE_login x") == ["jdoe_login"]
    assert traces("x WardNine".encode("utf-16")) == ["WardNine"]


def test_nobody_is_named_in_any_output_byte(everything):
    folder, ran = everything
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {p.suffix for p in files} == {".gz", ".h5", ".json", ".html", ".png", ".tif", ".dcm"}
    for path in files:
        content = path.read_bytes()
        contents = [content, str(path.relative_to(folder)).encode()]
        if path.suffix == ".gz":
            contents.append(gzip.decompress(content))
        elif path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
                contents.append(repr(image.info).encode())
        assert [traces(c) for c in contents] == [[]] * len(contents), path.name
    assert traces(ran.out.encode()) == traces(ran.err.encode()) == []


def test_the_scan_has_a_name_of_the_users_choice_only(everything, planted, tmp_path):
    assert load_result(everything[0]).name == "MRI scan"
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciinv.result.Result.save", lambda self, folder, **k: kept.append((self, k)))
        ran = run("reconstruct", planted, "-o", tmp_path / "x", "--name", "case 7", *FAST)
    assert ran.code == 0, ran.err
    ((result, options),) = kept
    assert result.name == "case 7"
    assert options == {"overwrite": False, "tiff": False, "dicom": False}


def test_optional_images_hold_the_result(everything):
    folder, _ = everything
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


def test_converted_scan_names_nobody(planted, tmp_path):
    for target in ("sciinv", "fastmri"):
        file = tmp_path / f"{target}.h5"
        ran = run("convert", planted, file, "--to", target)
        assert ran.code == 0, ran.err
        assert traces(file.read_bytes()) == []
    scan, before = load(tmp_path / "sciinv.h5"), load(planted)
    np.testing.assert_array_equal(scan.data, before.data)
    assert scan.geometry.voxel_size == before.geometry.voxel_size == (5.0, 2.0, 1.5)


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
