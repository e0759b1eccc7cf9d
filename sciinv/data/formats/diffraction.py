"""From diffraction patterns and a side-car to a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import assumed_affine, check_finite
from sciinv.data.formats.arrays import read_ref
from sciinv.data.scan import DiffractionGeometry, Scan
from sciinv.data.sidecar import Sidecar
from sciinv.errors import DataError

__all__ = ["diffraction_of", "diffraction_scan", "object_shape"]


def object_shape(
    pattern: tuple[int, ...], oversampling: tuple[float, ...]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the object shape that a pattern oversamples so, and the exact ratio on each axis."""
    shape = tuple(max(1, round(n / os)) for n, os in zip(pattern, oversampling, strict=True))
    return shape, tuple(n / m for n, m in zip(pattern, shape, strict=True))


def diffraction_scan(
    path: Path, sidecar: Sidecar, array: NDArray[Any], axes: tuple[str, ...], form: str
) -> Scan:
    """Build the scan of patterns whose axes are among slice, frame, row, column.

    :raises DataError: other axes, no quantity, a mask that does not fit, and as
        :func:`diffraction_of`.
    """
    if axes[-2:] != ("row", "column"):
        raise DataError(
            sidecar.path,
            "axes",
            found=list(sidecar.axes),
            expected='"row" and "column", and perhaps "frame" (third axis of a pattern), "slice"',
        )
    if sidecar.quantity is None:
        raise DataError(
            sidecar.path, "quantity", found="no such key", expected='"counts" or "amplitude"'
        )
    if "slice" not in axes:
        array, axes = array[None], ("slice", *axes)
    return diffraction_of(path, sidecar, array, axes, form, valid=_mask(path, sidecar, array))


def diffraction_of(
    path: Path,
    sidecar: Sidecar,
    array: NDArray[Any],
    axes: tuple[str, ...],
    form: str,
    *,
    valid: NDArray[np.bool_] | None,
    reach: tuple[float, float] | None = None,
    notes: Sequence[str] = (),
) -> Scan:
    """Build the scan of patterns whose first axis is the slice.

    :param valid: False where a pixel is unusable, shape of ``array``.
    :param reach: mm along rows and columns, wavelength times distance over the detector's pixel:
        an object pixel is this over the number of pixels of the pattern. A side-car's voxel size
        comes first.
    :raises DataError: a dtype that is not real, negative counts, an empty pattern, a centre that
        does not fit.
    """
    if array.dtype.kind not in "fiu":
        raise DataError(path, "pattern", found=f"dtype {array.dtype}", expected="real numbers")
    notes = list(notes)
    if valid is not None:
        array = np.where(valid, array, 0)
    check_finite(array, path, "pattern")
    if array.min() < 0:
        raise DataError(
            path,
            "pattern",
            found=f"{int((array < 0).sum())} negative {sidecar.quantity}",
            expected=f"{sidecar.quantity} of 0 or more",
            hint="some detectors mark dead pixels so: name them in a mask",
        )
    counts = array.astype(np.float64)
    if sidecar.frame is not None:
        counts, valid = _one_frame(sidecar, counts, valid, axes, notes)
    if sidecar.quantity == "amplitude":
        counts = counts**2
        notes.append("the file holds amplitudes: counts are their squares")
    if sidecar.background > 0:
        low = (counts > 0) & (counts < sidecar.background)
        counts[low] = 0
        notes.append(
            f"counts below {sidecar.background:g} are taken for background: "
            f"{int(low.sum())} samples set to 0"
        )
    if not counts.any():
        raise DataError(path, "pattern", found="no count", expected="a diffraction pattern")
    if sidecar.dc_first:
        over = tuple(range(1, counts.ndim))
        counts = np.fft.fftshift(counts, axes=over)
        valid = None if valid is None else np.fft.fftshift(valid, axes=over)
    counts, valid = _recentred(path, sidecar, counts, valid, notes)
    pattern = counts.shape[1:]
    shape, oversampling = _object(sidecar, pattern, notes)
    # amplitudes whose squares add up to the counts of the pattern
    voxel, units = sidecar.voxel_size, "sqrt(counts)"
    if voxel is None and reach is not None and len(pattern) == 2:
        rows, columns = reach[0] / pattern[0], reach[1] / pattern[1]
        voxel = (max(rows, columns), rows, columns)
    if voxel is None:
        voxel, units = (1.0, 1.0, 1.0), "sqrt(counts)/pixel"
        notes.append("the pixel size of the object is not stated: lengths are in pixels")
    if valid is not None:
        lost = int(valid.size - np.count_nonzero(valid))
        notes.append(f"{lost} of {valid.size} pixels are masked")
        valid = valid if lost else None
    notes.append(
        "the position of the object, its point reflection and its global phase are not determined "
        "by the pattern"
    )
    grid = (shape[0] if len(shape) == 3 else len(counts), *shape[-2:])
    return Scan(
        kind="diffraction",
        data=np.ascontiguousarray(counts, dtype=np.float32),
        geometry=DiffractionGeometry(pattern, shape, oversampling, voxel),
        format=form,
        source=path,
        units=units,
        affine=assumed_affine(grid, voxel, fourier_centre=True),
        valid=valid,
        noise_std=sidecar.noise_std,
        notes=tuple(notes),
    )


def _mask(path: Path, sidecar: Sidecar, array: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Pixels that measured something; one mask serves all slices (and frames)."""
    if "mask" not in sidecar.arrays:
        return None
    mask = read_ref(path, sidecar, "mask")
    fitting = [array.shape[-n:] for n in range(2, array.ndim + 1)]
    if mask.shape not in fitting:
        raise DataError(
            path,
            "mask",
            found=f"shape {mask.shape}",
            expected="shape " + " or ".join(str(shape) for shape in fitting),
        )
    check_finite(mask, path, "mask")
    good = (mask != 0) == (sidecar.mask_marks == "good")
    if not good.any():
        raise DataError(
            path,
            "mask",
            found="no usable pixel",
            expected="some",
            hint='diffraction.mask_marks says whether nonzero is "good" or "bad"',
        )
    return np.broadcast_to(good, array.shape)


def _one_frame(
    sidecar: Sidecar,
    counts: NDArray[np.float64],
    valid: NDArray[np.bool_] | None,
    axes: tuple[str, ...],
    notes: list[str],
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    frame = sidecar.frame or 0
    if "frame" not in axes:
        raise DataError(
            sidecar.path,
            "diffraction.frame",
            found=f"no axis of that name in {list(sidecar.axes)}",
            expected='an axis "frame"',
        )
    axis = axes.index("frame")
    if frame >= counts.shape[axis]:
        raise DataError(
            sidecar.path,
            "diffraction.frame",
            found=frame,
            expected=f"an index below {counts.shape[axis]}",
        )
    notes.append(
        f"only frame {frame} of {counts.shape[axis]} is used: a plane of the pattern, which is "
        "that of the object's projection"
    )
    index = (slice(None),) * axis + (frame,)
    return counts[index], None if valid is None else valid[index]


def _recentred(
    path: Path,
    sidecar: Sidecar,
    counts: NDArray[np.float64],
    valid: NDArray[np.bool_] | None,
    notes: list[str],
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Crop so that the zero frequency lies at ``n // 2``; rolling would wrap the far side."""
    shape = counts.shape[1:]
    middle = tuple(n // 2 for n in shape)
    centre = sidecar.centre
    found = "stated"
    if centre is None:
        total = counts.sum(axis=0)
        stopped = valid is not None and not valid[(slice(None), *middle)].all()
        brightest = _brightest(total)
        # behind a beam stop the brightest pixel that is left says nothing
        centre = middle if stopped or sidecar.dc_first else brightest
        found = "the brightest pixel"
        if stopped:
            notes.append(f"the beam stop hides the centre: the zero frequency is taken at {middle}")
    if len(centre) != len(shape) or any(c >= n for c, n in zip(centre, shape, strict=True)):
        raise DataError(
            sidecar.path,
            "diffraction.centre",
            found=list(centre),
            expected=f"an index of each axis of the pattern {shape}",
        )
    if centre == middle:
        return counts, valid
    window = []
    for c, n in zip(centre, shape, strict=True):
        # the largest m with c - m // 2 >= 0 and c - m // 2 + m <= n
        m = min(2 * c + 1, 2 * (n - c))
        window.append(slice(c - m // 2, c - m // 2 + m))
    kept = tuple(part.stop - part.start for part in window)
    if any(2 * m < n for m, n in zip(kept, shape, strict=True)):
        raise DataError(
            path,
            "centre",
            found=f"the zero frequency ({found}) at {centre} of a pattern {shape}",
            expected=f"near {middle}",
            hint="state diffraction.centre, or dc_first = true if it is at index 0",
        )
    notes.append(
        f"the zero frequency ({found}) is at {centre}, not {middle}: cropped to {kept} around it"
    )
    index = (slice(None), *window)
    return counts[index], None if valid is None else valid[index]


def _brightest(total: NDArray[np.float64]) -> tuple[int, ...]:
    """Index of the brightest pixel that has a bright neighbour: speckles are wider than a pixel.

    A hot pixel or a cosmic ray stands alone.
    """
    beside = np.zeros_like(total)
    for axis in range(total.ndim):
        for step in (-1, 1):
            np.maximum(beside, np.roll(total, step, axis), out=beside)
    score = np.minimum(total, beside)
    # the brightest pixel and its neighbour have the same score
    best = np.where(score == score.max(), total, -1.0)
    return tuple(int(i) for i in np.unravel_index(int(best.argmax()), total.shape))


def _object(
    sidecar: Sidecar, pattern: tuple[int, ...], notes: list[str]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    shape = sidecar.image_shape
    if shape is not None:
        if len(shape) != len(pattern) or any(n > m for n, m in zip(shape, pattern, strict=True)):
            raise DataError(
                sidecar.path,
                "diffraction.image_shape",
                found=list(shape),
                expected=f"at most {pattern}, the shape of the pattern",
            )
        return shape, tuple(n / m for n, m in zip(pattern, shape, strict=True))
    oversampling = sidecar.oversampling
    if oversampling is None:
        notes.append("the oversampling is not stated: 2 along each axis assumed")
        oversampling = (2.0,)
    if len(oversampling) == 1:
        oversampling = oversampling * len(pattern)
    if len(oversampling) != len(pattern):
        raise DataError(
            sidecar.path,
            "diffraction.oversampling",
            found=list(oversampling),
            expected=f"one number, or {len(pattern)} as the pattern has axes",
        )
    return object_shape(pattern, oversampling)
