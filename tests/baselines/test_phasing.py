"""Moving a phased object to the middle and posing it on a smaller grid."""

from __future__ import annotations

import pytest
import torch

from sciinv.baselines.phasing import centred_crop, object_box, recentre
from sciinv.errors import DataError, GeometryError
from sciinv.operators.phase import FourierPhaseRetrieval


def block(shape, corner, size, channels=2):
    g = torch.Generator().manual_seed(3)
    x = torch.zeros(1, channels, *shape, dtype=torch.float64)
    place = tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))
    x[(..., *place)] = 1 + 0.2 * torch.randn(1, channels, *size, generator=g, dtype=torch.float64)
    return x


@pytest.mark.parametrize(
    ("shape", "corner", "size"),
    [((16, 17), (1, 9), (5, 7)), ((9, 12, 10), (0, 7, 3), (3, 5, 5))],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_recentre_undoes_a_shift_and_a_phase(shape, corner, size, channels):
    x = block(shape, corner, size, channels)
    centred = recentre(x)
    middle = tuple(n // 2 - s // 2 for n, s in zip(shape, size, strict=True))
    axes = tuple(range(2, x.ndim))
    shift = tuple(m - c for m, c in zip(middle, corner, strict=True))
    expected = x.roll(shift, axes)
    if channels == 2:
        z = torch.complex(expected[:, 0], expected[:, 1])
        z = z * z.sum().sgn().conj()
        expected = torch.stack([z.real, z.imag], 1)
        assert float(centred[:, 1].sum()) == pytest.approx(0, abs=1e-12)
    assert float(centred[:, 0].sum()) > 0
    torch.testing.assert_close(centred, expected)
    # also across the edge, turned by any phase, and again
    wrapped = -x.roll(tuple(n - 1 - c for n, c in zip(shape, corner, strict=True)), axes)
    torch.testing.assert_close(recentre(wrapped), expected)
    torch.testing.assert_close(recentre(centred), centred)
    # every row on its own, and nothing stays nothing
    both = recentre(torch.cat([wrapped, torch.zeros_like(x), x]))
    torch.testing.assert_close(both, torch.cat([expected, torch.zeros_like(x), expected]))


@pytest.mark.parametrize("shape", [(16, 16), (17, 16), (15, 21)])
def test_object_box_holds_the_object_and_no_more(shape):
    for corner, size in (((6, 5), (3, 9)), ((8, 8), (1, 1)), ((2, 7), (9, 2))):
        x = block(shape, corner, size)
        for margin in (0, 1):
            for multiple in (1, 2, 4):
                box = object_box(x, margin=margin, multiple=multiple)
                for axis, (n, m) in enumerate(zip(shape, box, strict=True)):
                    first = corner[axis] - margin
                    last = corner[axis] + size[axis] - 1 + margin
                    assert first >= n // 2 - m // 2
                    assert last <= n // 2 - m // 2 + m - 1
                    step = multiple if multiple > 1 else 2
                    assert m % multiple == 0 or m == n
                    assert multiple > 1 or (m - n) % 2 == 0
                    smaller = m - step  # does not hold it
                    if smaller > 0:
                        low = n // 2 - smaller // 2
                        assert first < low or last > low + smaller - 1
                if multiple == 1 and margin == 0:
                    cut = centred_crop(x, box)
                    assert int((cut != 0).sum()) == int((x != 0).sum())


def test_object_box_of_a_support_and_refusals():
    x = torch.zeros(2, 1, 8, 8)
    support = torch.zeros(2, 8, 8, dtype=torch.bool)
    support[0, 4, 4] = support[1, 3, 5] = True
    assert object_box(x, support, margin=0) == (2, 4)
    assert object_box(x, support, margin=5) == (8, 8)
    with pytest.raises(DataError, match="no pixel"):
        object_box(x)
    with pytest.raises(DataError, match="margin -1"):
        object_box(x, support, margin=-1)
    with pytest.raises(GeometryError, match="support"):
        object_box(x, support[..., :4])


@pytest.mark.parametrize(("small", "large"), [((8, 9), (16, 21)), ((7, 8), (12, 13))])
def test_a_smaller_grid_of_the_same_pattern(small, large):
    pattern = (32, 42)
    x = recentre(block(large, (5, 6), (4, 5)))
    wide = FourierPhaseRetrieval(large, pattern_shape=pattern, dtype=torch.float64)
    tight = FourierPhaseRetrieval(small, pattern_shape=pattern, dtype=torch.float64)
    cut = centred_crop(x, small)
    torch.testing.assert_close(tight.field(cut), wide.field(x))
    torch.testing.assert_close(centred_crop(cut, large), x)
    with pytest.raises(GeometryError):
        centred_crop(x, (4, 4, 4))
