from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import birdcage_maps, simulate_mri
from sciinv.errors import DataError
from sciinv.operators import estimate_coil_maps
from sciinv.operators.coil_quality import GOOD, POOR, map_quality

N = 64


def surface_maps(coils, shape):
    """Gaussian loops with smooth phase: no symmetry, unlike the birdcage."""
    r, c = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    maps = []
    for k in range(coils):
        a = 2 * np.pi * k / coils + 0.3
        size = np.exp(-((c - 1.2 * np.cos(a)) ** 2 + (r - 1.1 * np.sin(a)) ** 2) / 1.2)
        maps.append(size * np.exp(1j * (a + 0.8 * np.cos(a) * r + 0.5 * np.sin(2 * a) * c)))
    maps = np.array(maps)
    return maps / np.sqrt((np.abs(maps) ** 2).sum(0))


ARRAYS = {"birdcage": birdcage_maps, "surface": surface_maps}
SAMPLINGS = {
    "full": (1.0, 16, "full"),
    "lines R4": (4.0, 16, "variable_density"),
    "lines R3, 8 of calibration": (3.0, 8, "variable_density"),
    "poisson R4": (4.0, 16, "poisson"),
}


def scan_of(array, sampling, noise=0.02, seed=0):
    acceleration, lines, pattern = SAMPLINGS[sampling]
    truth = ARRAYS[array](8, (N, N))
    scan = simulate_mri(
        shepp_logan((N, N)), acceleration=acceleration, calibration_lines=lines, pattern=pattern,
        noise_std=noise, rng=seed, coil_maps=truth,
    )  # fmt: skip
    return (
        torch.from_numpy(scan.data.astype(np.complex128)),
        torch.from_numpy(truth)[None],
        torch.from_numpy(scan.geometry.mask),
    )


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_thresholds_separate_good_maps_from_mistakes(array, sampling):
    kspace, truth, mask = scan_of(array, sampling)

    def unexplained(maps):
        return float(map_quality(kspace, maps, mask).unexplained)

    assert unexplained(truth) < 0.5 * GOOD
    # a sixteenth of the field of view: between the thresholds; an eighth: beyond them
    slightly, far = (torch.roll(truth, (s, s), (2, 3)) for s in (4, 8))
    assert GOOD < unexplained(slightly) < POOR
    mistakes = {
        "moved": far,
        "conjugated": truth.conj(),
        "next coil": truth.roll(1, 1),
        "pairs swapped": truth[:, torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])],
        "transposed": truth.transpose(2, 3),
        "rows mirrored": truth.flip(2),
        "columns mirrored": truth.flip(3),
        "not centred": torch.fft.fftshift(truth, dim=(2, 3)),
    }
    found = {name: unexplained(maps) for name, maps in mistakes.items()}
    assert min(found.values()) > 1.5 * POOR, found


def test_verdicts_say_what_was_found():
    kspace, truth, mask = scan_of("surface", "lines R4")
    good = map_quality(kspace, truth, mask)
    assert good.level == "good" and good.verdict.startswith("Coil maps are good: they leave")
    fair = map_quality(kspace, torch.roll(truth, (4, 4), (2, 3)), mask)
    assert fair.level == "fair" and "expected below 1 %" in fair.verdict
    both = map_quality(torch.cat([kspace, kspace.conj()]), truth, mask)
    assert both.level == "poor" and "scan 1, the worst of 2" in both.verdict
    # one pixel's share is where the maps fail: 0 outside of the support
    assert not bool(both.pixels[~both.support].any())
    assert float(both.pixels[1][both.support[1]].median()) > 0.1
    assert float(both.pixels[0][both.support[0]].median()) < 0.01


def test_is_the_projection_of_the_low_resolution_images():
    # without noise and with the whole k-space in the region: against a plain loop over pixels
    shape = (12, 14)
    g = torch.Generator().manual_seed(0)
    kspace, maps = (
        torch.view_as_complex(torch.randn(1, 3, *shape, 2, dtype=torch.float64, generator=g))
        for _ in range(2)
    )
    # no noise: the outermost samples, by the product of the distances, are zero
    outward = ((torch.arange(12) - 6).abs() + 0.5)[:, None] * ((torch.arange(14) - 7).abs() + 0.5)
    kspace[:, :, outward > outward.flatten().quantile(0.6)] = 0
    rows = torch.cos(0.5 * torch.pi * (torch.arange(12).double() - 6) / 7).square()
    columns = torch.cos(0.5 * torch.pi * (torch.arange(14).double() - 7) / 8).square()
    windowed = torch.fft.ifftshift(kspace * rows[:, None] * columns, dim=(2, 3))
    low = torch.fft.fftshift(torch.fft.ifftn(windowed, dim=(2, 3), norm="ortho"), dim=(2, 3))[0]
    found = map_quality(kspace, maps, torch.ones(shape))
    error = torch.zeros(shape, dtype=torch.float64)
    for i in range(shape[0]):
        for j in range(shape[1]):
            s = maps[0, :, i, j]
            projector = torch.outer(s, s.conj()) / s.norm() ** 2
            error[i, j] = (low[:, i, j] - projector @ low[:, i, j]).norm() ** 2
    power = low.abs().square().sum(0)
    seen = found.support[0]
    share = float(error[seen].sum() / power[seen].sum())
    assert float(found.noise) == 0
    assert float(found.unexplained) == pytest.approx(share, rel=1e-12)
    torch.testing.assert_close(found.pixels[0][seen], (error / power)[seen])


def test_noise_is_not_blamed_on_the_maps():
    # the noise is most of what maps cannot explain
    kspace, truth, mask = scan_of("surface", "full", noise=0.1)
    quality = map_quality(kspace, truth, mask)
    assert 0.02 < float(quality.noise) < 0.5
    assert quality.level == "good"
    # pure noise: the maps cannot be judged, and it says so
    g = torch.Generator().manual_seed(1)
    noise = torch.view_as_complex(torch.randn(1, 8, N, N, 2, dtype=torch.float64, generator=g))
    quality = map_quality(noise, truth)
    assert quality.level == "noisy" and "cannot be judged" in quality.verdict


def test_scale_of_the_maps_does_not_matter_and_sets_span():
    kspace, truth, mask = scan_of("surface", "lines R4")
    weight = torch.linspace(0.5, 3, N, dtype=torch.float64)
    plain = map_quality(kspace, truth.conj(), mask)
    scaled = map_quality(kspace, truth.conj() * weight, mask)
    torch.testing.assert_close(scaled.unexplained, plain.unexplained, rtol=1e-9, atol=0)
    pair = torch.stack([truth.conj(), truth], dim=1)
    assert float(map_quality(kspace, pair, mask).unexplained) < 0.005
    # maps that were cropped where there is signal do not explain it
    half = truth.clone()
    half[..., : N // 2] = 0
    assert 0.3 < float(map_quality(kspace, half, mask).unexplained) < 0.7


def test_refuses_maps_that_do_not_fit():
    kspace, truth, _ = scan_of("surface", "full")
    for maps in (truth[:, :7], truth.real, truth[..., :60], truth[0]):
        with pytest.raises(DataError, match="maps"):
            map_quality(kspace, maps)


@pytest.mark.data
def test_real_brain(real_data):
    with h5py.File(real_data / "mri_brain16ch_fastmri.h5") as file:
        kspace = torch.from_numpy(file["kspace"][:1])
    kspace = kspace / kspace.abs().max()
    maps = estimate_coil_maps(kspace, calibration=32)
    assert map_quality(kspace, maps).level == "good"
    for wrong in (maps.conj(), maps.transpose(2, 3), maps.flip(2), maps.roll(1, 1)):
        assert map_quality(kspace, wrong).level == "poor"
