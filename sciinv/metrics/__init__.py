"""Numbers that say how good a reconstruction, or a set of posterior samples, is.

All take NumPy arrays (or anything ``numpy.asarray`` accepts, CPU tensors among it) of one scan and
need no torch. Complex arrays are compared by their magnitude. Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciinv.lazy import attach

__all__ = [
    "Alignment",
    "align",
    "calibration_curve",
    "chi_squared",
    "conjugate_flip",
    "coverage",
    "error_over_std",
    "haarpsi",
    "magnitude",
    "normal_curve",
    "nrmse",
    "pairwise_diversity",
    "psnr",
    "r_factor",
    "sliced_wasserstein",
    "ssim",
]

# no module may be called like an exported name: importing it would hide the name
_LAZY = {
    "Alignment": "sciinv.metrics.ambiguity",
    "align": "sciinv.metrics.ambiguity",
    "calibration_curve": "sciinv.metrics.uncertainty",
    "chi_squared": "sciinv.metrics.uncertainty",
    "conjugate_flip": "sciinv.metrics.ambiguity",
    "coverage": "sciinv.metrics.uncertainty",
    "error_over_std": "sciinv.metrics.uncertainty",
    "haarpsi": "sciinv.metrics.perception",
    "magnitude": "sciinv.metrics.arrays",
    "normal_curve": "sciinv.metrics.uncertainty",
    "nrmse": "sciinv.metrics.fidelity",
    "pairwise_diversity": "sciinv.metrics.distributions",
    "psnr": "sciinv.metrics.fidelity",
    "r_factor": "sciinv.metrics.ambiguity",
    "sliced_wasserstein": "sciinv.metrics.distributions",
    "ssim": "sciinv.metrics.similarity",
}

if TYPE_CHECKING:
    from sciinv.metrics.ambiguity import Alignment, align, conjugate_flip, r_factor
    from sciinv.metrics.arrays import magnitude
    from sciinv.metrics.distributions import pairwise_diversity, sliced_wasserstein
    from sciinv.metrics.fidelity import nrmse, psnr
    from sciinv.metrics.perception import haarpsi
    from sciinv.metrics.similarity import ssim
    from sciinv.metrics.uncertainty import (
        calibration_curve,
        chi_squared,
        coverage,
        error_over_std,
        normal_curve,
    )

__getattr__, __dir__ = attach(__name__, _LAZY, __all__)
