"""Row 23: a disc that is really full, seen by a command of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sciinv.data import load
from sciinv.data.native import write_scan
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import simulate_mri

# a file that grows beyond its limit fails as on a full disc, for Python and for libhdf5
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
from sciinv.cli import app
app(sys.argv[1:], prog_name="sciinv")
"""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = simulate_mri(
        shepp_logan((64, 64)), coils=4, acceleration=2.0, calibration_lines=8, noise_std=0.02, rng=1
    )
    return write_scan(made, tmp_path_factory.mktemp("scan") / "scan.h5")


def limited(size: int, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-c", LIMITED.format(size=size), *map(str, words)],
        env={**os.environ, "SCIINV_READ_ISOLATED": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("to", "share"), [("sciinv", 0.0), ("sciinv", 0.2), ("sciinv", 0.999), ("fastmri", 0.2)]
)
def test_conversion(scan, tmp_path, to, share):
    target = tmp_path / "out.h5"
    target.write_bytes(b"an older file")
    before = files(tmp_path)
    # at the first byte, among the values, and only when the file is closed
    size = int(share * scan.stat().st_size)
    done = limited(size, "convert", scan, target, "--to", to, "--force")
    assert done.returncode == 1, (done.stdout, done.stderr)
    said = f"sciinv: {target}: found file too large, expected a file that can be written\n"
    assert done.stderr.lower() == said.lower()
    assert files(tmp_path) == before


def test_simulation(tmp_path):
    done = limited(20_000, "simulate", tmp_path / "new.h5", "--size", 64)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "new.h5: found File too large" in done.stderr and done.stderr.count("\n") == 1
    assert not files(tmp_path)


def test_enough_room_is_enough(scan, tmp_path):
    # the same limit does not stop what fits, so the tests above see the full disc and nothing else
    done = limited(4_000_000, "convert", scan, tmp_path / "out.h5")
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "out.h5").num_coils == 4
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4_000_000
