"""Unequal noise made white: rows of the operator divided by their standard deviation."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from torch import Tensor

from sciinv.capabilities import Capability, operator_capabilities
from sciinv.errors import GeometryError, IncompatibleError
from sciinv.operators.base import LinearOperator


def whiten(physics: LinearPhysics, std: Tensor | float) -> WhitenedOperator:
    """Return ``W A`` with ``W = diag(1 / std)``, whose noise is white with level one.

    :param physics: a linear operator of sciinv or deepinv (with ``img_size`` set).
    :param std: noise standard deviation per real component, broadcastable to the measurement
        ``(*measurement_shape)`` or with the batch first ``(B, *measurement_shape)``. Samples whose
        std is infinite, NaN or not positive are masked: they carry no information.
    :raises GeometryError: if ``std`` does not fit the measurement or masks a whole scan.
    """
    return WhitenedOperator(physics, std)


class WhitenedOperator(LinearOperator):
    """``W A``, see :func:`whiten`; its data are :meth:`whiten_measurement` of the original ones.

    :param physics: the inner linear operator.
    :param std: noise standard deviation, see :func:`whiten`.
    """

    batch_buffers: ClassVar[tuple[str, ...]] = ("weight",)
    weight: Tensor
    inner: LinearPhysics

    def __init__(self, physics: LinearPhysics, std: Tensor | float) -> None:
        if not isinstance(physics, LinearPhysics):
            raise IncompatibleError(
                f"whiten: found {type(physics).__name__}, expected a LinearPhysics"
            )
        if isinstance(physics, LinearOperator):
            image_shape, channels = physics.image_shape, physics.channels
            measurement_shape = physics.measurement_shape
        else:
            image_shape, channels, measurement_shape = _foreign_shapes(physics)
        weight = _weight(std, measurement_shape)
        device = weight.device if isinstance(std, Tensor) else _device(physics)
        super().__init__(
            image_shape,
            channels=channels,
            measurement_shape=measurement_shape,
            noise_model=GaussianNoise(1.0),
            device=device,
        )
        self.inner = physics
        self.register_buffer("weight", weight.to(device))
        kept = {Capability.LINEAR, Capability.DIFFERENTIABLE, Capability.ADJOINT}
        self.capabilities = operator_capabilities(physics) & kept
        inner_batch = physics.batch if isinstance(physics, LinearOperator) else 1
        if len({inner_batch, self.weight.shape[0]} - {1}) > 1:
            raise GeometryError(
                f"whiten: std: found a batch of {self.weight.shape[0]}, expected "
                f"{inner_batch} as the operator, or one"
            )
        mask = self.measurement_mask
        if not bool((mask != 0).flatten(1).any(1).all()):
            raise GeometryError("whiten: std: found a scan in which every sample is masked")

    @property
    def batch(self) -> int:
        """Number of scans that the weights or the inner operator differ over."""
        inner = self.inner.batch if isinstance(self.inner, LinearOperator) else 1
        return max(super().batch, inner)

    @property
    def measurement_mask(self) -> Tensor:
        """1 where the weight is positive and the inner operator has a measurement."""
        seen = (self.weight > 0).to(self.weight.dtype)
        inner = self.inner.measurement_mask if isinstance(self.inner, LinearOperator) else None
        return seen if inner is None else seen * inner.to(seen)

    def whiten_measurement(self, y: Tensor) -> Tensor:
        """Divide a measurement of the inner operator by std; masked samples become zero.

        :param y: ``(B, *measurement_shape)``; masked samples may be NaN.
        """
        self._check(y, self.measurement_shape, "measurement")
        weight = self.weight.to(y.dtype)
        return torch.where(weight > 0, y, 0.0) * weight

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Measure and divide by std."""
        self.check_image(x)
        y: Tensor = self.inner.A(x, **kwargs)
        return self.weight.to(y.dtype) * y

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Apply the exact transpose of :meth:`A`."""
        self.check_measurement(y)
        x: Tensor = self.inner.A_adjoint(self.weight.to(y.dtype) * y, **kwargs)
        return x

    def A_adjoint_A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """``A^T W^2 A x``, with both weights in one product."""
        self.check_image(x)
        y: Tensor = self.inner.A(x, **kwargs)
        result: Tensor = self.inner.A_adjoint(self.weight.to(y.dtype).square() * y)
        return result

    def noise(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Add noise of level one where there is a measurement."""
        noisy: Tensor = self.noise_model(x, **kwargs)
        return noisy * self.measurement_mask.to(noisy.dtype)

    def update_parameters(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Pass deepinv's parameter updates to the inner operator."""
        self.inner.update_parameters(**kwargs)

    def rows(self, index: Tensor) -> Self:
        """Return the operator for the scans ``index``; a deepinv inner operator stays as it is."""
        new = super().rows(index)
        if isinstance(self.inner, LinearOperator) and self.inner.batch > 1:
            new._modules["inner"] = self.inner.rows(index)
        return new

    def summary(self) -> dict[str, str]:
        """Return the inner operator's summary and the share of samples that are used."""
        if isinstance(self.inner, LinearOperator):
            fields = self.inner.summary()
        else:
            fields = super().summary() | {"operator": type(self.inner).__name__}
        used = self.measurement_mask
        shape = (used.shape[0], *self.measurement_shape)
        share = float((used != 0).expand(shape).double().mean())
        return fields | {"noise": "whitened to 1", "samples used": f"{100 * share:.1f} %"}


def _weight(std: Tensor | float, measurement_shape: tuple[int, ...]) -> Tensor:
    """Return 1/std with the batch first and zero where a sample is masked."""
    std = torch.as_tensor(std)
    if not std.is_floating_point():
        std = std.to(torch.get_default_dtype())
    shape = tuple(std.shape)
    dims = len(measurement_shape)
    if std.ndim <= dims:
        std = std.reshape(1, *[1] * (dims - std.ndim), *shape)
    fits = std.ndim == dims + 1 and all(
        found in (1, expected)
        for found, expected in zip(std.shape[1:], measurement_shape, strict=True)
    )
    if not fits:
        raise GeometryError(
            f"whiten: std: found shape {shape}, expected one that broadcasts to "
            f"{measurement_shape} or (B, {', '.join(map(str, measurement_shape))})"
        )
    usable = torch.isfinite(std) & (std > 0)
    return torch.where(usable, 1.0 / torch.where(usable, std, 1.0), 0.0)


def _device(physics: LinearPhysics) -> torch.device:
    buffer = next(physics.buffers(), None)
    return torch.device("cpu") if buffer is None else buffer.device


def _foreign_shapes(physics: LinearPhysics) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Shapes of a deepinv operator, found by measuring an empty image."""
    size = getattr(physics, "img_size", None)
    if size is None or len(size) not in (3, 4):
        raise GeometryError(
            f"whiten: {type(physics).__name__}: img_size: found {size}, expected (C, H, W) or "
            "(C, D, H, W)"
        )
    size = tuple(int(n) for n in size)
    with torch.no_grad():
        buffer = next((b for b in physics.buffers() if b.is_floating_point()), torch.zeros(()))
        y = physics.A(torch.zeros(1, *size, dtype=buffer.dtype, device=_device(physics)))
    if not isinstance(y, Tensor):
        raise IncompatibleError(f"whiten: {type(physics).__name__} does not measure one tensor")
    return size[1:], size[0], tuple(y.shape[1:])
