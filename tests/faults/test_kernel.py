"""Rows 1 to 4, 7 and 10 as the kernel sees them: which files are opened, and no socket is made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

# reads every file given, each in a process of its own, and prints what became of it
CODE = """
import sys
from sciinv import load
from sciinv.errors import DataError
for path in sys.argv[1:]:
    try:
        print("read", load(path).format)
    except DataError as error:
        print("refused", error)
"""
HEADER = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file://{secret}">]>'
    '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><subjectInformation><patientName>&e;'
    "</patientName></subjectInformation></ismrmrdHeader>"
)
SIDE = 'kind = "mri"\nquantity = "kspace"\naxes = ["coil", "row", "column"]\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile scans, each of which leads to a file in ``elsewhere``, and one sound scan."""
    root = tmp_path_factory.mktemp("kernel")
    secret = root / "elsewhere" / "secret"
    secret.parent.mkdir()
    with h5py.File(secret, "w") as file:
        file["kspace"] = file["inner/kspace"] = np.ones((1, 2, 8, 8), np.complex64)
    scans = root / "scans"
    scans.mkdir()

    def hdf5(name: str) -> h5py.File:
        return h5py.File(scans / name, "w")

    with hdf5("leaf.h5") as file:
        file["kspace"] = h5py.ExternalLink(str(secret), "/kspace")
    with hdf5("relative.h5") as file:
        file["kspace"] = h5py.ExternalLink("../elsewhere/secret", "/kspace")
    with hdf5("soft.h5") as file:
        file["outside"] = h5py.ExternalLink(str(secret), "/inner")
        file["kspace"] = h5py.SoftLink("/outside/kspace")
    with hdf5("group.h5") as file:
        file["exchange"] = h5py.ExternalLink(str(secret), "/inner")
    with hdf5("member.h5") as file:
        file["exchange/data"] = h5py.ExternalLink(str(secret), "/kspace")
        file["exchange/theta"] = np.arange(8.0)
    with hdf5("raw.h5") as file:
        file.create_dataset("kspace", (1, 2, 4, 4), "c8", external=[(str(secret), 0, 256)])
    layout = h5py.VirtualLayout(shape=(1, 2, 8, 8), dtype="c8")
    layout[:] = h5py.VirtualSource(str(secret), "kspace", shape=(1, 2, 8, 8))
    with hdf5("virtual.h5") as file:
        file.create_virtual_dataset("kspace", layout)
    with hdf5("entity.h5") as file:
        file["kspace"] = np.ones((1, 2, 8, 8), np.complex64)
        file["ismrmrd_header"] = HEADER.format(secret=secret)
    with hdf5("entity_mrd.h5") as file:
        file["dataset/xml"] = np.array([HEADER.format(secret=secret).encode()])
        file["dataset/data"] = np.zeros(3)
    for name, target in (("absolute", str(secret)), ("upwards", "../elsewhere/secret")):
        np.save(scans / f"{name}.npy", np.ones((2, 8, 8), np.complex64))
        (scans / f"{name}.toml").write_text(f"{SIDE}[coil_maps]\nfile = '{target}'\n")
    with hdf5("unknown_filter.h5") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((1, 2, 8, 8))
        creation.set_filter(32768 - 1, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((1, 2, 8, 8))
        h5py.h5d.create(file.id, b"kspace", h5py.h5t.NATIVE_FLOAT, space, creation)
    rng = np.random.default_rng(0)
    data = (rng.standard_normal((1, 2, 8, 8)) + 1j).astype(np.complex64)
    with hdf5("sound.h5") as file:
        file.create_dataset("kspace", data=data, compression="gzip")
    plugins = root / "elsewhere" / "plugins"
    plugins.mkdir()
    (plugins / "libh5evil.so").write_bytes(b"\x7fELF")
    return root


@pytest.fixture(scope="module")
def traced(folder: Path) -> tuple[list[str], str]:
    """What was printed for each scan, and the system calls of all processes."""
    scans = sorted((folder / "scans").glob("*.h5")) + sorted((folder / "scans").glob("*.npy"))
    log = folder / "trace"
    root = Path(__file__).resolve().parents[2]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SCIINV")}
    environment |= {
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HDF5_PLUGIN_PATH": str(folder / "elsewhere" / "plugins"),
    }
    calls = "trace=open,openat,openat2,creat,socket,connect,rename,renameat,renameat2,unlink,mkdir"
    strace = ["strace", "-f", "--seccomp-bpf", "-s", "400", "-e", calls, "-o", log]
    done = subprocess.run(
        [*strace, sys.executable, "-c", CODE, *scans],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = dict(zip([path.name for path in scans], done.stdout.splitlines(), strict=True))
    return [f"{name}: {text}" for name, text in said.items()], log.read_text(errors="replace")


def test_every_hostile_scan_is_refused_and_the_sound_one_read(traced) -> None:
    said, _ = traced
    read = [line for line in said if not line.partition(": ")[2].startswith("refused")]
    assert read == ["sound.h5: read fastmri"]


def test_every_scan_is_opened_by_a_process_of_its_own(traced) -> None:
    said, trace = traced
    asker = trace.split(maxsplit=1)[0]
    readers = []
    for line in said:
        name = re.escape(line.partition(": ")[0])
        readers += set(re.findall(rf'^(\d+) .*open.*/{name}"', trace, flags=re.MULTILINE))
    assert asker not in readers
    assert len(set(readers)) == len(readers) == len(said)


def test_nothing_elsewhere_is_opened(traced) -> None:
    _, trace = traced
    assert "elsewhere" not in trace


def test_no_socket_is_made(traced) -> None:
    _, trace = traced
    assert not re.findall(r"^.*\b(?:socket|connect)\(.*$", trace, flags=re.MULTILINE)


def test_nothing_is_written(traced) -> None:
    _, trace = traced
    writing = re.findall(r"^.*(?:O_WRONLY|O_RDWR|O_CREAT).*$", trace, flags=re.MULTILINE)
    writing += re.findall(r"^.*\b(?:creat|mkdir|rename\w*|unlink)\(.*$", trace, flags=re.MULTILINE)
    assert not [line for line in writing if '"/dev/null"' not in line]
