"""Does a solver fit this operator, noise and prior? Asked before the first network call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sciinv.capabilities import (
    DESCRIPTION,
    Capability,
    noise_capabilities,
    operator_capabilities,
    prior_capabilities,
)
from sciinv.errors import IncompatibleError
from sciinv.operators.spectral import has_spectrum

if TYPE_CHECKING:
    from deepinv.physics import Physics

    from sciinv.solvers.base import Solver


def missing(
    needs: frozenset[Capability],
    physics: Physics,
    prior: object | None = None,
    *,
    noiseless: bool = False,
) -> list[Capability]:
    """List the capabilities that are needed and not there, in the order of their definition.

    Without a prior only the operator and its noise are asked.
    """
    have = operator_capabilities(physics) | noise_capabilities(physics)
    if Capability.LINEAR not in have and Capability.DIFFERENTIABLE in have:
        # the transposed derivative of a non-linear operator is exact; it has no other adjoint
        have |= {Capability.ADJOINT}
    if noiseless:
        have |= {Capability.GAUSSIAN, Capability.WHITE, Capability.LIKELIHOOD}
    if Capability.SVD in needs and has_spectrum(physics):
        have |= {Capability.SVD}  # a small operator can be decomposed
    of_prior = {Capability.VJP, Capability.DECODER, Capability.TRAINABLE}
    have |= of_prior if prior is None else prior_capabilities(prior)
    return [
        capability for capability in Capability if capability in needs and capability not in have
    ]


def reasons(
    needs: frozenset[Capability],
    physics: Physics,
    prior: object | None = None,
    *,
    noiseless: bool = False,
) -> list[str]:
    """Say in words what is needed and not there; empty if everything is. See :func:`missing`."""
    return [DESCRIPTION[gap] for gap in missing(needs, physics, prior, noiseless=noiseless)]


def fitting(
    solvers: Iterable[type[Solver]], physics: Physics, prior: object | None = None
) -> list[str]:
    """Names of the solvers that fit."""
    return [s.__name__ for s in solvers if not missing(s.needs, physics, prior)]


def check_compatible(
    solver: Solver, physics: Physics, solvers: Iterable[type[Solver]] = ()
) -> None:
    """Raise an ``IncompatibleError`` that lists all gaps and names the solvers that do fit."""
    gaps = reasons(solver.needs, physics, solver.prior, noiseless=solver.noiseless)
    problems = list(gaps)
    channels = getattr(solver.prior, "channels", None)
    expected = getattr(physics, "channels", None)
    if channels is not None and expected is not None and channels != expected:
        problems.append(f"a prior with {expected} channel(s), found {channels}")
    if not problems:
        return
    names = fitting(solvers, physics, solver.prior)
    way_out = f"; solvers that fit: {', '.join(names)}" if names and gaps else ""
    raise IncompatibleError(
        f"{type(solver).__name__} on {type(physics).__name__} needs {'; '.join(problems)}{way_out}"
    )
