"""Priors on disk: round trips, and everything that must be refused."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import sciinv.priors
from sciinv.data.phantoms.scenes import as_channels, scene
from sciinv.errors import DataError
from sciinv.priors.network import UNet
from sciinv.priors.precondition import EDMDenoiser
from sciinv.priors.store import MAX_HEADER, available, load, save


def _denoiser() -> EDMDenoiser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet(2, widths=(4, 6), features=8)
        torch.nn.init.normal_(net.tail.weight, std=0.2)
    return EDMDenoiser(
        net, sigma_data=0.3, sigma_min=0.01, sigma_max=3.0, channels=2, card={"name": "toy", "n": 1}
    )


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "toy.safetensors"
    save(_denoiser(), path)
    return path


def _image() -> torch.Tensor:
    return torch.randn(1, 2, 9, 7, generator=torch.Generator().manual_seed(3))


def test_round_trip_is_exact_and_leaves_the_global_generator_alone(stored: Path) -> None:
    before = torch.get_rng_state()
    again = load(stored)
    assert torch.equal(before, torch.get_rng_state())
    first = _denoiser()
    assert torch.equal(again(_image(), 0.2), first(_image(), 0.2))
    assert again.card == first.card
    for name in ("sigma_data", "sigma_min", "sigma_max", "channels"):
        assert getattr(again, name) == getattr(first, name)
    assert not again.training
    assert load(str(stored), channels=2).channels == 2


@pytest.mark.parametrize("blocks", [2, (1, 2)])
def test_patches_and_blocks_round_trip(tmp_path: Path, blocks: int | tuple[int, ...]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet(2, widths=(4, 6), features=8, patch=2, blocks=blocks)
        torch.nn.init.normal_(net.tail.weight, std=0.2)
    first = EDMDenoiser(net, sigma_min=0.01, sigma_max=3.0, channels=2)
    save(first, tmp_path / "patched.safetensors")
    again = load(tmp_path / "patched.safetensors")
    assert again.net.architecture == net.architecture
    assert torch.equal(again(_image(), 0.2), first(_image(), 0.2))


def test_files_without_patch_are_read(stored: Path) -> None:
    expected = load(stored)(_image(), 0.2)
    _rewrite_metadata(stored, lambda m: m["architecture"].pop("patch"))
    assert torch.equal(load(stored)(_image(), 0.2), expected)


def test_half_precision_costs_half_and_changes_little(stored: Path, tmp_path: Path) -> None:
    small = tmp_path / "half.safetensors"
    save(_denoiser(), small, dtype=torch.float16)
    assert small.stat().st_size < 0.75 * stored.stat().st_size
    again = load(small)
    assert next(again.parameters()).dtype == torch.float32
    full = _denoiser()(_image(), 0.2)
    difference = (again(_image(), 0.2) - full).norm() / full.norm()
    assert 0 < difference < 4 * 2**-11  # a few roundings to 11 bits


def test_one_metadata_string(stored: Path) -> None:
    header = _header(stored)
    assert list(header["__metadata__"]) == ["sciinv"]
    assert json.loads(header["__metadata__"]["sciinv"])["architecture"]["widths"] == [4, 6]


# -- refusals ----------------------------------------------------------------------------------
def _header(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return dict(json.loads(raw[8 : 8 + length]))


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = change(raw[8 : 8 + length].decode()).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])


def _rewrite_metadata(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    metadata = json.loads(_header(path)["__metadata__"]["sciinv"])
    change(metadata)
    save_file(load_file(path), path, metadata={"sciinv": json.dumps(metadata)})


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".pkl", ".PT"])
def test_pickles_are_never_opened(tmp_path: Path, suffix: str) -> None:
    victim = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (victim,)

    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="never are"):
        load(path)
    assert not victim.exists()
    with pytest.raises(DataError, match="suffix"):
        save(_denoiser(), path)


def test_a_pickle_in_disguise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match="header"):
        load(path)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(DataError, match="no-such-prior.*expected one of"):
        load("no-such-prior")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "absent.safetensors")


def test_other_channels(stored: Path) -> None:
    with pytest.raises(DataError, match="channels: found 2, expected 1"):
        load(stored, channels=1)


def test_huge_header_is_refused_before_it_is_read(stored: Path) -> None:
    stored.write_bytes(struct.pack("<Q", MAX_HEADER + 1) + b" " * 100)
    with pytest.raises(DataError, match="header"):
        load(stored)


@pytest.mark.parametrize("length", [0, 5, 8, 200, -1, -300])
def test_truncated_files(stored: Path, length: int) -> None:
    stored.write_bytes(stored.read_bytes()[:length])
    with pytest.raises(DataError):
        load(stored)


def test_missing_and_unexpected_weights(stored: Path) -> None:
    header = _header(stored)
    weights = load_file(stored)
    weights["spy"] = weights.pop("tail.bias")
    save_file(weights, stored, metadata=header["__metadata__"])
    with pytest.raises(DataError, match=r"missing tail\.bias; unexpected spy"):
        load(stored)


def test_wrong_shape(stored: Path) -> None:
    header = _header(stored)
    weights = load_file(stored)
    weights["tail.bias"] = torch.zeros(3)
    save_file(weights, stored, metadata=header["__metadata__"])
    with pytest.raises(DataError, match=r"tail\.bias of shape \(3,\), not \(2,\)"):
        load(stored)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite(stored: Path, tmp_path: Path, bad: float) -> None:
    header = _header(stored)
    weights = load_file(stored)
    weights["tail.bias"][1] = bad
    save_file(weights, stored, metadata=header["__metadata__"])
    with pytest.raises(DataError, match=r"tail\.bias.*NaN"):
        load(stored)
    denoiser = _denoiser()
    denoiser.net.tail.bias.data[0] = bad
    with pytest.raises(DataError, match=r"tail\.bias"):
        save(denoiser, tmp_path / "bad.safetensors")
    assert not list(tmp_path.glob("bad*"))


def test_weights_that_overflow_half_precision(tmp_path: Path) -> None:
    denoiser = _denoiser()
    denoiser.net.tail.bias.data[0] = 1e5
    with pytest.raises(DataError, match=r"tail\.bias"):
        save(denoiser, tmp_path / "bad.safetensors", dtype=torch.float16)


def test_integer_weights(stored: Path) -> None:
    header = _header(stored)
    weights = load_file(stored)
    weights["tail.bias"] = torch.zeros(2, dtype=torch.int32)
    save_file(weights, stored, metadata=header["__metadata__"])
    with pytest.raises(DataError, match=r"tail\.bias"):
        load(stored)


def test_doubled_tensor_name(stored: Path) -> None:
    # "tail.bias" twice: readers disagree on which of the two counts
    _rewrite(stored, lambda text: text.replace('"tail.weight":', '"tail.bias":', 1))
    with pytest.raises(DataError, match=r"doubled keys tail\.bias"):
        load(stored)


def test_doubled_metadata_key(stored: Path) -> None:
    _rewrite(stored, lambda text: text.replace(r"\"sigma_min\"", r"\"sigma_max\"", 1))
    with pytest.raises(DataError, match="doubled keys sigma_max"):
        load(stored)


def test_no_metadata(stored: Path) -> None:
    save_file(load_file(stored), stored)
    with pytest.raises(DataError, match="header"):
        load(stored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("sigma_min"), "missing"),
        (lambda m: m.update(extra=1), "unexpected"),
        (lambda m: m.update(format="edm-unet/99"), "format"),
        (lambda m: m.update(sigma_min=-1.0), "sigma_min"),
        (lambda m: m.update(sigma_min=True), "sigma_min"),
        (lambda m: m.update(sigma_max=0.001), "sigma_min is not below"),
        (lambda m: m.update(sigma_data=float("nan")), "sigma_data"),
        (lambda m: m.update(card=[1]), "card"),
        (lambda m: m.update(channels=1), "channels differ"),
        (lambda m: m["architecture"].update(widths=[4] * 20), "widths"),
        (lambda m: m["architecture"].update(widths=[10**9]), "widths"),
        (lambda m: m["architecture"].update(blocks=1.5), "blocks"),
        (lambda m: m["architecture"].update(blocks=[1, 1.5]), "blocks"),
        (lambda m: m["architecture"].update(blocks=[1, True]), "blocks"),
        (lambda m: m["architecture"].update(blocks=[1, 17]), "blocks"),
        (lambda m: m["architecture"].update(blocks=[1]), "one for each width"),
        (lambda m: m["architecture"].update(blocks=[]), "one for each width"),
        (lambda m: m["architecture"].update(blocks=[1] * 10**4), "blocks"),
        (lambda m: m["architecture"].update(blocks="11"), "blocks"),
        (lambda m: m["architecture"].update(patch=0), "patch"),
        (lambda m: m["architecture"].update(patch=9), "patch"),
        (lambda m: m["architecture"].update(patch=[2]), "patch"),
        (lambda m: m["architecture"].update(patch=2), "head.weight of shape"),
        (lambda m: m["architecture"].update(blocks=[1, 2]), "missing middle"),
        (lambda m: m["architecture"].update(spy=1), "architecture"),
        (lambda m: m["architecture"].update(features=10**9), "features"),
    ],
)
def test_wrong_metadata(
    stored: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    _rewrite_metadata(stored, change)
    with pytest.raises(DataError, match=message):
        load(stored)


def test_a_forged_header_does_not_build_its_network(stored: Path) -> None:
    def enormous(metadata: dict[str, Any]) -> object:
        metadata["architecture"] |= {"widths": [4096] * 8, "blocks": 16}
        return metadata

    # 150 GB of weights, if it were built before the file is looked at
    _rewrite_metadata(stored, enormous)
    with pytest.raises(DataError, match="missing"):
        load(stored)


def test_card_must_be_json(tmp_path: Path) -> None:
    denoiser = _denoiser()
    denoiser.card["x"] = {1, 2}
    with pytest.raises(DataError, match="card"):
        save(denoiser, tmp_path / "x.safetensors")


def test_names_of_the_package_are_lazy() -> None:
    assert set(sciinv.priors.__all__) <= set(dir(sciinv.priors))
    assert sciinv.priors.UNet is UNet
    assert sciinv.priors.load is load
    assert sciinv.priors.available is available
    with pytest.raises(AttributeError, match="no_such_name"):
        sciinv.priors.no_such_name  # noqa: B018


# -- the shipped priors ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "channels"), [("generic", 1), ("generic", 2), ("mri", 2), ("ct", 1)]
)
def test_shipped_priors_beat_the_wiener_filter_on_new_scenes(name: str, channels: int) -> None:
    denoiser = load(name, channels=channels)
    assert denoiser.channels == channels
    if name == "generic":
        assert denoiser.card == load(f"generic-{channels}ch").card
    assert denoiser.sigma_min <= 0.005
    assert denoiser.sigma_max >= 3
    rng = np.random.default_rng(2**20 + channels)  # not a seed of the training
    kinds = ["leaves", "shells", "inserts", "field"]

    def draw(count: int) -> torch.Tensor:
        images = [
            as_channels(scene((64, 64), rng, complex_=channels == 2, kind=kinds[i % 4]))
            for i in range(count)
        ]
        return torch.from_numpy(np.stack(images))

    clean = draw(8)
    # the best linear translation-invariant denoiser, from other scenes of the same kinds
    power = torch.fft.fft2(draw(48), norm="ortho").abs().square().mean(dim=(0, 1))
    # the margin that edges and shapes buy over a linear filter; drowned in noise (sigma 2, signal
    # rms 0.3) the posterior mean of anything tends to a linear filter, so there only to beat it
    margins = {0.05: 0.8, 0.1: 0.85, 0.2: 0.9, 0.5: 0.95, 2.0: 1.0}
    for sigma, margin in margins.items():
        generator = torch.Generator().manual_seed(4)
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
        wiener = torch.fft.ifft2(torch.fft.fft2(noisy) * power / (power + sigma**2)).real
        with torch.no_grad():
            denoised = denoiser(noisy, sigma)
        error = (denoised - clean).square().mean().sqrt()
        assert error < margin * (wiener - clean).square().mean().sqrt(), sigma


def test_shipped_cards_say_where_the_weights_come_from() -> None:
    cards = available()
    assert set(cards) == {"ct", "generic-1ch", "generic-2ch", "mri"}
    fields = (
        "description", "training_data", "training_method", "config", "intensity_scale",
        "intended_range", "limits", "licence", "versions",
    )  # fmt: skip
    for name, card in cards.items():
        assert card["name"] == name
        for field in fields:
            assert card[field]
        assert card["steps"] > 1000
        assert set(card["denoising"]) >= {"0.05", "0.1", "0.2", "0.5"}
        for row in card["denoising"].values():
            assert 0 < row["error_over_sigma"] < 0.5
        # from anywhere: no path of the machine that trained it
        assert "/home" not in json.dumps(card) and "/root" not in json.dumps(card)
