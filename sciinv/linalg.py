"""Linear algebra on batches in which every row is its own problem.

Scalars (step sizes, norms, stopping) are per row: a row's result does not depend on its
neighbours. Inner products are accumulated in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# BLAS adds one by one in a few lanes: 2e-6 off at this length, 2e-4 at twenty times as many; sums
# elsewhere are in pairs
_LONGEST_DOT = 2**20
_TINY = torch.finfo(torch.float64).tiny


def row_dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row, ``(R, ...) x (R, ...) -> (R,)``, accumulated in float64."""
    left = a.flatten(1).double()
    right = left if b is a else b.flatten(1).double()
    return torch.linalg.vecdot(left, right, dim=1)


def quick_dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row in the dtype of the vectors, ``(R,)`` float64.

    Good to a few units of rounding (2e-6 in float32), and three times as fast as :func:`row_dot`.
    For lengths and step sizes; not where such numbers cancel, nor for float32 vectors whose squares
    leave its range.
    """
    if _is_short_row(a):
        return torch.dot(a.reshape(-1), b.reshape(-1)).double().reshape(1)
    return (a * b).flatten(1).sum(1).double()


def host_dot(a: Tensor, b: Tensor) -> list[float]:
    """:func:`quick_dot` as plain numbers, one a row; waits for the device of the vectors."""
    if _is_short_row(a):
        return [torch.dot(a.reshape(-1), b.reshape(-1)).item()]
    found: list[float] = quick_dot(a, b).tolist()
    return found


def _is_short_row(a: Tensor) -> bool:
    """Tell whether BLAS may add up the row, see :data:`_LONGEST_DOT`."""
    return a.shape[0] == 1 and a.numel() <= _LONGEST_DOT and a.device.type == "cpu"


def row_scale(scalars: Tensor, like: Tensor) -> Tensor:
    """Shape ``(R,)`` scalars so that they multiply the rows of ``like``, in its dtype."""
    return scalars.to(like.dtype).reshape(-1, *([1] * (like.ndim - 1)))


def add_rows(a: Tensor, scales: Sequence[float] | Tensor, b: Tensor, *, out: Tensor) -> Tensor:
    """Write ``a + scale b`` of each row into ``out``, which may be ``a`` or ``b``.

    :param scales: ``(R,)``. One on the CPU is taken as a plain number, a third of the cost.
    """
    if len(scales) == 1 and a.device.type == "cpu":
        return torch.add(a, b, alpha=float(scales[0]), out=out)
    values = scales if isinstance(scales, Tensor) else a.new_tensor(scales)
    return torch.addcmul(a, row_scale(values, a), b, out=out)


@dataclass(frozen=True)
class CGInfo:
    """How a conjugate-gradient run ended: iterations and relative residual per row."""

    iterations: int
    relative_residual: Tensor


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    x0: Tensor | None = None,
    *,
    max_iter: int = 50,
    tol: float | Tensor = 1e-6,
) -> tuple[Tensor, CGInfo]:
    """Solve ``apply(x) = b`` for a symmetric positive definite map, each row on its own.

    A row that has converged, or whose curvature is not positive (the map is not positive definite
    there), keeps its current iterate. A row that meets numbers that are not finite becomes NaN: it
    must not pass for converged.

    :param apply: symmetric positive definite map on tensors of the shape of ``b``.
    :param b: right-hand side ``(R, ...)``.
    :param x0: start, zero by default.
    :param tol: stop when the residual is below ``tol`` times the norm of ``b``; one number, or
        one per row ``(R,)``.
    """
    # the iterates are this function's own: they change in place unless a gradient has to come back
    own = not (torch.is_grad_enabled() and (b.requires_grad or _needs_gradient(x0)))
    return _conjugate_gradient(apply, b, x0, max_iter, tol, own)


def _conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    x0: Tensor | None,
    max_iter: int,
    tol: float | Tensor,
    own: bool,
) -> tuple[Tensor, CGInfo]:
    rows = _OneRow() if own and b.shape[0] == 1 and b.device.type == "cpu" else _Rows(own)
    if x0 is None:
        x, r = torch.zeros_like(b), b.clone()
    else:
        x, r = x0.clone(), b - apply(x0)
    p = r.clone()
    bb = rows.dot(b, b)
    rr = bb if x0 is None else rows.dot(r, r)
    limit = rows.limit(tol, bb)
    going: Any = True
    iterations = 0
    for iteration in range(1, max_iter + 1):
        active = going & (rr > limit)
        # one host synchronisation an iteration; it saves whole operator calls
        if not rows.any(active):
            break
        iterations = iteration
        ap = apply(p)
        if own and ap.requires_grad:  # the map has parameters that want a gradient
            return _conjugate_gradient(apply, b, x0, max_iter, tol, own=False)
        curvature = rows.dot(p, ap)
        # curvature that is no number goes on: it makes the whole row NaN
        going = active & rows.invert(curvature <= 0)
        length = rows.ratio(rr, curvature, going)
        x = rows.add(x, length, p, out=x)
        r = rows.add(r, -length, ap, out=r)
        new = rows.dot(r, r)
        p = rows.add(r, rows.ratio(new, rr, going), p, out=p)
        rr = new
    residual, size = (
        torch.as_tensor(v, dtype=torch.float64, device=b.device).reshape(-1) for v in (rr, bb)
    )
    if not bool(residual.isfinite().all()):
        x = torch.where(row_scale(residual.isfinite(), x) != 0, x, torch.nan)
    return x, CGInfo(iterations, (residual / size.clamp_min(_TINY)).sqrt())


class _Rows:
    """The scalars of conjugate gradients, ``(R,)`` tensors: nothing waits for a device.

    :param own: vectors may be overwritten.
    """

    def __init__(self, own: bool) -> None:
        self.own = own

    def limit(self, tol: float | Tensor, square: Any) -> Any:  # noqa: ANN401
        return (tol * tol) * square

    def any(self, flags: Any) -> bool:  # noqa: ANN401
        return bool(flags.any())

    def invert(self, flags: Any) -> Any:  # noqa: ANN401
        return ~flags

    def dot(self, a: Tensor, b: Tensor) -> Any:  # noqa: ANN401
        return row_dot(a, b)

    def ratio(self, top: Any, bottom: Any, going: Any) -> Any:  # noqa: ANN401
        """Divide where a row goes on; 0 elsewhere."""
        return torch.where(going, top / bottom, 0.0)

    def add(self, a: Tensor, scale: Any, b: Tensor, out: Tensor) -> Tensor:  # noqa: ANN401
        """Return ``a + scale b``."""
        if self.own:
            return add_rows(a, scale, b, out=out)
        return torch.addcmul(a, row_scale(scale, a), b)


class _OneRow(_Rows):
    """The same for one row on the CPU: plain floats, a fifth of the cost of one-number tensors."""

    def __init__(self) -> None:
        super().__init__(own=True)

    def limit(self, tol: float | Tensor, square: Any) -> Any:  # noqa: ANN401
        return float(tol) ** 2 * square

    def any(self, flags: Any) -> bool:  # noqa: ANN401
        return bool(flags)

    def invert(self, flags: Any) -> Any:  # noqa: ANN401
        return not flags

    def dot(self, a: Tensor, b: Tensor) -> Any:  # noqa: ANN401
        value = host_dot(a, b)[0]
        # squares may leave the range of float32, at both ends
        return value if 1e-16 < abs(value) < 1e16 else float(row_dot(a, b))

    def ratio(self, top: Any, bottom: Any, going: Any) -> Any:  # noqa: ANN401
        return top / bottom if going else 0.0

    def add(self, a: Tensor, scale: Any, b: Tensor, out: Tensor) -> Tensor:  # noqa: ANN401
        return torch.add(a, b, alpha=scale, out=out)


def _needs_gradient(x: Tensor | None) -> bool:
    return x is not None and x.requires_grad
