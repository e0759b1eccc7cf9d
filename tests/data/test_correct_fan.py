"""The rotation axis of fan-beam scans, from simulated scans of known shift and a real one."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from sciinv.data.correct_fan import find_fan_axis_shift
from sciinv.errors import DataError

D, BEHIND, SPACING = 200.0, 120.0, 0.8
PIXEL = SPACING * D / (D + BEHIND)  # at the axis
TURN = np.arange(240) * math.pi / 120
ELLIPSES = [  # centre, semi-axes, tilt, value
    ((3.0, -2.0), (30.0, 22.0), 0.3, 0.02),
    ((-9.0, 6.0), (8.0, 5.0), 1.1, 0.015),
    ((14.0, 3.0), (4.0, 9.0), -0.4, -0.01),
    ((2.0, -13.0), (3.0, 3.0), 0.0, 0.03),
]


def scan(theta, shift: float, offset: float = 0.0, detectors: int = 180) -> np.ndarray:
    """Exact line integrals of a few ellipses, from where source and detector stand."""
    t = np.asarray(theta)[:, None]
    u = ((np.arange(detectors) - (detectors - 1) / 2) * SPACING + offset)[None]
    along = np.stack([np.cos(t), np.sin(t)], -1)
    away = np.stack([-np.sin(t), np.cos(t)], -1)
    start = -D * away - shift * along
    d = (D + BEHIND) * away + u[..., None] * along
    total = np.zeros(d.shape[:2])
    for centre, axes, tilt, value in ELLIPSES:
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        p, v = (start - centre) @ turn.T / axes, d @ turn.T / axes
        a, b, c = (v * v).sum(-1), (p * v).sum(-1), (p * p).sum(-1) - 1
        chord = 2 * np.sqrt(np.clip(b * b - a * c, 0, None)) / a
        total += value * chord * np.linalg.norm(d, axis=-1)
    return total


@pytest.mark.parametrize("shift", [0.0, 0.17, -2.33, 7.9, -11.6])
@pytest.mark.parametrize("detectors", [179, 180])
def test_a_known_shift_is_found(shift, detectors):
    y = scan(TURN, shift, detectors=detectors)
    assert find_fan_axis_shift(y, TURN, D, BEHIND, SPACING) == pytest.approx(
        shift, abs=0.05 * PIXEL
    )


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.75])
def test_noise_does_not_prefer_a_place_between_pixels(fraction, rng):
    shift = (3 + fraction) * PIXEL
    y = scan(TURN, shift)
    y = y + 0.02 * rng.standard_normal(y.shape)  # 2 per cent of the largest value
    assert find_fan_axis_shift(y, TURN, D, BEHIND, SPACING) == pytest.approx(shift, abs=0.1 * PIXEL)


def test_any_order_uneven_and_repeated_angles(rng):
    theta = np.concatenate([TURN[:100], TURN[100:] + 0.003, [2 * math.pi]])
    theta = rng.permutation(theta) - 4
    y = scan(theta, 1.9)
    assert find_fan_axis_shift(y, theta, D, BEHIND, SPACING) == pytest.approx(1.9, abs=0.05 * PIXEL)


def test_a_detector_offset_is_taken_for_a_shift_or_into_account():
    y = scan(TURN, 1.2, offset=4.0)
    found = find_fan_axis_shift(y, TURN, D, BEHIND, SPACING, detector_offset=4.0)
    assert found == pytest.approx(1.2, abs=0.05 * PIXEL)
    # the two differ in how depth enters, by 1 per cent here
    found = find_fan_axis_shift(y, TURN, D, BEHIND, SPACING)
    assert found == pytest.approx(1.2 - 4.0 * D / (D + BEHIND), abs=0.3 * PIXEL)


def test_the_shift_has_the_sign_of_the_operator():
    torch = pytest.importorskip("torch")
    from sciinv.operators.fan import FanBeamCT

    op = FanBeamCT(
        (80, 80),
        TURN[::2],
        num_detectors=160,
        detector_spacing=SPACING,
        pixel_size=0.8,
        source_distance=D,
        detector_distance=BEHIND,
        axis_shift=-3.1,
    )
    x = torch.zeros(1, 1, 80, 80)
    x[..., 20:50, 30:65] = 0.02
    x[..., 30:35, 40:44] = 0.0
    y = op.A(x)[0, 0].numpy()
    assert find_fan_axis_shift(y, TURN[::2], D, BEHIND, SPACING) == pytest.approx(
        -3.1, abs=0.1 * PIXEL
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"angles": TURN[:-1]}, "one angle for each row"),
        ({"angles": TURN / 2}, "180.*degrees of the turn open.*full turn"),
        ({"sinogram": np.full((240, 180), np.nan)}, "NaN"),
    ],
)
def test_bad_input_is_refused(change, text):
    kw = {"sinogram": np.ones((240, 180)), "angles": TURN, **change}
    with pytest.raises(DataError, match=text):
        find_fan_axis_shift(kw["sinogram"], kw["angles"], D, BEHIND, SPACING)


def test_torch_is_not_needed():
    code = "import sys, sciinv.data.correct_fan; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.data
def test_a_corrected_scan_has_its_axis_in_the_middle(real_data):
    from scipy.io import loadmat

    data = loadmat(
        real_data / "ct_fanbeam_htc2022_ta.mat", squeeze_me=True, struct_as_record=False
    )["CtDataFull"]
    p = data.parameters
    distance = float(p.distanceSourceOrigin)
    geometry = (distance, float(p.distanceSourceDetector) - distance, float(p.pixelSizePost))
    theta = np.deg2rad(p.angles.astype(float))[::3]
    y = data.sinogram[::3]
    # the file says that its centre of rotation is corrected; its pixels are 0.148 mm at the axis
    still = find_fan_axis_shift(y, theta, *geometry, search=3.0)
    assert abs(still) < 0.08
    moved = find_fan_axis_shift(np.roll(y, 3, axis=1), theta, *geometry, search=3.0)
    assert moved - still == pytest.approx(3 * 0.14832, abs=0.015)
