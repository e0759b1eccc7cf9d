"""PSNR, NRMSE and SSIM against hand values and an independent implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from sciinv.errors import DataError
from sciinv.metrics import magnitude, nrmse, psnr, ssim


def test_psnr_and_nrmse_by_hand():
    reference = np.array([[3.0, 4.0], [0.0, 0.0]])
    image = reference + np.array([[0.1, -0.1], [0.1, 0.5]])
    mask = np.array([[1, 1], [1, 0]])
    assert psnr(image, reference, data_range=2.0, mask=mask) == pytest.approx(
        20 * math.log10(2.0 / 0.1)
    )
    assert nrmse(image, reference, mask=mask) == pytest.approx(0.1 * math.sqrt(3) / 5)
    assert psnr(reference, reference, data_range=1.0) == math.inf


def test_complex_values_are_compared_by_magnitude():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(16, 16)) + 1j * rng.normal(size=(16, 16))
    image = reference + 0.1 * rng.normal(size=(16, 16))
    turned = image * np.exp(1.3j)
    for metric in (psnr, ssim):
        plain = metric(np.abs(image), np.abs(reference), data_range=3.0)
        assert metric(turned, reference, data_range=3.0) == pytest.approx(plain)
    assert nrmse(turned, reference) == pytest.approx(nrmse(np.abs(image), np.abs(reference)))
    pair = torch.stack([torch.as_tensor(reference.real), torch.as_tensor(reference.imag)])[None]
    np.testing.assert_allclose(magnitude(pair, channel_axis=1)[0], np.abs(reference))
    signed = np.array([[-1.0, 2.0]])
    np.testing.assert_array_equal(magnitude(signed, channel_axis=0), signed[0])


@pytest.mark.parametrize("shape", [(31, 24), (11, 11), (13, 12, 14)])
def test_ssim_matches_torchmetrics(shape):
    rng = np.random.default_rng(1)
    reference = rng.uniform(size=shape) + 5.0
    image = reference + 0.2 * rng.normal(size=shape)
    _, theirs = structural_similarity_index_measure(
        torch.as_tensor(image)[None, None],
        torch.as_tensor(reference)[None, None],
        sigma=1.5,
        data_range=1.3,
        k1=0.01,
        k2=0.03,
        return_full_image=True,
    )
    # theirs has windows reflected at the edge as well: compare those that lie inside
    theirs = theirs[(0, 0, *(slice(5, -5),) * len(shape))].mean()
    assert ssim(image, reference, data_range=1.3) == pytest.approx(float(theirs), abs=1e-9)


def test_ssim_of_one_window_by_formula():
    rng = np.random.default_rng(2)
    a, b = rng.uniform(size=(2, 15, 15))
    r = np.arange(11) - 5
    w = np.exp(-(r[:, None] ** 2 + r[None] ** 2) / (2 * 1.5**2))
    w /= w.sum()
    mask = np.zeros((15, 15))
    mask[6, 8] = 1
    p, q = a[1:12, 3:14], b[1:12, 3:14]
    mp, mq = (w * p).sum(), (w * q).sum()
    vp, vq = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum()
    cov = (w * (p - mp) * (q - mq)).sum()
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
    assert ssim(a, b, data_range=1.0, mask=mask) == pytest.approx(value, rel=1e-9)


def test_ssim_of_equal_and_of_far_offset_images():
    x = np.random.default_rng(3).uniform(size=(20, 20))
    assert ssim(x, x, data_range=1.0) == pytest.approx(1.0, abs=1e-12)
    # large offsets must not cancel in the variances
    y = x[::-1]
    assert ssim(x + 1e7, y + 1e7, data_range=1.0) == pytest.approx(
        ssim(x + 1e5, y + 1e5, data_range=1.0), abs=1e-6
    )


def test_refusals():
    x = np.zeros((12, 12))
    with pytest.raises(DataError, match=r"image: found shape \(12, 12\), expected \(12, 13\)"):
        psnr(x, np.zeros((12, 13)), data_range=1.0)
    with pytest.raises(DataError, match="data_range"):
        psnr(x, x, data_range=0)
    with pytest.raises(DataError, match="only zeros"):
        nrmse(x, x)
    with pytest.raises(DataError, match="within 5 of the edge"):
        mask = np.zeros((12, 12))
        mask[0, 0] = 1
        ssim(x, x, data_range=1.0, mask=mask)
    with pytest.raises(DataError, match="at least 11"):
        ssim(x[:8], x[:8], data_range=1.0)
    with pytest.raises(DataError, match="1 NaN"):
        bad = x.copy()
        bad[0, 0] = np.nan
        psnr(bad, x, data_range=1.0)
    with pytest.raises(DataError, match="no pixel"):
        psnr(x, x, data_range=1.0, mask=x)
