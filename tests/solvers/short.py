"""Every solver with few steps, for tests of what all of them must hold."""

from __future__ import annotations

from sciinv.solvers import DPS, LGD, MMT, TMPD, MomentMatching, PiGDM, PnPHQS

SHORT = {
    "MMT": lambda p: MMT(p, steps=4, krylov=5),
    "MomentMatching": lambda p: MomentMatching(p, steps=5, krylov=5),
    "DPS": lambda p: DPS(p, steps=8),
    "PnPHQS": lambda p: PnPHQS(p, steps=6),
    "PiGDM": lambda p: PiGDM(p, steps=8),
    "TMPD": lambda p: TMPD(p, steps=8),
    "LGD": lambda p: LGD(p, steps=8, draws=2),
}
# whole Krylov spaces, so that the closed-form law applies (10 measurements, 16 pixels)
WHOLE = {
    **SHORT,
    "DPS": lambda p: DPS(p, steps=50),
    "MMT": lambda p: MMT(p, steps=10, krylov=10, lanczos=16),
    "MomentMatching": lambda p: MomentMatching(p, krylov=10),
}
