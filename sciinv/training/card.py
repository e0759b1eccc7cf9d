"""The model card: what a prior was trained on, how well it denoises, what it is and is not for."""

from __future__ import annotations

import io
import math
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciinv import __version__
from sciinv.training.config import TrainingConfig, as_table
from sciinv.training.curve import contact_sheet
from sciinv.training.source import Source


def make_card(
    config: TrainingConfig,
    source: Source,
    parameters: int,
    devices: int,
    seconds: float,
    average: float,
) -> dict[str, Any]:
    """Describe what the weights are and how to make them again, as plain JSON types."""
    noise, recipe, data = config.noise, config.optimiser, config.data
    kind = "real, not negative" if config.prior.channels == 1 else "complex"
    low, high = data.gain
    return {
        "name": config.prior.name,
        "description": config.prior.description,
        "images": f"2D, {kind}, air at zero",
        "intensity_scale": f"robust maximum of the image about 1 ({low:g} to {high:g} times that "
        "of the training images)",
        "intended_range": f"noise of {noise.sigma_min:g} to {noise.sigma_max:g} per real "
        "component; any image size",
        "limits": _limits(config),
        "training_data": source.describe(),
        "training_method": "EDM denoising loss, Adam, power-function average of the weights",
        "average": average,
        "parameters": parameters,
        "steps": recipe.steps,
        "images_seen": recipe.steps * recipe.batch * recipe.accumulate * devices,
        "devices": devices,
        "seconds": round(seconds),
        "config": as_table(config),
        "versions": {
            "sciinv": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "licence": "as the package" if data.source == "procedural" else "that of the training data",
    }


def _limits(config: TrainingConfig) -> list[str]:
    patch, data = config.data.patch, config.data
    known = (
        "It has seen procedural images only, nothing measured; what they lack it does not know."
        if data.source == "procedural"
        else "It knows what its training files show; other images are drawn towards them, and "
        "structures that are typical of the files may appear in them."
    )
    return [
        known,
        f"It was trained on patches of {patch} x {patch} pixels and has learnt nothing about how "
        "structures farther apart belong together.",
        "It sees single slices; neighbouring slices of a volume are denoised one by one.",
        "Research use only: it is not a medical device.",
    ]


def write_page(folder: Path, card: dict[str, Any], examples: Tensor) -> None:
    """Write the card as a Markdown page ``card.md`` with its picture ``card.png``.

    :param examples: clean, noisy and denoised images ``(3, N, C, H, W)``.
    """
    (folder / "card.png").write_bytes(picture(card, examples))
    (folder / "card.md").write_text(page(card), encoding="utf-8")


def page(card: dict[str, Any]) -> str:
    """Return a card as Markdown."""
    minutes = card["seconds"] / 60
    took = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
    took = f"{card['seconds']} seconds" if minutes < 2 else took
    devices = "1 device" if card["devices"] == 1 else f"{card['devices']} devices"
    lines = [
        f"# {card['name']}",
        "",
        *([card["description"], ""] if card["description"] else []),
        f"- Images: {card['images']}; {card['intensity_scale']}.",
        f"- Intended range: {card['intended_range']}.",
        f"- Trained on: {_data(card['training_data'])}.",
        f"- Trained by: {card['training_method']} (profile width {card['average']:g}); "
        f"{card['steps']} steps, {card['images_seen']} patches, {took} on {devices}.",
        f"- Parameters: {card['parameters']:,}.",
        f"- Licence: {card['licence']}.",
        "",
        "Limits:",
        "",
        *(f"- {limit}" for limit in card["limits"]),
        "",
        "Denoising of held-out images (PSNR for a peak of 1, noisy and denoised):",
        "",
        "![Denoising over the noise level, and examples](card.png)",
        "",
        "| noise | noisy, dB | denoised, dB | error / noise |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {sigma} | {20 * math.log10(1 / float(sigma)):.2f} | {row['psnr']:.2f} "
        f"| {row['error_over_sigma']:.3f} |"
        for sigma, row in card["denoising"].items()
    ]
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    return "\n".join([*lines, "", f"Made with {versions}.", ""])


def _data(table: dict[str, Any]) -> str:
    parts = []
    # the source itself first, whatever the order of the keys in a file
    for key, value in sorted(table.items(), key=lambda item: item[0] != "source"):
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if shown not in ("", 0, None):
            parts.append(str(shown) if key == "source" else f"{key.replace('_', ' ')} {shown}")
    return "; ".join(parts)


def picture(card: dict[str, Any], examples: Tensor) -> bytes:
    """Draw the denoising curve and the examples, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sigmas = [float(sigma) for sigma in card["denoising"]]
    figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    left.semilogx(sigmas, [row["psnr"] for row in card["denoising"].values()], "o-",
                  label="denoised")  # fmt: skip
    left.semilogx(sigmas, [-20 * math.log10(s) for s in sigmas], "--", color="0.5", label="noisy")
    left.set_xlabel("noise (standard deviation, bright structures are 1)")
    left.set_ylabel("PSNR (dB)")
    left.set_title(f"{card['name']}: held-out images")
    left.legend(frameon=False)
    left.grid(alpha=0.3)
    grid = contact_sheet(examples)
    rows, height = examples.shape[0], examples.shape[3]
    right.imshow(grid.cpu().numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    right.set_yticks([(row + 0.5) * height for row in range(rows)], ["clean", "noisy", "denoised"])
    right.set_xticks([])
    right.tick_params(length=0)
    for side in right.spines.values():
        side.set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
