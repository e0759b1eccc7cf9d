"""``Scan``: one file's measurement with geometry, units and noise, as plain NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


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


@dataclass(frozen=True)
class Scan:
    """A measurement ready for reconstruction. Arrays are NumPy; the first axis is the slice.

    :param kind: ``"mri"`` or ``"ct"``.
    :param data: MRI: complex64 k-space ``(slices, coils, *image_shape)``, centred (DC at
        ``n // 2``), zero where not sampled. CT: float32 line integrals
        ``(slices, angles, detectors)``, dimensionless.
    :param geometry: :class:`MRIGeometry` or :class:`ParallelGeometry`.
    :param valid: CT: False where a sample is unusable (zero counts, dead pixels); shape of data.
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

    kind: Literal["mri", "ct"]
    data: NDArray[Any]
    geometry: MRIGeometry | ParallelGeometry
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
        """Number of receive coils (1 for CT)."""
        return int(self.data.shape[1]) if self.kind == "mri" else 1

    @property
    def acceleration(self) -> float:
        """MRI: image positions over sampled positions. CT: 1."""
        if isinstance(self.geometry, MRIGeometry):
            mask = self.geometry.mask
            return float(mask.size / max(int(mask.sum()), 1))
        return 1.0

    def with_(self, **changes: Any) -> Scan:  # noqa: ANN401
        """Return a copy with some fields replaced."""
        return replace(self, **changes)
