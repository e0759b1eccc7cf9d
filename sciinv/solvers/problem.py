"""The inverse problem of a block of rows (one row per scan and sample), and the prior on it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cached_property

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.linalg import CGInfo, conjugate_gradient, quick_dot, row_dot, row_scale
from sciinv.operators.likelihoods import GaussianLikelihood, Likelihood
from sciinv.random import RowNoise

Prior = Callable[..., Tensor]


def _measurement_mask(physics: Physics, y: Tensor) -> Tensor | None:
    """Where measurements exist; noise drawn elsewhere would only waste Krylov vectors."""
    mask = getattr(physics, "measurement_mask", None)
    if mask is None:
        # deepinv's masked operators (MRI, inpainting) keep zero-filled measurements
        mask = getattr(physics, "mask", None)
    if not isinstance(mask, Tensor):
        return None
    try:
        if torch.broadcast_shapes(mask.shape, y.shape) != y.shape:
            return None
    except RuntimeError:
        return None
    return mask != 0


def select_scans(physics: Physics, index: Tensor, batch: int) -> Physics:
    """Return ``physics`` for the scans ``index`` of a batch of ``batch``.

    Our operators know how (``rows``). A foreign operator is copied with every tensor whose first
    axis is the batch cut to the scans asked for; one that is the same for all scans is used as is.
    """
    if hasattr(physics, "rows"):
        rows: Physics = physics.rows(index) if getattr(physics, "batch", 1) > 1 else physics
        return rows
    if batch == 1:
        return physics
    names = [n for n, t in physics.named_buffers() if t.ndim > 1 and t.shape[0] == batch]
    if not names:
        return physics
    new = copy.deepcopy(physics)
    for name in names:
        owner: torch.nn.Module = new
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, getattr(owner, last).index_select(0, index))
    return new


class Problem:
    """Measurement, operator and noise of a block of rows.

    Everything that a solver asks for repeatedly lives in image space: ``A^T y`` is computed once,
    ``normal`` is ``A^T A``. All norms are per row and accumulated in float64.

    :param y: measurements of the scans, ``(B, ...)``.
    :param physics: operator on the batch of scans.
    :param scan_of_row: ``(R,)`` LongTensor, the scan of each row.
    :param sigma: noise standard deviation per real component (positive) of white Gaussian noise.
    :param likelihood: of noise that is not; ``sigma`` is then in its units and 1.
    """

    def __init__(
        self,
        y: Tensor,
        physics: Physics,
        scan_of_row: Tensor,
        sigma: float,
        likelihood: Likelihood | None = None,
    ) -> None:
        self.scan_of_row = scan_of_row.to(y.device)
        self._scans: list[int] = scan_of_row.tolist()
        self.sigma = sigma
        self.white = likelihood is None
        batch = y.shape[0]
        self.likelihood = (
            GaussianLikelihood(sigma)
            if likelihood is None
            else likelihood.rows(self.scan_of_row, batch, y.ndim)
        )
        self.physics = select_scans(physics, scan_of_row, y.shape[0])
        mask = _measurement_mask(physics, y)
        self._y = y if mask is None else torch.where(mask, y, torch.zeros_like(y))
        self._scan_physics = physics
        self._mask = mask
        self.rows = int(scan_of_row.shape[0])
        self.solves: list[CGInfo] = []
        # real measured components per row
        self.count = (
            torch.full((self.rows,), math.prod(y.shape[1:]), dtype=torch.float64, device=y.device)
            if mask is None
            else mask.expand(y.shape).flatten(1).sum(1).double()[self.scan_of_row]
        )

    @property
    def linear_white(self) -> bool:
        """Whether the operator is linear and the noise white and Gaussian."""
        return self.white and isinstance(self.physics, LinearPhysics)

    @property
    def quadratic(self) -> bool:
        """Whether the log likelihood is quadratic in the image: linear, Gaussian of any levels."""
        gaussian = Capability.GAUSSIAN in self.likelihood.capabilities
        return gaussian and isinstance(self.physics, LinearPhysics)

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        """Shape of one row's measurement."""
        return tuple(self._y.shape[1:])

    @cached_property
    def y(self) -> Tensor:
        """Measurement of every row, ``(R, ...)``."""
        return self._y.index_select(0, self.scan_of_row)

    @cached_property
    def aty(self) -> Tensor:
        """``A^T y`` of every row, ``(R, C, ...)``, computed once per scan."""
        physics = self._scan_physics
        assert isinstance(physics, LinearPhysics)  # noqa: S101  checked by the compatibility test
        return physics.A_adjoint(self._y).contiguous().index_select(0, self.scan_of_row)

    @cached_property
    def aty_norm(self) -> Tensor:
        """``|A^T y|`` of every row, float64."""
        return row_dot(self.aty, self.aty).sqrt()

    @cached_property
    def yy(self) -> Tensor:
        """``|y|^2`` of every row, float64."""
        return row_dot(self._y, self._y).index_select(0, self.scan_of_row)

    @cached_property
    def norm(self) -> float:
        """Spectral norm of the operator over *all* scans, to about 10 %: a few power iterations.

        It does not depend on which rows the block holds.
        """
        physics = self._scan_physics
        x = physics.A_adjoint(self._y)
        if not bool(row_dot(x, x).amax() > 0):
            x = torch.ones_like(x)
        value = torch.ones((), dtype=torch.float64)
        for _ in range(6):
            length = row_dot(x, x).sqrt().clamp_min(1e-300)
            x = physics.A_adjoint_A(x / row_scale(length, x))
            value = row_dot(x, x).amax().sqrt()
        return float(value.sqrt().clamp_min(1e-300))

    def A(self, x: Tensor) -> Tensor:
        """Apply the operator to every row."""
        return self.physics.A(x)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """``A'(x)^T v`` of every row."""
        return self.physics.A_vjp(x, v)

    def A_adjoint(self, v: Tensor) -> Tensor:
        """Apply the adjoint to every row."""
        return self.physics.A_adjoint(v).contiguous()

    def normal(self, x: Tensor) -> Tensor:
        """``A^T A x`` of every row."""
        return self.physics.A_adjoint_A(x).contiguous()

    def solve(
        self,
        tau: float | Tensor,
        b: Tensor,
        start: Tensor | None = None,
        *,
        max_iter: int,
        tol: float | Tensor = 1e-4,
    ) -> Tensor:
        """Solve ``(A^T A + tau I) x = b`` by conjugate gradients, each row on its own.

        How it ended is kept in :attr:`solves`.

        :param tau: positive; one number or one per row ``(R,)``.
        :param start: first iterate, zero by default.
        :param tol: of the residual, relative to ``b``; one number or one per row ``(R,)``.
        """
        if isinstance(tau, Tensor):
            weight = row_scale(tau, b)

            def system(v: Tensor) -> Tensor:
                return torch.addcmul(self.normal(v), weight, v)
        else:

            def system(v: Tensor) -> Tensor:
                return torch.add(self.normal(v), v, alpha=tau) if tau else self.normal(v)

        x, info = conjugate_gradient(
            system,
            b,
            start,
            max_iter=max_iter,
            tol=tol,
        )
        self.solves.append(info)
        return x

    def measurement_noise(self, noise: RowNoise, like: Tensor) -> Tensor:
        """Draw standard normal noise of the measured components, ``(R, ...)``, zero elsewhere.

        Only those are drawn: undersampled k-space has several times as many components, and normal
        numbers are the dearest part of a step beside the network and the operator.

        :param like: dtype and device.
        """
        shape = self.measurement_shape
        if self._mask is None:
            return noise.normal(shape, dtype=like.dtype, device=like.device)
        out = torch.zeros((self.rows, math.prod(shape)), dtype=like.dtype, device=like.device)
        # as many for every scan, so that a row's draws do not depend on which others there are
        most = max(len(places) for places in self._measured)
        drawn = noise.normal((most,), dtype=like.dtype, device=like.device)
        if len(self._measured) == 1:
            out.index_copy_(1, self._measured[0], drawn)
        else:
            for row, scan in enumerate(self._scans):
                places = self._measured[scan]
                out[row].index_copy_(0, places, drawn[row, : len(places)])
        return out.reshape(self.rows, *shape)

    @cached_property
    def _measured(self) -> list[Tensor]:
        """Flat indices of the measured components: one list for all scans, or one a scan."""
        assert self._mask is not None  # noqa: S101  asked for with a mask only
        shape = (self._mask.shape[0], *self.measurement_shape)
        return [row.flatten().nonzero().squeeze(1) for row in self._mask.expand(shape)]

    def masked(self, v: Tensor) -> Tensor:
        """Zero the components of ``v`` that were not measured."""
        if self._mask is None:
            return v
        mask = self._mask
        if mask.shape[0] > 1:
            mask = mask.index_select(0, self.scan_of_row)
        return torch.where(mask, v, 0.0)

    def residual(self, ax: Tensor) -> Tensor:
        """``y - A x`` for given ``A x``, zero where nothing was measured."""
        # ours map to zero there and say so; others may not
        own = getattr(self.physics, "measurement_mask", None) is not None
        return self.y - ax if own else self.masked(self.y - ax)

    def residual_sq(self, x: Tensor, normal: Tensor | None = None) -> Tensor:
        """``|y - A x|^2`` per row for a linear operator, from image-sized vectors only.

        :param normal: ``A^T A x``, if it is at hand.
        """
        nx = self.normal(x) if normal is None else normal
        value = self.yy - 2 * row_dot(x, self.aty) + row_dot(x, nx)
        return value.clamp_min(0)

    def score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of ``log p(y | A x)`` and the squared residual of every row.

        The residual is in units of the noise: about :attr:`count` where ``x`` is the truth and its
        noise is Gaussian.

        :returns: ``(R, C, ...)`` and ``(R,)`` float64.
        """
        ax = self.A(x)
        if self.white:
            # one pass over the measurements, which may be many times the image
            residual = self.residual(ax)
            variance = self.sigma**2
            return self.vjp(x, residual) / variance, quick_dot(residual, residual) / variance
        residual = self.masked(self.likelihood.residual(self.y, ax))
        gradient = self.vjp(x, self.masked(self.likelihood.gradient(self.y, ax)))
        return gradient, row_dot(residual, residual)

    def misfit(self, x: Tensor) -> Tensor:
        """Chi-squared of every row over its expectation; 1 fits to the noise."""
        if self.linear_white:
            return self.residual_sq(x) / (self.count * self.sigma**2)
        ax = self.A(x)
        residual = self.masked(self.likelihood.residual(self.y, ax)).double().square()
        expected = self.masked(self.likelihood.expected_square(ax)).double()
        return residual.flatten(1).sum(1) / expected.flatten(1).sum(1).clamp_min(1e-300)


class Linearised:
    """The denoiser at one state: ``D`` and the product with its Jacobian.

    ``jacobian(v)`` is a vector-Jacobian product ``J^T v``: the exact posterior covariance
    ``s^2 J`` is symmetric, and methods that cannot trust a learned ``J`` to be symmetrise it.
    """

    def __init__(self, prior: Prior, x: Tensor, sigma: float) -> None:
        with torch.enable_grad():
            self._x = x.detach().requires_grad_(True)
            self._d = prior(self._x, sigma)
        self.d = self._d.detach()
        self.vjps = 0

    def jacobian(self, v: Tensor) -> Tensor:
        """``J^T v`` for every row; the graph is kept for the next call."""
        self.vjps += 1
        if not self._d.requires_grad:
            return torch.zeros_like(v)
        (g,) = torch.autograd.grad(self._d, self._x, v, retain_graph=True)
        return g.contiguous()
