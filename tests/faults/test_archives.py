"""Row 19: archives and directories of files that name places outside; nothing is unpacked."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sciinv import load
from sciinv.data.reference import read_image
from sciinv.errors import DataError

SIDE = """
kind = "ct"
quantity = "line_integrals"
axes = ["angle", "detector"]
[ct]
angles = { stop = 180, count = 12, unit = "deg" }
detector_spacing = 1.0
"""
NAMES = ["../outside.npy", "/tmp/outside-sciinv.npy", "a/../../outside.npy", "C:\\outside.npy"]


def array_bytes() -> bytes:
    out = io.BytesIO()
    np.save(out, np.random.default_rng(0).random((12, 16)))
    return out.getvalue()


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".zip", ".npz", ".h5"])
def test_zip_members_are_read_in_place_or_refused(tmp_path, name, suffix):
    folder = tmp_path / "scans"
    folder.mkdir()
    path = folder / f"scan{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, array_bytes())
    path.with_suffix(".toml").write_text(SIDE)
    before = tree(tmp_path)
    assert load(path).data.shape == (1, 12, 16)  # an array of any name is an array
    assert tree(tmp_path) == before
    assert not Path("/tmp/outside-sciinv.npy").exists()


def test_a_zip_without_arrays_and_a_link_in_a_zip(tmp_path):
    secret = tmp_path / "secret.npy"
    secret.write_bytes(array_bytes())
    link = zipfile.ZipInfo("p.npy")
    link.external_attr = 0o120777 << 16  # a symbolic link, as zip stores it
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, str(secret))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(SIDE)
        with pytest.raises(DataError, match=rf"{name}\.zip"):
            load(tmp_path / f"{name}.zip")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_is_no_scan(tmp_path, mode):
    folder = tmp_path / "scans"
    folder.mkdir()
    with tarfile.open(folder / "scan.tar", mode) as archive:
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../x")):
            member = tarfile.TarInfo("p.npy")
            member.type, member.linkname = kind, target
            archive.addfile(member)
        member = tarfile.TarInfo("../outside.npy")
        member.size = len(array_bytes())
        archive.addfile(member, io.BytesIO(array_bytes()))
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"scan\.tar.*expected one of the formats"):
        load(folder / "scan.tar")
    assert tree(tmp_path) == before


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_dicomdir_leads_nowhere(tmp_path):
    """It is no image, and the files that it names are not looked for."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset

    record = Dataset()
    record.DirectoryRecordType = "IMAGE"
    record.ReferencedFileID = ["..", "..", "etc", "passwd"]
    directory = Dataset()
    directory.DirectoryRecordSequence = [record]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    directory.file_meta = meta
    folder = tmp_path / "disc"
    folder.mkdir()
    pydicom.dcmwrite(folder / "DICOMDIR", directory, enforce_file_format=True)
    for path in (folder, folder / "DICOMDIR"):
        with pytest.raises(DataError, match="disc"):
            read_image(path)
    with pytest.raises(DataError, match="DICOMDIR"):
        load(folder / "DICOMDIR")
