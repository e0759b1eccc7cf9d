"""Thin curved structures: branching vessels, septa and cracks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sciinv.data.phantoms.frame import Part


@njit(cache=True)
def _stamp(value: Any, label: Any, where: Any, path: Any, colour: float, mark: int) -> None:  # noqa: ANN401
    """Paint discs of radius ``path[:, 2]`` at ``path[:, :2]`` over value and label."""
    height, width = value.shape
    for k in range(path.shape[0]):
        y, x, r = path[k, 0], path[k, 1], path[k, 2]
        for i in range(max(0, int(y - r)), min(height - 1, int(y + r + 1)) + 1):
            for j in range(max(0, int(x - r)), min(width - 1, int(x + r + 1)) + 1):
                if where[i, j] and (i - y) * (i - y) + (j - x) * (j - x) <= r * r:
                    value[i, j] = colour
                    label[i, j] = mark


@njit(cache=True)
def _grow(start: Any, turns: Any, forks: Any, branches: int) -> Any:  # noqa: ANN401
    """Walk from ``start = (y, x, heading, radius, shrink, fork chance)``; return visited discs."""
    steps = turns.shape[1]
    path = np.empty((branches * steps, 3))
    queue = np.empty((branches, 4))
    queue[0] = start[:4]
    waiting, count = 1, 0
    for branch in range(branches):
        if branch >= waiting:
            break
        y, x, heading, radius = queue[branch]
        curl = 0.0
        for step in range(steps):
            path[count] = (y, x, radius)
            count += 1
            # a turn that remembers itself makes curves rather than scribble
            curl = 0.9 * curl + turns[branch, step]
            heading += curl
            pace = min(1.0, max(0.5, radius))
            y += pace * np.sin(heading)
            x += pace * np.cos(heading)
            radius *= start[4]
            if radius < 0.5:
                break
            if waiting < branches and forks[branch, step] < start[5]:
                side = 1.0 if forks[branch, step] < 0.5 * start[5] else -1.0
                queue[waiting] = (y, x, heading + side * 0.7, 0.79 * radius)
                waiting += 1
                heading -= side * 0.35
                radius *= 0.79  # Murray's law: the cubes of the radii add up
    return path[:count]


def add_curves(
    part: Part,
    rng: np.random.Generator,
    where: NDArray[np.bool_],
    *,
    count: int,
    radius: tuple[float, float],
    value: float,
    mark: int,
    branches: int = 8,
    wander: float = 0.03,
    fork: float = 0.03,
) -> None:
    """Paint ``count`` curved trees over a part in place, only ``where``.

    :param radius: range of the radius of the trunk in pixels (log-uniform).
    :param value: what is painted.
    :param mark: label that is painted.
    :param branches: most branches of one tree; 1 makes a septum or a crack.
    :param wander: standard deviation of the change of curvature per pixel, radians.
    :param fork: chance of a fork per pixel.
    """
    height, width = part[0].shape
    for _ in range(count):
        trunk = float(np.exp(rng.uniform(*np.log(radius))))
        length = int(max(height, width) * rng.uniform(0.15, 0.9)) + 4
        start = np.array(
            [
                rng.uniform(0, height),
                rng.uniform(0, width),
                rng.uniform(0, 2 * np.pi),
                trunk,
                rng.uniform(0.3, 0.9) ** (1 / length),
                fork if branches > 1 else 0.0,
            ]
        )
        turns = rng.normal(0, wander * rng.uniform(0.2, 1), (branches, length))
        path = _grow(start, turns, rng.uniform(size=(branches, length)), branches)
        _stamp(*part, where, path, value, mark)
