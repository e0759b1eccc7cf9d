"""``sciinv train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sciinv.training.config import TrainingConfig
    from sciinv.training.watch_rich import Bar


def train(
    config: Path = typer.Option(
        ..., "--config", "-c", metavar="TOML", help="What to train, on what, for how long."
    ),
    output: Path | None = typer.Option(
        None, "--output", "-o", metavar="DIR", help="Output folder; CONFIG's stem if not given."
    ),
    resume: bool = typer.Option(
        False, "--resume", help="Go on from the checkpoint in the output folder, if there is one."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an older run."),
    steps: int | None = typer.Option(None, min=1, metavar="N", help="Training steps."),
    threads: int | None = typer.Option(None, min=1, metavar="N", help="CPU threads a process."),
    devices: int | None = typer.Option(
        None, min=1, metavar="N", help="Devices of this machine; torchrun and srun say it better."
    ),
    changes: list[str] = typer.Option(
        [], "--set", metavar="SECTION.FIELD=VALUE", help="Replace a field of CONFIG; repeatable."
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Print the resolved configuration and the expected time; stop."
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Write nothing but errors."),
) -> None:
    """Train a prior: prior.safetensors with its card, checkpoints, a log and TensorBoard files.

    Ctrl-C and SIGTERM write a checkpoint after the current step; the same command with --resume
    goes on from there, to the same weights as without the interruption. Needs 'sciinv[train]'.
    """
    import logging

    from sciinv.training.config import load_config
    from sciinv.training.run_folder import check_folder

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    given = {"optimiser.steps": steps, "run.threads": threads, "run.devices": devices}
    options = [f"{field}={value}" for field, value in given.items() if value is not None]
    settings = load_config(config, [*changes, *options])
    if dry_run:
        _tell(settings)
        return
    folder = output if output is not None else Path(config.stem)
    check_folder(folder, resume=resume, overwrite=overwrite)
    _run(settings, folder, resume=resume, quiet=quiet)


def _run(settings: TrainingConfig, folder: Path, *, resume: bool, quiet: bool) -> None:
    from sciinv.training import train as run
    from sciinv.training.device import is_first_process
    from sciinv.training.run_folder import LOG, TENSORBOARD
    from sciinv.training.stop import Stop
    from sciinv.training.watch import JsonLog, Watchers
    from sciinv.training.watch_rich import Bar
    from sciinv.training.watch_tensorboard import TensorBoard

    bar: Bar | None = None if quiet else Bar()
    watchers = [JsonLog(folder / LOG), TensorBoard(folder / TENSORBOARD)]
    watcher = Watchers(*watchers, *([] if bar is None else [bar]))
    with Stop() as stop:
        try:
            prior = run(settings, folder, resume=resume, watcher=watcher, stop=stop)
        finally:
            if bar is not None:
                bar.close()
    if bar is not None and bar.stopped_at is not None:
        from sciinv.cli.console import say

        say("the same command with --resume goes on from there")
    if stop() and prior is None and is_first_process():
        raise typer.Exit(stop.exit_code)


def _tell(settings: TrainingConfig) -> None:
    """Print a configuration as TOML, and what its run would take."""
    import json

    from sciinv.cli.console import say
    from sciinv.training.config import as_table
    from sciinv.training.device import is_first_process
    from sciinv.training.estimate import estimate
    from sciinv.training.watch_rich import finish

    found = estimate(settings)
    if not is_first_process():
        return
    for section, fields in as_table(settings).items():
        say(f"[{section}]")
        for name, value in fields.items():
            if value is not None:
                say(f"{name} = {json.dumps(value)}")
    say()
    say(f"parameters  {found.parameters:,}")
    say(f"a step      {found.step:.3g} s for {found.batch} images, {found.devices} device(s)")
    say(f"an image    {found.image:.3g} s to make or read")
    say(f"window      {found.window / 2**20:.0f} MiB of images a device")
    say(f"the run     {finish(found.seconds)}, if started now")
