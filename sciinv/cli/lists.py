"""``sciinv solvers`` and ``sciinv priors``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sciinv.data.scan import Scan


def solvers(
    for_: Path | None = typer.Option(
        None,
        "--for",
        metavar="FILE",
        help="Say which of them fit this scan, and why others do not.",
    ),
    sidecar: Path | None = typer.Option(
        None, metavar="TOML", help="Side-car of a header-less file; FILE.toml if not given."
    ),
) -> None:
    """List the solvers: what each needs, what it is exact for, and where it comes from."""
    from sciinv.cli.console import say
    from sciinv.solvers import available

    if for_ is not None:
        from sciinv.data.files import check_regular_file
        from sciinv.data.load import load

        check_regular_file(for_)
        return _row(load(for_, sidecar=sidecar))
    if sidecar is not None:
        raise typer.BadParameter("--sidecar belongs to the FILE of --for")
    for name, solver in available().items():
        say(name)
        say(f"  needs      {', '.join(sorted(solver.needs)) or 'nothing'}")
        say(f"  exact for  {solver.exact_for or 'nothing'}")
        say(f"  source     {solver.reference}")


def _row(scan: Scan) -> None:
    """Print the row of the table of operators and solvers that belongs to a scan."""
    from sciinv.capabilities import noise_capabilities, operator_capabilities
    from sciinv.cli.console import phase_line, say
    from sciinv.data.describe import describe
    from sciinv.reconstruction.outline import default_solver, outline
    from sciinv.solvers import available
    from sciinv.solvers.compatibility import reasons

    physics = outline(scan)
    default, first = default_solver(scan)
    say(phase_line("file", scan.source.name))
    say(phase_line("scan", describe(scan)))
    name = type(physics).__name__
    say(phase_line("operator", f"{name}: {', '.join(sorted(operator_capabilities(physics)))}"))
    noise = type(physics.noise_model).__name__
    say(phase_line("noise", f"{noise}: {', '.join(sorted(noise_capabilities(physics)))}"))
    say(phase_line("default", f"{default}, around an image of {first}"))
    say("")
    width = max(len(name) for name in available())
    for name, solver in available().items():
        gaps = reasons(solver.needs, physics)
        verdict = f"does not fit: needs {'; '.join(gaps)}" if gaps else "fits"
        say(f"{name:<{width}}  {verdict}{' (default)' if name == default else ''}")


def fitting(scan: Scan) -> list[str]:
    """Names of the solvers that fit the scan's operator."""
    from sciinv.reconstruction.outline import outline
    from sciinv.solvers import compatible

    return compatible(outline(scan))


def priors(
    name: str | None = typer.Argument(None, metavar="[NAME|FILE]", help="Show this one in full."),
) -> None:
    """List the shipped priors, or show the card of one."""
    from sciinv.cli.console import say
    from sciinv.priors import available, load

    if name is None:
        for known, card in available().items():
            say(f"{known:<14}{card.get('summary') or card.get('description', '')}".rstrip())
        return
    import json

    denoiser = load(name)
    parameters = sum(p.numel() for p in denoiser.parameters())
    say(f"channels    {denoiser.channels}")
    say(f"parameters  {parameters:,}")
    say(f"noise       {denoiser.sigma_min:g} to {denoiser.sigma_max:g}")
    say(json.dumps(denoiser.card, indent=2))
