from __future__ import annotations

import warnings

import h5py
import numpy as np
import pytest
import torch

from sciinv.channels import to_channels, to_complex
from sciinv.errors import DataError
from sciinv.linalg import conjugate_gradient
from sciinv.operators import (
    CartesianMRI,
    estimate_coil_maps,
    low_resolution_phase,
    sensitivity_support,
)
from sciinv.operators.coils import calibration_region


def centred_fft(x):
    axes = tuple(range(1, x.ndim))
    k = torch.fft.fftn(torch.fft.ifftshift(x, dim=axes), dim=axes, norm="ortho")
    return torch.fft.fftshift(k, dim=axes)


def phantom(shape, coils, phase=True):
    """An ellipsoid with smooth phase seen by smooth coils: (coil images' k-space, maps, object)."""
    grids = torch.meshgrid(
        *[torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape], indexing="ij"
    )
    radius = sum((g / 0.8) ** 2 for g in grids).sqrt()
    x = torch.sigmoid((1 - radius) * 12) * (1 + 0.3 * torch.cos(5 * grids[-1]))
    x = torch.polar(x, 1.2 * grids[-1] + 0.8 * grids[-2] ** 2 if phase else torch.zeros_like(x))
    maps = []
    for c in range(coils):
        angle = 2 * np.pi * c / coils
        distance = (grids[-1] - 1.3 * np.cos(angle)) ** 2 + (grids[-2] - 1.3 * np.sin(angle)) ** 2
        if len(shape) == 3:
            distance = distance + (grids[0] - (-1) ** c * 0.7) ** 2
        maps.append(
            torch.polar(torch.exp(-0.4 * distance), 0.6 * grids[-1] * np.sin(angle) + angle)
        )
    maps = torch.stack(maps)
    maps = maps / maps.abs().square().sum(0).sqrt()
    return centred_fft(maps * x), maps, x


def alignment(a, b):
    """|<a, b>| / (|a| |b|) over coils, per pixel: 1 where they are equal up to a factor."""
    return (a.conj() * b).sum(0).abs() / (a.norm(dim=0) * b.norm(dim=0)).clamp_min(1e-30)


def lines(shape, width, step):
    mask = torch.zeros(shape)
    centre = shape[1] // 2
    mask[:, ::step] = 1
    mask[:, centre - width // 2 : centre - width // 2 + width] = 1
    return mask


def test_calibration_region_of_lines_spans_the_readout():
    assert calibration_region(lines((32, 40), 10, 4)) == (slice(0, 32), slice(15, 25))
    assert calibration_region(lines((32, 40), 10, 4).T) == (slice(15, 25), slice(0, 32))
    assert calibration_region(torch.ones(7, 8)) == (slice(0, 7), slice(0, 8))


def test_calibration_region_of_two_undersampled_axes_is_the_block():
    g = torch.Generator().manual_seed(0)
    mask = torch.rand(40, 41, generator=g) < 0.1
    mask[14:26, 12:28] = True
    rows, columns = calibration_region(mask)
    assert mask[rows, columns].all()
    assert rows.start <= 14 and rows.stop >= 26 and columns.start <= 12 and columns.stop >= 28


def test_calibration_region_needs_the_centre():
    mask = torch.ones(8, 8)
    mask[4, 4] = 0
    with pytest.raises(DataError, match="unsampled centre"):
        calibration_region(mask)


@pytest.mark.parametrize("shape", [(32, 30), (31, 28), (14, 16, 15)])
def test_recovers_known_maps(shape):
    kspace, maps, x = phantom(shape, 6)
    kernel = 4 if len(shape) == 3 else 5
    found = estimate_coil_maps(kspace[None], calibration=14, kernel=kernel, threshold=1e-3)[0]
    seen = x.abs() > 0.3
    # smooth maps are not exactly limited to the band of a kernel of five (3D: four) samples:
    # 1 - alignment of this phantom is 1e-4 at worst and 1e-6 on average
    assert float(1 - alignment(found, maps)[seen].min()) < 2e-4
    torch.testing.assert_close(
        found.abs().square().sum(0), torch.ones(shape, dtype=torch.float64), rtol=0, atol=1e-9
    )


def test_equals_sigpy_on_a_square_region():
    from sigpy.mri.app import EspiritCalib

    kspace, _, x = phantom((24, 22), 5)
    g = torch.Generator().manual_seed(1)
    kspace = kspace + 1e-3 * torch.randn(kspace.shape, dtype=torch.complex128, generator=g)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, values = EspiritCalib(
            kspace.numpy(), calib_width=16, thresh=0.02, kernel_width=5, crop=0,
            show_pbar=False, output_eigenvalue=True,
        ).run()  # fmt: skip
    expected, values = torch.from_numpy(np.ascontiguousarray(expected)), values[0]
    found = estimate_coil_maps(kspace[None], calibration=16, kernel=5, threshold=0.02)[0]
    seen = x.abs() > 0.1
    assert float(alignment(found, expected)[seen].min()) > 1 - 1e-12
    cropped = estimate_coil_maps(kspace[None], calibration=16, kernel=5, threshold=0.02, crop=0.9)[
        0
    ]
    kept = cropped.abs().sum(0) > 0
    sure = torch.from_numpy(np.abs(values - 0.9) > 1e-6)
    assert torch.equal(kept[sure], torch.from_numpy(values > 0.9)[sure])
    assert 0 < int(kept.sum()) < kept.numel()


def test_fold_phase_makes_the_image_nearly_real():
    kspace, _, x = phantom((32, 30), 6)
    y = to_channels(kspace[None])
    seen = x.abs() > 0.3

    def imaginary_share(fold):
        maps = estimate_coil_maps(kspace[None], fold_phase=fold)
        image = CartesianMRI((32, 30), None, maps).A_adjoint(y)[0]
        return float(image[1][seen].norm() / image[:, seen].norm())

    assert imaginary_share(True) < 0.03
    assert imaginary_share(False) > 0.2
    maps = estimate_coil_maps(kspace[None], fold_phase=True)
    image = CartesianMRI((32, 30), None, maps).A_adjoint(y)[0]
    assert float(image[0][seen].min()) > 0  # real and positive, not real and negative


@pytest.mark.parametrize("calibration", [None, (16, 12)])
def test_folded_maps_are_the_maps_times_the_low_resolution_phase(calibration):
    first, second = phantom((24, 26), 5)[0], phantom((24, 26), 5, phase=False)[0].flip(1)
    mask = lines((24, 26), 14, 4)
    kspace = torch.stack([first, second]) * mask
    arguments = {"mask": mask, "calibration": calibration}
    maps = estimate_coil_maps(kspace, **arguments)
    phase = low_resolution_phase(kspace, maps, **arguments)
    torch.testing.assert_close(phase.abs(), torch.ones(2, 24, 26, dtype=torch.float64))
    folded = estimate_coil_maps(kspace, fold_phase=True, **arguments)
    assert torch.equal(folded, maps * phase[:, None])
    # the phase of the folded maps is that of the object: nothing of it is left
    left = low_resolution_phase(kspace, folded, **arguments)
    torch.testing.assert_close(left, torch.ones_like(left), rtol=0, atol=1e-9)


def test_low_resolution_phase_gives_back_the_physical_phase():
    kspace, maps, x = phantom((32, 30), 6)
    phase = low_resolution_phase(kspace[None], maps[None])
    folded = maps[None] * phase[:, None]
    y = to_channels(kspace[None])
    image = to_complex(CartesianMRI((32, 30), None, folded).A_adjoint(y)) * phase
    torch.testing.assert_close(image[0], x, rtol=0, atol=1e-12)
    # the object's own phase is smooth: the low-resolution one is close to it
    seen = x.abs() > 0.3
    error = torch.angle(phase[0] * x.conj())[seen]
    assert float(error.square().mean().sqrt()) < 0.02


def test_low_resolution_phase_refuses_maps_of_another_shape():
    kspace, maps, _ = phantom((16, 18), 3)
    with pytest.raises(DataError, match="coil_maps"):
        low_resolution_phase(kspace[None], maps[None, :2])
    with pytest.raises(DataError, match="coil_maps"):
        low_resolution_phase(kspace[None], maps[None].real)


def test_a_single_coil_sees_everything_with_weight_one():
    kspace, _, _ = phantom((16, 18), 1)
    maps = estimate_coil_maps(kspace[None])
    torch.testing.assert_close(maps.abs(), torch.ones(1, 1, 16, 18, dtype=torch.float64))
    folded = estimate_coil_maps(kspace[None], fold_phase=True)
    torch.testing.assert_close(folded.abs(), torch.ones(1, 1, 16, 18, dtype=torch.float64))


def test_every_scan_of_a_stack_is_its_own_problem():
    first, second = phantom((20, 22), 4)[0], phantom((20, 22), 4, phase=False)[0].flip(1)
    both = estimate_coil_maps(torch.stack([first, second]))
    torch.testing.assert_close(both[1], estimate_coil_maps(second[None])[0], rtol=0, atol=1e-12)
    assert both.dtype == torch.complex128
    assert estimate_coil_maps(first[None].cfloat()).dtype == torch.complex64


def test_scale_of_the_data_does_not_matter():
    kspace = phantom((20, 22), 4)[0][None]
    torch.testing.assert_close(
        estimate_coil_maps(1e-9 * kspace, fold_phase=True),
        estimate_coil_maps(kspace, fold_phase=True),
        rtol=0, atol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"calibration": 40}, "at most the fully sampled"),
        ({"calibration": (8, 8, 8)}, "2 widths"),
        ({"calibration": 4}, "kernel width 5"),
        ({"mask": torch.ones(5, 5)}, "mask"),
    ],
)
def test_refusals(arguments, text):
    kspace = phantom((20, 22), 4)[0][None]
    with pytest.raises(DataError, match=text):
        estimate_coil_maps(kspace, **arguments)


def test_refuses_real_and_non_finite_data():
    kspace = phantom((20, 22), 4)[0][None]
    with pytest.raises(DataError, match="complex tensor"):
        estimate_coil_maps(to_channels(kspace))
    kspace[0, 0, 3, 3] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        estimate_coil_maps(kspace)


@pytest.mark.parametrize("width", [32, 10])
def test_support_covers_the_object_and_little_else(width):
    kspace, _, x = phantom((64, 64), 6)
    g = torch.Generator().manual_seed(4)
    kspace = kspace + 0.02 * torch.randn(kspace.shape, dtype=torch.complex128, generator=g)
    mask = lines((64, 64), width, 4)
    support = sensitivity_support(kspace[None] * mask, mask)[0]
    inside = x.abs() > 0.3
    assert bool(support[inside].all())
    # corners of the field of view hold nothing
    corner = torch.zeros(64, 64, dtype=torch.bool)
    for rows in (slice(0, 6), slice(-6, None)):
        for columns in (slice(0, 6), slice(-6, None)):
            corner[rows, columns] = True
    assert not bool((support & corner).any())


@pytest.mark.data
def test_rectangular_calibration_is_better_on_a_real_scan(real_data):
    with h5py.File(real_data / "mri_brain16ch_fastmri.h5") as file:
        kspace = torch.from_numpy(file["kspace"][:1])
    kspace = kspace / kspace.abs().max()
    images = torch.fft.ifftn(torch.fft.ifftshift(kspace, dim=(2, 3)), dim=(2, 3), norm="ortho")
    truth = torch.fft.fftshift(images, dim=(2, 3))[0].norm(dim=0)
    seen = sensitivity_support(kspace)[0]
    mask = torch.zeros(128, 128)
    mask[:, 56:72] = 1  # 16 calibration lines and 16 others: R = 4
    mask[:, torch.cat([torch.arange(0, 56, 7), torch.arange(72, 128, 7)])] = 1
    undersampled = kspace * mask

    def error(**arguments):
        maps = estimate_coil_maps(undersampled, mask=mask, fold_phase=True, **arguments)
        physics = CartesianMRI((128, 128), mask, maps)
        start = physics.A_adjoint(to_channels(undersampled))
        x, _ = conjugate_gradient(
            lambda v: physics.normal(v) + 0.01 * v, start, max_iter=40, tol=1e-5
        )
        difference = x.norm(dim=1)[0] - truth
        return float(difference[seen].norm() / truth[seen].norm())

    rectangle, square = error(), error(calibration=16)
    assert rectangle < square
    assert rectangle < 0.15
