"""What operators, their noise and priors can do, and what solvers may ask of them.

Capabilities belong to the *instance*: single-coil Cartesian MRI has an SVD, multi-coil has not.
A part that declares nothing gets the obvious ones.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepinv.physics import Physics


class Capability(StrEnum):
    """One thing a solver can need."""

    LINEAR = "linear"  # operator: A(ax + by) = aA(x) + bA(y)
    DIFFERENTIABLE = "differentiable"  # operator: A can be differentiated by autograd or A_vjp
    ADJOINT = "adjoint"  # operator: A_adjoint is the exact transpose
    SVD = "svd"  # operator: U, V and the singular values (mask) are at hand
    PROX = "prox"  # operator: the data prox has a closed form
    GAUSSIAN = "gaussian"  # noise: additive, Gaussian, of known level
    LIKELIHOOD = "likelihood"  # noise: log p(y | Ax) and its gradient are known
    WHITE = "white"  # noise: the same standard deviation for every real component
    VJP = "vjp"  # prior: D(x, sigma) can be differentiated with respect to x
    DECODER = "decoder"  # prior: works in a latent space with a decoder
    TRAINABLE = "trainable"  # prior: has parameters that adaptation may change


DESCRIPTION: dict[Capability, str] = {
    Capability.LINEAR: "a linear operator",
    Capability.DIFFERENTIABLE: "a differentiable operator",
    Capability.ADJOINT: "an operator with an exact adjoint",
    Capability.SVD: "an operator with a singular value decomposition",
    Capability.PROX: "an operator with a closed-form data prox",
    Capability.GAUSSIAN: "Gaussian noise of known level (set physics.noise_model)",
    Capability.LIKELIHOOD: "a noise model with a known likelihood (set physics.noise_model)",
    Capability.WHITE: "the same noise level everywhere (see sciinv.operators.whiten)",
    Capability.VJP: "a prior that can be differentiated",
    Capability.DECODER: "a latent prior with a decoder",
    Capability.TRAINABLE: "a prior with trainable parameters",
}


def operator_capabilities(physics: Physics) -> frozenset[Capability]:
    """Return what the operator declares, or what its deepinv base class implies."""
    declared = getattr(physics, "capabilities", None)
    if declared is not None:
        return frozenset(declared)
    from deepinv.physics import DecomposablePhysics, LinearPhysics

    found = {Capability.DIFFERENTIABLE}
    if isinstance(physics, LinearPhysics):
        found |= {Capability.LINEAR, Capability.ADJOINT}
    if isinstance(physics, DecomposablePhysics):
        found |= {Capability.SVD, Capability.PROX}
    return frozenset(found)


def noise_capabilities(physics: Physics) -> frozenset[Capability]:
    """Return what is known of the noise; deepinv's ``ZeroNoise`` means *unknown* here."""
    noise = getattr(physics, "noise_model", None)
    declared = getattr(noise, "capabilities", None)
    if declared is not None:
        return frozenset(declared)
    from deepinv.physics import GaussianNoise, PoissonNoise

    if isinstance(noise, GaussianNoise):
        found = {Capability.GAUSSIAN, Capability.LIKELIHOOD}
        sigma = noise.sigma
        if not hasattr(sigma, "numel") or sigma.numel() == 1:
            found.add(Capability.WHITE)
        return frozenset(found)
    return frozenset({Capability.LIKELIHOOD} if isinstance(noise, PoissonNoise) else ())


def prior_capabilities(prior: object) -> frozenset[Capability]:
    """Return what the prior declares; an undeclared callable is taken to be differentiable."""
    declared = getattr(prior, "capabilities", None)
    if declared is not None:
        return frozenset(declared)
    return frozenset({Capability.VJP})
