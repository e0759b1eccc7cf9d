"""``sciinv solvers --for FILE``: the row of the table of operators and solvers for a scan."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from sciinv.capabilities import DESCRIPTION
from sciinv.data.load import load
from sciinv.data.native import write_scan
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import (
    simulate_ct,
    simulate_diffraction,
    simulate_fan,
    simulate_noncartesian,
)
from sciinv.reconstruction.outline import outline
from sciinv.solvers import available
from sciinv.solvers.compatibility import missing

from .conftest import refused, run


@pytest.fixture(scope="module")
def more(tmp_path_factory, scans):
    """The scans of the other physics, beside the shared ones."""
    image = shepp_logan((16, 16))
    folder = tmp_path_factory.mktemp("more")
    made = {
        "radial": simulate_noncartesian(image, shots=9, samples=32, coils=2, rng=1),
        "fan": simulate_fan(0.02 * np.abs(image), num_angles=9, rng=1),
        "pattern": simulate_diffraction(image, photons=1e4, rng=1),
    }
    for name, scan in made.items():
        write_scan(scan, folder / f"{name}.h5")
    found = {name: folder / f"{name}.h5" for name in made}
    return {**found, "mri": scans / "mri.h5", "ct": scans / "ct.h5"}


@pytest.mark.parametrize(
    ("name", "operator", "noise", "default"),
    [
        ("mri", "CartesianMRI", "GaussianNoise", "MMT"),
        ("radial", "NonCartesianMRI", "GaussianNoise", "MMT"),
        ("ct", "WhitenedOperator", "GaussianNoise", "MMT"),
        ("fan", "WhitenedOperator", "GaussianNoise", "MMT"),
        ("pattern", "FourierPhaseRetrieval", "AmplitudeLikelihood", "DPS"),
    ],
)
def test_the_row_of_a_scan(more, name, operator, noise, default):
    ran = run("solvers", "--for", more[name])
    assert ran.code == 0, ran.err
    head, _, rows = ran.out.partition("\n\n")
    assert f"operator  {operator}: " in head and f"noise     {noise}: " in head
    assert f"default   {default}, around an image of " in head
    told = dict(line.split(maxsplit=1) for line in rows.splitlines())
    # every solver has its line, in the order of preference
    assert list(told) == list(available())
    physics = outline(load(more[name]))
    for solver, text in told.items():
        gaps = missing(available()[solver].needs, physics)
        assert text.startswith("does not fit: needs " if gaps else "fits")
        assert all(DESCRIPTION[gap] in text for gap in gaps)
        assert text.endswith("(default)") == (solver == default)
    assert told[default] == "fits (default)"


def test_several_coils_have_no_singular_values(more):
    ran = run("solvers", "--for", more["mri"])
    assert "CartesianMRI: adjoint, differentiable, linear\n" in ran.out


def test_the_sidecar_is_read(tmp_path):
    file = tmp_path / "data.npy"
    np.save(file, simulate_ct(shepp_logan((24, 24)).clip(0), num_angles=20, rng=1).data)
    angles = [9.0 * i for i in range(20)]
    sidecar = tmp_path / "geometry.toml"
    sidecar.write_text(
        'kind = "ct"\nquantity = "line_integrals"\naxes = ["slice", "angle", "detector"]\n'
        f"[ct]\ndetector_spacing = 1.0\nangles = {{ values = {angles}, unit = 'deg' }}\n"
    )
    without = run("solvers", "--for", file)
    assert refused(without, "data.npy", "side-car")
    ran = run("solvers", "--for", file, "--sidecar", sidecar)
    assert ran.code == 0, ran.err
    assert "20 angles x 35 detectors" in ran.out and "MMT" in ran.out


def test_errors_are_one_line(tmp_path):
    refused(run("solvers", "--for", tmp_path / "no.h5"), "no.h5", "no such file")
    refused(run("solvers", "--for", tmp_path), "a folder", "expected a file")
    (tmp_path / "text.h5").write_text("1,2\n")
    refused(run("solvers", "--for", tmp_path / "text.h5"), "text.h5", "not HDF5")
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file["kspace"] = np.ones((1, 2, 8, 8), np.float32)
    refused(run("solvers", "--for", tmp_path / "bad.h5"), "bad.h5", "kspace", "complex")
    refused(run("solvers", "--sidecar", tmp_path / "a.toml"), "--for", code=2)
