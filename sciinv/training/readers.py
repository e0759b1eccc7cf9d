"""Stacks of slices in image files, read one slice at a time; nothing stays open in between.

A file is opened for every slice, so that a stack can be sent to another process and a run over
thousands of files holds no handle. Where the format allows it (NIfTI, HDF5, TIFF pages, .npy) only
the bytes of that slice are read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.files import check_regular_file, declared_bytes, reading, refuse_unbacked
from sciinv.data.guard import open_hdf5
from sciinv.errors import DataError

_MAX_TIFF_PAGES = 1_000_000
_GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601


class Stack(ABC):
    """Slices of one file.

    :param path: the file; its header is read, its values are not.
    :param dataset: name of the data set, HDF5 only.
    :raises DataError: missing, damaged, or not numbers in two or more axes.
    """

    path: Path
    shape: tuple[int, int]
    leading: tuple[int, ...]

    def __init__(self, path: Path, dataset: str | None = None) -> None:
        check_regular_file(path)
        self.path = path
        with reading(path):
            self._open(dataset)
        if min(*self.shape, *self.leading, 1) < 1:
            raise DataError(path, "shape", found=(*self.leading, *self.shape),
                            expected="no empty axis")  # fmt: skip
        # of one byte at least; whatever packs it, an image is no thousandth of its size
        refuse_unbacked(path, "shape", declared_bytes((*self.leading, *self.shape), 1),
                        path.stat().st_size)  # fmt: skip

    @property
    def count(self) -> int:
        """Number of slices: all axes but those of the slice, taken together."""
        return int(np.prod(self.leading, dtype=np.int64))

    def read(self, index: int) -> NDArray[Any]:
        """Read one slice ``(H, W)``, real or complex, in the values that the file means.

        :raises DataError: damaged, or no number at all in the slice.
        """
        with reading(self.path, f"slice {index}"):
            values = np.asarray(self._read(index))
        if values.dtype.kind not in "fiucb":
            raise DataError(self.path, found=f"dtype {values.dtype}", expected="numbers")
        if not np.isfinite(values).all():
            raise DataError(self.path, f"slice {index}", found="NaN or infinity",
                            expected="finite values")  # fmt: skip
        wide = np.complex64 if values.dtype.kind == "c" else np.float32
        return values.astype(wide)

    @abstractmethod
    def _open(self, dataset: str | None) -> None:
        """Set ``shape`` and ``leading`` from the header."""

    @abstractmethod
    def _read(self, index: int) -> NDArray[Any]:
        """Read one slice."""

    def _axes(self, shape: tuple[int, ...]) -> None:
        """Take the last two axes for the slice."""
        if len(shape) < 2:
            raise DataError(self.path, "shape", found=shape, expected="two axes or more")
        self.leading, self.shape = tuple(shape[:-2]), (int(shape[-2]), int(shape[-1]))

    def _position(self, index: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(index, self.leading)) if self.leading else ()


class NiftiStack(Stack):
    """NIfTI: a slice is one index of the third axis, its rows run along the first axis."""

    def _open(self, dataset: str | None) -> None:
        shape = tuple(int(n) for n in self._file().shape)
        if len(shape) < 2:
            raise DataError(self.path, "shape", found=shape, expected="two axes or more")
        self.shape, self.leading = (shape[0], shape[1]), shape[2:]

    def _file(self) -> Any:  # noqa: ANN401
        import nibabel

        return nibabel.load(self.path)

    def _read(self, index: int) -> NDArray[Any]:
        return np.asarray(self._file().dataobj[(..., *self._position(index))])


class HDF5Stack(Stack):
    """A data set of an HDF5 file: the last two axes are the slice."""

    def _open(self, dataset: str | None) -> None:
        with open_hdf5(self.path) as file:
            if dataset is None:
                names = [n for n in file.keys() if file.is_dataset(n)]  # noqa: SIM118
                names = [n for n in names if len(file.shape(n)) >= 2]
                if len(names) != 1:
                    raise DataError(
                        self.path, "data.dataset", found=f"data sets {', '.join(names)}"
                        if names else "no data set of two axes or more at the top",
                        expected="the name of one", hint="set dataset in [data]",
                    )  # fmt: skip
                dataset = names[0]
            self.dataset = dataset
            self._axes(file.shape(dataset))

    def _read(self, index: int) -> NDArray[Any]:
        with open_hdf5(self.path) as file:
            return file.read(self.dataset, kinds="cfiub", index=self._position(index))


class NpyStack(Stack):
    """NumPy ``.npy``: the last two axes are the slice. Nothing is unpickled."""

    def _open(self, dataset: str | None) -> None:
        array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        self._axes(array.shape)

    def _read(self, index: int) -> NDArray[Any]:
        array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return np.array(array[self._position(index)])


class TiffStack(Stack):
    """TIFF: a page is a slice; colours become grey. Pages of other files are not followed."""

    def _open(self, dataset: str | None) -> None:
        with self._file() as tif:
            if len(tif.pages) > _MAX_TIFF_PAGES:
                raise DataError(self.path, "pages", found=len(tif.pages), expected=_MAX_TIFF_PAGES)
            first = tif.pages[0].keyframe
            self.shape = (int(first.imagelength), int(first.imagewidth))
            self.leading = (len(tif.pages),)

    def _file(self) -> Any:  # noqa: ANN401
        from tifffile import TiffFile

        return TiffFile(self.path, is_ome=False, _multifile=False)

    def _read(self, index: int) -> NDArray[Any]:
        with self._file() as tif:
            page = tif.pages[index]
            values = np.asarray(page.asarray())
            colours = int(page.keyframe.samplesperpixel)
        if colours > 1:
            axis = values.shape.index(colours)
            values = np.moveaxis(values, axis, -1)[..., : min(colours, 3)]
            values = values @ _GREY if colours >= 3 else values[..., 0]
        if values.shape != self.shape:
            raise DataError(self.path, f"page {index}", found=f"shape {values.shape}",
                            expected=f"{self.shape} as page 0")  # fmt: skip
        return values


class PngStack(Stack):
    """PNG of 8 or 16 bits: one slice; colours become grey."""

    def _open(self, dataset: str | None) -> None:
        from PIL import Image

        with Image.open(self.path, formats=["PNG"]) as picture:
            self.shape, self.leading = (picture.height, picture.width), ()

    def _read(self, index: int) -> NDArray[Any]:
        from PIL import Image

        with Image.open(self.path, formats=["PNG"]) as picture:
            deep = picture.mode.startswith("I") or picture.mode in ("F", "L", "1")
            return np.array(picture if deep else picture.convert("L"))


class DicomStack(Stack):
    """DICOM: a frame is a slice, in rescaled values (Hounsfield units for CT)."""

    def _open(self, dataset: str | None) -> None:
        header = _pydicom().dcmread(self.path, stop_before_pixels=True)
        frames = int(header.get("NumberOfFrames", 1) or 1)
        if "Rows" not in header or "Columns" not in header:
            raise DataError(self.path, "Rows", found="no image", expected="a DICOM image")
        self.shape, self.leading = (int(header.Rows), int(header.Columns)), (frames,)

    def _read(self, index: int) -> NDArray[Any]:
        header = _pydicom().dcmread(self.path, stop_before_pixels=True)
        pixels = import_module("pydicom.pixels")
        values = pixels.pixel_array(self.path, index=index)
        if values.ndim == 3:
            values = values[..., :3] @ _GREY
        return np.asarray(pixels.apply_rescale(values, header))


def _pydicom() -> Any:  # noqa: ANN401
    try:
        return import_module("pydicom")
    except ImportError:
        raise DataError(
            "DICOM", found="no package pydicom", hint="pip install 'sciinv[dicom]'"
        ) from None


_STACKS: dict[str, type[Stack]] = {
    ".nii": NiftiStack, ".nii.gz": NiftiStack, ".h5": HDF5Stack, ".hdf5": HDF5Stack,
    ".hdf": HDF5Stack, ".npy": NpyStack, ".tif": TiffStack, ".tiff": TiffStack,
    ".png": PngStack, ".dcm": DicomStack, ".ima": DicomStack,
}  # fmt: skip


def stack_type(path: Path) -> type[Stack] | None:
    """Return what reads a file, by its suffix; a file without one is asked whether it is DICOM."""
    name = path.name.lower()
    for suffix, kind in _STACKS.items():
        if name.endswith(suffix):
            return kind
    # scanners name DICOM files by number, with dots in it
    try:
        with path.open("rb") as file:
            return DicomStack if file.read(132)[128:] == b"DICM" else None
    except OSError:
        return None


def open_stack(path: Path, dataset: str | None = None) -> Stack:
    """Open a file for reading by slices.

    :raises DataError: missing, of no known kind, damaged.
    """
    check_regular_file(path)
    kind = stack_type(path)
    if kind is None:
        raise DataError(path, "suffix", found=repr(path.suffix),
                        expected=f"one of {', '.join(_STACKS)}")  # fmt: skip
    return kind(path, dataset)
