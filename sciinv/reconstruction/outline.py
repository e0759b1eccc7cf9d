"""What a reconstruction of a scan would work with, told without estimating anything."""

from __future__ import annotations

import torch
from deepinv.physics import GaussianNoise

from sciinv.data.scan import DiffractionGeometry, MRIGeometry, NonCartesianGeometry, Scan
from sciinv.operators import CartesianMRI, FourierPhaseRetrieval, NonCartesianMRI, whiten
from sciinv.operators.base import Operator
from sciinv.operators.likelihoods import AmplitudeLikelihood
from sciinv.reconstruction.ct_model import tomograph

# what samples, and what finds the image that it starts from, by the kind of scan
_DEFAULTS = {"mri": ("MMT", "PnPHQS"), "ct": ("MMT", "PnPHQS"), "diffraction": ("DPS", "HIO")}


def default_solver(scan: Scan) -> tuple[str, str]:
    """Names of the solver that is taken where none is named and of what finds its first image."""
    return _DEFAULTS[scan.kind]


def outline(scan: Scan) -> Operator:
    """Return an operator of the class, shapes and noise model of the one that is reconstructed.

    Coil maps, noise level and scale take seconds to minutes to find and change no capability: they
    are ones here. So solvers fit this operator exactly if they fit that of
    :func:`sciinv.reconstruction.build.build_model`.
    """
    g = scan.geometry
    shape = tuple(g.image_shape)
    noise = GaussianNoise(1.0)
    if isinstance(g, MRIGeometry | NonCartesianGeometry):
        # maps, or at least a phase, are found for a single coil too
        maps = torch.ones(scan.data.shape[1], *shape, dtype=torch.complex64)
        if isinstance(g, MRIGeometry):
            return CartesianMRI(shape, coil_maps=maps, noise_model=noise)
        return NonCartesianMRI(shape, g.trajectory, maps, noise_model=noise)
    if isinstance(g, DiffractionGeometry):
        return FourierPhaseRetrieval(
            shape, channels=2, mode="intensity", pattern_shape=g.pattern_shape,
            noise_model=AmplitudeLikelihood(counts=True),
        )  # fmt: skip
    whitened = whiten(tomograph(g, g.image_shape), 1.0)
    whitened.noise_model = noise
    return whitened
