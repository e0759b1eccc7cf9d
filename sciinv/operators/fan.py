"""Fan-beam computed tomography with a flat detector, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from deepinv.physics.noise import NoiseModel
from torch import Tensor

from sciinv.operators.ct_base import Backend, SliceCT, check_request
from sciinv.operators.fan_geometry import FanGeometry


class FanBeamCT(SliceCT):
    r"""Fan-beam projections of a slice, or of a stack of slices that turn together.

    :math:`y_{a,k} = \int x\,\mathrm{d}l` along the line from the source to the centre of detector
    pixel k. At angle t the source is at D (sin t, -cos t), D = source_distance, and the detector,
    detector_distance behind the axis, runs along (cos t, sin t)::

        t = 0:          u ->
            ---+----+----+----+---  flat detector at y = detector_distance
                \   :   /           u_k = (k - (K-1)/2) detector_spacing + detector_offset
                 \  y  /
                  \ ^ / . (x, y)
            -------\+/-----> x      the axis of rotation
                    :
                    *               source at y = -source_distance; grows t, it moves towards +x
                                    (counter-clockwise, as the detector does)

    A point has the lateral coordinate ``a = x cos t + y sin t + axis_shift`` and the depth
    ``b = -x sin t + y cos t``, and lands on
    ``u = a (source_distance + detector_distance) / (source_distance + b)``. With ``axis_shift > 0``
    the axis is seen at a higher detector index than the foot of the source, as in
    :class:`~sciinv.operators.ct.ParallelBeamCT`, which this operator becomes for a far source; with
    ``detector_offset > 0`` everything is seen at a lower index. The two nearly do the same:
    ``axis_shift`` moves source and detector, ``detector_offset`` the detector alone.

    Images ``(B, 1, H, W)`` or ``(B, 1, D, H, W)`` in 1/mm; measurements ``(B, 1, angles,
    detectors)`` or ``(B, 1, D, angles, detectors)``, dimensionless: ones through L mm give L. The
    slices of a stack are independent fans in planes across the axis (no cone angle).

    **What is modelled.** Rays are lines without width, so neither the detector pixel nor the focal
    spot blurs; magnification is that of the lines, whatever the size of a detector pixel. The image
    is interpolated linearly along the rows or columns that a ray crosses (Joseph, IEEE Trans. Med.
    Imaging 1 (1982) 192). Where a detector pixel is wider than the shadow of two image pixels
    (``detector_spacing > 2 pixel_size * magnification``) some image pixels lie between two rays of
    a view: choose larger pixels, or average the result.

    The projector is chosen by ``backend``:

    - ``"csr"``: a pair of sparse matrices, applied to all slices and samples at once, on the CPU or
      a GPU; exact adjoint.
    - ``"astra"``: ASTRA's ``line_fanflat`` on the CPU, slice by slice, for matrices that do not fit
      ``memory_budget``. It weights pixels by the length of ray inside them, another discretisation
      of the same integrals, in float32: the adjoint holds to float32 rounding in any dtype.
    - ``"astra_cuda"``: ASTRA's CUDA projector. Its back-projector is not the exact transpose, so
      the operator does not declare :attr:`~sciinv.capabilities.Capability.ADJOINT`.
    - ``"torch"``: the weights of ``csr`` without the matrix, any device, exact in float64, slower.
    - ``"auto"``: ``csr`` where the matrices fit the budget; above it ``astra`` on the CPU where it
      works, else ``torch``.

    ``A_dagger`` is filtered back-projection with the weights of a flat detector. It is right for a
    full turn, also with a detector whose centre is beside the axis; for half a turn plus the fan
    angle, or more, from any start in either direction, the lines measured twice sharing smoothly
    (after Parker 1982, Med. Phys. 9:254). Scans of less than that are accepted: lines measured once
    count fully, those never measured are missing and the image has streaks along them.

    :param image_shape: ``(H, W)``, or ``(D, H, W)`` for a stack.
    :param angles: t, radians, one-dimensional, any order and any range up to four turns. A scanner
        that turns the other way needs ``-t``; one that counts its detector from the other side
        needs the measurement flipped, or ``-t``, ``-axis_shift`` and ``-detector_offset`` for a
        mirrored image.
    :param num_detectors: K, detector pixels of a row.
    :param detector_spacing: distance of detector pixels in mm, on the detector.
    :param pixel_size: side of an image pixel in mm, in the object.
    :param source_distance: from the source to the rotation axis in mm; beyond the image's corners.
    :param detector_distance: from the rotation axis to the detector in mm, not from the source;
        0 for a detector scaled to the axis. It may lie within the image: rays run on behind it.
    :param axis_shift: lateral coordinate of the rotation axis in mm, at the axis.
    :param detector_offset: of the detector's centre from the foot of the source in mm, on the
        detector.
    :param memory_budget: bytes that cached matrices may take together.
    :raises GeometryError: naming every parameter that is out of range, or that looks like degrees.
    :raises ImportError: for ``backend="astra"`` where ASTRA does not work.
    :raises RuntimeError: for ``backend="astra_cuda"`` where ASTRA has no GPU.

    >>> physics = FanBeamCT(
    ...     (64, 64), torch.arange(120) * torch.pi / 60, num_detectors=150, detector_spacing=1.0,
    ...     pixel_size=1.0, source_distance=200.0, detector_distance=100.0,
    ... )
    >>> y = physics.A(torch.full((1, 1, 64, 64), 0.02))  # 64 mm of 0.02/mm
    >>> round(float(y[0, 0, 0, 75]), 3), tuple(y.shape)
    (1.28, (1, 1, 120, 150))
    >>> round(float(physics.A_dagger(y)[0, 0, 32, 32]), 3)
    0.02
    """

    geometry: FanGeometry
    _centre: ClassVar[str] = "axis_shift and detector_offset"

    def __init__(
        self,
        image_shape: Sequence[int],
        angles: Sequence[float] | Tensor | Any,  # noqa: ANN401 (anything NumPy makes an array of)
        *,
        num_detectors: int,
        detector_spacing: float,
        pixel_size: float,
        source_distance: float,
        detector_distance: float,
        axis_shift: float = 0.0,
        detector_offset: float = 0.0,
        backend: Backend = "auto",
        memory_budget: int = 2 * 2**30,
        noise_model: NoiseModel | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        geometry = FanGeometry.create(
            check_request(image_shape, backend),
            angles,
            num_detectors=num_detectors,
            detector_spacing=detector_spacing,
            pixel_size=pixel_size,
            source_distance=source_distance,
            detector_distance=detector_distance,
            axis_shift=axis_shift,
            detector_offset=detector_offset,
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

    def summary(self) -> dict[str, str]:
        """Return what the operator is, field by field."""
        g = self.geometry
        fields = super().summary()
        if self.backend.startswith("astra"):
            fields["projector"] = "ASTRA (ray lengths)"
        return {
            **fields,
            "source to axis": f"{g.source_distance:.4g} mm",
            "axis to detector": f"{g.detector_distance:.4g} mm",
            "magnification": f"{g.magnification:.4g}",
            "detector offset": f"{g.detector_offset:.4g} mm",
        }
