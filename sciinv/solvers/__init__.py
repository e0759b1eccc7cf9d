"""Posterior samplers. A new method is one file and one line in ``ALL_SOLVERS``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from sciinv.solvers.base import STOP, GuidedSolver, SampleInfo, Solver, Step, StepInfo
from sciinv.solvers.decoupled.daps import DAPS
from sciinv.solvers.decoupled.dcdp import DCDP
from sciinv.solvers.decoupled.diffpir import DiffPIR
from sciinv.solvers.decoupled.pnp_dm import PnPDM
from sciinv.solvers.decoupled.pnp_hqs import PnPHQS
from sciinv.solvers.decoupled.resample import ReSample
from sciinv.solvers.decoupled.restarts import RestartInfo, sample_with_restarts
from sciinv.solvers.decoupled.sitcom import SITCOM
from sciinv.solvers.guidance.ddnm import DDNM
from sciinv.solvers.guidance.ddrm import DDRM
from sciinv.solvers.guidance.dds import DDS
from sciinv.solvers.guidance.dps import DPS
from sciinv.solvers.guidance.ilvr import ILVR
from sciinv.solvers.guidance.lgd import LGD
from sciinv.solvers.guidance.mcg import MCG
from sciinv.solvers.guidance.mmt import MMT
from sciinv.solvers.guidance.moment_matching import MomentMatching
from sciinv.solvers.guidance.pigdm import PiGDM
from sciinv.solvers.guidance.score_ald import ScoreALD
from sciinv.solvers.guidance.score_sde import ScoreSDE
from sciinv.solvers.guidance.tmpd import TMPD
from sciinv.solvers.integrators import DDIM, Ancestral, Euler, Heun

if TYPE_CHECKING:
    from deepinv.physics import Physics

# order = order of preference for linear operators
ALL_SOLVERS: tuple[type[Solver], ...] = (
    MMT,
    MomentMatching,
    DPS,
    PnPHQS,
    PiGDM,
    TMPD,
    LGD,
    DDS,
    DDNM,
    DDRM,
    MCG,
    ILVR,
    ScoreSDE,
    ScoreALD,
    DAPS,
    PnPDM,
    DiffPIR,
    SITCOM,
    ReSample,
    DCDP,
)


def available() -> dict[str, type[Solver]]:
    """Return all solvers by name: ours, then those of the ``sciinv.solvers`` entry point."""
    found = {solver.__name__: solver for solver in ALL_SOLVERS}
    for point in entry_points(group="sciinv.solvers"):
        found.setdefault(point.name, point.load())
    return found


def compatible(physics: Physics, prior: object | None = None) -> list[str]:
    """Names of the solvers that fit this operator and its noise (and the prior, if given)."""
    from sciinv.solvers.compatibility import fitting

    return fitting(available().values(), physics, prior)


__all__ = [
    "ALL_SOLVERS",
    "DAPS",
    "DCDP",
    "DDIM",
    "DDNM",
    "DDRM",
    "DDS",
    "DPS",
    "ILVR",
    "LGD",
    "MCG",
    "MMT",
    "SITCOM",
    "STOP",
    "TMPD",
    "Ancestral",
    "DiffPIR",
    "Euler",
    "GuidedSolver",
    "Heun",
    "MomentMatching",
    "PiGDM",
    "PnPDM",
    "PnPHQS",
    "ReSample",
    "RestartInfo",
    "SampleInfo",
    "ScoreALD",
    "ScoreSDE",
    "Solver",
    "Step",
    "StepInfo",
    "available",
    "compatible",
    "sample_with_restarts",
]
