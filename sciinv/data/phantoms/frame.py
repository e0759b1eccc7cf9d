"""The frame of a body: where it lies in the image, and leaves placed in its own coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciinv.data.phantoms import leaves as L
from sciinv.data.phantoms.fields import smooth_field

Image = NDArray[np.float32]
Labels = NDArray[np.int32]
Part = tuple[Image, Labels]

MARGIN = 8  # pixels cut from each border, so that periodic fields and filters do not show there


@dataclass(frozen=True)
class Frame:
    """A bent ellipse and the coordinates in which its border is the unit circle.

    :param u: ``(H, W)`` coordinate along the half axis ``half[0]``, 1 at the border.
    :param v: the same along ``half[1]``.
    :param radius: ``(H, W)`` length of ``(u, v)`` after a smooth bend; 1 at the border.
    :param centre: ``(y, x)`` in pixels.
    :param half: half axes along ``u`` and ``v`` in pixels.
    :param angle: of the ``u`` axis against the image rows, radians.
    """

    u: Image
    v: Image
    radius: Image
    centre: tuple[float, float]
    half: tuple[float, float]
    angle: float

    @property
    def pixels(self) -> float:
        """Pixels per unit of radius (geometric mean of both axes)."""
        return float(np.sqrt(self.half[0] * self.half[1]))

    @property
    def depth(self) -> Image:
        """Depth below the border in pixels (exact for a circle); negative outside."""
        return ((1 - self.radius) * np.float32(self.pixels)).astype(np.float32)

    def leaf(
        self,
        kind: int,
        at: Sequence[float],
        size: Sequence[float],
        value: float,
        *,
        turn: float = 0.0,
        wobble: float = 0.05,
        order: float = 3,
        phase: float = 0.0,
        thickness: float = 2.0,
        texture: float = 0.0,
    ) -> NDArray[np.float64]:
        """Row of a leaf table for a shape at ``at = (u, v)`` with half axes ``size``.

        ``thickness`` is in pixels, ``turn`` (radians) is against the axes of the body.
        """
        row = np.zeros(L.COLUMNS)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        du, dv = at[0] * self.half[0], at[1] * self.half[1]
        row[[L.KIND, L.CY, L.CX]] = (
            kind,
            self.centre[0] + sin * du + cos * dv,
            self.centre[1] + cos * du - sin * dv,
        )
        row[[L.COS, L.SIN]] = np.cos(self.angle + turn), np.sin(self.angle + turn)
        row[L.RX] = max(size[0] * self.half[0], 0.5)
        row[L.RY] = max(size[1] * self.half[1], 0.5)
        row[[L.VALUE, L.WOBBLE, L.WOBBLE_ORDER]] = value, wobble, order
        row[[L.WOBBLE_PHASE, L.THICKNESS, L.TEXTURE]] = phase, thickness, texture
        return row


def random_frame(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    aspect: tuple[float, float] = (0.75, 1.3),
    size: tuple[float, float] = (0.65, 1.0),
    wobble: float = 0.05,
    close_up: float = 0.25,
) -> Frame:
    """Draw where a body lies in the image.

    :param shape: ``(H, W)`` of the fine grid, margin included.
    :param aspect: range of the ratio of both half axes.
    :param size: range of the larger half axis over half of the image's smaller side.
    :param wobble: largest bend of the border, relative to the radius.
    :param close_up: chance that only a part of the body is in the image, up to twice enlarged.
    """
    inner = np.array(shape) - 4 * MARGIN
    near = rng.uniform() < close_up
    # in an elongated image the body may be longer than the smaller side
    room = min(float(inner.max()), 1.25 * float(inner.min()))
    extent = 0.5 * float(rng.uniform(inner.min(), room))
    extent *= float(rng.uniform(1.0, 2.0)) if near else float(rng.uniform(*size))
    ratio = float(np.exp(rng.uniform(np.log(aspect[0]), np.log(aspect[1]))))
    half = (extent * min(1.0, ratio), extent * min(1.0, 1 / ratio))
    reach = 0.7 * extent if near else 0.08 * float(inner.min())
    offset = rng.uniform(-1, 1, 2) * reach
    centre = (0.5 * shape[0] + float(offset[0]), 0.5 * shape[1] + float(offset[1]))
    angle = float(rng.choice([0, 0.5, 1, 1.5]) * np.pi + rng.normal(0, 0.15))
    if rng.uniform() < 0.2:
        angle = float(rng.uniform(0, 2 * np.pi))
    y = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(centre[0])
    x = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = ((x * cos + y * sin) / np.float32(half[0])).astype(np.float32)
    v = ((y * cos - x * sin) / np.float32(half[1])).astype(np.float32)
    radius = np.sqrt(u * u + v * v)
    bend = smooth_field(shape, rng, extent * rng.uniform(0.7, 2.5))
    radius = radius * (1 + np.float32(wobble * rng.uniform(0.1, 1)) * bend)
    return Frame(u, v, radius.astype(np.float32), centre, half, angle)


def paint_inside(
    part: Part,
    rows: Sequence[NDArray[np.float64]],
    tile: Image,
    where: NDArray[np.bool_] | None,
    *,
    first_label: int,
) -> None:
    """Paint leaf rows over a part in place, the last on top, but only ``where`` (all: None)."""
    if not len(rows):
        return
    value, label = part
    if where is None:
        L.paint(value, label, np.stack(rows), tile, first_label=first_label)
        return
    painted, names = value.copy(), label.copy()
    L.paint(painted, names, np.stack(rows), tile, first_label=first_label)
    np.copyto(value, painted, where=where)
    np.copyto(label, names, where=where)
