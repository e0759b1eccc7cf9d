"""The trained prior as a file: half precision, read back and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciinv.errors import NumericalError
from sciinv.priors import EDMDenoiser, UNet, load, save
from sciinv.training.config import TrainingConfig
from sciinv.training.curve import denoising_curve

# dB that half precision may cost at any noise level
_LOSS = 0.02


def write_prior(
    path: Path, config: TrainingConfig, net: UNet, card: dict[str, Any], held_out: Tensor
) -> EDMDenoiser:
    """Write a network as a prior in half precision, and see that nothing was lost.

    The file is read back: its weights must equal the cast ones bit by bit, and its denoising curve
    on held-out images may not lie below that of the full-precision weights. The curve of the file
    goes into the card.

    :raises NumericalError: the cast changed what the prior does; the file is removed.
    """
    noise = config.noise
    settings: dict[str, Any] = {
        "sigma_data": noise.sigma_data, "sigma_min": noise.sigma_min,
        "sigma_max": noise.sigma_max, "channels": config.prior.channels,
    }  # fmt: skip
    full = EDMDenoiser(net, card={}, **settings).eval()
    before = denoising_curve(full, held_out)
    half = UNet(**net.architecture)
    half.load_state_dict({k: v.half().float() for k, v in net.state_dict().items()})
    cast = EDMDenoiser(half, card={}, **settings).eval()
    curve = denoising_curve(cast, held_out)
    cast.card = {**card, "denoising": curve}
    save(cast, path, dtype=torch.float16)
    again = load(path, channels=config.prior.channels)
    pairs = zip(again.net.state_dict().values(), half.state_dict().values(), strict=True)
    same = all(torch.equal(a, b) for a, b in pairs)
    worst = max(before[s]["psnr"] - curve[s]["psnr"] for s in curve)
    if not same or worst > _LOSS:
        path.unlink()
        raise NumericalError(
            f"{path.name}: half precision costs {worst:.3f} dB of denoising, more than {_LOSS} dB"
            if same else f"{path.name}: the weights read back differ from those written"
        )
    return again
