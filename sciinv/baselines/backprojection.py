"""Reconstructions in one pass: the adjoint of MRI and filtered back-projection of CT."""

from __future__ import annotations

import inspect

from deepinv.physics import LinearPhysics, Tomography
from torch import Tensor

from sciinv.baselines.common import check, start
from sciinv.errors import IncompatibleError


def _is_ct(physics: LinearPhysics) -> bool:
    from sciinv.operators.ct_base import SliceCT

    return isinstance(physics, (SliceCT, Tomography))


def zero_filled(y: Tensor, physics: LinearPhysics) -> Tensor:
    """Zero-filled, coil-combined image ``A^T y``.

    With orthonormal Fourier transforms and coil maps whose squared magnitudes sum to one the image
    is on the scale of the object, with aliasing where samples are missing. Maps that do not sum to
    one shade it by that sum.

    :param y: measurement ``(B, *measurement_shape)``.
    :return: ``(B, C, *spatial)``.
    :raises IncompatibleError: for CT, whose adjoint is a blurred image in other units (a length
        times the attenuation): use :func:`fbp` or :func:`sirt`.
    """
    if isinstance(physics, LinearPhysics) and _is_ct(physics):
        raise IncompatibleError(
            "zero_filled: found a CT operator, whose adjoint is not an image of the attenuation; "
            "use sciinv.baselines.fbp or sirt"
        )
    return start(y, physics, "zero_filled")


def fbp(y: Tensor, physics: LinearPhysics, *, filter: str = "ramp") -> Tensor:
    """Filtered back-projection of CT, by the operator's own geometry (its ``A_dagger``).

    :param y: sinogram ``(B, 1, angles, detectors)`` or stack ``(B, 1, D, angles, detectors)``.
    :param filter: name of the window on the ramp filter that the operator knows.
    :return: attenuation ``(B, 1, *spatial)`` in 1/mm.
    :raises IncompatibleError: the operator is not CT, or knows no other filter than the ramp.
    """
    if not isinstance(physics, LinearPhysics) or not _is_ct(physics):
        raise IncompatibleError(
            f"fbp: found {type(physics).__name__}, expected a CT operator; "
            "use sciinv.baselines.cg_sense for MRI"
        )
    check(y, physics, "fbp")  # the adjoint is not needed, nor a matrix for it
    if "filter" in inspect.signature(physics.A_dagger).parameters:
        image: Tensor = physics.A_dagger(y, filter=filter)
        return image
    if filter != "ramp":
        raise IncompatibleError(
            f"fbp: filter: found {filter!r}, but {type(physics).__name__} offers only 'ramp'"
        )
    image = physics.A_dagger(y)
    return image
