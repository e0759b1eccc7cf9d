"""Side-cars: what is accepted, and how a mistake is answered."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from sciinv.data.sidecar import find_sidecar, read_sidecar
from sciinv.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
kind = "ct"
quantity = "counts"
axes = ["detector", "angle"]
[data]
name = "test"
[blank]
file = "blank.mat"
axes = ["detector"]
[ct]
angles = { start = -90, stop = 90, count = 4, unit = "deg", endpoint = true }
detector_spacing = 3.375
axis_column = 79.5
image_shape = [128, 96]
[noise]
std = 0.1
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scan.toml"
    path.write_text(text)
    return path


def test_fields(tmp_path):
    side = read_sidecar(write(tmp_path, GOOD))
    assert (side.kind, side.quantity, side.axes) == ("ct", "counts", ("detector", "angle"))
    assert side.arrays["data"].name == "test"
    assert side.arrays["blank"].file == "blank.mat"
    assert side.arrays["blank"].axes == ("detector",)
    assert set(side.arrays) == {"data", "blank"}
    assert side.angles is not None
    assert (side.angles.start, side.angles.stop, side.angles.endpoint) == (-90.0, 90.0, True)
    assert (side.detector_spacing, side.axis_column, side.image_shape) == (3.375, 79.5, (128, 96))
    assert side.noise_std == 0.1
    assert side.axis_shift is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("detector_spacing", "detector_spaceing", ["spaceing", "mean ct.detector_spacing?"]),
        ("[noise]\nstd", "[noise]\nsigma", ["noise.sigma", "valid keys here: std"]),
        ('kind = "ct"', 'kind = "ct"\naxis_column = 3', ["axis_column", "mean ct.axis_column?"]),
        ('kind = "ct"', 'kind = "pet"', ["kind", "'pet'", '"mri"']),
        ('kind = "ct"', "", ["kind", "no such key"]),
        ('kind = "ct"', 'kind = "mri"', ["ct", 'kind = "ct"']),
        ('"counts"', '"kspace"', ["quantity", "line_integrals"]),
        ('"angle"]', '"angel"]', ["axes", "'angel'", "did you mean 'angle'?"]),
        ('"angle"]', '"detector"]', ["axes", "twice"]),
        ('["detector"]', '["coil"]', ["blank.axes", "'coil'"]),
        ("3.375", "-1", ["ct.detector_spacing", "-1", "positive"]),
        ("3.375", '"3 mm"', ["ct.detector_spacing", "'3 mm'", "positive"]),
        ("3.375", "1e400", ["ct.detector_spacing", "inf"]),
        ("3.375", "nan", ["ct.detector_spacing", "nan"]),
        ("3.375", "true", ["ct.detector_spacing", "True"]),
        ("[128, 96]", "[128]", ["ct.image_shape", "a list of 2"]),
        ("[128, 96]", "[128, 1.5]", ["ct.image_shape", "whole number"]),
        ("axis_column = 79.5", "axis_column = 79.5\naxis_shift = 0.0", ["axis_column", "only one"]),
        ("count = 4, ", "", ["ct.angles", "none of them"]),
        ("count = 4", "count = 4, values = [1.0]", ["ct.angles", "values and count"]),
        ("stop = 90", "stop = 90, step = 1", ["ct.angles", "exactly one of stop and step"]),
        ("[noise]", "[[noise]]", ["noise", "a table"]),
        ("std = 0.1", "std = 0.1\nstd = 0.2", ["valid TOML"]),
        ("std = 0.1", "std = = 1", ["valid TOML", "line"]),
    ],
)  # fmt: skip
def test_mistakes(tmp_path, old, new, words):
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        read_sidecar(path)
    text = str(caught.value)
    assert str(path) in text
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kind = 'ct'\n\n[ct]\ndetector_spaceing = 1\n", 4),
        ("kind = 'ct'\n[noise]\nstd = 1\n[ct]\nstd = 3\n", 5),
        ("kind = 'ct'\nct.pixel_size = -1\n", 2),
        ("kind = 'ct'\nct = { axis_shift = 1,  'beam' = 'cone' }\n", 2),
        ("kind = 'ct'\n[ct]\n[ct.angles]\ncount = 1.5 # count\n", 4),
        ("kind = 'ct'\n[ct]\nangles = { count = 'x' }\n", 3),
        ("kind = 'ct'\n[mir]\nx = 1\n", 2),
        ("kind = 'ct'\n'odd key' = 1\n", 2),
        ("kind = 'ct'\n" + " " * 500_000 + "\nx = 1\n", 3),
    ],
)
def test_the_line_is_named(tmp_path, text, line):
    with pytest.raises(DataError, match=rf"scan\.toml, line {line}: "):
        read_sidecar(write(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10**6 + " = 1",
        "a." * 400_000 + "a = 1",
        "\n".join(f"k{i} = 1" for i in range(90_000)),
        "kind = " + "9" * 900_000,
        "kind = {" + "a={" * 200_000,
        "axes = [" + "'row'," * 150_000 + "]",
        "[" + "a" * 900_000 + "]",
    ],
)
def test_hostile_texts_take_no_time(tmp_path, text):
    path = write(tmp_path, text)
    begin = time.monotonic()
    with pytest.raises(DataError) as caught:
        read_sidecar(path)
    assert time.monotonic() - begin < 5
    assert len(str(caught.value)) < 2000


def test_size_cap(tmp_path):
    with pytest.raises(DataError, match="1048576"):
        read_sidecar(write(tmp_path, GOOD + "#" * 2**20))


def test_deep_nesting(tmp_path):
    with pytest.raises(DataError, match="TOML"):
        read_sidecar(write(tmp_path, "kind = " + "[" * 10_000 + "]" * 10_000))


def test_not_utf8(tmp_path):
    path = tmp_path / "scan.toml"
    path.write_bytes(b"kind = '\xff\xfe'")
    with pytest.raises(DataError, match="TOML"):
        read_sidecar(path)


def test_missing(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_sidecar(tmp_path / "no.toml")


def test_where_it_is_looked_for(tmp_path):
    data = tmp_path / "scan.npy"
    np.save(data, np.zeros(2))
    assert find_sidecar(data) is None
    (tmp_path / "scan.toml").write_text("")
    assert find_sidecar(data) == tmp_path / "scan.toml"
    (tmp_path / "scan.npy.toml").write_text("")
    assert find_sidecar(data) == tmp_path / "scan.npy.toml"


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "sidecars").glob("*.toml")), ids=str)
def test_the_examples_are_valid(path):
    read_sidecar(path)


def test_the_documentation_shows_valid_sidecars(tmp_path):
    """Every TOML block of the formats page that is a side-car parses, and no key is forgotten."""
    from sciinv.data.sidecar_schema import all_keys

    text = (ROOT / "docs" / "formats.md").read_text()
    blocks = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    shown = [block for block in blocks if "kind =" in block]
    assert len(shown) >= 3
    for block in shown:
        read_sidecar(write(tmp_path, block))
    for key in all_keys():
        assert key.rsplit(".", 1)[-1] in text, key


def test_the_documented_file_can_be_read(tmp_path, monkeypatch):
    from sciinv.data import load

    text = (ROOT / "docs" / "formats.md").read_text()
    (block,) = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "formats.md", "exec"), {})  # noqa: S102 - our own page
    assert load("scan.h5").data.shape == (1, 1, 64, 64)
