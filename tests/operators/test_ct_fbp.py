"""Filtered back-projection and the field of view, against analytic discs and definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciinv.operators.ct import ParallelBeamCT
from sciinv.operators.ct_geometry import ParallelGeometry
from sciinv.operators.filters import FILTERS, ramp_response

MU, RADIUS, CENTRE = 0.02, 18.0, (10.0, -14.0)
KW = {"num_detectors": 220, "detector_spacing": 0.4, "pixel_size": 0.5, "axis_shift": 2.7}


def disc_scan(theta, **change):
    """Operator, exact sinogram of the disc, and masks well inside and well outside of it."""
    op = ParallelBeamCT((140, 130), theta, **{**KW, **change})
    g = op.geometry
    t = np.asarray(g.angles)[:, None]
    s = g.u()[None] - g.axis_shift - CENTRE[0] * np.cos(t) - CENTRE[1] * np.sin(t)
    y = torch.from_numpy(2 * MU * np.sqrt(np.clip(RADIUS**2 - s**2, 0, None)))[None, None]
    r = torch.from_numpy(np.hypot(g.x()[None] - CENTRE[0], g.y()[:, None] - CENTRE[1]))
    return op, y, r < RADIUS - 3, (r > RADIUS + 3) & op.field_of_view_mask()


EVEN = np.arange(180) * math.pi / 180
ANGLES = {
    "half turn": EVEN,
    "half turn with both ends": np.linspace(0, math.pi, 181),
    "full turn": np.arange(360) * math.pi / 180,
    "shuffled, negative": np.random.default_rng(0).permutation(EVEN) - 7,
    "two densities": np.concatenate(
        [np.linspace(0, 1, 150, endpoint=False), np.linspace(1, math.pi, 90, endpoint=False)]
    ),
    "golden angle": np.mod(np.arange(200) * math.pi * (3 - math.sqrt(5)), 2 * math.pi),
}


@pytest.mark.parametrize("angles", ANGLES)
def test_a_disc_comes_back_with_its_value(angles):
    op, y, inside, outside = disc_scan(ANGLES[angles])
    x = op.A_dagger(y)[0, 0]
    assert float(x[inside].mean()) == pytest.approx(MU, rel=2e-3)
    assert float((x[inside] - MU).abs().max()) < 0.02 * MU
    assert abs(float(x[outside].mean())) < 0.002 * MU


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_keeps_the_value(name):
    op, y, inside, _ = disc_scan(EVEN)
    x = op.A_dagger(y, filter=name)[0, 0]
    assert float((x[inside] - MU).abs().max()) < 0.01 * MU


def test_filters_are_ordered_from_sharp_to_smooth():
    responses = [ramp_response(64, 0.4, name) for name in FILTERS]
    frequency = torch.arange(33, dtype=torch.float64) / 64 / 0.4
    # the band-limited ramp is |f| up to what truncating its kernel to 64 samples costs
    torch.testing.assert_close(responses[0][1:], frequency[1:], rtol=0, atol=0.01)
    assert responses[0][0] > 0  # not zero: that keeps the mean of the image
    for sharp, smooth in zip(responses, responses[1:], strict=False):
        assert bool((smooth[1:] < sharp[1:]).all())
    with pytest.raises(ValueError, match="hann"):
        ramp_response(64, 0.4, "hanning")


def test_wrong_sign_of_the_axis_shift_is_wrong():
    op, y, inside, _ = disc_scan(EVEN)
    wrong, *_ = disc_scan(EVEN, axis_shift=-KW["axis_shift"])
    assert float((wrong.A_dagger(y)[0, 0][inside] - MU).abs().max()) > 0.2 * MU
    assert float((op.A_dagger(y)[0, 0][inside] - MU).abs().max()) < 0.02 * MU


def test_missing_wedge_is_not_filled_with_the_edge_views():
    g = ParallelGeometry(4, 4, tuple(np.linspace(0, 2, 101)), 5, 1.0, 1.0)
    np.testing.assert_allclose(g.angular_weights(), 0.02, rtol=1e-9)


def test_angular_weights_are_voronoi_cells_of_half_a_turn():
    theta = np.array([0.0, 2.0, 0.5, math.pi, 1.0])  # 0 and pi are one view seen twice
    g = ParallelGeometry(4, 4, tuple(theta), 5, 1.0, 1.0)
    gap = math.pi - 2
    expected = [(0.5 + gap) / 4, (1 + gap) / 2, 0.5, (0.5 + gap) / 4, 0.75]
    np.testing.assert_allclose(g.angular_weights(), expected, rtol=1e-12)
    assert g.angular_weights().sum() == pytest.approx(math.pi, rel=1e-12)


def test_gradient_of_filtered_backprojection_is_its_transpose():
    op = ParallelBeamCT(
        (6, 5), [0.1, 0.9, 2.0], num_detectors=9, detector_spacing=1.0, pixel_size=1.0
    )
    y = torch.randn(
        (1, *op.measurement_shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()
    assert torch.autograd.gradcheck(op.A_dagger, (y,))


def test_field_of_view_is_the_scanned_disc():
    turn = np.arange(720) * math.pi / 360
    op = ParallelBeamCT(
        (2, 90, 100),
        turn,
        num_detectors=60,
        detector_spacing=1.0,
        pixel_size=1.0,
        axis_shift=5.0,
    )
    g = op.geometry
    mask = op.field_of_view_mask()
    assert mask.shape == (2, 90, 100)
    assert mask.dtype == torch.bool
    # over a full turn the short side of the detector, 30 - 5 mm, is the radius
    r = torch.from_numpy(np.hypot(g.x()[None], g.y()[:, None]))
    assert bool((mask[0][r < 24.99]).all())
    assert not bool(mask[1][r > 25.01].any())
    quarter = ParallelBeamCT(
        (90, 100), [0.0], num_detectors=60, detector_spacing=1.0, pixel_size=1.0, axis_shift=5.0
    )
    columns = torch.from_numpy((g.x() > -35) & (g.x() < 25))  # u = x + 5 within +-30
    assert torch.equal(quarter.field_of_view_mask(), columns.expand(90, 100))


def test_unknown_filter_is_refused():
    op, y, *_ = disc_scan([0.0, 1.0])
    with pytest.raises(ValueError, match="expected one of ramp"):
        op.A_dagger(y, filter="ram-lak")


# -- real scans --------------------------------------------------------------------------------
@pytest.mark.data
def test_tooth_has_its_rotation_axis_at_column_296(real_data):
    h5py = pytest.importorskip("h5py")
    with h5py.File(real_data / "ct_parallel_tooth.h5") as file:
        group = file["exchange"]
        data, white, dark = (group[name][:] for name in ("data", "data_white", "data_dark"))
        theta = np.deg2rad(group["theta"][:])
    white, dark = white.mean(0), dark.mean(0)
    sinogram = -np.log((data - dark) / (white - dark))[::2, 0]
    binned = torch.from_numpy(sinogram.reshape(91, 160, 4).mean(2)).float()[None, None]

    def residual(column: float) -> float:
        op = ParallelBeamCT(
            (160, 160),
            theta[::2],
            num_detectors=160,
            detector_spacing=4.0,  # in units of a detector pixel: the file has no size
            pixel_size=4.0,
            axis_shift=column - 319.5,
        )
        x = op.A_dagger(binned)
        return float((op.A(x) - binned).norm() / binned.norm())

    # the reconstruction projects back onto the data only where the axis is right
    right = residual(296.25)
    assert right < 0.05
    assert residual(296.25 - 8) > 1.3 * right
    assert residual(296.25 + 8) > 1.3 * right
    assert residual(2 * 319.5 - 296.25) > 3 * right  # the other sign of the shift


@pytest.mark.data
def test_transmission_scan_shows_soft_tissue_at_511_kev(real_data):
    from scipy.io import loadmat
    from scipy.ndimage import gaussian_filter

    scan = loadmat(real_data / "pet_transmission_phantom_trans.mat")["test"].T.astype(float)
    names = loadmat(real_data / "pet_transmission_phantom_blank.mat")
    blank = next(v for k, v in names.items() if not k.startswith("_")).T.astype(float)
    sinogram = -np.log(gaussian_filter(scan, (1, 2)) / gaussian_filter(blank, (3, 2)))
    op = ParallelBeamCT(
        (160, 160),
        np.arange(192) * math.pi / 192,
        num_detectors=160,
        detector_spacing=3.375,
        pixel_size=3.375,
    )
    x = op.A_dagger(torch.from_numpy(sinogram)[None, None], filter="hann")[0, 0]
    # water attenuates by 0.0095/mm at 511 keV, lungs by a third to a half of that; the scan is
    # not corrected for randoms and the bin spacing is known to a few per cent only
    assert float(x[75:85, 72:94].mean()) == pytest.approx(0.0095, rel=0.1)
    assert 0.002 < float(x[75:85, 46:58].mean()) < 0.006
    assert 0.002 < float(x[75:85, 106:118].mean()) < 0.006
    assert abs(float(x[:20].mean())) < 0.0004
