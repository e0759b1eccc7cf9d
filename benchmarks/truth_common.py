"""What the truth benchmarks share: drawing samples, measures against exact laws, the store."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from deepinv.physics import Physics
from quality_store import Row, Store
from scipy import stats
from torch import Tensor

from sciinv.errors import IncompatibleError, NumericalError
from sciinv.metrics import sliced_wasserstein
from sciinv.random import RowNoise
from sciinv.solvers import ALL_SOLVERS, Solver, base

Make = Callable[[Callable[..., Tensor]], Solver]
LEVEL = 0.9


class BlockNoise(RowNoise):
    """One generator for all rows: a generator a row costs more than a tiny denoiser does."""

    def normal(self, shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Draw all rows at once."""
        out = torch.randn((len(self), *shape), generator=self.generators[0])
        return out.to(device=device, dtype=dtype)


@dataclass(frozen=True)
class Drawn:
    """Samples ``(S, B, ...)``, network evaluations and processor seconds of one sample."""

    samples: Tensor
    nfe: int
    seconds: float


def draw(solver: Solver, y: Tensor, physics: Physics, count: int, seed: int) -> Drawn:
    """Draw samples with the shipped code; only the stream of random numbers is another."""
    generator = torch.Generator().manual_seed(seed)
    begin = time.process_time()
    with (
        mock.patch.object(base, "RowNoise", BlockNoise),
        mock.patch.object(base, "child_generators", lambda _, rows: [generator] * rows),
    ):
        samples, info = solver.sample(y, physics, count, generator=seed, return_info=True)
    seconds = (time.process_time() - begin) / (count * y.shape[0])
    return Drawn(samples, info.nfe, seconds)


def solvers(names: Sequence[str] = ()) -> dict[str, Make]:
    """Every registered solver with its default knobs, or those named."""
    found: dict[str, Make] = {solver.__name__: solver for solver in ALL_SOLVERS}
    return {name: make for name, make in found.items() if not names or name in names}


def keep(store: Store, case: str, method: str, make: Callable[[], Row], again: bool) -> None:
    """Compute a row that is not there; what cannot run leaves a row with the reason."""
    if not again and (case, method) in store.rows():
        return
    begin = time.process_time()
    try:
        row = make()
    except IncompatibleError as error:
        row = {"refused": str(error)}
    except NumericalError as error:
        row = {"diverged": str(error)}
    row["cpu"] = time.process_time() - begin
    store.add(case, method, row)
    shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items() if k != "scans"}
    print(case, method, shown, flush=True)


def distance(a: Tensor, b: Tensor, seed: int = 0, projections: int = 256) -> float:
    """Sliced Wasserstein-1 distance of two sets ``(S, ...)``, the same directions for a seed."""
    rng = np.random.default_rng(seed)
    return sliced_wasserstein(a.numpy(), b.numpy(), rng, projections=projections)


def covered(centre: Tensor, half: Tensor, mean: Tensor, std: Tensor) -> float:
    """Probability of ``N(mean, std^2)`` in ``centre +- half``, averaged over the components."""
    normal = torch.special.ndtr
    inside = normal((centre + half - mean) / std) - normal((centre - half - mean) / std)
    return float(inside.mean())


def quantile(count: int | None) -> float:
    """Half width, in sample standard deviations, of the interval that holds a further draw.

    Student's t for ``count`` samples of a normal law, so that exact draws cover ``LEVEL``.
    """
    if count is None:
        return float(stats.norm.ppf((1 + LEVEL) / 2))
    return float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * math.sqrt(1 + 1 / count)


def root(square: float) -> float:
    """Root of an estimate of a square that noise may have made negative."""
    return math.sqrt(max(square, 0.0))


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of independent values; NaN for one."""
    if len(values) < 2:
        return float("nan")
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def insert(page: Path, name: str, text: str) -> None:
    """Put a table between the marks ``<!-- NAME: begin -->`` and ``end`` of a page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, mark, rest = page.read_text().partition(begin)
    _, closing, after = rest.partition(end)
    if not (mark and closing):
        raise SystemExit(f"{page}: found no {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
