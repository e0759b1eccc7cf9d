"""``sciinv info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sciinv.data.scan import Scan


def info(
    file: Path | None = typer.Argument(None, metavar="FILE", help="Scan file.", show_default=False),
    sidecar: Path | None = typer.Option(
        None, metavar="TOML", help="Side-car of a header-less file; FILE.toml if not given."
    ),
    system: bool = typer.Option(False, "--system", help="Say what works on this machine."),
) -> None:
    """Show what is in a scan file and which solvers fit it, or what this machine can do."""
    if file is None and not system:
        raise typer.BadParameter("give a FILE, or --system")
    if file is not None:
        from sciinv.data.load import load

        _scan(load(file, sidecar=sidecar))
    if system:
        _system()


def _scan(scan: Scan) -> None:
    from sciinv.cli.console import phase_line, say
    from sciinv.data.describe import describe, details

    say(phase_line("file", scan.source.name))
    say(phase_line("scan", describe(scan)))
    for name, text in details(scan):
        say(phase_line(name, text))
    for key, value in scan.header.items():
        say(phase_line("header", f"{key}: {value}"))
    for note in scan.notes:
        say(phase_line("note", note))
    from sciinv.cli.lists import fitting

    say(phase_line("solvers", ", ".join(fitting(scan))))


def _system() -> None:
    import os
    import platform

    from sciinv import __version__
    from sciinv.cli.console import phase_line, say

    say(phase_line("sciinv", f"{__version__}, Python {platform.python_version()}"))
    import torch

    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name(0) if cuda else "no CUDA device: everything runs on the CPU"
    say(phase_line("torch", f"{torch.__version__}, {torch.get_num_threads()} threads, {device}"))
    say(phase_line("cores", str(os.cpu_count())))
    for name, check in (("astra", _astra), ("sigpy", _sigpy)):
        try:
            text = check()
        except Exception as error:  # noqa: BLE001  an engine may fail in any way: that is the news
            text = f"does not work: {type(error).__name__}: {error}"
        say(phase_line(name, text))
    from sciinv.priors import available

    say(phase_line("priors", ", ".join(available()) or "none"))


def _astra() -> str:
    """Make one projection: importing says little about whether an engine works."""
    import torch

    from sciinv.operators import ParallelBeamCT

    operator = ParallelBeamCT(
        (8, 8), [0.0, 1.0], num_detectors=9, detector_spacing=1.0, pixel_size=1.0, backend="astra"
    )
    operator.A(torch.ones(1, 1, 8, 8))
    import astra

    cuda = "yes" if astra.use_cuda() else "no"
    return f"{astra.__version__}, works, CUDA {cuda}"


def _sigpy() -> str:
    import numpy as np
    import sigpy

    sigpy.fft(np.ones((4, 4), np.complex64))
    return f"{sigpy.__version__}, works"
