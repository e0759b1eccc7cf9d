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
    from sciinv.cli.reconstruct import describe
    from sciinv.data.scan import MRIGeometry

    say(phase_line("file", scan.source.name))
    say(phase_line("scan", describe(scan)))
    say(phase_line("data", f"{'x'.join(map(str, scan.data.shape))} {scan.data.dtype}"))
    g = scan.geometry
    if isinstance(g, MRIGeometry):
        size = " x ".join(f"{v:.4g}" for v in g.voxel_size)
        say(phase_line("voxel", f"{size} mm (slice, row, column)"))
        say(phase_line("mask", f"{g.mask.mean():.1%} of k-space sampled"))
        readout = "unknown" if g.readout_axis is None else f"image axis {g.readout_axis}"
        say(phase_line("readout", readout))
    else:
        import numpy as np

        low, high = np.rad2deg(g.angles.min()), np.rad2deg(g.angles.max())
        say(phase_line("angles", f"{len(g.angles)}, {low:.4g} to {high:.4g} degrees"))
        say(phase_line("detector", f"{g.num_detectors} x {g.detector_spacing:.4g} mm"))
        say(phase_line("axis", f"{g.axis_shift:+.5g} mm from the middle of the detector"))
        say(phase_line("pixel", f"{g.pixel_size:.4g} mm"))
    say(phase_line("units", scan.units))
    if scan.noise_std is not None:
        say(phase_line("noise", f"{scan.noise_std:.4g} per real component (stated)"))
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
