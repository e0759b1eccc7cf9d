"""Pictures of far-field diffraction, made by the operator."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from _make.style import BLUE, GREY, INK, RED, agree, bare
from sciinv.metrics import conjugate_flip
from sciinv.operators import FourierPhaseRetrieval

SHAPE, OVERSAMPLING = (24, 30), (2.0, 2.5)


def _object() -> np.ndarray:
    """Draw the letter F with a phase ramp, away from the middle: nothing about it is symmetric."""
    z = np.zeros(SHAPE, dtype=complex)
    z[4:19, 6:10] = 1
    z[4:8, 6:20] = 1
    z[11:14, 6:16] = 0.8
    return z * np.exp(1j * np.linspace(0, 1.5, SHAPE[1]))


def _pair(z: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([z.real, z.imag]))[None]


def padding(path: Path) -> None:
    """Zero padding, the centre, oversampling by axis, beam stop, and the autocorrelation."""
    plain = FourierPhaseRetrieval(
        SHAPE, oversampling=OVERSAMPLING, mode="intensity", dtype=torch.float64
    )
    rows, cols = plain.pattern_shape
    stop = torch.ones(rows, cols)
    stop[rows // 2 - 1 : rows // 2 + 2, cols // 2 - 1 : cols // 2 + 2] = 0
    physics = FourierPhaseRetrieval(
        SHAPE, oversampling=OVERSAMPLING, mode="intensity", mask=stop, dtype=torch.float64
    )
    x = _pair(_object())
    # the operator's own padding: back-propagate its field
    field = physics.field(x)
    padded = torch.fft.fftshift(
        torch.fft.ifft2(torch.fft.ifftshift(field, dim=(-2, -1)), norm="ortho"), dim=(-2, -1)
    )[0, 0].numpy()
    top, left = rows // 2 - SHAPE[0] // 2, cols // 2 - SHAPE[1] // 2
    inside = padded[top : top + SHAPE[0], left : left + SHAPE[1]]
    agree("padding", 0.0, float(np.abs(inside - _object()).max()), 1e-9)

    fig, axes = plt.subplots(1, 4, figsize=(10.6, 2.9), layout="constrained")
    axes[0].imshow(np.abs(_object()), cmap="Greys", vmax=1.6)
    axes[0].plot(SHAPE[1] // 2, SHAPE[0] // 2, "+", color=RED, ms=10)
    bare(axes[0], f"object {SHAPE[0]} x {SHAPE[1]},\ncentre at n // 2")
    axes[1].imshow(np.abs(padded), cmap="Greys", vmax=1.6)
    axes[1].add_patch(plt.Rectangle((left - 0.5, top - 0.5), SHAPE[1], SHAPE[0], fill=False,
                                    ec=BLUE, lw=1))  # fmt: skip
    axes[1].plot(cols // 2, rows // 2, "+", color=RED, ms=10)
    bare(axes[1], f"padded to {rows} x {cols}\n(oversampling 2 and 2.5)")
    y = physics.A(x)[0, 0].numpy()
    brightest = np.unravel_index(int(plain.A(x)[0, 0].argmax()), (rows, cols))
    shown = np.ma.masked_where(stop.numpy() == 0, np.log10(y + 1e-3))
    colours = plt.get_cmap("magma").with_extremes(bad="0.8")
    axes[2].imshow(shown, cmap=colours)
    axes[2].plot(cols // 2, rows // 2, "+", color=RED, ms=8)
    agree("brightest pixel", 0.0, float(np.hypot(brightest[0] - rows // 2,
                                                 brightest[1] - cols // 2)), 2.0)  # fmt: skip
    bare(axes[2], "pattern (log), centre at N // 2,\ngrey: mask = 0 (beam stop)")
    intensity = plain.A(x)[0, 0]
    auto = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(intensity))).abs().numpy()
    axes[3].imshow(auto, cmap="Greys", vmax=0.6 * auto.max())
    axes[3].add_patch(plt.Rectangle((cols // 2 - SHAPE[1] + 0.5, rows // 2 - SHAPE[0] + 0.5),
                                    2 * SHAPE[1] - 1, 2 * SHAPE[0] - 1, fill=False, ec=BLUE,
                                    lw=1, clip_on=False))  # fmt: skip
    bare(axes[3], "autocorrelation: at most 2 n - 1,\nfits into 2 n pixels")
    fig.savefig(path, dpi=150)
    plt.close(fig)


def ambiguities(path: Path) -> None:
    """Four images with the same pattern."""
    physics = FourierPhaseRetrieval(SHAPE, oversampling=OVERSAMPLING, dtype=torch.float64)
    z = _object()
    images = {
        "object": z,
        "times a global phase": z * np.exp(1j),
        "shifted": np.roll(z, (3, 6), (0, 1)),
        "conjugate mirror image": conjugate_flip(z),
    }
    pattern = physics.A(_pair(z))
    fig, axes = plt.subplots(1, 5, figsize=(10.6, 2.5), layout="constrained")
    for ax, (name, image) in zip(axes, images.items(), strict=False):
        other = physics.A(_pair(image))
        agree(name, 0.0, float((other - pattern).abs().max()), 1e-9)
        shown = np.ma.masked_where(np.abs(image) < 0.1, np.angle(image))
        ax.imshow(shown, cmap="twilight", vmin=-np.pi, vmax=np.pi)
        ax.set(xticks=[], yticks=[])
        bare(ax, name)
    drawn = axes[3].images[0]
    bar = fig.colorbar(drawn, ax=axes[3], ticks=[-np.pi, 0, np.pi], shrink=0.8)
    bar.ax.set_yticklabels(["-pi", "0", "pi"])
    bar.ax.tick_params(labelsize=7, colors=GREY)
    axes[4].imshow(np.log10(pattern[0, 0] + 1e-2), cmap="magma")
    axes[4].set(xticks=[], yticks=[])
    bare(axes[4], "their one pattern (log)")
    axes[0].set_ylabel("phase", fontsize=8, color=INK)
    fig.savefig(path, dpi=150)
    plt.close(fig)
