"""The model card: what a prior was trained on, for how long, how well it denoises, what it is for."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciinv import __version__
from sciinv.priors import EDMDenoiser
from sciinv.training.config import TrainingConfig, as_table
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
    noise, recipe = config.noise, config.optimiser
    kind = "real, not negative" if config.prior.channels == 1 else "complex"
    return {
        "name": config.prior.name,
        "description": config.prior.description,
        "images": f"{kind}, air at zero",
        "intensity_scale": "robust maximum of the image about 1",
        "intended_range": f"noise of {noise.sigma_min:g} to {noise.sigma_max:g} per real "
        "component; any image size",
        "training_data": source.describe(),
        "training_method": "EDM denoising loss, Adam, power-function average of the weights",
        "average": average,
        "parameters": parameters,
        "steps": recipe.steps,
        "images_seen": recipe.steps * recipe.batch * recipe.accumulate * devices,
        "seconds": round(seconds),
        "config": as_table(config),
        "versions": {
            "sciinv": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "licence": "as the package",
    }


def write_page(path: Path, denoiser: EDMDenoiser) -> None:
    """Write the card as a Markdown page."""
    path.write_text(page(denoiser.card), encoding="utf-8")


def page(card: dict[str, Any]) -> str:
    """Return a card as Markdown."""
    data = ", ".join(f"{key} {value}" for key, value in card["training_data"].items() if value)
    lines = [
        f"# {card['name']}",
        "",
        card["description"],
        "",
        f"- Images: {card['images']}; {card['intensity_scale']}.",
        f"- Intended range: {card['intended_range']}.",
        f"- Trained on: {data}.",
        f"- Trained by: {card['training_method']} (profile width {card['average']:g}); "
        f"{card['steps']} steps, {card['images_seen']} patches, {card['seconds'] / 60:.0f} minutes.",
        f"- Parameters: {card['parameters']}.",
        f"- Licence: {card['licence']}.",
        "",
        "Denoising of held-out images:",
        "",
        "| noise | PSNR, dB | error / noise |",
        "|---|---|---|",
    ]
    lines += [
        f"| {sigma} | {row['psnr']:.2f} | {row['error_over_sigma']:.3f} |"
        for sigma, row in card["denoising"].items()
    ]
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    return "\n".join([*lines, "", f"Made with {versions}.", ""])
