"""Small problems with an exactly known posterior, to test solvers on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from deepinv.physics import DecomposablePhysics, GaussianNoise, LinearPhysics
from torch import Tensor

from sciinv.operators import CartesianMRI, NonCartesianMRI, ParallelBeamCT
from sciinv.operators.trajectories import radial_trajectory
from sciinv.priors.gaussian import GaussianField, GaussianPosterior
from sciinv.priors.mixture import GaussianMixture, MixturePosterior
from sciinv.random import as_generator


@dataclass(frozen=True)
class ExactProblem:
    """Measurements of images drawn from a Gaussian prior, with the posterior of each.

    :param physics: operator with its noise model, the same for all scans.
    :param prior: the law of the images; its denoiser is exact.
    :param truth: images, ``(B, C, H, W)``.
    :param y: measurements, ``(B, ...)``.
    :param sigma: noise standard deviation per real component.
    :param posterior: ``N(mean, covariance)`` of each scan.
    """

    physics: LinearPhysics
    prior: GaussianField
    truth: Tensor
    y: Tensor
    sigma: float
    posterior: GaussianPosterior


def _coils(shape: tuple[int, int]) -> Tensor:
    """Two smooth coils whose squared magnitudes add up to one."""
    height, width = shape
    rows = torch.arange(height, dtype=torch.float64)[:, None]
    weight = 0.25 + 0.5 * rows / (height - 1) + torch.zeros(width)
    phase = torch.exp(1.2j * rows / height)
    return torch.stack([weight.sqrt() + 0j, (1 - weight).sqrt() * phase])


def mri(shape: tuple[int, int]) -> LinearPhysics:
    """Two smooth coils; half of the columns of k-space and the two in the middle."""
    width = shape[1]
    columns = torch.arange(width) % 2 == 1
    columns[width // 2 - 1 : width // 2 + 1] = True
    mask = columns.expand(shape)
    return CartesianMRI(shape, mask=mask, coil_maps=_coils(shape), dtype=torch.float64)


def nufft(shape: tuple[int, int]) -> LinearPhysics:
    """The same coils; half as many spokes through the centre of k-space as the image is wide."""
    spokes = radial_trajectory(shape, max(3, shape[1] // 2), 2 * max(shape))
    return NonCartesianMRI(shape, spokes, _coils(shape), dtype=torch.float64)


def ct(shape: tuple[int, int]) -> LinearPhysics:
    """As many parallel projections as half the image is wide, over half a turn."""
    count = max(3, shape[1] // 2)
    return ParallelBeamCT(
        shape,
        [0.1 + torch.pi * i / count for i in range(count)],
        num_detectors=2 * (max(shape) * 3 // 4) + 1,
        detector_spacing=1.0,
        pixel_size=1.0,
        backend="torch",
        dtype=torch.float64,
    )


def blur(shape: tuple[int, int]) -> LinearPhysics:
    """A periodic Gaussian blur whose weakest frequency keeps 1.8 % of its amplitude."""
    fy, fx = torch.fft.fftfreq(shape[0]), torch.fft.fftfreq(shape[1])
    gain = torch.exp(-8.0 * (fy[:, None] ** 2 + fx[None] ** 2)).double()

    def apply(x: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(x) * gain.to(x)).real

    return LinearPhysics(A=apply, A_adjoint=apply, img_size=(1, *shape))


OPERATORS: dict[str, Callable[[tuple[int, int]], LinearPhysics]] = {
    "mri": mri,
    "nufft": nufft,
    "ct": ct,
    "blur": blur,
}


def exact_problem(
    name: str,
    shape: tuple[int, int],
    *,
    scans: int = 1,
    noise: float = 0.05,
    generator: torch.Generator | int = 0,
) -> ExactProblem:
    """Draw images from a power-law field and measure them.

    :param name: ``"mri"``, ``"nufft"``, ``"ct"`` or ``"blur"``.
    :param shape: (H, W); the image has H W components (MRI: twice as many).
    :param scans: B.
    :param noise: noise standard deviation over that of the images' components, or over that of
        the clean measurements if these are larger (line integrals).
    """
    physics = OPERATORS[name](shape)
    prior = GaussianField.power_law(shape, channels=2 if name in ("mri", "nufft") else 1)
    draws = as_generator(generator)
    truth = prior.sample(scans, draws, dtype=torch.float64)
    clean = physics.A(truth)
    sigma = noise * max(1.0, float(clean.std()))
    physics.noise_model = GaussianNoise(sigma)
    y = clean + sigma * torch.randn(clean.shape, generator=draws, dtype=torch.float64)
    mask = getattr(physics, "measurement_mask", None)
    if mask is not None:
        y = y * mask
    return ExactProblem(physics, prior, truth, y, sigma, prior.posterior(y, physics, sigma))


@dataclass(frozen=True)
class MixtureProblem:
    """A few noisy combinations of one draw from a Gaussian mixture, with its exact posterior.

    :param physics: dense operator given by its singular value decomposition.
    :param prior: the mixture; its denoiser is exact.
    :param truth: ``(1, 1, 1, n)``.
    :param y: measurement ``(1, 1, 1, m)``.
    :param sigma: noise standard deviation.
    :param posterior: again a mixture.
    """

    physics: DecomposablePhysics
    prior: GaussianMixture
    truth: Tensor
    y: Tensor
    sigma: float
    posterior: MixturePosterior


def dense(u: Tensor, s: Tensor, vh: Tensor) -> DecomposablePhysics:
    """Return ``A = U diag(s) V^T`` on images ``(B, 1, 1, n)``.

    :param u: orthogonal, ``(m, m)``.
    :param s: singular values, ``(m,)``.
    :param vh: orthogonal, ``(n, n)``, n at least m.
    """
    m, n = u.shape[0], vh.shape[0]
    padded = torch.nn.functional.pad(s, (0, n - m)).reshape(1, 1, 1, n)
    return DecomposablePhysics(
        U=lambda v: v[..., :m] @ u.to(v).T,
        U_adjoint=lambda v: torch.nn.functional.pad(v @ u.to(v), (0, n - m)),
        V=lambda v: v @ vh.to(v),
        V_adjoint=lambda x: x @ vh.to(x).T,
        mask=padded,
        img_size=(1, 1, n),
    )


def mixture_problem(
    dim: int, measurements: int, generator: torch.Generator | int = 0
) -> MixtureProblem:
    """Draw a problem of the benchmark of Cardoso et al., "Monte Carlo guided diffusion".

    25 components at (8 i, 8 j, 8 i, ...), i, j in -2 ... 2, with unit covariances and weights
    z^2 / sum z^2; an operator with singular vectors of a normal matrix and sorted uniform singular
    values; noise uniform in (0, 1) times the largest of them (arXiv 2308.07983).

    :param dim: n.
    :param measurements: m, at most n.
    """
    draws = as_generator(generator)
    prior = GaussianMixture.grid25(dim, draws)
    matrix = torch.randn((measurements, dim), generator=draws, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(matrix)
    s = torch.rand(measurements, generator=draws, dtype=torch.float64).sort(descending=True).values
    physics = dense(u, s, vh)
    sigma = float(torch.rand((), generator=draws, dtype=torch.float64) * s.max())
    physics.noise_model = GaussianNoise(sigma)
    truth = prior.sample(1, draws, dtype=torch.float64)
    noise = torch.randn((1, 1, 1, measurements), generator=draws, dtype=torch.float64)
    y = physics.A(truth) + sigma * noise
    return MixtureProblem(physics, prior, truth, y, sigma, prior.posterior(y, physics, sigma))
