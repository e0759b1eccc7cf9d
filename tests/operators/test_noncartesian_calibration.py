from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv.channels import to_complex
from sciinv.errors import DataError, GeometryError
from sciinv.operators import (
    CartesianMRI,
    estimate_coil_maps,
    low_resolution_phase,
    sensitivity_support,
)
from sciinv.operators.calibration import calibration_kspace
from sciinv.operators.noncartesian import NonCartesianMRI
from sciinv.operators.trajectories import (
    density_compensation,
    radial_trajectory,
    spiral_trajectory,
    stack_trajectory,
)

SHAPE = (48, 40)


def scan(shape=SHAPE, coils=4):
    """An ellipse with a slow phase seen by smooth coils, and its Cartesian k-space."""
    axes = [(np.arange(n) - n // 2) / n for n in shape[-2:]]
    y, x = np.meshgrid(*axes, indexing="ij")
    ellipse = ((y / 0.38) ** 2 + (x / 0.32) ** 2 < 1) * (1 + 0.4 * np.cos(15 * x) * (y > 0))
    image = ellipse * np.exp(1j * (1.0 + 2 * y - x))
    angles = 2 * np.pi * np.arange(coils) / coils
    maps = np.stack(
        [
            np.exp(-((y - 0.6 * np.sin(a)) ** 2 + (x - 0.6 * np.cos(a)) ** 2) / 0.4)
            * np.exp(1j * (a + 2 * x * np.cos(2 * a)))
            for a in angles
        ]
    )
    maps = maps / np.sqrt((np.abs(maps) ** 2).sum(0))
    if len(shape) == 3:
        depth = np.exp(-(((np.arange(shape[0]) - shape[0] // 2) / shape[0]) ** 2) / 0.1)
        image = image * depth[:, None, None]
        maps = np.broadcast_to(maps[:, None], (coils, *shape)).copy()
    z = torch.from_numpy(np.stack([image.real, image.imag]))[None]
    maps = torch.from_numpy(maps)
    cartesian = to_complex(CartesianMRI(shape, None, maps).A(z))
    return z, maps, cartesian


def measured(z, maps, trajectory):
    physics = NonCartesianMRI(tuple(z.shape[2:]), trajectory, maps, dtype=torch.float64)
    return to_complex(physics.A(z))


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("trajectory", "bound"),
    [
        (radial_trajectory(SHAPE, 80), 1e-3),
        # a third of what the whole of k-space would need; the centre has enough
        (radial_trajectory(SHAPE, 28, angles="golden"), 2e-2),
        (spiral_trajectory(SHAPE, 8, 500, turns=4), 1e-2),
    ],
)
def test_the_block_is_that_of_the_cartesian_scan(trajectory, bound):
    z, maps, truth = scan()
    y = measured(z, maps, trajectory)
    found, mask = calibration_kspace(y, trajectory, SHAPE, width=20)
    assert found.shape == truth.shape and found.dtype == torch.complex128
    assert mask.dtype == torch.bool and mask.sum() == 400
    assert bool(mask[14:34, 10:30].all())
    assert bool((found[..., ~mask] == 0).all())
    assert relative(found[..., mask], truth[..., mask]) < bound


@pytest.mark.parametrize("shape", [(41, 33), (4, 20, 16)])
def test_odd_sizes_and_three_dimensions(shape):
    z, maps, truth = scan(shape, 2)
    plane = radial_trajectory(shape[-2:], 50 if len(shape) == 2 else 30)
    trajectory = plane if len(shape) == 2 else stack_trajectory(plane, shape)
    found, mask = calibration_kspace(measured(z, maps, trajectory), trajectory, shape, width=12)
    assert mask.sum() == (144 if len(shape) == 2 else 4 * 144)
    assert relative(found[..., mask], truth[..., mask]) < 2e-3


def test_maps_phase_and_support_are_those_of_the_cartesian_scan():
    z, maps, truth = scan()
    trajectory = radial_trajectory(SHAPE, 60)
    found, mask = calibration_kspace(measured(z, maps, trajectory), trajectory, SHAPE, width=20)
    theirs = estimate_coil_maps(truth * mask, mask=mask)
    ours = estimate_coil_maps(found, mask=mask)
    inside = to_complex(z)[0].abs() > 0
    assert relative(ours[..., inside], theirs[..., inside]) < 2e-3
    # and both are the maps that made the data, up to a phase in every pixel
    overlap = (ours.conj() * maps).sum(1).abs()[0][inside]
    assert float(overlap.min()) > 0.995
    phase = low_resolution_phase(found, ours, mask=mask)
    expected = low_resolution_phase(truth * mask, theirs, mask=mask)
    assert float((phase - expected)[0][inside].abs().max()) < 1e-2
    support = sensitivity_support(found, mask)
    agree = (support == sensitivity_support(truth * mask, mask)).double().mean()
    assert float(agree) > 0.99 and bool(support[0][inside].all())


def test_arrays_tensors_leading_axes_and_density_are_the_same():
    z, maps, _ = scan(coils=2)
    trajectory = radial_trajectory(SHAPE, 60, 96)
    y = measured(z, maps, trajectory)
    expected, _ = calibration_kspace(y, trajectory, SHAPE, width=16)
    shaped = y.reshape(1, 2, 60, 96)
    for values in (shaped, shaped.numpy(), y.numpy()):
        found, mask = calibration_kspace(values, torch.from_numpy(trajectory), SHAPE, width=16)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    single, _ = calibration_kspace(y.cfloat(), trajectory, SHAPE, width=16)
    assert single.dtype == torch.complex64 and relative(single, expected) < 1e-4
    density = density_compensation(trajectory, SHAPE, method="radial")
    other, _ = calibration_kspace(y, trajectory, SHAPE, width=16, density=density)
    assert relative(other[..., mask], expected[..., mask]) < 2e-3
    two, _ = calibration_kspace(torch.cat([y, 3 * y]), trajectory, SHAPE, width=16)
    assert relative(two[1], 3 * expected[0]) < 1e-6


def test_scale_is_that_of_the_data_and_noise_stays_noise():
    trajectory = radial_trajectory(SHAPE, 120)
    noise = torch.randn(1, 3, 120 * 96, dtype=torch.complex128,
                        generator=torch.Generator().manual_seed(0))  # fmt: skip
    found, mask = calibration_kspace(noise, trajectory, SHAPE, width=12)
    # several samples per Cartesian position average: never more than the noise of one of them
    assert 0.05 < float(found[..., mask].abs().square().mean()) < 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kspace": torch.zeros(1, 2, 5, dtype=torch.complex64)}, r"expected complex \(B, coils"),
        ({"kspace": torch.zeros(1, 2, 20 * 80)}, "found torch.float32"),
        ({"kspace": torch.full((1, 2, 20 * 80), torch.nan + 0j)}, "NaN or Inf"),
        ({"density": np.ones(7)}, "density: found 7 weights, expected 1600"),
        ({"width": 40}, "farther than 1 cycle/FOV.*smaller width"),
    ],
)
def test_refusals(change, message):
    good = {
        "kspace": torch.zeros(1, 2, 20 * 80, dtype=torch.complex64),
        "trajectory": radial_trajectory((40, 40), 20, 80),
        "image_shape": (40, 40),
        "width": 12,
    }
    with pytest.raises(DataError, match=message):
        calibration_kspace(**(good | change))
    nine, points = torch.zeros(1, 1, 9, dtype=torch.complex64), 6 * np.ones((9, 2))
    with pytest.raises(DataError, match="at least the 144 values of the block"):
        calibration_kspace(nine, points, (40, 40), width=12)
    with pytest.raises(GeometryError, match="normalised"):
        calibration_kspace(good["kspace"], good["trajectory"] / 40, (40, 40))


@pytest.mark.data
def test_a_real_spiral_scan(real_data):
    scipy_io = pytest.importorskip("scipy.io")
    from sciinv.operators.trajectories import trajectory_from

    path = real_data / "mri_spiral20ch_ksp.mat"
    if not path.is_file():
        pytest.skip("no spiral scan")
    data = np.moveaxis(scipy_io.loadmat(path)["dat"], -1, 0)[None, ::5]
    k = np.load(real_data / "mri_spiral20ch_ktraj.npy")
    shape = (192, 192)
    trajectory = trajectory_from(k, "1/m", 384.0, shape)
    assert abs(np.abs(trajectory).max() - 95.82) < 0.01
    found, mask = calibration_kspace(data, trajectory, shape, width=16)
    support = sensitivity_support(found, mask)[0]
    rows, cols = torch.nonzero(support, as_tuple=True)
    # a round phantom of 190 mm = 95 pixels, grown by the resolution of the block
    assert 90 < int(rows.max() - rows.min()) < 135 and 90 < int(cols.max() - cols.min()) < 135
    assert abs(float(rows.double().mean()) - 93) < 5 and abs(float(cols.double().mean()) - 94) < 5
