"""The null-space part of an image: against dense pseudo-inverses, and in results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.operators import CartesianMRI
from sciinv.operators.examples import example, image_size
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.null_space import null_space, null_space_part, spectrum
from sciinv.reconstruction.run import reconstruct

from .conftest import FAST, ct, disc, mri

LINEAR = ("CartesianMRI, several coils", "NonCartesianMRI", "ParallelBeamCT", "FanBeamCT",
          "whiten(ParallelBeamCT)")  # fmt: skip


def dense(physics, shape) -> np.ndarray:
    """The matrix of a small operator."""
    basis = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    return physics.A(basis).flatten(1).numpy().T


def convolution(power: torch.Tensor, channels: int) -> np.ndarray:
    """The matrix of a convolution with a real symmetric transform, the same for every channel."""
    n = power.numel()
    basis = torch.eye(n, dtype=torch.float64).reshape(n, *power.shape)
    axes = tuple(range(1, basis.ndim))
    made = torch.fft.ifftn(torch.fft.fftn(basis, dim=axes) * power, dim=axes).real
    return np.kron(np.eye(channels), made.flatten(1).numpy().T)


@pytest.mark.parametrize("name", LINEAR)
def test_regularised_pseudo_inverse(name):
    physics, shape = example(name).double(), image_size(name)
    matrix = dense(physics, shape)
    x = torch.randn((1, *shape), generator=torch.Generator().manual_seed(1)).double()
    # a spectrum that falls by a hundred
    at = torch.stack(torch.meshgrid(*[torch.fft.fftfreq(n) for n in shape[1:]], indexing="ij"))
    power = torch.exp(-6 * at.double().square().sum(0).sqrt())
    top = np.linalg.norm(matrix, 2)
    for sigma in (0.3 * top, 0.02 * top):
        gram = matrix.T @ matrix
        prior = sigma**2 * convolution(1 / power, shape[0])
        kept = x.numpy().ravel() - np.linalg.solve(gram + prior, gram @ x.numpy().ravel())
        found = null_space_part(physics, x, sigma, power, tol=1e-10, max_iter=500)
        np.testing.assert_allclose(found.numpy().ravel(), kept, atol=1e-5)
        assert 0.01 < np.linalg.norm(kept) / float(x.norm()) < 0.99


# tomography computes in float32: without noise its rounding would pass for signal
@pytest.mark.parametrize("name", ["CartesianMRI, one coil", "CartesianMRI, several coils"])
def test_projection_on_the_null_space_where_there_is_no_noise(name):
    physics, shape = example(name).double(), image_size(name)
    matrix = dense(physics, shape)
    s = np.linalg.svd(matrix, compute_uv=False)
    smallest = s[s > 1e-5 * s[0]].min()
    x = torch.randn((1, *shape), generator=torch.Generator().manual_seed(1)).double()
    flat = x.numpy().ravel()
    expected = flat - np.linalg.pinv(matrix, rcond=1e-5) @ (matrix @ flat)
    even = torch.ones(shape[1:], dtype=torch.float64)
    found = null_space_part(physics, x, 0.003 * smallest, even, tol=1e-10, max_iter=2000)
    np.testing.assert_allclose(found.numpy().ravel(), expected, atol=1e-4)
    # nothing of it can be measured
    assert float(physics.A(found).norm()) < 1e-4 * float(physics.A(x).norm())


def single_coil(sigma: float, visible=None) -> Model:
    """Every second line of the Fourier transform of 16 x 12 pixels, no coil maps."""
    mask = torch.zeros(16, 12)
    mask[:, ::2] = 1
    physics = CartesianMRI((16, 12), mask=mask, noise_model=GaussianNoise(sigma))
    y = torch.zeros(1, *physics.measurement_shape)
    seen = np.ones((16, 12), bool) if visible is None else visible
    return Model(y, physics, 5.0, sigma, sigma, 0.0, (16, 12), seen)


def fourier(x: torch.Tensor) -> torch.Tensor:
    """Centred transform of the complex image, as the operator's."""
    z = torch.fft.ifftshift(torch.complex(x[0, 0], x[0, 1]))
    return torch.fft.fftshift(torch.fft.fftn(z, norm="ortho"))


def test_share_of_unmeasured_lines_and_of_noise():
    # a mask in the Fourier domain commutes with the spectrum, so every number is known
    x = torch.randn((1, 2, 16, 12), generator=torch.Generator().manual_seed(2))
    for sigma in (1e-3, 0.5, 2.0):
        model = single_coil(sigma)
        power = torch.fft.fftshift(spectrum(x))
        mask = torch.zeros(16, 12)
        mask[:, ::2] = 1
        expected = 5 * fourier(x) * (1 - mask * power / (power + sigma**2))
        found = null_space(model, x)
        assert found.shape == (16, 12) and found.dtype == np.complex64
        part = torch.from_numpy(found)
        transformed = fourier(torch.stack([part.real, part.imag])[None])
        np.testing.assert_allclose(transformed, expected, atol=5e-3)


def test_spectrum_is_that_of_the_image():
    x = torch.randn((1, 2, 64, 48), generator=torch.Generator().manual_seed(3))
    # white noise of level 1 is 1 at every frequency; shells hold 8 frequencies and more
    found = spectrum(3 * x)
    assert found.shape == (64, 48)
    assert float(found[8:-8, 8:-8].sub(9).abs().max()) < 9 * 0.5
    np.testing.assert_allclose(found.mean(), (9 * x.square()).mean(), rtol=1e-4)
    np.testing.assert_allclose(spectrum(x, 0.25), 4 * spectrum(x), rtol=1e-5)


def test_masked_pixels_are_left_out():
    visible = np.zeros((16, 12), bool)
    visible[4:12, 3:9] = True
    x = torch.zeros(1, 2, 16, 12)
    x[..., 4:12, 3:9] = torch.randn((1, 2, 8, 6), generator=torch.Generator().manual_seed(2))
    found = null_space(single_coil(0.1, visible), x)
    assert (found[~visible] == 0).all() and (found[visible] != 0).all()
    # the noise is compared with the power of what is seen, not of the empty border too
    part = null_space_part(single_coil(0.1).physics, x, 0.1, spectrum(x, 0.25))[0].numpy()
    np.testing.assert_allclose(found.real[visible], 5 * part[0][visible], atol=1e-5)
    assert not null_space(single_coil(0.1), torch.zeros_like(x)).any()


def test_nothing_is_claimed_where_phases_are_not_measured():
    model = replace(single_coil(0.1), physics=example("FourierPhaseRetrieval"))
    assert null_space(model, torch.ones(1, 1, 8, 8)) is None


def test_results_of_fewer_data_owe_more_to_the_prior():
    shares = []
    for acceleration in (1.0, 4.0):
        result = reconstruct(
            mri(disc(), acceleration=acceleration, calibration_lines=6, noise_std=0.02),
            calibrate=False, **FAST,
        )  # fmt: skip
        assert result.null_space.shape == result.mean.shape
        assert result.stats["timings"]["null space"] >= 0
        # parts of one image: what the data fix is orthogonal to the rest up to the noise level
        assert 0 < result.prior_share < 1
        shares.append(result.prior_share)
    assert shares[1] > 2 * shares[0]
    tomograms = [
        reconstruct(ct(0.02 * disc(), num_angles=n), calibrate=False, **FAST) for n in (6, 60)
    ]
    assert tomograms[0].null_space.dtype == np.float32
    assert tomograms[0].prior_share > 2 * tomograms[1].prior_share
