"""A prior of images applied to volumes, slice by slice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# pixels that go through the network together, as in the solvers
_PIXELS = 2**19


class SliceWise(nn.Module):
    """Denoise every slice of a volume ``(B, C, D, H, W)`` with a prior of 2D images.

    The slices along the first image axis are denoised as if they had nothing to do with each other:
    no coherence across them is assumed. Where a gradient is needed and the slices do not fit one
    batch, activations are recomputed, which costs one more forward pass.

    :param prior: ``D(x, sigma)`` on ``(N, C, H, W)``.
    """

    def __init__(self, prior: Callable[..., Tensor]) -> None:
        super().__init__()
        self.prior = prior
        kept = ("sigma_min", "sigma_max", "channels", "card", "capabilities", "inference_dtype")
        for name in kept:
            if hasattr(prior, name):
                setattr(self, name, getattr(prior, name))

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return the denoised volume; ``sigma`` is a number or one per volume ``(B,)``."""
        if x.ndim != 5:
            raise ValueError(f"SliceWise: found shape {tuple(x.shape)}, expected (B, C, D, H, W)")
        batch, _, depth = x.shape[:3]
        flat = x.movedim(2, 1).flatten(0, 1)
        levels = sigma
        if isinstance(sigma, Tensor) and sigma.numel() > 1:
            levels = sigma.reshape(batch).repeat_interleave(depth)
        size = max(1, _PIXELS // (x.shape[-1] * x.shape[-2]))
        if flat.shape[0] <= size:
            out = self.prior(flat, levels)
        else:
            many = isinstance(levels, Tensor) and levels.numel() > 1
            parts = [
                self._part(part, levels[n * size : n * size + len(part)] if many else levels)  # type: ignore[index]
                for n, part in enumerate(flat.split(size))
            ]
            out = torch.cat(parts)
        return out.unflatten(0, (batch, depth)).movedim(1, 2).contiguous()

    def _part(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            recomputed: Tensor = checkpoint(self.prior, x, sigma, use_reentrant=False)
            return recomputed
        return self.prior(x, sigma)
