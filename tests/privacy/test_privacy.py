"""Nobody is named: what files say of people and machines is in no byte that comes out.

About two hundred names, numbers and dates are planted (:mod:`.plants`); every output of the
commands is searched for them, in several encodings and through every compression.
"""

from __future__ import annotations

import base64
import gzip
import json
import socket
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ..cli.conftest import FAST, Ran, run, shipped, small_priors  # noqa: F401 - fixtures
from . import images, plants
from .plants import PLANTED, SCANS, canary
from .search import traces, traces_of_folder

USER, HOST = canary("QxUserLogin", "user name"), canary("QxHostName", "host name")
FOLDERS = (canary("QxHomeOfDoe", "folder name"), canary("QxWardNine", "folder name"))
# a user has to be able to choose among these: error messages may list them
NAMES_IN_FILES = ("HDF5 group name", "HDF5 data set name", "MATLAB variable name")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """The folder of the planted files, in folders that name somebody."""
    folder = tmp_path_factory.mktemp("home").joinpath(*FOLDERS)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def planted(home):
    """Path and canaries of a planted file of each format, made once."""
    made: dict[str, tuple[Path, list[str]]] = {}

    def of(form: str) -> tuple[Path, list[str]]:
        if form not in made:
            writer = SCANS[form][0] if form in SCANS else getattr(images, form)
            if form in SCANS and not plants.is_possible(form):
                pytest.skip(f"no package that writes {form} files")
            if form == "dicom":
                pytest.importorskip("pydicom")
            before = set(PLANTED)
            path = writer(home)
            texts = sorted(set(PLANTED) - before)
            named = path.with_name(canary(f"QxName{form}", "file name") + "".join(path.suffixes))
            path.rename(named)
            side = path.with_name(f"{path.name}.toml")
            if side.exists():
                side.rename(named.with_name(f"{named.name}.toml"))
            made[form] = named, texts
        return made[form]

    return of


@pytest.fixture(autouse=True)
def somebody(monkeypatch):
    """A user and a machine with names."""
    for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, USER)
    for name in ("HOSTNAME", "HOST", "COMPUTERNAME"):
        monkeypatch.setenv(name, HOST)
    monkeypatch.setattr("socket.gethostname", lambda: HOST)
    monkeypatch.setattr("socket.getfqdn", lambda *_: HOST)
    monkeypatch.setattr("platform.node", lambda: HOST)
    monkeypatch.setattr("getpass.getuser", lambda: USER)


HERE = socket.gethostname()


def names(*but: str) -> list[str]:
    """All that was planted, and the name of this machine, but for what lies at some places."""
    here = [HERE] if len(HERE) > 7 and HERE != "localhost" else []
    return [text for text, place in PLANTED.items() if place not in but] + here


def said(ran: Ran) -> bytes:
    return f"{ran.out}\n{ran.err}".encode()


IMAGES = ("dicom", "nifti")


@pytest.mark.parametrize("form", [*SCANS, *IMAGES])
def test_what_is_planted_is_there(planted, form):
    path, texts = planted(form)
    side = path.with_name(f"{path.name}.toml")
    found = traces(path.read_bytes(), texts)
    if side.exists():
        found |= traces(side.read_bytes(), texts)
    assert found == set(texts) and len(texts) >= 4


def test_there_are_enough(planted):
    for form in (*SCANS, *IMAGES):
        if form not in SCANS or plants.is_possible(form):
            planted(form)
    assert len(PLANTED) >= 100
    assert len({place.split(" ")[0] for place in PLANTED.values()}) >= 12


@pytest.mark.parametrize("form", SCANS)
def test_info_and_convert(planted, form, tmp_path):
    path, _ = planted(form)
    shown = run("info", path)
    assert shown.code == 0, shown.err
    assert path.name in shown.out  # the one thing that may be said
    assert traces(said(shown).replace(path.name.encode(), b""), names()) == set()
    ran = run("convert", path, tmp_path / "native.h5")
    assert ran.code == 0, ran.err
    assert traces(said(ran), names()) == set()
    if form in ("mrd", "fastmri"):
        ran = run("convert", path, tmp_path / "fastmri.h5", "--to", "fastmri")
        assert ran.code == 0, ran.err
    assert traces_of_folder(tmp_path, names()) == {}


@pytest.mark.parametrize(
    ("form", "image"), [("mrd", "dicom"), ("dxchange", "nifti"), ("cxi", None)]
)
def test_reconstruct_and_evaluate(planted, form, image, tmp_path):
    path, _ = planted(form)
    folder = tmp_path / "out"
    words: list[object] = [] if form == "cxi" else ["--dicom"]
    reference = None if image is None else planted(image)[0]
    words += [] if reference is None else ["--reference", reference]
    if form == "dxchange":
        side = path.with_name(canary("QxSideOfDoe", "name of a side-car") + ".toml")
        comment = canary("QxSideComment", "comment of a side-car")
        side.write_text(f'# {comment}\nkind = "ct"\n[ct]\ndetector_spacing = 1.0\n')
        words += ["--sidecar", side]
    ran = run("reconstruct", path, "-o", folder, "--tiff", "--json", *words, *FAST)
    assert ran.code == 0, ran.err
    assert traces(said(ran), names()) == set()
    suffixes = {file.suffix for file in folder.rglob("*") if file.is_file()}
    assert suffixes >= {".gz", ".h5", ".json", ".html", ".png", ".tif"}
    assert (".dcm" in suffixes) == (form != "cxi")
    # nor where the result lies
    assert traces_of_folder(tmp_path, [*names(), str(tmp_path), tmp_path.name]) == {}
    if reference is not None:
        for words in ([], ["--json"]):
            compared = run("evaluate", folder, "--reference", reference, *words)
            assert compared.code == 0, compared.err
            assert traces(said(compared), names()) == set()


@pytest.mark.parametrize("form", SCANS)
def test_an_error_names_the_file_only(planted, form, tmp_path):
    path, _ = planted(form)
    content = path.read_bytes()
    side = path.with_name(f"{path.name}.toml")
    for size in (len(content) // 3, 2 * len(content) // 3, len(content) - 1):
        damaged = tmp_path / f"damaged{path.suffix}"
        damaged.write_bytes(content[:size])
        if side.exists():
            damaged.with_name(f"{damaged.name}.toml").write_bytes(side.read_bytes())
        ran = run("info", damaged)
        if ran.code:
            assert damaged.name in ran.err
        assert traces(said(ran), names(*NAMES_IN_FILES)) == set()


@pytest.mark.parametrize("form", IMAGES)
def test_an_image_that_is_no_scan_or_damaged(planted, form, tmp_path):
    path, _ = planted(form)
    ran = run("info", path)
    assert ran.code == 1
    assert traces(said(ran), names("file name", "folder name")) == set()
    damaged = tmp_path / f"damaged{''.join(path.suffixes)}"
    damaged.write_bytes(path.read_bytes()[:-40])
    ran = run("evaluate", damaged, "--reference", damaged)
    assert ran.code == 1 and damaged.name in ran.err
    assert traces(said(ran), names()) == set()


# the search itself --------------------------------------------------------------------------------
def test_hidden_texts_are_found(tmp_path):
    text, low = "QxHidden4711", b"qxhidden4711"
    inside = b"x" + text.encode() + b"y"
    for content in (
        inside, low, text.encode("utf-16"), gzip.compress(inside), base64.b64encode(inside),
        base64.b64encode(b"a" + inside), base64.b64encode(b"ab" + inside),
        b'<img src="data:image/gif;base64,' + base64.b64encode(gzip.compress(inside)) + b'">',
        json.dumps({"name": "Qx\u0048idden4711"}).replace("H", "\\u0048").encode(),
    ):  # fmt: skip
        assert traces(content, [text, "QxOther"]) == {text}, content[:60]
    assert traces(b"taken 20190807 here", ["2019-08-07"]) == {"2019-08-07"}
    picture = PngImagePlugin.PngInfo()
    picture.add_text("Comment", text, zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=picture)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("x", data=np.frombuffer(inside * 9, np.uint8), compression=9)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["x"] = [1, 2]
        file["x"].attrs["y"] = [text, "z"]
    (tmp_path / text).mkdir()
    found = traces_of_folder(tmp_path, [text])
    assert found == dict.fromkeys(("a.png", "b.h5", "c.h5", text), {text})
