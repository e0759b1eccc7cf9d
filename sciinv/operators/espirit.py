"""ESPIRiT on one scan: signal-space projector of the calibration data and its eigenvectors."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sciinv.operators.coil_calibration import unit_phase

_POWER_ITERATIONS = 100
# complex numbers of the pixelwise coil-by-coil matrices held at once (32 MiB in single precision)
_CHUNK = 2**22


def espirit(
    block: Tensor, low: Tensor, kernel: int, threshold: float, sets: int = 1, noise: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Eigenvectors and eigenvalues of the pixelwise coil matrices, largest eigenvalue first.

    :param block: complex128 calibration data ``(coils, *widths)``.
    :param low: low-resolution coil images ``(coils, *spatial)``; starts for the single eigenvector,
        and they give shape and precision.
    :param noise: standard deviation per complex sample; singular values that it can give are
        left out, too. Needed for several sets: with kernels of noise all eigenvalues are near 1 and
        the eigenvectors arbitrary (for one set the start of the power iteration chooses well).
    :returns: maps ``(sets, coils, *spatial)`` of unit root sum of squares, phase zero for the
        strongest combination of coils, and real eigenvalues ``(sets, *spatial)`` within 0 to 1.
    """
    coils, spatial = low.shape[0], tuple(low.shape[1:])
    dims = len(spatial)
    # the projector needs double precision (it comes from squares); the rest is as good as the data
    correlations = _projector(block, kernel, threshold, noise).to(low.dtype)
    # exp(+2 pi i d n / N) for the displacements d of the projector and the pixels n of each axis
    phases = []
    for n in spatial:
        shift = torch.arange(1 - kernel, kernel, dtype=torch.float64, device=low.device)
        pixel = torch.arange(n, dtype=torch.float64, device=low.device) - n // 2
        angle = 2 * math.pi * torch.outer(pixel, shift) / n
        phases.append(torch.polar(torch.ones_like(angle), angle).to(low.dtype))
    rows = max(1, _CHUNK // (coils**2 * math.prod(spatial[1:])))
    maps = low.new_empty((sets, coils, *spatial))
    values = low.real.new_empty((sets, *spatial))
    for start in range(0, spatial[0], rows):
        part = slice(start, min(start + rows, spatial[0]))
        matrix = correlations
        for axis in range(dims):
            # contract the leading displacement axis; its pixel axis goes to the end
            phase = phases[axis][part] if axis == 0 else phases[axis]
            matrix = torch.tensordot(matrix, phase, dims=([0], [1]))
        matrix = matrix.movedim((0, 1), (-2, -1)).contiguous()
        matrix = matrix / kernel**dims
        if sets == 1:
            vector, value = _dominant(matrix, low[:, part].movedim(0, -1))
            vector, value = vector[..., None], value[..., None]
        else:
            value, vector = torch.linalg.eigh(matrix)
            value, vector = value[..., -sets:].flip(-1), vector[..., -sets:].flip(-1)
        maps[:, :, part] = vector.movedim((-1, -2), (0, 1))
        values[:, part] = value.movedim(-1, 0)
    # the strongest combination of coils in the calibration data gets phase zero
    combined = strongest_combination(block).conj().to(low.dtype) @ maps.flatten(2)
    maps *= unit_phase(combined.reshape(sets, 1, *spatial).conj())
    return maps, values


def strongest_combination(block: Tensor) -> Tensor:
    """Unit vector ``(coils,)`` along which the data ``(coils, ...)`` have most energy."""
    flat = block.flatten(1)
    _, vectors = torch.linalg.eigh(flat @ flat.mH)
    return vectors[:, -1]


def crop_weight(values: Tensor, crop: float | Literal["auto", "soft"], seen: Tensor) -> Tensor:
    """Weight of the maps, 0 to 1, from the eigenvalues ``(sets, *spatial)`` of one scan.

    The level of ``"auto"`` and ``"soft"`` is the first percentile of the largest eigenvalue among
    the pixels that are seen. A fixed number cannot serve: how far the eigenvalues stay below 1
    outside of the object depends on ``threshold``, kernel, noise and number of coils.

    :param crop: a number: 1 where the eigenvalue is larger. ``"auto"``: 1 where it is larger than
        the level, and for the first set in all pixels that are seen. ``"soft"``: 1 above the level
        ``1 - d``, 0 below ``1 - 2 d`` and a raised cosine between them.
    :param seen: bool ``(*spatial)``, where the coils receive a signal.
    """
    if not isinstance(crop, str):
        return (values > crop).to(values.dtype)
    level = float(np.quantile(values[0][seen].double().cpu().numpy(), 0.01)) if seen.any() else 0.0
    if crop == "soft":
        excess = (1 - values) / max(1 - level, torch.finfo(values.dtype).eps) - 1
        return torch.cos(0.5 * math.pi * excess.clamp(0, 1)).square()
    kept = values > level
    kept[0] |= seen
    return kept.to(values.dtype)


def _projector(block: Tensor, kernel: int, threshold: float, noise: float = 0.0) -> Tensor:
    """Correlations of the signal-space kernels, ``(*displacements, coils, coils)``.

    With the projector ``P`` on the row space of the calibration matrix, entry ``(d, a, b)`` is the
    sum of ``P[(a, m), (b, m')]`` over all kernel positions with ``m - m' = d``.
    """
    coils, dims = block.shape[0], block.ndim - 1
    blocks = block
    for axis in range(dims):
        blocks = blocks.unfold(1 + axis, kernel, 1)
    # (coils, *positions, *kernel) -> (positions, coils * kernel)
    blocks = blocks.movedim(0, dims).reshape(-1, coils * kernel**dims)
    values, vectors = torch.linalg.eigh(blocks.mH @ blocks)
    # eigenvalues of M^H M are the squares of the singular values of M; the edge is the largest one
    # of a matrix of independent noise (Marchenko and Pastur, Math. USSR Sb. 1, 1967)
    edge = noise * (blocks.shape[0] ** 0.5 + blocks.shape[1] ** 0.5)
    # the strongest kernel is signal in any case
    limit = min(max(threshold**2 * float(values[-1]), edge**2), 0.5 * float(values[-1]))
    kept = vectors[:, values > limit]
    # rows of V^H are the kernels, so kernels k[a, m] = conj(V[(a, m), :])
    projector = (kept.conj() @ kept.T).reshape([coils, kernel**dims] * 2)
    offsets = torch.cartesian_prod(*[torch.arange(kernel)] * dims).reshape(-1, dims)
    width = 2 * kernel - 1
    displacement = offsets[:, None] - offsets[None] + (kernel - 1)
    strides = torch.tensor([width ** (dims - 1 - axis) for axis in range(dims)])
    target = (displacement * strides).sum(-1).flatten().to(block.device)
    pairs = projector.permute(1, 3, 0, 2).reshape(-1, coils, coils)
    result = torch.zeros(width**dims, coils, coils, dtype=block.dtype, device=block.device)
    result.index_add_(0, target, pairs)
    return result.reshape(*[width] * dims, coils, coils)


def _dominant(matrix: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Dominant eigenvectors ``(..., coils)`` and eigenvalues of Hermitian matrices, by powers."""
    size = torch.linalg.vector_norm(start, dim=-1, keepdim=True)
    scale = size.mean().clamp_min(torch.finfo(size.dtype).tiny)
    # a little of every coil, so that no start is orthogonal to the answer
    vector = (start / scale + 1e-3)[..., None]
    value = torch.ones_like(size[..., None])
    for _ in range(_POWER_ITERATIONS):
        vector = matrix @ vector
        value = torch.linalg.vector_norm(vector, dim=-2, keepdim=True)
        vector = vector / value.clamp_min(torch.finfo(value.dtype).tiny)
    return vector[..., 0], value[..., 0, 0]
