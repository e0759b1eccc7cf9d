"""DDRM: its law with a denoiser that knows the truth, its limits, and every decomposition."""

from __future__ import annotations

import deepinv
import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics

from sciinv.errors import IncompatibleError
from sciinv.operators import CartesianMRI
from sciinv.operators.spectral import DENSE_LIMIT, has_spectrum
from sciinv.priors import GaussianField
from sciinv.solvers import DDRM
from sciinv.solvers.problem import Problem

from .oracle import (
    SINGULAR,
    ManyRows,
    check_white,
    matrix_physics,
    oracle_case,
    with_singular_values,
)

LEVELS = [20.0, 3.0, 0.6, 0.15, 0.05]
SIGMA = 0.1


@pytest.mark.parametrize(
    ("eta", "eta_b"), [(0.85, 1.0), (0.3, 0.7), (1.0, 0.4), (0.0, 0.0), (None, 1.0)]
)
def test_every_level_is_the_truth_plus_white_noise_if_the_denoiser_knows_it(eta, eta_b) -> None:
    rows = 20000
    problem, truth, oracle = oracle_case(rows, SIGMA)
    solver = DDRM(oracle, eta_renoise=eta, eta_b=eta_b)
    noise = ManyRows(rows)
    spread = SIGMA / torch.tensor(SINGULAR)
    state = solver.init(problem, noise, LEVELS[0], torch.zeros(rows, 1, 2, 3, dtype=torch.float64))
    # at the start only the measured directions are around the truth
    v = torch.linalg.svd(with_singular_values(SINGULAR, 5, 6)).Vh[:4]
    started = (state - truth).flatten(1) @ v.T
    check_white(started, 0.0, LEVELS[0])
    # free directions: as if the first state had come from the truth
    null = torch.eye(6, dtype=torch.float64) - v.T @ v
    state = state + (truth.flatten(1) @ null).reshape(1, 1, 2, 3)
    seen = set()
    for s, s_next in zip(LEVELS, LEVELS[1:], strict=False):
        state = solver.step(state, s, s_next, problem, noise).state
        check_white(state, truth, s_next)
        seen |= set((spread <= s_next).tolist())
    assert seen == {True, False}  # directions above and below the level


def test_denoising_is_the_denoiser_at_the_level_of_the_data() -> None:
    prior = GaussianField.power_law((3, 4))
    physics = deepinv.physics.Denoising(GaussianNoise(0.3))
    physics.img_size = (1, 3, 4)
    y = prior.sample(2, 1, dtype=torch.float64) + 0.3
    solver = DDRM(prior, steps=7, sigma_min=0.3)
    samples = solver.sample(y, physics, 3, generator=0)
    torch.testing.assert_close(samples, prior(y, 0.3).expand(3, -1, -1, -1, -1))


@pytest.mark.parametrize("shape", [(5, 4), (4, 7)])
def test_exact_data_are_kept(shape) -> None:
    prior = GaussianField.power_law(shape, channels=2)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    physics = CartesianMRI(shape, torch.where(mask < 0.5, mask, 0.0))
    y = physics.A(prior.sample(2, 1, dtype=torch.float64))
    samples = DDRM(prior, steps=5, noiseless=True).sample(y, physics, 2, generator=0)
    for sample in samples:
        torch.testing.assert_close(physics.A(sample), y, rtol=0, atol=1e-12)


def decomposed():
    """Operators of deepinv with a decomposition of their own, and the channels of their images."""
    g = torch.Generator().manual_seed(3)
    keep = (torch.rand(8, 8, generator=g) < 0.6).float()
    kernel = torch.rand(1, 1, 3, 3, generator=g)
    physics = deepinv.physics
    return {
        "inpainting": physics.Inpainting((1, 8, 8), mask=keep[None]),
        "mri": physics.MRI(mask=keep, img_size=(8, 8)),
        "blur, even": physics.BlurFFT((1, 8, 8), filter=kernel / kernel.sum()),
        "blur, odd": physics.BlurFFT((1, 5, 7), filter=kernel / kernel.sum()),
        "decolorize": physics.Decolorize(channels=2, srf=(0.3, 0.7)),
        "single pixel, fast": physics.SinglePixelCamera(m=20, img_size=(1, 8, 8), fast=True),
        "single pixel": physics.SinglePixelCamera(m=20, img_size=(1, 8, 8), fast=False, rng=g),
        "signs": physics.DecomposablePhysics(mask=(keep - 0.4)[None, None], img_size=(1, 8, 8)),
    }


@pytest.mark.parametrize("name", decomposed())
@pytest.mark.filterwarnings("ignore:Casting complex values:UserWarning")  # deepinv's own
def test_declared_and_dense_decompositions_give_the_same_samples(name) -> None:
    physics = decomposed()[name]
    shape = {"blur, odd": (5, 7)}.get(name, (8, 8))
    channels = 2 if name in ("mri", "decolorize") else 1
    prior = GaussianField.power_law(shape, channels=channels, sigma_max=10.0)
    with torch.no_grad():
        y = physics.A(prior.sample(2, 1, dtype=torch.float32))
    y = y + 0.05 * torch.randn(y.shape, generator=torch.Generator().manual_seed(4))
    plain = LinearPhysics(A=physics.A, A_adjoint=physics.A_adjoint, img_size=(channels, *shape))
    physics.img_size = (channels, *shape)
    physics.noise_model = plain.noise_model = GaussianNoise(0.05)
    mask = getattr(physics, "mask", None)
    if name in ("inpainting", "mri"):
        y = y * mask
    solver = DDRM(prior, steps=6, sigma_min=0.03)
    declared = solver.sample(y, physics, 2, generator=5)
    dense = solver.sample(y, plain, 2, generator=5)
    # the chain is a function of A^T A, A^T y and noise in the image, whatever the basis; float32
    # states of size 10
    assert float((declared - dense).abs().max()) < 2e-4
    assert float((physics.A(declared[0]) - y).std()) < 0.3


@pytest.mark.parametrize("low", [0.5, 0.05])
def test_a_step_agrees_with_deepinv(low, monkeypatch) -> None:
    # its denoiser is called after the step, and its noise is divided by the root of two
    prior = GaussianField.power_law((4, 4))
    keep = (torch.arange(16).reshape(1, 4, 4) % 3 > 0).double()
    physics = deepinv.physics.Inpainting((1, 4, 4), mask=keep).to(torch.float64)
    physics.noise_model = GaussianNoise(0.1)
    y = physics.A(prior.sample(1, 1, dtype=torch.float64)) + 0.1 * keep
    theirs = deepinv.sampling.DDRM(prior, sigmas=[2.0, low], eta=0.6, etab=0.8, eps=0.0)
    noise = ManyRows(1, seed=6)
    ours = DDRM(prior, eta_renoise=0.6, eta_b=0.8)
    problem = Problem(y, physics, torch.zeros(1, dtype=torch.long), 0.1)
    state = ours.init(problem, noise, 2.0, torch.zeros_like(y))
    state = ours.step(state, 2.0, low, problem, noise).state
    draws = iter(noise.drawn)
    monkeypatch.setattr(torch, "randn_like", lambda x, **_: 2**0.5 * next(draws))
    torch.testing.assert_close(theirs(y, physics), prior(state, low))


def test_scans_with_their_own_operator_and_a_changed_one_are_decomposed_again() -> None:
    shape = (4, 4)
    g = torch.Generator().manual_seed(7)
    maps = torch.randn(2, 2, *shape, generator=g, dtype=torch.complex128)
    masks = (torch.rand(2, *shape, generator=g) < 0.6).double()
    both = CartesianMRI(shape, masks, maps, noise_model=GaussianNoise(0.1))
    prior = GaussianField.power_law(shape, channels=2)
    y = both.A(prior.sample(2, 1, dtype=torch.float64))
    # the default grid ends at sigma_y / |A|, and |A| is that of all scans given together
    solver = DDRM(prior, steps=4, sigma_min=0.05)
    together = solver.sample(y, both, 1, generator=1)
    seeds = torch.Generator().manual_seed(1)
    for scan in range(2):
        one = both.rows(torch.tensor([scan]))
        alone = solver.sample(y[scan : scan + 1], one, 1, generator=seeds)
        torch.testing.assert_close(together[:, scan : scan + 1], alone)
    changed = CartesianMRI(shape, masks[:1], maps[:1], noise_model=GaussianNoise(0.1))
    before = solver.sample(y[:1], changed, 1, generator=1)
    changed.update_parameters(mask=masks[1:])
    after = solver.sample(y[:1] * masks[1], changed, 1, generator=1)
    fresh = CartesianMRI(shape, masks[1:], maps[:1], noise_model=GaussianNoise(0.1))
    torch.testing.assert_close(after, solver.sample(y[:1] * masks[1], fresh, 1, generator=1))
    assert float((after - before).abs().max()) > 0.01


def test_without_a_decomposition_the_error_names_who_works() -> None:
    size = 1 + int(DENSE_LIMIT**0.5)
    large = LinearPhysics(A=lambda x: x, A_adjoint=lambda v: v, img_size=(1, size, size))
    large.noise_model = GaussianNoise(0.1)
    assert not has_spectrum(large)
    prior = GaussianField.power_law((size, size))
    with pytest.raises(IncompatibleError, match=r"singular value decomposition; .*that fit: MMT"):
        DDRM(prior).sample(torch.zeros(1, 1, size, size), large)
    small = matrix_physics(torch.eye(4, dtype=torch.float64), (1, 2, 2), 0.1)
    assert has_spectrum(small)
    # its img_size is not the shape of its images: nothing can be decomposed, nothing breaks
    wrong = LinearPhysics(A=small.A, A_adjoint=small.A_adjoint, img_size=(1, 3, 3))
    assert not has_spectrum(wrong)


@pytest.mark.parametrize("knob", [{"eta_renoise": 1.2}, {"eta_b": -0.1}])
def test_impossible_shares_are_refused(knob) -> None:
    with pytest.raises(ValueError, match="found .* expected a number from 0 to 1"):
        DDRM(GaussianField.power_law((4, 4)), **knob)
