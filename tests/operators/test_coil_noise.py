from __future__ import annotations

import numpy as np
import pytest
import torch

from sciinv.channels import to_channels, to_complex
from sciinv.data.noise import coil_noise
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import birdcage_maps
from sciinv.errors import DataError
from sciinv.operators import CartesianMRI, estimate_coil_maps
from sciinv.operators.coil_noise import (
    estimate_noise_covariance,
    mix_coils,
    noise_covariance,
    prewhiten,
    whitening_matrix,
)


def covariance(coils, seed=0, gains=1.0):
    """A random covariance with correlations of about a half between coils."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(coils, coils)) + 1j * rng.normal(size=(coils, coils))
    psi = a @ a.conj().T / coils + np.eye(coils)
    gain = np.broadcast_to(gains, coils)
    return torch.from_numpy(gain[:, None] * psi * gain[None])


def draw(psi, shape, seed=1):
    """Circular complex noise with covariance ``psi`` per real component."""
    g = torch.Generator().manual_seed(seed)
    pairs = torch.randn(psi.shape[0], *shape, 2, dtype=torch.float64, generator=g)
    white = torch.view_as_complex(pairs)
    return torch.einsum("ab,b...->a...", torch.linalg.cholesky(psi), white)


def centred_fft(x):
    axes = tuple(range(-2, 0))
    k = torch.fft.fftn(torch.fft.ifftshift(x, dim=axes), dim=axes, norm="ortho")
    return torch.fft.fftshift(k, dim=axes)


def test_covariance_of_a_noise_scan_is_per_real_component():
    psi = covariance(5)
    samples = 40000
    found = noise_covariance(draw(psi, (samples,)) + 3.0)  # an offset of the receiver is no noise
    # complex entries of a sample covariance have variance psi_aa psi_bb / samples
    d = psi.diagonal().real
    error = (found - psi).abs() / (d[:, None] * d[None] / samples).sqrt()
    assert float(error.max()) < 4.5
    assert float(error.square().mean()) == pytest.approx(1.0, abs=0.7)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_whitened_noise_is_white_with_unit_variance_per_real_component(dtype):
    psi = covariance(6, gains=10.0 ** np.arange(-3, 3))
    noise = draw(psi, (1, 200, 150)).to(dtype).movedim(0, 1)
    white, matrix = prewhiten(noise, psi)
    assert white.dtype == dtype and matrix.dtype == torch.complex128
    real = to_channels(white)[0].flatten(2).transpose(0, 1).reshape(12, -1).double()
    count = real.shape[1]
    sample = real @ real.T / count
    # standard error: 1 / sqrt(count) off the diagonal, sqrt(2) of that on it
    scale = torch.full((12, 12), count**-0.5, dtype=torch.float64)
    scale.fill_diagonal_((2 / count) ** 0.5)
    assert float(((sample - torch.eye(12)).abs() / scale).max()) < 4.5
    identity = matrix @ psi @ matrix.mH
    torch.testing.assert_close(identity, torch.eye(6, dtype=torch.complex128), rtol=0, atol=1e-12)


def test_a_matrix_for_every_scan():
    psi = torch.stack([covariance(3, 0), covariance(3, 1)])
    data = torch.stack([draw(psi[0], (4, 5)), draw(psi[1], (4, 5), 2)])
    both, matrices = prewhiten(data, psi)
    for index in range(2):
        one, matrix = prewhiten(data[index : index + 1], psi[index])
        torch.testing.assert_close(both[index], one[0], rtol=0, atol=1e-14)
        torch.testing.assert_close(matrices[index], matrix, rtol=0, atol=1e-14)


def test_sense_with_whitened_data_is_generalised_least_squares():
    shape, coils = (6, 5), 4
    maps = torch.from_numpy(birdcage_maps(coils, shape))[None]
    psi = covariance(coils, 3)
    mask = torch.zeros(shape, dtype=torch.float64)
    mask[:, ::2] = 1
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(*shape, 2)))
    x = torch.view_as_complex(x)
    kspace = (centred_fft(maps[0] * x) + draw(psi, shape))[None] * mask

    whitened, matrix = prewhiten(kspace, psi)
    physics = CartesianMRI(shape, mask, mix_coils(matrix, maps), dtype=torch.float64)
    basis = torch.eye(2 * x.numel(), dtype=torch.float64).reshape(-1, 2, *shape)
    normal = physics.normal(basis).flatten(1)
    right = physics.A_adjoint(to_channels(whitened)).flatten(1)
    found = to_complex(torch.linalg.solve(normal, right[0]).reshape(1, 2, *shape))[0]

    # dense, complex, with the inverse covariance between coils at every sampled position
    plain = CartesianMRI(shape, mask, maps, dtype=torch.float64)
    columns = to_complex(plain.A(basis[: x.numel()])).movedim(1, -1)[:, mask != 0]
    dense = columns.reshape(x.numel(), -1).T
    inverse = torch.linalg.inv(psi).contiguous()
    weight = torch.kron(torch.eye(int(mask.sum()), dtype=torch.complex128), inverse)
    data = kspace[0][:, mask != 0].T.reshape(-1)
    left = dense.mH @ weight
    expected = torch.linalg.solve(left @ dense, left @ data).reshape(shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    # and it is not the unweighted solution
    unweighted = torch.linalg.lstsq(dense, data[:, None]).solution.reshape(shape)
    assert float((found - unweighted).norm() / expected.norm()) > 1e-2


def test_maps_of_whitened_data_are_the_mixed_maps():
    shape = (32, 30)
    maps = torch.from_numpy(birdcage_maps(5, shape))[None]
    x = torch.from_numpy(shepp_logan(shape)).to(torch.complex128)
    kspace = centred_fft(maps * x)
    whitened, matrix = prewhiten(kspace, covariance(5, 4))
    mixed = mix_coils(matrix, maps)[0]
    found = estimate_coil_maps(whitened, threshold=1e-3)[0]
    overlap = (found.conj() * mixed).sum(0).abs() / mixed.norm(dim=0)
    # as exact as ESPIRiT is on the coils before mixing
    plain = estimate_coil_maps(kspace, threshold=1e-3)[0]
    before = (plain.conj() * maps[0]).sum(0).abs()
    seen = x.abs() > 0.1
    assert float((1 - overlap)[seen].mean()) < 3 * float((1 - before)[seen].mean()) + 1e-5


@pytest.mark.parametrize("accelerated", [False, True])
def test_covariance_from_the_outer_samples_of_a_scan(accelerated):
    shape, coils = (96, 96), 6
    maps = torch.from_numpy(birdcage_maps(coils, shape))
    x = torch.from_numpy(shepp_logan(shape)).to(torch.complex128)
    psi = covariance(coils, 5) * 0.1**2
    kspace = (centred_fft(maps * x) + draw(psi, shape))[None]
    if accelerated:
        mask = torch.zeros(shape)
        mask[:, ::3] = 1
        mask[:, 40:56] = 1
        kspace = kspace * mask
    found = estimate_noise_covariance(kspace)
    count = max(48, int((kspace[0] != 0).any(0).sum()) // 20)
    scale = psi.diagonal().real
    error = (found - psi).abs() / (scale[:, None] * scale[None]).sqrt()
    # Tyler's estimate has the sampling error of the Gaussian one times (coils + 1) / coils
    standard = (coils + 1) / coils / count**0.5
    assert float(error.max()) < 4.5 * standard
    # whitened by it the scan's noise is nearly white: eigenvalues of W psi W^H within the
    # Marchenko-Pastur spread of as many samples
    matrix = whitening_matrix(found)
    values = torch.linalg.eigvalsh(matrix @ psi @ matrix.mH)
    spread = (coils / count) ** 0.5 * (coils + 1) / coils
    assert float(values.min()) > (1 + 1.3 * spread) ** -2
    assert float(values.max()) < (1 - 1.3 * spread) ** -2


def test_level_of_pooled_scans_is_unbiased():
    coils, scans = 6, 20
    psi = covariance(coils, 7)
    kspace = draw(psi, (scans, 64, 64)).movedim(1, 0)
    found = estimate_noise_covariance(kspace)
    count = scans * (64 * 64 // 20)
    # of the median of a chi-squared variable with 2 coils degrees of freedom, relative
    standard = (torch.pi / 2 * 2 / (2 * coils) / count) ** 0.5
    level = torch.linalg.solve(psi, found).diagonal().real.mean()
    assert float(level) == pytest.approx(1.0, abs=4.5 * standard)
    assert 4.5 * standard < 0.04


def test_robust_against_signal_in_some_outer_samples():
    shape, coils = (64, 64), 4
    psi = covariance(coils, 6)
    clean = draw(psi, shape)[None]
    dirty = clean.clone()
    # a twentieth of the samples hold a signal far above the noise, one direction over the coils
    g = torch.Generator().manual_seed(3)
    hit = torch.rand(shape, generator=g) < 0.05
    direction = torch.tensor([1.0, -1.0j, 0.5, 0.2], dtype=torch.complex128)
    dirty[0, :, hit] += 100 * direction[:, None]
    plain, robust = estimate_noise_covariance(clean), estimate_noise_covariance(dirty)
    along = (direction / direction.norm()).conj()

    def level(matrix):
        return float((along @ matrix @ along.conj()).real)

    samples = dirty[0].flatten(1)
    naive = noise_covariance(samples)
    assert level(naive) > 100 * level(plain)
    # a share p of samples along one direction raises its variance by 1 / (1 - p coils) = 1.25, and
    # a little more through the median; other directions stay
    assert level(robust) < 2 * level(plain)
    other = torch.linalg.svd(along.conj()[:, None]).U[:, 1:]
    ratio = torch.linalg.eigvals(
        torch.linalg.solve(other.mH @ plain @ other, other.mH @ robust @ other)
    ).real
    assert 0.7 < float(ratio.min()) and float(ratio.max()) < 1.4


@pytest.mark.data
def test_real_scan_agrees_with_the_noise_level_of_each_coil(real_data):
    import h5py

    with h5py.File(real_data / "mri_brain16ch_fastmri.h5") as file:
        kspace = file["kspace"][:1] / np.abs(file["kspace"][:]).max()
    psi = estimate_noise_covariance(torch.from_numpy(kspace))
    expected = torch.from_numpy(coil_noise(kspace[0]))
    # 819 samples: two estimates of a standard deviation from them differ by a few per cent
    torch.testing.assert_close(psi.diagonal().real.sqrt(), expected, rtol=0.12, atol=0)
    correlation = psi / torch.outer(expected, expected)
    assert 0.2 < float((correlation - torch.diag(correlation.diagonal())).abs().max()) < 0.9


@pytest.mark.data
@pytest.mark.parametrize("name", ["brain16", "brain8"])
def test_real_noise_of_half_of_the_lines_whitens_the_other_half(real_data, name):
    if name == "brain16":
        import h5py

        with h5py.File(real_data / "mri_brain16ch_fastmri.h5") as file:
            kspace = torch.from_numpy(file["kspace"][:1])
    else:
        kspace = torch.from_numpy(np.load(real_data / "mri_brain8ch_poisson.npy"))[None]
    sampled = (kspace[0] != 0).any(0)
    even = (torch.arange(kspace.shape[2]) % 2 == 0)[:, None]
    first = estimate_noise_covariance(kspace, sampled & even)
    second = estimate_noise_covariance(kspace, sampled & ~even)
    matrix = whitening_matrix(first)
    values = torch.linalg.eigvalsh(matrix @ second @ matrix.mH)
    # two estimates of one covariance from T samples each: the eigenvalues of their ratio lie
    # within Wachter's law (Ann. Statist. 8, 1980); Tyler's estimate counts as T c / (c + 1)
    coils = kspace.shape[1]
    count = max(48, 8 * coils, int((sampled & even).sum()) // 20)
    y = (coils + 1) / count
    h = (2 * y - y * y) ** 0.5
    assert ((1 - h) / (1 - y)) ** 2 < float(values.min())
    assert float(values.max()) < ((1 + h) / (1 - y)) ** 2
    # without whitening they differ more
    spread = torch.linalg.eigvalsh(second)
    assert float(values[-1] / values[0]) < 0.7 * float(spread[-1] / spread[0])


def test_refuses_covariances_that_cannot_be_whitened():
    psi = covariance(4)
    singular = psi.clone()
    singular[3] = singular[1]
    singular[:, 3] = singular[:, 1]
    with pytest.raises(DataError, match=r"coils \[1, 3\] are combinations"):
        whitening_matrix(singular)
    indefinite = torch.tensor([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]]).to(psi)
    with pytest.raises(DataError, match="eigenvalue of the correlation -0.8.*positive definite"):
        whitening_matrix(indefinite)
    dead = psi.clone()
    dead[2] = dead[:, 2] = 0
    with pytest.raises(DataError, match=r"no noise in coil\(s\) \[2\]"):
        whitening_matrix(dead)
    with pytest.raises(DataError, match="not Hermitian"):
        whitening_matrix(psi + torch.triu(torch.ones(4, 4), 1))
    with pytest.raises(DataError, match="NaN"):
        whitening_matrix(psi * torch.nan)
    with pytest.raises(DataError, match=r"shape \(4, 3\)"):
        whitening_matrix(psi[:, :3])


def test_refuses_too_few_or_wrong_samples():
    with pytest.raises(DataError, match="31 samples of 8 coils"):
        noise_covariance(draw(covariance(8), (31,)))
    with pytest.raises(DataError, match=r"\(coils, samples\) is the order"):
        noise_covariance(draw(covariance(8), (500,)).T)
    with pytest.raises(DataError, match="complex tensor"):
        noise_covariance(torch.randn(4, 100))
    noise = draw(covariance(3), (100,))
    noise[1, 2] = torch.inf
    with pytest.raises(DataError, match="NaN or Inf"):
        noise_covariance(noise)
    with pytest.raises(DataError, match="144 sampled positions"):
        estimate_noise_covariance(draw(covariance(8), (12, 12))[None])
    kspace = draw(covariance(3), (32, 32))[None].clone()
    kspace[:, 1] = 0
    with pytest.raises(DataError, match=r"only zeros from coil\(s\) \[1\]"):
        estimate_noise_covariance(kspace)
    kspace[:, 1] = kspace[:, 0]
    with pytest.raises(DataError, match="combinations of each other"):
        prewhiten(kspace, estimate_noise_covariance(kspace))


def test_mixing_refuses_other_numbers_of_coils():
    with pytest.raises(DataError, match="fits the matrix"):
        mix_coils(torch.eye(3), torch.zeros(1, 4, 5, 5, dtype=torch.complex64))
    with pytest.raises(DataError, match="fits the matrix"):
        mix_coils(torch.eye(4), torch.zeros(1, 4, 5, 5))
