"""Scans: reading files, correcting detector signals, noise level and intensity scale.

Nothing in this package needs torch; it is plain NumPy, and the readers import their file libraries
on first use.
"""

from __future__ import annotations

# load is both a module and the function in it: importing the function here, eagerly, makes
# sciinv.data.load(path) the call, while ``from sciinv.data.load import ...`` still works
from sciinv.data.load import load
from sciinv.data.native import write_scan
from sciinv.data.reference import Image, read_image
from sciinv.data.scan import (
    CTGeometry,
    DiffractionGeometry,
    FanGeometry,
    Geometry,
    MRIGeometry,
    NonCartesianGeometry,
    ParallelGeometry,
    Scan,
)

__all__ = [
    "CTGeometry",
    "DiffractionGeometry",
    "FanGeometry",
    "Geometry",
    "Image",
    "MRIGeometry",
    "NonCartesianGeometry",
    "ParallelGeometry",
    "Scan",
    "load",
    "read_image",
    "write_scan",
]
