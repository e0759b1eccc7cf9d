"""Images for comparison and simulation: DICOM, NIfTI, NumPy, a result folder or a scan with one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.reference import Image, image_kind, match_intensity, on_grid, read_image
from sciinv.errors import DataError

if TYPE_CHECKING:
    from sciinv.result import Result

__all__ = ["Reference", "is_result", "read_any_image", "read_reference"]


def is_result(path: Path) -> bool:
    """Tell whether a path is meant as a result: its folder, or an HDF5 file."""
    if path.is_dir():
        return (path / "result.h5").exists() or image_kind(path) is None
    return path.suffix.lower() in (".h5", ".hdf5")


def read_any_image(path: Path) -> Image:
    """Read DICOM, NIfTI or ``.npy``, of finite numbers, ``(slices, rows, columns)``.

    :raises DataError: missing, damaged, of another kind, or with NaN or infinity.
    """
    if not path.exists():
        raise DataError(path, hint="no such file")
    if image_kind(path) is not None:
        return read_image(path)
    if path.suffix.lower() != ".npy":
        raise DataError(
            path, found=path.suffix or "no suffix", expected="DICOM, NIfTI (.nii, .nii.gz) or .npy"
        )
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(path, found=str(error), expected="a NumPy array") from error
    if values.dtype.kind not in "fciub" or values.ndim not in (2, 3):
        raise DataError(
            path, found=f"{values.dtype} with {values.ndim} axes", expected="numbers, 2 or 3 axes"
        )
    if not np.isfinite(values).all():
        raise DataError(path, found="NaN or infinity", expected="finite numbers")
    return Image(values, np.eye(4), oriented=False)


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference on the grid of a result.

    :param values: shape of the result's images, of complex ones the magnitude; 0 where it does
        not reach.
    :param inside: where it reaches.
    :param scale: ``"keep"``: its values are those of the result's unit; ``"match"``: they are of
        another scale (DICOM); ``"check"``: the file does not say (NIfTI).
    :param units: of the file.
    :param notes: what was done, one sentence each.
    """

    values: NDArray[np.float32]
    inside: NDArray[np.bool_]
    scale: str
    units: str = ""
    notes: tuple[str, ...] = ()

    def matched(
        self, image: NDArray[Any], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32] | None, str]:
        """Return the values in the scale of an image, and a sentence if they were changed.

        :param mask: where the image counts.
        :returns: ``None`` if the two have nothing in common.
        """
        mask = mask & self.inside
        if self.scale == "keep" or not mask.any():
            return self.values, ""
        values, factor, constant = match_intensity(
            self.values, image, mask, offset=self.units == "HU"
        )
        if factor <= 0:
            return None, "the reference has nothing in common with the image and is left out"
        if self.scale == "check" and 0.5 < factor < 2:
            return self.values, ""
        shift = f" plus {constant:.4g}" if self.units == "HU" else ""
        return (
            np.where(self.inside, values, 0).astype(np.float32),
            f"the reference's intensities are of another scale: taken times {factor:.4g}{shift}, "
            "which fits the image best",
        )

    def into(self, result: Result, first: int = 0) -> Result:
        """Return a result that carries this reference in its own scale, and says so.

        :param first: index of the result's first slice among those of the reference.
        """
        part = slice(first, first + len(result.mean))
        own = replace(self, values=self.values[part], inside=self.inside[part])
        values, note = own.matched(result.mean, result.visible)
        notes = (*result.notes, *self.notes, *([note] if note else []))
        return replace(result, reference=values, notes=notes)


def read_reference(
    path: Path, shape: tuple[int, ...], affine: NDArray[np.float64], oriented: bool
) -> Reference:
    """Read a reference and bring it onto a grid.

    :param path: DICOM file or folder, NIfTI, ``.npy``, a result, or a scan that carries one.
    :param shape: ``(slices, *image_shape)`` of the grid.
    :param affine: of the grid.
    :param oriented: whether its directions are known.
    :raises DataError: no such file, no image in it, or one that does not fit the grid.
    """
    kind = image_kind(path)
    image = _image_of(path)
    values, inside, note = on_grid(image, shape, affine, oriented, path)
    scale = {"DICOM": "match", "NIfTI": "check"}.get(kind or "", "keep")
    notes = (*image.notes, *([note] if note else []))
    if np.iscomplexobj(values):
        values = np.abs(values)
    return Reference(values.astype(np.float32), inside, scale, image.units, notes)


def _image_of(path: Path) -> Image:
    if not path.exists():
        raise DataError(path, hint="no such file")
    if path.is_dir() and is_result(path) or path.name == "result.h5":
        from sciinv.result import load_result

        result = load_result(path)
        return Image(result.mean, result.affine, result.oriented, result.units)
    if image_kind(path) is not None or path.suffix.lower() == ".npy":
        return read_any_image(path)
    from sciinv.data.load import load

    scan = load(path)
    if scan.reference is None:
        raise DataError(path, "reference", found="none", expected="a scan that carries one")
    return Image(scan.reference, scan.affine, scan.oriented, scan.units)
