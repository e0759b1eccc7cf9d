"""Sixteen truths, default knobs: are the samples draws from the posterior?"""

from __future__ import annotations

import math

import pytest
import torch

from sciinv.solvers import MMT, MomentMatching, Solver
from sciinv.solvers.truth import ExactProblem, exact_problem

SCANS, SAMPLES = 16, 16


def compare(problem: ExactProblem, solver: Solver) -> None:
    samples = solver.sample(problem.y, problem.physics, SAMPLES, generator=1)
    covariance = problem.posterior.covariance()
    variance = covariance.diagonal()
    correlation = covariance / torch.outer(variance.sqrt(), variance.sqrt())
    mean = samples.mean(0)
    # the truth is one more draw from the posterior: E (mean - truth)^2 / var = 1 + 1/S
    found = float(((mean - problem.truth).flatten(1).square() / variance).mean())
    expected = 1 + 1 / SAMPLES
    # variance of the average of n correlated chi-squared numbers, over 16 scans
    error = float(expected * (2 * correlation.square().sum()).sqrt()) / len(variance)
    assert abs(found - expected) < 4 * error / math.sqrt(SCANS)
    trace = (samples - mean).square().sum() / (SAMPLES - 1) / SCANS
    ratio = float((trace / variance.sum()).sqrt())
    relative = 2 * covariance.square().sum() / variance.sum() ** 2 / (SCANS * (SAMPLES - 1))
    assert abs(ratio - 1) < 0.02 + 3 * float(relative.sqrt()) / 2


@pytest.mark.parametrize("name", ["mri", "ct", "blur"])
def test_mmt_at_10_steps(name: str) -> None:
    problem = exact_problem(name, (12, 12), scans=SCANS, generator=3)
    compare(problem, MMT(problem.prior, steps=10))


def test_moment_matching() -> None:
    problem = exact_problem("mri", (8, 8), scans=SCANS, generator=3)
    compare(problem, MomentMatching(problem.prior))
