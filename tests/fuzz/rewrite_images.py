"""Damage to fields of DICOM and NIfTI images, so that the rest of the file stays as it was."""

from __future__ import annotations

import io
import random
import struct
import warnings

# keyword: values that are none, or too large, or of another kind
FIELDS: dict[str, tuple[object, ...]] = {
    "Rows": (0, 1, 65535, 13, 15),
    "Columns": (0, 1, 65535, 10, 12),
    "BitsAllocated": (0, 1, 8, 12, 32, 64, 65535),
    "BitsStored": (0, 1, 12, 65535),
    "HighBit": (0, 7, 65535),
    "PixelRepresentation": (0, 2, 65535),
    "SamplesPerPixel": (0, 3, 65535),
    "NumberOfFrames": (0, -1, 1, 2, 2**31 - 1, "x"),
    "PhotometricInterpretation": ("RGB", "MONOCHROME1", "PALETTE COLOR", "YBR_FULL", ""),
    "PixelSpacing": ([0, 0], [-1, 1], [1e300, 1], ["nan", 1], [1], [1, 1, 1], ["", ""]),
    "ImagePositionPatient": ([0, 0, 0], ["inf", 0, 0], [1e30, 0, 0], [1, 2], ""),
    "ImageOrientationPatient": ([1, 0, 0, 1, 0, 0], [0] * 6, ["nan"] * 6, [1, 0, 0], ""),
    "RescaleSlope": (0, -1, "nan", "1e400", ""),
    "RescaleIntercept": ("inf", "x", 1e38),
    "SliceThickness": (0, -1, "nan", ""),
    "SeriesInstanceUID": ("", "1.2.4", "x" * 64),
    "Modality": ("", "SR", "OT"),
    "PixelData": (b"", b"\0", b"\0" * 4096),
}
_SYNTAXES = ("1.2.3", "", *(f"1.2.840.10008.1.2{end}" for end in ("", ".2", ".5", ".4.50", ".4.90",
                                                               ".1.99")))  # fmt: skip
# offset and format of what a NIfTI-1 header says
_NIFTI = (
    *((40 + 2 * k, "<h") for k in range(8)), (70, "<h"), (72, "<h"),
    *((76 + 4 * k, "<f") for k in range(8)), (108, "<f"), (112, "<f"), (116, "<f"), (123, "<B"),
    (252, "<h"), (254, "<h"), *((256 + 4 * k, "<f") for k in range(18)), (348, "<i"), (0, "<i"),
)  # fmt: skip
_NUMBERS = {
    "<h": (0, 1, -1, 2, 8, 4, 16, 32, 64, 128, 256, 512, 1024, 1792, 2304, 32767, -32768),
    "<f": (0.0, -1.0, 1.0, float("nan"), float("inf"), 1e38, 352.0, 1e-45, 5.0, 1e9),
    "<B": (0, 1, 2, 3, 255),
    "<i": (0, 1, 348, 540, 2**31 - 1, -1),
}


def rewrite_dicom(rng: random.Random, data: bytes) -> bytes | None:
    """Change, remove or nest a few elements; ``None`` if the file cannot be written so."""
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            item = pydicom.dcmread(io.BytesIO(data), force=True)
            for _ in range(rng.choice((1, 1, 2, 3))):
                _change(rng, item)
            stream = io.BytesIO()
            item.save_as(stream)
        except Exception:  # noqa: BLE001 - a value that cannot be written
            return None
    return stream.getvalue()


def _change(rng: random.Random, item: object) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    assert isinstance(item, Dataset)
    draw = rng.random()
    name = rng.choice(list(FIELDS))
    if draw < 0.1:
        item.file_meta.TransferSyntaxUID = rng.choice(_SYNTAXES)
    elif draw < 0.2 and name in item:
        delattr(item, name)
    elif draw < 0.3:
        inner = Dataset()
        setattr(inner, name, rng.choice(FIELDS[name]))
        frames = [inner] * rng.choice((0, 1, 3, 5))
        item.PerFrameFunctionalGroupsSequence = Sequence(frames)
    elif draw < 0.4 and "PerFrameFunctionalGroupsSequence" in item:
        del item.PerFrameFunctionalGroupsSequence[rng.randrange(2) :]
    else:
        setattr(item, name, rng.choice(FIELDS[name]))


def rewrite_nifti(rng: random.Random, data: bytes) -> bytes:
    """Set one to three fields of a header."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        offset, form = rng.choice(_NIFTI)
        struct.pack_into(form, content, offset, rng.choice(_NUMBERS[form]))
    return bytes(content)
