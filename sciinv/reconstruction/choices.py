"""What the user names becomes an object: prior, solver, precision, restarts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from sciinv.data.scan import Scan
from sciinv.errors import SciinvError
from sciinv.priors import fast_dtype
from sciinv.priors import load as load_prior
from sciinv.solvers import Solver, available
from sciinv.solvers.problem import Prior

# names of shipped priors, by the kind of scan
DEFAULT_PRIORS = {"mri": "mri", "ct": "ct", "diffraction": "generic"}
# what the network of a prior that is loaded by name computes in
Precision = Literal["auto", "32", "bf16"]
_DTYPES = {"32": None, "bf16": torch.bfloat16}


def resolve_prior(
    prior: str | Path | Prior | None, kind: str, channels: int, precision: Precision
) -> tuple[str, Prior]:
    """Return a prior and its name; one by name is loaded and computes in ``precision``."""
    if precision not in ("auto", *_DTYPES):
        raise SciinvError(f"precision: found {precision!r}, expected 'auto', '32' or 'bf16'")
    if prior is None or isinstance(prior, (str, Path)):
        name = str(prior or DEFAULT_PRIORS[kind])
        loaded = load_prior(name, channels=channels)
        loaded.inference_dtype = fast_dtype() if precision == "auto" else _DTYPES[precision]
        return Path(name).stem, loaded
    return type(prior).__name__, prior


def resolve_solver(
    solver: str | Callable[[Prior], Solver],
) -> tuple[str, Callable[..., Solver]]:
    """Return what makes a solver of a prior, and its name."""
    if not isinstance(solver, str):
        return getattr(solver, "__name__", type(solver).__name__), solver
    known = available()
    by_lower = {name.lower(): name for name in known}
    name = by_lower.get(solver.lower())
    if name is None:
        raise SciinvError(
            f"solver: found {solver!r}, expected one of {', '.join(known)}; see 'sciinv solvers'"
        )
    return name, known[name]


def check_restarts(restarts: int | None, scan: Scan) -> int | None:
    """Return the restarts of phase retrieval; refuse them for other scans."""
    if restarts is None:
        return None
    if scan.kind != "diffraction":
        raise SciinvError(
            f"restarts: found a scan of kind {scan.kind}, expected diffraction: where the "
            "posterior has one mode, the best of several runs makes the samples too narrow"
        )
    if restarts < 1:
        raise SciinvError(f"restarts: found {restarts}, expected at least 1")
    return restarts
