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

    from sciinv import operators
    from sciinv.solvers import compatible

    noise = GaussianNoise(0.01)
    maps = torch.ones(2, 8, 8, dtype=torch.complex64)
    angles = torch.linspace(0, 3, 6)
    detector = {"num_detectors": 12, "detector_spacing": 1.0, "pixel_size": 1.0}
    distances = {"source_distance": 20.0, "detector_distance": 10.0}
    spokes = operators.radial_trajectory((8, 8), 4)
    fan = operators.FanBeamCT((8, 8), angles, **detector, **distances)
    uneven = operators.whiten(fan, torch.linspace(0.1, 1.0, 12).expand(6, 12))
    uneven.noise_model = GaussianNoise(1.0)
    make = {
        "`CartesianMRI`, one coil": operators.CartesianMRI((8, 8)),
        "`CartesianMRI`, several coils": operators.CartesianMRI((8, 8), coil_maps=maps),
        "`NonCartesianMRI`": operators.NonCartesianMRI((8, 8), spokes, maps),
        "`ParallelBeamCT`": operators.ParallelBeamCT((8, 8), angles, **detector),
        "`FanBeamCT`": fan,
        "`whiten(...)` of any linear one": uneven,
        "`FourierPhaseRetrieval`": operators.FourierPhaseRetrieval((8, 8)),
        "`CodedDiffraction`": operators.CodedDiffraction((8, 8), torch.ones(2, 8, 8)),
    }
    rows = ["| operator | declares | solvers |", "|---|---|---|"]
    for name, operator in make.items():
        if operator is not uneven:
            operator.noise_model = noise
        declared = ", ".join(sorted(operator.capabilities))
        fitting = ", ".join(f"`{solver}`" for solver in compatible(operator))
        rows.append(f"| {name} | {declared} | {fitting} |")
    return "\n".join(rows)


def likelihoods() -> str:
    """Return one row per noise model: formula, what y is, and the solvers of a linear operator."""
    import torch
    from deepinv.physics import GaussianNoise, PoissonNoise

    from sciinv.operators import (
        AmplitudeLikelihood,
        BeerLambertLikelihood,
        CartesianMRI,
        GaussianLikelihood,
        PoissonLikelihood,
    )
    from sciinv.solvers import compatible

    levels = torch.linspace(0.1, 1.0, 8)
    models = (
        ("none", None, "unknown", "anything"),
        ("deepinv `GaussianNoise(sigma)`, a number", GaussianNoise(0.1),
         "$y = Ax + \\sigma n$", "line integrals, k-space, amplitudes"),
        ("`GaussianLikelihood(sigma)`, a number", GaussianLikelihood(0.1), "the same", "the same"),
        ("`GaussianLikelihood(sigma)`, a tensor", GaussianLikelihood(levels),
         "the same, $\\sigma$ differs", "the same"),
        ("deepinv `PoissonNoise(gain)`", PoissonNoise(0.1),
         "$y = g\\,\\mathrm{Poisson}(Ax/g)$", "counts times $g$"),
        ("`PoissonLikelihood(gain, background=b, scale=c)`", PoissonLikelihood(0.1),
         "$y = g\\,\\mathrm{Poisson}((c\\,Ax + b)/g)$", "counts times $g$ (emission, intensities)"),
        ("`BeerLambertLikelihood(blank, background=b, scale=c)`", BeerLambertLikelihood(100.0),
         "$y = \\mathrm{Poisson}(I_0 e^{-c\\,Ax} + b)$", "transmission counts"),
        ("`AmplitudeLikelihood(sigma, scale=c)`", AmplitudeLikelihood(),
         "$\\sqrt y = \\sqrt{c\\,Ax} + \\sigma n$", "intensities; counts for $\\sigma = 1/2$"),
    )  # fmt: skip
    rows = ["| `physics.noise_model` | model | $y$ is | solvers of a linear operator |",
            "|---|---|---|---|"]  # fmt: skip
    for name, model, formula, what in models:
        physics = CartesianMRI((8, 8), noise_model=model)
        fitting = ", ".join(f"`{solver}`" for solver in compatible(physics))
        rows.append(f"| {name} | {formula} | {what} | {fitting or 'only with `noiseless=True`'} |")
    return "\n".join(rows)


def make_all(target: Path) -> None:
    """Write every table of the pages into a directory."""
    (target / "solvers.inc").write_text(solvers() + "\n")
    (target / "compatibility.inc").write_text(compatibility() + "\n")
    (target / "likelihoods.inc").write_text(likelihoods() + "\n")
