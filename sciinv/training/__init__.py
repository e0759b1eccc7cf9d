"""Training of priors: ``sciinv train`` and what it is made of."""

from __future__ import annotations

from sciinv.training.config import TrainingConfig, load_config
from sciinv.training.loop import train
from sciinv.training.watch import Progress, Watcher

__all__ = ["Progress", "TrainingConfig", "Watcher", "load_config", "train"]
