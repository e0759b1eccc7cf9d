"""Pictures of the beams, every sinogram made by the projector from one off-centre point."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from _make.style import BLUE, GREEN, GREY, INK, RED, agree, arrow, bare
from sciinv.operators import FanBeamCT, ParallelBeamCT

# pixels, mm; one pixel at (X, Y) is the object
SIZE, PIXEL, COUNT, SPACING = 64, 1.0, 90, 1.0
X, Y = 10.5, 17.5
SOURCE, DETECTOR, FAN_SPACING = 100.0, 50.0, 1.6
TURN = np.linspace(0, 2 * np.pi, 181)[:-1]
T = np.deg2rad(30.0)


def _point() -> torch.Tensor:
    x = torch.zeros(1, 1, SIZE, SIZE)
    column, row = X / PIXEL + (SIZE - 1) / 2, (SIZE - 1) / 2 - Y / PIXEL
    x[0, 0, int(row), int(column)] = 1
    return x


def parallel(angles: np.ndarray = TURN, **options: float) -> ParallelBeamCT:
    """Make the operator of the pictures."""
    return ParallelBeamCT(
        (SIZE, SIZE), angles, num_detectors=COUNT, detector_spacing=SPACING, pixel_size=PIXEL,
        **options,
    )  # fmt: skip


def fan(angles: np.ndarray = TURN, **options: float) -> FanBeamCT:
    """Make the operator of the pictures."""
    return FanBeamCT(
        (SIZE, SIZE), angles, num_detectors=COUNT, detector_spacing=FAN_SPACING, pixel_size=PIXEL,
        source_distance=SOURCE, detector_distance=DETECTOR, **options,
    )  # fmt: skip


def _fan_u(x: float, y: float, t: np.ndarray, axis_shift: float) -> np.ndarray:
    a = x * np.cos(t) + y * np.sin(t) + axis_shift
    b = -x * np.sin(t) + y * np.cos(t)
    return a * (SOURCE + DETECTOR) / (SOURCE + b)


def _trace(ax: Axes, y: torch.Tensor, formula: np.ndarray, axis: np.ndarray, title: str) -> None:
    """Draw the projector's sinogram of the point with the formula's trace and the axis' on top.

    :param formula: detector index of the point at every angle.
    :param axis: the same of the rotation axis.
    """
    sinogram = y[0, 0].numpy()
    mean = (sinogram * np.arange(COUNT)).sum(1) / sinogram.sum(1)
    agree(title, 0.0, float(np.abs(mean - formula).max()), 0.5)
    degrees = np.rad2deg(TURN)
    ax.imshow(sinogram, cmap="Greys", aspect="auto", extent=(-0.5, COUNT - 0.5, 360, 0),
              vmax=0.8 * sinogram.max())  # fmt: skip
    ax.plot(formula, degrees, color=RED, lw=0.8)
    ax.plot(axis, degrees, color=BLUE, lw=1.0, ls="--")
    ax.set_yticks([0, 90, 180, 270, 360])
    ax.set_xticks([0, 22, 44.5, 67, 89], ["0", "22", "44.5", "67", "89"])
    bare(ax, title)


def parallel_beam(path: Path) -> None:
    """One off-centre point in the image, its ray, and its trace by the projector."""
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.6), layout="constrained")
    shift = 8.0
    direction = np.array([np.cos(T), np.sin(T)])
    beam = np.array([-np.sin(T), np.cos(T)])
    ax = axes[0]
    _frame(ax)
    arrow(ax, (0, 0), tuple(36 * direction), BLUE)
    ax.text(*(37 * direction), "s, along\n(cos t, sin t)", color=BLUE, fontsize=8, va="center")
    arc = np.linspace(0, T, 30)
    ax.plot(12 * np.cos(arc), 12 * np.sin(arc), color=BLUE, lw=1)
    ax.text(13, 2.5, "t", color=BLUE, fontsize=9)
    point = np.array([X, Y])
    foot = direction * (point @ direction)
    ax.plot(*np.stack([point + 14 * beam, point - 36 * beam]).T, color=RED, lw=0.8, ls="--")
    ax.plot(*point, "o", color=RED, ms=6)
    ax.plot(*foot, "s", color=BLUE, ms=4)
    ax.text(X - 2.5, Y, "(x, y)", color=RED, fontsize=8, ha="right")
    ax.text(*(point - 35 * beam + [1, 0]), "ray", color=RED, fontsize=8)
    ax.set_xlim(-40, 60)
    ax.set_ylim(-44, 48)
    ax.axis("off")
    bare(ax, "image in mm, seen as displayed")

    ax = axes[1]
    s = X * np.cos(TURN) + Y * np.sin(TURN) + shift
    y = parallel(axis_shift=shift).A(_point())
    middle = (COUNT - 1) / 2
    _trace(ax, y, s / SPACING + middle, np.full_like(TURN, shift / SPACING + middle),
           "y[b, 0, angle, detector] of the point")  # fmt: skip
    ax.plot((X * np.cos(T) + Y * np.sin(T) + shift) / SPACING + middle, 30, "s", color=BLUE, ms=5)
    ax.set_xlabel("detector index k, at (k - (K-1)/2) spacing", fontsize=8)
    ax.set_ylabel("t, degrees here (radians in sciinv)", fontsize=8)
    ax.text(middle + shift / SPACING - 1, 352, "axis_shift = 8 mm", color=BLUE, fontsize=7,
            ha="right")  # fmt: skip
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _frame(ax: Axes, corner: str = "row 0, column 0") -> None:
    """Draw the image's outline and the axes x and y."""
    half = SIZE * PIXEL / 2
    ax.set_aspect("equal")
    ax.add_patch(plt.Rectangle((-half, -half), 2 * half, 2 * half, fill=False, ec=GREY, lw=0.8))
    arrow(ax, (-half - 5, 0), (half + 9, 0), GREY, 1)
    arrow(ax, (0, -half - 5), (0, half + 9), GREY, 1)
    ax.text(half + 8, -5, "x", color=GREY, fontsize=9)
    ax.text(-4.5, half + 7, "y", color=GREY, fontsize=9)
    ax.text(-half + 1, half - 5, corner, color=GREY, fontsize=7)


def fan_beam(path: Path) -> None:
    """Source, detector, one ray and its trace by the projector."""
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 4.4), layout="constrained",
                             width_ratios=(1.25, 1))  # fmt: skip
    ax = axes[0]
    _frame(ax, "")
    along = np.array([np.cos(T), np.sin(T)])
    source = SOURCE * np.array([np.sin(T), -np.cos(T)])
    detector = DETECTOR * np.array([-np.sin(T), np.cos(T)])
    u = float(_fan_u(X, Y, np.array(T), 0.0))
    ends = [detector + e * COUNT * FAN_SPACING / 2 * along for e in (-1, 1)]
    ax.plot(*np.stack(ends).T, color=BLUE, lw=3)
    for end in ends:
        ax.plot(*np.stack([source, end]).T, color=GREY, lw=0.6)
    ax.plot(*np.stack([source, detector]).T, color=GREY, lw=0.9, ls="--")
    hit = detector + u * along
    ax.plot(*np.stack([source, hit]).T, color=RED, lw=1)
    ax.plot(X, Y, "o", color=RED, ms=6)
    ax.text(X + 2.5, Y - 1, "(x, y)", color=RED, fontsize=8, va="center")
    ax.plot(*hit, "s", color=RED, ms=5)
    ax.plot(*source, "*", color=INK, ms=11)
    ax.text(*(source + [5, -2]), "source", fontsize=8, color=INK)
    arrow(ax, tuple(detector), tuple(detector + 34 * along), GREEN)
    ax.text(*(detector + 20 * along + [-4, 7]), "u", fontsize=10, color=GREEN)
    ax.text(*(ends[0] + [-3, -9]), "k = 0", fontsize=8, color=BLUE, ha="center")
    ax.text(*(ends[1] + [3, 4]), "k = K - 1", fontsize=8, color=BLUE, ha="center")
    for position, name in (
        (0.52 * source, "source_distance"),
        (0.38 * detector, "detector_distance"),
    ):
        ax.text(*(position - 6 * along), name, fontsize=8, color=GREY, ha="center", va="center",
                rotation=np.rad2deg(T) - 90, rotation_mode="anchor")  # fmt: skip
    # how the source moves as t grows: counter-clockwise
    arc = np.linspace(0, T, 40)
    ax.plot(SOURCE * np.sin(arc), -SOURCE * np.cos(arc), color=INK, lw=0.8, ls=":")
    arc = np.linspace(T, T + 0.3, 40)
    ax.plot(SOURCE * np.sin(arc), -SOURCE * np.cos(arc), color=INK, lw=1)
    tip = SOURCE * np.array([np.sin(T + 0.36), -np.cos(T + 0.36)])
    arrow(ax, (SOURCE * np.sin(T + 0.3), -SOURCE * np.cos(T + 0.3)), tuple(tip), INK)
    ax.text(*(tip + [3, 3]), "t grows", fontsize=8, color=INK)
    ax.plot(0, -SOURCE, "*", color=GREY, ms=8)
    ax.text(-4, -SOURCE, "t = 0", fontsize=8, color=GREY, ha="right", va="center")
    ax.set_xlim(-100, 100)
    ax.set_ylim(-106, 90)
    ax.axis("off")
    bare(ax, "t = 30 degrees, in mm, seen as displayed")

    ax = axes[1]
    centre = (COUNT - 1) / 2
    y = fan().A(_point())
    _trace(ax, y, _fan_u(X, Y, TURN, 0.0) / FAN_SPACING + centre, np.full_like(TURN, centre),
           "y[b, 0, angle, detector] of the point")  # fmt: skip
    ax.plot(u / FAN_SPACING + centre, 30, "s", color=RED, ms=5)
    ax.set_xlabel("detector index k", fontsize=8)
    ax.set_ylabel("t, degrees", fontsize=8)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def signs(path: Path) -> None:
    """Sinograms of the same point, one parameter changed in each, by both projectors."""
    fig, axes = plt.subplots(2, 4, figsize=(10.4, 5.4), layout="constrained", sharex=True,
                             sharey=True)  # fmt: skip
    x, middle = _point(), (COUNT - 1) / 2
    shift, offset = 12.0, 24.0

    def s(t: np.ndarray) -> np.ndarray:
        return X * np.cos(t) + Y * np.sin(t)

    still = np.full_like(TURN, middle)
    for ax, options, angles in (
        (axes[0, 0], {}, TURN),
        (axes[0, 1], {"axis_shift": shift}, TURN),
        (axes[0, 3], {}, -TURN),
    ):
        moved = options.get("axis_shift", 0.0) / SPACING
        title = "parallel" if not options else "parallel, axis_shift = +12 mm"
        title += ", angles negated" if angles is not TURN else ""
        y = parallel(angles, **options).A(x)
        _trace(ax, y, s(angles) / SPACING + middle + moved, still + moved, title)
    axes[0, 2].set_axis_off()
    axes[0, 2].text(0.02, 0.62, "red: formula of the point\ndashed: the rotation axis\n"
                    "grey: the projector\n\n(a parallel beam has no\ndetector_offset)", fontsize=8,
                    color=INK, transform=axes[0, 2].transAxes)  # fmt: skip
    for ax, options, angles in (
        (axes[1, 0], {}, TURN),
        (axes[1, 1], {"axis_shift": shift}, TURN),
        (axes[1, 2], {"detector_offset": offset}, TURN),
        (axes[1, 3], {}, -TURN),
    ):
        a, d = options.get("axis_shift", 0.0), options.get("detector_offset", 0.0)
        title = "fan"
        title += ", axis_shift = +12 mm" if a else ""
        title += ", detector_offset = +24 mm" if d else ""
        title += ", angles negated" if angles is not TURN else ""
        y = fan(angles, **options).A(x)
        axis = (_fan_u(0.0, 0.0, angles, a) - d) / FAN_SPACING + middle
        _trace(ax, y, (_fan_u(X, Y, angles, a) - d) / FAN_SPACING + middle, axis, title)
    for ax in axes[1]:
        ax.set_xlabel("detector index k", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("view (degrees)", fontsize=8)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def short_scan(path: Path) -> None:
    """Shares of the rays of a full turn and of a short scan, and what they give."""
    half = float(np.arctan(COUNT * FAN_SPACING / 2 / (SOURCE + DETECTOR)))
    span = np.pi + 2 * half
    step = np.deg2rad(2.0)
    short = np.arange(0, span, step)
    fig, axes = plt.subplots(1, 4, figsize=(10.4, 3.0), layout="constrained")
    gamma = np.arctan((np.arange(COUNT) - (COUNT - 1) / 2) * FAN_SPACING / (SOURCE + DETECTOR))
    grid = (np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL
    disc = (grid[None] ** 2 + grid[:, None] ** 2 < 24**2) * 0.02
    hole = (grid[None] - 8) ** 2 + (grid[:, None] + 6) ** 2 < 5**2
    image = torch.from_numpy(np.where(hole, 0.03, disc)[None, None]).float()
    for ax, angles, title in (
        (axes[0], TURN, "full turn"),
        (axes[1], short, f"short scan, {np.rad2deg(span):.0f} degrees"),
    ):
        physics = fan(angles)
        shares = physics.geometry.inversion_weights() / step / np.cos(gamma)
        ax.imshow(shares, cmap="viridis", vmin=0, vmax=1, aspect="auto",
                  extent=(0, COUNT - 1, np.rad2deg(angles[-1]), 0))  # fmt: skip
        ax.set_xlabel("detector index k", fontsize=8)
        bare(ax, f"shares: {title}")
    axes[0].set_ylabel("t, degrees", fontsize=8)
    fig.colorbar(axes[1].images[0], ax=axes[:2], shrink=0.9).ax.tick_params(labelsize=7)
    # a line measured twice: its two shares add up to one
    t, k = np.deg2rad(8.0), 40
    other = t + np.pi - 2 * gamma[k]
    both = [shares[round(t / step), k], shares[round(other / step), COUNT - 1 - k]]
    agree("two shares of a line", 1.0, float(sum(both)), 0.02)
    for t_, k_ in ((t, k), (other, COUNT - 1 - k)):
        axes[1].plot(k_, np.rad2deg(t_), "o", mfc="none", color=RED, ms=6)
    axes[1].text(COUNT - 3, 30, "one line, twice:\nshares add to 1", fontsize=7, color="w",
                 ha="right", va="center")  # fmt: skip

    physics = fan(short)
    y = physics.A(image)
    found = physics.A_dagger(y)[0, 0].numpy()
    # the same views as if each line had been measured once: constant shares
    even = fan(TURN).A_dagger(_padded(y, len(TURN)))[0, 0].numpy()
    disc = grid[None] ** 2 + grid[:, None] ** 2 < 20**2
    for ax, values, title in (
        (axes[2], found, "short scan, its shares"),
        (axes[3], 2 * even, "short scan, every share 1"),
    ):
        ax.imshow(values, cmap="gray", vmin=0.01, vmax=0.034)
        ax.set(xticks=[], yticks=[])
        wrong = float(np.abs(values - image[0, 0].numpy())[disc].mean()) / 0.02
        bare(ax, f"{title}\nmean error {100 * wrong:.0f} %")
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _padded(y: torch.Tensor, views: int) -> torch.Tensor:
    """Zeros for the views of a full turn that a short scan lacks."""
    return torch.nn.functional.pad(y, (0, 0, 0, views - y.shape[2]))
