"""
Where the Jensen approximation ends
===================================

Guidance needs the likelihood of a *noisy* image. DPS takes that of the denoised one,
``p(y | x_s) ~ p(y | D(x_s))``: it swaps an average over all clean images that may lie behind
``x_s`` with the likelihood of their average, the two sides of Jensen's inequality. How far are the
samples from the true posterior because of that, and what makes it worse: a poorer operator, less
noise, or a measurement without phases?
"""

from __future__ import annotations

import math
import warnings
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import torch
from deepinv.physics import GaussianNoise, LinearPhysics, Physics

from sciinv.metrics import sliced_wasserstein
from sciinv.priors import GaussianField, GaussianMixture
from sciinv.solvers import DPS, MMT, MomentMatching
from sciinv.solvers.testing import affine_law

# %%
# One number
# ----------
# Prior ``N(0, 1)``, one measurement with little noise, of the number itself or of its magnitude.
# Shown is the law of the noisy number given the measurement, exact and with the approximation. With
# little noise in ``x_s`` they agree. With much of it the approximation is far too narrow: it asks
# the denoised number to explain the measurement, although much else may lie behind ``x_s``. For the
# magnitude it is also far too wide apart, since the denoised number is always small.

NOISE, SEEN = 0.2, 1.0
points = np.linspace(-8, 8, 1601)
clean = np.linspace(-5, 5, 1001)[:, None]

figure, axes = plt.subplots(2, 3, figsize=(12, 5.6), layout="constrained", sharex="col")
for row, (what, operator) in enumerate({"x": lambda x: x, "|x|": np.abs}.items()):
    for axis, level in zip(axes[row], (0.1, 0.5, 2.0), strict=True):
        x = points * math.hypot(1, level)
        joint = np.exp(-(clean**2) / 2 - ((x - clean) / level) ** 2 / 2)
        exact = (joint * np.exp(-(((SEEN - operator(clean)) / NOISE) ** 2) / 2)).sum(0)
        denoised = x / (1 + level**2)
        jensen = joint.sum(0) * np.exp(-(((SEEN - operator(denoised)) / NOISE) ** 2) / 2)
        axis.plot(points, exact / exact.sum(), color="0.3", label="exact")
        axis.plot(points, jensen / jensen.sum(), color="C3", label="Jensen")
        axis.set(title=f"y = {what} + noise, noise level {level:g}", yticks=[], xlim=(-3.5, 3.5))
axes[0, 0].legend()
for axis in axes[1]:
    axis.set_xlabel("noisy number, in its own prior standard deviations")

# %%
# A blur, in closed form
# ----------------------
# An image from a Gaussian field, blurred by a periodic kernel. Every spatial frequency is then a
# problem of its own, and the approximate score is linear in it: the reverse stochastic process and
# the reverse differential equation can be followed exactly, in steps so small that only the
# approximation is left. Divergence is that of Kullback and Leibler from the true posterior, in nats
# for the whole image.

SIZE, DRAWS = 8, 512
field = GaussianField.power_law((SIZE, SIZE))
k = torch.fft.fftfreq(SIZE, dtype=torch.float64)
truth = field.sample(1, 0, dtype=torch.float64)
white = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1), dtype=truth.dtype)


def blur(width, sigma):
    """Periodic blur of ``width`` pixels with white noise, and its gain at every frequency."""
    gain = torch.exp(-2 * (math.pi * width) ** 2 * (k[:, None] ** 2 + k[None] ** 2))

    def apply(x):
        return torch.fft.ifft2(torch.fft.fft2(x) * gain.to(x.dtype)).real

    physics = LinearPhysics(
        A=apply, A_adjoint=apply, img_size=(1, SIZE, SIZE), noise_model=GaussianNoise(sigma)
    )
    return physics, gain


def spectrum(image):
    return torch.fft.fft2(image) / SIZE


def posterior_of(gain, sigma, y):
    """Mean and variance of every Fourier coefficient."""
    variance = 1 / (1 / field.eigenvalues + gain**2 / sigma**2)
    return variance * gain * spectrum(y)[0, 0] / sigma**2, variance


def divergence(mean, variance, target):
    """From ``target``, of independent Fourier coefficients, in nats."""
    ratio = variance / target[1]
    shift = (mean - target[0]).abs().square() / target[1]
    return 0.5 * float((ratio - 1 - ratio.log() + shift).sum())


LEVELS = torch.logspace(2, -4, 2000, dtype=torch.float64).tolist()


def followed(gain, sigma, y, *, spread, ode):
    """Law at the end of the reverse process whose likelihood is ``N(y; A D, sigma^2 + A V A^T)``.

    :param spread: V: ``"none"`` is the approximation, ``"full"`` the truth.
    :param ode: the differential equation in the place of the stochastic process.
    """
    data, prior = spectrum(y)[0, 0], field.eigenvalues
    mean, variance = torch.zeros_like(data), torch.full_like(prior, LEVELS[0] ** 2)
    for s, lower in zip(LEVELS, LEVELS[1:], strict=False):
        middle = math.sqrt(s * lower)
        jacobian = prior / (prior + middle**2)
        noise = sigma**2 + (gain**2 * middle**2 * jacobian if spread == "full" else 0)
        # the score is offset - rate x: an Ornstein-Uhlenbeck process, exact for any step
        rate = 1 / (prior + middle**2) + (jacobian * gain) ** 2 / noise
        offset = jacobian * gain * data / noise
        duration = (s**2 - lower**2) / (2 if ode else 1)
        kept = torch.exp(-rate * duration)
        mean = offset / rate + kept * (mean - offset / rate)
        fresh = 0 if ode else (1 - kept**2) / (2 * rate)
        variance = kept**2 * variance + fresh
    return mean, variance


# %%
# Beside them the solvers of the package as they are used. MMT and moment matching are affine maps
# of their random numbers here, so their law is known without sampling. Draws of DPS are Gaussian to
# good approximation, and the divergence is taken from their mean and variance.


def of_law(solver, y, physics):
    """Law of an affine solver; a blur keeps the Fourier coefficients independent."""
    law = affine_law(solver, y, physics)
    transform = spectrum(torch.eye(SIZE**2, dtype=torch.float64).reshape(-1, SIZE, SIZE))
    basis = transform.reshape(SIZE**2, -1).T  # image to coefficients
    variance = ((basis @ law.covariance.to(basis.dtype)) * basis.conj()).sum(1).real
    return spectrum(law.mean.reshape(SIZE, SIZE)), variance.reshape(SIZE, SIZE)


def of_draws(solver, y, physics):
    coefficients = spectrum(solver.sample(y, physics, DRAWS, generator=0)[:, 0, 0])
    mean = coefficients.mean(0)
    return mean, (coefficients - mean).abs().square().sum(0) / (DRAWS - 1)


METHODS = ("Jensen, differential equation", "Jensen, stochastic process", "DPS, 100 steps",
           "moment matching", "MMT, 4 steps")  # fmt: skip


@cache
def divergences(width, sigma):
    physics, gain = blur(width, sigma)
    y = physics.A(truth) + sigma * white
    laws = (
        followed(gain, sigma, y, spread="none", ode=True),
        followed(gain, sigma, y, spread="none", ode=False),
        of_draws(DPS(field, steps=100), y, physics),
        of_law(MomentMatching(field, steps=15, krylov=15), y, physics),
        of_law(MMT(field, steps=4, krylov=20, lanczos=6), y, physics),
    )
    target = posterior_of(gain, sigma, y)
    # with the right covariance the same code ends at the posterior
    assert divergence(*followed(gain, sigma, y, spread="full", ode=False), target) < 1e-5
    return [divergence(*law, target) for law in laws]


SIGMAS, WIDTHS = (1.0, 0.3, 0.1, 0.03), (0.0, 0.5, 1.0, 1.5)
by_noise = np.array([divergences(1.0, sigma) for sigma in SIGMAS])
by_width = np.array([divergences(width, 0.1) for width in WIDTHS])

# %%
# What they say
# -------------
# Followed exactly, the stochastic process forgives much: its last levels, where the approximation
# is good, correct what the first ones did. The differential equation forgets nothing: its
# samples collapse: they come out with next to no spread wherever the measurement is good. (The
# bounded step of the package's DPS prevents that, also without fresh noise: see the deblurring
# example.)
#
# The less noise, the stiffer the process, and the shorter the steps that the approximation asks
# for. DPS with its usual number of steps and its bounded step then falls far behind the process
# that it follows. What the operator does is less simple. Without a blur all frequencies are
# measured equally well, and there is one step that is right for all of them; with a narrow one
# there is not. A wide blur leaves most of the image to the prior, for which nothing has to be
# approximated: what fails is the approximation where much is measured precisely. Methods that know
# the covariance of the clean image hardly see any of this.

STYLES = ("C3:", "C3--", "C3o-", "C0s-", "C2^-")
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
for style, name, noise, width in zip(STYLES, METHODS, by_noise.T, by_width.T, strict=True):
    # a spread of zero is infinitely far
    axes[0].plot(SIGMAS, np.minimum(noise, 1e5), style, label=name)
    axes[1].plot(WIDTHS, np.minimum(width, 1e5), style)
axes[0].set(xlabel="noise (standard deviations of a pixel)", xscale="log", yscale="log")
axes[0].set(title="Blur of one pixel", ylabel="divergence (nats)", ylim=(1e-6, 1e5))
axes[0].invert_xaxis()
axes[1].set(title="Noise of a tenth", xlabel="width of the blur (pixels)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)

heads = ("Jensen, ODE", "Jensen, SDE", "DPS", "moment matching", "MMT")
print("divergence in nats" + "".join(f"{head:>18s}" for head in heads))
for what, values, rows in (("noise", SIGMAS, by_noise), ("blur", WIDTHS, by_width)):
    for value, row in zip(values, rows, strict=True):
        print(f"{what:>10s} {value:7g}" + "".join(f"{number:18.2g}" for number in row))

# %%
# Magnitudes only
# ---------------
# Phase retrieval in its smallest form: two numbers, the magnitudes of three combinations of them.
# ``x`` and ``-x`` explain the data equally well, and the prior, a mixture of two Gaussians, says
# how probable each is. On a plane the posterior can be drawn, and sampled exactly from a fine grid.

MATRIX = torch.tensor([[1.0, 0.2], [0.3, 1.0], [0.8, -0.6]], dtype=torch.float64)
TARGET = torch.tensor([1.2, 0.8], dtype=torch.float64)
mixture = GaussianMixture(
    [0.6, 0.4], torch.stack([TARGET, -TARGET]), 0.5, image_shape=(1, 2), channels=1
)


class Magnitudes(Physics):
    """``y = |M x| + noise`` for images of two pixels."""

    def __init__(self, sigma):
        super().__init__(noise_model=GaussianNoise(sigma))
        self.img_size = (1, 1, 2)

    def A(self, x, **_):
        return (x.flatten(1) @ MATRIX.to(x.dtype).T).abs()


side = torch.linspace(-4, 4, 801, dtype=torch.float64)
grid = torch.cartesian_prod(side, side)
prior_density = mixture.log_prob(grid.reshape(-1, 1, 1, 2))


def exact_posterior(y, sigma):
    """Probability of every grid point."""
    misfit = (y - (grid @ MATRIX.T).abs()).square().sum(1)
    return torch.softmax(prior_density - misfit / (2 * sigma**2), 0)


def exact_draws(probability, seed):
    generator = torch.Generator().manual_seed(seed)
    cells = grid[torch.multinomial(probability, DRAWS, replacement=True, generator=generator)]
    return cells + (side[1] - side[0]) * (torch.rand(cells.shape, generator=generator) - 0.5)


def apart(a, b):
    return sliced_wasserstein(a.numpy(), b.numpy(), np.random.default_rng(0), projections=64)


# torch says so of its own code when it first differentiates forwards through the operator
warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
SOLVERS = {
    "DPS": DPS(mixture, steps=100),
    "moment matching": MomentMatching(mixture, steps=30, krylov=2, integrator="ancestral"),
    "MMT": MMT(mixture, steps=30, krylov=2, lanczos=2),
}
PHASE_NOISE = (1.0, 0.3, 0.1, 0.03)
distances = {name: [] for name in SOLVERS}
side_share = {name: [] for name in ("exact", *SOLVERS)}
drawn = {}
for sigma in PHASE_NOISE:
    physics = Magnitudes(sigma)
    clean_data = physics.A(TARGET.reshape(1, 1, 1, 2))
    y = clean_data + sigma * torch.tensor([[0.3, -0.6, 0.4]], dtype=torch.float64)
    probability = exact_posterior(y, sigma)
    draws, again = exact_draws(probability, 2), exact_draws(probability, 3)
    side_share["exact"].append(float(probability[grid @ TARGET > 0].sum()))
    for name, solver in SOLVERS.items():
        samples = solver.sample(y, physics, DRAWS, generator=0).reshape(DRAWS, 2)
        drawn[name, sigma] = samples, probability
        distances[name].append(apart(samples, draws) / apart(again, draws))
        side_share[name].append(float((samples @ TARGET > 0).double().mean()))

# %%
# Grey: the exact posterior; dots: samples.

SHOWN = 0.3
figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
for axis, name in zip(axes, SOLVERS, strict=True):
    samples, probability = drawn[name, SHOWN]
    density = probability.reshape(len(side), len(side)).T
    axis.imshow(density.sqrt(), origin="lower", extent=(-4, 4, -4, 4), cmap="Greys")
    axis.plot(samples[:200, 0], samples[:200, 1], ".", color="C3", markersize=3)
    axis.set(title=f"{name}, noise {SHOWN:g}", xlim=(-2.6, 2.6), ylim=(-2.6, 2.6))

# %%
# The distance to exact samples, over that of two sets of exact ones (1 is as good as exact), and
# the share of samples on the side of the more probable answer. No method is exact here: also those
# that know the covariance replace a distribution with two peaks by one Gaussian, and the operator
# by a line, and leave some samples in places where nothing should be. DPS goes to the more probable
# answer too often, and less noise does not help. A likely reason: at high noise levels the denoised
# image lies between the two answers and leans to the probable one; asking it for the full magnitude
# pushes it on in that direction.

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
for name in SOLVERS:
    axes[0].plot(PHASE_NOISE, distances[name], "o-", label=name)
    axes[1].plot(PHASE_NOISE, side_share[name], "o-")
axes[0].axhline(1, color="0.3", linestyle="--", label="exact")
axes[1].plot(PHASE_NOISE, side_share["exact"], color="0.3", linestyle="--")
axes[0].set(title="Distance to the posterior", ylim=(0, None))
axes[1].set(title="Share of the probable answer", ylim=(0.5, 1))
for axis in axes:
    axis.set(xlabel="noise", xscale="log")
    axis.invert_xaxis()
axes[0].legend()

print("relative error: distance over that of exact samples (share of the probable answer)")
for number, sigma in enumerate(PHASE_NOISE):
    print(f"noise {sigma:g}, exact share {side_share['exact'][number]:.2f}")
    for name in SOLVERS:
        print(f"  {name:16s} {distances[name][number]:5.1f} ({side_share[name][number]:.2f})")

ode, sde, dps, matching, mmt = by_noise.T
assert (ode > 4 * sde).all()
assert (np.diff(dps) > 0).all()
assert dps[-1] > 4 * sde[-1]
assert (by_width[:, 4] < 1e-3).all()
assert (mmt < 1e-3).all()
assert (matching < 0.5 * np.minimum(dps, sde)).all()
for number in range(len(PHASE_NOISE)):
    assert 1 < distances["MMT"][number] < distances["moment matching"][number]
    assert distances["moment matching"][number] < distances["DPS"][number]
    assert side_share["DPS"][number] > side_share["exact"][number] + 0.1
