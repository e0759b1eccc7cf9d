"""Pictures of MRI off the grid, made by the operator: trajectory, phase ramp, off-resonance."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from _make.style import BLUE, GREY, INK, RED, agree, arrow, bare
from sciinv.channels import to_channels, to_complex
from sciinv.data.simulate import birdcage_maps
from sciinv.operators import (
    CartesianMRI,
    NonCartesianMRI,
    estimate_coil_maps,
    estimate_noise_covariance,
    prewhiten,
    radial_trajectory,
    trajectory_from,
)

SHAPE = (16, 24)
# the off-centre point: three rows below and five columns left of the Fourier centre
BELOW, LEFT = 3, 5


def _point(shape: tuple[int, int], row: int, column: int) -> torch.Tensor:
    x = torch.zeros(1, 2, *shape, dtype=torch.float64)
    x[0, 0, row, column] = 1
    return x


def trajectories(path: Path) -> None:
    """Axis order and sign of a trajectory, by the phase that one off-centre point gives."""
    fig, axes = plt.subplots(1, 3, figsize=(9.4, 3.3), layout="constrained")
    rows, cols = SHAPE
    k = radial_trajectory(SHAPE, 5, 24, angles="golden")
    ax = axes[0]
    for number, spoke in enumerate(k):
        ax.plot(spoke[:, 1], spoke[:, 0], ".-", ms=3, lw=0.7, color=RED if number == 0 else GREY)
        end = spoke[-1, ::-1]
        ax.text(*(end + 2.3 * end / np.linalg.norm(end)), str(number), fontsize=8, ha="center",
                va="center", color=RED if number == 0 else GREY)  # fmt: skip
    arrow(ax, tuple(k[0, 14, ::-1]), tuple(k[0, 19, ::-1]), RED)
    ax.add_patch(plt.Rectangle((-cols / 2, -rows / 2), cols, rows, fill=False, ec=INK, lw=0.8))
    ax.set_xlim(-14.5, 14.5)
    ax.set_ylim(11, -11)  # rows downwards, as in images
    ax.set_aspect("equal")
    ax.set_xlabel("trajectory[..., 1]: columns, -W/2 to W/2", fontsize=8)
    ax.set_ylabel("trajectory[..., 0]: rows, -H/2 to H/2", fontsize=8)
    bare(ax, "cycles per field of view, 16 x 24 pixels")

    row, column = rows // 2 + BELOW, cols // 2 - LEFT
    x = _point(SHAPE, row, column)
    ax = axes[1]
    ax.imshow(x[0, 0], cmap="Greys", vmax=2)
    ax.plot(column, row, "o", color=RED, ms=5)
    ax.plot(cols // 2, rows // 2, "+", color=INK, ms=9)
    ax.annotate("index n // 2", (cols // 2, rows // 2), (cols // 2 + 1, rows // 2 - 2), fontsize=7)
    ax.text(column - 0.3, row + 2.2, f"{BELOW} below,\n{LEFT} to the left", color=RED, fontsize=7,
            ha="center", va="center")  # fmt: skip
    ax.set_xlabel("column", fontsize=8)
    ax.set_ylabel("row", fontsize=8)
    bare(ax, "one point")

    ax = axes[2]
    q = np.arange(-7, 8) / 2
    zero = np.zeros_like(q)
    for name, line, offset, color in (
        ("along rows: (k, 0)", np.stack([q, zero], -1), BELOW, BLUE),
        ("along columns: (0, k)", np.stack([zero, q], -1), -LEFT, RED),
    ):
        # the trajectory has to fill the grid, or it would be taken for another unit
        whole = np.concatenate([line, np.array([[rows / 2, 0.0], [0.0, cols / 2]])])
        operator = NonCartesianMRI(SHAPE, whole, dtype=torch.float64)
        measured = to_complex(operator.A(x))[0, : len(q)].numpy()
        formula = np.angle(np.exp(-2j * np.pi * q * offset / (rows if color == BLUE else cols)))
        agree(name, 0.0, float(np.abs(np.angle(measured * np.exp(-1j * formula))).max()), 1e-4)
        ax.plot(q, np.angle(measured), "o", ms=4, color=color, label=name)
        fine = np.linspace(q[0], q[-1], 400)
        ramp = -2 * np.pi * fine * offset / (rows if color == BLUE else cols)
        wrapped = np.angle(np.exp(1j * ramp))
        wrapped[1:][np.abs(np.diff(wrapped)) > np.pi] = np.nan
        ax.plot(fine, wrapped, lw=0.9, color=color)
    ax.axhline(0, color=GREY, lw=0.5)
    ax.set_xlabel("k, cycles per field of view", fontsize=8)
    ax.set_ylabel("phase of the sample, rad", fontsize=8)
    ax.set_ylim(-4.9, 3.6)
    ax.legend(fontsize=7, loc="lower center", ncols=1)
    bare(ax, "its phase: operator (dots), formula (lines)")
    fig.savefig(path, dpi=150)
    plt.close(fig)


def units(path: Path) -> None:
    """Show the same positions along a spoke in the four units of ``trajectory_from``."""
    n, fov = 192, 384.0
    fig, axes = plt.subplots(4, 1, figsize=(7.2, 2.9), layout="constrained")
    wanted = np.array([-n / 2, -n / 4, 0, n / 4, n / 2])
    spans = {"cycles/fov": n / 2, "1/m": n / 2 / (fov / 1000), "rad/pixel": np.pi,
             "normalised": 0.5}  # fmt: skip
    words = {"cycles/fov": "-N/2 to N/2", "1/m": "N / (2 FOV)", "rad/pixel": "-pi to pi",
             "normalised": "-0.5 to 0.5"}  # fmt: skip
    for ax, (unit, half) in zip(axes, spans.items(), strict=True):
        values = np.linspace(-half, half, 5)
        found = trajectory_from(np.stack([values, 0 * values], -1), unit, fov, (n, n))[:, 0]
        agree(unit, 0.0, float(np.abs(found - wanted).max()), 1e-9)
        ax.set_xlim(-n / 2 - 6, n / 2 + 6)
        ax.set_xticks(found, [f"{v:.4g}" for v in values], fontsize=8)
        ax.set_yticks([])
        ax.plot(found[3], 0, "o", color=RED, ms=5, clip_on=False)
        for side in ("left", "right", "top"):
            ax.spines[side].set_visible(False)
        ax.set_ylim(0, 1)
        ax.text(-n / 2 - 6, 0.45, f'"{unit}"', fontsize=8, color=INK)
        ax.text(n / 2 + 6, 0.45, words[unit], fontsize=8, color=GREY, ha="right")
    fig.suptitle("one trajectory in four units, N = 192, field of view 384 mm", fontsize=9)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def off_resonance(path: Path) -> None:
    """Sign of a field map and of the readout time, by the operator with and without it."""
    fig, axes = plt.subplots(1, 2, figsize=(8.2, 3.1), layout="constrained")
    n, frequency, duration, start = 24, 100.0, 30e-3, 8
    rows, cols = np.mgrid[:n, :n] - n // 2
    grid = np.stack([rows, cols], -1).astype(float)
    # every row of k-space is read from -N/2 to N/2; time zero is its middle
    times = duration / n * cols
    with_field = NonCartesianMRI(
        (n, n), grid, field_map=np.full((n, n), frequency), readout_times=times,
        dtype=torch.float64,
    )  # fmt: skip
    without = CartesianMRI((n, n), dtype=torch.float64)
    x = _point((n, n), n // 2, start)
    y = to_complex(with_field.A(x))[0].reshape(n, n)
    plain = to_complex(without.A(x))[0]
    turned = np.unwrap(np.angle((y / plain)[n // 2].numpy()))
    turned -= turned[n // 2]

    ax = axes[0]
    t = times[n // 2]
    formula = -2 * np.pi * frequency * t
    agree("phase of a field map", 0.0, float(np.abs(turned - formula).max()), 1e-3)
    ax.plot(1e3 * t, turned, "o", ms=4, color=RED, label="operator")
    ax.plot(1e3 * t, formula, color=RED, lw=0.9, label="-2 pi f t")
    ax.axhline(0, color=GREY, lw=0.5)
    ax.axvline(0, color=GREY, lw=0.5)
    ax.set_xlabel("readout time t, ms", fontsize=8)
    ax.set_ylabel("additional phase, rad", fontsize=8)
    ax.legend(fontsize=7)
    bare(ax, "field_map f = +100 Hz")

    ax = axes[1]
    back = to_complex(without.A_adjoint(to_channels(y[None])))[0].abs().numpy()
    moved = frequency * duration
    agree("displacement", start + moved, float(back[n // 2].argmax()), 0.01)
    ax.imshow(back, cmap="Greys", vmax=1.5 * back.max())
    ax.plot(start, n // 2, "o", mfc="none", color=BLUE, ms=8)
    arrow(ax, (start + 0.6, n // 2), (start + moved - 0.2, n // 2), RED)
    ax.text(start, n // 2 - 2, "object", fontsize=8, color=BLUE, ha="center")
    ax.text(start + moved, n // 2 + 4, "seen here: by\nf x 30 ms = 3\ncolumns later", fontsize=8,
            color=RED, ha="left", va="center")  # fmt: skip
    ax.set_xlabel("column (read from left to right in 30 ms)", fontsize=8)
    ax.set_ylabel("row", fontsize=8)
    bare(ax, "reconstructed without the field map")
    fig.savefig(path, dpi=150)
    plt.close(fig)


def coils(path: Path) -> None:
    """Normalised maps from a simulated scan, and channels before and after whitening."""
    shape, number = (48, 48), 4
    rng = np.random.default_rng(0)
    true = birdcage_maps(number, shape)
    rows, cols = (np.mgrid[: shape[0], : shape[1]] - 24) / 24
    radius = np.sqrt(rows**2 + (cols / 0.9) ** 2)
    image = (1.0 + 0.3 * cols) / (1 + np.exp((radius - 0.75) / 0.06))  # soft edge: no outer signal
    mixing = np.eye(number) + 0.5 * np.tri(number, k=-1)
    white = rng.standard_normal((2, number, *shape))
    noise = 0.02 * np.einsum("cd,drk->crk", mixing, white[0] + 1j * white[1])
    spectrum = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(true * image, axes=(1, 2)), norm="ortho"), axes=(1, 2)
    )
    kspace = torch.from_numpy(spectrum + noise)[None]
    maps = estimate_coil_maps(kspace, calibration=24)[0]
    before = estimate_noise_covariance(kspace)
    whitened, _ = prewhiten(kspace, before)
    after = estimate_noise_covariance(whitened)
    power = maps.abs().square().sum(0)
    agree("sum of squares", 1.0, float(power.mean()), 1e-6)
    truth = float(np.diagonal(mixing @ mixing.T).mean())
    agree("covariance", truth, float(before.diagonal().real.mean()) / 0.02**2, 0.2 * truth)
    agree("whitened variance", 1.0, float(after.diagonal().real.mean()), 0.05)

    fig, axes = plt.subplots(1, 5, figsize=(9.6, 2.4), layout="constrained")
    for c in range(2):
        axes[c].imshow(maps[c].abs(), cmap="Greys_r", vmin=0, vmax=1)
        bare(axes[c], f"|s_{c}| of {number} coils")
    axes[2].imshow(power, cmap="Greys_r", vmin=0, vmax=1.2)
    bare(axes[2], "sum of |s|^2 is 1")
    for ax, matrix, title in (
        (axes[3], before / 0.02**2, "covariance / 0.02^2"),
        (axes[4], after, "after prewhiten"),
    ):
        ax.imshow(matrix.abs(), cmap="Blues", vmin=0, vmax=2)
        for i in range(number):
            for j in range(number):
                ax.text(j, i, f"{float(matrix[i, j].real):.1f}", fontsize=7, ha="center",
                        va="center")  # fmt: skip
        bare(ax, title)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
    fig.savefig(path, dpi=150)
    plt.close(fig)
