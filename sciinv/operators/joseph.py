"""A parallel-beam projector in plain torch: any device, float64, exact adjoint.

Joseph's method (IEEE Trans. Med. Imaging 1 (1982) 192): a ray is followed row by row, or column by
column when it is flatter than 45 degrees; on each line the image is interpolated linearly between
the two nearest pixels and multiplied by the length of ray between two lines. The weight of a pixel
is thus ``length * max(0, 1 - |distance / pixel|)``. The forward map gathers two pixels a line for
every ray, the adjoint gathers for every pixel the rays within one pixel of it: the same weights,
no scatter, hence exact and deterministic on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciinv.operators.ct_geometry import ParallelGeometry

_CHUNK = 2**23  # interpolated values held at a time (32 MiB in float32, per temporary)


def _precise(device: torch.device) -> torch.dtype:
    # positions of a 2000-pixel image in float32 are wrong by 1e-4 pixel; MPS has no float64
    return torch.float32 if device.type == "mps" else torch.float64


class _View:
    """The rays of one angle as lines ``position(k, line) = slope * k + offset[line]`` in pixels."""

    def __init__(self, geometry: ParallelGeometry, angle: float) -> None:
        cos, sin = math.cos(angle), math.sin(angle)
        self.by_rows = abs(cos) > abs(sin)
        g = geometry
        first = -(g.num_detectors - 1) / 2 * g.detector_spacing - g.axis_shift
        if self.by_rows:  # on the row at y the ray is at x = (u - shift - y sin) / cos
            lines, along = g.y(), g.cols
            main, other = cos, sin
            sign = 1.0
        else:  # on the column at x the ray is at y = (u - shift - x cos) / sin; rows grow downward
            lines, along = g.x(), g.rows
            main, other = sin, cos
            sign = -1.0
        self.slope = sign * g.detector_spacing / (main * g.pixel_size)
        offset = sign * (first - lines * other) / (main * g.pixel_size) + (along - 1) / 2
        self.offset = torch.from_numpy(offset)
        self.along = along
        self.length = g.pixel_size / abs(main)


def _line_major(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(lines, along, N)`` copies of ``(N, rows, cols)`` for both driving axes."""
    return images.permute(1, 2, 0).contiguous(), images.permute(2, 1, 0).contiguous()


def project(images: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Line integrals ``(N, rows, cols) -> (N, angles, detectors)``, image unit times mm."""
    count = images.shape[0]
    device, dtype = images.device, images.dtype
    precise = _precise(device)
    by_row, by_col = _line_major(images)
    # one zero pixel at either end of a line: rays beside the image read zeros
    by_row = torch.nn.functional.pad(by_row, (0, 0, 1, 1)).flatten(0, 1)
    by_col = torch.nn.functional.pad(by_col, (0, 0, 1, 1)).flatten(0, 1)
    shape = (len(geometry.angles), geometry.num_detectors, count)
    out = torch.zeros(shape, dtype=dtype, device=device)
    rays = torch.arange(geometry.num_detectors, dtype=precise, device=device)
    for index, angle in enumerate(geometry.angles):
        view = _View(geometry, angle)
        source = by_row if view.by_rows else by_col
        offset = view.offset.to(device, precise)
        step = max(1, _CHUNK // max(1, geometry.num_detectors * count))
        width = view.along + 2
        for start in range(0, len(offset), step):
            part = offset[start : start + step]
            position = (view.slope * rays[None, :] + part[:, None]).clamp_(-1, view.along)
            lower = position.floor().clamp_(max=view.along - 1)
            fraction = (position - lower).to(dtype).unsqueeze(-1)
            line = torch.arange(start, start + len(part), device=device)[:, None]
            at = (lower.long() + 1 + line * width).flatten()
            shape = (len(part), geometry.num_detectors, count)
            left = source.index_select(0, at).reshape(shape)
            right = source.index_select(0, at + 1).reshape(shape)
            out[index] += torch.lerp(left, right, fraction.expand(shape)).sum(0)
        out[index] *= view.length
    return out.permute(2, 0, 1).contiguous()


def backproject(sinograms: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Exact transpose of :func:`project`, ``(N, angles, detectors) -> (N, rows, cols)``."""
    count, _, width = sinograms.shape
    device, dtype = sinograms.device, sinograms.dtype
    precise = _precise(device)
    g = geometry
    source = sinograms.permute(1, 2, 0).contiguous()
    x = torch.from_numpy(g.x()).to(device, precise)
    y = torch.from_numpy(g.y()).to(device, precise)
    cos, sin = g.directions()
    halves, heights = g.footprints()
    out = torch.zeros((g.rows, g.cols, count), dtype=dtype, device=device)
    step = max(1, _CHUNK // max(1, g.cols * count))
    for index in range(len(g.angles)):
        half, height = float(halves[index]), float(heights[index])
        for start in range(0, g.rows, step):
            part = y[start : start + step]
            u = cos[index] * x[None, :] + sin[index] * part[:, None] + g.axis_shift
            centre = u / g.detector_spacing + (width - 1) / 2
            first = (centre - half).ceil_()
            for tap in range(math.floor(2 * half) + 1):
                ray = first + tap
                weight = (1 - (ray - centre).abs_() / half).clamp_(min=0) * height
                weight *= (ray >= 0) & (ray < width)
                at = ray.clamp_(0, width - 1).long().flatten()
                values = source[index].index_select(0, at).reshape(*centre.shape, count)
                out[start : start + step].addcmul_(values, weight.to(dtype).unsqueeze(-1))
    return out.permute(2, 0, 1).contiguous()
