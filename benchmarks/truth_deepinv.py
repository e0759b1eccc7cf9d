"""Methods that deepinv has too: our distance to the truth beside theirs, on the same problem."""

from __future__ import annotations

import time
from collections.abc import Sequence

import deepinv
import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from quality_store import Row, Store
from torch import Tensor
from truth_common import draw, keep, solvers
from truth_rivals import EQUAL, PAIRS, RIVALS, VARIANTS, Rival, alike

from sciinv.priors import GaussianField
from sciinv.solvers.truth import ExactProblem

SIGMA = 0.05


def columns(size: int) -> LinearPhysics:
    """Fourier transform of a complex image, of which 10 of 32 columns are measured."""
    wanted = max(1, size * 10 // 32)
    keep_every = torch.zeros(size)
    keep_every[torch.linspace(0, size - 1, wanted).round().long()] = 1
    keep_every[size // 2] = 1
    mask = keep_every.expand(size, size).clone()
    return deepinv.physics.MRI(mask=mask, img_size=(2, size, size))


def blur(size: int) -> LinearPhysics:
    """Periodic Gaussian blur of one pixel's standard deviation."""
    r = torch.arange(-3.0, 4.0) ** 2
    kernel = torch.exp(-(r[:, None] + r) / 2)
    kernel = (kernel / kernel.sum())[None, None]
    return deepinv.physics.BlurFFT(img_size=(1, size, size), filter=kernel)


OPERATORS = {"Fourier columns": columns, "blur": blur}


def problem(name: str, size: int, seed: int) -> ExactProblem:
    """Draw a field with the spectrum (1 + |k|^2 / 4)^-1.5 and unit variance, and measure it."""
    physics = OPERATORS[name](size)
    prior = GaussianField.power_law((size, size), channels=2 if name == "Fourier columns" else 1)
    draws = torch.Generator().manual_seed(seed)
    truth = prior.sample(1, draws, dtype=torch.float64)
    # its buffers are single precision, real or complex
    physics._apply(lambda b: b.to(torch.complex128 if b.is_complex() else torch.float64))
    physics.noise_model = GaussianNoise(SIGMA)
    physics.img_size = tuple(truth.shape[1:])
    clean = physics.A(truth)
    y = clean + SIGMA * torch.randn(clean.shape, generator=draws, dtype=torch.float64)
    if name == "Fourier columns":
        y = y * physics.mask
    return ExactProblem(physics, prior, truth, y, SIGMA, prior.posterior(y, physics, SIGMA))


def scored(p: ExactProblem, samples: Tensor, seconds: float) -> Row:
    """Compare ``(S, C, H, W)`` with the exact posterior.

    ``square`` is the mean square error of the mean in posterior standard deviations, the sampling
    noise taken off (so it may be negative); with the ratio of standard deviations it gives the
    squared distance of the two normal laws, ``square + (1 - ratio)^2``.
    """
    mean, std = p.posterior.mean[0], p.posterior.std[0]
    found, variance = samples.mean(0), samples.var(0)
    square = ((found - mean) ** 2 - variance / len(samples)) / std**2
    ratio = float((variance.sum() / (std**2).sum()).sqrt())
    error = float(square.mean())
    return {"square": error, "std": ratio, "off": error + (1 - ratio) ** 2, "seconds": seconds}


def run(
    store: Store,
    names: Sequence[str],
    seeds: Sequence[int],
    again: Sequence[str],
    size: int = 16,
    samples: int = 32,
    variants: bool = True,
) -> None:
    """Compute what is missing of the pairs of methods."""
    theirs = {**RIVALS, **(VARIANTS if variants else {})}
    wanted = names or tuple(PAIRS.values())
    ours = solvers(wanted) | {alike(n): make for n, make in EQUAL.items() if n in wanted}
    for seed in seeds:
        for name in OPERATORS:
            p = problem(name, size, seed)
            case = f"deepinv/{name}/{seed}"

            def own(make: object, p: ExactProblem = p, seed: int = seed) -> Row:
                drawn = draw(make(p.prior), p.y, p.physics, samples, seed)
                return scored(p, drawn.samples[:, 0], drawn.seconds)

            def rival(sample: Rival, p: ExactProblem = p, seed: int = seed) -> Row:
                begin = time.process_time()
                x = sample(p.prior, p.physics, p.y, samples, seed)
                return scored(p, x, (time.process_time() - begin) / samples)

            for method, make in ours.items():
                keep(store, case, method, lambda m=make, f=own: f(m), method in again)
            for method, sample in theirs.items():
                keep(store, case, method, lambda s=sample, f=rival: f(s), method in again)
