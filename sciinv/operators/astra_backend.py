"""Projection engines built on the ASTRA toolbox, which is imported on first use.

An engine maps ``(N, rows, cols)`` images to ``(N, angles, detectors)`` line integrals
(``project``) and back with the transpose (``backproject``). Parallel beams use ASTRA's ``linear``
projector, which is Joseph's method, so they agree with :mod:`sciinv.operators.joseph` up to float32
rounding. For fan beams ASTRA has on the CPU only ``line_fanflat``, which weights a pixel by the
length of ray inside it: another discretisation of the same line integrals.

ASTRA without a GPU ends the Python process at the first CUDA call: nothing here calls one unless
``astra.use_cuda()`` says yes.
"""

from __future__ import annotations

import logging
import threading
import weakref
from functools import cache
from types import ModuleType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sciinv.operators.ct_geometry import ParallelGeometry, SliceGeometry
from sciinv.operators.fan_geometry import FanGeometry

_logger = logging.getLogger(__name__)
INSTALL_HINT = "install astra-toolbox (pip install astra-toolbox) or use backend='torch'"


class Engine(Protocol):
    """What :class:`~sciinv.operators.ct_base.SliceCT` asks of a projector."""

    def project(self, images: Tensor) -> Tensor:
        """Map ``(N, rows, cols)`` to ``(N, angles, detectors)``."""

    def backproject(self, sinograms: Tensor) -> Tensor:
        """Map ``(N, angles, detectors)`` to ``(N, rows, cols)``."""


def import_astra() -> ModuleType:
    """Import the ASTRA toolbox, or raise an ``ImportError`` that says what to do."""
    try:
        import astra
    except ImportError as error:
        raise ImportError(f"the ASTRA toolbox is not installed; {INSTALL_HINT}") from error
    return astra


@cache
def astra_problem() -> str | None:
    """Say why ASTRA cannot be used on this machine, or ``None`` if a small projection works."""
    geometry = ParallelGeometry(2, 2, (0.0,), 2, 1.0, 1.0)
    try:
        found = AstraEngine(geometry).project(torch.ones(1, 2, 2))
    except Exception as error:  # whatever it is that keeps a broken installation from working
        return _report(f"{type(error).__name__}: {error}")
    if torch.allclose(found, torch.full((1, 1, 2), 2.0)):
        return None
    return _report(f"projecting ones gave {found.tolist()}")


def _report(problem: str) -> str:
    _logger.warning("ASTRA does not work here, CT uses the slower torch projector (%s)", problem)
    return problem


def cuda_available() -> bool:
    """Whether ASTRA was built with CUDA and sees a device (asking is safe without one)."""
    return astra_problem() is None and bool(import_astra().use_cuda())


def _vectors(geometry: SliceGeometry) -> npt.NDArray[np.float64]:
    """Rows of ASTRA's ``parallel_vec`` or ``fanflat_vec`` geometry, mm.

    Ray direction or source position, detector centre, step between detector pixels.
    """
    cos, sin = geometry.directions()
    step = geometry.detector_spacing
    if isinstance(geometry, FanGeometry):
        # lateral coordinates are x cos + y sin + shift: source and detector are moved by -shift
        source = geometry.source_distance
        behind = geometry.detector_distance
        shift = geometry.axis_shift
        centre = geometry.detector_offset - shift
        return np.stack(
            [
                *(source * sin - shift * cos, -source * cos - shift * sin),
                *(-behind * sin + centre * cos, behind * cos + centre * sin),
                *(step * cos, step * sin),
            ],
            axis=1,
        )
    # u = x cos + y sin + shift, so the pixel at u = 0 lies at x cos + y sin = -shift
    shift = geometry.axis_shift
    return np.stack([sin, -cos, -shift * cos, -shift * sin, step * cos, step * sin], axis=1)


def _volume(astra: ModuleType, g: SliceGeometry, slices: int | None = None) -> dict[str, Any]:
    x, y = g.cols * g.pixel_size / 2, g.rows * g.pixel_size / 2
    if slices is None:
        return dict(astra.create_vol_geom(g.rows, g.cols, -x, x, -y, y))
    z = slices * g.pixel_size / 2
    return dict(astra.create_vol_geom(g.rows, g.cols, slices, -x, x, -y, y, -z, z))


def _release(algorithms: list[int], data: list[int], projector: int) -> None:
    astra = import_astra()
    astra.algorithm.delete(algorithms)
    astra.data2d.delete(data)
    astra.projector.delete(projector)


class AstraEngine:
    """ASTRA's CPU projector with persistent objects, slice by slice.

    The arithmetic is float32 whatever the input, so the adjoint holds to float32 rounding.
    """

    name = "astra"

    def __init__(self, geometry: SliceGeometry) -> None:
        """Create the ASTRA objects; they are released with this object."""
        astra = import_astra()
        self.geometry = geometry
        self._lock = threading.Lock()
        vol = _volume(astra, geometry)
        fan = isinstance(geometry, FanGeometry)
        proj = astra.create_proj_geom(
            "fanflat_vec" if fan else "parallel_vec", geometry.num_detectors, _vectors(geometry)
        )
        self._image = np.zeros((geometry.rows, geometry.cols), np.float32)
        self._sinogram = np.zeros((len(geometry.angles), geometry.num_detectors), np.float32)
        projector = astra.create_projector("line_fanflat" if fan else "linear", proj, vol)
        # linked arrays are read and written in place: no copy into ASTRA and back
        image = astra.data2d.link("-vol", vol, self._image)
        sinogram = astra.data2d.link("-sino", proj, self._sinogram)
        self._algorithms = []
        for kind, output in (("FP", "VolumeDataId"), ("BP", "ReconstructionDataId")):
            config = astra.astra_dict(kind)
            config["ProjectorId"] = projector
            config["ProjectionDataId"] = sinogram
            config[output] = image
            self._algorithms.append(astra.algorithm.create(config))
        weakref.finalize(self, _release, list(self._algorithms), [image, sinogram], projector)

    def project(self, images: Tensor) -> Tensor:
        """Map ``(N, rows, cols)`` to ``(N, angles, detectors)``."""
        return self._loop(images, self._image, self._algorithms[0], self._sinogram)

    def backproject(self, sinograms: Tensor) -> Tensor:
        """Map ``(N, angles, detectors)`` to ``(N, rows, cols)``."""
        return self._loop(sinograms, self._sinogram, self._algorithms[1], self._image)

    def _loop(
        self,
        values: Tensor,
        source: npt.NDArray[np.float32],
        algorithm: int,
        target: npt.NDArray[np.float32],
    ) -> Tensor:
        given = values.detach().to("cpu", torch.float32).numpy()
        result = np.empty((len(given), *target.shape), np.float32)
        astra = import_astra()
        # the linked arrays are shared by all callers of this engine
        with self._lock:
            for index, value in enumerate(given):
                source[...] = value
                target[...] = 0
                astra.algorithm.run(algorithm)
                result[index] = target
        return torch.from_numpy(result).to(values.device, values.dtype)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return type(self)(self.geometry)

    def __reduce__(self) -> tuple[type[Self], tuple[SliceGeometry]]:
        return type(self), (self.geometry,)


class CudaEngine:
    """ASTRA's CUDA projector on tensors that it reads and writes where they are.

    Its back-projector interpolates on its own and is **not** the transpose of its projector
    (1e-3 to 1e-2 in a dot product), so operators on it do not declare an exact adjoint.
    """

    name = "astra_cuda"

    def __init__(self, geometry: SliceGeometry) -> None:
        """Refuse to exist unless ASTRA has a working CUDA device."""
        if not cuda_available():
            raise RuntimeError(
                "backend='astra_cuda' needs an ASTRA build with CUDA and a GPU "
                "(astra.use_cuda() is False here); use backend='auto'"
            )
        self.geometry = geometry

    def project(self, images: Tensor) -> Tensor:
        """Map CUDA ``(N, rows, cols)`` to ``(N, angles, detectors)``."""
        count = images.shape[0]
        shape = (count, len(self.geometry.angles), self.geometry.num_detectors)
        volume = images.detach().float().contiguous()
        out = torch.zeros(shape, dtype=torch.float32, device=images.device)
        self._run("direct_FP3D", volume, out)
        return out.to(images.dtype)

    def backproject(self, sinograms: Tensor) -> Tensor:
        """Map CUDA ``(N, angles, detectors)`` to ``(N, rows, cols)``."""
        count = sinograms.shape[0]
        shape = (count, self.geometry.rows, self.geometry.cols)
        out = torch.zeros(shape, dtype=torch.float32, device=sinograms.device)
        self._run("direct_BP3D", out, sinograms.detach().float().contiguous())
        return out.to(sinograms.dtype)

    def _run(self, function: str, volume: Tensor, projections: Tensor) -> None:
        if volume.device.type != "cuda":
            raise RuntimeError(
                f"backend='astra_cuda': found a tensor on {volume.device}, expected cuda"
            )
        astra = import_astra()
        import astra.experimental as experimental  # not imported by astra itself

        g = self.geometry
        flat = _vectors(g)
        zero, one = np.zeros(len(flat)), np.full(len(flat), g.pixel_size)
        # (ray or source xyz, centre xyz, step along a detector row xyz, step between rows xyz)
        vectors = np.column_stack(
            [flat[:, :2], zero, flat[:, 2:4], zero, flat[:, 4:6], zero, zero, zero, one]
        )
        # parallel rays stay in their slice; those of a fan do in the middle one only, so a stack
        # goes slice by slice
        fan = isinstance(g, FanGeometry)
        count = 1 if fan else volume.shape[0]
        vol = _volume(astra, g, count)
        proj = astra.create_proj_geom(
            "cone_vec" if fan else "parallel3d_vec", count, g.num_detectors, vectors
        )
        projector = astra.create_projector("cuda3d", proj, vol)
        try:
            torch.cuda.synchronize(volume.device)  # ASTRA works on its own stream
            for start in range(0, volume.shape[0], count):
                part = slice(start, start + count)
                # ASTRA orders projections (detector rows, angles, columns): one row for a fan
                getattr(experimental, function)(projector, volume[part], projections[part])
        finally:
            astra.projector3d.delete(projector)
