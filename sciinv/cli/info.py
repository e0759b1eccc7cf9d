"""``sciinv info``."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from sciinv.data.scan import Scan
    from sciinv.reconstruction.parts import Plan

_BUDGET = 300.0


def info(
    file: Path | None = typer.Argument(None, metavar="FILE", help="Scan file.", show_default=False),
    sidecar: Path | None = typer.Option(
        None, metavar="TOML", help="Side-car of a header-less file; FILE.toml if not given."
    ),
    picture: bool | None = typer.Option(
        None,
        "--picture/--no-picture",
        help="Draw the middle slice in characters; in a terminal if not given.",
        show_default=False,
    ),
    plan: bool = typer.Option(
        True, help="Say what 'reconstruct' would run, for how long, in how much memory."
    ),
    json: bool = typer.Option(False, "--json", help="The same as one JSON object."),
    system: bool = typer.Option(False, "--system", help="Say what works on this machine."),
) -> None:
    """Show what is in a scan file, and what a reconstruction would do, or what this machine can."""
    if file is None and not system:
        raise typer.BadParameter("give a FILE, or --system")
    if file is not None:
        from sciinv.data.load import load

        begin = time.perf_counter()
        scan = load(file, sidecar=sidecar)
        if json:
            _as_json(scan, plan=plan)
        else:
            _scan(scan, begin, picture=picture, plan=plan)
    if system:
        _system()


def _scan(scan: Scan, begin: float, *, picture: bool | None, plan: bool) -> None:
    """Print what was found first, then what takes longer to find."""
    from sciinv.cli.console import phase_line, say
    from sciinv.data.describe import describe, details
    from sciinv.data.facts import facts

    found = facts(scan)
    say(phase_line("file", scan.source.name))
    say(phase_line("scan", describe(scan)))
    axes = ", ".join(f"{axis['name']} {axis['size']}" for axis in found["axes"])
    say(phase_line("axes", axes))
    for name, text in details(scan):
        say(phase_line(name, text))
    if "sampling" in found:
        say(phase_line("sampled", found["sampling"]))
    if scan.noise_std is None:
        say(phase_line("noise", _noise(found["noise"])))
    for name, text in _place(found["geometry"]):
        say(phase_line(name, text))
    for key, value in scan.header.items():
        say(phase_line("header", f"{key}: {value}"))
    for note in scan.notes:
        say(phase_line("note", note))
    if picture or (picture is None and sys.stdout.isatty()):
        _draw(scan, begin)
    from sciinv.cli.lists import fitting

    say(phase_line("solvers", ", ".join(fitting(scan))))
    if plan:
        for name, text in _plan_lines(_plan(scan)):
            say(phase_line(name, text))


def _as_json(scan: Scan, *, plan: bool) -> None:
    import json

    from sciinv.cli.lists import fitting
    from sciinv.data.facts import facts
    from sciinv.report.plain import plain

    found: dict[str, Any] = {"file": scan.source.name, **facts(scan), "solvers": fitting(scan)}
    if plan:
        run = asdict(_plan(scan))
        # nothing was estimated for them
        found["plan"] = {k: v for k, v in run.items() if k not in ("noise", "scale")}
    sys.stdout.write(json.dumps(plain(found), allow_nan=False) + "\n")


def _noise(noise: dict[str, Any] | None) -> str:
    if noise is None:
        return "no estimate: too few samples without signal"
    if noise["level"] is None:
        return "photon counts: Poisson"
    return f"{noise['level']:.3g} per real component, {noise['source']}"


def _place(geometry: dict[str, Any]) -> list[tuple[str, str]]:
    if not geometry["length_known"]:
        return [("position", "lengths, directions and position are not known")]
    if not geometry["oriented"]:
        return [("position", "directions and position are not known; the centre is taken as 0")]
    towards = ", ".join(f"{name} to {code}" for name, code in geometry["directions"].items())
    centre = ", ".join(f"{value:.4g}" for value in geometry["centre_ras_mm"])
    return [("position", f"{towards}; centre at ({centre}) mm RAS")]


def _draw(scan: Scan, begin: float) -> None:
    import numpy as np

    from sciinv.cli import picture
    from sciinv.cli.console import phase_line, say
    from sciinv.reconstruction.quick import quick_picture
    from sciinv.report.figures import window
    from sciinv.report.geometry import views

    made = quick_picture(scan)
    seen = np.ones(made.images.shape, bool)
    view = views(seen, made.affine, oriented=made.oriented, units=made.units)[0]
    limits = window(made.images)
    mode, room = picture.here()
    say()
    for line in picture.draw(view.cut(made.images), view, limits, mode, room):
        sys.stdout.write(line + "\n")
    say()
    units = "" if made.units == "/pixel" else f" {made.units}"
    which = view.title.lower()
    if len(scan.image_shape) == 3:
        which = f"middle {which}"
    elif scan.num_slices > 1:
        which = f"{which} {scan.num_slices // 2} of {scan.num_slices}"
    text = f"{which}, {made.name}"
    grey = f"black {limits[0]:.3g}, white {limits[1]:.3g}{units}"
    say(phase_line("picture", f"{text}; {grey}", time.perf_counter() - begin))


def _plan(scan: Scan) -> Plan:
    from sciinv.reconstruction.estimate import estimate_run

    return estimate_run(scan, time_budget=_BUDGET)


def _plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """What ``sciinv reconstruct FILE`` would do without options."""
    from sciinv.cli.console import clock

    e = plan.effort
    dimension = f", Krylov {e.krylov}" if e.krylov else ""
    point = f" around a point estimate of {e.point_steps}" if e.point_steps else ""
    slices = f"{plan.slices} slice{'s' if plan.slices > 1 else ''}"
    return [
        ("plan", f"{plan.solver}{point}, prior {plan.prior}: {e.num_samples} samples, "
                 f"{e.steps} steps{dimension}"),
        ("time", f"about {clock(plan.seconds)} for {slices} on this machine, and preparation"),
        ("memory", f"about {plan.memory / 2**30:.1f} GiB"),
    ]  # fmt: skip


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
