"""Random numbers: one child generator per (sample, scan) row, drawn on the CPU.

The draws of row i do not depend on how many rows there are, how they are split into batches or on
which device they are used. The global generator of torch is never touched.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SEED_RANGE = 2**63 - 1


def as_generator(generator: torch.Generator | int | None) -> torch.Generator:
    """Return a CPU generator: the given one, one seeded by an int, or a freshly seeded one."""
    if isinstance(generator, torch.Generator):
        return generator
    result = torch.Generator()
    if generator is None:
        result.seed()
    else:
        result.manual_seed(int(generator))
    return result


def child_generators(generator: torch.Generator, count: int) -> list[torch.Generator]:
    """Derive ``count`` CPU generators by sequential integer draws, so that prefixes agree."""
    children = []
    for _ in range(count):
        seed = int(torch.randint(_SEED_RANGE, (), generator=generator, device=generator.device))
        child = torch.Generator()
        child.manual_seed(seed)
        children.append(child)
    return children


class RowNoise:
    """Standard normal draws for a block of rows, each row from its own generator.

    Draws are float32 whatever the dtype asked for (a float64 normal draw costs six times as much
    and its extra digits carry no information), so float32 and float64 runs see the same noise.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        """Keep one generator per row."""
        self.generators = list(generators)

    def __len__(self) -> int:
        return len(self.generators)

    def normal(self, shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Draw ``(rows, *shape)``; ``shape`` is that of one row."""
        out = torch.empty((len(self.generators), *shape), dtype=torch.float32)
        for row, generator in zip(out, self.generators, strict=True):
            torch.randn(tuple(shape), generator=generator, out=row)
        return out.to(device=device, dtype=dtype)

    def normal_like(self, x: Tensor) -> Tensor:
        """Draw a tensor of the shape, dtype and device of ``x`` (rows first)."""
        return self.normal(x.shape[1:], dtype=x.dtype, device=x.device)
