"""What the commands print and write, in this process on small scans."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import sciinv.reconstruction.run
from sciinv.cli.console import Console, phase_line, say
from sciinv.data.load import load
from sciinv.result import Result, load_result
from sciinv.solvers import ALL_SOLVERS

from .conftest import FAST, refused, run


def strict(line: str):
    """Parse JSON; NaN and Infinity are none."""

    def refuse(name):
        raise ValueError(name)

    return json.loads(line, parse_constant=refuse)


@pytest.fixture
def unsaved(monkeypatch) -> list[Result]:
    """Keep results instead of saving them: drawing the figures takes seconds."""
    kept: list[Result] = []
    monkeypatch.setattr(Result, "save", lambda self, folder, **_: kept.append(self))
    return kept


# reconstruct ------------------------------------------------------------------------------------
def test_reconstruct_writes_and_says_what_it_did(result):
    folder, ran = result
    assert ran.code == 0, ran.err
    assert ran.err == ""
    names = {p.name for p in folder.iterdir()}
    assert names >= {"mean.nii.gz", "std.nii.gz", "result.h5", "run.json", "report.html"}
    assert "preview.png" in names
    assert not [p for p in folder.parent.iterdir() if p != folder]
    for word in ("read", "coils", "noise", "scale", "preview", "solver", "done"):
        assert f"\n  {word} " in "\n" + ran.out
    assert ran.out.rstrip().endswith("report.html")


def test_progress_without_a_terminal_is_plain_lines(result):
    _, ran = result
    assert "\r" not in ran.out and "\x1b" not in ran.out
    lines = [line for line in ran.out.splitlines() if line.startswith("  sample")]
    assert 2 <= len(lines) <= 11
    assert lines[-1].split() == ["sample", "100%", "left", "0:00"]


def test_run_json_repeats_the_run_and_names_no_folder(result):
    folder, _ = result
    text = (folder / "run.json").read_text()
    assert str(folder.parent) not in text and "/tmp" not in text
    data = strict(text)
    provenance = data["provenance"]
    assert provenance["seed"] == 3
    assert provenance["command"] == (
        "sciinv reconstruct FILE --output DIR --samples 3 --steps 3 --krylov 2 --seed 3"
    )
    settings = provenance["settings"]
    assert settings["samples"] == {"value": 3, "origin": "command line"}
    assert settings["time_budget"] == {"value": 300.0, "origin": "default"}
    assert settings["file"]["value"] == "FILE"
    assert set(provenance["versions"]) >= {"sciinv", "torch", "numpy", "deepinv"}
    assert data["status"] in ("done", "misfit")


def test_prior_given_as_path_is_named_without_its_folder(scans, shipped, unsaved, tmp_path):
    prior = shipped / "generic_2ch.safetensors"
    ran = run("reconstruct", scans / "mri.h5", "-o", tmp_path / "x", "--prior", prior, *FAST)
    assert ran.code == 0, ran.err
    (kept,) = unsaved
    assert "--prior generic_2ch.safetensors" in kept.provenance["command"]
    assert str(shipped) not in json.dumps(dict(kept.provenance), default=str)


def test_json_lines(scans, unsaved, tmp_path):
    ran = run("reconstruct", scans / "ct.h5", "-o", tmp_path / "x", "--json", *FAST)
    assert ran.code == 0, ran.err
    events = [strict(line) for line in ran.out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "phase" and kinds[-1] == "done"
    steps = [event for event in events if event["event"] == "step"]
    assert [event["done"] for event in steps] == list(range(1, len(steps) + 1))
    assert steps[-1]["done"] == steps[-1]["total"]
    assert steps[0]["left"] is None and steps[-1]["left"] == 0
    assert events[-1]["status"] == unsaved[0].status.value


def test_json_lines_hold_no_nan(capsys):
    Console(lines=True).emit("x", value=float("nan"), other=np.float32(2), path=Path("/a/b"))
    assert strict(capsys.readouterr().out) == {
        "event": "x", "value": "nan", "other": 2.0, "path": "b",
    }  # fmt: skip


def test_quiet(scans, unsaved, tmp_path):
    ran = run("reconstruct", scans / "mri.h5", "-o", tmp_path / "x", "--quiet", *FAST)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert len(unsaved) == 1


def test_dry_run_writes_nothing(scans, tmp_path):
    ran = run("reconstruct", scans / "ct.h5", "-o", tmp_path / "x", "--dry-run", *FAST)
    assert ran.code == 0, ran.err
    assert "3 samples, 3 steps, Krylov 2" in ran.out
    assert not list(tmp_path.iterdir())
    assert not (scans / "ct_sciinv").exists()


def test_slices(scans, unsaved, tmp_path):
    ran = run("reconstruct", scans / "stack.h5", "-o", tmp_path / "x", "--slices", "1", *FAST)
    assert ran.code == 0, ran.err
    assert unsaved[0].samples.shape == (3, 1, 32, 32)
    truth = load(scans / "stack.h5").reference
    assert np.array_equal(unsaved[0].reference, truth[1:])


def test_interrupted_in_the_second_slice_keeps_the_first(scans, unsaved, tmp_path, monkeypatch):
    step = Console.step

    def interrupting(self, done, total, info):
        self.interrupted = done > total // 2
        return step(self, done, total, info)

    monkeypatch.setattr(Console, "step", interrupting)
    ran = run("reconstruct", scans / "stack.h5", "-o", tmp_path / "x", *FAST)
    assert ran.code == 130, ran.err
    (kept,) = unsaved
    assert kept.status.value == "stopped"
    assert kept.samples.shape == (3, 1, 32, 32)
    assert "Stopped" in ran.out


def test_interrupt_leaves_nothing(scans, shipped, tmp_path):
    """Ctrl-C while sampling, in the real program."""
    words = (
        "reconstruct", str(scans / "mri.h5"), "-o", str(tmp_path / "out"),
        "--prior", str(shipped / "generic_2ch.safetensors"), "--steps", "1000000",
        "--samples", "1", "--krylov", "1", "--solver", "MMT",
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", "from sciinv.cli import app; app(prog_name='sciinv')", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("  sample"):
                break
        assert (tmp_path / "out" / "preview.png").is_file()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert err == "sciinv: interrupted; nothing was written\n"
    assert not list(tmp_path.iterdir())


# evaluate ---------------------------------------------------------------------------------------
def figures(*words) -> dict[str, float]:
    ran = run("evaluate", *words, "--json")
    assert ran.code == 0, ran.err
    return strict(ran.out)


def test_evaluate_a_result(result):
    folder, _ = result
    rows = figures(folder)
    # three samples attain (3 - 1) / (3 + 1)
    assert set(rows) >= {"PSNR (dB)", "SSIM", "NRMSE", "PSNR CG-SENSE (dB)"}
    assert 0 <= rows["coverage of 50 % interval"] <= 1
    saved = load_result(folder)
    truth = saved.reference.astype(np.float64)
    mask = saved.visible & (truth > 0.2 * np.percentile(truth, 99.5))
    expected = np.sqrt(((saved.mean - truth)[mask] ** 2).sum() / (truth[mask] ** 2).sum())
    assert rows["NRMSE"] == pytest.approx(expected, rel=1e-5)
    table = run("evaluate", folder / "result.h5").out
    assert f"{rows['NRMSE']:.4g}" in table and "coverage of 50 % interval" in table


def test_evaluate_level_is_at_most_90_percent():
    from sciinv.cli.evaluate import compare

    rng = np.random.default_rng(0)
    truth = 1 + rng.random((1, 16, 16), dtype=np.float32)
    samples = truth + rng.standard_normal((24, 1, 16, 16)).astype(np.float32)
    made = Result(
        samples=samples, baseline=truth, baseline_name="x", visible=truth > 0, kind="ct",
        units="1/mm", affine=np.eye(4), name="x", status="done", chi_squared=1.0,
        chi_squared_tolerance=0.1,
    )  # fmt: skip
    assert "coverage of 90 % interval" in compare(made.mean, truth, made)


def test_evaluate_files_against_a_scan(result, scans):
    """NIfTI, .npy and result folder agree, so rows, columns and slices are the same in each."""
    folder, _ = result
    assert figures(folder / "mean.nii.gz", "--reference", folder)["NRMSE"] < 1e-6
    truth = load(scans / "mri.h5").reference
    array = folder.parent / "array.npy"
    np.save(array, 1.1 * truth[0])
    try:
        rows = figures(array, "--reference", scans / "mri.h5")
        assert rows["NRMSE"] == pytest.approx(0.1, rel=1e-5)
        assert figures(scans.parent / array, "--reference", array)["PSNR (dB)"] == "inf"
    finally:
        array.unlink()


def test_evaluate_refuses_another_shape(result, tmp_path):
    folder, _ = result
    np.save(tmp_path / "small.npy", np.ones((16, 16)))
    ran = run("evaluate", folder, "--reference", tmp_path / "small.npy")
    assert ran.code == 1
    assert "found (16, 16), expected (1, 32, 32)" in ran.err


def test_evaluate_image_without_reference(result):
    folder, _ = result
    ran = run("evaluate", folder / "mean.nii.gz")
    assert ran.code == 1 and "--reference" in ran.err and ran.err.count("\n") == 1


def test_evaluate_regions(result, tmp_path):
    folder, _ = result
    saved = load_result(folder)
    image = nib.load(folder / "mean.nii.gz")
    labels = np.zeros(image.shape, np.uint8)
    labels[8:16, 8:16], labels[18:24, 18:24] = 1, 3
    nib.save(nib.Nifti1Image(labels, image.affine), tmp_path / "mask.nii.gz")
    ran = run("evaluate", folder, "--roi", tmp_path / "mask.nii.gz", "--json")
    assert ran.code == 0, ran.err
    found = strict(ran.out)
    assert [r["label"] for r in found["regions"]] == [1, 3]
    assert (found["level"], found["samples"], found["volume_unit"]) == (0.9, 3, "mm^3")
    inside = (labels[..., 0] == 3) & saved.visible[0]
    mean = saved.magnitude[:, 0][:, inside].mean()
    assert found["regions"][1]["value"]["mean"] == pytest.approx(mean, rel=1e-5)
    np.save(tmp_path / "mask.npy", np.moveaxis(labels, -1, 0))
    table = run("evaluate", folder, "--roi", tmp_path / "mask.npy", "--threshold", 0.1).out
    assert "label 3: 36 voxels; volume above 0.1 a.u." in table and "90 % intervals" in table


def test_evaluate_refuses_other_masks(result, tmp_path):
    folder, _ = result
    image = nib.load(folder / "mean.nii.gz")

    def refuses(labels, shift, *words):
        affine = image.affine.copy()
        affine[0, 3] += shift
        nib.save(nib.Nifti1Image(labels, affine), tmp_path / "mask.nii.gz")
        refused(run("evaluate", folder, "--roi", tmp_path / "mask.nii.gz"), "mask.nii.gz", *words)

    one = np.ones(image.shape, np.float32)
    refuses(one, 3.0, "3 mm away", "mean.nii.gz")
    refuses(one[:16], 0.0, "shape")
    refuses(0.5 * one, 0.0, "no labels")
    refuses(0 * one, 0.0, "0 labels")
    mask = tmp_path / "mask.nii.gz"
    refused(run("evaluate", folder / "mean.nii.gz", "--roi", mask), "a result, with samples")


# the others -------------------------------------------------------------------------------------
def test_simulate_then_info(tmp_path):
    file = tmp_path / "scan.h5"
    ran = run("simulate", file, "--size", 32, "--coils", 2, "--calibration", 8, "--seed", 4)
    assert ran.code == 0, ran.err
    assert load(file).data.shape == (1, 2, 32, 32)
    ran = run("info", file)
    assert ran.code == 0, ran.err
    for text in ("scan.h5", "2 coils", "1x2x32x32 complex64", "solvers", "MMT"):
        assert text in ran.out
    again = run("simulate", file, "--size", 32)
    assert again.code == 1 and "--overwrite" in again.err
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]


@pytest.mark.parametrize(
    ("words", "shape", "said"),
    [
        (
            ("--trajectory", "radial", "--acceleration", 2, "--coils", 2),
            (1, 2, 13, 32),
            ["2D non-Cartesian MRI, 16x16, 2 coils, 13 shots x 32 samples, R = 0.62", "8 x 8"],
        ),
        (("--trajectory", "spiral", "--coils", 1), (1, 1, 16, 8), ["1 coil, 16 shots"]),
        (
            ("--kind", "ct", "--beam", "fan", "--angles", 9, "--pixel-size", 2),
            (1, 9, 25),
            ["fan-beam CT, 9 angles x 25 detectors", "source", "1.5 times", "0 to 320 degrees"],
        ),
        (
            ("--kind", "diffraction", "--photons", 1e4, "--oversampling", 3, "--beam-stop", 2),
            (1, 48, 48),
            ["2D diffraction, pattern 48x48, image 16x16, oversampling 3 x 3", "of the pattern"],
        ),
    ],
)
def test_simulate_then_info_of_other_physics(tmp_path, words, shape, said):
    file = tmp_path / "scan.h5"
    ran = run("simulate", file, "--size", 16, *words)
    assert ran.code == 0, ran.err
    scan = load(file)
    assert scan.data.shape == shape
    assert scan.reference.shape == (1, 16, 16)
    ran = run("info", file)
    assert ran.code == 0, ran.err
    for text in (*said, "solvers", "DPS"):
        assert text in ran.out, ran.out


SIDECARS = Path(__file__).resolve().parents[2] / "examples" / "sidecars"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "sidecar", "said"),
    [
        (
            "mri_spiral20ch_ksp.mat",
            "mri_spiral20ch",
            ["non-Cartesian MRI, 192x192, 20 coils, 54 shots x 310 samples, R = 2.2",
             "384 x 384 mm", "up to 95.79 x 95.82 cycles/FOV", "weights in the file"],
        ),
        (
            "ct_fanbeam_htc2022_ta.mat",
            "ct_fanbeam_htc2022_twelfth",
            ["fan-beam CT, 61 angles x 560 detectors, image 256x256", "560 x 0.2 mm",
             "410.66 mm to the axis", "143.08 mm", "1.348 times", "0.2966 mm", "61 of 721"],
        ),
        (
            "ct_fanbeam_htc2022_ta.mat",
            "ct_fanbeam_htc2022_twentyfourth",
            ["31 angles", "1 of 24 views is used: 31 of 721"],
        ),
        (
            "phase_bcdi_crystal.tif",
            "phase_bcdi_crystal",
            ["3D diffraction, pattern 72x128x128, image 36x64x64, oversampling 2 x 2 x 2",
             "4.46e+07 in all", "lengths are in pixels"],
        ),
        (
            "phase_bcdi_crystal.tif",
            "phase_bcdi_crystal_central",
            ["2D diffraction, pattern 128x128, image 64x64", "only frame 36 of 72"],
        ),
    ],
)  # fmt: skip
def test_info_of_real_files(real_data, name, sidecar, said):
    ran = run("info", real_data / name, "--sidecar", SIDECARS / f"{sidecar}.toml")
    assert ran.code == 0, ran.err
    for text in (name, *said):
        assert text in ran.out, ran.out


def test_simulate_ct_from_an_image(tmp_path):
    np.save(tmp_path / "image.npy", np.ones((16, 16)))
    words = ("--kind", "ct", "--image", tmp_path / "image.npy", "--angles", 12)
    ran = run("simulate", tmp_path / "ct.h5", *words)
    assert ran.code == 0, ran.err
    assert "12 angles" in ran.out
    assert load(tmp_path / "ct.h5").reference == pytest.approx(np.full((1, 16, 16), 0.02))


def test_info_system():
    ran = run("info", "--system")
    assert ran.code == 0, ran.err
    for name in ("sciinv", "torch", "cores", "astra", "sigpy", "priors"):
        assert f"  {name}" in ran.out
    assert "does not work" not in ran.out


def test_solvers():
    ran = run("solvers")
    assert ran.code == 0, ran.err
    for solver in ALL_SOLVERS:
        assert f"\n{solver.__name__}\n  needs" in "\n" + ran.out


def test_priors():
    ran = run("priors")
    assert ran.out.splitlines() == [
        "ct            nothing",
        "generic-1ch   nothing",
        "generic-2ch   nothing",
        "mri           nothing",
    ]
    one = run("priors", "generic-1ch")
    assert one.code == 0, one.err
    assert "channels    1" in one.out and "0.01 to 10" in one.out


def test_demo(tmp_path, monkeypatch, unsaved):
    made = sys.modules["sciinv.cli.simulate"]
    monkeypatch.setattr(made, "make", functools.partial(made.make, size=32, calibration=8))
    fast = functools.partial(
        sciinv.reconstruction.run.reconstruct, num_samples=3, steps=3, krylov=2
    )
    monkeypatch.setattr(sciinv.reconstruction.run, "reconstruct", fast)
    ran = run("demo", "-o", tmp_path / "demo")
    assert ran.code == 0, ran.err
    assert "PSNR (dB)" in ran.out and "report.html" in ran.out
    assert len(unsaved) == 1
    again = run("demo", "-o", tmp_path / "demo")
    assert again.code == 1 and "--overwrite" in again.err


@pytest.mark.parametrize(
    "command",
    [(), *((c,) for c in "info reconstruct simulate evaluate solvers priors demo".split())],
)
def test_help_and_version(command):
    ran = run(*command, "--help")
    assert ran.code == 0 and ran.err == "" and "Usage" in ran.out


def test_version():
    from sciinv import __version__

    assert run("--version").out == f"sciinv {__version__}\n"


# lines ------------------------------------------------------------------------------------------
def test_lines_are_escaped_and_never_cut(capsys):
    text = "a\x1b[31mred\u202e" + "very " * 60 + "long\nnext"
    say(phase_line("note", text, 1.5))
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\x1b" not in out and "\u202e" not in out
    assert "a\\x1b[31mred" in out and out.count("very") == 60 and "long\\nnext" in out


def test_long_lines_wrap_at_words_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    words = [f"word{i}" for i in range(40)]
    say(phase_line("note", " ".join(words)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1 and max(map(len, lines)) <= 60
    assert " ".join(lines).split() == ["note", *words]
    assert all(line.startswith(" " * 12) for line in lines[1:])
