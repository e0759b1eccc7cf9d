"""Projectors of a slice as cached sparse matrices, applied to whole stacks at once."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sciinv.operators.ct_geometry import SliceGeometry

_BLOCK = 2**18  # weights computed at a time: temporaries that stay in a cache


def transpose_arrays(
    geometry: SliceGeometry, dtype: type[np.floating[Any]]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Build A^T (pixels x rays) as CSR arrays ``indptr, indices, values``, indices sorted.

    The weights are those of Joseph's method, computed in float64
    (:meth:`~sciinv.operators.ct_geometry.SliceGeometry.footprints`).
    """
    g = geometry
    cos, sin = g.directions()
    main, height = g.footprints()
    per_ray = main.shape[1] > 1
    widest = main.max(1)
    index = index_type(g)
    base = np.arange(len(cos), dtype=index)[None, :, None] * index(g.num_detectors)
    x, y = g.x(), g.y()
    pixels = np.stack([np.tile(x, g.rows), np.repeat(y, g.cols)])
    _, spread = g.landing(x[None, :], y[:, None], cos[0], sin[0])
    near = int(np.floor(2 * np.max(spread) * widest.max())) + 1
    step = max(1, _BLOCK // (len(cos) * near))
    counts, indices, values = [], [], []
    for start in range(0, g.num_pixels, step):
        px, py = pixels[:, start : start + step, None]
        centre, spread = g.landing(px, py, cos, sin)
        reach = spread * widest
        first = np.ceil(centre - reach)
        taps = np.arange(int(np.floor(2 * reach.max())) + 1)
        ray = first[..., None] + taps
        used = (ray >= 0) & (ray < g.num_detectors)
        used &= ray < (centre + reach)[..., None]
        distance = np.abs(ray - centre[..., None])
        if per_ray:
            # main and height differ from ray to ray: look them up for those that are near
            distance = distance[used] / np.broadcast_to(spread[..., None], used.shape)[used]
            rays = (ray.astype(index) + base)[used]
            weight = height.ravel()[rays] * (1 - distance / main.ravel()[rays])
            positive = weight > 0
            used[used] = positive
            rays, weight = rays[positive], weight[positive]
        else:
            half = np.broadcast_to(reach, centre.shape)
            weight = height - distance * (height[:, 0] / half)[..., None]
            used &= weight > 0
            rays, weight = (ray.astype(index) + base)[used], weight[used]
        counts.append(used.reshape(len(px), -1).sum(1))
        indices.append(rays)
        values.append(weight.astype(dtype))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(index)
    return indptr, np.concatenate(indices), np.concatenate(values)


def index_type(geometry: SliceGeometry) -> type[np.signedinteger[Any]]:
    """int32 where it can count the weights: MKL then takes two thirds of the time of int64."""
    largest = max(geometry.nonzeros(), geometry.num_rays, geometry.num_pixels)
    return np.int32 if largest < 2**31 - 1 else np.int64


def matrix_bytes(geometry: SliceGeometry, dtype: torch.dtype) -> int:
    """Estimate the memory of A and A^T together before building them."""
    index = np.dtype(index_type(geometry)).itemsize
    value = 8 if dtype == torch.float64 else 4
    pointers = (geometry.num_rays + geometry.num_pixels + 2) * index
    return 2 * geometry.nonzeros() * (value + index) + pointers


class MatrixEngine:
    """A and A^T as torch CSR matrices; they never change, so copies share them.

    For parallel beams the weights are ASTRA's ``linear`` projector without its float32 rounding:
    handing out its own matrix takes ASTRA four times as long as computing it here takes.
    """

    name = "csr"

    def __init__(self, geometry: SliceGeometry, dtype: torch.dtype, device: torch.device) -> None:
        """Build both matrices on the CPU and move them to the device."""
        import scipy.sparse as sp

        self.geometry = geometry
        indptr, indices, values = transpose_arrays(
            geometry, np.float64 if dtype == torch.float64 else np.float32
        )
        shape = (geometry.num_pixels, geometry.num_rays)
        transpose = sp.csr_matrix((values, indices, indptr), shape=shape)
        self.transpose = _tensor(transpose, device)
        self.matrix = _tensor(transpose.T.tocsr(), device)

    @property
    def nbytes(self) -> int:
        """Memory of both matrices in bytes."""
        parts = [
            part
            for m in (self.matrix, self.transpose)
            for part in (m.crow_indices(), m.col_indices(), m.values())
        ]
        return sum(part.numel() * part.element_size() for part in parts)

    def project(self, images: Tensor) -> Tensor:
        """Map ``(N, rows, cols)`` to ``(N, angles, detectors)``."""
        shape = (len(self.geometry.angles), self.geometry.num_detectors)
        return _product(self.matrix, images, shape)

    def backproject(self, sinograms: Tensor) -> Tensor:
        """Map ``(N, angles, detectors)`` to ``(N, rows, cols)``."""
        return _product(self.transpose, sinograms, (self.geometry.rows, self.geometry.cols))

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # another process builds its own: faster than sending gigabytes
        matrix = self.matrix
        return matrix_engine, (self.geometry, matrix.dtype, matrix.device, self.nbytes)


def _tensor(matrix: Any, device: torch.device) -> Tensor:  # noqa: ANN401
    with warnings.catch_warnings():
        # torch calls its compressed sparse layout a beta feature, once per process
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr),
            torch.from_numpy(matrix.indices),
            torch.from_numpy(matrix.data),
            size=tuple(matrix.shape),
            device=device,
            check_invariants=False,  # built sorted and distinct; checking doubles the time
        )


def _product(matrix: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    count = values.shape[0]
    flat = values.detach().reshape(count, -1).to(matrix.dtype)
    with torch.autocast(values.device.type, enabled=False):
        if count == 1:  # the matrix-vector kernel takes half the time of a one-column product
            result = (matrix @ flat[0]).unsqueeze(0)
        else:
            result = (matrix @ flat.T).T.contiguous()
    return result.reshape(count, *shape).to(values.dtype)


_cache: OrderedDict[tuple[SliceGeometry, torch.dtype, str], MatrixEngine] = OrderedDict()
_lock = threading.Lock()


def matrix_engine(
    geometry: SliceGeometry, dtype: torch.dtype, device: torch.device, budget: int
) -> MatrixEngine:
    """Return the matrices of a geometry, built once and kept while the total fits the budget.

    The least recently used are dropped first; operators that still use them keep them alive.
    """
    key = (geometry, dtype, str(device))
    with _lock:
        engine = _cache.get(key)
        if engine is None:
            engine = MatrixEngine(geometry, dtype, device)
            _cache[key] = engine
        _cache.move_to_end(key)
        while len(_cache) > 1 and sum(e.nbytes for e in _cache.values()) > budget:
            _cache.popitem(last=False)
    return engine


def clear_matrices() -> None:
    """Forget all cached matrices."""
    with _lock:
        _cache.clear()
