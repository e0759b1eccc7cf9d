"""sciinv: scientific and medical scans reconstructed with diffusion models as priors.

``sciinv.load(path)`` reads a scan, ``sciinv.reconstruct(scan)`` draws posterior samples and
returns a :class:`sciinv.Result` with their mean and standard deviation in physical units.

Importing this package is cheap: torch and the other heavy packages are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciinv.lazy import attach

__version__ = "0.1.0"
__all__ = ["Result", "Scan", "__version__", "load", "reconstruct"]

# name -> module that defines it; resolved on first access (PEP 562)
_LAZY = {
    "Result": "sciinv.result",
    "Scan": "sciinv.data.scan",
    "load": "sciinv.data.load",
    "reconstruct": "sciinv.reconstruction.run",
}

if TYPE_CHECKING:
    from sciinv.data.load import load
    from sciinv.data.scan import Scan
    from sciinv.reconstruction.run import reconstruct
    from sciinv.result import Result

__getattr__, __dir__ = attach(__name__, _LAZY, __all__)
