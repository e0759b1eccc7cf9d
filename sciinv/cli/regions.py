"""``sciinv evaluate RESULT --roi MASK``: numbers of regions with their uncertainty."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciinv.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sciinv.result import Result

_LEVEL = 0.9
_MOST_LABELS = 1000
_OFF = 0.1  # voxels


def read_labels(path: Path, result: Result) -> NDArray[np.int64]:
    """Read a mask of the grid of a result, ``(slices, *image_shape)``, 0 outside.

    :param path: NIfTI that lies where the result does, or ``.npy`` of its shape.
    :raises DataError: another grid, no whole numbers, or no label at all.
    """
    from sciinv.cli.images import read_any_image

    image = read_any_image(path)
    labels = image.values
    expected = result.visible.shape
    long = [tuple(n for n in shape if n > 1) for shape in (labels.shape, expected)]
    if long[0] != long[1]:
        raise DataError(path, "shape", found=labels.shape, expected=expected)
    if path.suffix.lower() != ".npy":
        _check_place(path, image.affine, result)
    if labels.dtype.kind == "c" or not np.array_equal(labels, np.round(labels)):
        raise DataError(path, found="values that are no labels", expected="whole numbers")
    whole = labels.astype(np.int64).reshape(expected)
    count = len(np.unique(whole[whole != 0]))
    if not 0 < count <= _MOST_LABELS:
        raise DataError(path, found=f"{count} labels", expected=f"1 to {_MOST_LABELS}")
    return whole


def _check_place(path: Path, affine: NDArray[np.float64], result: Result) -> None:
    """Refuse a mask whose voxels lie elsewhere: it was drawn on another image."""
    slices, rows, columns = result.visible.shape[-3:]
    corners = np.array(
        [[r, c, s, 1] for r in (0, rows - 1) for c in (0, columns - 1) for s in (0, slices - 1)]
    )
    offset = corners @ (np.asarray(affine) - result.affine).T
    furthest = float(np.linalg.norm(offset[:, :3], axis=1).max())
    size = float(np.linalg.norm(result.affine[:3, :3], axis=0).min())
    if furthest > _OFF * size:
        raise DataError(
            path, "affine", found=f"voxels up to {furthest:.3g} mm away", expected="the result's",
            hint="draw the mask on mean.nii.gz",
        )  # fmt: skip


def tell_regions(
    result: Result, path: Path, threshold: float | None, *, as_json: bool = False
) -> None:
    """Print volume and mean of every label with their intervals over the samples."""
    from sciinv.cli.console import say
    from sciinv.report.geometry import length_unit
    from sciinv.report.plain import plain
    from sciinv.report.regions import regions

    found = regions(result, read_labels(path, result), level=_LEVEL, threshold=threshold)
    if not found:
        raise DataError(path, found="no label where the data see something", expected="one")
    volume = "mm^3" if length_unit(result.units) == "mm" else "voxels"
    if as_json:
        import json

        rows = [asdict(region) for region in found]
        data = {"level": _LEVEL, "samples": result.num_samples, "units": result.units,
                "volume_unit": volume, "regions": rows}  # fmt: skip
        say(json.dumps(plain(data), allow_nan=False))
        return
    for region in found:
        say(
            f"label {region.label}: {region.voxels} voxels; volume above {region.threshold:.4g} "
            f"{result.units}: {region.volume.mean:.4g} {volume}, "
            f"[{region.volume.low:.4g}, {region.volume.high:.4g}]; mean "
            f"{region.value.mean:.4g} {result.units}, "
            f"[{region.value.low:.4g}, {region.value.high:.4g}]"
        )
    say(f"[ ]: {100 * _LEVEL:.0f} % intervals over {result.num_samples} samples"
        + (f", widened by {result.std_factor:.2f}" if result.std_factor != 1 else ""))  # fmt: skip
