"""Images for comparison and simulation: NIfTI, NumPy or a result folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError


def read_image(path: Path) -> NDArray[Any]:
    """Read ``(slices, rows, columns)`` (or fewer axes from ``.npy``) of finite numbers.

    :raises DataError: missing, damaged, of another kind, or with NaN or infinity.
    """
    if not path.exists():
        raise DataError(path, hint="no such file")
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        image = _nifti(path)
    elif name.endswith(".npy"):
        try:
            image = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(path, found=str(error), expected="a NumPy array") from error
    else:
        raise DataError(path, found=path.suffix or "no suffix", expected=".nii, .nii.gz or .npy")
    if image.dtype.kind not in "fciub" or image.ndim not in (2, 3):
        raise DataError(
            path, found=f"{image.dtype} with {image.ndim} axes", expected="numbers, 2 or 3 axes"
        )
    if not np.isfinite(image).all():
        raise DataError(path, found="NaN or infinity", expected="finite numbers")
    return image


def _nifti(path: Path) -> NDArray[Any]:
    import nibabel as nib

    try:
        image = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise DataError(path, found=str(error), expected="a NIfTI image") from error
    # stored (row, column, slice)
    return np.moveaxis(image, -1, 0) if image.ndim == 3 else image[None]
