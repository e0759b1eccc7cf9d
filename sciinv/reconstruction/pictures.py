"""Small pictures of the measurement model for the report: coil maps, the rotation axis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from sciinv.baselines import fbp
from sciinv.data.scan import CTGeometry, FanGeometry, Scan
from sciinv.operators import CartesianMRI, NonCartesianMRI
from sciinv.reconstruction.ct_model import tomograph
from sciinv.reconstruction.model import Model

# coils and pixels of a map, pixels of a back-projection: enough to look at, quick to make
_COILS, _MAP_EDGE = 16, 96
_AXIS_EDGE = 256
_ONCE = 2**28  # bytes of matrices that are used once


def pictures(scan: Scan, model: Model) -> dict[str, NDArray[np.float32]]:
    """Return what there is to show of a model, name -> ``(count, rows, columns)``.

    ``coil_maps``: moduli of up to 16 maps, zero where they are cropped. ``rotation_axis``: filtered
    back-projections of the middle of the image with the rotation axis one detector pixel below
    where it is taken to be, there, and one above.
    """
    physics = model.physics
    if isinstance(physics, CartesianMRI | NonCartesianMRI) and physics.coil_maps is not None:
        return {"coil_maps": coil_pictures(physics.coil_maps)}
    if isinstance(scan.geometry, CTGeometry) and model.measured is not None:
        return {"rotation_axis": axis_pictures(scan.geometry, model.measured)}
    return {}


def coil_pictures(maps: torch.Tensor) -> NDArray[np.float32]:
    """Moduli of coil maps ``(1, coils, *image_shape)``, binned; of volumes the middle slice."""
    size = maps[0, :_COILS].abs().float()
    if size.ndim == 4:
        size = size[:, size.shape[1] // 2]
    factor = -(-max(size.shape[1:]) // _MAP_EDGE)
    if factor > 1:
        # the same factor along both axes keeps the proportions
        size = torch.nn.functional.avg_pool2d(size[None], factor, ceil_mode=True)[0]
    return np.asarray(size.cpu().numpy(), np.float32)


def axis_pictures(geometry: CTGeometry, measured: torch.Tensor) -> NDArray[np.float32]:
    """Back-projections with the axis moved by -1, 0 and 1 detector pixels."""
    pixel = geometry.detector_spacing
    if isinstance(geometry, FanGeometry):  # as wide as a detector pixel at the axis
        distance = geometry.source_distance
        pixel *= distance / (distance + geometry.detector_distance)
    height, width = (min(n, _AXIS_EDGE + n % 2) for n in geometry.image_shape)
    made = []
    for step in (-1, 0, 1):
        moved = replace(geometry, axis_shift=geometry.axis_shift + step * pixel)
        physics = tomograph(moved, (height, width), memory_budget=_ONCE)
        made.append(fbp(measured, physics)[0, 0].cpu().numpy())
    return np.stack(made).astype(np.float32)
