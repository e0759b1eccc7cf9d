"""``sciinv solvers`` and ``sciinv priors``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from deepinv.physics import Physics

    from sciinv.data.scan import Scan


def solvers(
    for_: Path | None = typer.Option(
        None, "--for", metavar="FILE", help="Only those that fit this scan."
    ),
    sidecar: Path | None = typer.Option(None, metavar="TOML", help="Side-car of that file."),
) -> None:
    """List the solvers: what each needs, what it is exact for, and where it comes from."""
    from sciinv.cli.console import say
    from sciinv.solvers import available

    names = list(available())
    if for_ is not None:
        from sciinv.data.load import load

        names = fitting(load(for_, sidecar=sidecar))
    for name in names:
        solver = available()[name]
        say(name)
        say(f"  needs      {', '.join(sorted(solver.needs)) or 'nothing'}")
        say(f"  exact for  {solver.exact_for or 'nothing'}")
        say(f"  source     {solver.reference}")


def fitting(scan: Scan) -> list[str]:
    """Names of the solvers that fit the scan's operator."""
    from sciinv.solvers import compatible

    return compatible(_operator(scan))


def _operator(scan: Scan) -> Physics:
    """An operator with the capabilities of the scan's: they depend on class and noise only."""
    from deepinv.physics import GaussianNoise

    from sciinv.data.scan import (
        DiffractionGeometry,
        FanGeometry,
        MRIGeometry,
        NonCartesianGeometry,
    )
    from sciinv.operators.ct import ParallelBeamCT
    from sciinv.operators.fan import FanBeamCT
    from sciinv.operators.mri import CartesianMRI
    from sciinv.operators.noncartesian import NonCartesianMRI
    from sciinv.operators.phase import FourierPhaseRetrieval

    g = scan.geometry
    noise = GaussianNoise(1.0)
    if isinstance(g, MRIGeometry):
        return CartesianMRI(g.image_shape, noise_model=noise)
    if isinstance(g, NonCartesianGeometry):
        return NonCartesianMRI(g.image_shape, g.trajectory[:1], noise_model=noise)
    if isinstance(g, DiffractionGeometry):
        return FourierPhaseRetrieval(
            g.image_shape, pattern_shape=g.pattern_shape, noise_model=noise
        )
    if isinstance(g, FanGeometry):
        return FanBeamCT(
            g.image_shape,
            g.angles,
            num_detectors=g.num_detectors,
            detector_spacing=g.detector_spacing,
            pixel_size=g.pixel_size,
            source_distance=g.source_distance,
            detector_distance=g.detector_distance,
            noise_model=noise,
        )
    return ParallelBeamCT(
        g.image_shape,
        g.angles,
        num_detectors=g.num_detectors,
        detector_spacing=g.detector_spacing,
        pixel_size=g.pixel_size,
        noise_model=noise,
    )


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
