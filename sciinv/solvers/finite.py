"""States that are not finite: noticed in the loop over levels, and traced to their source."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from sciinv.errors import NumericalError
from sciinv.solvers.problem import Problem


class FiniteCheck:
    """Watches the states of one block of rows.

    On the CPU every state is looked at when it is there. Elsewhere looking would make the host wait
    for the device at every step; the number of the first bad state is kept on the device instead
    and read once, at the end.

    :param solver: name for the message.
    :param sigmas: noise levels from the first down to zero.
    :param deferred: look at the end only.
    """

    def __init__(self, solver: str, sigmas: list[float], deferred: bool) -> None:
        self._solver = solver
        self._sigmas = sigmas
        self._deferred = deferred
        self._first: Tensor | None = None

    def look(self, state: Tensor, number: int, cause: Callable[[], str]) -> None:
        """Take note of the state after step ``number`` (from 1; 0 is the start).

        :param cause: called if the state is not finite; names the quantity and what to check.
        :raises NumericalError: the state is not finite.
        """
        if not self._deferred:
            # what is not finite shows in the sum, which is one pass; a sum may overflow, so look
            if not math.isfinite(float(state.sum())) and not bool(torch.isfinite(state).all()):
                raise NumericalError(self._message(number, cause()))
            return
        finite = torch.isfinite(state).all()
        now = torch.where(finite, len(self._sigmas), number)
        self._first = now if self._first is None else torch.minimum(self._first, now)

    def finish(self) -> None:
        """Read what was kept on the device.

        :raises NumericalError: a state was not finite.
        """
        if self._first is None:
            return
        number = int(self._first)
        if number < len(self._sigmas):
            raise NumericalError(self._message(number, _STATE))

    def _message(self, number: int, cause: str) -> str:
        if number == 0:
            where = f"at the start (sigma {self._sigmas[0]:.3g})"
        else:
            where = (
                f"after step {number} of {len(self._sigmas) - 1} "
                f"(sigma {self._sigmas[number - 1]:.3g} to {self._sigmas[number]:.3g})"
            )
        return f"{self._solver}: the state is not finite {where}; {cause}"


def check_measurement(solver: str, problem: Problem) -> None:
    """Refuse data that are not finite: a method that rejects bad steps would hide them.

    :raises NumericalError: measured values, or ``A^T y`` of a linear operator, are not.
    """
    bad = int((~torch.isfinite(problem._y)).sum())
    if bad:
        raise NumericalError(
            f"{solver}: the measurement y is not finite before step 1: {bad} of "
            f"{problem._y.numel()} values; check the file, or leave them out by the operator's mask"
        )
    if isinstance(problem.physics, LinearPhysics):
        with torch.no_grad():
            if not bool(torch.isfinite(problem.aty).all()):
                raise NumericalError(f"{solver}: A^T y is not finite before step 1; {_OPERATOR}")


def check_misfit(solver: str, misfit: Tensor) -> Tensor:
    """Return the misfit of the samples of a block if it is finite.

    :raises NumericalError: it is not, for finite samples: the operator is broken.
    """
    if not bool(torch.isfinite(misfit).all()):
        raise NumericalError(
            f"{solver}: the residual y - A x is not finite after the last step, for finite x; "
            f"{_OPERATOR}"
        )
    return misfit


_OPERATOR = "check the operator (sciinv.operators.testing.check_operator) and its noise level"
_STATE = "check the noise level, the intensity scale and the prior's noise range"


def find_cause(
    evaluate: Callable[[Tensor, float], Tensor],
    before: Tensor,
    levels: Sequence[float],
    problem: Problem,
) -> str:
    """Name the first quantity of a step that is not finite, and what to check.

    :param evaluate: the denoiser ``D(x, sigma)``.
    :param before: the last finite state.
    :param levels: its noise level and those after it, where some methods call the prior too.
    """

    def bad(x: Tensor) -> bool:
        return not bool(torch.isfinite(x).all())

    with torch.no_grad():
        estimates = {level: evaluate(before, level) for level in levels if level > 0}
        for level, estimate in estimates.items():
            if bad(estimate):
                return (
                    f"the prior's output D(x, {level:.3g}) is not; check its noise range and "
                    "weights, and the intensity scale"
                )
        estimate = estimates[levels[0]]
        if bad(problem.A(estimate)):
            return f"A D is not, for a finite image D; {_OPERATOR}"
        if bad(problem.score(estimate)[0]):
            return "the gradient of log p(y | A D) is not; check the noise level and the units of y"
    return f"the method's own update is not, for finite D and A; {_STATE}"
