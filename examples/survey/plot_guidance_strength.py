"""
Guidance strength: error against diversity
==========================================

Most guided samplers have a factor in front of the guidance, here ``step`` of DPS, and most papers
tune it for the smallest error. That factor also decides how much the samples differ from each
other, which is what an uncertainty is read from. Both are measured, for factors from nearly no
guidance to ten times the default, beside the exact posterior.
"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from deepinv.physics import GaussianNoise, LinearPhysics

from sciinv.data.phantoms import scene
from sciinv.metrics import pairwise_diversity, psnr
from sciinv.priors import GaussianField
from sciinv.priors import load as load_prior
from sciinv.solvers import DPS

# %%
# The problem
# -----------
# Deblurring of Gaussian random fields, whose posterior is known, with an exact denoiser.

SIZE, WIDTH, SIGMA = 32, 1.5, 0.02  # pixels, pixels, of a grey scale from 0 to 1
SCANS, SAMPLES, STEPS = 4, 16, 60


def blur(size, width, sigma):
    """Periodic Gaussian blur of standard deviation ``width`` pixels, with white noise."""
    f = torch.fft.fftfreq(size, dtype=torch.float64)
    gain = torch.exp(-2 * (math.pi * width) ** 2 * (f[:, None] ** 2 + f[None] ** 2))

    def apply(x):
        return torch.fft.ifft2(torch.fft.fft2(x) * gain.to(x.dtype)).real

    return LinearPhysics(
        A=apply, A_adjoint=apply, img_size=(1, size, size), noise_model=GaussianNoise(sigma)
    )


def measure(physics, image, seed):
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed)).to(image)
    return physics.A(image) + SIGMA * noise


physics = blur(SIZE, WIDTH, SIGMA)
field = GaussianField.power_law((SIZE, SIZE), mean=0.5, std=0.15)
truth = field.sample(SCANS, 0, dtype=torch.float64)
y = measure(physics, truth, 1)
posterior = field.posterior(y, physics)

# %%
# Error and diversity
# -------------------
# PSNR of the mean of the samples; their diversity, the root mean square difference between two of
# them; and chi-squared, how well a sample fits the data: 1 is to the noise.


def scores(samples, chi_squared):
    mean = samples.mean(0)
    return (
        np.mean([psnr(mean[i], truth[i], data_range=1) for i in range(SCANS)]),
        np.mean([pairwise_diversity(samples[:, i], data_range=1) for i in range(SCANS)]),
        float(chi_squared.mean()),
    )


STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
rows = []
for strength in STRENGTHS:
    solver = DPS(field, steps=STEPS, step=strength)
    samples, info = solver.sample(y, physics, SAMPLES, generator=0, return_info=True)
    rows.append(scores(samples, info.chi_squared))
table = np.array(rows)

exact = posterior.sample(SAMPLES, 2, dtype=torch.float64)
misfit = (physics.A(exact.flatten(0, 1)) - y.repeat(SAMPLES, 1, 1, 1)).square().mean() / SIGMA**2
best = scores(exact, misfit)

# %%
# The answer
# ----------
# Dashed: the exact posterior. Too weak guidance leaves samples of the prior: they differ too much
# and do not fit the data. From the default of 1 on, in units in which it should be right, the data
# are fitted to the noise. Still more guidance makes the error of the mean a little smaller, and the
# diversity smaller than that of the posterior: a strength that is tuned for the error gives
# samples that are surer than they should be.
#
# On the right the same as a path in the plane of both. It passes beside the exact posterior: no
# strength gives the right error *and* the right diversity.

figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
titles = ("PSNR of the mean (dB)", "diversity", "chi-squared of a sample")
for column, (axis, title) in enumerate(zip(axes, titles, strict=False)):
    axis.plot(STRENGTHS, table[:, column], "o-")
    axis.axhline(best[column], color="0.3", linestyle="--", label="exact posterior")
    axis.set(title=title, xlabel="guidance strength", xscale="log")
axes[1].set_ylim(bottom=0)
axes[2].set_yscale("log")
axes[0].legend(loc="lower right")
axes[3].plot(table[:, 1], table[:, 0], "o-")
for strength, row in zip(STRENGTHS[:5], table, strict=False):  # those above 1 lie close together
    axes[3].annotate(
        f"{strength:g}", row[1::-1], xytext=(-6, -12), textcoords="offset points", ha="right"
    )
axes[3].plot(best[1], best[0], "*", color="0.3", markersize=14, label="exact posterior")
axes[3].set(title="both", xlabel="diversity", ylabel="PSNR of the mean (dB)", xlim=(0, None))
axes[3].legend(loc="lower left")

print("strength  PSNR of the mean  diversity  chi-squared")
for strength, (decibels, differ, fit) in zip(STRENGTHS, table, strict=True):
    print(f"{strength:8g} {decibels:14.2f} dB {differ:10.4f} {fit:12.2f}")
print(f"   exact {best[0]:14.2f} dB {best[1]:10.4f} {best[2]:12.2f}")

# %%
# What it looks like
# ------------------
# A scene and the shipped prior, three strengths. Top: one sample; bottom: standard deviation of
# the samples, all with the same window. Weakly guided samples are nearly scenes of their own.

PIXELS, FEW = 64, 3
picture = torch.from_numpy(scene((PIXELS, PIXELS), np.random.default_rng(5), kind="leaves"))
picture = picture[None, None]
camera = blur(PIXELS, WIDTH, SIGMA)
seen = measure(camera, picture, 4)
network = load_prior("generic", channels=1)

SHOWN = (0.03, 1.0, 10.0)
figure, axes = plt.subplots(2, 4, figsize=(12, 6), layout="constrained")
axes[0, 0].imshow(picture[0, 0], cmap="gray", vmin=0, vmax=1)
axes[0, 0].set_title("Truth")
axes[1, 0].imshow(seen[0, 0], cmap="gray", vmin=0, vmax=1)
axes[1, 0].set_title("Measurement")
for column, strength in enumerate(SHOWN, start=1):
    solver = DPS(network, steps=25, step=strength)
    samples = solver.sample(seen, camera, FEW, generator=0)[:, 0, 0]
    axes[0, column].imshow(samples[0], cmap="gray", vmin=0, vmax=1)
    axes[0, column].set_title(f"Strength {strength:g}")
    drawn = axes[1, column].imshow(samples.std(0), cmap="inferno", vmin=0, vmax=0.2)
    axes[1, column].set_title("Standard deviation")
figure.colorbar(drawn, ax=axes[1, 1:], label="grey levels (white is 1)", shrink=0.8)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])

normal = STRENGTHS.index(1.0)
assert best[0] - 0.5 < table[normal, 0] < best[0]
assert abs(table[normal, 1] / best[1] - 1) < 0.1
assert table[0, 1] > 1.3 * best[1]
assert table[0, 2] > 2 * table[normal, 2]
assert table[-1, 0] > table[normal, 0]
assert table[-1, 1] < table[normal, 1] < best[1]
