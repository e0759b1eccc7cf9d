"""
A crystal from its diffraction pattern
======================================

A detector far behind a small object counts photons: the squared modulus of the object's Fourier
transform. The phases are lost, the brightest part is hidden behind a beam stop, and most pixels see
no photon at all. Hybrid input-output (HIO) with shrink-wrap finds the object from random phases;
diffusion posterior sampling (DPS) from there removes what the photons cannot support.

The object is simulated: a plate with five facets, amplitude near 1 and a smooth phase.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from deepinv.physics import GaussianNoise

from sciinv.baselines import hio
from sciinv.baselines.phasing import centred_crop, object_box, recentre
from sciinv.data.phantoms import crystal
from sciinv.metrics.ambiguity import align
from sciinv.operators import FourierPhaseRetrieval
from sciinv.priors import load as load_prior
from sciinv.solvers import DPS

# %%
# The experiment
# --------------
# The object lives on 64 x 64 pixels of 10 nm, the pattern has 128 x 128: twice as many along each
# axis, so that the object's autocorrelation fits. Index ``n // 2`` is the centre of both.

SIZE, PIXEL, PHOTONS = 64, 10, 100_000
rng = np.random.default_rng(4)
truth = crystal((SIZE, SIZE), rng)

stop = torch.ones(2 * SIZE, 2 * SIZE)
stop[SIZE - 2 : SIZE + 3, SIZE - 2 : SIZE + 3] = 0
detector = FourierPhaseRetrieval((SIZE, SIZE), mode="intensity", mask=stop)
image = torch.as_tensor(np.stack([truth.real, truth.imag]))[None].float()  # (batch, 2, ...)
exposure = PHOTONS / np.sum(np.abs(truth) ** 2)  # photons per unit of intensity
counts = torch.as_tensor(rng.poisson((exposure * detector.A(image)).numpy())).float()

# %%
# Phasing
# -------
# Four random starts run as one batch; the one with the smallest R-factor, the mean misfit of the
# amplitudes, is returned. The pattern does not say where the object is: it is put in the middle,
# and the grid is cut to it. The pattern's size stays, so no measurement is lost.

found, info = hio(counts, detector, starts=4, generator=0, return_info=True)
found = recentre(found)
box = object_box(found, margin=3, multiple=8)
start = centred_crop(found, box)
print("R-factors of the starts", [round(float(r), 3) for r in info.r_factors[0]])
print("object within", box, "pixels")

# %%
# Sampling
# --------
# The square root of a Poisson count has a standard deviation of about 1/2, whatever the count, so
# amplitudes have nearly the Gaussian noise that solvers ask for. The prior knows images of maximum
# 1: amplitudes and noise are divided by the intensity scale. The first noise level is small; the
# samples describe the posterior *near the image of HIO*, not its mirror image.

modulus = start.square().sum(1).sqrt()
scale = float(torch.quantile(modulus[modulus > 0.2 * modulus.max()], 0.95))
physics = FourierPhaseRetrieval(
    box, pattern_shape=detector.pattern_shape, mask=stop, noise_model=GaussianNoise(0.5 / scale)
)
solver = DPS(load_prior("generic", channels=2), steps=30, sigma_max=0.25)
samples = solver.sample(
    counts.sqrt() / scale, physics, num_samples=4, generator=0, init=start / scale
)

# %%
# Scores
# ------
# Global phase, position and the conjugate mirror image are not in the data. ``align`` takes them
# from the truth, which is allowed for scoring only. The samples share theirs: they are aligned to
# the first one before anything is averaged.


def as_truth(x):
    """Complex image on the object's grid in the units of the truth."""
    full = centred_crop(x, (SIZE, SIZE))[0].numpy()
    return (full[0] + 1j * full[1]) / exposure**0.5


def error(z):
    return np.linalg.norm(z - truth) / np.linalg.norm(truth)


draws = [as_truth(scale * sample) for sample in samples]
draws = np.stack([align(z, draws[0], upsample=10) for z in draws])
images = {
    "HIO": align(as_truth(start), truth, upsample=10),
    "DPS, mean of 4": align(draws.mean(0), truth, upsample=10),
}
errors = {name: error(z) for name, z in images.items()}
for name, value in errors.items():
    print(f"{name:16s} relative error {value:.3f}")

# %%
# The answer
# ----------


def panel(axis, values, title, **drawn):
    """Show an image with its colour bar and a scale bar of 100 nm."""
    label = drawn.pop("label")
    shown = axis.imshow(values, extent=(0, values.shape[1], values.shape[0], 0), **drawn)
    bottom = values.shape[0] - 4
    axis.plot([4, 4 + 100 / PIXEL], [bottom, bottom], color="white", linewidth=2)
    axis.text(4, bottom - 2, "100 nm", color="white", fontsize=8)
    axis.set(title=title, xticks=[], yticks=[])
    axis.figure.colorbar(shown, ax=axis, label=label, shrink=0.8)


rows = {"Truth": truth} | images
figure, axes = plt.subplots(2, 4, figsize=(15, 6.4), layout="constrained")
axes[0, 0].imshow(
    np.ma.masked_where(stop.numpy() == 0, np.log10(1 + counts[0, 0].numpy())), cmap="magma"
)
axes[0, 0].set(title=f"Pattern, {int(counts.sum())} photons seen (log)", xticks=[], yticks=[])
colours = plt.get_cmap("twilight").with_extremes(bad="0.2")
for column, (name, z) in enumerate(rows.items(), start=1):
    panel(axes[0, column], np.abs(z), f"{name}: amplitude", cmap="gray", vmin=0, vmax=1.2,
          label="a.u.")  # fmt: skip
    phase = np.where(np.abs(z) > 0.2, np.angle(z), np.nan)
    panel(axes[1, column], phase, f"{name}: phase", cmap=colours, vmin=-np.pi, vmax=np.pi,
          label="rad")  # fmt: skip
for line in info.history[0, :, 1:]:  # the random start itself fits
    axes[1, 0].plot(line)
axes[1, 0].set(title="HIO: R-factor of four starts", xlabel="iteration", yscale="log")

# %%
# How sure
# --------
# The standard deviation of the four samples beside the error of their mean. The edges are softer
# than they should be by more than the samples say: the root of a small count is too small on
# average, and the fine detail of edges goes into pixels that see hardly a photon.

mean = images["DPS, mean of 4"]
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained")
wrong = np.abs(mean - truth)
spread = np.stack([align(z, mean, upsample=10) for z in draws]).std(0, ddof=1)
top = np.percentile(wrong, 99)
panel(axes[0], spread, "Standard deviation", cmap="inferno", vmin=0, vmax=top, label="a.u.")
panel(axes[1], wrong, "Error of the mean", cmap="inferno", vmin=0, vmax=top, label="a.u.")

# %%
# What is left in the data
# ------------------------
# Residual of the amplitudes over their noise. Where hardly a photon is expected the count is nearly
# always zero and its root varies less than 1/2: dark corners are quieter than 1.

misfit = (physics.A(samples.mean(0)) - counts.sqrt() / scale)[0, 0] / (0.5 / scale)
figure, axis = plt.subplots(figsize=(5.2, 4), layout="constrained")
seen = np.ma.masked_where(stop.numpy() == 0, misfit.numpy())
drawn = axis.imshow(seen, cmap="RdBu", vmin=-4, vmax=4)
axis.set(title="Residual of the mean", xticks=[], yticks=[])
figure.colorbar(drawn, ax=axis, label="noise standard deviations")

assert errors["DPS, mean of 4"] < 0.8 * errors["HIO"]
assert errors["DPS, mean of 4"] < 0.15
