"""A small norm-free U-Net conditioned on the noise level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Embedding(nn.Module):
    """Fourier features of the noise conditioning, then a two-layer perceptron."""

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        # c_noise = ln(sigma) / 4 spans about [-1.7, 0.4]; periods from 8 down to 0.25
        octaves = torch.linspace(-3.0, 2.0, 16)
        self.register_buffer("frequencies", 2 * torch.pi * 2.0**octaves, persistent=False)
        self.first = nn.Linear(32, features)
        self.second = nn.Linear(features, features)

    def forward(self, c_noise: Tensor) -> Tensor:
        angle = c_noise[:, None] * self.frequencies.to(c_noise.dtype)
        features = torch.cat([angle.cos(), angle.sin()], dim=1)
        return functional.silu(self.second(functional.silu(self.first(features))))


class _Block(nn.Module):
    """``x + conv(silu(scale * conv(silu(x)) + shift))``; starts as the identity."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(features, 2 * width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        # without normalisation, residual branches that start at zero keep the first steps stable
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        inner = self.first(functional.silu(x))
        result: Tensor = x + self.second(functional.silu(inner * (1 + scale) + shift))
        return result


class UNet(nn.Module):
    """Norm-free residual U-Net ``F(x, c_noise)`` with additive skips.

    No layer looks at statistics of the image, so a patch and a large image that is mostly air are
    treated alike. Any size is accepted: the image is extended by replication to a multiple of
    ``patch * 2**(levels - 1)`` (bottom and right) and the result is cropped.

    :param channels: channels in and out, 1 or 2.
    :param widths: channels of each level; each further level halves the resolution.
    :param blocks: residual blocks per level and side, one number or one for each level.
    :param features: size of the noise embedding.
    :param patch: side of the pixel blocks that the first level sees as channels (1: pixels).
    :raises ValueError: for settings that are not positive.
    """

    def __init__(
        self,
        channels: int = 2,
        *,
        widths: Sequence[int] = (32, 56, 80, 112),
        blocks: int | Sequence[int] = 1,
        features: int = 64,
        patch: int = 1,
    ) -> None:
        super().__init__()
        counts = [blocks] * len(widths) if isinstance(blocks, int) else list(blocks)
        if min(channels, features, patch, len(widths)) < 1 or min(*widths, *counts) < 1:
            raise ValueError("channels, widths, blocks, features and patch must be positive")
        if len(counts) != len(widths):
            raise ValueError(f"blocks: found {len(counts)} numbers, expected {len(widths)}")
        self.channels = int(channels)
        self.widths = tuple(int(w) for w in widths)
        self.blocks = int(blocks) if isinstance(blocks, int) else tuple(int(b) for b in blocks)
        self.features = int(features)
        self.patch = int(patch)
        self.embedding = _Embedding(features)
        self.head = nn.Conv2d(channels * patch**2, self.widths[0], 3, padding=1)
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        sides = list(zip(self.widths[:-1], counts[:-1], strict=True))
        self.down_blocks = nn.ModuleList(self._level(w, n) for w, n in sides)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.middle = self._level(self.widths[-1], counts[-1])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.up_blocks = nn.ModuleList(self._level(w, n) for w, n in sides)
        self.tail = nn.Conv2d(self.widths[0], channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def _level(self, width: int, count: int) -> nn.ModuleList:
        return nn.ModuleList(_Block(width, self.features) for _ in range(count))

    @property
    def architecture(self) -> dict[str, Any]:
        """Constructor arguments that rebuild this network."""
        return {
            "channels": self.channels,
            "widths": list(self.widths),
            "blocks": self.blocks if isinstance(self.blocks, int) else list(self.blocks),
            "features": self.features,
            "patch": self.patch,
        }

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Apply the network.

        :param x: ``(B, channels, H, W)``.
        :param c_noise: noise conditioning ``(B,)``.
        :return: ``(B, channels, H, W)``.
        :raises ValueError: for another number of axes or channels.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(
                f"network input: found {tuple(x.shape)}, expected (B, {self.channels}, H, W)"
            )
        height, width = x.shape[-2:]
        multiple = self.patch * 2 ** (len(self.widths) - 1)
        bottom, right = -height % multiple, -width % multiple
        if bottom or right:
            x = functional.pad(x, (0, right, 0, bottom), mode="replicate")
        embedding = self.embedding(c_noise)
        h = self.head(functional.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        skips = []
        for level, down in zip(self.down_blocks, self.downs, strict=True):
            h = _apply(level, h, embedding)
            skips.append(h)
            h = down(h)
        h = _apply(self.middle, h, embedding)
        for up, level in zip(reversed(self.ups), reversed(self.up_blocks), strict=True):
            h = _apply(level, up(h) + skips.pop(), embedding)
        h = self.tail(functional.silu(h))
        if self.patch > 1:
            h = functional.pixel_shuffle(h, self.patch)
        return h[..., :height, :width] if bottom or right else h


def _apply(level: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    for block in level.children():
        h = block(h, embedding)
    return h
