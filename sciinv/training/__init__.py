"""Training of priors: ``sciinv train`` and what it is made of."""

from __future__ import annotations

from sciinv.training.config import TrainingConfig, load_config
from sciinv.training.loop import train
from sciinv.training.watch import JsonLog, Progress, Watcher, Watchers

__all__ = [
    "JsonLog",
    "Progress",
    "TrainingConfig",
    "Watcher",
    "Watchers",
    "load_config",
    "train",
]
