"""DICOM of a result: derived single-frame MR or CT series, and a parametric map of the std.

Every attribute is made here, none is copied from a scan: there is no name, number or date of a
patient in it, and all identifiers are new (random, below 2.25).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError
from sciinv.report.plain import harmless
from sciinv.report.store import image_axes

if TYPE_CHECKING:
    from sciinv.result import Result

_LPS = np.diag([-1.0, -1.0, 1.0])  # DICOM's x and y point to left and posterior
_CLASSES = {"mri": ("MR", "MRImageStorage"), "ct": ("CT", "CTImageStorage")}
_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber", "PositionReferenceIndicator",
    "PatientPosition", "Laterality",
)  # fmt: skip
_EMPTY_OF = {"MR": ("ScanOptions", "EchoTime", "RepetitionTime", "EchoTrainLength"),
             "CT": ("KVP", "AcquisitionNumber")}  # fmt: skip
_STEPS = 65535  # of 16 bits
_MAKER = "sciinv"


def check_dicom(kind: str) -> None:
    """Refuse before any work what :func:`write_dicom` could not write.

    :param kind: of the scan.
    :raises DataError: no pydicom, or a kind that DICOM has no image class for.
    """
    if kind not in _CLASSES:
        raise DataError("DICOM", found=f"a {kind} image", expected="MRI or CT")
    if find_spec("pydicom") is None:
        raise DataError("DICOM", found="no package pydicom", hint="pip install 'sciinv[dicom]'")


def has_parametric_maps() -> bool:
    """Whether highdicom is here: otherwise the std becomes a second derived series."""
    return find_spec("highdicom") is not None


@dataclass(frozen=True)
class _Study:
    """What all series of one result share."""

    study: str
    frame_of_reference: str
    origin: NDArray[np.float64] = field(repr=False)  # LPS mm of the first voxel
    steps: NDArray[np.float64] = field(repr=False)  # LPS mm of one row, column, slice index


def write_dicom(result: Result, folder: Path) -> None:
    """Write ``mean/NNNN.dcm`` and, with two samples or more, ``std.dcm`` or ``std/NNNN.dcm``.

    ``std.dcm`` is a parametric map of float32 values (highdicom); without highdicom the std is a
    second derived series. Several volumes become several series.

    :param folder: existing folder.
    :raises DataError: no pydicom, no class for the kind, or rows and columns that are not
        perpendicular.
    """
    check_dicom(result.kind)
    uid = import_module("pydicom.uid")
    axes = _LPS @ np.asarray(result.affine, np.float64)[:3]
    unit = axes[:, :2] / np.linalg.norm(axes[:, :2], axis=0)
    if abs(float(unit[:, 0] @ unit[:, 1])) > 1e-4:
        raise DataError(
            "DICOM", "affine", found="rows and columns at an angle", expected="perpendicular ones"
        )
    study = _Study(
        study=uid.generate_uid(prefix=None),
        frame_of_reference=uid.generate_uid(prefix=None),
        origin=axes[:, 3],
        steps=axes[:, :3],
    )
    means = _volumes(result.mean)
    several = len(means) > 1
    for number, volume in enumerate(means, start=1):
        name = f"mean{number}" if several else "mean"
        series = _series(result, study, volume, "posterior mean", number)
        _save_series(series, folder / name)
        if result.num_samples < 2:
            continue
        std = _volumes(result.std)[number - 1]
        name = f"std{number}" if several else "std"
        if has_parametric_maps():
            _parametric_map(result, series, std, len(means) + number).save_as(
                folder / f"{name}.dcm", enforce_file_format=True
            )
        else:
            what = "posterior standard deviation"
            _save_series(_series(result, study, std, what, len(means) + number), folder / name)


def _volumes(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Volumes of axes (row, column, slice)."""
    arrays = image_axes(images)
    return [arrays] if arrays.ndim == 3 else list(np.moveaxis(arrays, -1, 0))


def _save_series(series: list[Any], folder: Path) -> None:
    folder.mkdir()
    for number, item in enumerate(series, start=1):
        item.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def _decimal(value: float) -> str:
    """Write a decimal string: at most 16 characters."""
    return next(t for t in (f"{value:.{n}g}" for n in range(16, 0, -1)) if len(t) <= 16)


def _series(
    result: Result, study: _Study, volume: NDArray[np.float32], what: str, number: int
) -> list[Any]:
    """One single-frame data set for each slice; all share one rescaling."""
    uid = import_module("pydicom.uid")
    low, high = float(volume.min()), float(volume.max())
    slope, intercept = _decimal((high - low) / _STEPS or 1.0), _decimal(low)
    # with the numbers as they are written, not as they were
    stored = np.rint((volume.astype(np.float64) - float(intercept)) / float(slope))
    pixels = np.clip(stored, 0, _STEPS).astype(np.uint16)
    series = uid.generate_uid(prefix=None)
    sets = []
    for index in range(volume.shape[-1]):
        item = _data_set(result, study, pixels.shape, what)
        item.SeriesInstanceUID, item.SeriesNumber = series, number
        item.InstanceNumber = index + 1
        position = study.origin + index * study.steps[:, 2]
        item.ImagePositionPatient = [_decimal(v) for v in position]
        item.RescaleSlope, item.RescaleIntercept = slope, intercept
        item.RescaleType = "US"  # neither Hounsfield units nor another named scale
        item.WindowCenter, item.WindowWidth = _decimal((low + high) / 2), _decimal(high - low or 1)
        # DICOM is little-endian whatever the machine is
        item.PixelData = np.ascontiguousarray(pixels[..., index]).astype("<u2").tobytes()
        sets.append(item)
    return sets


def _data_set(result: Result, study: _Study, shape: tuple[int, ...], what: str) -> Any:  # noqa: ANN401
    """Everything but the pixels, their scale and position."""
    from sciinv import __version__

    dataset, uid = import_module("pydicom.dataset"), import_module("pydicom.uid")
    modality, name = _CLASSES[result.kind]
    item = dataset.Dataset()
    item.file_meta = dataset.FileMetaDataset()
    item.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = getattr(uid, name)
    item.SOPInstanceUID = uid.generate_uid(prefix=None)
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
    for keyword in (*_EMPTY, *_EMPTY_OF[modality]):
        setattr(item, keyword, None)
    item.SpecificCharacterSet = "ISO_IR 192"
    item.PatientIdentityRemoved = "YES"
    item.DeidentificationMethod = "made without any attribute of the patient"
    item.Modality, item.Manufacturer = modality, _MAKER
    item.ManufacturerModelName, item.SoftwareVersions = _MAKER, f"{_MAKER} {__version__}"
    item.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if modality == "CT" else "OTHER"]
    if modality == "MR":
        item.ScanningSequence, item.SequenceVariant = "RM", "NONE"  # research mode
        item.MRAcquisitionType = "3D" if result.samples.ndim == 5 else "2D"
    units = harmless(result.units)[:16]
    item.SeriesDescription = f"{what} [{units}]"
    item.DerivationDescription = (
        f"{what} of {result.num_samples} samples, in {units}; research use only"
        + ("" if result.oriented else "; orientation and position assumed")
    )
    item.StudyInstanceUID = study.study
    item.FrameOfReferenceUID = study.frame_of_reference
    row, column, slice_ = (float(n) for n in np.linalg.norm(study.steps, axis=0))
    along_row, along_column = study.steps[:, 1] / column, study.steps[:, 0] / row
    item.ImageOrientationPatient = [_decimal(v) for v in (*along_row, *along_column)]
    item.PixelSpacing = [_decimal(row), _decimal(column)]
    item.SliceThickness = _decimal(slice_)
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.Rows, item.Columns = shape[:2]
    item.BitsAllocated, item.BitsStored, item.HighBit = 16, 16, 15
    item.PixelRepresentation = 0
    item.BurnedInAnnotation, item.LossyImageCompression = "NO", "00"
    return item


def _parametric_map(
    result: Result, sources: list[Any], volume: NDArray[np.float32], number: int
) -> Any:  # noqa: ANN401
    """Float32 map at the positions of the mean's slices."""
    from sciinv import __version__

    content, maps, coding, uid = (
        import_module(name)
        for name in ("highdicom.content", "highdicom.pm", "highdicom.sr.coding", "pydicom.uid")
    )
    per_mm = result.units == "1/mm"
    unit = coding.CodedConcept(
        value="/mm" if per_mm else "1",
        scheme_designator="UCUM",
        meaning="per millimeter" if per_mm else "no units",
    )
    low, high = float(volume.min()), float(volume.max())
    mapping = maps.RealWorldValueMapping(
        lut_label="std",
        lut_explanation=f"posterior standard deviation [{harmless(result.units)[:16]}]",
        unit=unit,
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
    )
    measures = sources[0]
    created = maps.ParametricMap(
        source_images=sources,
        pixel_array=np.ascontiguousarray(np.moveaxis(volume, -1, 0), dtype=np.float32),
        series_instance_uid=uid.generate_uid(prefix=None),
        series_number=number,
        sop_instance_uid=uid.generate_uid(prefix=None),
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=_MAKER,
        software_versions=f"{_MAKER} {__version__}",
        device_serial_number="none",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[
            content.VOILUTTransformation(
                window_center=(low + high) / 2, window_width=high - low or 1.0
            )
        ],
        pixel_measures=content.PixelMeasuresSequence(
            pixel_spacing=[float(v) for v in measures.PixelSpacing],
            slice_thickness=float(measures.SliceThickness),
        ),
        series_description="posterior standard deviation",
    )
    return created
