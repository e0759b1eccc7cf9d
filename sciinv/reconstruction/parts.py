"""What a run decides before it samples, and what it has for every slice afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.reconstruction.effort import Effort
from sciinv.reconstruction.model import Model


class Stopped(KeyboardInterrupt):
    """The user asked for the end of the run while there was nothing to keep of the work at hand."""


@dataclass(frozen=True)
class Plan:
    """What a run will do, before it does it.

    :param solver: name of the sampler.
    :param seconds: expected time of sampling, all slices.
    :param memory: expected peak of memory in bytes, roughly.
    """

    solver: str
    prior: str
    effort: Effort
    slices: int
    noise: float
    scale: float
    seconds: float
    memory: int


@dataclass(frozen=True)
class Slice:
    """What one slice gave. Arrays, numbers and texts: all but ``model`` can go to disk.

    :param start: what sampling started from in the prior's scale, ``(1, C, *image_shape)``.
    :param phased: iterative phasing found ``start``.
    :param grid: shape of the part of the image that was sampled.
    :param residuals: of all restarts of every sample, ``(S, restarts)``, or of all random starts
        of phasing, ``(1, starts)``; ``None`` if there was one of each.
    :param coil_maps: moduli of coil maps, of one slice of a run, for the report.
    :param rotation_axis: back-projections around the rotation axis, likewise.
    :param model: of this slice as it was sampled; ``None`` for a slice that comes from disk.
    """

    samples: NDArray[Any]
    baseline: NDArray[Any]
    estimate: NDArray[Any] | None
    visible: NDArray[np.bool_]
    residual: NDArray[np.float32]
    chi_squared: float
    count: int
    nfe: int
    noise: float
    scale: float
    operator: dict[str, str]
    grid: tuple[int, ...]
    phased: bool = False
    start: NDArray[np.float32] | None = None
    residuals: NDArray[np.float64] | None = None
    null_space: NDArray[Any] | None = None
    coil_maps: NDArray[np.float32] | None = None
    rotation_axis: NDArray[np.float32] | None = None
    model: Model | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Batch:
    """Samples that went through the network together.

    :param samples: ``(S, 1, C, *image_shape)`` float32 in the prior's scale.
    :param chi_squared: ``(S,)`` of every sample.
    :param residuals: of all restarts of every sample, ``(S, restarts)``.
    """

    samples: NDArray[np.float32]
    chi_squared: NDArray[np.float64]
    nfe: int
    residuals: NDArray[np.float64] | None = None
