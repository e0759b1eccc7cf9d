"""What a prior is: a denoiser ``D(x, sigma) = E[x0 | x0 + sigma n = x]`` with a noise range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from deepinv.models.base import Denoiser
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.errors import GeometryError


class Prior(Denoiser):
    """A denoiser of images with a robust maximum of about 1, usable wherever deepinv takes one.

    Subclasses implement ``forward(x, sigma)``: ``x`` is real ``(B, C, *spatial)``, ``sigma`` a
    float or a tensor ``(B,)``, the standard deviation of white noise per real component; the
    result is the estimate of ``E[x0 | x0 + sigma n = x]`` in the shape and dtype of ``x``.

    :param sigma_min: lowest noise level the prior is meant for.
    :param sigma_max: highest noise level the prior is meant for.
    :param channels: 1 (real), 2 (real and imaginary part) or ``None`` (any).
    """

    capabilities: frozenset[Capability] = frozenset({Capability.VJP})

    def __init__(
        self,
        *,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 < sigma_min < sigma_max:
            raise ValueError(
                f"noise range: found sigma_min={sigma_min}, sigma_max={sigma_max}, "
                "expected 0 < sigma_min < sigma_max"
            )
        self.sigma_min = float(sigma_min)
        self.sigma_max = float(sigma_max)
        self.channels = channels

    def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Return the estimate of the clean image, in the shape and dtype of ``x``."""
        raise NotImplementedError


class AnalyticPrior(Prior):
    """A prior whose denoiser and posteriors are known in closed form.

    Its tensors are float64 and stay so: ``.to(dtype)`` moves them to another device at most, and
    ``D`` answers in the dtype of ``x``.

    :param image_shape: spatial shape.
    :param channels: 1 or 2.
    """

    def __init__(
        self, image_shape: Sequence[int], *, channels: int, sigma_min: float, sigma_max: float
    ) -> None:
        super().__init__(sigma_min=sigma_min, sigma_max=sigma_max, channels=channels)
        self.image_shape = tuple(int(n) for n in image_shape)
        self.img_size = (channels, *self.image_shape)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # a truth that loses half its digits because a model was moved to float32 is no truth
        moved = super()._apply(lambda t: t.to(fn(torch.empty(0, device=t.device)).device), recurse)
        return moved

    def check_image(self, x: Tensor) -> None:
        """Raise a ``GeometryError`` unless ``x`` is ``(B, C, *image_shape)``."""
        if tuple(x.shape[1:]) != self.img_size or x.is_complex():
            raise GeometryError(
                f"{type(self).__name__}: image: found {tuple(x.shape)}"
                f"{' complex' if x.is_complex() else ''}, expected real "
                f"(B, {', '.join(map(str, self.img_size))})"
            )


def sigma_rows(sigma: Tensor | float, x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Shape a noise level so that it multiplies the rows of ``x``: ``(B, 1, ..., 1)``.

    :param sigma: float, or tensor with one element or one per row (any trailing axes of 1).
    :param dtype: dtype of the result, that of ``x`` by default.
    """
    level = torch.as_tensor(sigma, dtype=dtype or x.dtype, device=x.device).reshape(-1)
    if level.numel() not in (1, x.shape[0]):
        raise GeometryError(
            f"sigma: found {level.numel()} values, expected 1 or {x.shape[0]} (one per row)"
        )
    return level.expand(x.shape[0]).reshape(-1, *([1] * (x.ndim - 1)))


def as_prior(obj: object) -> Denoiser:
    """Turn what a user may pass as a prior into a denoiser that declares what it is.

    Priors of this package, and denoisers that declare ``sigma_min``, ``sigma_max`` and
    ``capabilities`` like them, are returned as they are. A deepinv denoiser is taken to work on
    real images in [0, 1], like ours (:func:`sciinv.priors.adapters.from_deepinv` has the options);
    anything else that can be called as ``obj(x, sigma)`` is taken to be a differentiable denoiser.

    :raises TypeError: if ``obj`` cannot be called.
    """
    if isinstance(obj, Denoiser) and all(
        hasattr(obj, name) for name in ("sigma_min", "sigma_max", "capabilities")
    ):
        return obj
    from sciinv.priors.adapters import from_callable, from_deepinv

    if not callable(obj):
        raise TypeError(
            f"prior: found {type(obj).__name__}, expected a sciinv prior, a deepinv denoiser or a "
            "callable (x, sigma) -> E[x0 | x_sigma]"
        )
    if isinstance(obj, Denoiser):
        return from_deepinv(obj)
    declared = {
        name: value
        for name in ("sigma_min", "sigma_max", "channels", "capabilities")
        if (value := getattr(obj, name, None)) is not None
    }
    return from_callable(obj, **declared)
