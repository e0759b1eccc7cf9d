"""TIFF images of a result: float32 stacks that ImageJ and Fiji open with their voxel size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciinv.report.geometry import length_unit, voxel_size

if TYPE_CHECKING:
    from sciinv.result import Result

_CLASSIC_MAX = 2**32 - 2**25  # offsets of a classic TIFF have 32 bits


def write_tiffs(result: Result, folder: Path) -> list[Path]:
    """Write ``mean.tif``, ``std.tif`` (two samples or more) and ``estimate.tif`` (if any).

    Values are those of the NIfTI images, in the result's units; complex images as magnitude.

    :param folder: existing folder.
    :returns: the files.
    """
    images = {"mean": result.mean}
    if result.num_samples > 1:
        images["std"] = result.std
    if result.estimate_magnitude is not None:
        images["estimate"] = result.estimate_magnitude
    spacing, unit = voxel_size(result.affine), length_unit(result.units)
    for name, stack in images.items():
        write_tiff(folder / f"{name}.tif", stack, spacing, unit=unit)
    return [folder / f"{name}.tif" for name in images]


def write_tiff(
    path: Path, images: NDArray[np.float32], spacing: tuple[float, float, float], *, unit: str
) -> None:
    """Write a stack, one page a slice.

    :param images: ``(slices, H, W)`` or ``(volumes, slices, H, W)``.
    :param spacing: along (row, column, slice) in ``unit``.
    :param unit: ``"mm"``, or ``"px"`` where no length is known.
    """
    import tifffile

    row, column, slice_ = spacing
    axes = "TZYX"[-images.ndim :]
    length = "pixel" if unit == "px" else unit
    metadata: dict[str, Any] = {"axes": axes, "spacing": slice_, "unit": length}
    # ImageJ reads pixels per length from the tags and the unit from the description
    imagej = images.nbytes < _CLASSIC_MAX
    tifffile.imwrite(
        path,
        np.ascontiguousarray(images, dtype=np.float32),
        imagej=imagej,
        bigtiff=not imagej,
        photometric="minisblack",
        resolution=(1 / column, 1 / row),
        resolutionunit="NONE",
        metadata=metadata,
    )
