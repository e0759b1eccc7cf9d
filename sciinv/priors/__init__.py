"""Priors: denoisers ``D(x, sigma) = E[x0 | x0 + sigma n]``, analytic, trained or adapted.

Names are imported on first use, so that importing this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciinv.lazy import attach

__all__ = [
    "EDMDenoiser",
    "GaussianField",
    "GaussianMixture",
    "SliceWise",
    "UNet",
    "available",
    "fast_dtype",
    "from_deepinv",
    "load",
    "save",
]

# name -> module that defines it; resolved on first access (PEP 562)
_LAZY = {
    "EDMDenoiser": "sciinv.priors.precondition",
    "GaussianField": "sciinv.priors.gaussian",
    "GaussianMixture": "sciinv.priors.mixture",
    "SliceWise": "sciinv.priors.slicewise",
    "UNet": "sciinv.priors.network",
    "available": "sciinv.priors.store",
    "fast_dtype": "sciinv.priors.precondition",
    "from_deepinv": "sciinv.priors.adapters",
    "load": "sciinv.priors.store",
    "save": "sciinv.priors.store",
}

if TYPE_CHECKING:
    from sciinv.priors.adapters import from_deepinv
    from sciinv.priors.gaussian import GaussianField
    from sciinv.priors.mixture import GaussianMixture
    from sciinv.priors.network import UNet
    from sciinv.priors.precondition import EDMDenoiser, fast_dtype
    from sciinv.priors.slicewise import SliceWise
    from sciinv.priors.store import available, load, save

__getattr__, __dir__ = attach(__name__, _LAZY, __all__)
