"""The classical methods on the package's own MRI and CT operators."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciinv.baselines import (
    cg_sense,
    fbp,
    l1_wavelet,
    sirt,
    solve_tv,
    tv_lambda,
    wavelet_lambda,
    zero_filled,
)
from sciinv.errors import DataError, IncompatibleError
from sciinv.operators import CartesianMRI, ParallelBeamCT


def _disc(n, radius, centre=(0.0, 0.0)):
    r = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    return ((r[:, None] - centre[0]) ** 2 + (r[None] - centre[1]) ** 2 <= radius**2).double()


@pytest.fixture
def scanner():
    n = 32
    return ParallelBeamCT(
        (n, n),
        np.linspace(0, np.pi, 40, endpoint=False),
        num_detectors=48,
        detector_spacing=0.5,
        pixel_size=0.5,
        dtype=torch.float64,
    )


@pytest.fixture
def coils():
    generator = torch.Generator().manual_seed(0)
    n, count = 32, 4
    r = torch.linspace(-1, 1, n, dtype=torch.float64)
    maps = []
    for k in range(count):
        a = 2 * math.pi * k / count
        size = torch.exp(-((r[:, None] - math.cos(a)) ** 2 + (r[None] - math.sin(a)) ** 2) / 2)
        maps.append(torch.polar(size, a + r[:, None] * r[None]))
    maps = torch.stack(maps)
    maps = maps / maps.abs().square().sum(0).sqrt()
    mask = torch.zeros(n, n, dtype=torch.float64)
    mask[:, ::2] = 1
    mask[:, 12:20] = 1
    physics = CartesianMRI((n, n), mask, maps)
    truth = torch.zeros(1, 2, n, n, dtype=torch.float64)
    truth[0, 0] = _disc(n, 11) - 0.5 * _disc(n, 4, (3, 3))
    truth[0, 1] = 0.3 * _disc(n, 6, (-3, 2))
    noise = torch.randn(physics.A(truth).shape, generator=generator, dtype=torch.float64)
    sigma = 0.05
    y = physics.A(truth) + sigma * noise * physics.measurement_mask
    return physics, y, truth, sigma


def test_zero_filled_is_exact_when_everything_is_sampled(coils):
    physics, _, truth, _ = coils
    full = CartesianMRI((32, 32), None, physics.coil_maps[0])
    torch.testing.assert_close(zero_filled(full.A(truth), full), truth)
    y = physics.A(truth)
    torch.testing.assert_close(zero_filled(y, physics), physics.A_adjoint(y))


def test_zero_filled_and_fbp_refuse_the_other_modality(scanner, coils):
    with pytest.raises(IncompatibleError, match="use sciinv.baselines.fbp"):
        zero_filled(torch.zeros(1, *scanner.measurement_shape).double(), scanner)
    with pytest.raises(IncompatibleError, match="expected a CT operator"):
        fbp(coils[1], coils[0])


def test_cg_sense_matches_dense_solve_of_the_mri_operator():
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.complex128)
    mask = (torch.rand(2, 5, 4, generator=generator) > 0.4).double()
    physics = CartesianMRI((5, 4), mask, maps)
    y = torch.randn(2, 2, 3, 5, 4, generator=generator, dtype=torch.float64)
    y = y * physics.measurement_mask
    x = cg_sense(y, physics, lam=0.01, tol=1e-12, max_iter=400)
    for row in range(2):
        one = physics.rows(torch.tensor([row]))
        eye = torch.eye(40, dtype=torch.float64).reshape(40, 2, 5, 4)
        m = one.A(eye).reshape(40, -1).T
        weight = 0.01 * torch.linalg.matrix_norm(m, 2) ** 2
        truth = torch.linalg.solve(m.T @ m + weight * torch.eye(40), m.T @ y[row].flatten())
        # the norm is known to 1e-3 from below, and so is the weight
        torch.testing.assert_close(x[row].flatten(), truth, rtol=0, atol=1e-3)


def test_fbp_is_the_operator_s_own_and_quantitative(scanner):
    truth = 0.04 * _disc(32, 11)[None, None]
    y = scanner.A(truth)
    image = fbp(y, scanner)
    assert torch.equal(image, scanner.A_dagger(y))
    assert torch.equal(fbp(y, scanner, filter="hann"), scanner.A_dagger(y, filter="hann"))
    inside = _disc(32, 8)[None, None] > 0
    # 40 views of a 32-pixel disc: the mean inside is right to a per cent
    assert float(image[inside].mean()) == pytest.approx(0.04, rel=0.01)


def test_sirt_goes_to_the_attenuation(scanner):
    truth = 0.04 * _disc(32, 11, (1, 2))[None, None] + 0.02 * _disc(32, 3, (4, 4))[None, None]
    y = scanner.A(truth)
    errors = [
        float((sirt(y, scanner, iterations=k, nonneg=True) - truth).norm() / truth.norm())
        for k in (5, 25, 125)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    x = sirt(y, scanner, iterations=25, nonneg=True)
    assert float(x.min()) == 0.0


def test_tv_beats_the_linear_methods_in_mri(coils):
    physics, y, truth, sigma = coils
    x, info = solve_tv(y, physics, lam=tv_lambda(physics, sigma, 1.0))
    assert info.converged.all()

    def error(image):
        return float((image - truth).norm() / truth.norm())

    linear = min(error(cg_sense(y, physics, lam=lam)) for lam in (1e-3, 1e-2, 3e-2, 0.1))
    lam = wavelet_lambda(physics, sigma, 1.0)
    shifts = torch.Generator().manual_seed(0)
    sparse = error(l1_wavelet(y, physics, lam=lam, max_iter=60, generator=shifts))
    assert error(x) < 0.8 * linear
    assert sparse < 0.9 * linear


def test_tv_in_ct_with_few_views(scanner):
    few = ParallelBeamCT(
        (24, 24),
        np.linspace(0, np.pi, 12, endpoint=False),
        num_detectors=36,
        detector_spacing=0.5,
        pixel_size=0.5,
    )
    truth = 0.04 * _disc(24, 8)[None, None] - 0.03 * _disc(24, 3, (1, 2))[None, None]
    truth = truth.float()
    sigma = 0.002
    generator = torch.Generator().manual_seed(0)
    y = few.A(truth) + sigma * torch.randn((1, *few.measurement_shape), generator=generator)
    x, info = solve_tv(y, few, lam=tv_lambda(few, sigma, 0.04), nonneg=True, tol=5e-3)
    assert info.converged.all()
    assert float(x.min()) >= 0.0
    classical = min(
        float((image - truth).norm())
        for image in (fbp(y, few), *(sirt(y, few, iterations=k, nonneg=True) for k in (20, 100)))
    )
    assert float((x - truth).norm()) < 0.5 * classical


def test_default_weights_follow_the_units(coils, scanner):
    physics, _, _, sigma = coils
    lam = tv_lambda(physics, sigma, 1.0)
    # mean diagonal of A^T A: the sampled fraction, for normalised maps; 4 probes
    share = float(physics.mask.mean())
    assert lam == pytest.approx(0.4 * sigma * math.sqrt(share), rel=0.05)
    assert tv_lambda(physics, 3 * sigma, 3.0) == pytest.approx(3 * lam)
    loud = CartesianMRI((32, 32), physics.mask, 10 * physics.coil_maps[0])
    assert tv_lambda(loud, 10 * sigma, 1.0) == pytest.approx(100 * lam)
    assert tv_lambda(physics, 1e-9, 2.0) == pytest.approx(2e-4 * share, rel=0.1)
    with pytest.raises(DataError, match="sigma=0"):
        wavelet_lambda(scanner, 0, 1.0)
