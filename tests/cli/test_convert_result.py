"""Results for fastMRI's evaluation and under BIDS names."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from sciinv.data.phantoms import shepp_logan
from sciinv.errors import DataError
from sciinv.report.bids import SUFFIXES, Entities, write_bids
from sciinv.report.fastmri import submission
from sciinv.result import Result, Status, load_result

from .conftest import FAST, refused, run

AFFINE = np.array([[0, -1.2, 0, 10], [-1.5, 0, 0, 20], [0, 0, 3.0, -5], [0, 0, 0, 1]])


def made(kind: str = "mri", shape: tuple[int, ...] = (3, 20, 15), samples: int = 3) -> Result:
    rng = np.random.default_rng(0)
    values = rng.gamma(4.0, 0.25, (samples, *shape)).astype(np.float32)
    if kind != "ct":
        values = (values * np.exp(1j * rng.normal(0, 0.4, values.shape))).astype(np.complex64)
    visible = np.zeros(shape, bool)
    visible[..., 2:-2, 2:-1] = True
    return Result(
        samples=values, baseline=values[0], baseline_name="CG-SENSE", visible=visible, kind=kind,
        units="a.u.", affine=AFFINE, name="doe_jane", status=Status.DONE, chi_squared=1.01,
        chi_squared_tolerance=0.02, estimate=values[-1] if kind == "mri" else None,
        provenance={"solver": {"name": "MMT"}, "prior": {"name": "mri"}},
    )  # fmt: skip


# fastMRI ----------------------------------------------------------------------------------------
def evaluated(target_file: Path, prediction_file: Path) -> float:
    """NMSE as the evaluation takes it: both cropped to a square as wide as the reference."""
    with h5py.File(target_file) as t, h5py.File(prediction_file) as p:
        target, found = t["reconstruction_rss"][()], p["reconstruction"][()]
    assert found.dtype == np.float32
    edge = target.shape[-1]

    def square(x: np.ndarray) -> np.ndarray:
        cut = [(n - edge) // 2 for n in x.shape[-2:]]
        assert min(cut) >= 0, "cropped to less than the reference"
        return x[..., cut[0] : cut[0] + edge, cut[1] : cut[1] + edge]

    target, found = square(target), square(found)
    return float(np.linalg.norm(target - found) ** 2 / np.linalg.norm(target) ** 2)


@pytest.fixture(scope="module")
def measurement(tmp_path_factory) -> Path:
    """A file as fastMRI's: readout oversampled twice, more columns than the reference has."""
    rng = np.random.default_rng(1)
    rows, columns, edge = 64, 40, 32
    y, x = np.mgrid[-32:32, -20:20]
    image = np.zeros((2, rows, columns))
    image[:, 16:48, 4:36] = shepp_logan((edge, edge))
    image[1] *= 0.7
    coils = np.stack([np.exp(-((x - a) ** 2 + (y - b) ** 2) / 1200 + 0.3j * a)
                      for a, b in ((-15, -12), (14, -10), (0, 16))])  # fmt: skip
    images = 1e-4 * image[:, None] * coils

    def centred(transform, z):
        shifted = np.fft.ifftshift(z, axes=(-2, -1))
        return np.fft.fftshift(transform(shifted, norm="ortho"), axes=(-2, -1))

    kspace = centred(np.fft.fft2, images)
    noise = rng.standard_normal((2, *kspace.shape)) * 2e-7
    kspace = (kspace + noise[0] + 1j * noise[1]).astype(np.complex64)
    rss = np.sqrt((np.abs(centred(np.fft.ifft2, kspace)) ** 2).sum(1))
    path = tmp_path_factory.mktemp("fastmri") / "file1000001.h5"
    spaces = "".join(
        f"<{space}><matrixSize><x>{n}</x><y>{m}</y><z>1</z></matrixSize><fieldOfView_mm>"
        f"<x>{2 * n}</x><y>{2 * m}</y><z>5</z></fieldOfView_mm></{space}>"
        for space, n, m in (("encodedSpace", rows, columns), ("reconSpace", edge, edge))
    )
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        file["reconstruction_rss"] = rss[:, 16:48, 4:36].astype(np.float32)
        file["ismrmrd_header"] = (
            '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
            f"<trajectory>cartesian</trajectory>{spaces}</encoding></ismrmrdHeader>"
        )
    return path


def test_submission_of_a_real_layout_scores_as_the_reference_does(measurement, tmp_path):
    folder = tmp_path / "out"
    words = ("--noise", "3e-7", "--no-calibrate", *FAST)
    ran = run("reconstruct", measurement, "-o", folder, *words)
    assert ran.code == 0, ran.err
    (tmp_path / "submission").mkdir()
    file = tmp_path / "submission" / measurement.name
    ran = run("convert", folder, file, "--to", "fastmri")
    assert ran.code == 0, ran.err
    assert "2 slices of 32 x 32, magnitudes" in ran.out and ran.out.endswith(f"{file}\n")
    with h5py.File(file) as f:
        assert list(f) == ["reconstruction"] and f["reconstruction"].shape == (2, 32, 32)
        assert not f.attrs
    assert evaluated(measurement, file) < 0.02
    # the file itself as input, a size of one's own, and no second copy unasked
    refused(run("convert", folder / "result.h5", file, "--to", "fastmri"), "--force")
    ran = run("convert", folder / "result.h5", file, "--to", "fastmri", "--size", 24, "--force")
    assert ran.code == 0 and "24 x 24" in ran.out, ran.err


@pytest.mark.parametrize("size", [None, 15, 14, 1])
def test_submission_keeps_the_middle(size):
    result = made()
    images = submission(result, size)
    edge = size or 15
    assert images.shape == (3, edge, edge)
    top, left = (20 - edge) // 2, (15 - edge) // 2
    np.testing.assert_array_equal(
        images, result.mean[:, top : top + edge, left : left + edge].astype(np.float32)
    )


def test_what_is_no_submission(tmp_path):
    with pytest.raises(DataError, match="found a result of kind ct, expected MRI"):
        submission(made("ct"))
    with pytest.raises(DataError, match="found a volume"):
        submission(made(shape=(1, 4, 20, 15)))
    with pytest.raises(DataError, match="--size: found 16, expected 1 to 15"):
        submission(made(), 16)


# BIDS -------------------------------------------------------------------------------------------
NAMES = [
    "part-mag_desc-baseline_T1w", "part-mag_desc-estimate_T1w", "part-mag_desc-mean_T1w",
    "part-mag_desc-sample01_T1w", "part-mag_desc-sample02_T1w", "part-mag_desc-sample03_T1w",
    "part-mag_desc-std_T1w", "part-phase_desc-mean_T1w", "desc-visibleT1w_mask",
]  # fmt: skip


def test_bids_names_images_and_side_cars(tmp_path):
    result = made()
    root = tmp_path / "derivatives" / "sciinv"
    paths = write_bids(result, root, Entities("01", "T1w", session="pre", run=2))
    folder = root / "sub-01" / "ses-pre" / "anat"
    start = "sub-01_ses-pre_rec-MMT_run-2_"
    assert {p.name for p in paths} == {f"{start}{name}.nii.gz" for name in NAMES}
    assert {p.name for p in folder.iterdir()} == {
        f"{start}{name}{end}" for name in NAMES for end in (".nii.gz", ".json")
    }
    assert {p.name for p in root.iterdir()} == {"sub-01", "dataset_description.json", "README"}
    about = json.loads((root / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative" and about["BIDSVersion"] == "1.9.0"
    assert about["GeneratedBy"][0]["Name"] == "sciinv" and about["GeneratedBy"][0]["Version"]
    mean = nib.load(folder / f"{start}part-mag_desc-mean_T1w.nii.gz")
    np.testing.assert_array_equal(mean.get_fdata().transpose(2, 0, 1), result.mean)
    np.testing.assert_allclose(mean.affine, AFFINE, rtol=1e-6)
    phase = nib.load(folder / f"{start}part-phase_desc-mean_T1w.nii.gz").get_fdata()
    np.testing.assert_allclose(phase.transpose(2, 0, 1), np.angle(result.complex_mean), atol=1e-6)
    side = json.loads((folder / f"{start}part-phase_desc-mean_T1w.json").read_text())
    assert side["Units"] == "rad" and side["SkullStripped"] is False
    side = json.loads((folder / f"{start}part-mag_desc-std_T1w.json").read_text())
    assert side["Units"] == "arbitrary" and "standard deviation" in side["Description"]
    for path in root.rglob("*"):
        if path.is_file():
            assert b"doe" not in path.read_bytes() and "Sources" not in path.name
    assert not list(root.rglob(".*"))


def test_bids_adds_to_its_own_data_set_only(tmp_path):
    root = tmp_path / "sciinv"
    write_bids(made(), root, Entities("01", "T1w"))
    write_bids(made(), root, Entities("01", "FLAIR"))
    write_bids(made(), root, Entities("02", "FLAIR"))
    assert {p.name for p in root.glob("sub-*")} == {"sub-01", "sub-02"}
    with pytest.raises(DataError, match="sub-01_rec-MMT_part-mag_desc-mean_T1w.nii.gz, expected"):
        write_bids(made(), root, Entities("01", "T1w"))
    write_bids(made(), root, Entities("01", "T1w", run=1))
    write_bids(made(samples=1), root, Entities("01", "T1w"), overwrite=True)
    # nothing of the older result stays, and nothing else goes
    names = {p.name for p in (root / "sub-01" / "anat").glob("*.json") if "FLAIR" not in p.name}
    assert len(list((root / "sub-01" / "anat").glob("*FLAIR*.json"))) == len(NAMES)
    one = {n for n in NAMES if "std" not in n and "02" not in n and "03" not in n}
    assert names == {f"sub-01_rec-MMT_{n}.json" for n in one} | {
        f"sub-01_rec-MMT_run-1_{n}.json" for n in NAMES
    }
    other = tmp_path / "raw"
    other.mkdir()
    (other / "participants.tsv").write_text("participant_id\n")
    for text in (None, "{", '{"GeneratedBy": [{"Name": "fmriprep"}]}', '{"Name": "raw"}'):
        if text is not None:
            (other / "dataset_description.json").write_text(text)
        with pytest.raises(DataError, match="a folder with other files"):
            write_bids(made(), other, Entities("01", "T1w"))
        assert not list(other.glob("sub-*"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subject": "0_1"}, "--subject: found '0_1', expected letters and digits only"),
        ({"subject": ""}, "--subject"),
        ({"subject": "../x"}, "--subject"),
        ({"session": "a b"}, "--session"),
        ({"acquisition": "é"}, "--acquisition"),
        ({"suffix": "bold"}, "--suffix: found 'bold', expected one of T1w"),
    ],
)
def test_bids_labels_are_checked(changes, said):
    with pytest.raises(DataError, match=said):
        Entities(**{"subject": "01", "suffix": "T1w", **changes})


def test_what_bids_has_no_name_for(tmp_path):
    for result, said in (
        (made("ct"), "a result of kind ct"), (made("diffraction"), "kind diffraction"),
        (made(shape=(2, 4, 20, 15)), "2 volumes"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=said):
            write_bids(result, tmp_path / "x", Entities("01", "T1w"))
    assert not list(tmp_path.iterdir())


def test_interrupted_export_leaves_the_data_set_as_it_was(tmp_path, monkeypatch):
    root = tmp_path / "sciinv"
    write_bids(made(), root, Entities("01", "T1w"))
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sciinv.report.bids._write_json", full)
    with pytest.raises(OSError, match="No space"):
        write_bids(made(samples=2), root, Entities("01", "T1w"), overwrite=True)
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


def test_bids_by_command(result, tmp_path, scans):
    folder, _ = result
    root = tmp_path / "bids"
    words = ("convert", folder, root, "--to", "bids")
    refused(run(*words), "--to bids needs --subject and --suffix", code=2)
    ran = run(*words, "--subject", "S7", "--suffix", "T2w", "--acquisition", "fast")
    assert ran.code == 0, ran.err
    first = root / "sub-S7" / "anat" / "sub-S7_acq-fast_rec-MMT_part-mag_desc-mean_T2w.nii.gz"
    assert ran.out.endswith(f"{first}\n")
    saved = nib.load(first).get_fdata()[..., 0]
    np.testing.assert_array_equal(saved.astype(np.float32), load_result(folder).mean[0])
    refused(run(*words, "--subject", "S7", "--suffix", "T2w", "--acquisition", "fast"), "--force")
    refused(run(*words, "--subject", "S_7", "--suffix", "T2w"), "--subject", "letters and digits")
    refused(run("convert", folder, tmp_path / "x.h5"), "found a result", "--to bids")
    refused(run("convert", scans / "mri.h5", root, "--to", "bids"), "found a scan", "BIDS")
    refused(run("convert", scans / "mri.h5", tmp_path / "x.h5", "--size", 9), "--size", code=2)
    refused(run("convert", folder, tmp_path / "x.h5", "--to", "fastmri", "--run", 1), "--run",
            code=2)  # fmt: skip


@pytest.mark.skipif(
    shutil.which("bids-validator-deno") is None, reason="needs the package bids-validator-deno"
)
def test_the_official_validator_finds_no_error(tmp_path):
    root = tmp_path / "sciinv"
    write_bids(made(), root, Entities("01", "T1w", session="pre", run=2))
    write_bids(made(shape=(1, 4, 20, 15)), root, Entities("02", "FLAIR", acquisition="x"))
    done = subprocess.run(
        ["bids-validator-deno", str(root), "--format", "json"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


@pytest.mark.skipif(
    importlib.util.find_spec("bidsschematools") is None, reason="needs bidsschematools"
)
def test_suffixes_are_those_of_the_schema():
    from bidsschematools.schema import load_schema

    rules = load_schema().rules.files.deriv.imaging
    known = set(rules.anat_nonparametric_volumetric.suffixes)
    assert set(SUFFIXES) <= known
