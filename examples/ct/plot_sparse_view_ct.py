"""
Sparse-view CT from photon counts
=================================

30 of 180 projections of a porous object, 20000 photons a detector pixel in the open beam: the
posterior mean in 1/mm, how sure it is pixel by pixel, and whether it explains the counts. The
second half does the same by hand and compares with filtered back-projection, SIRT and total
variation.

The object is a random scene; the shipped prior was trained on *other* draws of the same generator,
so this is the friendly case: real objects are harder, see the benchmarks.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from deepinv.physics import GaussianNoise

import sciinv
from sciinv.baselines import fbp, sirt, tv, tv_lambda
from sciinv.data.phantoms import scene
from sciinv.data.scale import ct_scale
from sciinv.data.simulate import simulate_ct, undersample
from sciinv.metrics import coverage, psnr
from sciinv.operators import ParallelBeamCT, whiten
from sciinv.priors import load as load_prior
from sciinv.solvers import MMT

# %%
# The scan
# --------
# A scan of your own comes from a file: ``scan = sciinv.load("scan.h5")``. This one is simulated
# from an image of twice the resolution: parallel beam, half a turn, pixels of 0.2 mm, Poisson
# counts. Then every sixth projection is kept.

PIXEL = 0.2  # mm
attenuation = 0.15 * scene((192, 192), np.random.default_rng(11), kind="shells")  # 1/mm
full = simulate_ct(
    attenuation, image_shape=(96, 96), num_angles=180, dose=20000, pixel_size=PIXEL, rng=0
)
scan = undersample(full, 6)

# %%
# The answer
# ----------
# Noise level and intensity scale come from the counts themselves, and without further arguments
# also the effort is chosen. It is fixed here, so that the page always shows the same.

result = sciinv.reconstruct(scan, num_samples=8, steps=8, krylov=10, seed=0)
truth = result.reference[0]
mean, std, seen = result.mean[0], result.std[0], result.visible[0]
result


# %%
# Pixels outside of the scanned disc are masked: the data say nothing there.


def panel(ax, values, title, top, cmap="gray"):
    """Show an image with a colour bar in 1/mm and a scale bar of 5 mm."""
    side = PIXEL * len(values)
    drawn = ax.imshow(values, cmap=cmap, vmin=0, vmax=top, extent=(0, side, 0, side))
    ax.plot([1, 6], [1, 1], color="white", linewidth=2)
    ax.text(1, 1.5, "5 mm", color="white", fontsize=8)
    ax.set(title=title, xticks=[], yticks=[])
    ax.figure.colorbar(drawn, ax=ax, label="1/mm", shrink=0.75)


window = 1.05 * np.percentile(truth, 99.5)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
panel(axes[0], truth, "Truth", window)
panel(axes[1], result.baseline_magnitude[0], "Filtered back-projection", window)
panel(axes[2], mean, "Posterior mean", window)

# %%
# How sure
# --------
# The standard deviation over the samples, beside the error that was made (which only a simulation
# can show). Both have the same window.

figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained")
error = np.where(seen, np.abs(mean - truth), 0)
top = np.percentile(error[seen], 99.5)
panel(axes[0], std, "Posterior standard deviation", top, cmap="inferno")
panel(axes[1], error, "Error of the mean", top, cmap="inferno")

# %%
# What is left in the data
# ------------------------
# The residual of every ray over its own noise level. It should look like noise: rays that stay
# bright over many projections would mean a wrong rotation axis, wrong angles or a bad pixel.

figure, axis = plt.subplots(figsize=(8.4, 2.6), layout="constrained")
drawn = axis.imshow(result.residual, cmap="viridis", vmin=0, vmax=4, aspect="auto")
axis.set(title="Residual of the mean", xlabel="detector pixel", ylabel="projection")
figure.colorbar(drawn, ax=axis, label="noise standard deviations")

# %%
# Behind the scenes
# -----------------
# What ``reconstruct`` does, in a dozen lines. The logarithm of N counts has a standard deviation
# of about 1 / sqrt(N); dividing both sides by it makes the noise white, which every solver relies
# on. (``reconstruct`` expands the Poisson likelihood instead, which matters for few counts.)

geometry = scan.geometry
operator = ParallelBeamCT(
    geometry.image_shape,
    geometry.angles,
    num_detectors=geometry.num_detectors,
    detector_spacing=geometry.detector_spacing,
    pixel_size=geometry.pixel_size,
)
integrals = torch.from_numpy(scan.data)[None]  # (batch, 1, angles, detectors)
spread = torch.from_numpy(scan.counts)[None].clamp_min(1).rsqrt()
scale = ct_scale(sirt(integrals, operator, iterations=20, nonneg=True).numpy())
physics = whiten(operator, spread / scale)
physics.noise_model = GaussianNoise(1.0)
y = physics.whiten_measurement(integrals / scale)

prior = load_prior("generic", channels=1)
solver = MMT(prior, steps=12, krylov=20)
sample = solver.sample(y, physics, num_samples=1, generator=0)[0]  # (batch, 1, rows, columns)

# %%
# The operator is a deepinv ``LinearPhysics``: the baselines, and deepinv's own methods, take it.
# This sample starts from noise; those of ``reconstruct`` start from a point estimate.

images = {
    "FBP": fbp(integrals, operator),
    "SIRT": sirt(integrals, operator, iterations=100, nonneg=True),
    "total variation": scale * tv(y, physics, lam=tv_lambda(physics, 1.0, 1.0), nonneg=True),
    "MMT, one sample": scale * sample,
}
images = {name: x[0, 0].numpy() for name, x in images.items()}
figure, axes = plt.subplots(1, 4, figsize=(14, 3.2), layout="constrained")
for axis, (name, values) in zip(axes, images.items(), strict=True):
    panel(axis, values, name, window)

# %%
# Numbers
# -------
# Inside the object, against the truth. A sample is worse than the mean by nature: its distance from
# the truth is that of two draws from the posterior.

inside = seen & (truth > 0.1 * window)
images["reconstruct, mean of 8"] = mean
quality = {
    name: psnr(values, truth, data_range=truth.max(), mask=inside)
    for name, values in images.items()
}
for name, value in quality.items():
    print(f"{name:24s} {value:5.1f} dB")
covered = coverage(result.magnitude[:, 0], truth, level=7 / 9, mask=inside)
print(f"the 78 % interval holds the truth in {covered:.0%} of the pixels")
print(f"chi-squared {result.chi_squared:.2f}")

assert quality["reconstruct, mean of 8"] > quality["total variation"] + 1
assert quality["MMT, one sample"] > quality["FBP"]
assert 0.55 < covered < 0.95
assert 0.9 < result.chi_squared < 1.2
