"""
Train a prior
=============

A very small prior, on procedural images, in half a minute: enough to see a run, not to reconstruct
with. For one of your own write the same configuration as a file, with your images in ``[data]``,
and let ``sciinv train --config FILE`` run for some hours.
"""

from __future__ import annotations

import tempfile

import matplotlib.pyplot as plt
import torch

from sciinv.priors import load
from sciinv.training import Watcher, train
from sciinv.training.config import make_config

# %%
# The configuration
# -----------------
# The same sections as in a TOML file; whatever is not said has its default.

config = make_config(
    {
        "prior": {"name": "small", "channels": 1, "description": "A demonstration."},
        "network": {"widths": [12, 20, 28], "features": 16},
        "data": {"scene": 64, "patch": 32, "window": 24, "fresh": 0.1, "held_out": 4},
        "optimiser": {"steps": 250, "batch": 8, "warmup": 20, "rate": 4e-3},
        "run": {"log_every": 10, "checkpoint_every": 1000, "accelerator": "cpu", "threads": 1},
    }
)

# %%
# The run
# -------
# A watcher is told what happens; the command line has others, for a progress bar, a log and
# TensorBoard. The loss is 1 for a network that always answers zero.


class Keep(Watcher):
    """Keeps the loss, and at the end the denoising curve and some images."""

    steps: list[int] = []
    losses: list[float] = []

    def progress(self, state):
        self.steps.append(state.step)
        self.losses.append(state.loss)

    def curve(self, step, curve, grid):
        self.denoising, self.images = curve, grid


watcher = Keep()
with tempfile.TemporaryDirectory() as folder:
    train(config, folder, watcher=watcher)
    prior = load(f"{folder}/prior.safetensors")

# %%
# How it denoises
# ---------------
# Held-out images: clean, with a noise of 0.2, and denoised.

figure, axes = plt.subplots(3, 4, figsize=(7, 5.2), layout="constrained")
for row, name, images in zip(axes, ("clean", "noisy", "denoised"), watcher.images, strict=True):
    row[0].set_ylabel(name)
    for axis, image, clean in zip(row, images, watcher.images[0], strict=True):
        axis.imshow(image[0], cmap="gray", vmin=0, vmax=clean.max())
        axis.set(xticks=[], yticks=[])

# %%
# Loss and denoising curve
# ------------------------

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
axes[0].plot(watcher.steps, watcher.losses)
axes[0].set(xlabel="step", ylabel="loss", ylim=(0, None))
sigmas = [float(sigma) for sigma in watcher.denoising]
axes[1].semilogx(
    sigmas, [row["psnr"] for row in watcher.denoising.values()], "o-", label="this one"
)
shipped = load("generic", channels=1)
clean = watcher.images[0]
generator = torch.Generator().manual_seed(0)
noisy = clean + 0.2 * torch.randn(clean.shape, generator=generator)
with torch.no_grad():
    errors = {
        name: float((denoiser(noisy, 0.2) - clean).square().mean().sqrt())
        for name, denoiser in {"this one": prior, "shipped": shipped}.items()
    }
axes[1].semilogx(sigmas, [20 * torch.tensor(1 / s).log10() for s in sigmas], "--", label="noisy")
axes[1].set(xlabel="noise", ylabel="PSNR (dB)")
axes[1].legend(frameon=False)

# %%
# Numbers
# -------

for name, error in errors.items():
    print(f"{name:9s} noise of 0.2 becomes {20 * torch.tensor(1 / error).log10():.1f} dB")
print(f"the card says: {prior.card['intended_range']}")

assert watcher.losses[-1] < 0.5
assert errors["shipped"] < errors["this one"] < 0.5 * 0.2
