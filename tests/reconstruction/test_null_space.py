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
from sciinv.reconstruction.null_space import null_space, null_space_part
from sciinv.reconstruction.run import reconstruct

from .conftest import FAST, ct, disc, mri

LINEAR = ("CartesianMRI, several coils", "NonCartesianMRI", "ParallelBeamCT", "FanBeamCT",
          "whiten(ParallelBeamCT)")  # fmt: skip


def dense(physics, shape) -> np.ndarray:
    """The matrix of a small operator."""
    basis = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    return physics.A(basis).flatten(1).numpy().T


@pytest.mark.parametrize("name", LINEAR)
def test_regularised_pseudo_inverse(name):
    physics, shape = example(name).double(), image_size(name)
    matrix = dense(physics, shape)
    x = torch.randn((1, *shape), generator=torch.Generator().manual_seed(1)).double()
    top = np.linalg.norm(matrix, 2)
    for ratio in (0.3 * top, 0.02 * top):
        u, s, vt = np.linalg.svd(matrix)
        s = np.pad(s, (0, vt.shape[0] - s.size))
        kept = vt.T @ (ratio**2 / (s**2 + ratio**2) * (vt @ x.numpy().ravel()))
        found = null_space_part(physics, x, ratio, tol=1e-9, max_iter=500)
        np.testing.assert_allclose(found.numpy().ravel(), kept, atol=1e-5)
        assert 0.01 < np.linalg.norm(kept) / float(x.norm()) < 0.99


@pytest.mark.parametrize("name", LINEAR[:1] + LINEAR[2:3])
def test_projection_on_the_null_space_where_there_is_no_noise(name):
    physics, shape = example(name).double(), image_size(name)
    matrix = dense(physics, shape)
    s = np.linalg.svd(matrix, compute_uv=False)
    cut = 1e-5 * s[0]
    smallest = s[s > cut].min()
    x = torch.randn((1, *shape), generator=torch.Generator().manual_seed(1)).double()
    flat = x.numpy().ravel()
    expected = flat - np.linalg.pinv(matrix, rcond=1e-5) @ (matrix @ flat)
    found = null_space_part(physics, x, 0.003 * smallest, tol=1e-10, max_iter=2000)
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


def test_share_of_noise_and_of_unmeasured_lines():
    # all singular values are 1 or 0, so every number is known
    x = torch.randn((1, 2, 16, 12), generator=torch.Generator().manual_seed(2))
    rms = float(x.square().mean().sqrt())
    for level in (1e-4, 1.0, 3.0):
        model = single_coil(level * rms)
        measured = model.physics.A_adjoint_A(x)
        expected = 5 * (x - measured / (1 + level**2))
        found = null_space(model, x)
        assert found.shape == (16, 12) and found.dtype == np.complex64
        np.testing.assert_allclose(found.real, expected[0, 0], atol=2e-3)
        np.testing.assert_allclose(found.imag, expected[0, 1], atol=2e-3)


def test_masked_pixels_are_left_out():
    visible = np.zeros((16, 12), bool)
    visible[4:12, 3:9] = True
    x = torch.zeros(1, 2, 16, 12)
    x[..., 4:12, 3:9] = torch.randn((1, 2, 8, 6), generator=torch.Generator().manual_seed(2))
    found = null_space(single_coil(0.1, visible), x)
    assert (found[~visible] == 0).all() and (found[visible] != 0).all()
    # the noise is compared with the brightness of what is seen, not of the empty border too
    rms = float(x[..., torch.from_numpy(visible)].square().mean().sqrt())
    part = null_space_part(single_coil(0.1).physics, x, 0.1 / rms)[0].numpy()
    np.testing.assert_allclose(found.real[visible], 5 * part[0][visible], rtol=1e-4)
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
