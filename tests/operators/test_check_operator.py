"""check_operator must find what is wrong: every test here breaks an operator on purpose."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import MRI, Blur, LinearPhysics, MultiCoilMRI

from sciinv.operators import CartesianMRI
from sciinv.operators.base import LinearOperator
from sciinv.operators.testing import CheckError, check_operator


class Weights(LinearOperator):
    """Pixelwise weights: a correct operator to break."""

    batch_buffers = ("weight",)

    def __init__(self, **broken):
        super().__init__((3, 4), channels=1, measurement_shape=(1, 3, 4))
        g = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.rand(1, 1, 3, 4, generator=g) + 0.5)
        self.broken = broken

    def A(self, x):
        self.check_image(x)
        y = self.weight.to(x.dtype) * x
        return self.broken.get("A", lambda x, y: y)(x, y)

    def A_adjoint(self, y):
        if not self.broken.get("accept"):
            self.check_measurement(y)
        x = self.weight.to(y.dtype) * y
        return self.broken.get("A_adjoint", lambda y, x: x)(y, x)

    def A_adjoint_A(self, x):
        return self.broken.get("normal", 1.0) * self.A_adjoint(self.A(x))

    def rows(self, index):
        return Weights(A=lambda x, y: 2 * y).to(torch.float64) if "rows" in self.broken else self

    @property
    def measurement_mask(self):
        return self.broken.get("mask")

    def summary(self):
        return {} if "summary" in self.broken else super().summary()


def test_a_correct_operator_passes():
    assert max(check_operator(Weights()).values()) < 1e-15


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ({"A": lambda x, y: y + 1e-8}, "linearity of A:"),
        ({"A": lambda x, y: y + 1e-7 * x.square()}, "linearity of A:"),
        ({"A": lambda x, y: y.float()}, "dtype and device: A"),
        ({"A": lambda x, y: y.detach()}, "gradient"),
        ({"A": lambda x, y: y.transpose(2, 3).contiguous().transpose(2, 3)}, "not contiguous"),
        ({"A": lambda x, y: y - y.mean(0, keepdim=True)}, "batch against rows"),
        ({"A": lambda x, y: x.mul_(2) * 0 + y}, "inputs unchanged"),
        ({"A": lambda x, y: 0 * y}, "not zero"),
        ({"A": lambda x, y: y / 0}, "finite"),
        ({"A_adjoint": lambda y, x: x * (1 + 1e-8)}, "adjoint:"),
        ({"A_adjoint": lambda y, x: x.flip(-1)}, "dense matrices"),
        ({"A_adjoint": lambda y, x: x[..., :-1]}, "shapes: A_adjoint"),
        ({"normal": 1 + 1e-8}, "A_adjoint_A"),
        ({"rows": True}, "batch against rows"),
        ({"mask": torch.tensor([1.0, 0, 1, 1])}, "measurement_mask"),
        ({"accept": True}, "refusals: A_adjoint: accepted"),
        ({"summary": True}, "summary"),
    ],
)
def test_finds_the_fault(broken, text):
    with pytest.raises(CheckError, match=text):
        check_operator(Weights(**broken))


def test_lists_every_failure_at_once():
    with pytest.raises(CheckError) as caught:
        check_operator(Weights(normal=2.0, summary=True, accept=True))
    for text in ("A_adjoint_A", "summary", "accepted no batch axis", "failed:"):
        assert text in str(caught.value)


def test_finds_a_wrong_centre():
    class Uncentred(CartesianMRI):
        def V_adjoint(self, x):
            return super().V_adjoint(x.roll(1, -1))

    with pytest.raises(CheckError, match="svd: A"):
        check_operator(Uncentred((4, 6), torch.ones(4, 6).tril()))


def test_does_not_change_the_operator_or_the_global_generator():
    physics = CartesianMRI((4, 6))
    before, state = physics.mask.clone(), torch.get_rng_state()
    check_operator(physics)
    assert physics.mask.dtype == torch.float32
    torch.testing.assert_close(physics.mask, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_single_precision_with_its_own_tolerance():
    # float32 rounds to 6e-8; sums over a few hundred numbers stay within 1e-5
    maps = torch.randn(3, 12, 10, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    physics = CartesianMRI((12, 10), None, maps)
    errors = check_operator(physics, dtype=torch.float32, rtol=1e-5)
    assert errors["linearity of A"] > 1e-9
    with pytest.raises(CheckError):
        check_operator(physics, dtype=torch.float32, rtol=1e-10)


def test_deepinv_operators():
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 3, 8, 6, dtype=torch.complex128, generator=g)
    multi = MultiCoilMRI(coil_maps=maps, mask=torch.ones(8, 6, dtype=torch.float64).tril())
    multi.img_size = (2, 8, 6)
    kernel = torch.rand(1, 1, 3, 3, generator=g)
    blur = Blur(filter=kernel, padding="circular")
    blur.img_size = (1, 8, 6)
    check_operator(blur)
    check_operator(MRI(img_size=(2, 8, 6)))
    wrong = LinearPhysics(A=lambda x: 2 * x, A_adjoint=lambda y: y, img_size=(1, 4, 4))
    with pytest.raises(CheckError, match=r"deepinv operator\): "):
        check_operator(wrong)
    with pytest.raises(CheckError, match="img_size"):
        check_operator(LinearPhysics(A=lambda x: x, A_adjoint=lambda y: y))
