"""The noise level that the fit of a first image tells."""

from __future__ import annotations

import math

from torch import Tensor

from sciinv.reconstruction.model import Model


def with_noise_of_fit(model: Model, image: Tensor) -> tuple[Model, float]:
    """Return the model with the noise level that an image's fit tells, and that image's misfit."""
    excess = model.misfit(image)
    return model.with_noise(model.sigma * _noise_factor(model, excess)), excess


def _noise_factor(model: Model, excess: float) -> float:
    """Factor on the noise level, from the residual of the point estimate over that level.

    What the point estimate cannot explain (maps, motion, rings) is noise to the sampler: above 1
    the level is raised. The estimate from outer samples errs upwards where they hold signal. A
    fit of n unknowns to m data leaves ``sqrt(1 - n / m)`` of the noise; with many coils that is
    nearly all of it, and a residual that is smaller says that the level is too high. It is then
    lowered, at most to one half, and never where the data are few.
    """
    if excess >= 1:
        return excess
    unknowns = model.physics.channels * int(model.visible.sum())
    left = math.sqrt(max(1 - unknowns / model.physics.measurement_count(), 0.25))
    return min(1.0, max(excess / left, 0.5))
