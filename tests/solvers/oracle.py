"""A denoiser that knows the truth, and noise for thousands of rows at once."""

from __future__ import annotations

import torch
from deepinv.physics import GaussianNoise, LinearPhysics

from sciinv.random import RowNoise
from sciinv.solvers.problem import Problem


class ManyRows(RowNoise):
    """One generator for all rows: tests of a law need no reproducible rows."""

    def __init__(self, rows, seed=0):
        super().__init__([torch.Generator()] * rows)
        self._generator = torch.Generator().manual_seed(seed)
        self.drawn = []

    def normal(self, shape, *, dtype, device):
        z = torch.randn((len(self), *shape), generator=self._generator, dtype=dtype)
        self.drawn.append(z)
        return z


class Silent(RowNoise):
    """No noise."""

    def __init__(self, rows):
        super().__init__([torch.Generator()] * rows)

    def normal(self, shape, *, dtype, device):
        return torch.zeros((len(self), *shape), dtype=dtype, device=device)


def matrix_physics(matrix, shape, sigma=None):
    """Operator on images of that shape given by its matrix, of which it declares nothing."""

    def apply(x):
        return x.flatten(1) @ matrix.to(x).T

    def adjoint(v):
        return (v @ matrix.to(v)).reshape(-1, *shape)

    physics = LinearPhysics(A=apply, A_adjoint=adjoint, img_size=shape)
    if sigma is not None:
        physics.noise_model = GaussianNoise(sigma)
    return physics


def with_singular_values(values, rows, columns, seed=1):
    """Random matrix with the given singular values, the others zero."""
    g = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(rows, rows, generator=g, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(columns, columns, generator=g, dtype=torch.float64))
    s = torch.zeros(rows, columns, dtype=torch.float64)
    for i, value in enumerate(values):
        s[i, i] = value
    return u @ s @ v.T


SINGULAR = (1.0, 0.5, 0.1, 0.02)


def oracle_case(rows, sigma, shape=(1, 2, 3)):
    """Many measurements of one image with noise of their own, and the denoiser that knows it."""
    matrix = with_singular_values(SINGULAR, 5, 6)
    physics = matrix_physics(matrix, shape, sigma)
    g = torch.Generator().manual_seed(2)
    truth = torch.randn((1, *shape), generator=g, dtype=torch.float64)
    clean = physics.A(truth)
    y = clean + sigma * torch.randn((rows, 5), generator=g, dtype=torch.float64)
    problem = Problem(y, physics, torch.arange(rows), sigma)
    return problem, truth, lambda x, s: truth.expand_as(x)


def check_white(x, mean, level, k=5.0):
    """Rows are ``mean`` plus white noise of that level, within k standard errors."""
    rows = len(x)
    z = (x - mean).flatten(1) / level
    assert float(z.mean(0).abs().max()) < k / rows**0.5
    covariance = z.T @ z / rows
    error = (covariance - torch.eye(z.shape[1], dtype=z.dtype)).abs()
    # variance of a product of normal numbers: 1, of a square: 2
    assert float(error.max()) < k * (2 / rows) ** 0.5
