from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise, MultiCoilMRI
from deepinv.physics.generator import GaussianMaskGenerator

from sciinv.capabilities import Capability
from sciinv.channels import to_channels, to_complex
from sciinv.errors import GeometryError
from sciinv.operators import CartesianMRI
from sciinv.operators.testing import check_operator

# even, odd, N mod 4 = 2, mixed and three-dimensional
SHAPES = [(8, 12), (6, 10), (5, 7), (6, 7), (9, 4), (1, 4), (4, 6, 5), (2, 6, 4)]


def generator():
    return torch.Generator().manual_seed(3)


def random_mask(batch, shape, soft=False):
    g = generator()
    mask = (torch.rand(batch, *shape, generator=g) < 0.6).double()
    mask[..., 0] = 1
    return mask * (0.2 + torch.rand(batch, *shape, generator=g).double()) if soft else mask


def random_maps(batch, coils, shape, dtype=torch.complex128):
    return torch.randn(batch, coils, *shape, dtype=dtype, generator=generator())


def image(batch, shape, dtype=torch.float64):
    return torch.randn(batch, 2, *shape, dtype=dtype, generator=generator())


def numpy_measurement(x, mask, maps):
    """Centred orthonormal transform as numpy defines it."""
    axes = tuple(range(2 - x.ndim, 0))
    z = (x[:, 0] + 1j * x[:, 1]).numpy()
    if maps is not None:
        z, mask = maps.numpy() * z[:, None], mask[:, None]
    k = np.fft.fftn(np.fft.ifftshift(z, axes=axes), norm="ortho", axes=axes)
    return np.fft.fftshift(k, axes=axes) * mask.numpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("coils", [None, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_equals_numpy_and_passes_check_operator(shape, coils, batch):
    mask = random_mask(batch, shape, soft=True)
    maps = None if coils is None else random_maps(batch, coils, shape)
    physics = CartesianMRI(shape, mask, maps)
    x = image(batch, shape)
    found = to_complex(physics.A(x)).numpy()
    # a few roundings of float64 in the transform of numbers of size one
    np.testing.assert_allclose(found, numpy_measurement(x, mask, maps), rtol=0, atol=1e-13)
    errors = check_operator(physics)
    assert errors["adjoint"] < 1e-14


@pytest.mark.parametrize("shape", [(8, 12), (5, 7), (4, 6, 5)])
def test_equals_deepinv(shape):
    three_d = len(shape) == 3
    mask, maps = random_mask(1, shape), random_maps(1, 3, shape)
    ours = CartesianMRI(shape, mask, maps)
    theirs = MultiCoilMRI(mask=mask[None], coil_maps=maps, three_d=three_d)
    x = image(2, shape)
    y = ours.A(x)
    torch.testing.assert_close(y, theirs.A(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.A_adjoint(y), theirs.A_adjoint(y), rtol=0, atol=1e-12)


def test_float32_equals_deepinv():
    shape = (64, 50)
    mask, maps = random_mask(1, shape).float(), random_maps(1, 4, shape, torch.complex64) / 2
    x = image(2, shape, torch.float32)
    expected = MultiCoilMRI(mask=mask[None], coil_maps=maps).A(x)
    found = CartesianMRI(shape, mask, maps).A(x)
    assert found.dtype == torch.float32
    assert float((found - expected).norm() / expected.norm()) < 1e-6


def test_point_source_has_the_phase_of_its_distance_from_the_centre():
    shape = (6, 9)
    x = torch.zeros(1, 2, *shape, dtype=torch.float64)
    x[0, 0, 4, 7] = 1
    k = to_complex(CartesianMRI(shape, dtype=torch.float64).A(x))[0]
    ky, kx = torch.meshgrid(torch.arange(6) - 3, torch.arange(9) - 4, indexing="ij")
    angle = -2 * torch.pi * (ky.double() * (4 - 3) / 6 + kx.double() * (7 - 4) / 9)
    expected = torch.polar(torch.full_like(angle, 54**-0.5), angle)
    torch.testing.assert_close(k, expected, rtol=0, atol=1e-15)


def test_maps_survive_a_change_of_precision():
    physics = CartesianMRI((6, 7), random_mask(1, (6, 7)), random_maps(1, 2, (6, 7)).cfloat())
    assert physics.coil_maps.dtype == torch.complex64
    double = copy.deepcopy(physics).to(torch.float64)
    assert double.coil_maps.dtype == torch.complex128
    assert double.mask.dtype == torch.float64
    torch.testing.assert_close(double.coil_maps, physics.coil_maps.cdouble(), rtol=0, atol=0)
    x = image(1, (6, 7), torch.float64)
    assert physics.A(x).dtype == torch.float64  # precision follows the image
    torch.testing.assert_close(physics.A(x), double.A(x), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(4, 2), (3, 2)])
def test_gradients_flow_through_maps_and_mask(shape):
    maps, mask = random_maps(1, 2, shape), random_mask(1, shape, soft=True) + 0.1
    x = image(1, shape)

    def forward(pairs, weights):
        return CartesianMRI(shape, weights, torch.view_as_complex(pairs)).A(x)

    def normal(pairs, weights):
        return CartesianMRI(shape, weights, torch.view_as_complex(pairs)).A_adjoint_A(x)

    inputs = (torch.view_as_real(maps).clone().requires_grad_(), mask.clone().requires_grad_())
    assert torch.autograd.gradcheck(forward, inputs)
    assert torch.autograd.gradcheck(normal, inputs)


def test_outputs_are_contiguous_whatever_the_input_layout():
    physics = CartesianMRI((8, 6), None, random_maps(1, 2, (8, 6)).cfloat())
    x = image(3, (8, 6), torch.float32)
    last = x.contiguous(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    for value in (physics.A(last), physics.A_adjoint(physics.A(last)), physics.normal(last)):
        assert value.is_contiguous()
    torch.testing.assert_close(physics.A(last), physics.A(x), rtol=0, atol=0)
    single = CartesianMRI((8, 6))
    for value in (single.A(last), single.A_adjoint(last), single.normal(last), single.V(last)):
        assert value.is_contiguous()


def test_mask_layouts_are_equivalent():
    mask = random_mask(1, (6, 8))[0]
    x = image(2, (6, 8))
    expected = CartesianMRI((6, 8), mask).A(x)
    for layout in (mask.bool(), mask[None], mask[None, None], mask.expand(1, 2, 6, 8)):
        physics = CartesianMRI((6, 8), layout, dtype=torch.float64)
        assert physics.mask.shape == (1, 1, 6, 8)
        torch.testing.assert_close(physics.A(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("mask", "maps", "text"),
    [
        (torch.ones(6, 7), None, "mask"),
        (torch.ones(1, 3, 6, 8), None, "axis 1 of length 3"),
        (torch.zeros(6, 8), None, "without any sample"),
        (-torch.ones(6, 8), None, "negative"),
        (torch.full((6, 8), torch.nan), None, "non-finite"),
        (torch.ones(6, 8, dtype=torch.complex64), None, "real or boolean"),
        (None, torch.ones(2, 6, 8), "coil_maps"),
        (None, torch.ones(2, 6, 7, dtype=torch.complex64), "coil_maps"),
        (torch.ones(3, 6, 8), torch.ones(2, 4, 6, 8, dtype=torch.complex64), "3 masks"),
    ],
)
def test_refuses_contradictions(mask, maps, text):
    with pytest.raises(GeometryError, match=text):
        CartesianMRI((6, 8), mask, maps)


def test_batch_must_match_when_masks_differ():
    physics = CartesianMRI((6, 8), random_mask(2, (6, 8)))
    with pytest.raises(GeometryError, match="batch of 3"):
        physics.A(image(3, (6, 8)))


def test_single_coil_closed_forms():
    mask = random_mask(2, (6, 7), soft=True)
    physics = CartesianMRI((6, 7), mask)
    assert {Capability.SVD, Capability.PROX} <= physics.capabilities
    assert Capability.SVD not in CartesianMRI((6, 7), mask, random_maps(1, 2, (6, 7))).capabilities
    y = physics.A(image(2, (6, 7)))
    x = physics.A_dagger(y)
    torch.testing.assert_close(physics.A(x), y, rtol=0, atol=1e-12)
    # least norm: nothing in the null space
    null = x - physics.V((mask[:, None] > 0) * physics.V_adjoint(x))
    assert float(null.abs().max()) < 1e-12
    # one gamma per row, and no z
    gamma = torch.tensor([0.5, 3.0], dtype=torch.float64)
    prox = physics.prox_l2(None, y, gamma)
    residual = gamma.reshape(2, 1, 1, 1) * physics.A_adjoint(physics.A(prox) - y) + prox
    assert float(residual.abs().max()) < 1e-12


def test_noise_is_added_only_where_there_is_a_measurement():
    mask = random_mask(1, (16, 20))
    physics = CartesianMRI(
        (16, 20), mask, random_maps(1, 3, (16, 20)), noise_model=GaussianNoise(0.1)
    )
    x = torch.zeros(2, 2, 16, 20, dtype=torch.float64)
    y = physics(x)
    seen = physics.measurement_mask.expand_as(y) != 0
    assert torch.all(y[~seen] == 0)
    assert torch.all(y[seen] != 0)
    assert physics.measurement_count() == int(mask.sum()) * 2 * 3


def test_deepinv_mask_generator_updates_the_mask():
    physics = CartesianMRI((16, 20), noise_model=GaussianNoise(0.1))
    parameters = GaussianMaskGenerator(
        img_size=(16, 20), acceleration=4, rng=torch.Generator().manual_seed(0)
    ).step(batch_size=2)
    y = physics(image(2, (16, 20), torch.float32), **parameters, sigma=0.2)
    assert physics.batch == 2
    torch.testing.assert_close(physics.mask, parameters["mask"][:, :1])
    assert torch.all(y[(physics.mask == 0).expand_as(y)] == 0)
    assert float(physics.noise_model.sigma) == pytest.approx(0.2)


def test_update_parameters():
    maps = random_maps(1, 2, (6, 8))
    physics = CartesianMRI((6, 8), None, maps)
    physics.update(coil_maps=2 * maps)
    torch.testing.assert_close(physics.coil_maps, 2 * maps, rtol=0, atol=0)
    with pytest.raises(GeometryError, match="3 coils, expected 2"):
        physics.update(coil_maps=random_maps(1, 3, (6, 8)))
    with pytest.raises(GeometryError, match="expected none"):
        CartesianMRI((6, 8)).update(coil_maps=maps)
    with pytest.raises(TypeError, match="maks"):
        physics.A(image(1, (6, 8)), maks=torch.ones(6, 8))
    physics = CartesianMRI((6, 8), random_mask(2, (6, 8)), maps)
    with pytest.raises(GeometryError, match="batch"):
        physics.update(coil_maps=random_maps(3, 2, (6, 8)))
    torch.testing.assert_close(physics.coil_maps, maps, rtol=0, atol=0)


def test_rows_share_what_all_scans_share():
    physics = CartesianMRI((6, 8), random_mask(3, (6, 8)), random_maps(1, 2, (6, 8)))
    part = physics.rows(torch.tensor([2, 2, 0]))
    assert part.map_pairs is physics.map_pairs
    x = image(3, (6, 8))
    # row i of the part is scan index[i]: put each image into its scan's place, one at a time
    for row, scan in enumerate([2, 2, 0]):
        full = torch.zeros_like(x)
        full[scan] = x[row]
        torch.testing.assert_close(part.A(x)[row], physics.A(full)[scan], rtol=0, atol=1e-13)


def test_summary_names_acceleration_and_coils():
    mask = torch.zeros(8, 12)
    mask[:, ::3] = 1
    fields = CartesianMRI((8, 12), mask, random_maps(1, 5, (8, 12))).summary()
    assert fields["coils"] == "5"
    assert fields["acceleration"] == "3.00"
    assert fields["sampled"].startswith("33.3 % (32 of 96)")


def test_state_dict_round_trip():
    physics = CartesianMRI((6, 8), random_mask(1, (6, 8)), random_maps(1, 2, (6, 8)))
    other = CartesianMRI((6, 8), None, torch.ones(2, 6, 8, dtype=torch.complex128))
    other.load_state_dict(physics.state_dict())
    x = image(1, (6, 8))
    torch.testing.assert_close(other.A(x), physics.A(x), rtol=0, atol=0)
    assert to_channels(physics.coil_maps).shape == (1, 2, 2, 6, 8)
