"""Diffraction operators against NumPy, deepinv, autograd and finite differences."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics, PhaseRetrieval

from sciinv.errors import DataError, GeometryError
from sciinv.operators.phase import (
    CodedDiffraction,
    FourierPhaseRetrieval,
    check_pattern,
    unit,
)
from sciinv.operators.testing import check_operator


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def diversity(count, shape, seed=1):
    return torch.complex(randn(count, *shape, seed=seed), randn(count, *shape, seed=seed + 1))


def plain_field(x, pattern):
    """NumPy's padded, centred, orthonormal transform of one complex image, by the definition."""
    padded = np.zeros(pattern, complex)
    place = tuple(
        slice(large // 2 - small // 2, large // 2 - small // 2 + small)
        for large, small in zip(pattern, x.shape, strict=True)
    )
    padded[place] = x
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(padded), norm="ortho"))


SHAPES = [((4, 6), (8, 12)), ((5, 7), (10, 14)), ((5, 6), (9, 13)), ((4, 5), (4, 5)),
          ((3, 4, 5), (5, 9, 8))]  # fmt: skip


@pytest.mark.parametrize(("image", "pattern"), SHAPES)
@pytest.mark.parametrize("mode", ["amplitude", "intensity"])
def test_equals_numpy(image, pattern, mode):
    masks = diversity(2, image)
    physics = CodedDiffraction(image, masks, pattern_shape=pattern, mode=mode, dtype=torch.float64)
    x = randn(2, 2, *image)
    y = physics.A(x)
    assert y.shape == (2, 2, *pattern)
    for scan in range(2):
        for mask in range(2):
            z = (x[scan, 0] + 1j * x[scan, 1]).numpy() * masks[mask].numpy()
            field = plain_field(z, pattern)
            np.testing.assert_allclose(physics.field(x)[scan, mask], field, atol=1e-13)
            expected = np.abs(field) if mode == "amplitude" else np.abs(field) ** 2
            np.testing.assert_allclose(y[scan, mask], expected, atol=1e-12)


def test_a_delta_in_the_centre_has_a_flat_pattern_and_real_field():
    for image, pattern in SHAPES:
        physics = FourierPhaseRetrieval(image, pattern_shape=pattern, channels=1)
        x = torch.zeros(1, 1, *image)
        x[(0, 0, *(n // 2 for n in image))] = 1
        level = 1 / math.sqrt(math.prod(pattern))
        torch.testing.assert_close(
            physics.field(x), torch.full((1, 1, *pattern), level, dtype=torch.complex64)
        )


def variants():
    g = generator(5)

    def coin(*shape):
        return (torch.rand(*shape, generator=g) > 0.3).double()

    yield "plain", FourierPhaseRetrieval((4, 6))
    yield "intensity", FourierPhaseRetrieval((5, 4), mode="intensity")
    yield "real", FourierPhaseRetrieval((5, 6), channels=1, oversampling=1.5)
    yield "per axis", FourierPhaseRetrieval((4, 5), oversampling=(1.0, 2.2))
    yield "beam stop", FourierPhaseRetrieval((5, 5), mask=coin(10, 10), mode="intensity")
    yield "support", FourierPhaseRetrieval((5, 5), support=coin(5, 5) > 0)
    yield "batch", FourierPhaseRetrieval((4, 5), mask=coin(3, 1, 8, 10), support=coin(3, 4, 5))
    yield "3D", FourierPhaseRetrieval((3, 4, 2), support=coin(3, 4, 2), mask=coin(6, 8, 4))
    yield "coded", CodedDiffraction((4, 5), diversity(3, (4, 5)), oversampling=1.0)
    yield (
        "coded real",
        CodedDiffraction((4, 5), randn(2, 4, 5), channels=1, mask=coin(2, 8, 10), mode="intensity"),
    )
    yield "coded 3D", CodedDiffraction((2, 3, 4), diversity(2, (2, 3, 4)), mask=coin(1, 4, 6, 8))


VARIANTS = dict(variants())


@pytest.mark.parametrize("name", VARIANTS)
def test_passes_check_operator(name):
    errors = check_operator(VARIANTS[name])
    assert errors["autograd of A"] < 1e-13
    check_operator(VARIANTS[name], dtype=torch.float32, rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_vjp_against_torch_func_and_the_field_is_a_linear_pair(name):
    physics = copy.deepcopy(VARIANTS[name]).to(torch.float64)
    batch = max(physics.batch, 2)
    x = randn(batch, *physics.img_size)
    v = randn(batch, *physics.measurement_shape, seed=1)
    _, pull = torch.func.vjp(physics.A, x)
    torch.testing.assert_close(physics.A_vjp(x, v), pull(v)[0], rtol=1e-12, atol=1e-12)
    # forward mode through the same expression
    t = randn(batch, *physics.img_size, seed=2)
    _, forward = torch.func.jvp(physics.A, (x,), (t,))
    assert float((forward * v).sum()) == pytest.approx(float((t * physics.A_vjp(x, v)).sum()))
    z = torch.complex(v, randn(batch, *physics.measurement_shape, seed=3))
    left = (physics.field(x).conj() * z).real.sum()
    right = (x * physics.field_adjoint(z)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-12)
    torch.testing.assert_close(physics.field(2 * x - t), 2 * physics.field(x) - physics.field(t))


def test_equals_deepinv_phase_retrieval():
    physics = FourierPhaseRetrieval((5, 6), mode="intensity", dtype=torch.float64)

    def forward(z, **kwargs):
        return physics.field(torch.stack([z.real, z.imag], 1)[:, :, 0])

    def adjoint(u, **kwargs):
        x = physics.field_adjoint(u)
        return torch.complex(x[:, :1], x[:, 1:])

    theirs = PhaseRetrieval(LinearPhysics(A=forward, A_adjoint=adjoint))
    x, v = randn(2, 2, 5, 6), randn(2, 1, 10, 12, seed=1)
    z = torch.complex(x[:, :1], x[:, 1:])
    torch.testing.assert_close(physics.A(x), theirs.A(z))
    g = theirs.A_vjp(z, v.to(torch.complex128))[:, 0]
    torch.testing.assert_close(physics.A_vjp(x, v), torch.stack([g.real, g.imag], 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_fields_of_zero_and_of_subnormal_numbers(dtype):
    physics = FourierPhaseRetrieval((4, 4), dtype=dtype)
    v = randn(1, 1, 8, 8, dtype=dtype)
    tiny = torch.finfo(dtype).tiny
    checkerboard = (torch.arange(4)[:, None] + torch.arange(4)) % 2  # exact zeros in its field
    for x in (
        torch.zeros(1, 2, 4, 4, dtype=dtype),
        torch.full((1, 2, 4, 4), tiny / 64, dtype=dtype),
        torch.full((1, 2, 4, 4), tiny, dtype=dtype),
        torch.ones(1, 2, 4, 4, dtype=dtype),
        checkerboard.expand(1, 2, 4, 4).to(dtype),
    ):
        leaf = x.clone().requires_grad_()
        y = physics.A(leaf)
        (found,) = torch.autograd.grad((y * v).sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(found.square().sum(), leaf)
        for value in (y, found, second, physics.A_vjp(x, v)):
            assert torch.isfinite(value).all()
        torch.testing.assert_close(found.detach(), physics.A_vjp(x, v))
    assert float(physics.A_vjp(torch.zeros(1, 2, 4, 4, dtype=dtype), v).abs().max()) == 0
    assert unit(torch.zeros((), dtype=torch.complex64)) == 0


def test_trivial_ambiguities_leave_the_pattern_unchanged():
    physics = FourierPhaseRetrieval((8, 9), pattern_shape=(16, 21), dtype=torch.float64)
    z = torch.zeros(8, 9, dtype=torch.complex128)
    z[2:5, 3:7] = torch.complex(randn(3, 4), randn(3, 4, seed=1))
    flipped = z.flip(0, 1).conj()
    for other in (z * np.exp(1.2j), z.roll((2, -3), (0, 1)), flipped, flipped.roll(1, 0)):
        pair = [torch.stack([u.real, u.imag])[None] for u in (z, other)]
        torch.testing.assert_close(physics.A(pair[0]), physics.A(pair[1]))


def test_energy_is_kept_and_the_autocorrelation_fits():
    physics = FourierPhaseRetrieval((6, 7), mode="intensity", channels=1, dtype=torch.float64)
    x = randn(1, 1, 6, 7)
    y = physics.A(x)[0, 0]
    assert float(y.sum()) == pytest.approx(float(x.square().sum()))
    # Wiener-Khinchin: lag (1, 2) sits beside the centre
    auto = torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(y), norm="forward").real)
    lag = (x[0, 0, 1:, 2:] * x[0, 0, :-1, :-2]).sum()
    assert float(auto[6 + 1, 7 + 2]) == pytest.approx(float(lag))


def test_support_and_missing_pixels():
    support = torch.zeros(6, 6, dtype=torch.bool)
    support[1:4, 2:5] = True
    mask = torch.ones(12, 12)
    mask[6, 6] = 0
    physics = FourierPhaseRetrieval((6, 6), support=support, mask=mask, dtype=torch.float64)
    x, v = randn(1, 2, 6, 6), randn(1, 1, 12, 12, seed=1)
    torch.testing.assert_close(physics.A(x), physics.A(x * support))
    assert not physics.A_vjp(x, v)[..., ~support].any()
    assert float(physics.A(x)[0, 0, 6, 6]) == 0
    assert float(physics.field(x)[0, 0, 6, 6].abs()) > 0
    assert physics.measurement_count() == 143
    spoilt = v.clone()
    spoilt[0, 0, 6, 6] += 100
    torch.testing.assert_close(physics.A_vjp(x, v), physics.A_vjp(x, spoilt))
    physics.noise_model = GaussianNoise(0.1)
    assert float(physics(x)[0, 0, 6, 6]) == 0
    assert FourierPhaseRetrieval((6, 6)).measurement_mask is None


def test_precision_and_moves(device):
    physics = VARIANTS["coded"]
    x = randn(1, *physics.img_size)
    single = physics.A(x.float())
    assert single.dtype == torch.float32
    moved = copy.deepcopy(physics).to(torch.float64).to(device)
    assert moved.masks.dtype == torch.complex128
    double = moved.A(x.to(device)).cpu()
    # float32 rounds to 6e-8 of the largest value
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-5)
    assert float(double.abs().max()) > 1


def test_sizes():
    assert FourierPhaseRetrieval((10, 30), oversampling=1.1).pattern_shape == (11, 33)
    assert FourierPhaseRetrieval((5, 7), oversampling=1.5).pattern_shape == (8, 11)
    physics = FourierPhaseRetrieval((5, 7), pattern_shape=(5, 21))
    assert physics.oversampling == (1.0, 3.0)
    assert physics.summary()["oversampling"] == "1 x 3"
    assert CodedDiffraction((4, 4), torch.ones(3, 4, 4)).measurement_shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"oversampling": 0.9}, "oversampling: found 0.9"),
        ({"oversampling": float("nan")}, "oversampling"),
        ({"oversampling": (2.0, 2.0, 2.0)}, "2 of them"),
        ({"pattern_shape": (7, 20)}, r"pattern_shape: found \(7, 20\)"),
        ({"pattern_shape": (20,)}, "2 axes"),
        ({"support": torch.zeros(8, 10)}, "no pixel inside"),
        ({"support": torch.ones(8, 9)}, r"support: found shape \(8, 9\)"),
        ({"mask": torch.zeros(16, 20)}, "without any measured pixel"),
        ({"mask": torch.ones(8, 10)}, r"mask: found shape \(8, 10\)"),
        ({"mask": torch.ones(2, 16, 20)}, r"\(1, 16, 20\)"),
        ({"mask": torch.full((16, 20), 0.5)}, "besides 0 and 1"),
        ({"channels": 3}, "channels"),
        ({"mask": torch.ones(2, 1, 16, 20), "support": torch.ones(3, 8, 10)}, "equal numbers"),
    ],
)
def test_refuses_wrong_geometry(arguments, text):
    with pytest.raises(GeometryError, match=text):
        FourierPhaseRetrieval((8, 10), **arguments)


def test_refuses_wrong_masks_modes_and_fields():
    with pytest.raises(GeometryError, match=r"masks: found shape \(4, 4\)"):
        CodedDiffraction((4, 4), torch.ones(4, 4))
    with pytest.raises(GeometryError, match="zero everywhere"):
        CodedDiffraction((4, 4), torch.stack([torch.ones(4, 4), torch.zeros(4, 4)]))
    with pytest.raises(GeometryError, match="NaN"):
        CodedDiffraction((4, 4), torch.full((1, 4, 4), torch.nan))
    with pytest.raises(ValueError, match="'amplitude' or 'intensity'"):
        FourierPhaseRetrieval((4, 4), mode="power")
    physics = FourierPhaseRetrieval((4, 4))
    for bad in (torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 7, dtype=torch.complex64)):
        with pytest.raises(GeometryError, match=r"complex \(B, 1, 8, 8\)"):
            physics.field_adjoint(bad)


def test_check_pattern():
    mask = torch.ones(8, 8)
    mask[4, 4] = 0
    physics = FourierPhaseRetrieval((4, 4), mode="intensity", mask=mask)
    y = physics.A(randn(2, 2, 4, 4).float())
    y[:, :, 4, 4] = torch.nan  # masked: may hold anything
    check_pattern(y, physics)

    def changed(value, index=(1, 0, 0, 0)):
        bad = y.clone()
        bad[index] = value
        return bad

    with pytest.raises(DataError, match="1 NaN or infinite"):
        check_pattern(changed(torch.inf), physics)
    with pytest.raises(DataError, match="1 negative values down to -0.5"):
        check_pattern(changed(-0.5), physics)
    check_pattern(changed(-0.5), physics, allow_negative=True)
    with pytest.raises(DataError, match="logarithm"):
        check_pattern(y - 10, physics, allow_negative=True)
    with pytest.raises(DataError, match="logarithm"):  # as much below zero as above
        check_pattern(y - y[:, :, :4].mean(), physics, allow_negative=True)
    with pytest.raises(DataError, match="nothing but zeros in scan 1"):
        check_pattern(changed(0, index=(1,)), physics)
    with pytest.raises(GeometryError):
        check_pattern(y[..., :-1], physics)


def test_amplitude_is_the_root_of_an_intensity():
    y = torch.tensor([-1.0, 0.0, 4.0])
    intensity = FourierPhaseRetrieval((4, 4), mode="intensity")
    torch.testing.assert_close(intensity.amplitude(y), torch.tensor([0.0, 0.0, 2.0]))
    plain = FourierPhaseRetrieval((4, 4)).amplitude(y)
    torch.testing.assert_close(plain, torch.tensor([0.0, 0.0, 4.0]))
