"""Bad input through the command line: one line, exit code 1 (2 for usage), nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import simulate_mri

from .conftest import FAST, refused, run

ANGLES = np.arange(40) * np.pi / 40


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def reconstruct(file: Path, *words: object, said: tuple[str, ...] = (), code: int = 1) -> str:
    """Reconstruct, expect a refusal that names the file and that its folder stays as it was."""
    before = tree(file.parent)
    text = refused(run("reconstruct", file, *words, *FAST), *said, code=code)
    assert tree(file.parent) == before
    return text


def kspace(shape=(2, 3, 8, 6)):
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def hdf5(path: Path, **parts) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            file[name] = value
    return path


def dxchange(path: Path, unit: str | None = "deg", **changes) -> Path:
    s = np.arange(32) - 15.5
    p = np.exp(-((s[None] - 3 * np.cos(ANGLES)[:, None]) ** 2) / 8)
    parts = {
        "data": (100 + 1000 * np.exp(-p))[:, None].astype(np.float32),
        "data_white": np.full((3, 1, 32), 1100, np.float32),
        "data_dark": np.full((3, 1, 32), 100, np.float32),
        "theta": np.rad2deg(ANGLES),
    }
    parts.update(changes)
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            file[f"exchange/{name}"] = value
        if unit is not None:
            file["exchange/theta"].attrs["units"] = unit
    return path


def bare(path: Path, array, sidecar: str) -> Path:
    np.save(path, array)
    path.with_suffix(".toml").write_text(sidecar)
    return path


# the file ---------------------------------------------------------------------------------------
def test_missing_file(tmp_path):
    reconstruct(tmp_path / "no.h5", said=("no.h5", "no such file"))


@pytest.mark.parametrize("name", ["folder.h5", "."])
def test_directory(tmp_path, name):
    (tmp_path / "folder.h5").mkdir()
    reconstruct(tmp_path / name, said=("a folder", "expected a file"))


@pytest.mark.parametrize("name", ["scan.h5", "scan.npy"])
def test_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    reconstruct(tmp_path / name, said=(name, "empty"))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_hdf5(tmp_path, scans, share):
    content = (scans / "mri.h5").read_bytes()
    file = tmp_path / "cut.h5"
    file.write_bytes(content[: int(share * len(content))])
    reconstruct(file, said=("cut.h5", "truncated"))


def test_right_suffix_wrong_content(tmp_path):
    file = tmp_path / "scan.h5"
    file.write_text("angles,counts\n0,1\n")
    reconstruct(file, said=("scan.h5", "found text, not HDF5", "expected one of the formats"))


def test_name_with_escape_sequence_is_escaped(tmp_path):
    text = reconstruct(tmp_path / "a\x1b[31mb\n.h5", said=("no such file",))
    assert "\x1b" not in text and "\\x1b[31m" in text


# what is in it ----------------------------------------------------------------------------------
def test_missing_data_set(tmp_path):
    file = hdf5(tmp_path / "scan.h5", theta=ANGLES)
    reconstruct(file, said=("scan.h5",))


def test_missing_flat_field(tmp_path):
    file = dxchange(tmp_path / "scan.h5")
    with h5py.File(file, "a") as f:
        del f["exchange/data_white"]
    reconstruct(file, said=("scan.h5", "exchange/data_white"))


def test_wrong_dtype(tmp_path):
    file = hdf5(tmp_path / "scan.h5", kspace=np.ones((1, 2, 8, 8), np.float32))
    reconstruct(file, said=("scan.h5", "kspace", "float32", "complex"))


def test_wrong_rank(tmp_path):
    file = hdf5(tmp_path / "scan.h5", kspace=kspace((8, 6)))
    reconstruct(file, said=("scan.h5", "kspace", "found", "expected"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(tmp_path, value):
    k = kspace()
    k[0, 1, 2, 3] = value
    file = hdf5(tmp_path / "scan.h5", kspace=k)
    reconstruct(file, said=("scan.h5", "NaN or Inf", "(0, 1, 2, 3)", "finite"))


def test_all_zero_kspace(tmp_path):
    file = hdf5(tmp_path / "scan.h5", kspace=0 * kspace())
    reconstruct(file, said=("scan.h5", "kspace", "only zeros"))


def test_angles_do_not_match_projections(tmp_path):
    file = dxchange(tmp_path / "scan.h5", theta=np.rad2deg(ANGLES)[:-3])
    reconstruct(file, said=("scan.h5", "angles", "found 37", "expected 40"))


def test_coil_maps_of_another_size(tmp_path, scans):
    file = tmp_path / "maps.h5"
    file.write_bytes((scans / "mri.h5").read_bytes())
    maps = np.ones((1, 3, 16, 16), np.complex64)
    with h5py.File(file, "a") as f:
        f["coil_maps"] = maps
    reconstruct(file, said=("maps.h5", "coil_maps", "(1, 3, 16, 16)", "(1, 3, 32, 32)"))


def test_side_car_with_unknown_key(tmp_path):
    axes = 'kind = "mri"\naxes = ["coil", "row", "column"]\n'
    file = bare(tmp_path / "scan.npy", kspace((3, 8, 6)), axes + "voxel_sise = [1, 1, 1]\n")
    reconstruct(file, said=("scan.toml", "voxel_sise"))


def test_bare_array_without_side_car(tmp_path):
    file = tmp_path / "scan.npy"
    np.save(file, kspace((3, 8, 6)))
    reconstruct(file, said=("scan.npy", "side-car"))


# what is fine -----------------------------------------------------------------------------------
def test_angles_without_unit_are_taken_as_degrees_and_said(tmp_path):
    file = dxchange(tmp_path / "scan.h5", unit=None)
    ran = run("info", file)
    assert ran.code == 0, ran.err
    assert "carry no unit: degrees assumed" in ran.out
    assert "0 to 175.5 degrees" in ran.out


def test_unsorted_angles(tmp_path):
    order = np.random.default_rng(0).permutation(40)
    file = dxchange(tmp_path / "sorted.h5")
    with h5py.File(file) as f:
        data = f["exchange/data"][...]
    mixed = dxchange(tmp_path / "mixed.h5", theta=np.rad2deg(ANGLES)[order], data=data[order])
    ran = run("info", mixed)
    assert ran.code == 0, ran.err
    assert "40, 0 to 175.5 degrees" in ran.out


# the output -------------------------------------------------------------------------------------
def test_existing_result(scans, result):
    folder, _ = result
    before = (folder / "run.json").stat().st_mtime_ns
    refused(run("reconstruct", scans / "mri.h5", "-o", folder, *FAST), str(folder), "older result")
    assert (folder / "run.json").stat().st_mtime_ns == before


def test_foreign_folder_even_with_overwrite(scans, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    ran = run("reconstruct", scans / "mri.h5", "-o", tmp_path / "mine", "--overwrite", *FAST)
    refused(ran, "mine", "other files")
    assert tree(tmp_path) == {"mine", "mine/thesis.txt"}


def test_output_is_a_file(scans, tmp_path):
    (tmp_path / "out").write_text("x")
    refused(run("reconstruct", scans / "mri.h5", "-o", tmp_path / "out", *FAST), "out", "a file")
    assert (tmp_path / "out").read_text() == "x"


def test_parent_of_output_is_a_file(scans, tmp_path):
    (tmp_path / "file").write_text("x")
    ran = run("reconstruct", scans / "mri.h5", "-o", tmp_path / "file" / "out", *FAST)
    refused(ran, "out", "cannot be written")
    assert tree(tmp_path) == {"file"}


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a /proc file system")
def test_output_on_a_file_system_that_takes_no_folders(scans):
    # permission bits allow it to root: only trying tells
    refused(run("reconstruct", scans / "mri.h5", "-o", "/proc/out", *FAST), "cannot be written")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_without_permission(scans, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    ran = run("reconstruct", scans / "mri.h5", "-o", tmp_path / "locked" / "out", *FAST)
    refused(ran, "locked", "cannot be written")


def test_name_too_long(scans, tmp_path):
    refused(run("reconstruct", scans / "mri.h5", "-o", tmp_path / ("x" * 300), *FAST), "too long")
    assert tree(tmp_path) == set()


def test_disc_full_while_saving(scans, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    words = ("reconstruct", scans / "mri.h5", "-o", tmp_path / "a" / "out", *FAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciinv.report.save.write_hdf5", full)
        ran = run(*words)
    refused(ran, "out", "No space left on device")
    # the work is kept, and the command that saves it is told
    parts = {f"a/.out.parts{name}" for name in ("", "/manifest.json", "/slice-0000.h5")}
    assert tree(tmp_path) == {"a", *parts}
    assert "1 of 1 slice kept, go on with: sciinv reconstruct" in ran.out
    monkeypatch.setattr("sciinv.result.Result.save", lambda self, folder, **_: None)
    ran = run(*words, "--resume")
    assert ran.code == 0, ran.err
    assert tree(tmp_path) == {"a", "a/out", "a/out/preview.png"}


def test_disc_full_while_writing_the_preview(scans, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "preview.png")

    monkeypatch.setattr(Path, "write_bytes", full)
    ran = run("reconstruct", scans / "mri.h5", "-o", tmp_path / "out", *FAST)
    refused(ran, "preview.png", "No space left on device")
    assert tree(tmp_path) == set()


# the options ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--noise", "-1"), ("--noise", "found -1.0", "positive")),
        (("--noise", "nan"), ("--noise", "positive")),
        (("--scale", "0"), ("--scale", "positive")),
        (("--slices", "9"), ("--slices", "found 9", "0:1")),
        (("--slices", "0:x"), ("--slices", "0:x")),
        (("--slices=-1"), ("--slices", "-1")),
        (("--solver", "Magic"), ("solver", "'Magic'", "MMT", "DPS")),
        (("--precision", "64"), ("precision", "'64'", "'auto', '32' or 'bf16'")),
        (("--prior", "wizard"), ("wizard", "expected one of", "generic")),
        (("--prior", "weights.pt"), ("weights.pt", ".safetensors", "pickle")),
        (("--prior", "no.safetensors"), ("no.safetensors", "no such file")),
        (("--sidecar", "no.toml"), ("no.toml",)),
    ],
)
def test_bad_value(scans, words, said):
    words = (words,) if isinstance(words, str) else words
    reconstruct(scans / "mri.h5", *words, said=said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reconstruct",), ("FILE", "sciinv reconstruct --help")),
        (("reconstruct", "x.h5", "--samples", "0"), ("--samples", "1")),
        (("reconstruct", "x.h5", "--seed", "one"), ("--seed", "integer")),
        (("reconstruct", "x.h5", "--nois", "1"), ("--nois",)),
        (("simulate", "x.h5", "--kind", "pet"), ("--kind", "pet")),
        (("info",), ("--system",)),
        (("launch",), ("launch", "--help")),
        (("--loud",), ("--loud",)),
    ],
)
def test_bad_usage(words, said):
    refused(run(*words), *said, code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "no.npy"), ("no.npy", "no such file")),
        (("evaluate", "no_sciinv"), ("no_sciinv",)),
        (("simulate", "no/scan.h5"), ("no such folder",)),
        (("simulate", "scan.h5", "--size", "16", "--calibration", "99"), ("calibration",)),
        (("simulate", "scan.h5", "--image", "no.npy"), ("no.npy", "no such file")),
        (("info", "no.h5"), ("no.h5", "no such file")),
        (("solvers", "--for", "no.h5"), ("no.h5", "no such file")),
        (("priors", "wizard"), ("wizard", "expected one of")),
    ],
)
def test_other_commands(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    refused(run(*words), *said)
    assert tree(tmp_path) == set()


# the real program -------------------------------------------------------------------------------
PROGRAM = ("-c", "from sciinv.cli import app; app(prog_name='sciinv')")


@pytest.mark.parametrize(
    ("start", "words", "code"),
    [
        (PROGRAM, ("reconstruct", "no.h5"), 1),
        (("-m", "sciinv"), ("reconstruct", "x", "--steps", "0"), 2),
    ],
    ids=["script", "module"],
)
def test_real_program(tmp_path, start, words, code):
    done = subprocess.run(
        [sys.executable, *start, *words],
        capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("sciinv: ") and done.stderr.count("\n") == 1, done.stderr
    assert tree(tmp_path) == set()


def test_unexpected_errors_are_one_line_too(scans, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise AttributeError("a\nbug")

    # the package has a function of the same name as the module
    monkeypatch.setattr(sys.modules["sciinv.data.load"], "load", broken)
    ran = run("reconstruct", scans / "mri.h5", "-o", tmp_path / "out", *FAST)
    assert ran.code == 1
    assert ran.err == (
        "sciinv: AttributeError: a bug (not expected; SCIINV_DEBUG=1 shows details)\n"
    )


def test_true_maps_of_the_right_size_are_used(tmp_path):
    # the counterpart of the refusal above: the same field, right
    from sciinv.data.native import write_scan

    scan = simulate_mri(
        shepp_logan((32, 32)), coils=3, calibration_lines=8, acceleration=2, noise_std=0.02,
        rng=1, include_maps=True,
    )  # fmt: skip
    write_scan(scan, tmp_path / "maps.h5")
    ran = run("reconstruct", tmp_path / "maps.h5", "--dry-run", *FAST)
    assert ran.code == 0, ran.err
    assert "3 coil maps from the file" in ran.out


# the process that reads -------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["info", "reconstruct", "convert", "solvers"])
def test_a_reader_that_dies_is_one_line(tmp_path, monkeypatch, command):
    from sciinv.data import isolation

    monkeypatch.setenv("SCIINV_READ_ISOLATED", "1")
    # whatever is asked for, the process ends as one does in a library that a file has broken
    monkeypatch.setattr(isolation, "START", "import os, signal; os.kill(os.getpid(), 11)")
    path = hdf5(tmp_path / "scan.h5", kspace=kspace())
    words = {
        "info": ("info", path),
        "reconstruct": ("reconstruct", path, *FAST),
        "convert": ("convert", path, tmp_path / "out.h5"),
        "solvers": ("solvers", "--for", path),
    }[command]
    before = tree(tmp_path)
    refused(run(*words), "scan.h5", "died of SIGSEGV")
    assert tree(tmp_path) == before


def test_limits_that_are_no_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("SCIINV_READ_ISOLATED", "1")
    path = hdf5(tmp_path / "scan.h5", kspace=kspace())
    monkeypatch.setenv("SCIINV_READ_MEMORY", "much")
    refused(run("info", path), "SCIINV_READ_MEMORY", "'much'", "8GB")


def test_the_installed_command_isolates(tmp_path):
    path = hdf5(tmp_path / "scan.h5", kspace=kspace())
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SCIINV")}
    done = subprocess.run(
        [sys.executable, "-m", "sciinv", "info", str(path)],
        env=environment | {"SCIINV_READ_SECONDS": "0.001"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "more than 0.001 s" in done.stderr and done.stderr.count("\n") == 1
