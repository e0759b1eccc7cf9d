"""How biased is DPS where the exact posterior is known? Monte Carlo under a Gaussian prior.

Prints a markdown table: ratio of standard deviations, and the error of the mean over the posterior
standard deviation (root mean square; the number of samples limits it from below).

    python benchmarks/dps_bias.py
"""

from __future__ import annotations

import torch

from sciinv.solvers import DPS, MMT, Solver
from sciinv.solvers.truth import ExactProblem, exact_problem

SCANS, SAMPLES = 8, 16


def bias(problem: ExactProblem, solver: Solver) -> str:
    """One cell."""
    samples = solver.sample(problem.y, problem.physics, SAMPLES, generator=1)
    mean, std = samples.mean(0), problem.posterior.std
    trace = (samples - mean).square().sum() / (SAMPLES - 1)
    error = ((mean - problem.posterior.mean) / std).square().mean().sqrt()
    return f"{float((trace / std.square().sum()).sqrt()):.2f} / {float(error):.2f}"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    names = ("mri", "ct", "blur")
    problems = [exact_problem(name, (12, 12), scans=SCANS, generator=3) for name in names]
    rows = {
        f"DPS, {steps} steps": lambda p, steps=steps: DPS(p, steps=steps)
        for steps in (100, 300, 1000)
    }
    rows["MMT, 10 steps"] = lambda p: MMT(p, steps=10)
    print("| sampler | " + " | ".join(names) + " |")
    print("|---" * (1 + len(names)) + "|")
    for label, make in rows.items():
        cells = [bias(problem, make(problem.prior)) for problem in problems]
        print(f"| {label} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nexact draws: 1.00 / {SAMPLES**-0.5:.2f}")


if __name__ == "__main__":
    main()
