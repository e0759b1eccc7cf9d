"""The checks of non-linear operators; :func:`sciinv.operators.testing.check_operator` runs them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from deepinv.physics import Physics
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.errors import SciinvError
from sciinv.operators._report import CheckError, Report, check_refusals, check_words
from sciinv.operators.base import NonlinearOperator

# steps of the central differences, and the largest error of the best of them: the error falls with
# the square of the step until rounding, divided by the step, takes over
_STEPS = {torch.float64: (1e-2, 1e-3, 1e-4, 1e-5), torch.float32: (1e-1, 3e-2, 1e-2)}
_LIMIT = {torch.float64: 1e-6, torch.float32: 1e-2}


def check_nonlinear(
    op: Physics,
    size: tuple[int, ...],
    report: Report,
    dtype: torch.dtype,
    device: torch.device,
    batch: int,
    dense_limit: int,
    generator: torch.Generator,
) -> dict[str, float]:
    """Run the checks on ``op``, which is already a copy in ``dtype``.

    :param size: shape of the image without the batch.
    :raises CheckError: listing everything that failed.
    """
    name = type(op).__name__
    ours = isinstance(op, NonlinearOperator)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).to(device)

    x, x2 = draw((batch, *size)), draw((batch, *size))
    try:
        ax = op.A(x.clone())
        if not isinstance(ax, Tensor):
            raise CheckError(f"{name}: A returned {type(ax).__name__}, not a tensor")
        v = draw(tuple(ax.shape))
        back = op.A_vjp(x.clone(), v.clone())
    except SciinvError:
        raise
    except Exception as error:
        raise CheckError(f"{name}: A or A_vjp raised {error!r}") from error

    def shapes() -> None:
        if isinstance(op, NonlinearOperator):
            expected = (batch, *op.measurement_shape)
            report.true(
                "shapes",
                tuple(ax.shape) == expected,
                f"A: found {tuple(ax.shape)}, expected {expected}",
            )
            report.true(
                "shapes", ax.is_contiguous() and back.is_contiguous(), "an output is not contiguous"
            )
            report.true(
                "declared",
                Capability.LINEAR not in op.capabilities
                and Capability.DIFFERENTIABLE in op.capabilities,
                f"capabilities: found {sorted(op.capabilities)}, expected differentiable and not "
                "linear",
            )
        report.true(
            "shapes",
            back.shape == x.shape,
            f"A_vjp: found {tuple(back.shape)}, expected {tuple(x.shape)}",
        )
        for what, value in (("A", ax), ("A_vjp", back)):
            report.true(
                "dtype and device",
                value.dtype == dtype and value.device.type == device.type,
                f"{what}: found {value.dtype} on {value.device}, expected {dtype} on {device}",
            )
            report.true("finite", bool(torch.isfinite(value).all()), f"{what}: NaN or Inf")
            report.true("not zero", bool(value.abs().sum() > 0), f"{what}: zero at a random image")
        before_x, before_v = x.clone(), v.clone()
        again = op.A(x)
        op.A_vjp(x, v)
        report.true(
            "inputs unchanged",
            torch.equal(x, before_x) and torch.equal(v, before_v),
            "an input was changed in place",
        )
        report.true(
            "deterministic",
            torch.allclose(again, ax, rtol=report.rtol, atol=0.0) or torch.allclose(again, ax),
            "A gave two results for one image",
        )

    def derivative() -> None:
        leaf = x.clone().requires_grad_()
        (found,) = torch.autograd.grad((op.A(leaf) * v).sum(), leaf)
        report.compare("autograd of A", found, back)
        w = draw(tuple(ax.shape))
        report.compare(
            "linearity of A_vjp",
            op.A_vjp(x, 2.5 * v - 0.75 * w),
            2.5 * back - 0.75 * op.A_vjp(x, w),
        )

    def differences() -> None:
        # along one direction, weighted by the difference itself: nothing can cancel in the product
        errors = []
        for h in _STEPS[dtype]:
            slope = (op.A(x + h * x2) - op.A(x - h * x2)).double() / (2 * h)
            found = (op.A_vjp(x, slope.to(dtype)).double() * x2.double()).sum()
            norm = slope.square().sum()
            errors.append(float((found - norm).abs() / norm))
        report.number("central differences", min(errors), limit=_LIMIT[dtype])
        n, m = math.prod(size), math.prod(ax.shape[1:])
        if n > dense_limit or m > 16 * dense_limit or dtype != torch.float64:
            return
        one = op.rows(torch.tensor([0])) if isinstance(op, NonlinearOperator) else op
        h = _STEPS[dtype][-1]
        eye = torch.eye(n, dtype=dtype, device=device).reshape(n, *size)
        # chunks, since the operator makes n measurements at once
        columns = [
            (one.A(x[:1] + h * part) - one.A(x[:1] - h * part)).flatten(1) / (2 * h)
            for part in torch.split(eye, 64)
        ]
        rows = [
            one.A_vjp(x[:1].expand(len(part), *size).contiguous(), part).flatten(1)
            for part in torch.split(
                torch.eye(m, dtype=dtype, device=device).reshape(m, *ax.shape[1:]), 64
            )
        ]
        jacobian, expected = torch.cat(rows), torch.cat(columns).T
        error = float((jacobian - expected).norm() / expected.norm())
        report.number("dense Jacobian", error, limit=_LIMIT[dtype])

    def zero() -> None:
        leaf = torch.zeros_like(x).requires_grad_()
        at_zero = op.A(leaf)
        (found,) = torch.autograd.grad((at_zero * v).sum(), leaf)
        values = (
            ("A", at_zero),
            ("the gradient by autograd", found),
            ("A_vjp", op.A_vjp(torch.zeros_like(x), v)),
        )
        for what, value in values:
            report.true(
                "image of zeros", bool(torch.isfinite(value).all()), f"{what} is NaN or Inf"
            )

    def batches() -> None:
        for row in range(batch):
            one, part = op, slice(row, row + 1)
            if isinstance(op, NonlinearOperator):
                one = op.rows(torch.tensor([row]))
            report.compare("batch against rows: A", one.A(x[part]), ax[part])
            report.compare("batch against rows: A_vjp", one.A_vjp(x[part], v[part]), back[part])
        if isinstance(op, NonlinearOperator):
            twice = op.repeat(2)
            report.compare("repeat", twice.A(torch.cat([x, x2])), torch.cat([ax, op.A(x2)]))

    def conventions() -> None:
        if not isinstance(op, NonlinearOperator):
            return
        mask = op.measurement_mask
        if mask is not None:
            report.compare("measurement_mask of A", mask.to(ax) * ax, ax)
            report.compare("measurement_mask of A_vjp", op.A_vjp(x, mask.to(v) * v), back)
        check_refusals(report, "A", op.A, x)
        check_refusals(report, "A_vjp of the image", lambda bad: op.A_vjp(bad, v), x)
        check_refusals(report, "A_vjp of the vector", lambda bad: op.A_vjp(x, bad), v)
        check_words(report, op)

    groups: tuple[tuple[str, Callable[[], None]], ...] = (
        ("shapes", shapes),
        ("derivative", derivative),
        ("central differences", differences),
        ("image of zeros", zero),
        ("batches", batches),
        ("conventions", conventions),
    )
    for check, function in groups:
        report.attempt(check, function)
    return report.finish(name + ("" if ours else " (a deepinv operator)"))
