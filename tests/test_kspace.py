from __future__ import annotations

import numpy as np
import pytest

from sciinv.kspace import sampled_block


def with_block(shape, block, rng, density=0.3):
    sampled = rng.random(shape) < density
    sampled[block] = True
    return sampled


@pytest.mark.parametrize("shape", [(20, 21), (9, 10, 8), (17,)])
def test_block_is_sampled_holds_the_centre_and_cannot_grow(shape):
    rng = np.random.default_rng(0)
    for _ in range(50):
        reach = [rng.integers(0, n // 2, 2) for n in shape]
        known = tuple(
            slice(n // 2 - a, n // 2 + 1 + b) for n, (a, b) in zip(shape, reach, strict=True)
        )
        sampled = with_block(shape, known, rng)
        found = sampled_block(sampled)
        assert sampled[found].all()
        assert all(part.start <= n // 2 < part.stop for part, n in zip(found, shape, strict=True))
        for axis, (part, n) in enumerate(zip(found, shape, strict=True)):
            for low, high in ((part.start - 1, part.stop), (part.start, part.stop + 1)):
                if low < 0 or high > n:
                    continue
                larger = list(found)
                larger[axis] = slice(low, high)
                assert not sampled[tuple(larger)].all()


def test_isolated_rectangle_is_found_exactly():
    sampled = np.zeros((20, 30), dtype=bool)
    sampled[4:13, 10:29] = True
    assert sampled_block(sampled) == (slice(4, 13), slice(10, 29))


def test_axes_grow_in_turn():
    # a full row and a full column cross in the centre: neither can swallow the other
    cross = np.zeros((11, 11), dtype=bool)
    cross[5] = cross[:, 5] = True
    rows, columns = sampled_block(cross)
    assert (rows.stop - rows.start) * (columns.stop - columns.start) == 11


@pytest.mark.parametrize("centre", [True, False])
def test_without_neighbours_only_the_centre_is_left(centre):
    sampled = np.ones((6, 7), dtype=bool)
    sampled[2:5, 2:5] = False
    sampled[3, 3] = centre
    if not centre:
        sampled[2, 3] = True
    assert sampled_block(sampled) == (slice(3, 4), slice(3, 4))
