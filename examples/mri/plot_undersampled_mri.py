"""
Undersampled multi-coil MRI
===========================

A quarter of the k-space lines, eight coils, and noise: the posterior mean, how sure it is pixel by
pixel, and whether it explains the data. The second half does the same by hand: coil maps, operator,
noise level, prior and solver, and two classical reconstructions with the same operator.

The object is a random scene with a smooth phase. The shipped prior was trained on *other* draws of
the same generator, so this is the friendly case: real anatomy is harder, see the benchmarks.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from deepinv.physics import GaussianNoise

import sciinv
from sciinv.baselines import cg_sense, tv, tv_lambda
from sciinv.channels import to_channels, to_complex
from sciinv.data.phantoms import scene
from sciinv.data.scale import mri_scale
from sciinv.data.simulate import simulate_mri
from sciinv.metrics import coverage, psnr
from sciinv.operators import CartesianMRI, estimate_coil_maps
from sciinv.priors import load as load_prior
from sciinv.solvers import MMT

# %%
# The scan
# --------
# A scan of your own comes from a file: ``scan = sciinv.load("scan.h5")``. This one is simulated:
# 32 of 128 lines, 16 of them in the centre, pixels of 1.5 mm.

PIXEL = 1.5  # mm
image = scene((128, 128), np.random.default_rng(12), complex_=True, kind="shells")
scan = simulate_mri(
    image, coils=8, acceleration=4, noise_std=0.01, rng=0, voxel_size=(5.0, PIXEL, PIXEL)
)

# %%
# The answer
# ----------
# Coil maps, noise level and intensity scale come from the scan itself, and without further
# arguments also the effort is chosen. It is fixed here, so that the page always shows the same.

result = sciinv.reconstruct(scan, num_samples=8, steps=8, krylov=4, seed=0)
truth = result.reference[0]
mean, std, seen = result.mean[0], result.std[0], result.visible[0]
result


# %%
# Images keep the convention of the arrays: rows downwards, columns to the right.


def panel(ax, values, title, top, unit="a.u.", cmap="gray"):
    """Show an image with a colour bar in its unit and a scale bar of 50 mm."""
    rows, columns = values.shape
    drawn = ax.imshow(values, cmap=cmap, vmin=0, vmax=top, extent=(0, columns, rows, 0))
    ax.plot([5, 5 + 50 / PIXEL], [rows - 5, rows - 5], color="white", linewidth=2)
    ax.text(5, rows - 8, "50 mm", color="white", fontsize=8)
    ax.set(title=title, xticks=[], yticks=[])
    ax.figure.colorbar(drawn, ax=ax, label=unit, shrink=0.75)


window = 1.05 * np.percentile(truth, 99.5)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
panel(axes[0], truth, "Truth", window)
panel(axes[1], result.baseline_magnitude[0], "CG-SENSE", window)
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
# The residual over the noise level, root mean square over the coils: 1 everywhere if the model is
# right. Lines that were not measured are grey. Structure here would mean wrong coil maps.

figure, axis = plt.subplots(figsize=(5.2, 4), layout="constrained")
colours = plt.get_cmap("viridis").with_extremes(bad="0.6")
drawn = axis.imshow(np.ma.masked_invalid(result.residual), cmap=colours, vmin=0, vmax=2)
axis.set(title="Residual of the mean", xlabel="kx", ylabel="ky", xticks=[], yticks=[])
figure.colorbar(drawn, ax=axis, label="noise standard deviations")

# %%
# Behind the scenes
# -----------------
# What ``reconstruct`` does, in a dozen lines. Tensors are ``(batch, channels, rows, columns)``
# with the real and imaginary part as the two channels; k-space is ``(batch, 2, coils, ...)``.

kspace = torch.from_numpy(scan.data)  # (1, coils, rows, columns), complex
mask = torch.from_numpy(scan.geometry.mask)
maps = estimate_coil_maps(kspace, mask=mask, fold_phase=True)
scale = mri_scale(scan.data[0], scan.geometry.mask, maps[0].numpy())  # bright tissue is 1
sigma = scan.noise_std / scale
physics = CartesianMRI((128, 128), mask, maps, noise_model=GaussianNoise(sigma))
y = to_channels(kspace) / scale

prior = load_prior("generic", channels=2)
solver = MMT(prior, steps=10, krylov=4)
sample = solver.sample(y, physics, num_samples=1, generator=0)[0]  # (batch, 2, rows, columns)

# %%
# The operator is a deepinv ``LinearPhysics``: the baselines, and deepinv's own methods, take it.
# This sample starts from noise; those of ``reconstruct`` start from a point estimate.

sense = cg_sense(y, physics, lam=0.01)
total_variation = tv(y, physics, lam=tv_lambda(physics, sigma, 1.0))


def magnitude(x):
    return scale * to_complex(x)[0].abs().numpy()


images = {
    "CG-SENSE": magnitude(sense),
    "total variation": magnitude(total_variation),
    "MMT, one sample": magnitude(sample),
    "reconstruct, mean of 8": mean,
}
figure, axes = plt.subplots(1, 4, figsize=(14, 3.2), layout="constrained")
for axis, (name, values) in zip(axes, images.items(), strict=True):
    panel(axis, values, name, window)

# %%
# Numbers
# -------
# Inside the object, against the truth. A sample is worse than the mean by nature: its distance from
# the truth is that of two draws from the posterior.

inside = seen & (truth > 0.1 * window)


def decibels(values):
    return psnr(values, truth, data_range=truth.max(), mask=inside)


quality = {name: decibels(values) for name, values in images.items()}
for name, value in quality.items():
    print(f"{name:24s} {value:5.1f} dB")
covered = coverage(result.magnitude[:, 0], truth, level=7 / 9, mask=inside)
print(f"the 78 % interval holds the truth in {covered:.0%} of the pixels")
print(f"chi-squared {result.chi_squared:.2f}")

assert quality["reconstruct, mean of 8"] > quality["total variation"] + 1
assert quality["MMT, one sample"] > quality["CG-SENSE"]
assert 0.6 < covered < 0.95
assert 0.9 < result.chi_squared < 1.1
