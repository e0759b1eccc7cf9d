"""Parallel-beam computed tomography, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from deepinv.physics.noise import NoiseModel
from torch import Tensor

from sciinv.operators.ct_base import BACKENDS, Backend, SliceCT, check_request
from sciinv.operators.ct_geometry import ParallelGeometry

__all__ = ["BACKENDS", "Backend", "ParallelBeamCT"]


class ParallelBeamCT(SliceCT):
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

    geometry: ParallelGeometry

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
        geometry = ParallelGeometry.create(
            check_request(image_shape, backend),
            angles,
            num_detectors=num_detectors,
            detector_spacing=detector_spacing,
            pixel_size=pixel_size,
            axis_shift=axis_shift,
        )
        super().__init__(
            image_shape,
            geometry,
            backend=backend,
            memory_budget=memory_budget,
            noise_model=noise_model,
            device=device,
            dtype=dtype,
        )
