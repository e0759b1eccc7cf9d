"""Denoiser from a network: the preconditioning of Karras et al. (EDM)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from deepinv.models.base import Denoiser
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.priors.network import UNet


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype | None:
    """Return bfloat16 where the hardware multiplies it natively, else ``None``.

    On a CPU that is AMX or AVX-512 BF16; without them it is emulated, and slower than float32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if kind != "cpu":
        return None
    # the only place where torch tells about these instructions; absent before 2.6 and on ARM
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    known = [getattr(torch.cpu, name, None) for name in tests]
    return torch.bfloat16 if any(test() for test in known if test is not None) else None


class EDMDenoiser(Denoiser):
    """``D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)``, an estimate of E[x0 | x0 + sigma n].

    With s the standard deviation of the data: c_skip = s^2 / (sigma^2 + s^2),
    c_out = sigma s / sqrt(sigma^2 + s^2), c_in = 1 / sqrt(sigma^2 + s^2), c_noise = ln(sigma) / 4
    (Karras, Aittala, Aila, Laine, NeurIPS 2022, table 1). Images have a robust maximum of about 1.

    Outside ``[sigma_min, sigma_max]`` only c_noise is held at the end of the trained range; the
    other factors stay exact, so that D tends to the identity for small sigma and to a finite
    estimate for large sigma instead of leaving what the network has seen. Nothing is clipped.

    Volumes ``(B, C, D, H, W)`` are denoised slice by slice, as one batch.

    :param net: network ``F(x, c_noise)`` on ``(B, channels, H, W)``.
    :param sigma_data: standard deviation s of the training images per real component.
    :param sigma_min: smallest noise level of the training, per real component.
    :param sigma_max: largest noise level of the training.
    :param channels: 1 (real) or 2 (real and imaginary part).
    :param card: where the network comes from, as plain JSON types.
    :param inference_dtype: run the network under autocast in this dtype; ``None`` uses the dtype
        of its weights. Factors and sums stay in the dtype of the image.
    :raises ValueError: for a noise range or sigma_data that is not positive, or channels that are
        not those of the network.
    """

    capabilities: frozenset[Capability] = frozenset({Capability.VJP, Capability.TRAINABLE})

    def __init__(
        self,
        net: UNet,
        *,
        sigma_data: float = 0.35,
        sigma_min: float,
        sigma_max: float,
        channels: int,
        card: Mapping[str, Any] | None = None,
        inference_dtype: torch.dtype | None = None,
    ) -> None:
        torch.nn.Module.__init__(self)  # deepinv's would move us to the CPU
        if not (0 < sigma_min < sigma_max < math.inf and 0 < sigma_data < math.inf):
            raise ValueError(
                f"noise range: found sigma_min={sigma_min}, sigma_max={sigma_max}, "
                f"sigma_data={sigma_data}, expected 0 < sigma_min < sigma_max and sigma_data > 0"
            )
        if channels not in (1, 2) or channels != net.channels:
            raise ValueError(
                f"channels: found {channels}, expected 1 or 2 and those of the network "
                f"({net.channels})"
            )
        # convolutions of this layout take 0.5 to 0.8 of the time of the other, CPU and GPU alike
        self.net = net.to(memory_format=torch.channels_last)
        self.sigma_data = float(sigma_data)
        self.sigma_min = float(sigma_min)
        self.sigma_max = float(sigma_max)
        self.channels = int(channels)
        self.card: dict[str, Any] = dict(card or {})
        self.inference_dtype = inference_dtype

    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: object) -> Tensor:
        """Denoise.

        :param x: ``(B, C, H, W)`` or ``(B, C, D, H, W)``, any real dtype; the result has the same.
        :param sigma: noise standard deviation per real component, a number or ``(B,)``.
        :param kwargs: must be empty; named for the signature of deepinv's denoisers.
        :raises ValueError: for other shapes, sigma that is not positive and finite, or keywords.
        """
        if kwargs:
            raise ValueError(f"unknown keyword arguments: {', '.join(sorted(kwargs))}")
        if x.ndim not in (4, 5) or x.shape[1] != self.channels:
            raise ValueError(
                f"image: found {tuple(x.shape)}, expected (B, {self.channels}, H, W) or "
                f"(B, {self.channels}, D, H, W)"
            )
        level = self._sigma(x, sigma)
        if x.ndim == 5:
            depth = x.shape[2]
            slices = x.transpose(1, 2).flatten(0, 1)
            out = self._denoise(slices, level.repeat_interleave(depth))
            return out.unflatten(0, (x.shape[0], depth)).transpose(1, 2).contiguous()
        return self._denoise(x, level)

    def _denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        s = self.sigma_data
        total = (sigma * sigma + s * s)[:, None, None, None]
        spread = sigma[:, None, None, None]
        held = sigma.clamp(self.sigma_min, self.sigma_max)
        weight = self.net.head.weight
        inner = (x / total.sqrt()).to(weight.dtype).contiguous(memory_format=torch.channels_last)
        c_noise = (held.log() / 4).to(weight.dtype)
        if self.inference_dtype is not None and self.inference_dtype != weight.dtype:
            with torch.autocast(x.device.type, dtype=self.inference_dtype):
                residual = self.net(inner, c_noise)
        else:
            residual = self.net(inner, c_noise)
        result: Tensor = (s * s / total) * x + (spread * s / total.sqrt()) * residual.to(x.dtype)
        return result

    @staticmethod
    def _sigma(x: Tensor, sigma: float | Tensor) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        if level.numel() == 1:
            level = level.reshape(1).expand(x.shape[0])
        else:
            level = level.reshape(-1)
        if level.shape[0] != x.shape[0]:
            raise ValueError(
                f"sigma: found {level.shape[0]} values, expected 1 or one per image ({x.shape[0]})"
            )
        if not bool((torch.isfinite(level) & (level > 0)).all()):
            raise ValueError("sigma: expected positive finite values")
        return level
