"""``--restarts``: the best of several starts of phase retrieval, with all residuals told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sciinv.data.load import load
from sciinv.data.native import write_scan
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import simulate_diffraction
from sciinv.reconstruction.run import reconstruct
from sciinv.result import load_result

from .conftest import FAST, refused, run


@pytest.fixture(scope="module")
def pattern(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pattern") / "pattern.h5"
    image = shepp_logan((16, 16)).astype(np.complex64)
    write_scan(simulate_diffraction(image, photons=1e6, rng=1), path)
    return path


def test_random_starts_of_phasing(pattern, tmp_path):
    ran = run(
        "reconstruct", pattern, "-o", tmp_path / "o", "--restarts", 3, "--samples", 1, "--steps", 2
    )
    assert ran.code == 0, ran.err
    assert "HIO, the best of 3 starts" in ran.out
    stats = json.loads((tmp_path / "o" / "run.json").read_text())["stats"]
    assert stats["restarts"] == 3 and stats["restart_measure"] == "R-factor"
    ((residuals,),) = stats["restart_residuals"]
    assert len(residuals) == 3 and len(set(residuals)) == 3
    assert f"R-factor {min(residuals):.3f}" in ran.out
    assert any("the best of 3 random starts" in note for note in load_result(tmp_path / "o").notes)
    page = (tmp_path / "o" / "report.html").read_text()
    assert "restart residuals" in page.lower().replace("_", " ")
    assert f"{residuals[0]:.4g}" in page


def test_runs_of_a_named_solver(pattern, tmp_path):
    options = {"solver": "DPS", "num_samples": 2, "steps": 3, "calibrate": False, "seed": 4}
    result = reconstruct(load(pattern), restarts=3, **options)
    assert result.num_samples == 2
    assert result.stats["restarts"] == 3 and result.stats["restart_measure"] == "chi-squared"
    (residuals,) = result.stats["restart_residuals"]
    assert residuals.shape == (2, 3)
    assert result.chi_squared == pytest.approx(residuals.min(1).mean(), rel=1e-6)
    assert result.stats["nfe"] == 3 * reconstruct(load(pattern), **options).stats["nfe"]
    # the runs are those that the solver makes without restarts
    every = reconstruct(load(pattern), **{**options, "num_samples": 6})
    best = residuals.argmin(1) + [0, 3]
    np.testing.assert_allclose(result.samples, every.samples[best], rtol=1e-4, atol=1e-3)
    # kept on disk as well
    folder = tmp_path / "parts"
    first = reconstruct(load(pattern), restarts=3, checkpoint=folder, **options)
    again = reconstruct(load(pattern), restarts=3, checkpoint=folder, **options)
    np.testing.assert_array_equal(first.samples, again.samples)
    np.testing.assert_array_equal(
        first.stats["restart_residuals"][0], again.stats["restart_residuals"][0]
    )


@pytest.mark.parametrize("name", ["mri.h5", "ct.h5"])
def test_refused_where_the_posterior_has_one_mode(scans, tmp_path, name):
    words = ("reconstruct", scans / name, "-o", tmp_path / "o", "--restarts", 2, *FAST)
    refused(run(*words), "restarts", "expected diffraction", "one mode")
    assert not list(tmp_path.iterdir())
