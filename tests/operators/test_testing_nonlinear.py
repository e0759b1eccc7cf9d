"""check_operator on non-linear operators: every test but three breaks one on purpose."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import Physics

from sciinv.capabilities import Capability
from sciinv.operators.base import NonlinearOperator
from sciinv.operators.testing import CheckError, check_operator


class Cubic(NonlinearOperator):
    """``w x^3 / (1 + x^2)`` pixel by pixel: smooth, with a zero derivative at 0."""

    batch_buffers = ("weight",)

    def __init__(self, batch=1, **broken):
        super().__init__((3, 4), channels=1, measurement_shape=(1, 3, 4))
        g = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.rand(batch, 1, 3, 4, generator=g) + 0.5)
        self.broken = broken

    def A(self, x):
        self.check_image(x)
        y = self.weight.to(x.dtype) * x**3 / (1 + x**2)
        return self.broken.get("A", lambda x, y: y)(x, y)

    def A_vjp(self, x, v):
        if not self.broken.get("accept"):
            self.check_image(x)
            self.check_measurement(v)
        g = v * self.weight.to(x.dtype) * x**2 * (3 + x**2) / (1 + x**2) ** 2
        return self.broken.get("vjp", lambda x, v, g: g)(x, v, g)

    def rows(self, index):
        return (
            Cubic(A=lambda x, y: 2 * y).to(torch.float64)
            if "rows" in self.broken
            else (super().rows(index))
        )

    @property
    def measurement_mask(self):
        return self.broken.get("mask")

    def summary(self):
        return {} if "summary" in self.broken else super().summary()


@pytest.mark.parametrize("batch", [1, 2])
def test_a_correct_operator_passes(batch):
    errors = check_operator(Cubic(batch))
    assert errors.pop("central differences") < 1e-8
    assert errors.pop("dense Jacobian") < 1e-8
    assert max(errors.values()) < 1e-14
    check_operator(Cubic(batch), dtype=torch.float32, rtol=1e-5)


def _detached_factor(x, y):
    return y * (1 + 0.01 * x.detach())


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ({"vjp": lambda x, v, g: g * (1 + 1e-8)}, "autograd of A"),
        ({"vjp": lambda x, v, g: g.flip(-1)}, "dense Jacobian"),
        ({"vjp": lambda x, v, g: -g}, "central differences"),
        ({"vjp": lambda x, v, g: g + 1e-3 * v.square()}, "linearity of A_vjp"),
        ({"vjp": lambda x, v, g: g[..., :-1]}, "shapes: A_vjp"),
        ({"vjp": lambda x, v, g: g.float()}, "dtype and device: A_vjp"),
        ({"vjp": lambda x, v, g: 0 * g}, "not zero: A_vjp"),
        ({"vjp": lambda x, v, g: v.mul_(0) + g}, "inputs unchanged"),
        ({"vjp": lambda x, v, g: g * x / x}, "image of zeros: A_vjp"),
        ({"A": lambda x, y: y * x.abs() / x.abs()}, "image of zeros: A is NaN"),
        ({"A": lambda x, y: y + 1e-3 * (x.square()).sqrt()}, "image of zeros: the gradient"),
        ({"A": lambda x, y: y.detach()}, "derivative: raised"),
        ({"A": lambda x, y: y - y.mean(0, keepdim=True)}, "batch against rows"),
        ({"A": lambda x, y: y.float()}, "dtype and device: A:"),
        ({"A": lambda x, y: y.transpose(2, 3).contiguous().transpose(2, 3)}, "not contiguous"),
        ({"A": lambda x, y: x.mul_(2) * 0 + y}, "inputs unchanged"),
        ({"A": lambda x, y: 0 * y}, "not zero: A:"),
        ({"A": lambda x, y: y / 0}, "finite: A"),
        ({"rows": True}, "batch against rows"),
        ({"mask": torch.tensor([1.0, 0, 1, 1])}, "measurement_mask of A:"),
        ({"accept": True}, "A_vjp of the vector: accepted"),
        ({"summary": True}, "summary"),
    ],
)
def test_finds_the_fault(broken, text):
    with pytest.raises(CheckError, match=text):
        check_operator(Cubic(**broken))


def test_autograd_and_vjp_that_agree_on_a_wrong_derivative_are_caught():
    class Both(Cubic):
        def A_vjp(self, x, v):
            return super().A_vjp(x, v) * (1 + 0.01 * x)

    both = Both(A=_detached_factor)
    # d/dx of y(x) (1 + 0.01 c) with c held fixed: both derivatives say the same and are wrong
    with pytest.raises(CheckError) as caught:
        check_operator(both)
    assert "central differences" in str(caught.value)
    assert "autograd of A" not in str(caught.value)


def test_a_nonlinear_operator_may_not_declare_that_it_is_linear():
    class Liar(Cubic):
        capabilities = Cubic.capabilities | {Capability.LINEAR}

    with pytest.raises(CheckError, match="not linear"):
        check_operator(Liar())


def test_deepinv_operators_and_missing_sizes():
    square = Physics(A=lambda x: x.square())
    with pytest.raises(CheckError, match="img_size"):
        check_operator(square)
    square.img_size = (1, 4, 5)
    errors = check_operator(square)
    assert errors["central differences"] < 1e-10
    root = Physics(A=lambda x: x.abs().sqrt())
    root.img_size = (1, 4, 5)
    with pytest.raises(CheckError, match=r"deepinv operator\): (.|\n)*image of zeros"):
        check_operator(root)
