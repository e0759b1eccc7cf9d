"""Every solver with few steps, for tests of what all of them must hold."""

from __future__ import annotations

from sciinv.solvers import (
    DAPS,
    DCDP,
    DDNM,
    DDRM,
    DDS,
    DPS,
    ILVR,
    LGD,
    MCG,
    MMT,
    SITCOM,
    TMPD,
    DiffPIR,
    MomentMatching,
    PiGDM,
    PnPDM,
    PnPHQS,
    ReSample,
    ScoreALD,
    ScoreSDE,
)

SHORT = {
    "MMT": lambda p: MMT(p, steps=4, krylov=5),
    "MomentMatching": lambda p: MomentMatching(p, steps=5, krylov=5),
    "DPS": lambda p: DPS(p, steps=8),
    "PnPHQS": lambda p: PnPHQS(p, steps=6),
    "PiGDM": lambda p: PiGDM(p, steps=8),
    "TMPD": lambda p: TMPD(p, steps=8),
    "LGD": lambda p: LGD(p, steps=24, draws=2),
    "DDS": lambda p: DDS(p, steps=6, cg=5),
    "DDNM": lambda p: DDNM(p, steps=8),
    "DDRM": lambda p: DDRM(p, steps=8),
    "MCG": lambda p: MCG(p, steps=8),
    "ILVR": lambda p: ILVR(p, steps=8),
    "ScoreSDE": lambda p: ScoreSDE(p, steps=8, corrector=1),
    "ScoreALD": lambda p: ScoreALD(p, steps=50, inner=2),
    "DAPS": lambda p: DAPS(p, steps=8, langevin=20),
    "PnPDM": lambda p: PnPDM(p, steps=6, prior_steps=8, rho_min=0.1, langevin=20),
    "DiffPIR": lambda p: DiffPIR(p, steps=8),
    "SITCOM": lambda p: SITCOM(p, steps=6, inner=12, to_noise=False),
    "ReSample": lambda p: ReSample(p, steps=8),
    "DCDP": lambda p: DCDP(p, steps=6),
}
# whole Krylov spaces, so that the closed-form law applies (10 measurements, 16 pixels)
WHOLE = {
    **SHORT,
    "DPS": lambda p: DPS(p, steps=50),
    "MMT": lambda p: MMT(p, steps=10, krylov=10, lanczos=16),
    "MomentMatching": lambda p: MomentMatching(p, krylov=10),
}
