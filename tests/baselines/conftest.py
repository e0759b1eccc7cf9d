"""A dense operator: every method can be compared with plain linear algebra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sciinv.operators.base import LinearOperator


class DenseOperator(LinearOperator):
    """``y = M x`` with a matrix shared by the batch ``(1, m, n)`` or one for each row."""

    batch_buffers = ("matrix",)

    def __init__(self, matrix: Tensor, image_shape: tuple[int, ...], channels: int = 1) -> None:
        super().__init__(image_shape, channels=channels, measurement_shape=matrix.shape[1:2])
        self.register_buffer("matrix", matrix)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        self.check_image(x)
        return (self.matrix @ x.flatten(1)[..., None])[..., 0]

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        self.check_measurement(y)
        x = (self.matrix.mT @ y[..., None])[..., 0]
        return x.reshape(-1, self.channels, *self.image_shape)


@pytest.fixture
def dense() -> type[DenseOperator]:
    return DenseOperator


@pytest.fixture
def random_problem() -> Callable[..., tuple[DenseOperator, Tensor]]:
    def make(
        image_shape: tuple[int, ...],
        *,
        channels: int = 1,
        rows: int = 1,
        matrices: int = 1,
        fraction: float = 0.6,
        seed: int = 0,
    ) -> tuple[DenseOperator, Tensor]:
        rng = np.random.default_rng(seed)
        n = channels * int(np.prod(image_shape))
        m = int(fraction * n)
        matrix = torch.as_tensor(rng.normal(size=(matrices, m, n)) / np.sqrt(n))
        operator = DenseOperator(matrix, image_shape, channels)
        # piecewise constant truth, so that the penalties have something to find
        x = np.zeros((rows, channels, *image_shape))
        for row in range(rows):
            for channel in range(channels):
                half = tuple(slice(k // 4, k // 4 + k // 2) for k in image_shape)
                x[(row, channel, *half)] = 1 + rng.normal()
        y = operator.A(torch.as_tensor(x)) + 0.05 * torch.as_tensor(rng.normal(size=(rows, m)))
        return operator, y

    return make
