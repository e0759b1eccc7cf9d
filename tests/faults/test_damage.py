"""Rows 8, 10, 13 and 16 for every format at once, by the same small sound files."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

from sciinv import load
from sciinv.data import isolation
from sciinv.errors import DataError

from ..data import mrd_files
from ..data.example_files import WRITERS
from ..data.test_load import header


@pytest.fixture(params=WRITERS)
def sound(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of each format."""
    return WRITERS[request.param](tmp_path)


# truncated --------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0.7, 0.97])
def test_truncated_files_name_the_bytes(sound: Path, share: float) -> None:
    raw = sound.read_bytes()
    sound.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(DataError) as caught:
        load(sound)
    text = str(caught.value)
    assert sound.stem in text and ("truncated" in text or "complete" in text), text
    if sound.suffix != ".npz":  # whose directory is at its end
        numbers = [int(n) for n in re.findall(r"\d+", text.replace(str(sound.parent), ""))]
        assert len([n for n in numbers if n > 500]) >= 2, text  # found and expected


def test_the_two_sizes_of_hdf5(tmp_path: Path) -> None:
    path = WRITERS["fastmri"](tmp_path)
    size = path.stat().st_size
    os.truncate(path, size - 1000)
    with pytest.raises(DataError, match=f"found {size - 1000} bytes, expected {size}; .*truncated"):
        load(path)


# headers ----------------------------------------------------------------------------------------
LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
DOCTYPES = {
    "laughs": f'<!DOCTYPE a [<!ENTITY l0 "lol">{LAUGHS}]>',
    "system": '<!DOCTYPE a SYSTEM "file:///etc/hostname">',
    "parameter": '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x"> %p;]>',
    "small letters": '<!doctype a [<!entity x "y">]>',
}


@pytest.mark.parametrize("name", DOCTYPES)
@pytest.mark.parametrize("form", ["fastmri", "ismrmrd"])
def test_a_doctype_is_refused_before_it_is_parsed(tmp_path: Path, name: str, form: str) -> None:
    path = tmp_path / "scan.h5"
    if form == "fastmri":
        text = header().replace("<ismrmrdHeader", f"{DOCTYPES[name]}<ismrmrdHeader", 1)
        with h5py.File(path, "w") as file:
            file["kspace"] = np.ones((1, 2, 16, 12), np.complex64)
            file["ismrmrd_header"] = text
    else:
        text = mrd_files.header(14, 16).replace(
            "<ismrmrdHeader", f"{DOCTYPES[name]}<ismrmrdHeader", 1
        )
        image = mrd_files.letter_f(16, 14)
        mrd_files.write(path, text, mrd_files.lines(image, np.ones((2, 16, 14))))
    with pytest.raises(DataError, match="found a DOCTYPE"):
        load(path)


# a library that dies ----------------------------------------------------------------------------
@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE])
def test_death_in_libhdf5_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The reader of the other process dies where a broken library would: in its first read."""
    path = WRITERS["fastmri"](tmp_path)
    broken = (
        "import os\nimport h5py\n"
        f"h5py.Dataset.__getitem__ = lambda *args: os.kill(os.getpid(), {int(number)})\n"
    )
    start = isolation.START.replace("from sciinv", broken + "from sciinv", 1)
    monkeypatch.setattr(isolation, "START", start)
    with pytest.raises(DataError, match=rf"scan\.h5: .*the process died of {number.name}.*damaged"):
        load(path, isolated=True)
    assert load(path, isolated=False).num_coils == 3  # and this process is as before
