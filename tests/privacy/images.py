"""Images that results are compared with, full of names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .plants import COLUMNS, ROWS, canary


def dicom(folder: Path) -> Path:
    """One slice with names in public and private elements, an overlay and a comment."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    from ..data import image_files as files

    def plant(keyword: str, text: str) -> str:
        return canary(text, f"DICOM {keyword}")

    names = {
        "PatientName": "QxDcmDoe^QxDcmJane", "PatientID": "QxDcmPid",
        "OtherPatientIDs": "QxDcmOther",
        "PatientBirthDate": "19640913", "StudyDate": "20100226", "SeriesDate": "20100227",
        "AcquisitionDateTime": "20100228091011", "AccessionNumber": "QxDcmAcc",
        "InstitutionName": "QxDcmClinic", "InstitutionAddress": "QxDcmStreet",
        "ReferringPhysicianName": "QxDcmWatson", "OperatorsName": "QxDcmOperator",
        "StationName": "QxDcmStation", "DeviceSerialNumber": "QxDcmSerial",
        "ProtocolName": "QxDcmProtocol", "SeriesDescription": "QxDcmSeries",
        "StudyDescription": "QxDcmStudy", "ImageComments": "QxDcmComment",
        "PatientComments": "QxDcmRemark", "StudyInstanceUID": "1.2.840.4711.5.1",
        "SeriesInstanceUID": "1.2.840.4711.5.2", "FrameOfReferenceUID": "1.2.840.4711.5.3",
        "AdditionalPatientHistory": "QxDcmHistory", "StudyID": "QxDcmStudyID",
    }  # fmt: skip
    from sciinv.data.phantoms import shepp_logan

    image = (1000 * shepp_logan((ROWS, COLUMNS))).astype(np.int16)
    item = files.data_set(image, **{k: plant(k, v) for k, v in names.items()})
    del item.ImageOrientationPatient  # voxels correspond
    item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = plant(
        "SOPInstanceUID", "1.2.840.4711.5.4"
    )
    item.private_block(0x0029, canary("QxDcmCreator", "DICOM private creator"), create=True)
    block = item.private_block(0x0029, "QxDcmCreator")
    block.add_new(0x10, "LO", canary("QxDcmPrivate", "DICOM private element"))
    block.add_new(0x11, "UN", canary("QxDcmBinary", "DICOM private binary element").encode())
    item.add_new(0x60000022, "LO", canary("QxDcmOverlay", "DICOM overlay description"))
    inner = Dataset()
    inner.PatientID = canary("QxDcmNested", "DICOM nested sequence")
    item.RequestAttributesSequence = Sequence([inner])
    path = folder / "dicom.dcm"
    item.preamble = canary("QxDcmPreamble", "DICOM preamble").encode().ljust(128, b"\0")
    item.save_as(path, enforce_file_format=True)
    return path


def nifti(folder: Path) -> Path:
    """Names in every free field of the header and in extensions."""
    import nibabel as nib
    from nibabel.nifti1 import Nifti1Extension

    values = np.random.default_rng(4).uniform(0, 1, (47, 47, 1)).astype(np.float32)
    image = nib.Nifti1Image(values, np.diag([2.0, 1.5, 4, 1]))
    for field, text in {
        "descrip": "QxNiiDescrip", "aux_file": "QxNiiAux", "db_name": "QxNiiDb",
        "intent_name": "QxNiiIntent",
    }.items():  # fmt: skip
        image.header[field] = canary(text, f"NIfTI {field}").encode()
    for code in (4, 6, 44):
        text = canary(f"QxNiiExtension{code}", f"NIfTI extension of code {code}")
        image.header.extensions.append(Nifti1Extension(code, text.encode()))
    path = folder / "nifti.nii.gz"
    nib.save(image, path)
    return path
