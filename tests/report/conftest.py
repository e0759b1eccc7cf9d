"""Small results for the tests of figures and page."""

from __future__ import annotations

import numpy as np
import pytest

from sciinv.result import Result, Status

# rows grow to posterior, columns to left, slices to superior: a radiological axial stack
AFFINE = np.array(
    [[0, -1.2, 0, 10], [-1.5, 0, 0, 20], [0, 0, 3.0, -5], [0, 0, 0, 1]], dtype=np.float64
)


def make_result(
    kind="mri", slices=1, shape=(24, 20), samples=4, replaced=None, null_share=None, **changes
):
    """Draw random images with a masked border; every field may be replaced.

    ``null_share`` gives a null-space part of that share of the energy.
    """
    rng = np.random.default_rng(7)
    full = (samples, slices, *shape)
    values = rng.gamma(4.0, 0.25, full)
    visible = np.zeros(full[1:], bool)
    visible[..., 2:-2, 3:-3] = True
    if kind == "mri":
        values = (values * np.exp(1j * rng.normal(0, 0.4, full))).astype(np.complex64)
    values = values.astype(np.complex64 if kind == "mri" else np.float32)
    residual = np.abs(rng.normal(size=shape)).astype(np.float32)
    residual[:, ::3] = np.nan
    fields = {
        "samples": values,
        "baseline": values[0] * np.float32(1.1),
        "baseline_name": "zero-filled",
        "visible": visible,
        "kind": kind,
        "units": "a.u." if kind == "mri" else "1/mm",
        "affine": AFFINE,
        "name": "scan",
        "status": Status.DONE,
        "chi_squared": 1.013,
        "chi_squared_tolerance": 0.02,
        "residual": residual,
    }
    fields |= changes | (replaced or {})
    if null_share is not None:
        mean = np.where(fields["visible"], fields["samples"].mean(0), 0)
        fields["null_space"] = (np.sqrt(null_share) * mean).astype(values.dtype)
    return Result(**fields)


@pytest.fixture
def make():
    """The function that makes a small result."""
    return make_result
