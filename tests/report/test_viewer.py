"""What the page's script is given: codes that decode to the images, cropped, binned, bounded."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from sciinv.report import viewer
from sciinv.report.figures import image_window, null_window, std_window
from sciinv.report.viewer import viewer_data, volume_data


def decode(data, key, position):
    """Values of a map at a slice, as the script computes them."""
    found = next(m for m in data["maps"] if m["key"] == key)
    raw = np.frombuffer(base64.b64decode(found["data"][position]), np.uint8).astype(int)
    size = data["rows"] * data["columns"]
    codes = raw[:size].copy()
    if found["bits"] == 10:
        index = np.arange(size)
        codes += ((raw[size + (index >> 2)] >> (2 * (index & 3))) & 3) << 8
    step = (found["high"] - found["low"]) / (2 ** found["bits"] - 1)
    return (found["low"] + step * codes).reshape(data["rows"], data["columns"]), step


def test_codes_are_the_images(make):
    result = make(slices=3, samples=12, null_share=0.2)
    data = viewer_data(result)
    assert [m["key"] for m in data["maps"]] == [*"0bsnf", *"123456789"]
    assert data["slices"] == [0, 1, 2] and data["start"] == 1
    expected = {
        "0": result.mean,
        "b": result.baseline_magnitude,
        "s": result.std,
        "n": np.abs(result.null_space),
        "2": np.where(result.visible, result.magnitude[1], 0),
    }
    for key, images in expected.items():
        m = next(m for m in data["maps"] if m["key"] == key)
        for position in range(3):
            found, step = decode(data, key, position)
            # outside the range that a window can be set to, codes end
            np.testing.assert_allclose(
                found, np.clip(images[position], m["low"], m["high"]), atol=0.51 * step
            )
    assert decode(data, "0", 0)[1] < 0.002 * image_window(result)[1]
    found, step = decode(data, "f", 1)
    bright = result.mean[1] > 0.06 * image_window(result)[1]
    np.testing.assert_allclose(
        found[bright], np.angle(result.complex_mean[1])[bright], atol=0.51 * step
    )
    for name, limits in (
        ("image", image_window(result)), ("std", std_window(result)), ("null", null_window(result)),
    ):  # fmt: skip
        group = data["groups"][name]
        assert (group["low"], group["high"]) == limits


def test_all_of_what_is_seen_is_shown(make):
    visible = np.zeros((3, 40, 50), bool)
    visible[0, 20:24, 10:30] = True
    visible[2, 22:30, 12:40] = True
    data = viewer_data(make(slices=3, shape=(40, 50), visible=visible, residual=None))
    # rows 20 to 29 and columns 10 to 39, with four pixels of border
    assert (data["rows"], data["columns"]) == (18, 38)
    assert data["ratio"] == pytest.approx(38 * 1.2 / (18 * 1.5))
    assert data["letters"] == ["R", "L", "A", "P"]
    # the largest nice length within 0.3 of 45.6 mm
    assert data["bar"] == [pytest.approx(10 / 45.6), "10 mm"]
    assert viewer_data(make(oriented=False))["letters"] is None


def test_one_sample_has_no_std_and_real_images_no_phase(make):
    keys = [m["key"] for m in viewer_data(make("ct", samples=1))["maps"]]
    assert keys == ["0", "b", "1"]


def test_large_stacks_are_binned_then_thinned(make, monkeypatch):
    monkeypatch.setattr(viewer, "LONGEST", 32)
    monkeypatch.setattr(viewer, "_SMALLEST", 16)
    result = make("ct", slices=7, shape=(32, 32), visible=np.ones((7, 32, 32), bool))
    everything = viewer_data(result)
    assert (everything["rows"], len(everything["slices"])) == (32, 7)
    assert all(d is not None for m in everything["maps"] for d in m["data"])
    used = sum(len(d) for m in everything["maps"] for d in m["data"]) * 3 / 4
    for share in (0.4, 0.1, 0.04):
        monkeypatch.setattr(viewer, "BUDGET", int(share * used))
        data = viewer_data(result)
        texts = [d for m in data["maps"] for d in m["data"] if d]
        # base64 fills up its last four letters
        assert sum(len(d) * 3 / 4 - 2 for d in texts) <= share * used
        middle = data["start"]
        assert data["slices"][middle] == 3
        # samples at least of the middle slice
        assert all(m["data"][middle] is not None for m in data["maps"])
    assert data["rows"] <= 16 and len(data["slices"]) < 7
    # binned pixels are means of what they cover
    monkeypatch.setattr(viewer, "BUDGET", 10**6)
    monkeypatch.setattr(viewer, "LONGEST", 16)
    found, step = decode(viewer_data(result), "0", 3)
    means = result.mean[3].reshape(16, 2, 16, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(found, means, atol=0.6 * step)


def test_three_planes(make):
    assert volume_data(make(slices=7)) is None
    result = make(slices=9, shape=(24, 20))
    data = volume_data(result)
    # what is seen: rows 2 to 21, columns 3 to 16
    assert data["shape"] == [9, 20, 14]
    raw = np.frombuffer(base64.b64decode(data["maps"][0]["data"]), np.uint8).reshape(9, 20, 14)
    low, high = data["maps"][0]["low"], data["maps"][0]["high"]
    np.testing.assert_allclose(
        low + raw / 255 * (high - low),
        np.clip(result.mean[:, 2:-2, 3:-3], low, high),
        atol=0.51 * (high - low) / 255,
    )
    axial, coronal, sagittal = data["planes"]
    assert [p["title"] for p in data["planes"]] == ["Axial", "Coronal", "Sagittal"]
    assert not axial["flip"] and coronal["flip"] and sagittal["flip"]
    assert coronal["letters"] == ["R", "L", "S", "I"]
    assert axial["ratio"] == pytest.approx(14 * 1.2 / (20 * 1.5))
    assert coronal["ratio"] == pytest.approx(14 * 1.2 / (9 * 3.0))
    assert sagittal["ratio"] == pytest.approx(20 * 1.5 / (9 * 3.0))


def test_volumes_are_binned_to_blocks(make, monkeypatch):
    monkeypatch.setattr(viewer, "_VOLUME_EDGE", 8)
    result = make("ct", slices=1, shape=(9, 16, 20), visible=np.ones((1, 9, 16, 20), bool))
    data = volume_data(result)
    assert data["shape"] == [5, 8, 7] and data["factor"] == 3
    raw = np.frombuffer(base64.b64decode(data["maps"][0]["data"]), np.uint8).reshape(5, 8, 7)
    low, high = data["maps"][0]["low"], data["maps"][0]["high"]
    block = result.mean[0, 2:4, 4:6, 3:6].mean()
    assert low + raw[1, 2, 1] / 255 * (high - low) == pytest.approx(block, abs=(high - low) / 400)
    # the last slice has no partner
    last = result.mean[0, 8:, 14:, 18:].mean()
    assert low + raw[4, 7, 6] / 255 * (high - low) == pytest.approx(last, abs=(high - low) / 400)
