"""What the number of steps does: laws in closed form, and Monte Carlo for the rest."""

from __future__ import annotations

from collections.abc import Sequence

from truth_common import root, solvers
from truth_fields import measure

from sciinv.solvers import MMT, MomentMatching
from sciinv.solvers.testing import affine_law, deviation
from sciinv.solvers.truth import exact_problem

# tiny: the law takes one run per random number that the sampler draws
SHAPES = {"mri": (3, 4), "ct": (4, 3), "blur": (4, 3)}


def exact_methods(n: int, fewest: int = 0) -> dict:
    """Samplers by label; the Krylov spaces hold the whole image of ``n`` components."""
    made = {
        f"MMT, {steps} steps": lambda p, steps=steps: MMT(p, steps=steps, krylov=n, lanczos=n)
        for steps in (3, 5, 10, 20)
    }
    for steps in (20, 50, 100):
        for name in ("ancestral", "euler", "heun"):
            made[f"MomentMatching, {name}, {steps} steps"] = lambda p, steps=steps, name=name: (
                MomentMatching(p, steps=steps, krylov=n, integrator=name)
            )
    return dict(list(made.items())[:fewest]) if fewest else made


def law(fewest: int = 0) -> str:
    """Ratio of standard deviations, relative errors of covariance and mean, without Monte Carlo.

    :param fewest: only the first so many methods.
    """
    problems = {name: exact_problem(name, shape) for name, shape in SHAPES.items()}
    lines = ["| sampler | " + " | ".join(SHAPES) + " |", "|---" * (1 + len(SHAPES)) + "|"]
    for label in exact_methods(1, fewest):
        cells = []
        for problem in problems.values():
            make = exact_methods(problem.truth[0].numel())[label]
            found = deviation(
                affine_law(make(problem.prior), problem.y, problem.physics),
                problem.posterior.mean,
                problem.posterior.covariance(),
            )
            cells.append(f"{found.std_ratio:.4f} / {found.covariance:.1e} / {found.mean:.0e}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def steps(
    name: str, counts: Sequence[int], size: int = 12, scans: int = 8, samples: int = 16
) -> str:
    """Ratio of standard deviations / error of the mean in posterior standard deviations."""
    names = ("mri", "ct", "blur")
    problems = {n: exact_problem(n, (size, size), scans=scans, generator=3) for n in names}
    lines = ["| sampler | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    (make,) = solvers([name]).values()
    for count in counts:
        cells = []
        for problem in problems.values():
            row = measure(make(problem.prior, steps=count), problem, samples, 0.0)
            cells.append(f"{row['std']:.2f} / {root(row['square']):.2f}")
        lines.append(f"| {name}, {count} steps | " + " | ".join(cells) + " |")
    return "\n".join(lines)
