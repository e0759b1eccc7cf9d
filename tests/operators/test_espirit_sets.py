"""Several sets of maps, eigenvalues, cropping, and JSENSE."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import birdcage_maps, simulate_mri
from sciinv.errors import DataError
from sciinv.operators import estimate_coil_maps, sensitivity_support
from sciinv.operators.espirit import espirit
from sciinv.operators.jsense import jsense_maps


def centred_fft(x):
    k = torch.fft.fftn(torch.fft.ifftshift(x, dim=(-2, -1)), dim=(-2, -1), norm="ortho")
    return torch.fft.fftshift(k, dim=(-2, -1))


def textured(shape, amount=0.3):
    """A head with fine texture, so that the low-resolution image does not tell everything."""
    x = shepp_logan(shape)
    texture = np.random.default_rng(0).normal(size=shape)
    phase = np.linspace(-1, 1, shape[1])[None]
    return torch.from_numpy((x + amount * (x > 0) * texture) * np.exp(1j * phase))


def fold(image, width):
    """Sum what lies a field of view of ``width`` columns apart: the object is wider than that."""
    columns = image.shape[-1]
    target = (torch.arange(columns) - columns // 2 + width // 2) % width
    folded = torch.zeros(*image.shape[:-1], width, dtype=image.dtype)
    return folded.index_add(-1, target, image)


def left(images, sets):
    """Energy outside of the span of the sets ``(sets, coils, ...)``, per pixel."""
    basis = torch.linalg.qr(sets.movedim((0, 1), (-1, -2))).Q
    values = images.movedim(0, -1)[..., None]
    return (values - basis @ (basis.mH @ values)).abs().square().sum((-2, -1))


def test_an_object_wider_than_the_field_of_view_needs_two_sets():
    # little texture: what fills the outer samples counts as noise, and its kernels are left out
    x, maps = textured((48, 64), 0.03), torch.from_numpy(birdcage_maps(6, (48, 64)))
    images = fold(maps * x, 38)
    shared = fold((x.abs() > 0).double(), 38) > 1.5
    assert 50 < int(shared.sum()) < 800
    kspace = centred_fft(images)[None]
    one = estimate_coil_maps(kspace)
    two, values = estimate_coil_maps(kspace, sets=2, return_eigenvalues=True)
    assert two.shape == (1, 2, 6, 48, 38) and values.shape == (1, 2, 48, 38)
    power = images.abs().square().sum(0)[shared].sum()
    assert float(left(images, one)[shared].sum() / power) > 0.01
    assert float(left(images, two[0])[shared].sum() / power) < 1e-4
    # the second eigenvalue says where
    assert float(values[0, 1][shared].quantile(0.05)) > 0.9
    single = ~shared & (images.abs().square().sum(0) > 0)
    assert float(values[0, 1][single].median()) < 0.5


def test_sets_are_orthonormal_eigenvectors_in_order():
    x, maps = textured((30, 32)), torch.from_numpy(birdcage_maps(5, (30, 32)))
    kspace = centred_fft(maps * x)[None]
    sets, values = estimate_coil_maps(kspace, sets=3, return_eigenvalues=True)
    gram = torch.einsum("sc...,tc...->...st", sets[0].conj(), sets[0])
    identity = torch.eye(3, dtype=gram.dtype).expand_as(gram)
    torch.testing.assert_close(gram, identity, rtol=0, atol=1e-10)
    assert bool((values.diff(dim=1) <= 1e-12).all())
    assert float(values.min()) > -1e-9 and float(values.max()) < 1 + 1e-9
    # where one set fits, the first of several is the only one
    block = kspace[0]
    low = torch.fft.fftshift(
        torch.fft.ifftn(torch.fft.ifftshift(block, dim=(1, 2)), dim=(1, 2)), dim=(1, 2)
    )
    one, value = espirit(block, low, 5, 0.01)
    sets, values = espirit(block, low, 5, 0.01, sets=3)
    sure = values[1] < 0.8 * values[0]  # 100 power iterations leave 0.8^100 = 2e-10
    assert int(sure.sum()) > 100
    torch.testing.assert_close(one[0][:, sure], sets[0][:, sure], rtol=0, atol=1e-7)
    torch.testing.assert_close(value[0][sure], values[0][sure], rtol=0, atol=1e-7)


def test_first_of_two_sets_is_not_lost_in_noise():
    # at a threshold below the noise, kernels of noise would make all eigenvalues alike and the
    # eigenvectors arbitrary
    x, maps = textured((48, 48)), torch.from_numpy(birdcage_maps(6, (48, 48)))
    g = torch.Generator().manual_seed(1)
    pairs = torch.randn(6, 48, 48, 2, dtype=torch.float64, generator=g)
    kspace = (centred_fft(maps * x) + 0.03 * torch.view_as_complex(pairs))[None]
    sets, values = estimate_coil_maps(kspace, sets=2, threshold=0.001, return_eigenvalues=True)
    seen = x.abs() > 0.1
    overlap = (sets[0, 0].conj() * maps).sum(0).abs()
    assert float((1 - overlap)[seen].mean()) < 0.02
    assert float(values[0, 1][seen].median()) < 0.9 < float(values[0, 0][seen].median())


def test_eigenvalues_are_those_of_sigpy():
    from sigpy.mri.app import EspiritCalib

    x, maps = textured((26, 24)), torch.from_numpy(birdcage_maps(5, (26, 24)))
    kspace = centred_fft(maps * x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, levels = EspiritCalib(
            kspace.numpy(), calib_width=18, thresh=0.02, kernel_width=5, crop=0,
            show_pbar=False, output_eigenvalue=True,
        ).run()  # fmt: skip
    found, values = estimate_coil_maps(
        kspace[None], calibration=18, threshold=0.02, return_eigenvalues=True
    )
    seen = (x.abs() > 0).numpy()
    np.testing.assert_allclose(values[0].numpy()[seen], levels[0][seen], rtol=0, atol=1e-6)
    # both run 100 power iterations from different starts; where the two largest eigenvalues are
    # close those are not enough, elsewhere the maps agree up to phase
    _, pair = estimate_coil_maps(
        kspace[None], calibration=18, threshold=0.02, sets=2, return_eigenvalues=True
    )
    sure = seen & (pair[0, 1] < 0.85 * pair[0, 0]).numpy()
    overlap = np.abs((found[0].numpy().conj() * expected).sum(0))
    assert sure.sum() > 100
    np.testing.assert_allclose(overlap[sure], 1, rtol=0, atol=1e-10)


# a threshold below the noise keeps noise as signal, and all eigenvalues are then near 1
@pytest.mark.parametrize(("noise", "threshold"), [(0.0, 0.01), (0.03, 0.1)])
def test_automatic_crop_keeps_the_object_and_drops_most_of_the_air(noise, threshold):
    x = textured((64, 64))
    maps = torch.from_numpy(birdcage_maps(6, (64, 64)))
    g = torch.Generator().manual_seed(0)
    pairs = torch.randn(6, 64, 64, 2, dtype=torch.float64, generator=g)
    kspace = (centred_fft(maps * x) + noise * torch.view_as_complex(pairs))[None]
    support = sensitivity_support(kspace)[0]
    for crop in ("auto", "soft"):
        cropped = estimate_coil_maps(kspace, threshold=threshold, crop=crop)[0]
        size = cropped.norm(dim=0)
        assert float(size.max()) < 1 + 1e-12
        inside = (size > 0.99) & support
        assert float(inside.sum() / support.sum()) > 0.985
        assert float((size[~support] > 0.5).double().mean()) < 0.25
        # what is kept is not changed but for its size
        whole = estimate_coil_maps(kspace, threshold=threshold)[0]
        torch.testing.assert_close(cropped, whole * size, rtol=0, atol=1e-12)
        assert crop == "soft" or bool((size[support] > 0.99).all())


def test_automatic_crop_of_a_full_field_of_view_drops_nothing():
    g = torch.Generator().manual_seed(2)
    x = torch.view_as_complex(torch.randn(32, 32, 2, dtype=torch.float64, generator=g)) + 3
    kspace = centred_fft(torch.from_numpy(birdcage_maps(6, (32, 32))) * x)[None]
    maps = estimate_coil_maps(kspace, crop="auto")[0]
    torch.testing.assert_close(maps.norm(dim=0), torch.ones(32, 32, dtype=torch.float64))


def test_refuses_senseless_sets_and_crops():
    kspace = centred_fft(textured((20, 22))[None] * torch.ones(3, 1, 1))[None]
    with pytest.raises(ValueError, match="sets: found 4, expected 1 to 3"):
        estimate_coil_maps(kspace, sets=4)
    with pytest.raises(ValueError, match="crop: found 'hard'"):
        estimate_coil_maps(kspace, crop="hard")
    with pytest.raises(ValueError, match="fold_phase: found True with 2 sets"):
        estimate_coil_maps(kspace, sets=2, fold_phase=True)


# -- JSENSE ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("acceleration", "calibration", "pattern"),
    [(1.0, 16, "full"), (3.0, 8, "variable_density"), (3.0, 4, "poisson")],
)
def test_jsense_recovers_known_maps(acceleration, calibration, pattern, capfd):
    truth = birdcage_maps(6, (40, 40))
    image = shepp_logan((40, 40))
    scan = simulate_mri(
        image, acceleration=acceleration, calibration_lines=calibration, pattern=pattern,
        noise_std=0.01, rng=0, coil_maps=truth,
    )  # fmt: skip
    kspace = torch.from_numpy(scan.data)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    maps = jsense_maps(kspace, mask=torch.from_numpy(scan.geometry.mask))
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert capfd.readouterr() == ("", "")
    assert maps.dtype == kspace.dtype and maps.shape == kspace.shape
    torch.testing.assert_close(maps.norm(dim=1), torch.ones(1, 40, 40), rtol=0, atol=1e-5)
    error = 1 - np.abs((maps[0].numpy().conj() * truth).sum(0))[image > 0.1]
    # six coefficients an axis do not hold the maps exactly: the worst pixels are at the rim
    assert error.mean() < 3e-3
    assert error.max() < 0.06


def test_jsense_treats_every_scan_alone_and_has_the_phase_of_espirit():
    shape = (32, 34)
    maps = torch.from_numpy(birdcage_maps(4, shape))
    first = centred_fft(maps * textured(shape))
    kspace = torch.stack([first, first.flip(0)])
    both = jsense_maps(kspace, iterations=5)
    alone = jsense_maps(kspace[1:], iterations=5)
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-12)
    reference = estimate_coil_maps(kspace[:1])[0]
    seen = textured(shape).abs() > 0.1
    product = (both[0].conj() * reference).sum(0)[seen]
    assert float(product.real.median()) > 0.99


def test_jsense_refusals():
    kspace = centred_fft(textured((20, 22))[None] * torch.ones(3, 1, 1))[None]
    with pytest.raises(DataError, match=r"width 5 for k-space \(20, 22\), expected 6"):
        jsense_maps(kspace, calibration=5)
    with pytest.raises(DataError, match="unsampled centre"):
        hollow = kspace.clone()
        hollow[..., 8:12, 9:13] = 0
        jsense_maps(hollow)
    with pytest.raises(ValueError, match="iterations 0"):
        jsense_maps(kspace, iterations=0)
    with pytest.raises(DataError, match="complex tensor"):
        jsense_maps(kspace.real)
