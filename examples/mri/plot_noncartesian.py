"""
Radial MRI with few spokes
==========================

A sixth of the spokes that the Nyquist criterion asks for, eight coils, and noise. The coil maps
come from the scan itself. Four reconstructions share one operator: gridding, CG-SENSE, plug-and-
play splitting with the shipped prior, and posterior samples that also say how sure they are.

The object is a random scene with a smooth phase; the prior was trained on *other* draws of the same
generator, so this is the friendly case.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from deepinv.physics import GaussianNoise

from sciinv.baselines import cg_sense
from sciinv.baselines.common import mean_diagonal, squared_norm
from sciinv.channels import to_channels, to_complex
from sciinv.data.phantoms import scene
from sciinv.data.scale import mri_scale
from sciinv.data.simulate import birdcage_maps
from sciinv.metrics import psnr, ssim
from sciinv.operators import (
    NonCartesianMRI,
    calibration_kspace,
    estimate_coil_maps,
    radial_trajectory,
    sensitivity_support,
)
from sciinv.priors import load as load_prior
from sciinv.solvers import MMT, PnPHQS

# %%
# The scan
# --------
# A spoke is a diameter of k-space; each is turned by the golden angle, 111.25 degrees, against the
# one before. 96 x 96 pixels ask for 96 pi / 2 = 151 spokes, 24 are measured. The trajectory is in
# cycles per field of view, row component first. (A file with a side-car becomes the same arrays by
# ``sciinv.load``, and ``sciinv.reconstruct`` does all that follows.)

SIZE, SPOKES, COILS, NOISE, PIXEL = 96, 24, 8, 0.01, 2.0  # PIXEL in mm
image = scene((SIZE, SIZE), np.random.default_rng(26), complex_=True, kind="shells")
truth = np.abs(image)
trajectory = radial_trajectory((SIZE, SIZE), SPOKES, angles="golden")  # (spokes, samples, 2)
true_maps = torch.from_numpy(birdcage_maps(COILS, (SIZE, SIZE)))
scanner = NonCartesianMRI((SIZE, SIZE), trajectory, true_maps, noise_model=GaussianNoise(NOISE))
torch.manual_seed(0)  # deepinv draws its noise from the global generator
measured = scanner(to_channels(torch.from_numpy(image)[None].to(torch.complex64)).float())
print(scanner)

# %%
# Coil maps from the scan itself
# ------------------------------
# The centre of k-space is sampled densely enough to be put on a Cartesian grid by a small
# least-squares fit; ESPIRiT takes it from there. The maps carry the image's own smooth phase, so
# that the prior sees an image that is nearly real. Bright tissue is 1 for the prior: data and noise
# are divided by the scale.

centre, block = calibration_kspace(to_complex(measured), trajectory, (SIZE, SIZE))
maps = estimate_coil_maps(centre, mask=block, fold_phase=True)
seen = sensitivity_support(centre, block)[0].numpy()
scale = mri_scale(centre[0].numpy(), block.numpy(), maps[0].numpy())
sigma = NOISE / scale
physics = NonCartesianMRI((SIZE, SIZE), trajectory, maps, noise_model=GaussianNoise(sigma))
y = measured / scale

# %%
# Classical reconstructions
# -------------------------
# Gridding weights every sample by the area of k-space that it stands for. CG-SENSE solves least
# squares and needs no weights. Its ``lam`` counts in units of the largest eigenvalue of ``A^T A``,
# which belongs to the centre of k-space, where all spokes meet. The image's detail lies where they
# are far apart, so ``lam`` is stated relative to the mean eigenvalue (the samples per pixel): 0.01
# of the largest one would be nearly all of the mean, and blur the image.

gridded = physics.A_dagger(y)
share = float(mean_diagonal(physics, gridded) / squared_norm(physics, gridded))
print(f"mean over largest eigenvalue: {share:.3f}")
sense = cg_sense(y, physics, lam=0.03 * share)

# %%
# With the prior
# --------------
# The point estimate alternates between the denoiser and the data. The samples start from it at a
# small noise level, which saves most of the steps.

prior = load_prior("generic", channels=2)
point = PnPHQS(prior, steps=16).sample(y, physics, init=sense, generator=0)[0]
solver = MMT(prior, steps=3, krylov=6, sigma_max=0.1)
samples = solver.sample(y, physics, num_samples=4, init=point, generator=0)


def magnitude(x):
    """Magnitude of the first image in the units of the truth."""
    return scale * to_complex(x)[0].abs().numpy()


draws = np.stack([magnitude(x) for x in samples])
images = {
    "Gridding": magnitude(gridded),
    "CG-SENSE": magnitude(sense),
    "PnP-HQS": magnitude(point),
    "MMT, mean of 4": draws.mean(0),
}

# %%
# The answer
# ----------
# Rows grow downwards and columns to the right. Differences have a tenth of the window. The standard
# deviation is that of the four samples; where no coil sees anything only the prior would speak, so
# it is masked.

figure, axes = plt.subplots(2, 5, figsize=(15, 6), layout="constrained")
window = 1.05 * np.percentile(truth, 99.5)
for axis, (name, values) in zip(axes[0], ({"Truth": truth} | images).items(), strict=True):
    drawn = axis.imshow(values, cmap="gray", vmin=0, vmax=window)
    axis.plot([5, 5 + 50 / PIXEL], [SIZE - 5, SIZE - 5], color="white", linewidth=2)
    axis.text(5, SIZE - 7, "50 mm", color="white", fontsize=8)
    axis.set(title=name, xticks=[], yticks=[])
figure.colorbar(drawn, ax=axes[0], label="a.u.", shrink=0.8)
spread = np.ma.masked_where(~seen, draws.std(0, ddof=1))
colours = plt.get_cmap("inferno").with_extremes(bad="0.5")
shown = axes[1, 0].imshow(spread, cmap=colours, vmin=0, vmax=0.1 * window)
axes[1, 0].set(title="Standard deviation", xticks=[], yticks=[])
for axis, (name, values) in zip(axes[1, 1:], images.items(), strict=True):
    error = np.ma.masked_where(~seen, np.abs(values - truth))
    axis.imshow(error, cmap=colours, vmin=0, vmax=0.1 * window)
    axis.set(title=f"Error of {name}", xticks=[], yticks=[])
figure.colorbar(shown, ax=axes[1], label="a.u.", shrink=0.8)

# %%
# Numbers
# -------
# Inside the object, against the truth.

inside = seen & (truth > 0.1 * window)
quality = {
    name: psnr(values, truth, data_range=truth.max(), mask=inside)
    for name, values in images.items()
}
for name, value in quality.items():
    structure = ssim(images[name], truth, data_range=truth.max(), mask=inside)
    print(f"{name:16s} {value:5.1f} dB   SSIM {structure:.3f}")
residual = (physics.A(samples.mean(0)) - y).square().mean().sqrt() / sigma
print(f"residual of the mean {residual:.2f} noise standard deviations")
off = np.sqrt(np.mean((draws.mean(0) - truth)[inside] ** 2))
told = np.sqrt(np.mean(draws.std(0, ddof=1)[inside] ** 2))
print(f"standard deviation {told:.4f}, error of the mean {off:.4f} (root mean square)")

assert quality["CG-SENSE"] > quality["Gridding"] + 2
assert quality["PnP-HQS"] > quality["CG-SENSE"] + 1
assert quality["MMT, mean of 4"] > quality["CG-SENSE"] + 1
assert 0.9 < residual < 1.1
