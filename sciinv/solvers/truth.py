"""Small problems with an exactly known posterior, to test solvers on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from torch import Tensor

from sciinv.operators import CartesianMRI, ParallelBeamCT
from sciinv.priors.gaussian import GaussianField, GaussianPosterior
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


def mri(shape: tuple[int, int]) -> LinearPhysics:
    """Two smooth coils; half of the columns of k-space and the two in the middle."""
    height, width = shape
    rows = torch.arange(height, dtype=torch.float64)[:, None]
    weight = 0.25 + 0.5 * rows / (height - 1) + torch.zeros(width)
    phase = torch.exp(1.2j * rows / height)
    maps = torch.stack([weight.sqrt() + 0j, (1 - weight).sqrt() * phase])
    columns = torch.arange(width) % 2 == 1
    columns[width // 2 - 1 : width // 2 + 1] = True
    return CartesianMRI(shape, mask=columns.expand(shape), coil_maps=maps, dtype=torch.float64)


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

    :param name: ``"mri"``, ``"ct"`` or ``"blur"``.
    :param shape: (H, W); the image has H W components (MRI: twice as many).
    :param scans: B.
    :param noise: noise standard deviation over that of the images' components, or over that of
        the clean measurements if these are larger (line integrals).
    """
    physics = OPERATORS[name](shape)
    prior = GaussianField.power_law(shape, channels=2 if name == "mri" else 1)
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
