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

_BLOCK = 2**17  # weights computed at a time: temporaries that stay in a cache


def ray_arrays(
    geometry: SliceGeometry, dtype: type[np.floating[Any]]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Build A (rays x pixels) as CSR arrays ``indptr, indices, values``, in the order of a ray.

    The weights are those of Joseph's method, computed in float64
    (:meth:`~sciinv.operators.ct_geometry.SliceGeometry.footprints`): a ray lies between two pixels
    on every row, or on every column where it is flatter than 45 degrees.
    """
    g = geometry
    index = index_type(g)
    nx, ny, q = (v.reshape(-1, 1) for v in np.broadcast_arrays(*g.rays()))
    by_rows = np.abs(nx) > np.abs(ny)
    main, other = np.where(by_rows, nx, ny), np.where(by_rows, ny, nx)
    lines, along = (np.where(by_rows, *n) for n in ((g.rows, g.cols), (g.cols, g.rows)))
    # position across line l = slope l + offset, in pixels: rows grow against y, columns along x
    slope = other / main
    offset = np.where(by_rows, 1, -1) * q / (main * g.pixel_size)
    offset += (along - 1) / 2 - slope * ((lines - 1) / 2)
    height = g.pixel_size * np.hypot(nx, ny) / np.abs(main)
    across = np.where(by_rows, 1, g.cols).astype(index)  # steps through the image
    ahead = np.where(by_rows, g.cols, 1).astype(index)
    along, lines = along.astype(index), lines.astype(index)
    line = np.arange(max(g.rows, g.cols), dtype=index)[None, :]
    step = max(1, _BLOCK // line.size)
    counts, indices, values = [], [], []
    for start in range(0, g.num_rays, step):
        part = slice(start, start + step)
        position = np.clip(slope[part] * line + offset[part], -2, line.size + 1)
        lower = np.floor(position)
        position -= lower
        lower = lower.astype(index)
        shape = (*lower.shape, 2)
        used = np.empty(shape, dtype=bool)
        np.logical_and(lower >= 0, lower < along[part], out=used[..., 0])
        np.logical_and(lower >= -1, lower < along[part] - 1, out=used[..., 1])
        used[..., 1] &= position > 0
        if g.rows != g.cols:
            used &= (line < lines[part])[..., None]
        pixel = np.empty(shape, dtype=index)
        np.multiply(lower, across[part], out=pixel[..., 0])
        pixel[..., 0] += line * ahead[part]
        np.add(pixel[..., 0], across[part], out=pixel[..., 1])
        weight = np.empty(shape, dtype=dtype)
        position *= height[part]
        weight[..., 0] = height[part] - position
        weight[..., 1] = position
        counts.append(np.count_nonzero(used, axis=(1, 2)))
        indices.append(pixel[used])
        values.append(weight[used])
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
        indptr, indices, values = ray_arrays(
            geometry, np.float64 if dtype == torch.float64 else np.float32
        )
        shape = (geometry.num_rays, geometry.num_pixels)
        transpose = sp.csr_matrix((values, indices, indptr), shape=shape).T.tocsr()
        del indptr, indices, values
        self.transpose = _tensor(transpose, device)
        # transposing sorts the indices, which torch's layout asks for
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
