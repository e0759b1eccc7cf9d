"""HaarPSI against deepinv's implementation, and what it must satisfy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deepinv.loss.metric import HaarPSI

from sciinv.errors import DataError
from sciinv.metrics import haarpsi


def pictures(shape, noise, seed=0):
    rng = np.random.default_rng(seed)
    reference = rng.uniform(size=shape).astype(np.float32)
    reference[: shape[0] // 4] = 0.3  # a flat part
    image = reference + noise * rng.normal(size=shape)
    return np.clip(image, 0, 1).astype(np.float32), reference


@pytest.mark.parametrize("shape", [(32, 32), (37, 50), (16, 16)])
@pytest.mark.parametrize(("c", "alpha"), [(30.0, 4.2), (5.0, 4.9)])
def test_haarpsi_matches_deepinv(shape, c, alpha):
    image, reference = pictures(shape, 0.1)
    theirs = HaarPSI(C=c, alpha=alpha)(
        torch.as_tensor(image)[None, None], torch.as_tensor(reference)[None, None]
    )
    # theirs is in single precision
    ours = haarpsi(image, reference, data_range=1.0, c=c, alpha=alpha)
    assert ours == pytest.approx(float(theirs), abs=1e-5)


def test_haarpsi_falls_with_noise_and_blur_and_does_not_see_a_scale():
    image, reference = pictures((48, 40), 0.05)
    worse, _ = pictures((48, 40), 0.2)
    value = haarpsi(image, reference, data_range=1.0)
    assert haarpsi(reference, reference, data_range=1.0) == pytest.approx(1.0)
    assert haarpsi(worse, reference, data_range=1.0) < value - 0.1
    assert haarpsi(reference, image, data_range=1.0) == pytest.approx(value)
    assert haarpsi(7 * image, 7 * reference, data_range=7.0) == pytest.approx(value)
    smooth = (reference + np.roll(reference, 1, 0) + np.roll(reference, -1, 0)) / 3
    assert haarpsi(smooth, reference, data_range=1.0) < 0.9
    turned = image * np.exp(0.7j)
    assert haarpsi(turned, reference, data_range=1.0) == pytest.approx(value)
    assert haarpsi(np.zeros((16, 16)), np.zeros((16, 16)), data_range=1.0) == 1.0


@pytest.mark.parametrize("shape", [(15, 40), (20, 20, 20)])
def test_haarpsi_refuses_what_is_no_picture(shape):
    with pytest.raises(DataError, match="2 axes of at least 16"):
        haarpsi(np.zeros(shape), np.zeros(shape), data_range=1.0)
    with pytest.raises(DataError, match="data_range"):
        haarpsi(np.zeros((16, 16)), np.zeros((16, 16)), data_range=0.0)
