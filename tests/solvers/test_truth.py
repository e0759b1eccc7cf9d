"""The samplers' own law against exactly known posteriors."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics

from sciinv.operators import CartesianMRI, ParallelBeamCT
from sciinv.priors import GaussianField
from sciinv.solvers import MMT, MomentMatching
from sciinv.solvers.testing import Deviation, affine_law, deviation

SIGMA = 0.05


def mri() -> tuple[LinearPhysics, GaussianField]:
    """A 4 x 5 complex image, two coils, three of five lines."""
    shape = (4, 5)
    rows = torch.arange(4, dtype=torch.float64)[:, None]
    weight = 0.25 + 0.5 * rows / 3 + torch.zeros(5)
    phase = torch.exp(0.3j * rows)
    maps = torch.stack([weight.sqrt() + 0j, (1 - weight).sqrt() * phase])
    mask = torch.tensor([0, 1, 1, 0, 1]).expand(4, 5)
    physics = CartesianMRI(shape, mask=mask, coil_maps=maps, dtype=torch.float64)
    return physics, GaussianField.power_law(shape, channels=2)


def ct() -> tuple[LinearPhysics, GaussianField]:
    """A 5 x 4 image, four projections."""
    shape = (5, 4)
    physics = ParallelBeamCT(
        shape,
        [0.1, 0.9, 1.7, 2.5],
        num_detectors=7,
        detector_spacing=1.0,
        pixel_size=1.0,
        backend="torch",
        dtype=torch.float64,
    )
    return physics, GaussianField.power_law(shape, channels=1)


def blur() -> tuple[LinearPhysics, GaussianField]:
    """A periodic Gaussian blur of a 5 x 4 image."""
    shape = (5, 4)
    fy, fx = torch.fft.fftfreq(5), torch.fft.fftfreq(4)
    gain = torch.exp(-8.0 * (fy[:, None] ** 2 + fx[None] ** 2)).double()

    def apply(x: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifft2(torch.fft.fft2(x) * gain.to(x)).real

    physics = LinearPhysics(A=apply, A_adjoint=apply, img_size=(1, *shape))
    return physics, GaussianField.power_law(shape, channels=1)


PROBLEMS = {"mri": mri, "ct": ct, "blur": blur}


def problem(name: str, seed: int = 0):  # noqa: ANN201
    physics, prior = PROBLEMS[name]()
    generator = torch.Generator().manual_seed(seed)
    truth = prior.sample(1, generator).double()
    clean = physics.A(truth)
    # CT line integrals through several pixels are larger: the same relative noise
    sigma = SIGMA * max(1.0, float(clean.std()))
    physics.noise_model = GaussianNoise(sigma)
    y = clean + sigma * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    mask = getattr(physics, "measurement_mask", None)
    if mask is not None:
        y = y * mask
    return physics, prior, y, prior.posterior(y, physics, sigma), truth


def law_error(name: str, make, seed: int = 0) -> Deviation:  # noqa: ANN001
    physics, prior, y, exact, _ = problem(name, seed)
    return deviation(affine_law(make(prior), y, physics), exact.mean, exact.covariance())


@pytest.mark.parametrize("name", PROBLEMS)
def test_mmt_law_is_the_posterior_at_10_steps(name: str) -> None:
    # Krylov spaces that hold the whole image: what is left is the transition itself
    found = law_error(name, lambda p: MMT(p, steps=10, krylov=40, lanczos=40))
    assert found.mean < 0.01
    assert abs(found.std_ratio - 1) < 0.02
    assert found.covariance < 0.02


@pytest.mark.parametrize("name", PROBLEMS)
def test_mmt_is_exact_on_a_coarse_grid(name: str) -> None:
    # exact for a Gaussian prior at any step size; the start N(0, smax^2) costs (std / smax)^2
    found = law_error(name, lambda p: MMT(p, steps=3, krylov=40, lanczos=40, sigma_max=300.0))
    assert found.mean < 1e-3
    assert found.covariance < 1e-4


@pytest.mark.parametrize("name", PROBLEMS)
def test_moment_matching_law_at_its_default_and_convergence(name: str) -> None:
    coarse, default = (
        law_error(name, lambda p, n=n: MomentMatching(p, steps=n, krylov=20)) for n in (25, 50)
    )
    assert default.mean < 0.01
    assert abs(default.std_ratio - 1) < 0.02
    # Heun is of second order: doubling the steps divides the error by 4 in the limit, until the
    # start N(E[x0|y], smax^2), which lacks Cov[x0|y], shows (std ratio 1 - 1/200 at smax = 10 std)
    assert default.covariance < coarse.covariance / 2.5


def test_ancestral_plug_in_loses_spread_and_the_draw_does_not() -> None:
    # the reason for MMT: the mean plugged into ancestral steps is too narrow by a known amount
    plugged = law_error(
        "mri", lambda p: MomentMatching(p, steps=20, krylov=20, integrator="ancestral")
    )
    drawn = law_error("mri", lambda p: MMT(p, steps=20, krylov=40, lanczos=40))
    assert plugged.std_ratio < 0.9
    assert abs(drawn.std_ratio - 1) < 0.01
