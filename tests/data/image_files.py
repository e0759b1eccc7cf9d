"""DICOM and NIfTI images as pydicom and nibabel write them, with a letter and one marked voxel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (5, 14, 11)  # slices, rows, columns
MARKER = (3, 11, 8)
# an oblique stack: direction of growing column and row index, and their normal (LPS)
_ANGLE = np.deg2rad(25)
ACROSS = np.array([np.cos(_ANGLE), np.sin(_ANGLE), 0.0])
DOWN = np.array([0.0, 0.0, -1.0])
NORMAL = np.cross(ACROSS, DOWN)
FIRST = np.array([-31.5, 12.25, 40.0])  # LPS mm of the first voxel
SPACING = (3.5, 1.25, 0.75)  # mm: slice, row, column


def letter_f(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Counts: an F in every slice, brighter from slice to slice, and the marker."""
    image = np.zeros(shape, np.int16)
    for index in range(shape[0]):
        image[index, 2:10, 3] = 100 + index
        image[index, 2, 3:8] = 100 + index
        image[index, 5, 3:6] = 100 + index
    if shape[0] > MARKER[0]:
        image[MARKER] = 900
    return image


def world(slice_: float, row: float, column: float) -> np.ndarray:
    """LPS mm of a voxel, by the equation of the DICOM standard, PS3.3 C.7.6.2.1.1."""
    place = FIRST + slice_ * SPACING[0] * NORMAL
    return place + row * SPACING[1] * DOWN + column * SPACING[2] * ACROSS


def data_set(pixels: np.ndarray, **changes: Any):
    """A small CT image of one slice; identifying fields say CANARY."""
    import pydicom.uid as uid
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    item = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    item.SOPClassUID = uid.CTImageStorage
    item.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    item.PatientName = item.PatientID = item.StationName = item.SeriesDescription = "CANARY"
    item.StudyDate = "20240102"
    item.Modality = "CT"
    item.SeriesInstanceUID = "1.2.3"
    item.Rows, item.Columns = pixels.shape[-2:]
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.BitsAllocated = item.BitsStored = 16
    item.HighBit, item.PixelRepresentation = 15, 1
    item.PixelSpacing = list(SPACING[1:])
    item.SliceThickness = SPACING[0]
    item.ImageOrientationPatient = [*ACROSS, *DOWN]
    item.RescaleSlope, item.RescaleIntercept = 2, -1000
    item.PixelData = pixels.astype("<i2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(item, name)
        else:
            setattr(item, name, value)
    return item


def write_series(folder: Path, image: np.ndarray, order: Any = None, **changes: Any) -> Path:
    """One file for each slice, named in the order ``order`` of writing, not of position."""
    folder.mkdir(exist_ok=True)
    order = range(len(image)) if order is None else order
    for number, index in enumerate(order):
        item = data_set(image[index], **changes)
        if "ImagePositionPatient" not in changes:
            item.ImagePositionPatient = [float(v) for v in world(index, 0, 0)]
        item.InstanceNumber = number + 1
        item.save_as(folder / f"{number:03d}", enforce_file_format=True)
    return folder


def write_enhanced(path: Path, image: np.ndarray, order: Any) -> Path:
    """All slices in one file, in the order ``order``, each with a place and scale of its own."""
    import pydicom.uid as uid
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    elsewhere = ("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "RescaleSlope",
                 "RescaleIntercept")  # fmt: skip
    item = data_set(image[list(order)], **dict.fromkeys(elsewhere))
    item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = uid.EnhancedCTImageStorage
    item.NumberOfFrames = len(image)
    shared = Dataset()
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [*ACROSS, *DOWN]
    measures.PixelSpacing, measures.SliceThickness = list(SPACING[1:]), SPACING[0]
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    item.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for index in order:
        frame, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [float(v) for v in world(index, 0, 0)]
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 2, -1000, "HU"
        frame.PlanePositionSequence = Sequence([place])
        frame.PixelValueTransformationSequence = Sequence([values])
        frames.append(frame)
    item.PerFrameFunctionalGroupsSequence = Sequence(frames)
    item.save_as(path, enforce_file_format=True)
    return path


def nifti_affine() -> np.ndarray:
    """RAS affine of the same voxels in the order (row, column, slice)."""
    affine = np.eye(4)
    steps = (DOWN * SPACING[1], ACROSS * SPACING[2], NORMAL * SPACING[0])
    affine[:3] = np.stack([*steps, FIRST], axis=1)
    affine[:2] *= -1
    return affine


def write_nifti(path: Path, image: np.ndarray, **changes: Any) -> Path:
    """Write the image with nibabel, axes (row, column, slice)."""
    import nibabel as nib

    nifti = nib.Nifti1Image(np.moveaxis(image, 0, -1), None)
    nifti.set_sform(changes.get("affine", nifti_affine()), code=changes.get("code", 1))
    nifti.set_qform(None, code=0)
    nifti.header["descrip"] = b"CANARY"
    nifti.header.set_xyzt_units(changes.get("unit", "mm"))
    if "slope" in changes:
        nifti.header.set_slope_inter(*changes["slope"])
    nib.save(nifti, path)
    return path
