"""Linear maps as differentiable functions: the adjoint is the derivative rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


class _LinearMap(torch.autograd.Function):
    """A linear map known by its forward and adjoint; either is the other's derivative rule."""

    @staticmethod
    def forward(x: Tensor, forward: Map, adjoint: Map) -> Tensor:
        return forward(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
        _, ctx.forward_map, ctx.adjoint_map = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        return linear_map(grads[0], ctx.adjoint_map, ctx.forward_map), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:  # noqa: ANN401
        return linear_map(tangents[0], ctx.forward_map, ctx.adjoint_map)

    @staticmethod
    def vmap(
        info: Any,  # noqa: ANN401
        in_dims: tuple[int | None, ...],
        x: Tensor,
        forward: Map,
        adjoint: Map,
    ) -> tuple[Tensor, int]:
        # every engine takes a batch: the mapped axis becomes part of it
        moved = x.movedim(in_dims[0] or 0, 0)
        flat = linear_map(moved.flatten(0, 1), forward, adjoint)
        return flat.reshape(*moved.shape[:2], *flat.shape[1:]), 0


def linear_map(x: Tensor, forward: Map, adjoint: Map) -> Tensor:
    """Return ``forward(x)``, differentiated with ``adjoint`` and never by tracing.

    Works under reverse and forward differentiation of any order and ``torch.func.vmap``.

    :param forward: linear map of a batch ``(N, ...)``.
    :param adjoint: its exact transpose.
    """
    return _LinearMap.apply(x, forward, adjoint)
