"""A projector in plain torch: any device, float64, exact adjoint.

Joseph's method (IEEE Trans. Med. Imaging 1 (1982) 192): a ray is followed row by row, or column by
column when it is flatter than 45 degrees; on each line the image is interpolated linearly between
the two nearest pixels and multiplied by the length of ray between two lines. The weight of a pixel
is thus ``length * max(0, 1 - |distance / pixel|)``. The forward map gathers two pixels a line for
every ray, the adjoint gathers for every pixel the rays within one pixel of it: the same weights,
no scatter, hence exact and deterministic on every device. Parallel and fan beams differ only in
where the rays run.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv.operators.ct_geometry import SliceGeometry

# interpolated values held at a time: small pieces stay in a CPU's cache, a GPU wants large ones
_CHUNK = 2**19
_GPU_FACTOR = 16


def _precise(device: torch.device) -> torch.dtype:
    # positions of a 2000-pixel image in float32 are wrong by 1e-4 pixel; MPS has no float64
    return torch.float32 if device.type == "mps" else torch.float64


def _chunk(device: torch.device, width: int) -> int:
    """How many rows of ``width`` values to take at a time."""
    size = _CHUNK if device.type == "cpu" else _GPU_FACTOR * _CHUNK
    return max(1, size // max(1, width))


def project(images: Tensor, geometry: SliceGeometry) -> Tensor:
    """Line integrals ``(N, rows, cols) -> (N, angles, detectors)``, image unit times mm."""
    count = images.shape[0]
    g = geometry
    nx, ny, q = (v.ravel() for v in np.broadcast_arrays(*g.rays()))
    height = np.broadcast_to(g.footprints()[1], (len(g.angles), g.num_detectors)).ravel()
    by_rows = np.abs(nx) > np.abs(ny)
    out = torch.zeros((g.num_rays, count), dtype=images.dtype, device=images.device)
    # on the row at y the ray is at x = (q - ny y) / nx
    _follow(out, images.permute(1, 2, 0), g.y(), by_rows, q, nx, ny, height, g.pixel_size, 1.0)
    # on the column at x the ray is at y = (q - nx x) / ny; rows grow downward
    _follow(out, images.permute(2, 1, 0), g.x(), ~by_rows, q, ny, nx, height, g.pixel_size, -1.0)
    return out.T.contiguous().reshape(count, len(g.angles), g.num_detectors)


def _follow(
    out: Tensor,
    images: Tensor,
    lines: Any,  # noqa: ANN401 (a NumPy array, as are the next five)
    selected: Any,  # noqa: ANN401
    q: Any,  # noqa: ANN401
    main: Any,  # noqa: ANN401
    other: Any,  # noqa: ANN401
    height: Any,  # noqa: ANN401
    pixel: float,
    sign: float,
) -> None:
    """Write the integrals of the selected rays, which cross every line of ``(lines, along, N)``."""
    which = np.flatnonzero(selected)
    if not len(which):
        return
    device, dtype = images.device, images.dtype
    precise = _precise(device)
    count, along = images.shape[2], images.shape[1]

    def move(values: Any) -> Tensor:  # noqa: ANN401
        return torch.from_numpy(np.ascontiguousarray(values)).to(device, precise)

    # position of a ray on a line, in pixels: offset + slope * (coordinate of the line)
    offset = move(sign * q[which] / (main[which] * pixel) + (along - 1) / 2)
    slope = move(-sign * other[which] / (main[which] * pixel))
    length = move(height[which]).to(dtype)
    across = move(lines)[:, None]
    # one zero pixel at either end of a line: rays beside the image read zeros
    source = torch.nn.functional.pad(images, (0, 0, 1, 1)).flatten(0, 1).contiguous()
    first = (torch.arange(len(lines), device=device) * (along + 2) + 1)[:, None]
    rays = torch.from_numpy(which).to(device)
    step = _chunk(device, len(lines) * count)
    for start in range(0, len(which), step):
        part = slice(start, start + step)
        position = torch.addcmul(offset[None, part], slope[None, part], across)
        position.clamp_(-1, along)
        lower = position.floor().clamp_(max=along - 1)
        fraction = (position - lower).to(dtype).unsqueeze(-1)
        at = (lower.long() + first).flatten()
        shape = (*position.shape, count)
        left = source.index_select(0, at).reshape(shape)
        right = source.index_select(0, at + 1).reshape(shape)
        total = torch.lerp(left, right, fraction.expand(shape)).sum(0)
        out.index_copy_(0, rays[part], total * length[part, None])


def backproject(sinograms: Tensor, geometry: SliceGeometry) -> Tensor:
    """Exact transpose of :func:`project`, ``(N, angles, detectors) -> (N, rows, cols)``."""
    count, _, width = sinograms.shape
    device, dtype = sinograms.device, sinograms.dtype
    precise = _precise(device)
    g = geometry
    mains, heights = g.footprints()
    widest = mains.max(1)
    per_ray = mains.shape[1] > 1
    table = torch.from_numpy(mains).to(device, precise)
    scaled = sinograms * torch.from_numpy(heights).to(device, precise).to(dtype)
    source = scaled.permute(1, 2, 0).contiguous()
    x = torch.from_numpy(g.x()).to(device, precise)[None, :]
    y = torch.from_numpy(g.y()).to(device, precise)[:, None]
    cos, sin = (v.tolist() for v in g.directions())
    out = torch.zeros((g.rows, g.cols, count), dtype=dtype, device=device)
    step = _chunk(device, g.cols * count)
    for index in range(len(g.angles)):
        main: Any = float(mains[index, 0])
        for start in range(0, g.rows, step):
            centre, spread = g.landing(x, y[start : start + step], cos[index], sin[index])
            reach = spread * float(widest[index])
            first = (centre - reach).ceil_()
            for tap in range(math.floor(2 * float(reach if not per_ray else reach.max())) + 1):
                ray = first + tap
                at = ray.clamp(0, width - 1).long().flatten()
                if per_ray:
                    main = table[index].index_select(0, at).reshape(centre.shape)
                weight = (1 - (ray - centre).abs_() / (spread * main)).clamp_(min=0)
                weight *= (ray >= 0) & (ray < width)
                values = source[index].index_select(0, at).reshape(*centre.shape, count)
                out[start : start + step].addcmul_(values, weight.to(dtype).unsqueeze(-1))
    return out.permute(2, 0, 1).contiguous()
