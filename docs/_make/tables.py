"""Tables that the pages include, read from the declarations in the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sciinv.capabilities import DESCRIPTION

if TYPE_CHECKING:
    from deepinv.physics import Physics

    from sciinv.solvers import Solver

YES, SMALL, NO = "yes", "small", "-"


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


def operators() -> str:
    """Return one row per operator: what it and its noise declare."""
    from sciinv.capabilities import noise_capabilities, operator_capabilities
    from sciinv.operators.examples import EXAMPLES, example

    rows = ["| operator | declares | its noise |", "|---|---|---|"]
    for name in EXAMPLES:
        physics = example(name)
        declared = ", ".join(sorted(operator_capabilities(physics)))
        noise = ", ".join(sorted(noise_capabilities(physics)))
        rows.append(f"| {_code(name)} | {declared} | {noise} |")
    return "\n".join(rows)


def compatibility() -> str:
    """Return the table of operators and solvers: does the solver accept operator and noise?"""
    from sciinv.operators.examples import EXAMPLES, example
    from sciinv.solvers import ALL_SOLVERS

    solvers = [solver.__name__ for solver in ALL_SOLVERS]
    rows = ["| operator | " + " | ".join(f"`{name}`" for name in solvers) + " |",
            "|---" + "|:-:" * len(solvers) + "|"]  # fmt: skip
    for name in EXAMPLES:
        physics = example(name)
        cells = (_cell(solver, physics) for solver in ALL_SOLVERS)
        rows.append(f"| {_code(name)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _cell(solver: type[Solver], physics: Physics) -> str:
    """Say whether a solver fits; ``small`` where it needs a dense singular value decomposition."""
    from sciinv.capabilities import Capability, operator_capabilities
    from sciinv.solvers.compatibility import missing

    if missing(solver.needs, physics):
        return NO
    dense = Capability.SVD in solver.needs - operator_capabilities(physics)
    return SMALL if dense else YES


def _code(name: str) -> str:
    """Set the class name of an example as code: ``CartesianMRI, one coil``."""
    first, comma, rest = name.partition(",")
    owner, _, thing = first.rpartition(" ")
    return f"{owner} `{thing}`{comma}{rest}".strip()


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
    (target / "operators.inc").write_text(operators() + "\n")
    (target / "compatibility.inc").write_text(compatibility() + "\n")
    (target / "likelihoods.inc").write_text(likelihoods() + "\n")
