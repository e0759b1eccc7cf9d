"""Row 21: names that are commands: to a terminal, to HTML, to a file system, to a shell."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from sciinv.data.native import write_scan
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import simulate_mri

from ..cli.conftest import FAST, refused, run, shipped, small_priors  # noqa: F401

TITLE = "\x1b]0;owned\x07"
RED = "\x1b[31m[red]bold[/red]"
HOSTILE = [
    "<script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    TITLE,
    RED,
    "two\nlines\r\x08\x08",
    "../../outside",
    "$(touch outside)`touch outside`",
    "\u202eexe.h5",
    "{{ 7 * 7 }}{% raw %}",
]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def everything(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def hostile_scan(path: Path) -> Path:
    scan = simulate_mri(
        shepp_logan((24, 24)), coils=2, acceleration=2.0, calibration_lines=8, noise_std=0.02, rng=1
    )
    header = {f"sequence {text}": text for text in HOSTILE}
    return write_scan(scan.with_(header=header, notes=tuple(HOSTILE)), path)


def test_texts_of_a_file_are_shown_and_not_obeyed(tmp_path, shipped):  # noqa: F811
    path = hostile_scan(tmp_path / "scan.h5")
    said = run("info", path)
    assert said.code == 0, said.err
    name = "../../outside<script>alert(1)</script>"
    made = run("reconstruct", path, "-o", tmp_path / "out", "--name", name, *FAST)
    assert made.code == 0, made.err
    for text in (said.out, said.err, made.out, made.err):
        assert not CONTROL.search(text), text
    assert "\\x1b]0;owned" in said.out  # escaped, not dropped
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page
    assert not CONTROL.search(page)
    assert "{{ 7 * 7 }}" in page  # not a template either
    assert "alert(1)" in page  # all of it is told
    json.loads((tmp_path / "out" / "run.json").read_text())
    outside = [name for name in everything(tmp_path) if not name.startswith(("out", "scan.h5"))]
    assert not outside


@pytest.mark.parametrize("name", ["[red]x\x1b]0;owned\x07.h5", "a\nb.h5", "$(touch x).h5"])
def test_names_of_files(tmp_path, name):
    path = tmp_path / name
    with h5py.File(path, "w") as file:
        file["kspace"] = np.zeros((1, 2, 8, 8), np.complex64)
    before = everything(tmp_path)
    text = refused(run("reconstruct", path, *FAST), "only zeros")
    assert not CONTROL.search(text.rstrip("\n"))
    assert everything(tmp_path) == before


@pytest.mark.parametrize("text", [TITLE + RED, "k" * 5000, "<b>", "a\nb"])
def test_keys_of_a_side_car(tmp_path, text):
    np.save(tmp_path / "a.npy", np.ones((4, 4)))
    key = json.dumps(text)
    (tmp_path / "a.toml").write_text(f"kind = 'ct'\n{key} = 1\n")
    said = refused(run("info", tmp_path / "a.npy"), "an unknown key")
    assert not CONTROL.search(said.rstrip("\n"))
    assert len(said) < 1000
