"""``sciinv train``, in this process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner, Result

from sciinv.cli import app
from sciinv.training import JsonLog
from sciinv.training.stop import Stop
from sciinv.training.watch_rich import finish

Run = Callable[..., Result]


@pytest.fixture
def run(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command beside its configuration; signals are given back afterwards."""
    monkeypatch.chdir(tiny.parent)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["train", "--config", tiny.name, *arguments])

    yield call
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_writes_prior_card_log_and_tensorboard(run: Run, tmp_path: Path) -> None:
    done = run("--set", "run.log_every=6")
    assert done.exit_code == 0, done.output
    folder = tmp_path / "tiny"
    for name in ("prior.safetensors", "card.md", "card.png", "log.jsonl", "tensorboard"):
        assert (folder / name).exists()
    assert "parameters, 24 steps of 4 images" in done.output
    assert "step 24/24" in done.output and "images/s" in done.output and "done at" in done.output
    kinds = [event["event"] for event in events(folder)]
    assert kinds == ["begin", "progress", "curve", "progress", "progress", "curve", "progress",
                     "curve", "end"]  # fmt: skip
    shown = CliRunner().invoke(app, ["priors", str(folder / "prior.safetensors")])
    assert '"limits"' in shown.output and '"denoising"' in shown.output

    refused = run()
    assert refused.exit_code == 1
    assert "tiny: found a finished prior" in refused.output
    assert "--resume" in refused.output and "--overwrite" in refused.output
    assert run("--overwrite", "--steps", "2", "--quiet").output == ""
    assert [e for e in events(folder) if e["event"] == "begin"][0]["config"]["optimiser"][  # type: ignore[index]
        "steps"
    ] == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_with_a_checkpoint_and_tensorboard_shows_no_step_twice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    write = JsonLog.progress

    def killed(self: JsonLog, state: object) -> None:
        write(self, state)  # type: ignore[arg-type]
        if state.step == 15:  # type: ignore[attr-defined]
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLog, "progress", killed)
        stopped = run("-o", "out")
    assert stopped.exit_code == code, stopped.output
    assert "stopped after step 16" in stopped.output and "--resume" in stopped.output
    assert not (tmp_path / "out" / "prior.safetensors").exists()
    assert "the checkpoint of an unfinished run" in run("-o", "out").output
    if number == signal.SIGINT:  # as if the process had died after step 13 without a checkpoint
        resumed = run("-o", "out", "--resume")
        assert resumed.exit_code == 0 and "from step 16" in resumed.output
        assert scalars(tmp_path / "out", "training/loss") == [5, 10, 15, 16, 20, 24]
        assert scalars(tmp_path / "out", "psnr (dB)/noise 0.1") == [10, 20, 24]


def scalars(folder: Path, tag: str) -> list[int]:
    """Steps that TensorBoard shows."""
    reader = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    assert reader.Tags()["images"] == ["clean, noisy, denoised"]
    return [event.step for event in reader.Scalars(tag)]


def test_steps_that_were_lost_are_withdrawn_from_tensorboard(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sciinv.training.watch_tensorboard import TensorBoard

    write = TensorBoard.progress

    def crash(self: TensorBoard, state: object) -> None:
        write(self, state)  # type: ignore[arg-type]
        if state.step == 15:  # type: ignore[attr-defined]
            self._writer.close()
            raise OSError("disc full")

    with monkeypatch.context() as patch:
        patch.setattr(TensorBoard, "progress", crash)
        assert run("-o", "out").exit_code == 1
    assert run("-o", "out", "--resume").exit_code == 0  # from step 10
    assert scalars(tmp_path / "out", "training/loss") == [5, 10, 15, 20, 24]


def test_dry_run_tells_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    done = run("--dry-run", "--set", "noise.sigma_max=7.5")
    assert done.exit_code == 0, done.output
    assert "sigma_max = 7.5" in done.output
    assert "parameters  " in done.output and "the run" in done.output
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "noise.sigma_max=0"], "tiny.toml: noise.sigma_max"),
        (["--resume", "--overwrite"], "--resume: found --overwrite too"),
        (["-o", "stack.npy"], "stack.npy: found a file"),
        (["--set", "data.files=['no.npy']"], "no.npy: found no such file"),
    ],
)
def test_mistakes_are_one_line(run: Run, arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert message in done.output and done.output.count("\n") == 1


def test_second_interrupt_ends_at_once() -> None:
    with Stop() as stop:
        assert not stop() and stop.exit_code == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert stop() and stop.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (12.3, "12 s left, done at 22:00"),
        (1800, "30 min left, done at 22:30"),
        (3 * 3600, "3:00 h left, done at Tue 01:00"),
        (9 * 86400, "216:00 h left, done at 2026-03-11 22:00"),
    ],
)
def test_finish_is_told_as_clock_time(seconds: float, text: str) -> None:
    assert finish(seconds, datetime(2026, 3, 2, 22, 0)) == text
