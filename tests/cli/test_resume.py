"""Runs that end early, by signals, kill -9 or a full disc, and runs that go on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import sciinv
from sciinv.cli.console import Console
from sciinv.data.load import load
from sciinv.data.native import write_scan
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import simulate_mri
from sciinv.errors import DataError
from sciinv.reconstruction.checkpoint import Checkpoint, kept_parts, remove_parts
from sciinv.reconstruction.effort import Cost
from sciinv.reconstruction.run import reconstruct
from sciinv.result import load_result

from .conftest import refused, run

# 3 slices of 4 samples in batches of 2, 2 steps each: 4 steps a slice
WORDS = ("--samples", "4", "--steps", "2", "--krylov", "2", "--seed", "5")
STEPS = 12
BATCH_PIXELS = 2 * 24 * 24
# The real program in a process of its own, which sends itself a signal after a step. One process
# imports everything once and forks for every command; drawing a report would take too long.
PROGRAM = """
import json, os, resource, sys
from pathlib import Path
import sciinv.priors.store, sciinv.reconstruction.run, sciinv.solvers.base
from sciinv.cli import app
from sciinv.cli.console import Console
from sciinv.report.save import check_output
from sciinv.report.store import dump_json, metadata, write_hdf5
from sciinv.result import Result
sciinv.priors.store.SHIPPED = Path(sys.argv[1])
sciinv.solvers.base._AUTO_BATCH_PIXELS = 2 * 24 * 24
told = Console.step
def save(self, folder, overwrite=False, **_):
    check_output(folder, overwrite=overwrite)
    folder.mkdir(exist_ok=True)
    write_hdf5(self, folder / "result.h5")
    (folder / "run.json").write_text(dump_json(metadata(self)))
Result.save = save
def child(step, number, limit, out, words):
    def tell(self, done, total, info):
        answer = told(self, done, total, info)
        if done == step:
            os.kill(os.getpid(), number)
            answer = told(self, done, total, info)
        return answer
    Console.step = tell
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(out + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = ["sciinv", *words]
    code = 99
    try:
        app(prog_name="sciinv")
    except SystemExit as error:
        code = error.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # unloading everything takes seconds
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        child(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass
class Ended:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def ended(shipped, tmp_path_factory):
    """Run the program until a step of the run, at which it gets a signal."""
    files = tmp_path_factory.mktemp("ended") / "std"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(shipped)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(sciinv.__file__).parents[1])},
    )  # fmt: skip

    def ask(step: int, number: int, *words: object, limit: int = 0) -> Ended:
        asked = [step, int(number), limit, str(files), [str(word) for word in words]]
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        code = int(process.stdout.readline())
        texts = [files.with_name(files.name + name).read_text() for name in ("out", "err")]
        return Ended(code, *texts)

    yield ask
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Path:
    image = shepp_logan((24, 24))
    path = tmp_path_factory.mktemp("stack") / "stack.h5"
    images = np.stack([image, image[::-1], image.T])
    write_scan(simulate_mri(images, coils=3, acceleration=2.0, calibration_lines=8,
                            noise_std=0.02, rng=1), path)  # fmt: skip
    return path


@pytest.fixture(scope="module", autouse=True)
def small_batches(shipped):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciinv.solvers.base._AUTO_BATCH_PIXELS", BATCH_PIXELS)
        yield


@pytest.fixture
def quick_save(monkeypatch):
    """Write arrays and facts only: drawing a report takes seconds."""
    from sciinv.report.save import check_output
    from sciinv.report.store import dump_json, metadata, write_hdf5

    def save(self, folder, overwrite=False, **_):
        check_output(folder, overwrite=overwrite)
        folder.mkdir(exist_ok=True)
        write_hdf5(self, folder / "result.h5")
        (folder / "run.json").write_text(dump_json(metadata(self)))

    monkeypatch.setattr("sciinv.result.Result.save", save)


def same(one, other) -> None:
    """Equal to the bit, but for times and memory."""
    for name in ("samples", "baseline", "estimate", "visible", "residual", "affine"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("chi_squared", "status", "std_calibration", "notes", "warnings", "units", "name"):
        assert getattr(one, name) == getattr(other, name), name
    drop = ("settings", "command")
    facts = [{k: v for k, v in r.provenance.items() if k not in drop} for r in (one, other)]
    assert facts[0] == facts[1]
    assert one.stats["steps"] == other.stats["steps"] and one.stats["nfe"] == other.stats["nfe"]


def test_killed_in_three_ways_and_resumed_it_is_the_uninterrupted_run(
    stack, ended, tmp_path, quick_save
):
    out, parts = tmp_path / "out", tmp_path / ".out.parts"
    words = ("reconstruct", stack, "-o", out, *WORDS)
    # Ctrl-C in the second batch of the first slice
    done = ended(3, signal.SIGINT, *words)
    assert done.returncode == 130, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("  resume"))
    assert "1 batch of samples of a slice kept" in line
    typed = f"sciinv reconstruct {stack} --output {out} {' '.join(WORDS)} --resume"
    assert line.endswith(typed) or typed in line
    assert done.stdout.endswith(f"{out / 'report.html'}\n")
    assert load_result(out).status.value == "stopped" and load_result(out).num_samples == 2
    assert sorted(p.name for p in parts.iterdir()) == [
        "manifest.json", "slice-0000-batch-0000.h5",
    ]  # fmt: skip
    # SLURM ends the job in the second slice
    done = ended(7, signal.SIGTERM, *words, "--resume")
    assert done.returncode == 143, done.stderr
    assert "1 of 3 slices and 1 batch of samples of the next kept" in done.stdout
    assert load_result(out).samples.shape[:2] == (4, 1)
    # and the machine dies in the third
    done = ended(10, signal.SIGKILL, *words, "--resume")
    assert done.returncode == -signal.SIGKILL
    assert sorted(p.name for p in parts.iterdir()) == [
        "manifest.json", "slice-0000.h5", "slice-0001.h5", "slice-0002-batch-0000.h5",
    ] or sorted(p.name for p in parts.iterdir()) == [
        "manifest.json", "slice-0000.h5", "slice-0001.h5",
    ]  # fmt: skip
    steps = []
    told = Console.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Console, "step", lambda self, d, t, i: steps.append(d) or told(self, d, t, i))
        ran = run(*words, "--resume")
    assert ran.code == 0, ran.err
    assert "2 of 3 slices" in ran.out and steps[0] in (9, 11) and steps[-1] == STEPS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    whole = tmp_path / "whole"
    ran = run("reconstruct", stack, "-o", whole, *WORDS)
    assert ran.code == 0, ran.err
    same(load_result(out), load_result(whole))


def test_interrupted_run_is_not_thrown_away_unasked(stack, tmp_path, monkeypatch, quick_save):
    out, parts = tmp_path / "out", tmp_path / ".out.parts"
    words = ("reconstruct", stack, "-o", out, *WORDS, "--no-calibrate")
    told = Console.step

    def stopping(self, done, total, info):
        self.interrupted = done >= 6
        return told(self, done, total, info)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Console, "step", stopping)
        assert run(*words).code == 130
    before = {p.name: p.read_bytes() for p in parts.iterdir()}
    text = refused(run(*words), "an interrupted run, 1 of 3 slices", "--resume", "--no-resume")
    assert f"sciinv reconstruct {stack}" in text and "--no-calibrate --resume" in text
    assert "kept" not in text
    for changed, said in (
        (("--seed", "6"), "seed: found 5 in the interrupted run, expected 6 as now"),
        (("--steps", "3"), "steps: found 2"),
        (("--noise", "0.03"), "noise: found none in the interrupted run, expected 0.03"),
        (("--prior", "generic"), "prior: found another prior"),
        (("--time-budget", "20"), "time budget: found 300.0"),
        (("--slices", "0:2"), "slices: found 0 to 2"),
        (("--coils", "2"), "coils: found none"),
    ):
        refused(run(*words, *changed, "--resume"), ".out.parts", said, "--no-resume")
    assert {p.name: p.read_bytes() for p in parts.iterdir()} == before
    ran = run(*words, "--no-resume", "--seed", "7", "--overwrite")
    assert ran.code == 0, ran.err
    assert not parts.exists() and load_result(out).provenance["seed"] == 7


def test_resume_where_nothing_was_begun_just_begins(stack, tmp_path, quick_save):
    words = ("reconstruct", stack, "-o", tmp_path / "out", "--slices", "0", *WORDS)
    ran = run(*words, "--no-calibrate", "--resume")
    assert ran.code == 0, ran.err
    assert "nothing to go on from" in ran.out
    assert "--resume" not in load_result(tmp_path / "out").provenance["command"]


def test_interrupted_before_anything_is_finished_leaves_nothing(stack, tmp_path, ended):
    done = ended(1, signal.SIGTERM, "reconstruct", stack, "-o", tmp_path / "o", *WORDS)
    assert done.returncode == 143
    assert done.stderr == "sciinv: interrupted; nothing was written\n"
    assert not list(tmp_path.iterdir())


def test_signal_when_all_is_done_changes_nothing(scans, tmp_path, monkeypatch, quick_save):
    told = Console.step

    def late(self, done, total, info):
        self.interrupted = done >= total
        return told(self, done, total, info)

    monkeypatch.setattr(Console, "step", late)
    words = ("reconstruct", scans / "ct.h5", "-o", tmp_path / "out", *WORDS)
    ran = run(*words, "--no-calibrate")
    assert ran.code == 0 and "resume" not in ran.out, ran.err
    assert load_result(tmp_path / "out").status.value != "stopped"
    # but calibration was still to come
    ran = run(*words, "--overwrite")
    assert ran.code == 130 and "1 of 1 slice kept, go on with:" in ran.out
    monkeypatch.setattr(Console, "step", told)
    assert run(*words, "--resume").code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_signals_end_at_once_where_there_is_nothing_to_keep(number, code, capsys):
    console = Console()
    before = signal.getsignal(number)
    with console:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert console.interrupted and console.exit_code == code
        # batch systems repeat it
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(number) is before
    # while sampling the first one only asks
    console = Console()
    console._sampling = 1.0
    with console:
        os.kill(os.getpid(), number)
        assert console.interrupted and "stopping after this step" in capsys.readouterr().out
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_disc_full_while_keeping_parts(stack, tmp_path, ended, quick_save):
    # the system itself refuses files beyond this size: a batch fits, a slice does not
    out, parts = tmp_path / "out", tmp_path / ".out.parts"
    words = ("reconstruct", stack, "-o", out, *WORDS, "--no-calibrate")
    done = ended(99, 0, *words, limit=30_000)
    assert done.returncode == 1
    assert done.stderr.startswith("sciinv: ") and done.stderr.count("\n") == 1
    assert "File too large" in done.stderr and "slice-0000.h5" in done.stderr
    assert "--resume" in done.stderr
    assert sorted(p.name for p in parts.iterdir()) == [
        "manifest.json", "slice-0000-batch-0000.h5", "slice-0000-batch-0001.h5",
    ]  # fmt: skip
    assert not out.exists()
    ran = run(*words, "--resume")
    assert ran.code == 0, ran.err
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


# in Python ---------------------------------------------------------------------------------------
FAST = {"num_samples": 2, "steps": 2, "krylov": 2, "calibrate": False, "slices": slice(0, 2)}


def test_effort_of_the_first_machine_is_kept(stack, tmp_path, monkeypatch):
    scan, folder = load(stack), tmp_path / "parts"
    options = {"calibrate": False, "time_budget": 5.0, "slices": slice(0, 1), "steps": 2,
               "krylov": 2}  # fmt: skip
    monkeypatch.setattr("sciinv.reconstruction.job.measure", lambda *_: Cost(0.1, 0.2, 0.01))
    slow = reconstruct(scan, checkpoint=folder, **options)
    assert slow.num_samples == 4 and "more than the 5 s" in slow.warnings[-1]
    (folder / "slice-0000.h5").unlink()
    monkeypatch.setattr("sciinv.reconstruction.job.measure", lambda *_: Cost(0.0, 0.0, 0.0))
    monkeypatch.setattr("sciinv.reconstruction.choices.fast_dtype", lambda: None)
    again = reconstruct(scan, checkpoint=folder, **options)
    np.testing.assert_array_equal(again.samples, slow.samples)
    assert again.warnings == slow.warnings
    assert reconstruct(scan, **options).num_samples == 16


def test_parts_of_another_scan_or_version_are_refused(stack, tmp_path, monkeypatch):
    scan, folder = load(stack), tmp_path / "parts"
    first = reconstruct(scan, checkpoint=folder, **FAST)
    moved = replace(scan, source=Path("elsewhere.h5"), notes=("renamed",))
    same(reconstruct(moved, checkpoint=folder, **FAST), replace(
        first, notes=("renamed", *first.notes[len(scan.notes):])))  # fmt: skip
    data = scan.data.copy()
    data[0, 0, 12, 12] *= 1.001
    with pytest.raises(DataError, match="scan: found another scan .* expected this one"):
        reconstruct(replace(scan, data=data), checkpoint=folder, **FAST)
    monkeypatch.setattr("sciinv.reconstruction.job.versions", lambda: {"torch": "9.9"})
    with pytest.raises(DataError, match=r"torch: found 2.* in the interrupted run, expected 9\.9"):
        reconstruct(scan, checkpoint=folder, **FAST)


def test_parts_name_nobody_and_hold_no_pickle(stack, tmp_path):
    scan = replace(load(stack), source=tmp_path / "doe_jane.h5")
    folder = tmp_path / "parts"
    reconstruct(scan, checkpoint=folder, **FAST)
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["manifest.json", "slice-0000.h5", "slice-0001.h5"]
    for path in folder.iterdir():
        assert b"doe" not in path.read_bytes().lower()
    with h5py.File(folder / "slice-0000.h5") as file:
        assert {str(d.dtype) for d in file.values()} <= {
            "complex64", "float32", "float64", "bool", "object",
        }  # fmt: skip
        assert h5py.check_string_dtype(file["about"].dtype) is not None


def test_damaged_and_foreign_parts_are_refused(stack, tmp_path):
    scan, folder = load(stack), tmp_path / "parts"
    reconstruct(scan, checkpoint=folder, **FAST)
    content = (folder / "slice-0001.h5").read_bytes()
    (folder / "slice-0001.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="slice-0001.h5.*truncated"):
        reconstruct(scan, checkpoint=folder, **FAST)
    (folder / "thesis.txt").write_text("kept")
    with pytest.raises(DataError, match=r"thesis\.txt, which no run wrote"):
        remove_parts(folder)
    assert len(list(folder.iterdir())) == 4
    manifest = json.loads((folder / "manifest.json").read_text())
    for bad in ("", "{}", json.dumps({**manifest, "format": "other/1"}), "[" * 100_000):
        (folder / "manifest.json").write_text(bad)
        with pytest.raises(DataError, match=r"manifest\.json"):
            Checkpoint(folder, manifest["settings"])
        with pytest.raises(DataError, match=r"manifest\.json"):
            kept_parts(folder)
