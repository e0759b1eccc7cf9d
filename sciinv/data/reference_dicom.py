"""DICOM images: one series, sorted by position; of its header only what is listed here is read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import assumed_affine
from sciinv.data.files import declared_bytes, refuse_unbacked
from sciinv.data.orientation import axes_of, first_voxel_affine, stack_order
from sciinv.data.reference import Image
from sciinv.errors import DataError

__all__ = ["dicom_files", "read_dicom"]

_MAX_FILES = 20_000
_DICOMDIR = "1.2.840.10008.1.3.10"
_DEFLATED = "1.2.840.10008.1.2.1.99"
#: What is read of a header, apart from the pixels. The series is compared and forgotten.
_FIELDS = [
    "SOPClassUID", "SeriesInstanceUID", "Modality", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
_SAME = 1e-3


@dataclass(frozen=True)
class _Frame:
    """One slice: where its pixels are, where it lies, what its values mean."""

    path: Path
    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float
    intercept: float
    size: int  # bytes of the pixels of all frames


def dicom_files(folder: Path) -> list[Path]:
    """Files of a folder that start as DICOM files do; links are not followed.

    :raises DataError: a folder of too many files.
    """
    found: list[Path] = []
    for number, path in enumerate(sorted(folder.iterdir())):
        if number >= _MAX_FILES:
            raise DataError(
                folder, found=f"more than {_MAX_FILES} files", expected="a folder of one series"
            )
        if path.is_symlink() or not path.is_file():
            continue
        try:
            with path.open("rb") as stream:
                head = stream.read(132)
        except OSError:
            continue
        if head[128:] == b"DICM":
            found.append(path)
    return found


def read_dicom(path: Path) -> Image:
    """Read a DICOM file, or the one series in a folder.

    :raises DataError: no pydicom, a DICOMDIR, several series, slices that do not fit each other or
        share a place, colours, pixels that need a decoder, a size out of proportion.
    """
    files = dicom_files(path) if path.is_dir() else [path]
    with _pydicom(path) as pydicom:
        headers = [(file, _header(pydicom, file)) for file in files]
        if path.is_dir():
            headers = [(file, head) for file, head in headers if head.media_class != _DICOMDIR]
        for file, head in headers:
            if head.media_class == _DICOMDIR:
                raise DataError(
                    file, found="a DICOMDIR", expected="an image",
                    hint="give the folder of one series",
                )  # fmt: skip
        _check_series(path, headers)
        frames = [frame for file, head in headers for frame in _frames(file, head)]
        first = headers[0][1]
        units = _units(first)
        frames, affine, oriented, notes, gaps = _sorted(path, first, frames)
        rows, columns = int(first.Rows), int(first.Columns)
        declared = declared_bytes((len(frames) + sum(gaps), rows, columns), 4)
        refuse_unbacked(path, "pixels", declared, sum(file.stat().st_size for file in files))
        stack = np.empty((len(frames), rows, columns), np.float32)
        for number, frame in enumerate(frames):
            stack[number] = _pixels(frame, (rows, columns))
    if any(gaps):
        stack = _filled(stack, gaps)
        notes = (*notes, f"{sum(gaps)} slices are missing and were interpolated")
    return Image(stack, affine, oriented, units, notes)


@contextmanager
def _pydicom(path: Path) -> Iterator[Any]:
    """Give pydicom without its warnings, which quote header fields."""
    try:
        module = import_module("pydicom")
    except ImportError:
        raise DataError(
            path, found="a DICOM file, and no package pydicom", expected="it to read the file",
            hint="pip install 'sciinv[dicom]'",
        ) from None  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield module


def _header(pydicom: Any, file: Path) -> Any:  # noqa: ANN401
    """Read the listed fields; errors of the parser may quote others and are not repeated."""
    try:
        meta = import_module("pydicom.filereader").read_file_meta_info(file)
        if str(meta.get("TransferSyntaxUID", "")) == _DEFLATED:
            raise DataError(
                file, found="a header that is compressed (deflated transfer syntax)",
                expected="a plain one", hint="dcmconv +te writes one",
            )  # fmt: skip
        head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_FIELDS))
        head.media_class = str(meta.get("MediaStorageSOPClassUID", ""))
        head.frames = int(head.get("NumberOfFrames", 1) or 1)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            file, found=f"a damaged header ({type(error).__name__})", expected="a DICOM file"
        ) from None
    return head


def _check_series(path: Path, headers: list[tuple[Path, Any]]) -> None:
    """Refuse what is not one series of grey images of one size."""
    if not headers:
        raise DataError(path, found="no image, only a DICOMDIR", expected="a series")
    for file, head in headers:
        if "Rows" not in head or "Columns" not in head:
            raise DataError(file, "Rows", found="no image", expected="a DICOM image")
        colours = str(head.get("PhotometricInterpretation", ""))
        if int(head.get("SamplesPerPixel", 1) or 1) != 1 or colours == "PALETTE COLOR":
            raise DataError(
                file, "PhotometricInterpretation", found=colours, expected="grey values"
            )
        if head.get("ModalityLUTSequence"):
            raise DataError(
                file, "ModalityLUTSequence", found="a table of values",
                expected="RescaleSlope and RescaleIntercept",
            )  # fmt: skip
    first = headers[0][1]
    series = {str(head.get("SeriesInstanceUID", "")) for _, head in headers}
    if len(series) > 1:
        raise DataError(
            path, found=f"{len(series)} series in {len(headers)} files", expected="one series",
            hint="move each series into a folder of its own",
        )  # fmt: skip
    if len(headers) > 1 and any(head.frames > 1 for _, head in headers):
        raise DataError(path, found="several files of several frames", expected="one of them")
    for name in ("Rows", "Columns", "Modality", "RescaleType"):
        values = {str(head.get(name, "")) for _, head in headers}
        if len(values) > 1:
            shown = " and ".join(sorted(value or "none" for value in values)[:3])
            raise DataError(path, name, found=shown, expected="the same in every slice")
    if declared_bytes((int(first.Rows), int(first.Columns)), 1) == 0:
        raise DataError(path, "Rows", found="no pixels", expected="an image")


def _units(head: Any) -> str:  # noqa: ANN401
    group = _group(head, 0, "PixelValueTransformationSequence")
    named = head.get("RescaleType") or (group.get("RescaleType") if group is not None else None)
    if str(named or "") == "HU" or (not named and str(head.get("Modality", "")) == "CT"):
        return "HU"
    return "a.u."


def _group(head: Any, index: int, name: str) -> Any:  # noqa: ANN401
    """Item of a functional group of one frame, of all frames, or ``None``."""
    own = head.get("PerFrameFunctionalGroupsSequence")
    shared = head.get("SharedFunctionalGroupsSequence")
    for item in ([own[index]] if own and index < len(own) else []) + list(shared or [])[:1]:
        sequence = item.get(name)
        if sequence:
            return sequence[0]
    return None


def _numbers(holder: Any, name: str, length: int) -> tuple[float, ...] | None:  # noqa: ANN401
    value = None if holder is None else holder.get(name)
    if value is None:
        return None
    try:
        numbers = tuple(float(v) for v in (value if length > 1 else [value]))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == length and np.isfinite(numbers).all() else None


def _frames(file: Path, head: Any) -> list[_Frame]:  # noqa: ANN401
    count = head.frames
    several = "PerFrameFunctionalGroupsSequence" in head
    if count > 1 and not several:
        raise DataError(
            file, "NumberOfFrames", found=f"{count} frames without a position of each",
            expected="one frame, or an enhanced image",
        )  # fmt: skip
    if several and len(head.PerFrameFunctionalGroupsSequence) != count:
        raise DataError(
            file, "NumberOfFrames", found=count,
            expected=f"{len(head.PerFrameFunctionalGroupsSequence)}, as frames are described",
        )  # fmt: skip
    bits = int(head.get("BitsAllocated", 16) or 16)
    size = declared_bytes((count, int(head.Rows), int(head.Columns)), bits) // 8
    result = []
    for index in range(count):
        place = _group(head, index, "PlanePositionSequence") if several else head
        turned = _group(head, index, "PlaneOrientationSequence") if several else head
        measures = _group(head, index, "PixelMeasuresSequence") if several else head
        values = _group(head, index, "PixelValueTransformationSequence") if several else head
        slope = _numbers(values, "RescaleSlope", 1) or (1.0,)
        intercept = _numbers(values, "RescaleIntercept", 1) or (0.0,)
        thickness = (
            _numbers(measures, "SpacingBetweenSlices", 1)
            or _numbers(measures, "SliceThickness", 1)
            or (None,)
        )
        result.append(
            _Frame(
                file,
                index if several or count > 1 else -1,
                _numbers(place, "ImagePositionPatient", 3),
                _numbers(turned, "ImageOrientationPatient", 6),
                _numbers(measures, "PixelSpacing", 2),
                thickness[0],
                slope[0],
                intercept[0],
                size,
            )
        )
    return result


def _sorted(
    path: Path,
    head: Any,  # noqa: ANN401
    frames: list[_Frame],
) -> tuple[list[_Frame], NDArray[np.float64], bool, tuple[str, ...], list[int]]:
    """Sort slices by position; return them, the affine, what is known, and the gaps after each."""
    first = frames[0]
    for frame in frames:
        for name in ("orientation", "spacing"):
            one, other = getattr(first, name), getattr(frame, name)
            if (one is None) != (other is None) or (
                one is not None and np.abs(np.subtract(one, other)).max() > _SAME
            ):
                raise DataError(path, name, found="slices that differ", expected="one stack")
    spacing = first.spacing
    notes: tuple[str, ...] = ()
    if spacing is None or min(spacing) <= 0:
        spacing, notes = (1.0, 1.0), ("the image states no pixel size: 1 mm assumed",)
    thickness = first.thickness if first.thickness and first.thickness > 0 else 1.0
    if any(f.position is None for f in frames) or first.orientation is None:
        if len(frames) > 1:
            raise DataError(
                path, "ImagePositionPatient", found="none", expected="one in every slice"
            )
        shape = (1, int(head.Rows), int(head.Columns))
        affine = assumed_affine(shape, (thickness, *spacing), fourier_centre=False)  # type: ignore[arg-type]
        return frames, affine, False, (*notes, "the image states no orientation"), [0]
    across, down = np.reshape(first.orientation, (2, 3))
    axes = axes_of(down, across, np.cross(across, down))
    if axes is None:
        raise DataError(
            path, "ImageOrientationPatient", found=first.orientation, expected="two directions"
        )
    positions = np.array([f.position for f in frames], dtype=np.float64)
    if len(frames) > 1 and np.ptp(positions, axis=0).max() < _SAME:
        raise DataError(
            path, "ImagePositionPatient", found=f"{len(frames)} images at one place",
            expected="slices beside each other",
        )  # fmt: skip
    order, mean, even = stack_order(positions, axes, path)
    ordered = [frames[i] for i in order]
    gaps = [0] * len(ordered)
    step = thickness if mean is None else mean
    if not even:
        step, gaps = _gaps(path, np.diff(positions[order] @ axes[2]))
    sizes = (step, spacing[0], spacing[1])
    return ordered, first_voxel_affine(positions[order[0]], axes, sizes), True, notes, gaps


def _gaps(path: Path, steps: NDArray[np.float64]) -> tuple[float, list[int]]:
    """Return the distance of neighbours and how many slices are missing after each."""
    step = float(np.median(steps[steps < 1.5 * steps.min()]))
    count = np.rint(steps / step)
    off = np.abs(steps - count * step).max()
    if off > 0.05 * step + 0.01 or count.sum() > 4 * len(steps):
        raise DataError(
            path, "ImagePositionPatient",
            found=f"distances of {steps.min():.3g} to {steps.max():.3g} mm",
            expected="equal ones, or single slices missing",
        )  # fmt: skip
    return step, [*(int(n) - 1 for n in count), 0]


def _filled(stack: NDArray[np.float32], gaps: list[int]) -> NDArray[np.float32]:
    """Interpolate slices that are missing."""
    parts = []
    for index, missing in enumerate(gaps):
        parts.append(stack[index])
        for number in range(missing):
            weight = np.float32((number + 1) / (missing + 1))
            parts.append((1 - weight) * stack[index] + weight * stack[index + 1])
    return np.stack(parts)


def _pixels(frame: _Frame, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Decode one frame and rescale it."""
    options = {"index": frame.index} if frame.index >= 0 else {}
    try:
        array = import_module("pydicom.pixels").pixel_array(frame.path, **options)
    except (RuntimeError, NotImplementedError, ImportError) as error:
        # pydicom lists the packages that decode this transfer syntax
        raise DataError(
            frame.path, "pixels", found=f"compressed: {' '.join(str(error).split())[:300]}",
            expected="pixels that can be decoded",
            hint="pip install 'pylibjpeg[all]', or decompress the file with dcmconv or gdcmconv",
        ) from None  # fmt: skip
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise DataError(
            frame.path, "pixels", found=f"{frame.path.stat().st_size} bytes in all ({text})",
            expected=f"{frame.size} bytes of pixels", hint="the file is truncated or damaged",
        ) from None  # fmt: skip
    if array.shape != shape:
        raise DataError(frame.path, "pixels", found=f"shape {array.shape}", expected=f"{shape}")
    return np.asarray(array * np.float64(frame.slope) + frame.intercept, np.float32)
