"""Trajectories through side-cars: order, units, undersampling; every mistake is one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from sciinv.data import NonCartesianGeometry, load
from sciinv.errors import DataError

from . import bare_files
from .bare_files import refused

SIDECARS = Path(__file__).resolve().parents[2] / "examples" / "sidecars"
SHOTS, SAMPLES, COILS = 6, 20, 3
SHAPE = (16, 12)
SIDE = """
kind = "mri"
quantity = "kspace"
axes = ["coil", "shot", "sample"]
[mri]
fov = [320.0, 240.0]
image_shape = [16, 12]
[mri.trajectory]
file = "k.npy"
unit = "cycles/fov"
"""


@pytest.fixture
def parts(rng):
    """Samples (coil, shot, sample) and trajectory (shot, sample, dim) in cycles per FOV."""
    data = rng.standard_normal((COILS, SHOTS, SAMPLES, 2)) @ [1, 1j]
    k = rng.uniform(-1, 1, (SHOTS, SAMPLES, 2)) * np.array(SHAPE) / 2
    return data.astype(np.complex64), k


def write(folder: Path, data, side: str = SIDE, **files) -> Path:
    return bare_files.write(folder, data, side, **files)


def test_canonical(tmp_path, parts):
    data, k = parts
    scan = load(write(tmp_path, data, k=k))
    g = scan.geometry
    assert isinstance(g, NonCartesianGeometry)
    assert (scan.kind, scan.num_coils, scan.num_slices) == ("mri", COILS, 1)
    assert (scan.image_shape, g.num_shots, g.num_samples) == (SHAPE, SHOTS, SAMPLES)
    np.testing.assert_array_equal(scan.data, data[None])
    np.testing.assert_array_equal(g.trajectory, k)
    np.testing.assert_allclose(g.voxel_size, (1.0, 20.0, 20.0))
    assert scan.acceleration == pytest.approx(16 * 12 / (SHOTS * SAMPLES))
    assert any("slice thickness" in note for note in scan.notes)
    # the centre of the grid, index n // 2, is at the origin
    np.testing.assert_allclose(scan.affine @ [8, 6, 0, 1], [0, 0, 0, 1])


def test_any_order_of_axes_and_parts(tmp_path, parts):
    data, k = parts
    side = SIDE.replace('"coil", "shot", "sample"', '"part", "sample", "shot", "slice", "coil"')
    side = side.replace('"k.npy"', '"k.npy"\naxes = ["dim", "sample", "shot"]')
    stack = np.stack([data, 2 * data])  # slice, coil, shot, sample
    array = np.stack([stack.real, stack.imag]).transpose(0, 4, 3, 1, 2)
    scan = load(write(tmp_path, array, side, k=k.transpose(2, 1, 0)))
    np.testing.assert_array_equal(scan.data, stack)
    np.testing.assert_array_equal(scan.geometry.trajectory, k)


@pytest.mark.parametrize(
    ("dims", "order", "signs"),
    [
        (None, [1, 0], [1, 1]),
        ('["column", "row"]', [1, 0], [1, 1]),
        ('["row", "column"]', [0, 1], [1, 1]),
        ('["column", "-row"]', [1, 0], [-1, 1]),
        ('["-row", "-column"]', [0, 1], [-1, -1]),
    ],
)
def test_which_component_runs_along_which_axis(tmp_path, parts, dims, order, signs):
    """In complex coordinates x, the real part, runs along columns unless told otherwise."""
    data, k = parts
    xy = k if order == [0, 1] else k[..., ::-1]
    side = SIDE if dims is None else SIDE.replace("unit =", f"dims = {dims}\nunit =")
    scan = load(write(tmp_path, data, side, k=xy[..., 0] + 1j * xy[..., 1]))
    np.testing.assert_allclose(scan.geometry.trajectory, k * signs)


def test_the_trajectory_takes_the_order_of_the_data(tmp_path, parts):
    data, k = parts
    side = SIDE.replace('"coil", "shot", "sample"', '"sample", "shot", "coil"')
    scan = load(write(tmp_path, data.transpose(2, 1, 0), side, k=k.transpose(1, 0, 2)))
    np.testing.assert_array_equal(scan.data[0], data)
    np.testing.assert_array_equal(scan.geometry.trajectory, k)


def test_one_shot_serves_all(tmp_path, parts):
    data, k = parts
    side = SIDE.replace('"k.npy"', '"k.npy"\naxes = ["sample", "dim"]')
    scan = load(write(tmp_path, data, side, k=k[0]))
    np.testing.assert_array_equal(scan.geometry.trajectory, np.stack([k[0]] * SHOTS))


def test_per_metre_with_the_voxel_size_instead_of_the_field_of_view(tmp_path, parts):
    data, k = parts
    side = SIDE.replace("fov = [320.0, 240.0]", "voxel_size = [3.0, 20.0, 20.0]")
    side = side.replace('"cycles/fov"', '"1/m"')
    scan = load(write(tmp_path, data, side, k=k / [0.320, 0.240]))
    np.testing.assert_allclose(scan.geometry.trajectory, k)
    assert scan.geometry.voxel_size == (3.0, 20.0, 20.0)
    assert not any("thickness" in note for note in scan.notes)


def test_3d(tmp_path, rng):
    shape = (4, 16, 12)
    k = rng.uniform(-1, 1, (SHOTS, SAMPLES, 3)) * np.array(shape) / 2
    data = (rng.standard_normal((SHOTS, SAMPLES)) + 1j).astype(np.complex64)
    side = SIDE.replace('"coil", ', "").replace("[16, 12]", "[4, 16, 12]")
    side = side.replace("[320.0, 240.0]", "[40.0, 320.0, 240.0]")
    scan = load(write(tmp_path, data, side, k=k))
    assert scan.image_shape == shape
    np.testing.assert_allclose(scan.geometry.voxel_size, (10.0, 20.0, 20.0))
    np.testing.assert_array_equal(scan.geometry.trajectory, k)


def test_density_times_field_and_every_second_shot(tmp_path, parts, rng):
    data, k = parts
    density, field_map = rng.random((SHOTS, SAMPLES)), rng.standard_normal(SHAPE)
    maps = (rng.standard_normal((COILS, *SHAPE)) + 1j).astype(np.complex64)
    side = '[coil_maps]\nfile = "maps.npy"\n[noise]\nstd = 0.5\n'
    side += '[mri.density]\nfile = "density.npy"\n[mri.field_map]\nfile = "field_map.npy"\n'
    side = SIDE.replace("[mri]", "[mri]\nshot_step = 2\ndwell_time = 1e-5\necho_sample = 2") + side
    scan = load(write(tmp_path, data, side, k=k, density=density, field_map=field_map, maps=maps))
    g = scan.geometry
    np.testing.assert_array_equal(scan.data[0], data[:, ::2])
    np.testing.assert_array_equal(g.trajectory, k[::2])
    ratio = g.density / density[::2]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)
    assert any(f"weights are scaled by {ratio[0, 0]:.3g}"[:-1] in note for note in scan.notes)
    np.testing.assert_allclose(g.readout_times, 1e-5 * (np.arange(SAMPLES) - [[2]] * 3))
    np.testing.assert_array_equal(g.field_map, field_map.astype(np.float32))
    np.testing.assert_array_equal(scan.coil_maps[0], maps)
    assert scan.noise_std == 0.5
    assert any(note == "every 2nd shot is used: 3 of 6" for note in scan.notes)


def test_listed_readout_times(tmp_path, parts, rng):
    data, k = parts
    times = rng.random(SAMPLES)
    side = SIDE + '[mri.readout_times]\nfile = "times.npy"\n'
    g = load(write(tmp_path, data, side, k=k, times=times)).geometry
    np.testing.assert_array_equal(g.readout_times, np.stack([times] * SHOTS))


# mistakes -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('unit = "cycles/fov"', "", ["mri.trajectory.unit", "no such key", '"1/m"']),
        ('"cycles/fov"', '"1/mm"', ["mri.trajectory.unit", "'1/mm'", '"normalised"']),
        ('"cycles/fov"', '"1/m"', ["trajectory", "1/m, 2.5", "looks like cycles/fov"]),
        ('"cycles/fov"', '"rad/pixel"', ["trajectory", "looks like cycles/fov"]),
        ("fov = [320.0, 240.0]", "fov = [320.0]", ["mri.fov", "2 numbers"]),
        ("image_shape = [16, 12]", "", ["mri.image_shape", "no such key", "2 numbers"]),
        ("[16, 12]", "[4, 16, 12]", ["mri.image_shape", "2 numbers"]),
        ("[16, 12]", "[8, 6]", ["trajectory", "at most 3 cycles/FOV for 6", "mri.image_shape"]),
        ('"k.npy"', '"no.npy"', ["mri.trajectory.file", "no such file"]),
        ('file = "k.npy"', "", ["mri.trajectory", "neither file nor name"]),
        ("unit =", 'dims = ["row", "row"]\nunit =', ["mri.trajectory.dims", "twice"]),
        ("unit =", 'dims = ["row", "slice"]\nunit =', ["mri.trajectory.dims", '"column"']),
        ("unit =", 'dims = ["row"]\nunit =', ["mri.trajectory.dims", "permutation"]),
        ("unit =", 'axes = ["shot", "coil", "dim"]\nunit =', ["trajectory.axes", '"sample"']),
        ("unit =", "units =", ["mri.trajectory.units", "did you mean mri.trajectory.unit?"]),
        ("[mri]", "[mri]\nshot_steps = 2", ["mri.shot_steps", "mean mri.shot_step?"]),
        ("[mri]", "[mri]\nshot_step = 0", ["mri.shot_step", "whole number"]),
        ("[mri]", "[mri]\nvoxel_size = [1.0, 2.0, 2.0]", ["mri.voxel_size", "20.0"]),
        ('"sample"]', '"samples"]', ["axes", "did you mean 'sample'?"]),
        ('"shot", "sample"', '"row", "column"', ["axes", '"sample"']),
    ],
)
def test_mistakes_in_the_side_car(tmp_path, parts, old, new, words):
    data, k = parts
    assert old in SIDE
    refused(write(tmp_path, data, SIDE.replace(old, new, 1), k=k), *words)


@pytest.mark.parametrize(
    "name", ["fov = [1.0, 1.0]", "shot_step = 2", "dwell_time = 1e-5", "image_shape = [8, 8]"]
)
def test_keys_that_need_a_trajectory(tmp_path, rng, name):
    side = f'kind = "mri"\naxes = ["row", "column"]\n[mri]\n{name}\n'
    refused(write(tmp_path, np.ones((8, 8), np.complex64), side), name.split()[0], "trajectory")


def test_samples_without_a_trajectory(tmp_path):
    side = 'kind = "mri"\naxes = ["shot", "sample"]\n'
    refused(write(tmp_path, np.ones((8, 8), np.complex64), side), "mri.trajectory", "'shot'")


def test_missing_field_of_view(tmp_path, parts):
    data, k = parts
    side = SIDE.replace("fov = [320.0, 240.0]", "").replace('"cycles/fov"', '"1/m"')
    refused(write(tmp_path, data, side, k=k / 0.3), "fov", "no field of view", "mri.fov")


def test_trajectory_outside_the_grid_names_the_suspected_unit(tmp_path, parts):
    data, k = parts
    refused(
        write(tmp_path, data, k=k / [0.320, 0.240]),
        "k.npy",
        "trajectory",
        "at most 6 cycles/FOV for 12 pixels",
        "looks like 1/m",
        "with FOV",
    )


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ((slice(5), slice(None)), ["5 shots x 20 samples = 100 points", "6 x 20 = 120"]),
        ((slice(None), slice(19)), ["6 shots x 19 samples = 114 points"]),
    ],
)
def test_number_of_points(tmp_path, parts, keep, words):
    data, k = parts
    refused(write(tmp_path, data, k=k[keep]), "k.npy", "trajectory", *words)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda k: k[..., 0], ["2 axes", "3 axes"]),
        (lambda k: k[..., :1], ["mri.trajectory", "1 components"]),
        (lambda k: np.where(k > 3, np.nan, k), ["trajectory", "NaN"]),
        (lambda k: k + 1j, ["3 axes", "2 axes"]),
        (lambda k: k > 0, ["trajectory", "bool"]),
    ],
)
def test_wrong_trajectories(tmp_path, parts, wrong, words):
    data, k = parts
    refused(write(tmp_path, data, k=wrong(k)), *words)


def test_real_samples(tmp_path, parts):
    data, k = parts
    refused(write(tmp_path, data.real, k=k), "kspace", "complex", '"part"')


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite(tmp_path, parts, value):
    data, k = parts
    data[1, 2, 3] = value
    refused(write(tmp_path, data, k=k), "kspace", "NaN or Inf", "(1, 2, 3)")


def test_only_zeros(tmp_path, parts):
    data, k = parts
    refused(write(tmp_path, 0 * data, k=k), "kspace", "only zeros in slice 0")


@pytest.mark.parametrize(
    ("density", "words"),
    [
        (lambda w: w[:5], ["density", "5 shots x 20 samples", "6 x 20"]),
        (lambda w: w[..., None], ["3 axes", "2 axes"]),
        (lambda w: w - 0.5, ["density", "negative weights"]),
        (lambda w: 0 * w, ["density", "only zeros"]),
        (lambda w: w + 1j, ["density", "complex128", "real"]),
        (lambda w: np.where(w > 0.5, np.nan, w), ["density", "NaN"]),
    ],
)
def test_wrong_density(tmp_path, parts, rng, density, words):
    data, k = parts
    side = SIDE + '[mri.density]\nfile = "density.npy"\n'
    path = write(tmp_path, data, side, k=k, density=density(rng.random((SHOTS, SAMPLES))))
    refused(path, *words)


def test_field_map_without_times_or_of_another_size(tmp_path, parts):
    data, k = parts
    side = SIDE + '[mri.field_map]\nfile = "field.npy"\n'
    refused(write(tmp_path, data, side, k=k, field=np.ones(SHAPE)), "mri.field_map", "dwell_time")
    side = side.replace("[mri]", "[mri]\ndwell_time = 1e-5")
    refused(write(tmp_path, data, side, k=k, field=np.ones((4, 4))), "field_map", "(16, 12)")


def test_coil_maps_of_another_size(tmp_path, parts):
    data, k = parts
    side = SIDE + '[coil_maps]\nfile = "maps.npy"\n'
    maps = np.ones((COILS, 12, 16), np.complex64)
    refused(write(tmp_path, data, side, k=k, maps=maps), "coil_maps", "(3, 16, 12)")


# real data ----------------------------------------------------------------------------------------
@pytest.mark.data
def test_real_spiral(real_data):
    scan = load(real_data / "mri_spiral20ch_ksp.mat", sidecar=SIDECARS / "mri_spiral20ch.toml")
    assert (scan.kind, scan.data.shape) == ("mri", (1, 20, 54, 310))
    raw = scipy.io.loadmat(real_data / "mri_spiral20ch_ksp.mat")["dat"]
    np.testing.assert_array_equal(scan.data[0, 7, 30], raw[:, 30, 7])
    g = scan.geometry
    k = np.load(real_data / "mri_spiral20ch_ktraj.npy")  # kx + i ky, 1/m
    np.testing.assert_allclose(g.trajectory[30, :, 1], k[:, 30].real * 0.384)
    np.testing.assert_allclose(g.trajectory[30, :, 0], k[:, 30].imag * 0.384)
    assert np.abs(g.trajectory).max() == pytest.approx(95.8, abs=0.05)
    assert g.voxel_size == (1.0, 2.0, 2.0)
    # weights from 0 to 1 in the file; their sum becomes the area of the disc of k-space
    assert g.density.sum() == pytest.approx(np.pi * 95.8**2, rel=0.01)
    assert scan.acceleration == pytest.approx(192**2 / (54 * 310))


@pytest.mark.data
def test_real_spiral_in_a_wrong_unit(real_data, tmp_path):
    text = (SIDECARS / "mri_spiral20ch.toml").read_text()
    side = tmp_path / "wrong.toml"
    side.write_text(text.replace('unit = "1/m"', 'unit = "cycles/fov"'))
    with pytest.raises(DataError, match="looks like 1/m: 249.5 with FOV 384 mm is 95.8"):
        load(real_data / "mri_spiral20ch_ksp.mat", sidecar=side)
