"""Bases of sciinv's operators: a deepinv ``Physics`` with shapes, batches and declarations."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from deepinv.physics import LinearPhysics, Physics
from deepinv.physics.noise import NoiseModel
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.errors import GeometryError


class Operator(Physics):
    """What linear and non-linear operators share: shapes, their checks, rows of a batch, words.

    Subclass :class:`LinearOperator` or :class:`NonlinearOperator`, not this.
    """

    capabilities: frozenset[Capability] = frozenset()
    # buffers whose first axis is the batch of scans when it is longer than one
    batch_buffers: ClassVar[tuple[str, ...]] = ()
    image_shape: tuple[int, ...]
    channels: int
    measurement_shape: tuple[int, ...]

    def _set_shapes(
        self, image_shape: Sequence[int], channels: int, measurement_shape: Sequence[int]
    ) -> None:
        """Check and store the shapes (before ``Module.__init__``: plain attributes only)."""
        self.image_shape = tuple(int(n) for n in image_shape)
        if len(self.image_shape) not in (2, 3) or min(self.image_shape) < 1:
            raise GeometryError(
                f"image_shape: found {tuple(image_shape)}, expected (H, W) or (D, H, W)"
            )
        self.channels = channels
        self.measurement_shape = tuple(int(n) for n in measurement_shape)

    # -- shapes --------------------------------------------------------------------------------
    @property
    def batch(self) -> int:
        """Number of scans that the operator's own parameters differ over (1: shared by all)."""
        sizes = [
            buffer.shape[0]
            for name in self.batch_buffers
            if (buffer := getattr(self, name, None)) is not None
        ]
        return max(sizes, default=1)

    @property
    def measurement_mask(self) -> Tensor | None:
        """1 where a measurement exists, broadcastable to the measurement; ``None``: everywhere."""
        return None

    def measurement_count(self) -> int:
        """Number of real measured components of one scan (the largest over the batch)."""
        mask = self.measurement_mask
        if mask is None:
            return math.prod(self.measurement_shape)
        shape = (mask.shape[0], *self.measurement_shape)
        return int((mask != 0).expand(shape).flatten(1).sum(1).max())

    def check_image(self, x: Tensor) -> None:
        """Raise a ``GeometryError`` unless ``x`` is real ``(B, C, *image_shape)``."""
        self._check(x, (self.channels, *self.image_shape), "image")

    def check_measurement(self, y: Tensor) -> None:
        """Raise a ``GeometryError`` unless ``y`` is real ``(B, *measurement_shape)``."""
        self._check(y, self.measurement_shape, "measurement")

    def _check(self, value: Tensor, shape: tuple[int, ...], what: str) -> None:
        name = type(self).__name__
        if value.is_complex():
            raise GeometryError(
                f"{name}: {what}: found a complex tensor {tuple(value.shape)}, expected a real one "
                f"(B, {', '.join(map(str, shape))}) with real and imaginary parts as channels"
            )
        if value.ndim != len(shape) + 1 or tuple(value.shape[1:]) != shape:
            raise GeometryError(
                f"{name}: {what}: found shape {tuple(value.shape)}, "
                f"expected (B, {', '.join(map(str, shape))})"
            )
        if self.batch > 1 and value.shape[0] != self.batch:
            raise GeometryError(
                f"{name}: {what}: found a batch of {value.shape[0]}, expected {self.batch}, "
                "because the operator's own parameters differ over the batch"
            )

    # -- batches -------------------------------------------------------------------------------
    def rows(self, index: Tensor) -> Self:
        """Return the operator for the scans ``index`` (a LongTensor, repetitions allowed).

        Parameters shared by all scans are shared with the original, not copied.
        """
        new = copy.copy(self)
        new._buffers = dict(self._buffers)
        new._modules = dict(self._modules)
        for name in self.batch_buffers:
            buffer = self._buffers.get(name)
            if buffer is not None and buffer.shape[0] > 1:
                new._buffers[name] = buffer.index_select(0, index.to(buffer.device))
        return new

    def repeat(self, count: int) -> Self:
        """Return the operator for ``count`` copies of its batch, ordered copy by copy."""
        if self.batch == 1 or count == 1:
            return self
        return self.rows(torch.arange(self.batch).repeat(count))

    # -- words ---------------------------------------------------------------------------------
    def summary(self) -> dict[str, str]:
        """Return what the operator is, field by field, for reports and logs."""
        complex_ = " complex" if self.channels == 2 else ""
        return {
            "operator": type(self).__name__,
            "image": "x".join(map(str, self.image_shape)) + complex_,
            "measurement": "x".join(map(str, self.measurement_shape)),
        }

    def extra_repr(self) -> str:
        """Show the shapes in ``repr``."""
        return f"image_shape={self.image_shape}, measurement_shape={self.measurement_shape}"


class LinearOperator(Operator, LinearPhysics):
    """A linear measurement operator ``A`` with its exact adjoint.

    Subclasses implement :meth:`A` and :meth:`A_adjoint` (and :meth:`A_adjoint_A` where it is
    cheaper than the two in sequence) on real tensors with the batch first, and call
    :meth:`check_image` / :meth:`check_measurement` on what they are given.

    :param image_shape: spatial shape of the image, ``(H, W)`` or ``(D, H, W)``.
    :param channels: 1 (real images) or 2 (real and imaginary part).
    :param measurement_shape: shape of the measurement without the batch axis.
    :param noise_model: deepinv noise model; ``None`` means *unknown* and solvers refuse it.
    :param device: device of the buffers.
    :param dtype: real dtype of the buffers.
    """

    capabilities: frozenset[Capability] = frozenset(
        {Capability.LINEAR, Capability.DIFFERENTIABLE, Capability.ADJOINT}
    )

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        channels: int,
        measurement_shape: Sequence[int],
        noise_model: NoiseModel | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._set_shapes(image_shape, channels, measurement_shape)
        # deepinv's solver defaults of 50 iterations at 1e-4 stay; users pass their own per call
        super().__init__(
            img_size=(channels, *self.image_shape),
            noise_model=noise_model,
            device="cpu" if device is None else device,
        )
        if dtype is not None:
            self.to(dtype)

    # -- maps ----------------------------------------------------------------------------------
    def A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Measure: ``(B, C, *image_shape) -> (B, *measurement_shape)``, without noise."""
        raise NotImplementedError

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Apply the exact transpose: ``(B, *measurement_shape) -> (B, C, *image_shape)``."""
        raise NotImplementedError

    def normal(self, x: Tensor) -> Tensor:
        """``A^T A x``, the primitive that solvers use; an alias of ``A_adjoint_A``."""
        return self.A_adjoint_A(x)


class NonlinearOperator(Operator):
    """A differentiable measurement operator ``A`` that is not linear.

    Subclasses implement :meth:`A` and :meth:`A_vjp` (the product of a measurement-sized vector with
    the transposed Jacobian, finite everywhere) on real tensors with the batch first.

    :param image_shape: spatial shape of the image, ``(H, W)`` or ``(D, H, W)``.
    :param channels: 1 (real images) or 2 (real and imaginary part).
    :param measurement_shape: shape of the measurement without the batch axis.
    :param noise_model: deepinv noise model; ``None`` means *unknown* and solvers refuse it.
    :param device: device of the buffers.
    :param dtype: real dtype of the buffers.
    """

    capabilities: frozenset[Capability] = frozenset({Capability.DIFFERENTIABLE})

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        channels: int,
        measurement_shape: Sequence[int],
        noise_model: NoiseModel | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._set_shapes(image_shape, channels, measurement_shape)
        super().__init__(noise_model=noise_model)
        self.img_size = (channels, *self.image_shape)
        self.register_buffer("_device_holder", torch.tensor(0.0), persistent=False)
        self.to("cpu" if device is None else device)
        if dtype is not None:
            self.to(dtype)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Measure: ``(B, C, *image_shape) -> (B, *measurement_shape)``, without noise."""
        raise NotImplementedError

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return ``A'(x)^T v``, ``(B, C, *image_shape)``."""
        raise NotImplementedError
