"""Measurement operators: deepinv ``Physics`` with exact adjoints, shapes and declarations.

Operators are imported on first use, so that using one does not load the libraries of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciinv.lazy import attach

__all__ = [
    "ALL_OPERATORS",
    "AmplitudeLikelihood",
    "BeerLambertLikelihood",
    "CartesianMRI",
    "CodedDiffraction",
    "CoilCompression",
    "FanBeamCT",
    "FourierPhaseRetrieval",
    "GaussianLikelihood",
    "LinearOperator",
    "MapQuality",
    "NonCartesianMRI",
    "NonlinearOperator",
    "ParallelBeamCT",
    "PoissonLikelihood",
    "WhitenedOperator",
    "calibration_kspace",
    "check_trajectory",
    "compress_coils",
    "density_compensation",
    "estimate_coil_maps",
    "estimate_noise_covariance",
    "jsense_maps",
    "likelihood_of",
    "low_resolution_phase",
    "map_quality",
    "mix_coils",
    "noise_covariance",
    "noise_sigma",
    "prewhiten",
    "radial_trajectory",
    "sensitivity_support",
    "spiral_trajectory",
    "stack_trajectory",
    "trajectory_from",
    "whiten",
]

# name -> module that defines it; resolved on first access (PEP 562). No module may be called like
# an exported name: importing it would hide the name.
_LAZY = {
    "AmplitudeLikelihood": "sciinv.operators.likelihoods",
    "BeerLambertLikelihood": "sciinv.operators.likelihoods",
    "CartesianMRI": "sciinv.operators.mri",
    "CodedDiffraction": "sciinv.operators.phase",
    "CoilCompression": "sciinv.operators.coil_compression",
    "FanBeamCT": "sciinv.operators.fan",
    "FourierPhaseRetrieval": "sciinv.operators.phase",
    "GaussianLikelihood": "sciinv.operators.likelihoods",
    "LinearOperator": "sciinv.operators.base",
    "MapQuality": "sciinv.operators.coil_quality",
    "NonCartesianMRI": "sciinv.operators.noncartesian",
    "NonlinearOperator": "sciinv.operators.base",
    "ParallelBeamCT": "sciinv.operators.ct",
    "PoissonLikelihood": "sciinv.operators.likelihoods",
    "WhitenedOperator": "sciinv.operators.whitening",
    "calibration_kspace": "sciinv.operators.calibration",
    "check_trajectory": "sciinv.operators.trajectories",
    "compress_coils": "sciinv.operators.coil_compression",
    "density_compensation": "sciinv.operators.trajectories",
    "estimate_coil_maps": "sciinv.operators.coils",
    "estimate_noise_covariance": "sciinv.operators.coil_noise",
    "jsense_maps": "sciinv.operators.jsense",
    "likelihood_of": "sciinv.operators.likelihoods",
    "low_resolution_phase": "sciinv.operators.coils",
    "map_quality": "sciinv.operators.coil_quality",
    "mix_coils": "sciinv.operators.coil_noise",
    "noise_covariance": "sciinv.operators.coil_noise",
    "noise_sigma": "sciinv.operators.noise",
    "prewhiten": "sciinv.operators.coil_noise",
    "radial_trajectory": "sciinv.operators.trajectories",
    "sensitivity_support": "sciinv.operators.coils",
    "spiral_trajectory": "sciinv.operators.trajectories",
    "stack_trajectory": "sciinv.operators.trajectories",
    "trajectory_from": "sciinv.operators.trajectories",
    "whiten": "sciinv.operators.whitening",
}

if TYPE_CHECKING:
    from sciinv.operators.base import LinearOperator, NonlinearOperator
    from sciinv.operators.calibration import calibration_kspace
    from sciinv.operators.coil_compression import CoilCompression, compress_coils
    from sciinv.operators.coil_noise import (
        estimate_noise_covariance,
        mix_coils,
        noise_covariance,
        prewhiten,
    )
    from sciinv.operators.coil_quality import MapQuality, map_quality
    from sciinv.operators.coils import estimate_coil_maps, low_resolution_phase, sensitivity_support
    from sciinv.operators.ct import ParallelBeamCT
    from sciinv.operators.fan import FanBeamCT
    from sciinv.operators.jsense import jsense_maps
    from sciinv.operators.likelihoods import (
        AmplitudeLikelihood,
        BeerLambertLikelihood,
        GaussianLikelihood,
        PoissonLikelihood,
        likelihood_of,
    )
    from sciinv.operators.mri import CartesianMRI
    from sciinv.operators.noise import noise_sigma
    from sciinv.operators.noncartesian import NonCartesianMRI
    from sciinv.operators.phase import CodedDiffraction, FourierPhaseRetrieval
    from sciinv.operators.trajectories import (
        check_trajectory,
        density_compensation,
        radial_trajectory,
        spiral_trajectory,
        stack_trajectory,
        trajectory_from,
    )
    from sciinv.operators.whitening import WhitenedOperator, whiten

__getattr__, __dir__ = attach(__name__, _LAZY, __all__)

# every operator class that measures something; documentation and tests read this
ALL_OPERATORS = (
    "CartesianMRI",
    "NonCartesianMRI",
    "ParallelBeamCT",
    "FanBeamCT",
    "FourierPhaseRetrieval",
    "CodedDiffraction",
)
