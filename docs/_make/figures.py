"""The pictures of the conventions page, drawn from the conventions' own formulas.

Run ``python docs/_make/figures.py DIRECTORY`` to make them without building the documentation.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

INK, BLUE, RED, GREY = "#1f2430", "#2a6fdb", "#c8372d", "#8a8f98"

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


def _bare(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=9, color=INK)
    ax.tick_params(labelsize=7, colors=GREY)
    for spine in ax.spines.values():
        spine.set_color(GREY)


def _arrow(ax: Axes, start: tuple, end: tuple, color: str) -> None:
    style = {"arrowstyle": "-|>", "color": color, "lw": 1.5, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", xy=end, xytext=start, arrowprops=style, annotation_clip=False)


def images(path: Path) -> None:
    """Rows downwards, columns to the right; the Fourier centre of even and odd sizes."""
    fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.7), layout="constrained")
    axes[0].imshow(LETTER, cmap="Greys", vmax=2)
    _bare(axes[0], "x[b, c, row, column]")
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
        _bare(ax, f"k-space, n = {n}: centre at index {n // 2}")
    fig.savefig(path, dpi=150)
    plt.close(fig)


def parallel_beam(path: Path) -> None:
    """One off-centre point in the image, its projection, and its trace in the sinogram."""
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained")
    angle, shift, x, y = np.deg2rad(30.0), 0.6, 1.0, 1.8
    direction = np.array([np.cos(angle), np.sin(angle)])
    beam = np.array([-np.sin(angle), np.cos(angle)])

    ax = axes[0]
    ax.set_aspect("equal")
    ax.add_patch(plt.Rectangle((-3, -3), 6, 6, fill=False, ec=GREY, lw=0.8))
    _arrow(ax, (-3.6, 0), (3.9, 0), GREY)
    _arrow(ax, (0, -3.6), (0, 3.9), GREY)
    ax.text(3.75, -0.45, "x", color=GREY, fontsize=9)
    ax.text(-0.45, 3.6, "y", color=GREY, fontsize=9)
    ax.text(-2.9, 2.6, "row 0, column 0", color=GREY, fontsize=7)
    _arrow(ax, (0, 0), tuple(3.4 * direction), BLUE)
    ax.text(*(3.5 * direction), "s, direction (cos t, sin t)", color=BLUE, fontsize=8)
    arc = np.linspace(0, angle, 30)
    ax.plot(1.0 * np.cos(arc), 1.0 * np.sin(arc), color=BLUE, lw=1)
    ax.text(1.08, 0.2, "t", color=BLUE, fontsize=9)
    point = np.array([x, y])
    foot = direction * (point @ direction)
    ax.plot(*np.stack([point + 1.3 * beam, point - 3.2 * beam]).T, color=RED, lw=0.8, ls="--")
    ax.plot(*point, "o", color=RED, ms=6)
    ax.plot(*foot, "s", color=BLUE, ms=4)
    ax.text(x + 0.15, y + 0.25, "(x, y)", color=RED, fontsize=8)
    ax.text(*(point - 3.1 * beam + [0.1, 0]), "ray", color=RED, fontsize=8)
    ax.set_xlim(-4, 6.2)
    ax.set_ylim(-4, 4.2)
    ax.axis("off")
    _bare(ax, "image in mm, seen as displayed")

    ax = axes[1]
    t = np.linspace(0, np.pi, 181)
    trace = x * np.cos(t) + y * np.sin(t) + shift
    ax.plot(trace, np.rad2deg(t), color=RED, lw=1.5, label="x cos t + y sin t + axis_shift")
    ax.axvline(shift, color=GREY, lw=0.8, ls="--")
    ax.text(shift + 0.06, 176, "axis_shift", color=GREY, fontsize=8)
    ax.plot(x * direction[0] + y * direction[1] + shift, 30, "s", color=BLUE, ms=4)
    ax.axhline(30, color=BLUE, lw=0.6, ls=":")
    ax.set_xlim(-3, 3)
    ax.set_ylim(180, 0)
    ax.set_xlabel("detector coordinate (mm), index k at (k - (K-1)/2) spacing", fontsize=8)
    ax.set_ylabel("angle (degrees here, radians in sciinv)", fontsize=8)
    ax.legend(fontsize=7, loc="upper left")
    _bare(ax, "sinogram y[b, 0, angle, detector]")
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
    _bare(axes[0], "density of the noisy image")
    _bare(axes[1], "D(x, sigma) = E[x0 | x0 + sigma n = x]")
    axes[1].legend(title="sigma", fontsize=7, title_fontsize=7)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def make_all(target: Path) -> None:
    """Write every figure of the pages into a directory."""
    images(target / "images.png")
    parallel_beam(target / "parallel_beam.png")
    diffusion(target / "diffusion.png")


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))
