"""``Scan``: one file's measurement with geometry, units and noise, as plain NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CTGeometry",
    "DiffractionGeometry",
    "FanGeometry",
    "Geometry",
    "MRIGeometry",
    "NonCartesianGeometry",
    "ParallelGeometry",
    "Scan",
]


@dataclass(frozen=True)
class MRIGeometry:
    """Cartesian MRI geometry.

    :param image_shape: spatial shape of one image of the stack, ``(H, W)`` or ``(D, H, W)``.
    :param mask: sampled positions, bool ``image_shape`` (the same for all slices) or
        ``(slices, *image_shape)``.
    :param voxel_size: millimetres along the image axes, slice thickness first for stacks:
        ``(slice, row, column)``.
    :param readout_axis: image axis that is fully sampled by every readout, ``None`` if unknown.
    """

    image_shape: tuple[int, ...]
    mask: NDArray[np.bool_]
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    readout_axis: int | None = None


@dataclass(frozen=True)
class NonCartesianGeometry:
    """MRI along any trajectory: radial, spiral, stack of stars ...

    The order of the samples is that of :attr:`Scan.data` ``(slices, coils, shots, samples)``: all
    slices and coils share the trajectory.

    :param image_shape: spatial shape of one image of the stack, ``(H, W)`` or ``(D, H, W)``.
    :param trajectory: float64 ``(shots, samples, dim)``, cycles per field of view, within
        ``[-N/2, N/2]`` along each axis; the last axis is ordered like the image axes (rows first).
    :param voxel_size: millimetres ``(slice, row, column)``; with ``image_shape`` it gives the field
        of view.
    :param density: density compensation weights of the file, ``(shots, samples)``, not negative:
        the area (volume) of k-space that each sample stands for, in cycles per field of view; on a
        Cartesian grid they are 1. Only baselines and start images use them.
    :param readout_times: seconds from the excitation (or the echo) at which each sample was taken,
        ``(shots, samples)``; needed with a field map.
    :param field_map: off-resonance in Hz, ``image_shape`` or ``(slices, *image_shape)``.
    """

    image_shape: tuple[int, ...]
    trajectory: NDArray[np.float64]
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    density: NDArray[np.float32] | None = None
    readout_times: NDArray[np.float64] | None = None
    field_map: NDArray[np.float32] | None = None

    @property
    def num_shots(self) -> int:
        """Number of readouts."""
        return int(self.trajectory.shape[0])

    @property
    def num_samples(self) -> int:
        """Samples of one readout."""
        return int(self.trajectory.shape[1])


@dataclass(frozen=True)
class ParallelGeometry:
    """Parallel-beam CT geometry; lengths in mm, angles in radians.

    :param angles: ``(angles,)`` projection angles.
    :param num_detectors: detector columns.
    :param detector_spacing: mm between detector columns.
    :param axis_shift: position of the rotation axis on the detector, mm from its centre.
    :param image_shape: ``(H, W)`` of one slice.
    :param pixel_size: mm.
    :param slice_spacing: mm between the slices of the stack.
    """

    angles: NDArray[np.float64]
    num_detectors: int
    detector_spacing: float
    image_shape: tuple[int, int]
    pixel_size: float
    axis_shift: float = 0.0
    slice_spacing: float = 1.0

    @property
    def magnification(self) -> float:
        """Length on the detector over length at the rotation axis: 1."""
        return 1.0


@dataclass(frozen=True)
class FanGeometry:
    """Fan-beam CT geometry with a flat detector; lengths in mm, angles in radians.

    At angle t the source is at ``source_distance * (sin t, -cos t)`` and the middle of the detector
    at ``detector_distance * (-sin t, cos t)``, its columns along ``(cos t, sin t)``. The point
    (x, y) has the lateral position ``a = x cos t + y sin t + axis_shift`` and the depth
    ``b = -x sin t + y cos t``; it lands at ``a * (source_distance + detector_distance) /
    (source_distance + b)`` mm, and column k is centred at
    ``(k - (num_detectors - 1) / 2) * detector_spacing + detector_offset``.

    The fields shared with :class:`ParallelGeometry` mean the same, except that
    ``detector_spacing`` is measured on the detector itself.

    :param angles: ``(angles,)``.
    :param num_detectors: detector columns.
    :param detector_spacing: mm between columns, on the detector (not scaled to the axis).
    :param image_shape: ``(H, W)`` of one slice.
    :param pixel_size: mm.
    :param source_distance: mm from the source to the rotation axis.
    :param detector_distance: mm from the rotation axis to the detector.
    :param axis_shift: lateral position of the rotation axis, mm at the axis.
    :param slice_spacing: mm between the slices of the stack.
    :param detector_offset: mm on the detector by which its middle is moved.
    """

    angles: NDArray[np.float64]
    num_detectors: int
    detector_spacing: float
    image_shape: tuple[int, int]
    pixel_size: float
    source_distance: float
    detector_distance: float
    axis_shift: float = 0.0
    slice_spacing: float = 1.0
    detector_offset: float = 0.0

    @property
    def magnification(self) -> float:
        """Length on the detector over length at the rotation axis."""
        return (self.source_distance + self.detector_distance) / self.source_distance


@dataclass(frozen=True)
class DiffractionGeometry:
    """Far-field diffraction of an object of which only the intensity is measured.

    :param pattern_shape: shape of one pattern, 2D or 3D, DC at index ``n // 2``.
    :param image_shape: shape of the object, centred in a grid of ``pattern_shape``.
    :param oversampling: ``pattern_shape / image_shape`` along each axis. Give an operator
        ``pattern_shape`` itself: rounding makes it ambiguous from this ratio.
    :param pixel_size: mm of an object pixel ``(slice, row, column)``; 1 each if unknown.
    """

    pattern_shape: tuple[int, ...]
    image_shape: tuple[int, ...]
    oversampling: tuple[float, ...]
    pixel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)


#: Both CT geometries: they share ``angles``, ``num_detectors``, ``detector_spacing``,
#: ``image_shape``, ``pixel_size``, ``axis_shift``, ``slice_spacing`` and ``magnification``.
CTGeometry = ParallelGeometry | FanGeometry
Geometry = MRIGeometry | NonCartesianGeometry | ParallelGeometry | FanGeometry | DiffractionGeometry


@dataclass(frozen=True)
class Scan:
    """A measurement ready for reconstruction. Arrays are NumPy; the first axis is the slice.

    :param kind: ``"mri"``, ``"ct"`` or ``"diffraction"``.
    :param data: Cartesian MRI: complex64 k-space ``(slices, coils, *image_shape)``, centred (DC at
        ``n // 2``), zero where not sampled. Non-Cartesian MRI: complex64
        ``(slices, coils, shots, samples)``. CT: float32 line integrals
        ``(slices, angles, detectors)``, dimensionless. Diffraction: float32 intensity in counts
        ``(slices, *pattern_shape)``, DC at ``n // 2``.
    :param geometry: :class:`MRIGeometry` or :class:`NonCartesianGeometry`;
        :class:`ParallelGeometry` or :class:`FanGeometry`; :class:`DiffractionGeometry`.
    :param valid: CT and diffraction: False where a sample is unusable (zero counts, dead pixels,
        beam stop); shape of data.
    :param counts: CT: transmission counts less dark, shape of data, where they are known to be
        photon counts (Beer-Lambert likelihood), with ``blank`` the open-beam counts.
    :param noise_std: standard deviation per real component, if the file or the user states it.
    :param coil_maps: MRI: complex64 ``(slices, coils, *image_shape)`` if the file carries them.
    :param affine: 4 x 4 voxel (row, column, slice) index to RAS mm.
    :param units: unit of the reconstructed image, for example ``"1/mm"`` or ``"a.u."``.
    :param reference: fully sampled image that the file carries, ``(slices, *image_shape)``.
    :param source: path of the file; shown in messages, only its stem goes into results.
    :param oriented: the directions of ``affine`` come from the file; otherwise they are assumed
        and figures carry no R/L/A/P letters.
    :param notes: what the reader decided or assumed, one sentence each, shown to the user.
    :param header: small allow-listed facts (sequence name, field strength ...).
    """

    kind: Literal["mri", "ct", "diffraction"]
    data: NDArray[Any]
    geometry: Geometry
    format: str
    source: Path
    units: str
    affine: NDArray[np.float64]
    valid: NDArray[np.bool_] | None = None
    counts: NDArray[np.float32] | None = None
    blank: NDArray[np.float32] | None = None
    noise_std: float | None = None
    coil_maps: NDArray[np.complex64] | None = None
    reference: NDArray[np.float32] | None = None
    oriented: bool = False
    notes: tuple[str, ...] = ()
    header: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Stem of the source file."""
        return self.source.stem

    @property
    def num_slices(self) -> int:
        """Number of slices (2D images, or one volume for a 3D encoding)."""
        return int(self.data.shape[0])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Spatial shape of one image of the stack."""
        return tuple(self.geometry.image_shape)

    @property
    def num_coils(self) -> int:
        """Number of receive coils (1 for CT and diffraction)."""
        return int(self.data.shape[1]) if self.kind == "mri" else 1

    @property
    def acceleration(self) -> float:
        """Values of the image over values measured; 1 for CT and diffraction.

        Cartesian MRI: image positions over sampled positions. Non-Cartesian MRI: image pixels over
        samples of one slice and coil; a radial scan that meets the Nyquist criterion at the edge
        of k-space has 2 / pi samples too many, so that its value is below 1 (0.64), and a value
        above 1 is certainly undersampled.
        """
        g = self.geometry
        if isinstance(g, MRIGeometry):
            return float(g.mask.size / max(int(g.mask.sum()), 1))
        if isinstance(g, NonCartesianGeometry):
            return float(np.prod(g.image_shape) / max(g.num_shots * g.num_samples, 1))
        return 1.0

    def with_(self, **changes: Any) -> Scan:  # noqa: ANN401
        """Return a copy with some fields replaced."""
        return replace(self, **changes)
