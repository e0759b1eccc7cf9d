"""Fan-beam filtered back-projection and field of view, against analytic discs and real data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciinv.baselines import fbp, sirt, solve_tv, zero_filled
from sciinv.errors import IncompatibleError
from sciinv.operators.fan import FanBeamCT
from sciinv.operators.fan_geometry import FanGeometry
from sciinv.operators.filters import FILTERS

MU, RADIUS, CENTRE = 0.02, 18.0, (10.0, -14.0)
KW = {
    "num_detectors": 360,
    "detector_spacing": 0.4,
    "pixel_size": 0.5,
    "source_distance": 150.0,
    "detector_distance": 75.0,
}
HALF_FAN = math.atan(72 / 225)
SHORT = math.pi + 2 * HALF_FAN
TURN = np.arange(360) * math.pi / 180


def disc_sinogram(op: FanBeamCT, centre, radius: float, mu: float) -> torch.Tensor:
    """Exact line integrals, from where source and detector pixels stand."""
    g = op.geometry
    t = np.asarray(g.angles)[:, None]
    u = (np.arange(g.num_detectors) - (g.num_detectors - 1) / 2) * g.detector_spacing
    u = (u + g.detector_offset)[None]
    along, away = (np.cos(t), np.sin(t)), (-np.sin(t), np.cos(t))
    sx, sy = (-g.source_distance * a - g.axis_shift * c for a, c in zip(away, along, strict=True))
    length = g.source_distance + g.detector_distance
    dx, dy = (length * a + u * c for a, c in zip(away, along, strict=True))
    off = ((centre[0] - sx) * dy - (centre[1] - sy) * dx) / np.hypot(dx, dy)
    y = 2 * mu * np.sqrt(np.clip(radius**2 - off**2, 0, None))
    return torch.from_numpy(y)[None, None]


def disc_scan(theta, **change):
    """Operator, exact sinogram of the disc, and masks well inside and well outside of it."""
    op = FanBeamCT((140, 130), theta, **{**KW, **change})
    g = op.geometry
    y = disc_sinogram(op, CENTRE, RADIUS, MU)
    r = torch.from_numpy(np.hypot(g.x()[None] - CENTRE[0], g.y()[:, None] - CENTRE[1]))
    return op, y, r < RADIUS - 2, (r > RADIUS + 2) & op.field_of_view_mask()


def arc(length: float, count: int, start: float = 0.0) -> np.ndarray:
    return start + np.linspace(0, length, count)


SCANS = {
    "full turn": (TURN, {}),
    "full turn with both ends": (np.linspace(0, 2 * math.pi, 361), {}),
    "full turn, clockwise from 1": (1 - TURN, {}),
    "shuffled, negative": (np.random.default_rng(0).permutation(TURN) - 7, {}),
    "a turn and a bit": (arc(math.radians(400), 401), {}),
    "two densities": (
        np.concatenate(
            [np.linspace(0, 2, 200, endpoint=False), np.linspace(2, 2 * np.pi, 250, endpoint=False)]
        ),
        {},
    ),
    "golden angle": (np.mod(np.arange(400) * math.pi * (3 - math.sqrt(5)), 2 * math.pi), {}),
    "axis shift": (TURN, {"axis_shift": 2.7}),
    "detector offset": (TURN, {"detector_offset": -5.3}),
    "both": (TURN, {"axis_shift": -2.7, "detector_offset": 5.3}),
    # the cosine of the fan depends on the shift, by 4 per cent here
    "large axis shift": (TURN, {"axis_shift": 20.0, "num_detectors": 500}),
    "short scan, large axis shift": (
        arc(math.pi + 1.12, 260, 2.0),
        {"axis_shift": -20.0, "num_detectors": 500},
    ),
    "short scan": (arc(SHORT, 220), {}),
    "short scan from 2.3": (arc(SHORT, 220, 2.3), {}),
    "short scan, clockwise": (-arc(SHORT, 220, 2.3), {}),
    "short scan, shuffled": (np.random.default_rng(1).permutation(arc(SHORT, 220, -1.0)), {}),
    "short scan, axis shift": (arc(SHORT + 0.1, 230, 1.0), {"axis_shift": 2.7}),
    "short scan, detector offset": (arc(SHORT + 0.1, 230, 4.0), {"detector_offset": 5.3}),
    "short scan, uneven": (4 * SHORT * (np.linspace(0.5, 1, 260) ** 2 - 0.25) / 3, {}),
    "300 degrees": (arc(math.radians(300), 300, 1.0), {}),
    "350 degrees": (arc(math.radians(350), 350, 1.0), {}),
    # 22 mm of the detector, 14 at the axis, are on the short side; the disc reaches 35
    "detector beside the axis": (TURN, {"detector_offset": 50.0}),
    "detector beside the axis, other side": (TURN, {"detector_offset": -50.0, "axis_shift": 2.0}),
}


@pytest.mark.parametrize("scan", SCANS)
def test_a_disc_comes_back_with_its_value(scan):
    angles, change = SCANS[scan]
    op, y, inside, outside = disc_scan(angles, **change)
    x = op.A_dagger(y)[0, 0]
    assert float(x[inside].mean()) == pytest.approx(MU, rel=1e-3)
    assert float((x[inside] - MU).abs().max()) < 0.01 * MU
    assert abs(float(x[outside].mean())) < 0.002 * MU


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("scan", ["full turn", "short scan from 2.3"])
def test_every_filter_keeps_the_value(name, scan):
    op, y, inside, _ = disc_scan(SCANS[scan][0])
    x = fbp(y, op, filter=name)[0, 0]
    assert not op._engines.store  # no projector is built for it
    assert float((x[inside] - MU).abs().max()) < 0.01 * MU


@pytest.mark.parametrize(
    "change",
    [{"axis_shift": -2.7}, {"detector_offset": -5.3}, {"detector_distance": 55.0}],
)
def test_a_wrong_geometry_is_wrong(change):
    truth = {"axis_shift": 2.7, "detector_offset": 5.3}
    _, y, inside, _ = disc_scan(TURN, **truth)
    wrong, *_ = disc_scan(TURN, **{**truth, **change})
    assert float((wrong.A_dagger(y)[0, 0][inside] - MU).abs().max()) > 0.08 * MU


def test_less_than_a_short_scan_is_quantitative_where_the_lines_are():
    # half a turn lacks lines: the mean holds, single pixels do not
    op, y, inside, _ = disc_scan(arc(math.pi, 180))
    x = op.A_dagger(y)[0, 0]
    assert float(x[inside].mean()) == pytest.approx(MU, rel=0.01)
    assert float((x[inside] - MU).abs().max()) > 0.05 * MU


def test_noise_is_spread_evenly_over_the_turn():
    # a share of one half of each measurement is the least noise: a full turn must not taper
    g = FanBeamCT((8, 8), TURN, **KW).geometry
    cosine = 225 / np.hypot(225, g.u())
    expected = np.broadcast_to(0.5 * math.pi / 180 * cosine, (360, 360))
    np.testing.assert_allclose(g.inversion_weights(), expected, rtol=1e-12)


# -- shares ------------------------------------------------------------------------------------
def shares(theta, **change):
    g = FanBeamCT((8, 8), theta, **{**KW, **change}).geometry
    return g, g._shares(g._arcs()[1])


@pytest.mark.parametrize("change", [{}, {"axis_shift": 3.0}, {"detector_offset": 9.0}])
@pytest.mark.parametrize("degrees", [230, 260, 300, 340, 360])
def test_shares_of_a_line_add_up_to_one(degrees, change):
    step = math.radians(0.1)
    theta = 0.7 + np.arange(round(degrees / 0.1)) * step
    g, share = shares(theta, **change)
    rng = np.random.default_rng(0)
    seen_twice = 0
    for _ in range(400):
        a, k = rng.integers(len(theta)), rng.integers(g.num_detectors)
        # the line of this ray, and the ray that meets it from the other side
        gamma = math.atan(g.u()[k] / 225)
        normal = theta[a] - gamma
        s = 150 * math.sin(gamma) - g.axis_shift * math.cos(gamma)
        radius = math.hypot(150, g.axis_shift)
        tilt = math.atan(g.axis_shift / 150)
        other = math.asin(-s / radius) + tilt  # its gamma, from s = radius sin(gamma - tilt)
        time = math.remainder(normal + math.pi + other - theta.mean(), 2 * math.pi) + theta.mean()
        index = (225 * math.tan(other) - g.detector_offset) / 0.4 + (g.num_detectors - 1) / 2
        row = (time - theta[0]) / step
        if row < -0.5 or row > len(theta) - 0.5 or index < -0.5 or index > g.num_detectors - 0.5:
            if degrees < 360:
                assert share[a, k] == pytest.approx(1, abs=1e-12)
            continue
        # between the rays of the scan: bilinear, away from where shares step within a few rays
        if not (1 < row < len(theta) - 2 and 10 < min(index, k) < max(index, k) < 349):
            continue
        r, c = int(row), int(index)
        fr, fc = row - r, index - c
        total = share[a, k] + (1 - fr) * ((1 - fc) * share[r, c] + fc * share[r, c + 1])
        total += fr * ((1 - fc) * share[r + 1, c] + fc * share[r + 1, c + 1])
        assert total == pytest.approx(1, abs=0.01)
        seen_twice += 1
    assert seen_twice > 50


def parker_weights(g: FanGeometry) -> np.ndarray:
    """Parker 1982, eq. 12, with his gamma = -gamma here: seen again at beta + pi - 2 gamma."""
    beta = np.asarray(g.angles)[:, None] - g.angles[0]
    gamma = np.arctan(g.u() / 225)[None, :]
    start = np.sin(math.pi / 4 * beta / (HALF_FAN + gamma)) ** 2
    end = np.sin(math.pi / 4 * (SHORT - beta) / (HALF_FAN - gamma)) ** 2
    late = beta > math.pi + 2 * gamma
    return np.where(beta < 2 * (HALF_FAN + gamma), start, np.where(late, end, 1.0))


def test_shares_have_the_properties_of_parkers_weights():
    count = round(SHORT / math.radians(0.25))
    theta = np.arange(count) * SHORT / (count - 1)
    g, share = shares(theta)
    parker = parker_weights(g)
    # lines measured once count fully, and the sum over the scan is the same for every fan angle
    # (the scan reaches half a step beyond its first and last view)
    once = (parker == 1) & (np.roll(parker, 2, 0) == 1) & (np.roll(parker, -2, 0) == 1)
    np.testing.assert_allclose(share[once], 1, atol=1e-12)
    assert 0.4 < np.mean(parker == 1) < 0.9
    np.testing.assert_allclose(share.sum(0), parker.sum(0), rtol=2e-3)
    # the first and the last view count for little, without a step to the next but one
    assert np.abs(share[[0, -1], 30:-30]).max() < 0.01
    assert np.abs(np.diff(share[:, 30:-30], axis=0)).max() < 0.1
    # shares nearer to one half are less noise
    assert (share**2).sum() < (parker**2).sum()


def test_the_image_is_that_of_parkers_own_weights(monkeypatch):
    op, y, inside, outside = disc_scan(arc(SHORT, 220, 1.0))
    x = op.A_dagger(y)[0, 0]
    monkeypatch.setattr(FanGeometry, "_shares", lambda g, arcs: parker_weights(g))
    other = op.A_dagger(y)[0, 0]
    assert not torch.equal(x, other)
    torch.testing.assert_close(x[inside], other[inside], rtol=0, atol=0.003 * MU)
    # streaks outside come from the edge of the disc and the number of views
    assert float(x[outside].std()) < 1.1 * float(other[outside].std())


def test_quadrature_shares_repeated_views_and_leaves_openings_out():
    def quadrature(theta):
        return FanGeometry.create((4, 4), theta, **{**KW, "num_detectors": 4})._arcs()

    weights, arcs = quadrature([0.0, 2.0, 2 * math.pi, 4.0])
    rest = 2 * math.pi - 4
    np.testing.assert_allclose(
        weights, [(2 + rest) / 4, 2, (2 + rest) / 4, (2 + rest) / 2], rtol=1e-12
    )
    assert arcs is None
    # ten views of 24 degrees over 216: the opening of 144 is no step
    weights, arcs = quadrature(np.deg2rad(np.arange(10) * 24.0 - 300))
    np.testing.assert_allclose(weights, math.radians(24), rtol=1e-12)
    np.testing.assert_allclose(np.rad2deg(arcs), [[48, 240]], rtol=1e-12)
    # random views have gaps of all sizes
    assert quadrature(np.random.default_rng(3).uniform(0, 2 * math.pi, 100))[1] is None


# -- field of view -----------------------------------------------------------------------------
def radius_seen(op: FanBeamCT) -> tuple[float, float]:
    """Radii of the largest disc inside and of the smallest around the mask."""
    g = op.geometry
    r = torch.from_numpy(np.hypot(g.x()[None], g.y()[:, None]))
    mask = op.field_of_view_mask()
    return float(r[~mask].min()), float(r[mask].max())


@pytest.mark.parametrize(
    ("change", "edge"),
    [
        ({}, 72.0),
        ({"axis_shift": 2.0}, 72.0),
        ({"detector_offset": 30.0}, 102.0),  # the long side, over a full turn
        ({"detector_offset": -30.0, "axis_shift": 1.0}, 102.0),
    ],
)
def test_field_of_view_is_the_scanned_disc(change, edge):
    op = FanBeamCT(
        (150, 150), np.arange(240) * math.pi / 120, **{**KW, **change, "pixel_size": 1.0}
    )
    # the outermost ray passes the axis at this distance
    tilt = math.atan(op.geometry.axis_shift / 150)
    sign = -1 if change.get("detector_offset", 0) < 0 or change.get("axis_shift") == 2.0 else 1
    if change.get("axis_shift") == 2.0:  # the longer side, with the other one's help
        sign = -1
    gamma = math.atan(sign * edge / 225)
    radius = math.hypot(150, op.geometry.axis_shift) * abs(math.sin(gamma - tilt))
    inner, outer = radius_seen(op)
    # pixel centres are up to 0.7 mm apart
    assert inner == pytest.approx(radius, abs=0.7)
    assert outer == pytest.approx(radius, abs=0.7)


def test_field_of_view_of_a_stack():
    op = FanBeamCT((3, 40, 41), TURN, **{**KW, "num_detectors": 50})
    mask = op.field_of_view_mask()
    assert mask.dtype == torch.bool
    assert mask.shape == (3, 40, 41)
    assert torch.equal(mask[0], mask[2])
    assert 0.1 < float(mask.double().mean()) < 0.5


# -- derivatives and baselines -----------------------------------------------------------------
def test_gradient_of_filtered_backprojection_is_its_transpose():
    op = FanBeamCT((6, 5), arc(4.0, 5), **{**KW, "num_detectors": 9, "detector_spacing": 0.8})
    y = torch.randn(
        (1, *op.measurement_shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()
    assert torch.autograd.gradcheck(op.A_dagger, (y,))


def test_baselines_reconstruct_a_disc_from_few_views():
    kw = {**KW, "num_detectors": 90, "detector_spacing": 1.6, "pixel_size": 2.0}
    op = FanBeamCT((36, 34), np.arange(30) * math.pi / 15, **kw, axis_shift=1.3)
    y = disc_sinogram(op, CENTRE, RADIUS, MU).float()
    g = op.geometry
    r = torch.from_numpy(np.hypot(g.x()[None] - CENTRE[0], g.y()[:, None] - CENTRE[1]))
    for image in (
        sirt(y, op, iterations=60, nonneg=True),
        solve_tv(y, op, lam=0.05, nonneg=True, max_iter=40)[0],
        fbp(y, op, filter="hann"),
    ):
        assert float(image[0, 0][r < RADIUS - 5].mean()) == pytest.approx(MU, rel=0.02)
        assert float(image[0, 0][r > RADIUS + 3].abs().mean()) < 0.1 * MU
    with pytest.raises(IncompatibleError, match="fbp"):
        zero_filled(y, op)


# -- real scan ---------------------------------------------------------------------------------
@pytest.mark.data
def test_acrylic_disc_with_eight_holes(real_data):
    from scipy.io import loadmat
    from scipy.ndimage import label

    scan = loadmat(
        real_data / "ct_fanbeam_htc2022_ta.mat", squeeze_me=True, struct_as_record=False
    )["CtDataFull"]
    p = scan.parameters
    theta = np.deg2rad(p.angles.astype(float))[::4]
    # pairs of detector pixels, so that the test is quick
    y = torch.from_numpy(scan.sinogram[::4].reshape(181, 280, 2).mean(2))[None, None]
    kw = {
        "num_detectors": 280,
        "detector_spacing": 2 * float(p.pixelSizePost),
        "pixel_size": 0.6,
        "source_distance": float(p.distanceSourceOrigin),
        "detector_distance": float(p.distanceSourceDetector - p.distanceSourceOrigin),
    }
    op = FanBeamCT((130, 130), theta, **kw)
    g = op.geometry
    r = np.hypot(g.x()[None], g.y()[:, None])

    def acrylic_and_holes(angles) -> tuple[int, float]:
        """Number of holes, and the share of pixels that are neither hole nor acrylic."""
        image = FanBeamCT((130, 130), angles, **kw).A_dagger(y, filter="hann")[0, 0].numpy()
        found, count = label((image < 0.014) & (r < 33))
        number = sum(np.count_nonzero(found == i + 1) > 60 for i in range(count))
        return number, float(np.mean((image > 0.011) & (image < 0.022) & (r < 33)))

    x = op.A_dagger(y)[0, 0]
    disc = np.asarray(x > 0.02)
    # acrylic at the middle of the disc; beam hardening raises its rim to 0.037
    assert float(x[torch.from_numpy(disc & (r < 20))].mean()) == pytest.approx(0.0285, rel=0.03)
    edge = np.count_nonzero(np.asarray(x > 0.014).any(0)) * 0.6
    assert edge == pytest.approx(70, abs=1.5)  # its diameter in mm
    number, between = acrylic_and_holes(theta)
    assert number == 8
    # mirrored angles show every hole twice, half as deep
    assert acrylic_and_holes(-theta)[1] > 2 * between
