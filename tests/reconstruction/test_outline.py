"""The operator that stands for that of a reconstruction asks solvers the same questions."""

from __future__ import annotations

import numpy as np
import pytest

from sciinv.capabilities import noise_capabilities, operator_capabilities
from sciinv.data.scan import Scan
from sciinv.data.simulate import (
    simulate_ct,
    simulate_diffraction,
    simulate_fan,
    simulate_noncartesian,
)
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.job import Job
from sciinv.reconstruction.mri_model import Coils
from sciinv.reconstruction.outline import default_solver, outline
from sciinv.reconstruction.progress import Progress
from sciinv.solvers import available, compatible

from .conftest import blob, disc, mri

CASES = {
    "several coils": lambda: mri(blob()),
    "one coil": lambda: mri(blob(), coils=1),
    "radial": lambda: simulate_noncartesian(blob(), shots=30, samples=48, coils=2, rng=1),
    "parallel beam": lambda: simulate_ct(0.02 * np.abs(blob()), num_angles=20, rng=1),
    "counts": lambda: simulate_ct(0.02 * np.abs(blob()), num_angles=20, dose=1e4, rng=1),
    "fan beam": lambda: simulate_fan(0.02 * np.abs(blob()), num_angles=20, noise_std=0.01, rng=1),
    "pattern": lambda: simulate_diffraction(disc(16, radius=4), photons=1e6, rng=1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_solvers_fit_as_in_the_reconstruction(name: str) -> None:
    scan: Scan = CASES[name]()
    model, found = build_model(scan, 0), outline(scan)
    physics = model.physics
    assert type(found) is type(physics)
    assert found.channels == physics.channels
    assert operator_capabilities(found) == operator_capabilities(physics)
    assert noise_capabilities(found) == noise_capabilities(physics)
    # a decomposition of a small operator is dense: shapes count
    assert found.measurement_shape == physics.measurement_shape
    if scan.kind == "mri":
        assert found.image_shape == physics.image_shape
    else:  # air and vacuum that a reconstruction leaves out
        assert all(n >= m for n, m in zip(found.image_shape, physics.image_shape, strict=True))
    assert compatible(found) == compatible(physics)
    default, first = default_solver(scan)
    assert default in compatible(physics)
    assert default in available() and (first in available() or first == "HIO")
    job = Job(scan, lambda x, sigma: x, None, Progress(), None, Coils())
    assert job.solver_name == default
