"""The trained prior as a file: half precision, read back and compared."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sciinv.errors import NumericalError
from sciinv.priors import EDMDenoiser, load, save
from sciinv.training.config import TrainingConfig
from sciinv.training.curve import denoising_curve
from sciinv.training.evaluate import as_denoiser

# dB that half precision may cost at any noise level
_LOSS = 0.02


def write_prior(
    path: Path, config: TrainingConfig, net: nn.Module, card: dict[str, Any], held_out: Tensor
) -> EDMDenoiser:
    """Write a network as a prior in half precision, and see that nothing was lost.

    The file is read back: its weights must equal the cast ones bit by bit, and its denoising curve
    on held-out images may not lie below that of the full-precision weights. The curve of the file
    goes into the card.

    :raises NumericalError: the cast changes what the prior does, or the file is not what was
        written; then there is no file.
    """
    before = denoising_curve(as_denoiser(config, net, {}), held_out)
    half = copy.deepcopy(net)
    half.load_state_dict({k: v.half().float() for k, v in net.state_dict().items()})
    cast = as_denoiser(config, half, card)
    curve = denoising_curve(cast, held_out)
    cast.card = {**card, "denoising": curve}
    worst = max(before[sigma]["psnr"] - curve[sigma]["psnr"] for sigma in curve)
    if not worst <= _LOSS:  # also if it is not a number
        raise NumericalError(
            f"{path.name}: half precision costs {worst:.3f} dB of denoising, more than {_LOSS} dB"
        )
    save(cast, path, dtype=torch.float16)
    again = load(path, channels=config.prior.channels)
    weights = zip(again.net.state_dict().values(), half.state_dict().values(), strict=True)
    if not all(torch.equal(a, b) for a, b in weights):
        path.unlink()
        raise NumericalError(f"{path.name}: the weights read back differ from those written")
    return again
