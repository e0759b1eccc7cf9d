"""What a scan is, as plain values: for programs, and for the lines of ``sciinv info``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.scan import (
    DiffractionGeometry,
    MRIGeometry,
    NonCartesianGeometry,
    Scan,
)
from sciinv.errors import DataError
from sciinv.kspace import sampled_block

__all__ = ["facts", "sampling"]

# share of the gaps between lines from which their spacing counts as regular
_REGULAR = 0.9


def facts(scan: Scan) -> dict[str, Any]:
    """Axes, sampling, noise level and geometry: strings, numbers, lists and dicts only.

    The noise level is estimated if the file states none; ``None`` where that is not possible.
    """
    found: dict[str, Any] = {
        "kind": scan.kind,
        "format": scan.format,
        "axes": [{"name": n, "size": s} for n, s in zip(_axes(scan), scan.data.shape, strict=True)],
        "dtype": str(scan.data.dtype),
        "image_shape": list(scan.image_shape),
        "slices": scan.num_slices,
        "units": scan.units,
        "noise": _noise(scan),
        "geometry": _geometry(scan),
        "reference": scan.reference is not None,
        "header": dict(scan.header),
        "notes": list(scan.notes),
    }
    if scan.kind == "mri":
        found |= {"coils": scan.num_coils, "acceleration": round(scan.acceleration, 4)}
    if isinstance(scan.geometry, MRIGeometry):
        found["sampling"] = sampling(scan.geometry)
    return found


def sampling(geometry: MRIGeometry) -> str:
    """Say in words which positions of k-space were measured; of a stack in its middle slice."""
    mask = geometry.mask
    varies = ""
    if mask.ndim > len(geometry.image_shape):
        varies = "" if bool((mask == mask[:1]).all()) else ", other slices differ"
        mask = mask[len(mask) // 2]
    readout = geometry.readout_axis
    lines = np.asarray(mask if readout is None else mask.any(axis=readout))
    what = "points" if readout is None else "lines"
    count, total = int(lines.sum()), int(lines.size)
    if count == total:
        return f"all {total} {what}{varies}"
    block = "x".join(str(part.stop - part.start) for part in sampled_block(lines))
    pattern = _spacing(lines) if lines.ndim == 1 else "irregular"
    return f"{count} of {total} {what}, {pattern}, {block} in the centre{varies}"


def _spacing(lines: NDArray[np.bool_]) -> str:
    """Say how lines lie outside the fully sampled centre."""
    at = np.flatnonzero(lines)
    (centre,) = sampled_block(lines)
    outer = [at[at < centre.start], at[at >= centre.stop]]
    gaps = np.concatenate([np.diff(side) for side in outer])
    low, high = int(at[0]), lines.size - 1 - int(at[-1])
    widest = int(gaps.max(initial=1))
    # one end of k-space is reached, the other is not
    one_sided = max(low, high) > 2 * widest and min(low, high) <= widest
    if gaps.size == 0:
        return "partial Fourier" if one_sided else "the middle only"
    values, counts = np.unique(gaps, return_counts=True)
    regular = counts.max() >= _REGULAR * gaps.size
    text = f"one of {values[counts.argmax()]}" if regular else "irregular"
    return f"{text}, partial Fourier" if one_sided else text


def _axes(scan: Scan) -> list[str]:
    g = scan.geometry
    if isinstance(g, MRIGeometry):
        names = ["partition", "row", "column"][-len(g.image_shape) :]
        if g.readout_axis is not None:
            names[g.readout_axis] += " (readout)"
        return ["slice", "coil", *names]
    if isinstance(g, NonCartesianGeometry):
        return ["slice", "coil", "shot", "sample"]
    if isinstance(g, DiffractionGeometry):
        names = ["frame", "detector row", "detector column"][-len(g.pattern_shape) :]
        return ["slice", *names]
    return ["slice", "angle", "detector"]


def _noise(scan: Scan) -> dict[str, Any] | None:
    """Return the level of one real component, and where it comes from."""
    from sciinv.data.noise import (
        estimate_mri_noise,
        estimate_noncartesian_noise,
        estimate_sinogram_noise,
    )

    g, middle = scan.geometry, scan.num_slices // 2
    if scan.noise_std is not None:
        return {"level": float(scan.noise_std), "source": "stated"}
    if isinstance(g, DiffractionGeometry) or scan.counts is not None:
        return {"level": None, "source": "photon counts"}
    data = scan.data[middle]
    try:
        if isinstance(g, MRIGeometry):
            mask = g.mask if g.mask.ndim == len(g.image_shape) else g.mask[middle]
            level = float(estimate_mri_noise(data, mask, g.readout_axis))
            return {"level": level, "source": "estimated from outer k-space"}
        if isinstance(g, NonCartesianGeometry):
            level = float(estimate_noncartesian_noise(data, g.trajectory))
            return {"level": level, "source": "estimated from the outermost samples"}
        valid = None if scan.valid is None else scan.valid[middle]
        level = float(estimate_sinogram_noise(data, valid))
        return {"level": level, "source": "estimated from differences along the detector"}
    except (DataError, ValueError):
        return None


def _geometry(scan: Scan) -> dict[str, Any]:
    affine = np.asarray(scan.affine, np.float64)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    depth = scan.image_shape[0] if len(scan.image_shape) == 3 else scan.num_slices
    shape = (*scan.image_shape[-2:], depth)
    # index n // 2 is the centre of every encoded grid
    centre = affine @ [*(n // 2 for n in shape), 1.0]
    found: dict[str, Any] = {
        "voxel_mm": dict(
            zip(("row", "column", "slice"), (float(size) for size in sizes), strict=True)
        ),
        "length_known": not scan.units.endswith("/pixel"),
        "oriented": scan.oriented,
    }
    if scan.oriented:
        import nibabel as nib

        codes = [str(code) for code in nib.aff2axcodes(affine)]
        found["directions"] = dict(zip(("rows", "columns", "slices"), codes, strict=True))
        found["centre_ras_mm"] = [round(float(v), 3) for v in centre[:3]]
    return found
