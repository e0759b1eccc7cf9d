from __future__ import annotations

import h5py
import pytest
import torch

from sciinv.channels import to_channels
from sciinv.errors import DataError
from sciinv.linalg import conjugate_gradient
from sciinv.operators import CartesianMRI, estimate_coil_maps, sensitivity_support
from sciinv.operators.coil_compression import compress_coils


def complex_normal(shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.view_as_complex(torch.randn(*shape, 2, dtype=torch.float64, generator=g))


def inverse_fft(k, dims):
    x = torch.fft.ifftn(torch.fft.ifftshift(k, dim=dims), dim=dims, norm="ortho")
    return torch.fft.fftshift(x, dim=dims)


def test_exact_when_the_coils_are_combinations_of_a_few():
    few, mixing = complex_normal((2, 3, 12, 10)), complex_normal((8, 3), 1)
    kspace = (mixing @ few.flatten(2)).reshape(2, 8, 12, 10)
    result = compress_coils(kspace, energy=1.0)
    assert result.coils == 3
    compressed, matrix = result
    back = (matrix.mH @ compressed.flatten(2)).reshape(kspace.shape)
    torch.testing.assert_close(back, kspace, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        result.energy, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_equals_the_truncated_singular_value_decomposition():
    kspace = complex_normal((2, 7, 9, 8)) * torch.arange(1, 8)[:, None, None]
    result = compress_coils(kspace, coils=4)
    for index in range(2):
        u, s, vh = torch.linalg.svd(kspace[index].flatten(1), full_matrices=False)
        truncated = (u[:, :4] * s[:4]) @ vh[:4]
        back = result.matrix[index].mH @ result.kspace[index].flatten(1)
        torch.testing.assert_close(back, truncated, rtol=0, atol=1e-10)
        share = (s[:4].square().sum() / s.square().sum()).item()
        assert float(result.energy[index]) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.97])
def test_takes_the_fewest_coils_that_hold_the_energy_in_every_scan(energy):
    kspace = complex_normal((2, 6, 8, 8)) * 0.6 ** torch.arange(6)[:, None, None]
    kspace[1] = complex_normal((6, 8, 8), 3)  # all coils alike: needs most of them
    result = compress_coils(kspace, energy=energy)
    needed = []
    for scan in kspace:
        s = torch.linalg.svdvals(scan.flatten(1)).square()
        needed.append(int((s.cumsum(0) / s.sum() >= energy).int().argmax()) + 1)
    assert result.coils == max(needed) and len(set(needed)) == 2
    assert float(result.energy.min()) >= energy
    assert f"6 coils compressed to {result.coils} virtual ones" in result.summary()


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_rows_are_orthonormal_so_noise_stays_white(axis):
    kspace = complex_normal((2, 6, 9, 8))
    matrix = compress_coils(kspace, coils=4, axis=axis).matrix
    identity = torch.eye(4, dtype=torch.complex128).expand(*matrix.shape[:-2], 4, 4)
    torch.testing.assert_close(matrix @ matrix.mH, identity, rtol=0, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_geometric_compression_is_the_decomposition_of_every_position(axis):
    kspace = complex_normal((1, 6, 10, 9)) * torch.arange(1, 7)[:, None, None]
    result = compress_coils(kspace, coils=3, axis=axis, window=1)
    hybrid = inverse_fft(kspace, (2 + axis,))[0].movedim(1 + axis, 0)
    compressed = inverse_fft(result.kspace, (2 + axis,))[0].movedim(1 + axis, 0)
    lost = 0.0
    for x, (data, small) in enumerate(zip(hybrid, compressed, strict=True)):
        u, s, vh = torch.linalg.svd(data, full_matrices=False)
        back = result.matrix[0, x].mH @ small
        torch.testing.assert_close(back, (u[:, :3] * s[:3]) @ vh[:3], rtol=0, atol=1e-10)
        lost += float(s[3:].square().sum())
    share = 1 - lost / float(kspace.abs().square().sum())
    assert float(result.energy[0]) == pytest.approx(share, abs=1e-12)
    # never less than one matrix for all positions holds
    assert share > float(compress_coils(kspace, coils=3).energy[0])


def test_aligned_matrices_turn_smoothly():
    # subspaces that turn slowly along the readout, in an arbitrary basis at every position
    positions, coils = 40, 5
    generator = complex_normal((coils, coils), 4)
    generator = 0.5 * (generator - generator.mH)
    base = torch.linalg.qr(complex_normal((coils, 2), 5)).Q
    hybrid = torch.stack(
        [
            torch.matrix_exp(generator * x / positions) @ base @ complex_normal((2, 30), 10 + x)
            for x in range(positions)
        ],
        dim=1,
    )
    kspace = torch.fft.fftshift(
        torch.fft.fft(torch.fft.ifftshift(hybrid, dim=1), dim=1, norm="ortho"), dim=1
    )[None]
    matrix = compress_coils(kspace, coils=2, axis=0, window=1).matrix[0]
    step = (matrix[1:] - matrix[:-1]).norm(dim=(-2, -1))
    # no closer than the subspaces themselves: the best rotation leaves 2 sum (1 - cos angle)
    cosines = torch.linalg.svdvals(matrix[1:] @ matrix[:-1].mH)
    best = (2 * (1 - cosines).sum(-1)).clamp_min(0).sqrt()
    torch.testing.assert_close(step, best, rtol=0, atol=1e-6)
    assert float(step.max()) < 0.2  # unaligned bases jump by up to 2


def test_compressed_maps_give_the_compressed_data():
    kspace = complex_normal((1, 6, 8, 10))
    for axis in (None, 0, 1):
        result = compress_coils(kspace, coils=3, axis=axis)
        images = inverse_fft(kspace, (2, 3))
        torch.testing.assert_close(
            result.apply(images), inverse_fft(result.kspace, (2, 3)), rtol=0, atol=1e-12
        )


def test_unsampled_positions_stay_zero():
    mask = torch.zeros(12, 10)
    mask[:, ::3] = 1
    kspace = complex_normal((2, 5, 12, 10)) * mask
    for axis in (None, 0):
        compressed, _ = compress_coils(kspace, coils=3, axis=axis)
        assert not bool(compressed[..., mask == 0].any())
        explicit, _ = compress_coils(
            kspace + 5 * (1 - mask), coils=3, axis=axis, mask=mask
        )  # what lies outside of the mask is not data
        torch.testing.assert_close(explicit, compressed, rtol=0, atol=1e-12)


def test_volumes_and_single_precision():
    kspace = complex_normal((1, 5, 6, 8, 7)).cfloat()
    for axis in (None, 1):
        result = compress_coils(kspace, coils=5, axis=axis)
        assert result.kspace.dtype == torch.complex64
        rss = inverse_fft(result.kspace, (2, 3, 4)).norm(dim=1)
        torch.testing.assert_close(rss, inverse_fft(kspace, (2, 3, 4)).norm(dim=1))


@pytest.mark.data
def test_real_brain_loses_less_than_one_percent(real_data):
    with h5py.File(real_data / "mri_brain16ch_fastmri.h5") as file:
        kspace = torch.from_numpy(file["kspace"][:1])
    kspace = kspace / kspace.abs().max()
    seen = sensitivity_support(kspace)[0]

    def image(data):
        maps = estimate_coil_maps(data, calibration=32)
        physics = CartesianMRI((128, 128), None, maps)
        x, _ = conjugate_gradient(
            lambda v: physics.normal(v) + 0.01 * v,
            physics.A_adjoint(to_channels(data)),
            max_iter=20,
            tol=1e-5,
        )
        return x.norm(dim=1)[0][seen]

    full = image(kspace)
    loss = {}
    for axis in (None, 0):
        compressed, matrix = compress_coils(kspace, coils=8, axis=axis)
        assert compressed.shape[1] == 8 and matrix.shape[-2:] == (8, 16)
        loss[axis] = float((image(compressed) - full).norm() / full.norm())
    assert loss[None] < 0.01
    assert loss[0] < 0.5 * loss[None]


def test_refusals():
    kspace = complex_normal((1, 4, 8, 8))
    with pytest.raises(ValueError, match="coils: found 5.*energy: found 0"):
        compress_coils(kspace, coils=5, energy=0)
    with pytest.raises(ValueError, match="axis: found 2.*window: found 4"):
        compress_coils(kspace, axis=2, window=4)
    mask = torch.ones(8, 8)
    mask[:, 3] = 0
    with pytest.raises(DataError, match="lines along axis 1 sampled in part"):
        compress_coils(kspace, axis=1, mask=mask)
    with pytest.raises(DataError, match="scan of zeros"):
        compress_coils(torch.zeros_like(kspace))
    with pytest.raises(DataError, match="complex tensor"):
        compress_coils(to_channels(kspace))
    with pytest.raises(DataError, match="fits the matrices"):
        compress_coils(kspace, coils=2).apply(kspace[:, :3])
