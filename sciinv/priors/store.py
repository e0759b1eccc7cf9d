"""Priors on disk: safetensors with one JSON string of metadata, and nothing that can run code."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sciinv import __version__
from sciinv.errors import DataError
from sciinv.priors.network import UNet
from sciinv.priors.precondition import EDMDenoiser

SHIPPED = Path(__file__).parent / "shipped"
METADATA_KEY = "sciinv"
FORMAT = "edm-unet/1"
#: Behind a name or path: the hash that the file has to have, 64 hexadecimal digits.
HASH_MARK = "@sha256:"
_SUMS = "SHA256SUMS"
MAX_HEADER = 1 << 20
_PICKLES = {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin"}
_FIELDS = {
    "format",
    "sciinv_version",
    "architecture",
    "channels",
    "sigma_min",
    "sigma_max",
    "sigma_data",
    "card",
}
# bounds that keep a forged file from asking for an absurd network
_LIMITS = {"channels": 2, "blocks": 16, "features": 4096, "patch": 8}
_MAX_LEVELS, _MAX_WIDTH = 8, 4096


def save(
    denoiser: EDMDenoiser, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None
) -> None:
    """Write a denoiser to a ``.safetensors`` file, atomically.

    :param dtype: store the weights in this type, e.g. ``torch.float16`` for half the size; they
        come back as float32. ``None`` keeps theirs.
    :raises DataError: for another suffix, weights that are not finite (also after the cast), or a
        card that is not JSON.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise DataError(target, "suffix", found=repr(target.suffix), expected="'.safetensors'")
    state = {
        name: value.detach().to("cpu", dtype or value.dtype).contiguous().clone()
        for name, value in denoiser.net.state_dict().items()
    }
    bad = sorted(name for name, value in state.items() if not bool(torch.isfinite(value).all()))
    if bad:
        raise DataError(target, "weights", found=f"NaN or infinity in {', '.join(bad)}")
    metadata = {
        "format": FORMAT,
        "sciinv_version": __version__,
        "architecture": denoiser.net.architecture,
        "channels": denoiser.channels,
        "sigma_min": denoiser.sigma_min,
        "sigma_max": denoiser.sigma_max,
        "sigma_data": denoiser.sigma_data,
        "card": denoiser.card,
    }
    try:
        text = json.dumps(metadata, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise DataError(target, "card", found=str(error), expected="plain JSON types") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(state, temporary, metadata={METADATA_KEY: text})
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load(name_or_path: str | os.PathLike[str], *, channels: int | None = None) -> EDMDenoiser:
    """Load a shipped prior by name, or a ``.safetensors`` file that :func:`save` wrote.

    :param name_or_path: ``"generic"`` (with ``channels``; 2 if not given), ``"generic-1ch"``,
        ``"generic-2ch"``, or a path; ``"...@sha256:HEX"`` refuses a file of another hash. Shipped
        files are compared with the hashes that were shipped with them.
    :param channels: channels that the prior must have: 1 for real images, 2 for complex ones.
    :return: denoiser in evaluation mode, float32 on the CPU.
    :raises DataError: for an unknown name, a missing or damaged file, other channels, unexpected,
        missing or doubled entries, shapes that do not match the architecture, NaN weights, or
        another hash. Pickle-based files are never opened.
    """
    text, mark, wanted = os.fspath(name_or_path).partition(HASH_MARK)
    path = _resolve(text, channels)
    if mark:
        _check_hash(path, wanted.lower())
    elif path.parent == SHIPPED and (SHIPPED / _SUMS).is_file():
        lines = [line.split() for line in (SHIPPED / _SUMS).read_text().splitlines()]
        sums = {name: digest for digest, name in lines}
        _check_hash(path, sums.get(path.name, f"no line for it in {_SUMS}"))
    metadata = _read_metadata(path)
    if channels is not None and metadata["channels"] != channels:
        raise DataError(
            path,
            "channels",
            found=metadata["channels"],
            expected=channels,
            hint="complex images (MRI) need 2 channels, real ones (CT) 1",
        )
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten
        # without memory at first: a forged header may ask for a network that the file does not hold
        with torch.device("meta"):
            blueprint = UNet(**metadata["architecture"])
        weights = _read_weights(path, blueprint)
        net = UNet(**metadata["architecture"])
    net.load_state_dict(weights)
    denoiser = EDMDenoiser(
        net,
        sigma_data=metadata["sigma_data"],
        sigma_min=metadata["sigma_min"],
        sigma_max=metadata["sigma_max"],
        channels=metadata["channels"],
        card=metadata["card"],
    )
    return denoiser.eval()


def available() -> dict[str, dict[str, Any]]:
    """Return the cards of the shipped priors by name, without reading their weights."""
    return {
        path.stem.replace("_", "-"): dict(_read_metadata(path)["card"])
        for path in sorted(SHIPPED.glob("*.safetensors"))
    }


def _check_hash(path: Path, wanted: str) -> None:
    if not re.fullmatch("[0-9a-f]{64}", wanted):
        raise DataError(path, "sha256", found=wanted[:80], expected="64 hexadecimal digits")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise DataError(
            path,
            "sha256",
            found=found,
            expected=wanted,
            hint="these are other weights than those you asked for, or the file is damaged",
        )


def _resolve(text: str, channels: int | None) -> Path:
    path = Path(text)
    if path.suffix.lower() in _PICKLES:
        raise DataError(
            path,
            "suffix",
            found=path.suffix,
            expected=".safetensors",
            hint="pickle-based files can run code when they are opened, so they never are; if you "
            'trust this one, convert it yourself: python -c "import torch; from sciinv.priors '
            "import *; net = UNet(2); net.load_state_dict(torch.load("
            "'FILE', weights_only=True)); save(EDMDenoiser(net, sigma_min=0.002, "
            "sigma_max=80.0, channels=2), 'prior.safetensors')\", with the architecture and "
            "noise range of its training",
        )
    if path.suffix != ".safetensors":
        names = {p.stem.replace("_", "-"): p for p in SHIPPED.glob("*.safetensors")}
        key = f"generic-{2 if channels is None else channels}ch" if text == "generic" else text
        if key in names:
            return names[key]
        raise DataError(
            f"prior {text!r}",
            "name",
            found=key,
            expected=f"one of {', '.join(sorted(names)) or '(none shipped)'} or a path to a "
            ".safetensors file",
        )
    if not path.is_file():
        raise DataError(path, found="no such file")
    return path


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        doubled = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"doubled keys {', '.join(doubled)}")
    return result


def _read_metadata(path: Path) -> dict[str, Any]:
    """Read and check the header without touching the weights."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= MAX_HEADER:
                raise DataError(
                    path, "header", found=f"{length} bytes", expected=f"2 to {MAX_HEADER}"
                )
            raw = file.read(length)
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
        text = header["__metadata__"][METADATA_KEY]
        metadata = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            path,
            "header",
            found=f"{type(error).__name__}: {error}",
            expected=f"safetensors with a JSON string under the key {METADATA_KEY!r}",
            hint="write priors with sciinv.priors.save",
        ) from error
    problems = _problems(metadata)
    if problems:
        raise DataError(path, "metadata", found="; ".join(problems))
    return dict(metadata)


def _problems(metadata: object) -> list[str]:
    if not isinstance(metadata, dict):
        return ["no JSON object"]
    missing, extra = _FIELDS - metadata.keys(), metadata.keys() - _FIELDS
    if missing or extra:
        return [f"missing {sorted(missing)}, unexpected {sorted(extra)}"]
    found = []
    if metadata["format"] != FORMAT:
        found.append(f"format {metadata['format']!r}, expected {FORMAT!r}")
    for name in ("sigma_min", "sigma_max", "sigma_data"):
        value = metadata[name]
        if not _is_number(value) or not 0 < value < 1e6:
            found.append(f"{name} {value!r}, expected a positive number")
    if not found and not metadata["sigma_min"] < metadata["sigma_max"]:
        found.append("sigma_min is not below sigma_max")
    if not isinstance(metadata["card"], dict):
        found.append("card is no object")
    found += _architecture_problems(metadata["architecture"])
    if not found and metadata["channels"] != metadata["architecture"]["channels"]:
        found.append("channels differ from those of the architecture")
    return found


def _architecture_problems(architecture: object) -> list[str]:
    expected = {"channels", "widths", "blocks", "features", "patch"}
    # files of version 0.1 know no patch
    if not isinstance(architecture, dict) or architecture.keys() | {"patch"} != expected:
        return [f"architecture {architecture!r}, expected the keys {sorted(expected)}"]
    found = []
    for name, limit in _LIMITS.items():
        value = architecture.get(name, 1)
        several = name == "blocks" and isinstance(value, list) and len(value) <= _MAX_LEVELS
        for number in value if several else [value]:
            if not _is_integer(number) or not 1 <= number <= limit:
                found.append(f"architecture {name} {value!r}, expected 1 to {limit}")
    widths = architecture["widths"]
    if (
        not isinstance(widths, list)
        or not 1 <= len(widths) <= _MAX_LEVELS
        or not all(_is_integer(w) and 1 <= w <= _MAX_WIDTH for w in widths)
    ):
        found.append(
            f"architecture widths {widths!r}, expected up to {_MAX_LEVELS} of 1 to {_MAX_WIDTH}"
        )
    elif isinstance(architecture["blocks"], list) and len(architecture["blocks"]) != len(widths):
        found.append(f"architecture blocks {architecture['blocks']!r}, expected one for each width")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_weights(path: Path, net: UNet) -> Mapping[str, Tensor]:
    expected = net.state_dict()
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = set(file.keys())
            problems = [f"missing {name}" for name in sorted(expected.keys() - names)]
            problems += [f"unexpected {name}" for name in sorted(names - expected.keys())]
            for name in sorted(names & expected.keys()):
                shape = tuple(file.get_slice(name).get_shape())
                if shape != tuple(expected[name].shape):
                    problems.append(f"{name} of shape {shape}, not {tuple(expected[name].shape)}")
            if problems:
                raise DataError(path, "weights", found="; ".join(problems[:8]))
            weights = {name: file.get_tensor(name) for name in expected}
    except SafetensorError as error:
        raise DataError(path, "file", found=str(error), expected="intact safetensors") from error
    for name, value in weights.items():
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise DataError(path, name, found="NaN, infinity or no floating-point numbers")
    return {name: value.to(expected[name].dtype) for name, value in weights.items()}
