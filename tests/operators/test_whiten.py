from __future__ import annotations

import pytest
import torch
from deepinv.physics import Blur, GaussianNoise, Physics, PoissonNoise

from sciinv.capabilities import Capability, noise_capabilities
from sciinv.errors import GeometryError, IncompatibleError
from sciinv.operators import CartesianMRI, noise_sigma, whiten
from sciinv.operators.testing import check_operator

SHAPE = (6, 7)


def generator():
    return torch.Generator().manual_seed(5)


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=generator())


def multi_coil(batch=1):
    mask = (torch.rand(batch, *SHAPE, generator=generator()) < 0.7).double()
    mask[:, :, 3] = 1
    return CartesianMRI(SHAPE, mask, torch.complex(draw(2, *SHAPE), draw(2, *SHAPE)))


@pytest.mark.parametrize(
    "shape", [(), (2, 2, *SHAPE), (2, 1, 1), SHAPE, (1, 2, 2, *SHAPE), (3, 1, 1, *SHAPE)]
)
def test_whitened_operator_passes_the_checks(shape):
    std = 0.5 + torch.rand(shape, generator=generator(), dtype=torch.float64)
    errors = check_operator(whiten(multi_coil(), std))
    assert errors["adjoint"] < 1e-14


def test_equals_the_dense_product():
    physics = CartesianMRI((3, 4), dtype=torch.float64)
    std = 0.5 + torch.rand(2, 3, 4, generator=generator(), dtype=torch.float64)
    std[0, 1, 2], std[1, 0, 0], std[1, 2, 3] = torch.inf, torch.nan, 0.0
    op = whiten(physics, std)
    eye = torch.eye(24, dtype=torch.float64).reshape(24, 2, 3, 4)
    matrix = physics.A(eye).flatten(1).T
    inverse = 1 / std.flatten()
    inverse[~torch.isfinite(inverse)] = 0
    expected = inverse[:, None] * matrix
    found = op.A(eye).flatten(1).T
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    normal = op.normal(eye).flatten(1).T
    torch.testing.assert_close(normal, expected.T @ expected, rtol=0, atol=1e-13)
    assert op.measurement_count() == 21


def test_whitened_noise_has_level_one():
    # 2 x 2 x 4000 draws: the standard error of the standard deviation is std / sqrt(2 n)
    physics = CartesianMRI((40, 100), dtype=torch.float64)
    std = 0.1 + torch.rand(2, 40, 100, generator=generator(), dtype=torch.float64)
    op = whiten(physics, std)
    x = draw(2, 2, 40, 100)
    y = physics.A(x) + std * torch.randn(2, 2, 40, 100, generator=generator(), dtype=torch.float64)
    residual = op.whiten_measurement(y) - op.A(x)
    assert abs(float(residual.std()) - 1) < 4 / (2 * residual.numel()) ** 0.5
    assert noise_sigma(op) == 1.0
    assert noise_capabilities(op) == {
        Capability.GAUSSIAN,
        Capability.LIKELIHOOD,
        Capability.WHITE,
    }


def test_masked_samples_may_be_nan():
    std = torch.ones(2, *SHAPE, dtype=torch.float64)
    std[:, 2, 2] = torch.inf
    op = whiten(CartesianMRI(SHAPE, dtype=torch.float64), std)
    y = draw(1, 2, *SHAPE)
    y[..., 2, 2] = torch.nan
    white = op.whiten_measurement(y)
    assert torch.isfinite(white).all()
    assert torch.isfinite(op.A_adjoint(white)).all()


def test_rows_follow_weights_and_inner_operator():
    std = 0.5 + torch.rand(3, 1, 1, *SHAPE, generator=generator(), dtype=torch.float64)
    for op in (whiten(multi_coil(3), std), whiten(multi_coil(3), 2.0), whiten(multi_coil(), std)):
        assert op.batch == 3
        x = draw(3, 2, *SHAPE)
        y = op.A(x)
        part = op.rows(torch.tensor([2, 0]))
        torch.testing.assert_close(part.A(x[[2, 0]]), y[[2, 0]], rtol=0, atol=1e-14)
        torch.testing.assert_close(
            op.repeat(2).A(torch.cat([x, x])), torch.cat([y, y]), rtol=0, atol=1e-14
        )


def test_deepinv_inner_operator():
    kernel = torch.rand(1, 1, 3, 3, generator=generator(), dtype=torch.float64)
    inner = Blur(filter=kernel, padding="circular", img_size=(1, 8, 9))
    inner.img_size = (1, 8, 9)
    op = whiten(inner.to(torch.float64), 0.5 + torch.rand(8, 9, generator=generator()).double())
    assert op.image_shape == (8, 9)
    assert op.channels == 1
    assert check_operator(op)["adjoint"] < 1e-14


@pytest.mark.parametrize("std", [torch.ones(5), torch.ones(2, 2, 2, 2, *SHAPE)])
def test_refuses_shapes_that_do_not_broadcast(std):
    with pytest.raises(GeometryError, match="std: found shape"):
        whiten(multi_coil(), std)


def test_refuses_a_scan_without_samples_and_other_batches():
    with pytest.raises(GeometryError, match="every sample is masked"):
        whiten(multi_coil(), torch.inf)
    with pytest.raises(GeometryError, match="batch of 2, expected 3"):
        whiten(multi_coil(3), torch.ones(2, 1, 1, 1, 1))
    with pytest.raises(IncompatibleError, match="expected a LinearPhysics"):
        whiten(Physics(), 1.0)


def test_the_function_is_not_hidden_by_a_module():
    import sciinv.operators
    import sciinv.operators.whitening

    assert callable(sciinv.operators.whiten)
    for name in sciinv.operators.__all__:
        assert type(getattr(sciinv.operators, name)).__name__ != "module"


def test_noise_level_is_read_at_call_time_and_never_guessed():
    physics = CartesianMRI(SHAPE)
    with pytest.raises(IncompatibleError, match="unknown noise: set physics.noise_model"):
        noise_sigma(physics)
    assert noise_sigma(physics, noiseless=True) == 0.0
    physics.noise_model = GaussianNoise(0.25)
    assert noise_sigma(physics) == 0.25
    physics.noise_model = GaussianNoise(0.5)
    assert noise_sigma(physics) == 0.5
    physics.noise_model = GaussianNoise(torch.ones(3))
    with pytest.raises(IncompatibleError, match="whiten"):
        noise_sigma(physics)
    physics.noise_model = PoissonNoise(0.1)
    with pytest.raises(IncompatibleError, match="PoissonNoise"):
        noise_sigma(physics)
    physics.noise_model = GaussianNoise(0.0)
    with pytest.raises(IncompatibleError, match="positive"):
        noise_sigma(physics)
