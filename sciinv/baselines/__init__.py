"""Classical reconstructions without a learned prior: previews, comparisons and start values.

All take ``(y, physics)`` as torch tensors and a linear deepinv ``Physics`` and return the image
``(B, C, *spatial)``; every row of the batch is its own problem. Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciinv.lazy import attach

__all__ = [
    "HIOInfo",
    "centred_crop",
    "cg_sense",
    "fbp",
    "hio",
    "l1_wavelet",
    "object_box",
    "recentre",
    "sirt",
    "solve_tv",
    "tv",
    "tv_lambda",
    "wavelet_lambda",
    "zero_filled",
]

# modules are not named like the functions: importing ``baselines.tv`` would put the module in the
# place of the function
_LAZY = {
    "HIOInfo": "sciinv.baselines.fienup",
    "centred_crop": "sciinv.baselines.phasing",
    "cg_sense": "sciinv.baselines.least_squares",
    "fbp": "sciinv.baselines.backprojection",
    "hio": "sciinv.baselines.fienup",
    "l1_wavelet": "sciinv.baselines.sparse",
    "object_box": "sciinv.baselines.phasing",
    "recentre": "sciinv.baselines.phasing",
    "sirt": "sciinv.baselines.algebraic",
    "solve_tv": "sciinv.baselines.total_variation",
    "tv": "sciinv.baselines.total_variation",
    "tv_lambda": "sciinv.baselines.strength",
    "wavelet_lambda": "sciinv.baselines.strength",
    "zero_filled": "sciinv.baselines.backprojection",
}

if TYPE_CHECKING:
    from sciinv.baselines.algebraic import sirt
    from sciinv.baselines.backprojection import fbp, zero_filled
    from sciinv.baselines.fienup import HIOInfo, hio
    from sciinv.baselines.least_squares import cg_sense
    from sciinv.baselines.phasing import centred_crop, object_box, recentre
    from sciinv.baselines.sparse import l1_wavelet
    from sciinv.baselines.strength import tv_lambda, wavelet_lambda
    from sciinv.baselines.total_variation import solve_tv, tv

__getattr__, __dir__ = attach(__name__, _LAZY, __all__)
