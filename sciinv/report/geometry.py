"""Where a cut through the image stack lies: direction letters, spacing, cropping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OPPOSITE = dict(zip("LRPAIS", "RLAPSI", strict=True))
_PLANES = {"L": "Sagittal", "R": "Sagittal", "P": "Coronal", "A": "Coronal"}  # else axial
_BORDER = 4  # pixels kept around the visible region


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Three letters of where row, column and slice index grow to."""
    import nibabel as nib

    return "".join(nib.aff2axcodes(affine))


def voxel_size(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Spacing in mm along (row, column, slice)."""
    row, column, slice_ = np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0)
    return float(row), float(column), float(slice_)


@dataclass(frozen=True)
class View:
    """A 2D cut, cropped to what the data see.

    :param index: index into ``(slices, *image_shape)`` that gives the 2D image.
    :param crop: slices along its two axes.
    :param spacing: length of a pixel along its two axes.
    :param letters: left, right, top, bottom, or ``None`` where directions are unknown.
    :param flip: whether rows are shown from the last to the first.
    :param unit: unit of the spacing, ``"mm"`` or ``"px"`` where no length is known.
    """

    title: str
    index: tuple[Any, ...]
    crop: tuple[slice, slice]
    shape: tuple[int, int]
    spacing: tuple[float, float]
    letters: tuple[str, str, str, str] | None
    flip: bool = False
    unit: str = "mm"

    def cut(self, images: NDArray[Any]) -> NDArray[Any]:
        """Take this cut out of ``(slices, *image_shape)``."""
        image = images[self.index][self.crop]
        return image[::-1] if self.flip else image


def views(
    visible: NDArray[np.bool_],
    affine: NDArray[np.float64],
    *,
    oriented: bool = True,
    units: str = "",
) -> list[View]:
    """The middle slice and, for stacks and volumes, the two cuts across it.

    :param visible: ``(slices, *image_shape)``, False where the data see nothing.
    :param affine: 4 x 4 voxel (row, column, slice) index to RAS mm.
    :param oriented: whether the directions of the affine mean anything.
    :param units: unit of the values; one per pixel says that lengths are in pixels.
    """
    affine = np.asarray(affine, np.float64)
    first: tuple[Any, ...] = ()
    shape = visible.shape
    if len(shape) == 4:  # a stack of volumes: the middle one
        first, shape = (shape[0] // 2,), shape[1:]
    middle = [_middle(visible[first], axis) for axis in range(3)]
    everything = slice(None)
    # axes of the arrays are (slice, row, column), columns of the affine (row, column, slice)
    cuts: list[tuple[tuple[Any, ...], tuple[int, int], int]]
    cuts = [((middle[0], everything, everything), (0, 1), 2)]
    if shape[0] > 1:
        cuts += [
            ((everything, middle[1], everything), (2, 1), 0),
            ((everything, everything, middle[2]), (2, 0), 1),
        ]
    return [
        replace(
            _view(visible[first + index], first + index, axes, normal, affine, oriented),
            unit=length_unit(units),
        )
        for index, axes, normal in cuts
    ]


def length_unit(units: str) -> str:
    """``"px"`` if the values of an image are per pixel (no length is known), else ``"mm"``."""
    return "px" if units.endswith("/pixel") else "mm"


def _middle(visible: NDArray[np.bool_], axis: int) -> int:
    # the middle of what is seen: a row through an empty border shows nothing
    seen = np.flatnonzero(visible.any(axis=tuple({0, 1, 2} - {axis})))
    return int((seen[0] + seen[-1] + 1) // 2) if seen.size else visible.shape[axis] // 2


def _view(
    visible: NDArray[np.bool_],
    index: tuple[Any, ...],
    axes: tuple[int, int],
    normal: int,
    affine: NDArray[np.float64],
    oriented: bool,
) -> View:
    size = voxel_size(affine)
    codes = axis_codes(affine)
    bottom, right = (codes[axis] for axis in axes)
    letters = None
    flip = False
    if oriented:
        # the head is up in cuts across the slices; the slices themselves stay as they are stored
        flip = normal != 2 and bottom == "S"
        bottom = _OPPOSITE[bottom] if flip else bottom
        letters = (_OPPOSITE[right], right, _OPPOSITE[bottom], bottom)
    name = _PLANES.get(codes[normal], "Axial")
    unnamed = {2: "Slice", 0: "Columns by slices", 1: "Rows by slices"}[normal]
    return View(
        title=name if oriented else unnamed,
        index=index,
        crop=(seen_range(visible, 1), seen_range(visible, 0)),
        shape=(visible.shape[0], visible.shape[1]),
        spacing=(size[axes[0]], size[axes[1]]),
        letters=letters,
        flip=flip,
    )


def seen_range(visible: NDArray[np.bool_], over: int) -> slice:
    """Range that is seen along the axis of a 2D mask other than ``over``, with a border."""
    seen = np.flatnonzero(visible.any(axis=over))
    if seen.size == 0:
        return slice(None)
    return slice(max(int(seen[0]) - _BORDER, 0), int(seen[-1]) + 1 + _BORDER)
