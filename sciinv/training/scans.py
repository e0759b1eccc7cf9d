"""Images to train on from scan files: what a fully sampled scan shows."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sciinv.data.load import load
from sciinv.data.scan import (
    DiffractionGeometry,
    MRIGeometry,
    NonCartesianGeometry,
    Scan,
)
from sciinv.errors import DataError

# a view for every so many detector columns leaves no streaks that matter within the object
_COLUMNS_PER_VIEW = 2
_COMPLETE = 1.01  # acceleration; a few missing corners of k-space pass


class ScanImages:
    """Slices of one scan: its reference if it carries one, else its fully sampled reconstruction.

    For two channels a fully sampled Cartesian k-space is preferred to the reference, which has no
    phase. Reconstructions are the classical ones in the prior's own scale and with the slow part of
    the phase removed, as ``sciinv reconstruct`` hands images to a prior: the coil-combined image
    for MRI, CG-SENSE off the grid, filtered back-projection for CT.

    The noise of the scan is part of what is learned: take scans with little of it.

    A scan is loaded whole; the last one stays in memory.

    :param path: the file; loaded once here, to see that it can be used.
    :param channels: of the prior: 2 for MRI and diffraction, 1 for CT and magnitudes.
    :raises DataError: it cannot be loaded, or it is undersampled and has no reference.
    """

    def __init__(self, path: Path, channels: int) -> None:
        self.path = path
        self.channels = channels
        self.count, self.how = _probe(path, path.stat().st_mtime_ns, channels)

    def read(self, index: int) -> NDArray[Any]:
        """Return slice ``index`` as ``(H, W)``, real or complex."""
        scan = _load(self.path)
        depth = self.count // scan.num_slices
        number, plane = divmod(index, depth)
        if self.how == "reference":
            assert scan.reference is not None  # noqa: S101  probed
            image = np.asarray(scan.reference[number])
        else:
            image = _reconstruct(scan, number)
        return image.reshape(depth, *image.shape[-2:])[plane]


@lru_cache(maxsize=1)
def _load(path: Path) -> Scan:
    return load(path)


@lru_cache(maxsize=1 << 16)
def _probe(path: Path, changed: int, channels: int) -> tuple[int, str]:
    """Return the number of 2D slices and where their images come from."""
    scan = _load(path)
    shape = scan.image_shape
    count = scan.num_slices * (shape[0] if len(shape) == 3 else 1)
    complete = _complete(scan)
    cartesian = isinstance(scan.geometry, MRIGeometry)
    if complete and ((cartesian and channels == 2) or scan.reference is None):
        return count, "reconstruction"
    if scan.reference is not None:
        return count, "reference"
    raise DataError(path, "sampling", found=f"an undersampled {scan.kind} scan without a reference",
                    expected="a fully sampled one, or one that carries its reference")  # fmt: skip


def _complete(scan: Scan) -> bool:
    g = scan.geometry
    if isinstance(g, MRIGeometry | NonCartesianGeometry):
        return scan.acceleration <= _COMPLETE
    if isinstance(g, DiffractionGeometry):
        return False  # there is no image without a solver
    turn = float(np.ptp(g.angles)) * (1 + 1 / max(len(g.angles) - 1, 1))
    views = len(g.angles) * np.pi / max(turn, np.pi)
    return turn > 0.99 * np.pi and views * _COLUMNS_PER_VIEW >= g.num_detectors


def _reconstruct(scan: Scan, number: int) -> NDArray[Any]:
    from deepinv.physics import LinearPhysics

    from sciinv.baselines import cg_sense, fbp
    from sciinv.channels import to_complex
    from sciinv.reconstruction.build import build_model

    model = build_model(scan, number)
    if model.whole is not None and model.measured is not None:
        assert isinstance(model.whole, LinearPhysics)  # noqa: S101  CT
        image = fbp(model.measured / model.scale, model.whole)[0, 0]
        seen = model.whole.field_of_view_mask()
        return torch.where(seen.to(image.device), image, torch.zeros_like(image)).numpy()
    assert isinstance(model.physics, LinearPhysics)  # noqa: S101  MRI
    # maps of unit sum of squares and all of k-space: the adjoint is the inverse
    image = (
        model.physics.A_adjoint(model.y)
        if isinstance(scan.geometry, MRIGeometry)
        else cg_sense(model.y, model.physics, lam=1e-3)
    )
    return to_complex(image)[0].numpy()
