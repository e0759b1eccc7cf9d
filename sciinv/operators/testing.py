"""Public checks of operators: run :func:`check_operator` on your own ones."""

from __future__ import annotations

import copy
import math

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from sciinv.capabilities import Capability, operator_capabilities
from sciinv.errors import SciinvError
from sciinv.linalg import row_dot
from sciinv.operators._nonlinear import check_nonlinear
from sciinv.operators._report import CheckError, Report, check_refusals, check_words
from sciinv.operators.base import LinearOperator, Operator

__all__ = ["CheckError", "check_operator"]


def check_operator(
    op: Physics,
    *,
    rtol: float = 1e-10,
    dtype: torch.dtype = torch.float64,
    batch: int = 3,
    dense_limit: int = 600,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """Check that an operator does what its kind promises and keeps the conventions.

    Of a **linear** operator (deepinv ``LinearPhysics``) are checked, on a copy in ``dtype`` on the
    operator's device: shapes, dtype and device in both directions; linearity; the adjoint by inner
    products, relative to ``|Ax| |y|``; ``A_adjoint_A`` against the two maps in sequence; the
    gradient of ``|Ax - y|^2 / 2`` by autograd against the adjoint and central differences (exact
    for a quadratic); the derivative of the adjoint; a batch against its rows one by one; the dense
    matrices of both maps where the image has at most ``dense_limit`` numbers; that inputs are left
    unchanged. Of sciinv's operators also: ``rows`` and ``repeat``; the measurement mask; refusal of
    wrong shapes and of complex tensors; ``repr`` and ``summary``; and, where declared, the
    closed-form prox and the singular value decomposition.

    Of a **non-linear** one: shapes, dtype, device; ``A_vjp`` against autograd through ``A``,
    linear in its vector, and against central differences whose error falls with the step (at most
    1e-6 in float64, 1e-2 in float32; the whole Jacobian where the image has at most
    ``dense_limit`` numbers); finite values and derivatives for an image of zeros; a batch against
    its rows; inputs left unchanged. Of sciinv's also rows, repeat, mask, refusals and words.

    :param op: the operator; one of deepinv needs ``img_size``.
    :param rtol: largest relative error where the check is exact but for rounding.
    :param dtype: real dtype of the check; use ``torch.float32`` and ``rtol=1e-4`` for backends
        without double precision.
    :param batch: number of images where the operator does not fix it.
    :param generator: source of the test images, seeded with zero by default.
    :returns: the largest relative error of each check (0 for checks without a number).
    :raises CheckError: listing everything that failed.
    """
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    report = Report(rtol)
    buffer = next(op.buffers(), None)
    device = torch.device("cpu") if buffer is None else buffer.device
    op = copy.deepcopy(op).to(dtype)
    ours = isinstance(op, LinearOperator)
    if isinstance(op, Operator) and op.batch > 1:
        batch = op.batch
    size = tuple(getattr(op, "img_size", None) or ())
    if not size:
        raise CheckError(f"{type(op).__name__}: img_size is not set")

    if not isinstance(op, LinearPhysics):
        return check_nonlinear(op, size, report, dtype, device, batch, dense_limit, generator)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).to(device)

    x, x2 = draw((batch, *size)), draw((batch, *size))
    try:
        ax = op.A(x.clone())
        if not isinstance(ax, Tensor):
            raise CheckError(f"{type(op).__name__}: A returned {type(ax).__name__}, not a tensor")
        y = draw(tuple(ax.shape))
        aty = op.A_adjoint(y.clone())
    except SciinvError:
        raise
    except Exception as error:
        raise CheckError(f"{type(op).__name__}: A or A_adjoint raised {error!r}") from error

    def shapes() -> None:
        if isinstance(op, LinearOperator):
            expected = (batch, *op.measurement_shape)
            report.true(
                "shapes",
                tuple(ax.shape) == expected,
                f"A: found {tuple(ax.shape)}, expected {expected}",
            )
            report.true(
                "shapes", ax.is_contiguous() and aty.is_contiguous(), "an output is not contiguous"
            )
        report.true(
            "shapes",
            aty.shape == x.shape,
            f"A_adjoint: found {tuple(aty.shape)}, expected {tuple(x.shape)}",
        )
        for name, value in (("A", ax), ("A_adjoint", aty)):
            report.true(
                "dtype and device",
                value.dtype == dtype and value.device.type == device.type,
                f"{name}: found {value.dtype} on {value.device}, expected {dtype} on {device}",
            )
        report.true(
            "finite",
            bool(torch.isfinite(ax).all() and torch.isfinite(aty).all()),
            "A or A_adjoint returned NaN or Inf",
        )
        report.true(
            "not zero",
            bool(ax.abs().sum() > 0 and aty.abs().sum() > 0),
            "A or A_adjoint returned zero for a random input",
        )
        before_x, before_y = x.clone(), y.clone()
        op.A(x), op.A_adjoint(y), op.A_adjoint_A(x)
        report.true(
            "inputs unchanged",
            torch.equal(x, before_x) and torch.equal(y, before_y),
            "an input was changed in place",
        )
        report.true(
            "deterministic",
            torch.allclose(op.A(x), ax, rtol=rtol, atol=0.0) or torch.allclose(op.A(x), ax),
            "A gave two results for one image",
        )

    def linear() -> None:
        report.compare("linearity of A", op.A(2.5 * x - 0.75 * x2), 2.5 * ax - 0.75 * op.A(x2))
        report.compare(
            "linearity of A_adjoint",
            op.A_adjoint(2.5 * y - 0.75 * ax),
            2.5 * aty - 0.75 * op.A_adjoint(ax),
        )

    def adjoint() -> None:
        left, right = row_dot(ax, y), row_dot(x, aty)
        scale = row_dot(ax, ax).sqrt() * row_dot(y, y).sqrt()
        report.number("adjoint", float(((left - right).abs() / scale).max()))

    def normal() -> None:
        report.compare("A_adjoint_A", op.A_adjoint_A(x), op.A_adjoint(ax))
        if isinstance(op, LinearOperator):
            report.compare("normal", op.normal(x), op.A_adjoint(ax))

    def gradient() -> None:
        leaf = x.clone().requires_grad_()
        half = 0.5 * (op.A(leaf) - y).square().sum()
        (found,) = torch.autograd.grad(half, leaf)
        report.compare("gradient of A", found, op.A_adjoint(ax - y))
        # the central difference of a quadratic is exact for any step, so the step is one
        plus = 0.5 * (op.A(x + x2) - y).double().square().sum()
        minus = 0.5 * (op.A(x - x2) - y).double().square().sum()
        slope = float((found.double() * x2.double()).sum())
        report.number(
            "finite difference", abs(float(plus - minus) / 2 - slope) / float(plus + minus)
        )
        leaf = y.clone().requires_grad_()
        (found,) = torch.autograd.grad((op.A_adjoint(leaf) * x).sum(), leaf)
        report.compare("gradient of A_adjoint", found, ax)
        leaf = x.clone().requires_grad_()
        (found,) = torch.autograd.grad((op.A_adjoint_A(leaf) * x2).sum(), leaf)
        report.compare("gradient of A_adjoint_A", found, op.A_adjoint(op.A(x2)))

    def batches() -> None:
        for row in range(batch):
            one, part = op, slice(row, row + 1)
            if isinstance(op, LinearOperator):
                one = op.rows(torch.tensor([row]))
            report.compare("batch against rows: A", one.A(x[part]), ax[part])
            report.compare("batch against rows: A_adjoint", one.A_adjoint(y[part]), aty[part])
            report.compare(
                "batch against rows: A_adjoint_A", one.A_adjoint_A(x[part]), op.A_adjoint_A(x)[part]
            )
        if isinstance(op, LinearOperator):
            twice = op.repeat(2)
            report.compare("repeat", twice.A(torch.cat([x, x2])), torch.cat([ax, op.A(x2)]))

    def dense() -> None:
        n, m = math.prod(size), math.prod(ax.shape[1:])
        if n > dense_limit or m > 16 * dense_limit:
            return
        one = op.rows(torch.tensor([0])) if isinstance(op, LinearOperator) else op
        forward = one.A(torch.eye(n, dtype=dtype, device=device).reshape(n, *size)).flatten(1).T
        columns = [
            one.A_adjoint(block.reshape(-1, *ax.shape[1:])).flatten(1)
            for block in torch.split(torch.eye(m, dtype=dtype, device=device), 512)
        ]
        report.compare("dense matrices", torch.cat(columns), forward)
        report.compare(
            "dense product", (forward @ x[0].flatten()).reshape(ax[:1].shape), one.A(x[:1])
        )

    def declared() -> None:
        found = operator_capabilities(op)
        z = x2
        if Capability.PROX in found:
            for gamma in (0.3, 40.0):
                prox = op.prox_l2(z, y, gamma)
                report.compare("prox_l2", gamma * (op.A_adjoint(op.A(prox) - y)) + prox, z)
        if Capability.SVD in found:
            spectrum = op.V_adjoint(x)
            report.compare("svd: A", op.U(op.mask * spectrum), ax)
            report.compare("svd: V", op.V(spectrum), x)
            report.number(
                "svd: V is orthogonal",
                float(((row_dot(spectrum, spectrum) / row_dot(x, x)) - 1).abs().max()),
            )

    def conventions() -> None:
        if not isinstance(op, LinearOperator):
            return
        mask = op.measurement_mask
        if mask is not None:
            report.compare("measurement_mask of A", mask.to(ax) * ax, ax)
            report.compare("measurement_mask of A_adjoint", op.A_adjoint(mask.to(y) * y), aty)
        check_refusals(report, "A", op.A, x)
        check_refusals(report, "A_adjoint", op.A_adjoint, y)
        check_words(report, op)

    for name, function in (
        ("shapes", shapes), ("linearity", linear), ("adjoint", adjoint), ("normal", normal),
        ("gradient", gradient), ("batches", batches), ("dense matrices", dense),
        ("declared", declared), ("conventions", conventions),
    ):  # fmt: skip
        report.attempt(name, function)
    return report.finish(type(op).__name__ + ("" if ours else " (a deepinv operator)"))
