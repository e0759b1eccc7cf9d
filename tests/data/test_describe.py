"""What is said about a scan agrees with what is in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sciinv.data.describe import describe, details
from sciinv.data.simulate import (
    simulate_ct,
    simulate_diffraction,
    simulate_fan,
    simulate_mri,
    simulate_noncartesian,
)

IMAGE = np.ones((16, 12))


@pytest.mark.parametrize(
    ("scan", "line", "rows"),
    [
        (
            lambda: simulate_mri(
                np.stack([IMAGE] * 2), coils=1, acceleration=1.0, calibration_lines=4
            ),
            "simulated: 2D Cartesian MRI, 2 slices, 16x12, 1 coil, R = 1",
            {"mask": "100.0% of k-space sampled", "readout": "image axis 0"},
        ),
        (
            lambda: simulate_noncartesian(
                IMAGE, coils=2, shots=3, samples=8, voxel_size=(5.0, 2.0, 1.5), noise_std=0.25,
                field_map=np.linspace(-20, 30, 192).reshape(16, 12),
                readout_times=1e-3 * np.arange(8) - 2e-3,
            ),
            "simulated: 2D non-Cartesian MRI, 16x12, 2 coils, 3 shots x 8 samples, R = 8",
            {
                "data": "1x2x3x8 complex64",
                "voxel": "5 x 2 x 1.5 mm (slice, row, column)",
                "fov": "32 x 18 mm",
                "readout": "-2 to 5 ms",
                "field": "-20 to +30 Hz",
                "density": "no weights in the file",
                "noise": "0.25 per real component (stated)",
            },
        ),
        (
            lambda: simulate_ct(IMAGE, num_angles=4, axis_shift=-1.5),
            "simulated: parallel-beam CT, 4 angles x 24 detectors, image 16x12, axis at -1.5",
            {"angles": "4, 0 to 135 degrees", "axis": "-1.5 mm from the middle of the detector"},
        ),
        (
            lambda: simulate_fan(
                IMAGE, num_angles=4, num_detectors=30, source_distance=200.0, detector_offset=2.0,
                detector_spacing=1.25, axis_shift=0.5,
            ),
            "simulated: fan-beam CT, 4 angles x 30 detectors, image 16x12, axis at +0.5",
            {
                "detector": "30 x 1.25 mm",
                "source": "200 mm to the axis",
                "distance": "100 mm from the axis to the detector",
                "magnified": "1.5 times",
                "offset": "+2 mm of the detector",
            },
        ),
        (
            lambda: simulate_diffraction(IMAGE, oversampling=(2.0, 3.0), beam_stop=1.0),
            "simulated: 2D diffraction, pattern 32x36, image 16x12, oversampling 2 x 3",
            {"masked": f"{5 / (32 * 36):.2%} of the pattern", "units": "sqrt(counts)"},
        ),
    ],
)  # fmt: skip
def test_line_and_rows(scan, line, rows):
    scan = scan()
    assert describe(scan) == line
    found = dict(details(scan))
    for name, text in rows.items():
        assert found[name] == text


def test_masked_samples_and_weights():
    fan = simulate_fan(IMAGE, num_angles=4)
    valid = np.ones(fan.data.shape, bool)
    valid[0, 0] = False
    assert dict(details(fan.with_(valid=valid)))["masked"] == "25.00% of the samples"
    spokes = simulate_noncartesian(IMAGE, shots=3)
    density = np.ones(spokes.data.shape[2:], np.float32)
    weighted = spokes.with_(geometry=replace(spokes.geometry, density=density))
    assert dict(details(weighted))["density"] == "weights in the file"
