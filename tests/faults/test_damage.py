"""Rows 8, 10, 13 and 16 for every format at once, by the same small sound files."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
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


UNGUARDED = "import sciinv.data.guard as guard\nguard.check_heaps = lambda path: None\n"


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file over which libhdf5 itself walks for ever, where nobody looks at its heap first."""
    path = tmp_path / "endless.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = np.ones((1, 2, 8, 8), np.complex64)
        file["ismrmrd_header"] = "of variable length: in a heap"
    content = bytearray(path.read_bytes())
    at = content.index(b"GCOL") + 16
    while (entry := struct.unpack_from("<HHIQ", content, at))[0]:
        at += 16 + -(-entry[3] // 8) * 8
    struct.pack_into("<Q", content, at + 8, 0)  # free space of no size
    path.write_bytes(content)
    with pytest.raises(DataError, match="heap at byte"):
        load(path)
    return path


@pytest.mark.skipif(os.name != "posix", reason="the clock of the asker is tested elsewhere")
def test_libhdf5_that_never_returns(endless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        isolation, "START", isolation.START.replace("from sciinv", UNGUARDED + "from sciinv", 1)
    )
    monkeypatch.setenv("SCIINV_READ_SECONDS", "3")
    with pytest.raises(DataError, match=r"endless\.h5: .*more than 3 s"):
        load(endless, isolated=True)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_ends_with_an_asker_that_is_killed(endless: Path) -> None:
    """Also while a library computes."""
    code = (
        f"import sys\nsys.path[:] = {sys.path!r}\nfrom sciinv.data import isolation, load\n"
        f"unguarded = {UNGUARDED + 'from sciinv'!r}\n"
        "isolation.START = isolation.START.replace('from sciinv', unguarded, 1)\n"
        f"load({str(endless)!r}, isolated=True)\n"
    )
    asker = subprocess.Popen([sys.executable, "-c", code])
    try:
        reader = next(filter(None, (_reader_of(endless) for _ in _seconds(30))))
        asker.kill()
        asker.wait()
        assert any(_reader_of(endless) is None for _ in _seconds(10)), reader
    finally:
        asker.kill()
        asker.wait()


def _seconds(count: float) -> Iterator[float]:
    end = time.monotonic() + count
    while (now := time.monotonic()) < end:
        yield now
        time.sleep(0.1)


def _reader_of(path: Path) -> int | None:
    """The process that holds a file open and has computed for a while, if there is one."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            held = any(link.readlink() == path for link in (process / "fd").iterdir())
            ticks = sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            continue  # it has ended, or is somebody else's
        if held and ticks > os.sysconf("SC_CLK_TCK"):
            return int(process.name)
    return None
