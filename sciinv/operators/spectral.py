"""Singular value decompositions: declared by the operator, or dense for a small one.

``A = U diag(S) V^T``. Methods that treat every singular direction on its own only ask for ``S``,
``V^T x``, ``V c`` and the data ``U^T y``, whatever the representation: deepinv's decompositions may
be economic (``Decolorize``), redundant (the half spectrum of ``BlurFFT``) or carry the sign of
``A`` in the singular values.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv.capabilities import Capability, operator_capabilities
from sciinv.errors import NumericalError

# largest number of image and of measurement components whose dense SVD is taken without being
# asked for: 32 MB a matrix and some seconds, once
DENSE_LIMIT = 2048
_CHUNK = 256


@dataclass(frozen=True)
class Spectrum:
    """Singular directions of an operator for the rows of a block.

    :param values: singular values, broadcastable to the coefficients ``(R, ...)``; those below the
        rounding of the decomposition are zero.
    :param inverse: ``1 / S``, zero where ``S`` is zero.
    :param data: ``U^T y / S`` of every row, zero where ``S`` is zero.
    :param forward: ``x -> V^T x``, images to coefficients.
    :param backward: ``c -> V c``; ``V V^T`` is a projector if the decomposition is economic.
    """

    values: Tensor
    inverse: Tensor
    data: Tensor
    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor], Tensor]


def spectrum(physics: Physics, y: Tensor) -> Spectrum:
    """Return the singular directions that an operator declares, and the data along them.

    :param physics: operator with the ``svd`` capability, for the rows of ``y``.
    :param y: measurements ``(R, ...)``.
    """
    values = torch.as_tensor(physics.mask, device=y.device)
    values = values if values.is_complex() else values.to(y.dtype)
    return _cut(
        values.abs(),
        # a decomposition may keep the sign of A in the singular values
        physics.U_adjoint(y) * values.sgn().conj(),
        physics.V_adjoint,
        physics.V,
        1e-6,
    )


def dense_spectrum(
    physics: Physics, parts: Mapping[int, Physics], index: Tensor, y: Tensor
) -> Spectrum:
    """Return the singular directions of a small linear operator by a dense decomposition.

    The matrix is made by applying the operator to unit images, in the precision of the data;
    decompositions are kept as long as ``physics`` lives and does not change.

    :param physics: the operator for all scans.
    :param parts: scan to its operator; one for all if its parameters are shared.
    :param index: ``(R,)`` LongTensor, the scan of each row; not read if there is one part.
    :param y: measurements ``(R, ...)``.
    """
    factors = [_dense(physics, scan, part, y) for scan, part in parts.items()]
    every = torch.arange(y.shape[0], device=y.device)
    groups = [every if len(parts) == 1 else every[index == scan] for scan in parts]
    image, rank = factors[0].image, (len(factors[0].values),)

    def apply(x: Tensor, matrices: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        flat = x.flatten(1)
        out = flat.new_zeros((len(flat), math.prod(shape)))
        for rows, matrix in zip(groups, matrices, strict=True):
            out[rows] = flat[rows] @ matrix
        return out.reshape(len(flat), *shape)

    right = [f.right for f in factors]
    values = y.new_zeros((y.shape[0], *rank))
    for rows, f in zip(groups, factors, strict=True):
        values[rows] = f.values
    return _cut(
        values,
        apply(y, [f.left for f in factors], rank),
        lambda x: apply(x, right, rank),
        lambda c: apply(c, [r.T for r in right], image),
        1e-6 if y.dtype == torch.float64 else 1e-5,
    )


def has_spectrum(physics: Physics) -> bool:
    """Whether a decomposition is at hand: declared, or dense and at most ``DENSE_LIMIT`` a side."""
    found = operator_capabilities(physics)
    if Capability.SVD in found:
        return True
    shape = getattr(physics, "img_size", None)
    if not {Capability.LINEAR, Capability.ADJOINT} <= found or shape is None:
        return False
    if math.prod(shape) > DENSE_LIMIT:
        return False
    measured = getattr(physics, "measurement_shape", None)
    if measured is None:
        like = next((b for b in physics.buffers() if b.is_floating_point()), torch.zeros(()))
        try:
            with torch.no_grad():
                measured = physics.A(like.new_zeros((1, *shape))).shape[1:]
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
            # a foreign operator whose img_size is not the shape of its images
            return False
    return math.prod(measured) <= DENSE_LIMIT


def _cut(
    values: Tensor,
    data: Tensor,
    forward: Callable[[Tensor], Tensor],
    backward: Callable[[Tensor], Tensor],
    tol: float,
) -> Spectrum:
    """Zero the singular values that are rounding, and divide the data by the others."""
    values = torch.where(values > tol * values.amax(), values, torch.zeros_like(values))
    inverse = torch.where(values > 0, 1 / values, torch.zeros_like(values))
    return Spectrum(values, inverse, data * inverse, forward, backward)


# -- dense -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Dense:
    """``A = left diag(values) right^T``, thin factors; coefficients are ``x @ right``."""

    left: Tensor
    values: Tensor
    right: Tensor
    image: tuple[int, ...]


# decompositions live as long as their operator; a probe tells whether it has changed since
_CACHE: weakref.WeakKeyDictionary[Physics, dict[tuple[object, ...], _Dense]] = (
    weakref.WeakKeyDictionary()
)


def _dense(owner: Physics, scan: int, one: Physics, y: Tensor) -> _Dense:
    """Decompose the operator ``one`` of one scan of ``owner``, or find that in the cache."""
    kept = _CACHE.setdefault(owner, {})
    key = (scan, y.dtype, str(y.device))
    shape = tuple(owner.img_size)
    size = math.prod(shape)
    with torch.no_grad():
        if key in kept:
            found = kept[key]
            probe = torch.linspace(-1, 1, size, dtype=y.dtype, device=y.device)
            ax = one.A(probe.reshape(1, *shape)).flatten()
            error = (found.left @ (found.values * (probe @ found.right)) - ax).norm()
            if bool(error <= 1e3 * torch.finfo(y.dtype).eps * found.values.amax() * probe.norm()):
                return found
        eye = torch.eye(size, dtype=y.dtype, device=y.device)
        columns = [one.A(part.reshape(-1, *shape)).flatten(1) for part in eye.split(_CHUNK)]
        matrix = torch.cat(columns).T.double()
        if not bool(torch.isfinite(matrix).all()):
            raise NumericalError(
                f"{type(owner).__name__}: A x is not finite for unit images; check the operator"
            )
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    found = _Dense(left.to(y.dtype), values.to(y.dtype), right.T.to(y.dtype).contiguous(), shape)
    kept[key] = found
    return found


__all__ = ["DENSE_LIMIT", "Spectrum", "dense_spectrum", "has_spectrum", "spectrum"]
