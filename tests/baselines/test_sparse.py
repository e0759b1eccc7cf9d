"""Wavelets against PyWavelets, and the minimiser against a dense ISTA run far."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch

from sciinv.baselines import l1_wavelet, wavelet
from sciinv.errors import DataError


@pytest.mark.parametrize(("shape", "levels"), [((32, 48), 2), ((16, 8), 1), ((16, 16, 32), 1)])
def test_transform_is_orthogonal(shape, levels):
    assert wavelet.levels_for(shape) >= levels
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((2, 2, *shape), generator=generator, dtype=torch.float64)
    c = wavelet.forward(x, levels)
    torch.testing.assert_close(wavelet.inverse(c, levels), x)
    z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    assert float((c * z).sum()) == pytest.approx(float((x * wavelet.inverse(z, levels)).sum()))
    assert float(c.norm()) == pytest.approx(float(x.norm()))


def test_filter_is_daubechies_4():
    x = np.random.default_rng(0).normal(size=(32, 16))
    coarse, (dh, dv, dd) = pywt.dwt2(x, "db4", mode="periodization")
    # PyWavelets starts its periodic grid 3 samples earlier
    c = wavelet.forward(torch.as_tensor(np.roll(x, (3, 3), (0, 1)))[None, None], 1)[0, 0].numpy()
    bands = ((c[:16, :8], coarse), (c[16:, :8], dh), (c[:16, 8:], dv), (c[16:, 8:], dd))
    for mine, theirs in bands:
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-10)


def test_four_vanishing_moments():
    n = torch.arange(64, dtype=torch.float64)
    for power in range(4):
        x = (n / 64) ** power
        c = wavelet.forward(x.expand(1, 1, 4, 64), 1)  # axis of 4 samples stays untransformed
        assert float(c[0, 0, 0, 32:60].abs().max()) < 1e-10  # the last ones see the wrap
    c = wavelet.forward(((n / 64) ** 4).expand(1, 1, 4, 64), 1)
    assert float(c[0, 0, 0, 32:60].abs().max()) > 1e-9


def _dense_transform(shape, channels, levels):
    n = channels * int(np.prod(shape))
    eye = torch.eye(n, dtype=torch.float64).reshape(n, channels, *shape)
    return wavelet.forward(eye, levels).reshape(n, n).T


@pytest.mark.parametrize(("shape", "channels"), [((16, 16), 1), ((16, 16), 2), ((17, 19), 1)])
def test_matches_dense_ista(random_problem, shape, channels):
    physics, y = random_problem(shape, channels=channels, fraction=0.8, seed=2)
    lam, levels = 0.05, 1
    big = wavelet.padded_shape(shape, levels)
    w = _dense_transform(big, channels, levels)
    inside = torch.zeros(big)
    inside[: shape[0], : shape[1]] = 1
    keep = inside.flatten().bool().repeat(channels)
    m = physics.matrix[0] @ w.T[keep]  # measurement of coefficients
    step = 1 / torch.linalg.matrix_norm(m, 2) ** 2
    penalised = torch.ones(big)
    penalised[: big[0] // 2, : big[1] // 2] = 0
    penalised = penalised.flatten().bool()
    c = torch.zeros(m.shape[1], dtype=torch.float64)
    gram, b = m.T @ m, m.T @ y[0]
    for _ in range(6000):
        v = (c - step * (gram @ c - b)).reshape(channels, -1)
        size = v.square().sum(0).sqrt()
        shrink = 1 - step * lam / size.clamp_min(step * lam)
        new = (v * torch.where(penalised, shrink, 1.0)).flatten()
        if (new - c).abs().max() < 1e-10:
            break
        c = new
    truth = (w.T @ c)[keep].reshape(1, channels, *shape)
    x = l1_wavelet(y, physics, lam=lam, levels=levels, max_iter=5000, tol=1e-9)
    torch.testing.assert_close(x, truth, rtol=0, atol=1e-6)


def test_shifts_are_reproducible_and_remove_no_data(random_problem):
    physics, y = random_problem((16, 16), fraction=1.5)
    runs = [
        l1_wavelet(y, physics, lam=0.02, max_iter=60, generator=torch.Generator().manual_seed(4))
        for _ in range(2)
    ]
    assert torch.equal(*runs)
    plain = l1_wavelet(y, physics, lam=0.02, max_iter=60)
    assert not torch.equal(plain, runs[0])
    assert float((physics.A(runs[0]) - y).norm()) < 1.2 * float((physics.A(plain) - y).norm())


def test_rows_do_not_see_each_other(random_problem):
    physics, y = random_problem((16, 16), rows=2, matrices=2)
    together = l1_wavelet(y, physics, lam=0.05)
    for row in range(2):
        index = torch.tensor([row])
        alone = l1_wavelet(y[index], physics.rows(index), lam=0.05)
        torch.testing.assert_close(together[index], alone, rtol=1e-9, atol=1e-9)


def test_refusals(random_problem):
    physics, y = random_problem((16, 16))
    with pytest.raises(DataError, match="levels: found 4, expected 1 to 1"):
        l1_wavelet(y, physics, lam=1.0, levels=4)
    with pytest.raises(DataError, match="lam"):
        l1_wavelet(y, physics, lam=-1.0)
