"""From a scan to the measurement model that solvers see, in the prior's units.

This is where intensities are scaled: with ``x = scale * x'`` a linear measurement and its noise are
divided by ``scale`` and the operator stays as it is; counts stay and their likelihood knows the
scale.
"""

from __future__ import annotations

from collections.abc import Callable

from sciinv.data.scan import DiffractionGeometry, MRIGeometry, NonCartesianGeometry, Scan
from sciinv.errors import DataError
from sciinv.reconstruction.ct_model import ct_model
from sciinv.reconstruction.diffraction_model import diffraction_model
from sciinv.reconstruction.model import Model
from sciinv.reconstruction.mri_model import Coils, cartesian_model, noncartesian_model


def build_model(
    scan: Scan,
    index: int,
    *,
    noise_std: float | None = None,
    scale: float | None = None,
    seed: int = 0,
    coils: Coils | None = None,
    starts: int | None = None,
    say: Callable[[str, str], None] = lambda phase, text: None,
) -> Model:
    """Build the model of slice ``index``: coil maps, noise level and scale from the scan itself.

    :param noise_std: noise per real component in the measurement's units; replaces the estimate.
    :param scale: intensity scale; replaces the estimate.
    :param seed: of the random starts of iterative phasing.
    :param coils: MRI: compression and whitening of the coils.
    :param starts: random starts of iterative phasing; a few if not given.
    :param say: told ``(phase, sentence)`` what was found.
    """
    geometry, chosen = scan.geometry, coils or Coils()
    if isinstance(geometry, MRIGeometry):
        return cartesian_model(scan, geometry, index, noise_std, scale, chosen, say)
    if isinstance(geometry, NonCartesianGeometry):
        return noncartesian_model(scan, geometry, index, noise_std, scale, chosen, say)
    if isinstance(geometry, DiffractionGeometry):
        if noise_std is not None or scale is not None:
            raise DataError(
                scan.source, "noise", found="a noise level or a scale",
                expected="neither: the noise of photon counts is known, and their scale is found",
            )  # fmt: skip
        return diffraction_model(scan, geometry, index, seed, say, starts)
    return ct_model(scan, geometry, index, noise_std, scale, say)
