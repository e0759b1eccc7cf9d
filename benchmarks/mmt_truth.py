"""The law of samplers under a Gaussian prior against the exact posterior, without Monte Carlo.

Prints a markdown table; every figure is deterministic.

    python benchmarks/mmt_truth.py
"""

from __future__ import annotations

import torch

from sciinv.solvers import MMT, MomentMatching
from sciinv.solvers.testing import affine_law, deviation
from sciinv.solvers.truth import exact_problem

SHAPES = {"mri": (3, 4), "ct": (4, 3), "blur": (4, 3)}


def methods(n: int) -> dict:
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
    return made


def main() -> None:
    """Print std ratio, relative error of the covariance and of the mean for each problem."""
    torch.set_num_threads(1)
    print("| sampler | " + " | ".join(SHAPES) + " |")
    print("|---" * (1 + len(SHAPES)) + "|")
    problems = {name: exact_problem(name, shape) for name, shape in SHAPES.items()}
    sizes = {name: problem.truth[0].numel() for name, problem in problems.items()}
    for label in methods(1):
        cells = []
        for name, problem in problems.items():
            solver = methods(sizes[name])[label](problem.prior)
            law = affine_law(solver, problem.y, problem.physics)
            found = deviation(law, problem.posterior.mean, problem.posterior.covariance())
            cells.append(f"{found.std_ratio:.4f} / {found.covariance:.1e} / {found.mean:.0e}")
        print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
