"""Priors made from foreign denoisers: deepinv modules, callables, variance-preserving networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from deepinv.models.base import Denoiser
from torch import Tensor, nn

from sciinv.capabilities import Capability
from sciinv.errors import GeometryError
from sciinv.priors.base import Prior, sigma_rows

# deepinv classes that were trained over a diffusion's whole noise range
_DIFFUSION_CLASSES = frozenset(
    {"ADMUNet", "DiffUNet", "DiffusersDenoiserWrapper", "EDMPrecond", "NCSNpp", "ScoreModelWrapper"}
)
# the others see noise up to about 50/255 in training
_DENOISER_SIGMA_MAX = 0.2


class CallablePrior(Prior):
    """A callable ``(x, sigma) -> D(x, sigma)`` as a prior; ``sigma`` arrives as a tensor ``(B,)``.

    :param function: the denoiser; a module becomes a submodule and follows ``.to(...)``.
    :param capabilities: what it can do.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        *,
        channels: int | None,
        sigma_min: float,
        sigma_max: float,
        capabilities: Iterable[Capability],
    ) -> None:
        super().__init__(sigma_min=sigma_min, sigma_max=sigma_max, channels=channels)
        self.function = function
        self.capabilities = frozenset(capabilities)

    def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Return what the callable makes of ``x`` and the noise level of each row."""
        out: Tensor = self.function(x, sigma_rows(sigma, x).reshape(-1))
        if out.shape != x.shape:
            raise GeometryError(
                f"prior: the callable returned {tuple(out.shape)}, expected {tuple(x.shape)}"
            )
        return out


class DeepinvPrior(Prior):
    """A deepinv denoiser in this package's channels and range; made by :func:`from_deepinv`."""

    def __init__(
        self,
        model: Denoiser,
        *,
        channels: int,
        model_channels: int,
        value_range: tuple[float, float],
        sigma_min: float,
        sigma_max: float,
        capabilities: Iterable[Capability],
    ) -> None:
        super().__init__(sigma_min=sigma_min, sigma_max=sigma_max, channels=channels)
        self.model = model
        self.model_channels = model_channels
        self.low, self.high = value_range
        self.capabilities = frozenset(capabilities)
        # DiffUNet takes a time step unless it is told that it gets a noise level
        self._kwargs = {"type_t": "noise_level"} if hasattr(model, "forward_denoise") else {}

    def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Map to [0, 1] and to the model's channels, denoise, map back."""
        if x.shape[1] != self.channels:
            raise GeometryError(
                f"prior: found {x.shape[1]} channels, expected {self.channels}; "
                "from_deepinv(model, channels=...) sets it"
            )
        width = self.high - self.low
        parameter = next(self.model.parameters(), None)
        dtype = x.dtype if parameter is None else parameter.dtype
        u = (x.to(dtype) - self.low) / width
        level = (sigma_rows(sigma, x).reshape(-1) / width).to(dtype)
        folded = self.model_channels != self.channels
        if folded:
            # real and imaginary part become rows of their own
            u = u.reshape(-1, 1, *x.shape[2:]).expand(-1, self.model_channels, *x.shape[2:])
            level = level.repeat_interleave(x.shape[1])
        out: Tensor = self.model(u, level, **self._kwargs)
        if folded:
            out = out.mean(1).reshape(x.shape)
        return (self.low + width * out).to(x.dtype)


def from_deepinv(
    model: Denoiser,
    *,
    channels: int = 1,
    model_channels: int | None = None,
    value_range: tuple[float, float] | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    vjp: bool = True,
) -> Prior:
    """Make a prior from a deepinv denoiser that is already built; nothing is ever downloaded.

    deepinv's denoisers take images in [0, 1], which is our scale for real images, so those pass
    unchanged. A complex image (``channels=2``) has real and imaginary part between -1 and 1: each
    is mapped to [0, 1] by (x + 1) / 2, with half the noise level, and denoised as a grey image of
    its own, unless the model has two channels itself. A colour model sees the grey image three
    times and its outputs are averaged.

    :param model: a built ``deepinv.models.Denoiser``.
    :param channels: channels of our images, 1 or 2.
    :param model_channels: channels the model takes; its ``in_channels`` if it has that, else 1.
    :param value_range: values that are mapped to 0 and 1; (0, 1) for real, (-1, 1) for complex.
    :param sigma_min: lowest noise level, in our scale; 0.002 times the width of the range.
    :param sigma_max: highest noise level, in our scale; for deepinv's diffusion models 80, for
        its other denoisers 0.2 (they were trained up to about that, which suits plug-and-play
        methods but not samplers that start from pure noise), times the width of the range.
    :param vjp: whether the model can be differentiated (BM3D, for one, cannot).
    :raises TypeError: if ``model`` is not a built deepinv denoiser.
    """
    if not isinstance(model, Denoiser):
        raise TypeError(
            f"from_deepinv: found {model!r}, expected a built deepinv.models.Denoiser; other "
            "callables go through sciinv.priors.adapters.from_callable"
        )
    if channels not in (1, 2):
        raise GeometryError(f"channels: found {channels}, expected 1 or 2")
    if model_channels is None:
        declared = getattr(model, "in_channels", None)
        model_channels = declared if isinstance(declared, int) else 1
    low, high = value_range or ((0.0, 1.0) if channels == 1 else (-1.0, 1.0))
    if not high > low:
        raise ValueError(f"value_range: found ({low}, {high}), expected low < high")
    diffusion = any(c.__name__ in _DIFFUSION_CLASSES for c in type(model).__mro__)
    top = 80.0 if diffusion else _DENOISER_SIGMA_MAX
    return DeepinvPrior(
        model,
        channels=channels,
        model_channels=model_channels,
        value_range=(float(low), float(high)),
        sigma_min=0.002 * (high - low) if sigma_min is None else sigma_min,
        sigma_max=top * (high - low) if sigma_max is None else sigma_max,
        capabilities=_capabilities(model, vjp),
    )


def from_callable(
    function: Callable[..., Tensor],
    channels: int | None = None,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    vjp: bool = True,
    capabilities: Iterable[Capability] | None = None,
) -> Prior:
    """Make a prior from a callable ``(x, sigma) -> E[x0 | x0 + sigma n = x]``.

    :param function: takes ``x`` ``(B, C, *spatial)`` and ``sigma`` as a tensor ``(B,)``.
    :param channels: channels it is made for, ``None`` for any.
    :param sigma_min: lowest noise level.
    :param sigma_max: highest noise level.
    :param vjp: whether it can be differentiated with respect to ``x``.
    :param capabilities: all capabilities, instead of ``vjp``.
    """
    if not callable(function):
        raise TypeError(f"from_callable: found {function!r}, expected a callable (x, sigma) -> D")
    return CallablePrior(
        function,
        channels=channels,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        capabilities=_capabilities(function, vjp) if capabilities is None else capabilities,
    )


class VPPrior(Prior):
    """A variance-preserving epsilon network as a denoiser; made by :func:`from_vp`."""

    levels: Tensor

    def __init__(
        self,
        eps_net: Callable[..., Any],
        levels: Tensor,
        *,
        channels: int | None,
        discrete: bool,
        vjp: bool,
    ) -> None:
        super().__init__(sigma_min=float(levels[0]), sigma_max=float(levels[-1]), channels=channels)
        self.eps_net = eps_net
        self.discrete = discrete
        self.capabilities = _capabilities(eps_net, vjp)
        self.register_buffer("levels", levels)

    def time(self, sigma: Tensor) -> Tensor:
        """Return the time step of a noise level, by interpolation of its logarithm.

        Levels outside the schedule get its first or last step.
        """
        grid = self.levels.to(device=sigma.device, dtype=torch.float64).log()
        log_sigma = sigma.double().log().clamp(grid[0], grid[-1]).contiguous()
        upper = torch.searchsorted(grid, log_sigma).clamp(1, len(grid) - 1)
        low, high = grid[upper - 1], grid[upper]
        t = (upper - 1) + (log_sigma - low) / (high - low)
        return t.round() if self.discrete else t

    def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Return x - s eps(x sqrt(ab), t(s)) with ab = 1 / (1 + s^2)."""
        s = sigma_rows(sigma, x)
        t = self.time(s.detach().reshape(-1))
        t = t.long() if self.discrete else t.to(x.dtype)
        eps: Tensor = self.eps_net(x / (1 + s**2).sqrt(), t)
        # networks with a learned variance append it as further channels
        return x - s * eps[:, : x.shape[1]]


def from_vp(
    eps_net: Callable[..., Any],
    alphas_bar: Tensor | Sequence[float],
    *,
    channels: int | None = None,
    discrete: bool = False,
    vjp: bool = True,
) -> Prior:
    """Make a prior from a network that predicts the noise of a variance-preserving diffusion.

    With xv = sqrt(ab) x0 + sqrt(1 - ab) eps (Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic
    Models", 2020, 2006.11239), s = sqrt((1 - ab) / ab) and x = xv / sqrt(ab):
    D(x, s) = x - s eps(x sqrt(ab), t(s)). The images keep the network's own scale.

    :param eps_net: ``(xv, t) -> eps`` with ``t`` a tensor ``(B,)`` counting from 0; more output
        channels than input channels are dropped.
    :param alphas_bar: cumulative products ``(T,)``, falling, inside (0, 1).
    :param channels: channels it is made for.
    :param discrete: give the nearest integer step (int64) instead of a fractional one.
    :param vjp: whether the network can be differentiated.
    """
    ab = torch.as_tensor(alphas_bar, dtype=torch.float64).detach()
    inside = ab.ndim == 1 and len(ab) > 1 and bool(((ab > 0) & (ab < 1)).all())
    if not inside or not bool((ab.diff() < 0).all()):
        raise ValueError("alphas_bar: expected two or more falling values inside (0, 1)")
    return VPPrior(eps_net, ((1 - ab) / ab).sqrt(), channels=channels, discrete=discrete, vjp=vjp)


def _capabilities(function: object, vjp: bool) -> frozenset[Capability]:
    found = {Capability.VJP} if vjp else set()
    if isinstance(function, nn.Module) and any(True for _ in function.parameters()):
        found.add(Capability.TRAINABLE)
    return frozenset(found)
