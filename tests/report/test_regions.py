"""Volume and mean of regions: discs of known size, intervals that hold what they should."""

from __future__ import annotations

import numpy as np
import pytest

from sciinv.report.regions import interval, otsu, regions, voxel_volume
from sciinv.result import StdCalibration

RADII = np.array([6.0, 7.0, 8.0, 9.0])


def discs(make, **changes):
    """Four samples of a disc of value 2 on 1 that differ in its radius only."""
    at = np.hypot(*np.mgrid[-15:16, -15:16])
    samples = np.stack([1 + (at <= r) for r in RADII])[:, None].astype(np.float32)
    fields = {"samples": samples, "baseline": samples[0], "visible": np.ones((1, 31, 31), bool)}
    return make("ct", replaced={**fields, "residual": None, **changes}), at


def test_volume_and_mean_of_discs(make):
    result, at = discs(make)
    labels = np.where(at <= 13, 5, 0)[None]
    (found,) = regions(result, labels)
    counts = np.array([(at <= r).sum() for r in RADII])
    # voxels of 1.5 x 1.2 x 3 mm
    assert voxel_volume(result) == pytest.approx(5.4)
    assert (found.label, found.voxels) == (5, int((at <= 13).sum()))
    assert 1 < found.threshold < 2
    assert found.volume.mean == pytest.approx(5.4 * counts.mean())
    assert found.value.mean == pytest.approx(1 + counts.mean() / (at <= 13).sum())
    # Student's t of three degrees of freedom and one more draw: 2.353 sqrt(1 + 1/4)
    reach = 2.3534 * np.sqrt(1.25) * 5.4 * counts.std(ddof=1)
    assert found.volume.high == pytest.approx(5.4 * counts.mean() + reach, rel=1e-3)
    # the voxels' own standard deviation cannot tell: without correlation it would be much less
    naive = 5.4 * np.sqrt((result.samples > found.threshold).var(axis=0, ddof=1).sum())
    assert 5.4 * counts.std(ddof=1) > 5 * naive
    (given,) = regions(result, labels, threshold=0.5)
    assert given.volume.mean == pytest.approx(5.4 * given.voxels)
    assert given.volume.low == given.volume.high == given.volume.mean


def test_what_is_not_seen_does_not_count(make):
    result, at = discs(
        make, visible=(np.arange(31) < 16)[None, :, None] & np.ones((1, 31, 31), bool)
    )
    labels = np.where(at <= 13, 1, 0)[None]
    labels[0, 25:] = 2
    (found,) = regions(result, labels)
    assert found.voxels == int((at[:16] <= 13).sum())


def test_calibration_widens_intervals_and_volumes_stay_positive(make):
    plain, at = discs(make)
    widened, _ = discs(make, std_calibration=StdCalibration(5.0, 5.0, 0.2, "3 of 9 shots", 42))
    labels = np.where(at <= 13, 1, 0)[None]
    a, b = regions(plain, labels)[0], regions(widened, labels)[0]
    assert b.value.high - b.value.mean == pytest.approx(5 * (a.value.high - a.value.mean))
    assert b.volume.low == 0.0 < a.volume.low


@pytest.mark.parametrize("count", [6, 24])
def test_intervals_hold_the_next_draw(count, rng):
    trials = 4000
    draws = rng.normal(3.0, 2.0, (trials, count + 1))
    ends = [interval(row[:-1], 0.9) for row in draws]
    held = np.mean([e.low <= new <= e.high for e, new in zip(ends, draws[:, -1], strict=True)])
    assert abs(held - 0.9) < 4 * np.sqrt(0.9 * 0.1 / trials)


def test_one_sample_has_no_interval():
    found = interval(np.array([2.0]), 0.9)
    assert found.mean == 2.0 and np.isnan([found.low, found.high]).all()


def test_otsu_divides_two_classes(rng):
    values = np.concatenate([rng.normal(0, 0.1, 300), rng.normal(1, 0.1, 100)])
    assert 0.3 < otsu(values) < 0.7
    assert (np.full(5, 2.0, np.float32) > otsu(np.full(5, 2.0))).all()
