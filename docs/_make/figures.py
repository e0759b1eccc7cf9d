"""The pictures of the pages, made by the operators themselves wherever there is one.

Run ``python -m _make.figures DIRECTORY`` in ``docs`` to make them without building the pages. A
formula that an operator contradicts stops the build.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from _make import diffraction, mri, tomography
from _make.style import BLUE, GREY, INK, RED, bare

# the letter F: no mirror image or rotation of it can be taken for it
LETTER = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
)


def images(path: Path) -> None:
    """Rows downwards, columns to the right; the Fourier centre of even and odd sizes."""
    fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.7), layout="constrained")
    axes[0].imshow(LETTER, cmap="Greys", vmax=2)
    bare(axes[0], "x[b, c, row, column]")
    axes[0].set_xlabel("column", fontsize=8)
    axes[0].set_ylabel("row", fontsize=8)
    for ax, n in zip(axes[1:], (6, 7), strict=True):
        grid = np.zeros((n, n))
        grid[n // 2, n // 2] = 1
        ax.imshow(grid, cmap="Greys", vmax=2)
        ax.plot(n // 2, n // 2, "o", color=RED, ms=5)
        ax.set_xticks(range(n), [str(k - n // 2) for k in range(n)])
        ax.set_yticks(range(n), [str(k - n // 2) for k in range(n)])
        ax.set_xlabel("cycles per field of view", fontsize=8)
        bare(ax, f"k-space, n = {n}: centre at index {n // 2}")
    fig.savefig(path, dpi=150)
    plt.close(fig)


def diffusion(path: Path) -> None:
    """A one-dimensional mixture: noised density, and the denoiser as the posterior mean."""
    means, std, weights = np.array([-1.0, 1.0]), 0.25, np.array([0.35, 0.65])
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.6), layout="constrained")
    x = np.linspace(-3, 3, 400)
    for sigma, color in ((0.1, INK), (0.5, BLUE), (1.5, RED)):
        var = std**2 + sigma**2
        parts = weights * np.exp(-((x[:, None] - means) ** 2) / (2 * var)) / np.sqrt(var)
        axes[0].plot(x, parts.sum(1) / np.sqrt(2 * np.pi), color=color, lw=1.3, label=f"{sigma}")
        resp = parts / parts.sum(1, keepdims=True)
        posterior = means + std**2 / var * (x[:, None] - means)
        axes[1].plot(x, (resp * posterior).sum(1), color=color, lw=1.3, label=f"{sigma}")
    axes[1].plot(x, x, color=GREY, lw=0.8, ls=":")
    axes[0].set_xlabel("x0 + sigma n", fontsize=8)
    axes[1].set_xlabel("x0 + sigma n", fontsize=8)
    bare(axes[0], "density of the noisy image")
    bare(axes[1], "D(x, sigma) = E[x0 | x0 + sigma n = x]")
    axes[1].legend(title="sigma", fontsize=7, title_fontsize=7)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def make_all(target: Path) -> None:
    """Write every figure of the pages into a directory."""
    images(target / "images.png")
    diffusion(target / "diffusion.png")
    mri.trajectories(target / "trajectories.png")
    mri.units(target / "units.png")
    mri.off_resonance(target / "off_resonance.png")
    mri.coils(target / "coils.png")
    tomography.parallel_beam(target / "parallel_beam.png")
    tomography.fan_beam(target / "fan_beam.png")
    tomography.signs(target / "signs.png")
    tomography.short_scan(target / "short_scan.png")
    diffraction.padding(target / "padding.png")
    diffraction.ambiguities(target / "ambiguities.png")


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))
