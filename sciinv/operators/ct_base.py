"""What the CT operators of a slice share: engines, maps, filtered back-projection, words."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from deepinv.physics.noise import NoiseModel
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.errors import GeometryError
from sciinv.operators import astra_backend, ct_matrix, joseph
from sciinv.operators.autograd import linear_map
from sciinv.operators.base import LinearOperator
from sciinv.operators.ct_geometry import SliceGeometry
from sciinv.operators.filters import FILTERS, Filter, filtered_backprojection

Backend = Literal["auto", "csr", "astra", "astra_cuda", "torch"]
BACKENDS: tuple[str, ...] = get_args(Backend)


class _TorchEngine:
    """The projector of :mod:`sciinv.operators.joseph` for one geometry."""

    name = "torch"

    def __init__(self, geometry: SliceGeometry) -> None:
        self.project = partial(joseph.project, geometry=geometry)
        self.backproject = partial(joseph.backproject, geometry=geometry)


class _Engines:
    """Engines of an operator by backend, dtype and device."""

    # a slot hides them from deepinv's clone, which walks through plain attributes into whatever
    # they lead to, here the whole of ASTRA and its dependencies

    __slots__ = ("store",)

    def __init__(self) -> None:
        self.store: dict[tuple[str, torch.dtype, str], astra_backend.Engine] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> _Engines:
        new = _Engines()
        new.store = copy.deepcopy(self.store, memo)
        return new


def check_request(image_shape: Sequence[int], backend: str) -> tuple[int, int]:
    """Return ``(rows, cols)``, or refuse an image shape or a backend that there is not."""
    if len(image_shape) not in (2, 3) or min(image_shape) < 1:
        raise GeometryError(
            f"image_shape: found {tuple(image_shape)}, expected (H, W) or (D, H, W)"
        )
    if backend not in BACKENDS:
        raise GeometryError(f"backend: found {backend!r}, expected one of {', '.join(BACKENDS)}")
    rows, cols = tuple(image_shape)[-2:]
    return rows, cols


class SliceCT(LinearOperator):
    """Line integrals of a slice, or of a stack of slices that turn together.

    Subclasses build the geometry; everything else is here.

    :param image_shape: ``(H, W)``, or ``(D, H, W)`` for a stack.
    :param geometry: of one slice.
    :param backend: name of the projector, see the subclasses.
    :param memory_budget: bytes that cached matrices may take together.
    """

    geometry: SliceGeometry
    # what to look at where the detector's centre is in doubt
    _centre: ClassVar[str] = "axis_shift"

    def __init__(
        self,
        image_shape: Sequence[int],
        geometry: SliceGeometry,
        *,
        backend: Backend,
        memory_budget: int,
        noise_model: NoiseModel | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        stack = tuple(int(n) for n in image_shape[:-2])
        super().__init__(
            image_shape,
            channels=1,
            measurement_shape=(1, *stack, len(geometry.angles), geometry.num_detectors),
            noise_model=noise_model,
            device=device,
            dtype=dtype,
        )
        self.geometry = geometry
        self.memory_budget = int(memory_budget)
        self.requested_backend = backend
        if backend == "astra_cuda":
            self.capabilities = type(self).capabilities - {Capability.ADJOINT}
            astra_backend.CudaEngine(geometry)  # refuse at once where there is no CUDA
        elif backend == "astra" and (problem := astra_backend.astra_problem()):
            raise ImportError(f"backend={backend!r}: ASTRA does not work here ({problem})")
        self._engines = _Engines()

    # -- engines -------------------------------------------------------------------------------
    @property
    def angles(self) -> Tensor:
        """Angles in radians as given, float64 on the CPU."""
        return torch.tensor(self.geometry.angles, dtype=torch.float64)

    def backend_for(self, dtype: torch.dtype, device: torch.device | str) -> str:
        """Name of the backend that tensors of this dtype and device are projected with."""
        if self.requested_backend != "auto":
            return self.requested_backend
        kind = torch.device(device).type
        fits = ct_matrix.matrix_bytes(self.geometry, dtype) <= self.memory_budget
        if fits and kind in ("cpu", "cuda"):
            return "csr"
        return "astra" if kind == "cpu" and astra_backend.astra_problem() is None else "torch"

    @property
    def backend(self) -> str:
        """Name of the backend for tensors of the operator's own dtype and device."""
        own = self._device_holder
        return self.backend_for(own.dtype, own.device)

    def _engine(self, like: Tensor) -> astra_backend.Engine:
        dtype = _working_dtype(like)
        name = self.backend_for(dtype, like.device)
        key = (name, dtype, str(like.device)) if name == "csr" else (name, torch.float32, "")
        engine = self._engines.store.get(key)
        if engine is None:
            g = self.geometry
            if name == "csr":
                engine = ct_matrix.matrix_engine(g, dtype, like.device, self.memory_budget)
            elif name == "astra":
                engine = astra_backend.AstraEngine(g)
            elif name == "astra_cuda":
                engine = astra_backend.CudaEngine(g)
            else:
                engine = _TorchEngine(g)
            self._engines.store[key] = engine
        return engine

    # -- maps ----------------------------------------------------------------------------------
    def A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Line integrals of ``(B, 1, *image_shape)``, without noise."""
        self._refuse("A", kwargs)
        self.check_image(x)
        return linear_map(x, self._project, self._backproject)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Unfiltered back-projection of ``(B, *measurement_shape)``, the transpose of ``A``."""
        self._refuse("A_adjoint", kwargs)
        self.check_measurement(y)
        return linear_map(y, self._backproject, self._project)

    def A_dagger(self, y: Tensor, filter: Filter = "ramp", **kwargs: Any) -> Tensor:  # noqa: A002, ANN401
        """Filtered back-projection, quantitative in 1/mm; differentiable.

        It is **not** a pseudo-inverse: ``A(A_dagger(y))`` is only close to y, and for few angles
        not even that. Methods that need A^+ should solve with CG on ``normal``. Views are weighted
        by their share of the turn and rays by their share among the measurements of their line, so
        uneven, unsorted and repeated angles are right. Objects that reach beyond the detector come
        out too bright towards the edge of the scanned disc.

        :param y: ``(B, *measurement_shape)``.
        :param filter: ``"ramp"`` (Ram-Lak), ``"shepp-logan"``, ``"cosine"`` or ``"hann"``, from
            sharp to smooth.
        :return: ``(B, 1, *image_shape)``.
        """
        self._refuse("A_dagger", kwargs)
        if filter not in FILTERS:
            raise GeometryError(f"filter: found {filter!r}, expected one of {', '.join(FILTERS)}")
        self.check_measurement(y)
        with torch.autocast(y.device.type, enabled=False):
            result = filtered_backprojection(self._slices(_working(y)), self.geometry, filter)
        return result.reshape(y.shape[0], 1, *self.image_shape).to(y.dtype)

    def _slices(self, value: Tensor) -> Tensor:
        return value.reshape(-1, *value.shape[-2:])

    def _project(self, x: Tensor) -> Tensor:
        y = self._engine(x).project(self._slices(_working(x)))
        return y.reshape(x.shape[0], *self.measurement_shape).to(x.dtype)

    def _backproject(self, y: Tensor) -> Tensor:
        x = self._engine(y).backproject(self._slices(_working(y)))
        return x.reshape(y.shape[0], 1, *self.image_shape).to(y.dtype)

    # -- checks and words ----------------------------------------------------------------------
    def check_measurement(self, y: Tensor) -> None:
        """Raise a ``GeometryError`` unless ``y`` is real ``(B, *measurement_shape)``.

        Where the numbers of angles or detectors are the only difference the text says so, and what
        usually is the cause.
        """
        try:
            super().check_measurement(y)
        except GeometryError as error:
            hint = self._shape_hint(tuple(y.shape))
            if not hint:
                raise
            raise GeometryError(f"{error}; {hint}") from None

    def _shape_hint(self, shape: tuple[int, ...]) -> str:
        expected = self.measurement_shape
        if len(shape) != len(expected) + 1 or shape[1:-2] != expected[:-2]:
            return ""
        (angles, detectors), (want_angles, want_detectors) = shape[-2:], expected[-2:]
        if (angles, detectors) == (want_detectors, want_angles):
            return "angles and detectors are exchanged: transpose the last two axes"
        hints = []
        if detectors != want_detectors:
            hints.append(f"found {detectors} detectors, expected {want_detectors}")
            if abs(detectors - want_detectors) == 1:
                hints[-1] += (
                    f": an even and an odd detector have their centres half a pixel apart, so pass "
                    f"num_detectors={detectors} and check {self._centre}, do not cut or pad"
                )
        if angles != want_angles:
            hints.append(f"found {angles} angles, expected {want_angles}")
        return "; ".join(hints)

    def field_of_view_mask(self) -> Tensor:
        """Return a bool image ``image_shape``: pixel centres that every view sees (a disc)."""
        seen = torch.from_numpy(self.geometry.seen())
        return seen.to(self._device_holder.device).expand(self.image_shape).clone()

    def summary(self) -> dict[str, str]:
        """Return what the operator is, field by field."""
        g = self.geometry
        return {
            **super().summary(),
            "angles": f"{len(g.angles)} from {min(g.angles):.4g} to {max(g.angles):.4g} rad",
            "detector": f"{g.num_detectors} x {g.detector_spacing:.4g} mm",
            "pixel": f"{g.pixel_size:.4g} mm",
            "axis shift": f"{g.axis_shift:.4g} mm",
            "backend": self.backend,
            "projector": "Joseph (linear interpolation)",
        }

    def extra_repr(self) -> str:
        """Show shapes and backend in ``repr``."""
        return f"{super().extra_repr()}, backend={self.backend!r}"

    def _refuse(self, name: str, kwargs: dict[str, Any]) -> None:
        if kwargs:
            raise TypeError(
                f"{type(self).__name__}.{name}: unexpected arguments {', '.join(kwargs)}"
            )


def _working_dtype(value: Tensor) -> torch.dtype:
    # half precision is computed in float32: a long sum of small weights needs the digits
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _working(value: Tensor) -> Tensor:
    return value.to(_working_dtype(value))
