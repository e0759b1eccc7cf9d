"""What makes two runs the same: content of scan and prior, settings, versions."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciinv.data.scan import Scan

# these change no number of a result
_NAMES_ONLY = frozenset({"source", "notes", "header", "format", "reference"})


def scan_digest(scan: Scan) -> str:
    """Hash of everything in a scan that a reconstruction depends on; not of its file's name."""
    state = hashlib.blake2b(digest_size=16)
    for item in fields(scan):
        if item.name not in _NAMES_ONLY:
            _update(state, item.name, getattr(scan, item.name))
    return state.hexdigest()


def prior_digest(prior: object) -> str:
    """Hash of the weights of a network, or of the class of another denoiser.

    A denoiser that is no ``torch.nn.Module`` cannot be looked into: only its class counts.
    """
    state = hashlib.blake2b(digest_size=16)
    state.update(type(prior).__qualname__.encode())
    if isinstance(prior, torch.nn.Module):
        for name, tensor in prior.state_dict().items():
            if isinstance(tensor, torch.Tensor):
                state.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                flat = tensor.detach().cpu().contiguous().view(-1)
                _update(state, name, flat.view(torch.uint8).numpy())
    return state.hexdigest()


def _update(state: Any, name: str, value: object) -> None:  # noqa: ANN401
    state.update(f"/{name}:".encode())
    if is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            _update(state, item.name, getattr(value, item.name))
    elif isinstance(value, np.ndarray):
        state.update(f"{value.dtype.str}{value.shape}".encode())
        state.update(np.ascontiguousarray(value).data)
    elif isinstance(value, Path):
        state.update(value.name.encode())
    else:
        state.update(repr(value).encode())
