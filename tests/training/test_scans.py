"""Images of scan files: what a fully sampled scan shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sciinv.data.native import write_scan
from sciinv.data.phantoms import shepp_logan
from sciinv.data.scan import Scan
from sciinv.data.simulate import simulate_ct, simulate_mri
from sciinv.errors import DataError
from sciinv.training.config import make_config
from sciinv.training.files import FileSource
from sciinv.training.scans import ScanImages
from sciinv.training.source import Unreadable

SIDE = 48
TRUTH = np.stack([shepp_logan((SIDE, SIDE)), shepp_logan((SIDE, SIDE))[:, ::-1]]).astype(np.float32)


def write(path: Path, scan: Scan) -> Path:
    write_scan(scan, path)
    return path


def mri(acceleration: float = 1.0) -> Scan:
    pattern: Any = "full" if acceleration == 1 else "variable_density"
    return simulate_mri(TRUTH, coils=4, acceleration=acceleration, pattern=pattern,
                        calibration_lines=12, noise_std=1e-3, rng=0)  # fmt: skip


def test_reference_is_taken_where_there_is_one(tmp_path: Path) -> None:
    images = ScanImages(write(tmp_path / "a.h5", mri(3.0)), channels=1)
    assert (images.count, images.how) == (2, "reference")
    np.testing.assert_allclose(images.read(1), TRUTH[1], atol=1e-6)


def test_full_sampling_is_reconstructed_with_its_phase(tmp_path: Path) -> None:
    images = ScanImages(write(tmp_path / "a.h5", mri()), channels=2)
    assert (images.count, images.how) == (2, "reconstruction")
    image = images.read(1)
    assert np.iscomplexobj(image)
    # up to the intensity scale, which is one number
    factor = float(np.sum(np.abs(image) * TRUTH[1]) / np.sum(TRUTH[1] ** 2))
    error = np.abs(image) / factor - TRUTH[1]
    assert np.sqrt(np.mean(error**2)) < 0.05
    # slow phase is removed, as reconstructions do: what is left is nearly real
    inside = TRUTH[1] > 0.1
    assert float(np.abs(np.angle(image[inside])).mean()) < 0.1


def test_ct_is_back_projected_without_negative_air(tmp_path: Path) -> None:
    scan = simulate_ct(0.02 * TRUTH[0], image_shape=(SIDE, SIDE), num_angles=90, rng=0)
    path = write(tmp_path / "ct.h5", scan.with_(reference=None))
    config = make_config({"prior": {"channels": 1}, "data": {
        "source": "scans", "files": [str(path), str(write(tmp_path / "more.h5", scan))],
        "patch": 32, "scene": SIDE}})  # fmt: skip
    image = FileSource(config, (0, 0, 0)).image(0)
    assert not isinstance(image, Unreadable)
    assert image.shape == (1, SIDE, SIDE) and float(image.min()) >= 0
    factor = float(np.sum(image[0] * TRUTH[0]) / np.sum(TRUTH[0] ** 2))
    assert np.sqrt(np.mean((image[0] / factor - TRUTH[0]) ** 2)) < 0.12
    assert 0.5 < float(np.percentile(image[0][TRUTH[0] > 0.1], 90)) < 1.5


def test_undersampled_without_reference_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "fast.h5", mri(3.0).with_(reference=None))
    with pytest.raises(DataError, match=r"fast\.h5: sampling: found an undersampled mri scan"):
        ScanImages(path, channels=2)
