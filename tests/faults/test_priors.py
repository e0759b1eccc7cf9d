"""Rows 17 and 18: weights whose file lies, and pickles offered as weights.

What is here adds to ``tests/priors/test_store.py``.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from sciinv.errors import DataError
from sciinv.priors import store
from sciinv.priors.network import UNet
from sciinv.priors.precondition import EDMDenoiser
from sciinv.priors.store import load, save


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = UNet(1, widths=(2,), features=4)
    path = tmp_path_factory.mktemp("priors") / "sound.safetensors"
    save(EDMDenoiser(net, sigma_min=0.01, sigma_max=3.0, channels=1), path)
    return path


def parts(path: Path) -> tuple[dict[str, Any], bytes, str]:
    """Header, weights and the name of the last tensor."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    tensors = {name: value for name, value in header.items() if name != "__metadata__"}
    return header, raw[8 + length :], max(tensors, key=lambda name: tensors[name]["data_offsets"])


def write(path: Path, header: dict[str, Any], body: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def test_the_forger_writes_what_can_be_read(sound: Path, tmp_path: Path) -> None:
    header, body, _ = parts(sound)
    assert load(write(tmp_path / "p.safetensors", header, body)).channels == 1


@pytest.mark.parametrize(
    ("offsets", "extra"),
    [
        ((64, 64), b"\0" * 64),  # a hole
        ((0, 0), b"\0" * 64),  # bytes behind the last
        ((-8, -8), b""),  # two tensors on one place
        ((-(2**40), 0), b""),
        ((2**62, 2**62), b""),
        ((0, 2**40), b""),
    ],
)
def test_holes_and_offsets(
    sound: Path, tmp_path: Path, offsets: tuple[int, int], extra: bytes
) -> None:
    header, body, last = parts(sound)
    begin, end = header[last]["data_offsets"]
    header[last]["data_offsets"] = [begin + offsets[0], end + offsets[1]]
    with pytest.raises(DataError, match="file: found .*expected intact safetensors") as caught:
        load(write(tmp_path / "p.safetensors", header, body + extra))
    assert "p.safetensors" in str(caught.value)


@pytest.mark.parametrize(("count", "words"), [(100_000, "header: found"), (8_000, "unexpected w")])
def test_many_entries(sound: Path, tmp_path: Path, count: int, words: str) -> None:
    header, body, _ = parts(sound)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [len(body), len(body)]}
    header |= {f"w{i}": empty for i in range(count)}
    with pytest.raises(DataError, match=words) as caught:
        load(write(tmp_path / "p.safetensors", header, body))
    assert len(str(caught.value)) < 1000


def test_a_header_of_brackets(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    path.write_bytes(struct.pack("<Q", 10**6) + b"[" * 10**6)
    with pytest.raises(DataError, match="header: found RecursionError"):
        load(path)


# hashes -----------------------------------------------------------------------------------------
def test_a_pinned_hash(sound: Path) -> None:
    digest = hashlib.sha256(sound.read_bytes()).hexdigest()
    assert load(f"{sound}@sha256:{digest}").channels == 1
    assert load(f"{sound}@sha256:{digest.upper()}").channels == 1
    with pytest.raises(DataError, match=f"sha256: found {digest}, expected {'0' * 64}; .*damaged"):
        load(f"{sound}@sha256:{'0' * 64}")
    for wrong in ("", "abc", digest[:-1], digest + "0", "g" * 64):
        with pytest.raises(DataError, match="64 hexadecimal digits"):
            load(f"{sound}@sha256:{wrong}")


def test_a_wrong_hash_is_noticed_before_anything_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(DataError, match="sha256"):
        load(f"{path}@sha256:{'0' * 64}")


def test_shipped_files_have_the_hashes_they_were_shipped_with() -> None:
    lines = (store.SHIPPED / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    assert set(sums) == {path.name for path in store.SHIPPED.glob("*.safetensors")}
    for name, digest in sums.items():
        found = hashlib.sha256((store.SHIPPED / name).read_bytes()).hexdigest()
        assert found == digest, f"run sha256sum *.safetensors > SHA256SUMS for a new {name}"


@pytest.mark.parametrize("change", ["flip", "unlisted"])
def test_a_shipped_file_that_changed_is_refused(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    raw = bytearray(sound.read_bytes())
    digest = hashlib.sha256(raw).hexdigest()
    raw[-1] ^= 1  # still finite: without the hash nobody would notice
    path = tmp_path / "own.safetensors"
    path.write_bytes(raw)
    name = path.name if change == "flip" else "other.safetensors"
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  {name}\n")
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    with pytest.raises(DataError, match="sha256"):
        load("own")
    (tmp_path / "SHA256SUMS").unlink()
    assert load("own").channels == 1


# pickles ----------------------------------------------------------------------------------------
class _Bomb:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.ckpt", "w.bin", "w.safetensors", "w.npz"])
@pytest.mark.parametrize("zipped", [False, True])
def test_pickles_by_any_name(tmp_path: Path, name: str, zipped: bool) -> None:
    victim, path = tmp_path / "ran", tmp_path / name
    data = pickle.dumps(_Bomb(victim))
    if zipped:  # as torch.save does
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
    else:
        path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        load(path)
    assert not victim.exists()
    assert name in str(caught.value)


def test_the_refusal_of_a_checkpoint_says_how_to_convert_it(tmp_path: Path) -> None:
    """Doing what it says gives a prior."""
    net = UNet(2)
    torch.save(net.state_dict(), tmp_path / "FILE")
    with pytest.raises(DataError) as caught:
        load(tmp_path / "w.ckpt")
    hint = caught.value.hint or ""
    code = hint.partition('python -c "')[2].rpartition('"')[0]
    code = code.replace("'FILE'", repr(str(tmp_path / "FILE")))
    code = code.replace("'prior.safetensors'", repr(str(tmp_path / "prior.safetensors")))
    exec(code, {})  # noqa: S102  our own hint
    again = load(tmp_path / "prior.safetensors")
    assert torch.equal(again.net.head.weight, net.head.weight)
