"""Measurement operators: deepinv ``LinearPhysics`` with exact adjoints, shapes and declarations.

Operators are imported on first use, so that using one does not load the libraries of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciinv.lazy import attach

__all__ = [
    "ALL_OPERATORS",
    "BeerLambertLikelihood",
    "CartesianMRI",
    "GaussianLikelihood",
    "LinearOperator",
    "ParallelBeamCT",
    "WhitenedOperator",
    "estimate_coil_maps",
    "low_resolution_phase",
    "noise_sigma",
    "sensitivity_support",
    "whiten",
]

# name -> module that defines it; resolved on first access (PEP 562). No module may be called like
# an exported name: importing it would hide the name.
_LAZY = {
    "BeerLambertLikelihood": "sciinv.operators.likelihoods",
    "CartesianMRI": "sciinv.operators.mri",
    "GaussianLikelihood": "sciinv.operators.likelihoods",
    "LinearOperator": "sciinv.operators.base",
    "ParallelBeamCT": "sciinv.operators.ct",
    "WhitenedOperator": "sciinv.operators.whitening",
    "estimate_coil_maps": "sciinv.operators.coils",
    "low_resolution_phase": "sciinv.operators.coils",
    "noise_sigma": "sciinv.operators.noise",
    "sensitivity_support": "sciinv.operators.coils",
    "whiten": "sciinv.operators.whitening",
}

if TYPE_CHECKING:
    from sciinv.operators.base import LinearOperator
    from sciinv.operators.coils import (
        estimate_coil_maps,
        low_resolution_phase,
        sensitivity_support,
    )
    from sciinv.operators.ct import ParallelBeamCT
    from sciinv.operators.likelihoods import BeerLambertLikelihood, GaussianLikelihood
    from sciinv.operators.mri import CartesianMRI
    from sciinv.operators.noise import noise_sigma
    from sciinv.operators.whitening import WhitenedOperator, whiten

__getattr__, __dir__ = attach(__name__, _LAZY, __all__)

# every operator class that measures something; documentation and tests read this
ALL_OPERATORS = ("CartesianMRI", "ParallelBeamCT")
