"""The file that fastMRI's evaluation reads: magnitudes of all slices, cropped to a square."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

if TYPE_CHECKING:
    from sciinv.result import Result

DATASET = "reconstruction"


def submission(result: Result, size: int | None = None) -> NDArray[np.float32]:
    """Return the posterior mean of the magnitude, ``(slices, size, size)``.

    The evaluation compares with the root sum of squares of the fully sampled coils, in the units of
    the file's k-space: that is the scale of a result. It crops reference and submission to a square
    as wide as the reference around the same middle, ``(n - size) // 2`` from the start.

    :param size: rows and columns, 320 for most of the data set; by default the smaller of the two.
    :raises DataError: no MRI of 2D images, or a size beyond the image.
    """
    images = result.mean
    if result.kind != "mri" or images.ndim != 3:
        raise DataError("fastMRI", found=_kind(result), expected="MRI of 2D images")
    rows, columns = images.shape[-2:]
    size = min(rows, columns) if size is None else size
    if not 0 < size <= min(rows, columns):
        raise DataError("--size", found=size, expected=f"1 to {min(rows, columns)}, the image")
    top, left = (rows - size) // 2, (columns - size) // 2
    return np.ascontiguousarray(images[:, top : top + size, left : left + size], np.float32)


def write_submission(result: Result, path: Path, size: int | None = None) -> tuple[int, ...]:
    """Write data set ``reconstruction`` into an HDF5 file that appears whole or not at all.

    :param path: the evaluation finds a file by the name of the measurement; none is kept here.
    :returns: shape of what was written.
    """
    import h5py

    images = submission(result, size)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        with h5py.File(temporary, "w-") as file:
            file[DATASET] = images
        temporary.replace(path)
    except RuntimeError as error:  # what h5py makes of a disc that fills up while closing
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return images.shape


def _kind(result: Result) -> str:
    return "a volume" if result.kind == "mri" else f"a result of kind {result.kind}"
