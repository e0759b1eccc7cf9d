"""Tables that the pages include, read from the declarations in the package."""

from __future__ import annotations

from pathlib import Path

from sciinv.capabilities import DESCRIPTION


def solvers() -> str:
    """Return one row per solver: what it needs and what it is exact for, as the class declares."""
    from sciinv.solvers import ALL_SOLVERS

    rows = ["| solver | exact for | needs | from |", "|---|---|---|---|"]
    for solver in ALL_SOLVERS:
        needs = "; ".join(DESCRIPTION[need] for need in sorted(solver.needs))
        rows.append(
            f"| `{solver.__name__}` | {solver.exact_for or '-'} | {needs} | {solver.reference} |"
        )
    return "\n".join(rows)


def compatibility() -> str:
    """Return one row per operator: the solvers that accept an instance of it with known noise."""
    import torch
    from deepinv.physics import GaussianNoise

    from sciinv.operators import CartesianMRI, ParallelBeamCT
    from sciinv.solvers import compatible

    noise = GaussianNoise(0.01)
    maps = torch.ones(2, 8, 8, dtype=torch.complex64)
    operators = {
        "`CartesianMRI`, one coil": CartesianMRI((8, 8), noise_model=noise),
        "`CartesianMRI`, several coils": CartesianMRI((8, 8), coil_maps=maps, noise_model=noise),
        "`ParallelBeamCT`": ParallelBeamCT(
            (8, 8),
            torch.linspace(0, 3, 6),
            num_detectors=12,
            detector_spacing=1.0,
            pixel_size=1.0,
            noise_model=noise,
        ),
    }
    rows = ["| operator | declares | solvers |", "|---|---|---|"]
    for name, operator in operators.items():
        declared = ", ".join(sorted(operator.capabilities))
        fitting = ", ".join(f"`{solver}`" for solver in compatible(operator))
        rows.append(f"| {name} | {declared} | {fitting} |")
    return "\n".join(rows)


def make_all(target: Path) -> None:
    """Write every table of the pages into a directory."""
    (target / "solvers.inc").write_text(solvers() + "\n")
    (target / "compatibility.inc").write_text(compatibility() + "\n")
