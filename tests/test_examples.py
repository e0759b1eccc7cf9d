"""Every example runs as a user would run it; its own asserts check its numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*/*.py"))


def test_every_gallery_section_has_a_script_and_a_header():
    for kind in ("ct", "mri", "phase", "survey"):
        assert (EXAMPLES / kind / "GALLERY_HEADER.rst").exists()
        assert any(script.parent.name == kind for script in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_says_its_numbers_and_checks_them(script):
    source = script.read_text()
    assert "\nassert " in source
    assert "SCIINV_REAL_DATA" not in source  # packaged or simulated data only


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path):
    # no figure window, and nothing written beside the scripts
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(script)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    # each says how far it is from the truth
    assert " dB" in done.stdout or "relative error" in done.stdout
    assert not list(tmp_path.iterdir())
