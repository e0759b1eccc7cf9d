"""Parallel-beam computed tomography, slice by slice."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from deepinv.physics.noise import NoiseModel
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.errors import GeometryError
from sciinv.operators import astra_backend, ct_matrix, joseph
from sciinv.operators.autograd import linear_map
from sciinv.operators.base import LinearOperator
from sciinv.operators.ct_geometry import ParallelGeometry
from sciinv.operators.filters import FILTERS, Filter, filtered_backprojection

Backend = Literal["auto", "csr", "astra", "astra_cuda", "torch"]
BACKENDS: tuple[str, ...] = get_args(Backend)


class _TorchEngine:
    """The projector of :mod:`sciinv.operators.joseph` for one geometry."""

    name = "torch"

    def __init__(self, geometry: ParallelGeometry) -> None:
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


class ParallelBeamCT(LinearOperator):
    r"""Parallel-beam projections of a slice, or of a stack of slices that turn together.

    :math:`y_{a,k} = \int x\,\mathrm{d}l` over the ray with
    :math:`x\cos t_a + y\sin t_a + \mathrm{axis\_shift} = (k - (K-1)/2)\,\mathrm{spacing}`, by
    Joseph's interpolation (IEEE Trans. Med. Imaging 1 (1982) 192)::

             y ^   row 0 is the top              axis_shift > 0: the rotation axis is seen
               |                                 at a higher detector index than the middle
               |  . (x, y)
        -------+-------> x   columns
               |                                 t = 0: u = x, the detector runs like the columns
               |                                 t = pi/2: u = y, it runs from bottom to top

    Images ``(B, 1, H, W)`` or ``(B, 1, D, H, W)`` in 1/mm; measurements ``(B, 1, angles,
    detectors)`` or ``(B, 1, D, angles, detectors)``, dimensionless: ones through L mm give L.

    The projector is chosen by ``backend``:

    - ``"csr"``: a pair of sparse matrices, applied to all slices and samples at once, on the CPU or
      a GPU; the weights of ASTRA's ``linear`` projector without its rounding; exact adjoint.
    - ``"astra"``: ASTRA's CPU projector slice by slice, for matrices that do not fit
      ``memory_budget``. float32 arithmetic: the adjoint holds to float32 rounding in any dtype.
    - ``"astra_cuda"``: ASTRA's CUDA projector. Its back-projector is not the exact transpose, so
      the operator does not declare :attr:`~sciinv.capabilities.Capability.ADJOINT`.
    - ``"torch"``: our own, any device, exact in float64, slower on a CPU.
    - ``"auto"``: ``csr`` where the matrices fit the budget; above it ``astra`` on the CPU where it
      works, else ``torch``.

    The engine follows the dtype and the device of the tensors that it is given and is built at the
    first call. Operators of equal geometry share their matrices.

    :param image_shape: ``(H, W)``, or ``(D, H, W)`` for a stack.
    :param angles: t, radians, one-dimensional, any order and any range up to four turns.
    :param num_detectors: K, detector pixels of a row.
    :param detector_spacing: distance of detector pixels in mm.
    :param pixel_size: side of an image pixel in mm.
    :param axis_shift: detector coordinate of the rotation axis in mm; for an axis seen at column c
        it is ``(c - (K-1)/2) * detector_spacing``.
    :param memory_budget: bytes that cached matrices may take together.
    :raises GeometryError: naming every parameter that is out of range, or that looks like degrees.
    :raises ImportError: for ``backend="astra"`` where ASTRA does not work.
    :raises RuntimeError: for ``backend="astra_cuda"`` where ASTRA has no GPU.

    >>> angles = torch.arange(60) * torch.pi / 60
    >>> physics = ParallelBeamCT(
    ...     (64, 64), angles, num_detectors=96, detector_spacing=1.0, pixel_size=1.0
    ... )
    >>> y = physics.A(torch.full((1, 1, 64, 64), 0.02))  # 64 mm of 0.02/mm
    >>> round(float(y[0, 0, 0, 48]), 3), tuple(y.shape)
    (1.28, (1, 1, 60, 96))
    >>> round(float(physics.A_dagger(y)[0, 0, 32, 32]), 3)
    0.02
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        angles: Sequence[float] | Tensor | Any,  # noqa: ANN401 (anything NumPy makes an array of)
        *,
        num_detectors: int,
        detector_spacing: float,
        pixel_size: float,
        axis_shift: float = 0.0,
        backend: Backend = "auto",
        memory_budget: int = 2 * 2**30,
        noise_model: NoiseModel | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if len(image_shape) not in (2, 3) or min(image_shape) < 1:
            raise GeometryError(
                f"image_shape: found {tuple(image_shape)}, expected (H, W) or (D, H, W)"
            )
        if backend not in BACKENDS:
            raise GeometryError(
                f"backend: found {backend!r}, expected one of {', '.join(BACKENDS)}"
            )
        geometry = ParallelGeometry.create(
            tuple(image_shape)[-2:],
            angles,
            num_detectors=num_detectors,
            detector_spacing=detector_spacing,
            pixel_size=pixel_size,
            axis_shift=axis_shift,
        )
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
        _refuse("A", kwargs)
        self.check_image(x)
        return linear_map(x, self._project, self._backproject)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Unfiltered back-projection of ``(B, *measurement_shape)``, the transpose of ``A``."""
        _refuse("A_adjoint", kwargs)
        self.check_measurement(y)
        return linear_map(y, self._backproject, self._project)

    def A_dagger(self, y: Tensor, filter: Filter = "ramp", **kwargs: Any) -> Tensor:  # noqa: A002, ANN401
        """Filtered back-projection, quantitative in 1/mm; differentiable.

        It is **not** a pseudo-inverse: ``A(A_dagger(y))`` is only close to y, and for few angles
        not even that. Methods that need A^+ should solve with CG on ``normal``. Views are weighted
        by their share of half a turn, so uneven angles are right. Objects that reach beyond the
        detector come out too bright towards the edge of the scanned disc.

        :param y: ``(B, *measurement_shape)``.
        :param filter: ``"ramp"`` (Ram-Lak), ``"shepp-logan"``, ``"cosine"`` or ``"hann"``, from
            sharp to smooth.
        :return: ``(B, 1, *image_shape)``.
        """
        _refuse("A_dagger", kwargs)
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

    # -- words ---------------------------------------------------------------------------------
    def field_of_view_mask(self) -> Tensor:
        """Return a bool image ``image_shape``: pixel centres that every view sees (a disc)."""
        g = self.geometry
        cos, sin = (torch.from_numpy(v) for v in g.directions())
        x, y = torch.from_numpy(g.x()), torch.from_numpy(g.y())
        half = g.num_detectors * g.detector_spacing / 2
        seen = torch.ones((g.rows, g.cols), dtype=torch.bool)
        for c, s in zip(cos, sin, strict=True):
            seen &= (c * x[None, :] + s * y[:, None] + g.axis_shift).abs() <= half
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


def _working_dtype(value: Tensor) -> torch.dtype:
    # half precision is computed in float32: a long sum of small weights needs the digits
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _working(value: Tensor) -> Tensor:
    return value.to(_working_dtype(value))


def _refuse(name: str, kwargs: dict[str, Any]) -> None:
    if kwargs:
        raise TypeError(f"ParallelBeamCT.{name}: unexpected arguments {', '.join(kwargs)}")
