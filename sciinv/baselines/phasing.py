"""After phase retrieval: put the object in the middle, and pose it again on a smaller grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciinv.channels import to_channels, to_complex
from sciinv.errors import DataError, GeometryError


def recentre(x: Tensor) -> Tensor:
    """Move each object to the middle of the grid and make its mean real and positive.

    The centre of mass of the squared modulus, taken as a circular mean along each axis so that an
    object may wrap around the edge, goes to index ``n // 2`` by a whole-pixel circular shift. Both
    are choices among images with the same pattern; a real object only changes its sign.

    :param x: images ``(B, C, *image_shape)``; an image of zeros stays.
    :return: the same shape.
    """
    axes = tuple(range(2, x.ndim))
    energy = x.double().square().sum(1, keepdim=True)
    rows = []
    for row, weight in zip(x, energy[:, 0], strict=True):
        move = []
        for axis, n in enumerate(weight.shape):
            line = weight.sum([a for a in range(weight.ndim) if a != axis])
            angle = 2 * math.pi * torch.arange(n, dtype=line.dtype, device=line.device) / n
            mean = (line * torch.polar(torch.ones_like(angle), angle)).sum()
            move.append(n // 2 - round(float(mean.angle()) * n / (2 * math.pi)))
        rows.append(row.roll(move, [a - 1 for a in axes]))
    x = torch.stack(rows)
    if x.shape[1] == 1:
        return torch.where(x.flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1)) < 0, -x, x)
    z = to_complex(x)
    mean = z.flatten(1).sum(1).reshape(-1, *[1] * len(axes))
    return to_channels(torch.where(mean == 0, z, z * mean.sgn().conj()))


def object_box(
    x: Tensor,
    support: Tensor | None = None,
    *,
    margin: int = 2,
    threshold: float = 0.1,
    multiple: int = 1,
) -> tuple[int, ...]:
    """Return the smallest centred image shape that holds the object and a margin.

    The box is centred on index ``n // 2``, where operators put the image into the pattern, so call
    :func:`recentre` first. Each size has the parity of the present one unless ``multiple`` is
    above 1 (networks want multiples of 4 or 8).

    :param x: images ``(B, C, *image_shape)``; the box holds all of them.
    :param support: where the objects are, ``(B, *image_shape)``; by default the pixels whose
        modulus is above ``threshold`` of the maximum of each image.
    :param margin: pixels added on every side.
    :param multiple: sizes are rounded up to it.
    :return: image shape, at most the present one.
    :raises DataError: no pixel inside, or ``margin`` or ``multiple`` out of range.
    :raises GeometryError: the support has another shape.
    """
    if margin < 0 or multiple < 1:
        raise DataError(
            "object_box",
            found=f"margin {margin}, multiple {multiple}",
            expected="at least 0 and at least 1",
        )
    shape = tuple(x.shape[2:])
    if support is None:
        size = x.square().sum(1).sqrt()
        support = size > threshold * size.flatten(1).amax(1).reshape(-1, *[1] * len(shape))
    if tuple(support.shape[-len(shape) :]) != shape:
        raise GeometryError(
            f"object_box: support: found shape {tuple(support.shape)}, expected "
            f"(B, {', '.join(map(str, shape))})"
        )
    inside = (support != 0).reshape(-1, *shape).any(0)
    if not bool(inside.any()):
        raise DataError("object_box", "support", found="no pixel inside", expected="an object")
    box = []
    for axis, n in enumerate(shape):
        others = [a for a in range(len(shape)) if a != axis]
        line = inside.any(dim=others[0]) if len(others) == 1 else inside.sum(others) > 0
        where = torch.nonzero(line)[:, 0]
        below = n // 2 - (int(where[0]) - margin)
        above = int(where[-1]) + margin - n // 2
        # a box of m pixels reaches m // 2 below its centre and (m - 1) // 2 above
        if multiple == 1:
            m = max(2 * below, 2 * (above + 1)) if n % 2 == 0 else 2 * max(below, above) + 1
        else:
            m = multiple * math.ceil(max(2 * below, 2 * above + 1, 1) / multiple)
        box.append(min(max(m, 1), n))
    return tuple(box)


def centred_crop(x: Tensor, image_shape: Sequence[int]) -> Tensor:
    """Cut the middle out of images, or pad them with zeros, index ``n // 2`` on ``m // 2``.

    An object cut out this way keeps its field and pattern under an operator with the same
    ``pattern_shape``.

    :param x: ``(B, C, *shape)``.
    :param image_shape: new shape; each axis is cut or padded.
    :raises GeometryError: another number of axes or a size below 1.
    """
    target = tuple(int(n) for n in image_shape)
    if len(target) != x.ndim - 2 or min(target) < 1:
        raise GeometryError(
            f"centred_crop: image_shape: found {target}, expected {x.ndim - 2} sizes of at least 1"
        )
    margins: list[int] = []
    for n, m in zip(reversed(x.shape[2:]), reversed(target), strict=True):
        before = m // 2 - n // 2
        margins += [before, m - n - before]
    return torch.nn.functional.pad(x, margins)  # negative margins cut
