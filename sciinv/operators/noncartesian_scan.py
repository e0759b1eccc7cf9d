"""Arguments of non-Cartesian MRI, checked, and what is made from them when first needed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciinv.errors import GeometryError
from sciinv.operators.nufft import Engine, choose_engine, make_engine
from sciinv.operators.segmentation import Segmentation
from sciinv.operators.toeplitz import toeplitz_kernel
from sciinv.operators.trajectories import as_array


class ScanPlan:
    """What never changes, in double precision, and what is made from it when first needed."""

    # a slot hides it from deepinv's clone, which walks through plain attributes into whatever they
    # lead to; not buffers, because a coordinate in single precision is an error of 1e-5

    __slots__ = (
        "density", "engines", "kernels", "options",
        "segmentation", "shape", "trajectory", "weights",
    )  # fmt: skip

    def __init__(
        self,
        shape: tuple[int, ...],
        trajectory: NDArray[np.float64],
        density: NDArray[np.float64] | None,
        segmentation: Segmentation | None,
        weights: NDArray[np.float64] | None,
        options: dict[str, Any],
    ) -> None:
        self.shape = shape
        self.trajectory = trajectory
        self.density = density
        self.segmentation = segmentation
        self.weights = weights
        self.options = options
        self.engines: dict[tuple[str, torch.dtype, str], Engine] = {}
        self.kernels: dict[tuple[torch.dtype, str], Tensor] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> ScanPlan:
        new = ScanPlan(*self._state())
        # kernels are never changed, so copies share them; plans are not for two operators
        new.kernels = dict(self.kernels)
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (
            *self._state(),
            {key: value for key, value in self.kernels.items() if key[1] == "cpu"},
        )  # fmt: skip

    def _state(self) -> tuple[Any, ...]:
        return (
            self.shape, self.trajectory, self.density,
            self.segmentation, self.weights, self.options,
        )  # fmt: skip

    def engine(self, like: Tensor) -> Engine:
        """Transform for tensors of this dtype and device, kept."""
        real = like.real.dtype
        name = choose_engine(self.options["backend"], like.device)
        key = (name, real, str(like.device))
        if key not in self.engines:
            self.engines[key] = make_engine(
                name, self.shape, self.trajectory, real,
                oversampling=self.options["oversampling"], width=self.options["width"],
            )  # fmt: skip
        return self.engines[key]

    def kernel(self, like: Tensor) -> Tensor:
        """Toeplitz kernel, computed once in double precision and kept for each dtype used."""
        real, device = like.real.dtype, str(like.device)
        if (real, device) not in self.kernels:
            truth = self.kernels.get((torch.float64, "cpu"))
            if truth is None:
                square = None if self.weights is None else self.weights**2
                truth = toeplitz_kernel(self.trajectory, self.shape, square)
                self.kernels[torch.float64, "cpu"] = truth
            self.kernels[real, device] = truth.to(dtype=real, device=like.device)
        return self.kernels[real, device]


def _restore(*state: Any) -> ScanPlan:  # noqa: ANN401
    scan = ScanPlan(*state[:-1])
    scan.kernels = state[-1]
    return scan


def checked_per_sample(
    name: str,
    values: Any,  # noqa: ANN401
    leading: tuple[int, ...],
) -> NDArray[np.float64] | None:
    """Check one non-negative number per sample and flatten it."""
    if values is None:
        return None
    density = as_array(values)
    real = density.dtype.kind in "fiu"
    if not real or density.shape not in (leading, (math.prod(leading),)):
        raise GeometryError(
            f"{name}: found {density.dtype} {density.shape}, expected real {leading}, one weight "
            "per sample"
        )
    if not np.isfinite(density).all() or (density < 0).any() or not density.any():
        raise GeometryError(
            f"{name}: found negative, non-finite or only zero weights, expected weights >= 0"
        )
    return density.astype(np.float64).ravel()


def checked_field(values: Any, spatial: tuple[int, ...]) -> NDArray[np.float64] | None:  # noqa: ANN401
    """Field map as ``(B or 1, *spatial)``."""
    if values is None:
        return None
    field = as_array(values)
    dims = len(spatial)
    real = field.dtype.kind in "fiu"
    if not real or field.ndim not in (dims, dims + 1) or field.shape[-dims:] != spatial:
        raise GeometryError(
            f"field_map: found {field.dtype} {field.shape}, expected real {spatial} or "
            f"(B, {', '.join(map(str, spatial))}) in Hz"
        )
    if not np.isfinite(field).all():
        raise GeometryError("field_map: found NaN or Inf, expected frequencies in Hz")
    return field.astype(np.float64).reshape(-1, *spatial)


def checked_times(values: Any, leading: tuple[int, ...]) -> NDArray[np.float64] | None:  # noqa: ANN401
    """Times in s, broadcast to the trajectory and flattened."""
    if values is None:
        return None
    times = as_array(values)
    expected = f"finite seconds of a shape that broadcasts to {leading}"
    if times.dtype.kind not in "fiu" or not np.isfinite(times).all():
        raise GeometryError(f"readout_times: found {times.dtype} with NaN, expected {expected}")
    if times.shape == (math.prod(leading),):
        return times.astype(np.float64)
    try:
        return np.broadcast_to(times, leading).astype(np.float64).ravel()
    except ValueError as error:
        raise GeometryError(
            f"readout_times: found shape {times.shape}, expected {expected}"
        ) from error
