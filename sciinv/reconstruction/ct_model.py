"""Models of CT scans: noise by sample, intensity scale, and the part of the grid that is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from deepinv.physics import GaussianNoise
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from sciinv.data.noise import estimate_sinogram_noise, sinogram_noise_map
from sciinv.data.scale import ct_scale
from sciinv.data.scan import CTGeometry, FanGeometry, Scan
from sciinv.errors import DataError
from sciinv.operators import FanBeamCT, ParallelBeamCT, whiten
from sciinv.operators.base import LinearOperator
from sciinv.operators.likelihoods import BeerLambertLikelihood
from sciinv.reconstruction.model import Model, middle

# the projector and the denoiser know nothing finer than this share of the intensity scale
_FLOOR = 0.003
_SIRT_START = 20
_QUICK_PIXELS, _QUICK_ANGLES = 256, 64
_ONCE = 2**28  # bytes

Tomograph = ParallelBeamCT | FanBeamCT


def ct_model(
    scan: Scan,
    geometry: CTGeometry,
    index: int,
    noise_std: float | None,
    scale: float | None,
    say: Callable[[str, str], None],
) -> Model:
    """Build the model of one slice of a parallel or fan beam."""
    p = torch.from_numpy(np.ascontiguousarray(scan.data[index]).astype(np.float32))[None, None]
    physics = tomograph(geometry, geometry.image_shape)
    visible = physics.field_of_view_mask().cpu().numpy()
    # used once, for the preview: a large matrix would take longer to build than to apply
    whole = tomograph(geometry, geometry.image_shape, memory_budget=_ONCE)
    valid = None if scan.valid is None else np.asarray(scan.valid[index], bool)
    if noise_std is None and scan.noise_std is None and scan.counts is not None:
        p, std = _linearised_counts(scan, index, physics)
        say("noise", "photon counts: Poisson, linearised around a smooth image")
    elif noise_std is not None or scan.noise_std is not None:
        level = noise_std or scan.noise_std
        std = torch.full_like(p, float(level or 0.0))
        say("noise", f"{level:.3g} per line integral, given")
    else:
        blank = None if scan.blank is None else np.broadcast_to(scan.blank, scan.data.shape)[index]
        std = torch.from_numpy(sinogram_noise_map(p[0, 0].numpy(), valid, blank))[None, None]
        level = estimate_sinogram_noise(p[0, 0].numpy(), valid)
        say("noise", f"{level:.3g} per line integral, from second differences along the detector")
    if valid is not None:
        std = torch.where(torch.from_numpy(valid)[None, None], std, torch.full_like(std, torch.inf))
    usable = std[torch.isfinite(std)]
    if usable.numel() == 0 or not bool((usable > 0).any()):
        raise DataError(scan.source, "noise", found="no usable sample", expected="positive noise",
                        hint="give --noise")  # fmt: skip
    from sciinv.baselines.common import squared_norm

    image, coarse = _quick_image(geometry, p, std)
    scale = scale or ct_scale(image)
    say("scale", f"{scale:.3g} {scan.units} is 1 for the prior")
    shape = object_shape(image, scale, geometry.image_shape, coarse)
    if shape != tuple(geometry.image_shape):
        say("object", f"within the middle {shape[0]}x{shape[1]} pixels; air around it")
        physics = tomograph(geometry, shape)
        inside = np.zeros(visible.shape, dtype=bool)
        inside[middle(visible.shape, shape)] = True
        visible = visible & inside
    whitened = whiten(physics, std / scale)
    whitened.noise_model = GaussianNoise(1.0)
    y = whitened.whiten_measurement(p / scale)
    norm = float(squared_norm(whitened, torch.ones(1, *physics.img_size)).amax().sqrt())
    return Model(
        y, whitened, scale, 1.0, float(usable.median()), _FLOOR * norm, tuple(p.shape[-2:]),
        np.asarray(visible, bool), nonneg=True, measured=p, whole=whole,
    )  # fmt: skip


def expected_shape(scan: Scan, index: int) -> tuple[int, int]:
    """Return about the part of a slice that will be reconstructed, before any noise is known."""
    geometry = scan.geometry
    assert isinstance(geometry, CTGeometry)  # noqa: S101  by the caller
    p = torch.from_numpy(np.ascontiguousarray(scan.data[index], np.float32))[None, None]
    std = torch.ones_like(p)
    if scan.valid is not None:
        std[0, 0][~torch.from_numpy(scan.valid[index])] = torch.inf
    image, coarse = _quick_image(geometry, p, std)
    return object_shape(image, ct_scale(image), geometry.image_shape, coarse)


def _quick_image(geometry: CTGeometry, p: Tensor, std: Tensor) -> tuple[NDArray[np.float32], int]:
    """Some SIRT sweeps on large pixels from some of the angles: enough for scale and extent.

    :returns: image inside the scanned disc, zero outside, and the size of its pixels in those of
        the geometry.
    """
    from sciinv.baselines import sirt

    coarse = max(1, round(max(geometry.image_shape) / _QUICK_PIXELS))
    step = -(-len(geometry.angles) // _QUICK_ANGLES)
    physics = coarse_tomograph(geometry, coarse, step)
    few = whiten_valid(physics, std[:, :, ::step])
    image = sirt(p[:, :, ::step], few, iterations=_SIRT_START, nonneg=True)[0, 0]
    seen = physics.field_of_view_mask().cpu()
    return torch.where(seen, image, torch.zeros_like(image)).numpy(), coarse


def object_shape(
    image: NDArray[np.floating], scale: float, full: tuple[int, int], coarse: int = 1
) -> tuple[int, int]:
    """Shape of the middle part of an image that holds the object, with a margin.

    Where a quick reconstruction, smoothed, stays below a tenth of the intensity scale there is
    air; the prior need not be asked about it. The part has the parity of the image, so that both
    have the same centre, and the image itself is kept unless a sixth of it is saved.

    :param image: quick reconstruction with the centre of the full image.
    :param full: shape of the full image.
    :param coarse: size of its pixels in those of the full image.
    """
    smooth = ndimage.uniform_filter(np.asarray(image, dtype=np.float64), 5)
    shape = []
    for axis, n in enumerate(full):
        used = np.flatnonzero((smooth > 0.1 * scale).any(axis=1 - axis))
        centre = (image.shape[axis] - 1) / 2
        reach = coarse * (float(np.abs(used - centre).max()) + 0.5) if used.size else n
        size = int(np.ceil(2 * (reach + 0.04 * n + 4)))
        shape.append(min(n, size + (n - size) % 2))
    saved = 1 - shape[0] * shape[1] / (full[0] * full[1])
    return (shape[0], shape[1]) if saved > 1 / 6 else (full[0], full[1])


def tomograph(
    geometry: CTGeometry, image_shape: tuple[int, int], *, memory_budget: int = 2 * 2**30
) -> Tomograph:
    """Return the operator of a geometry on an image of another shape, with the same centre."""
    shared: dict[str, Any] = {
        "num_detectors": geometry.num_detectors,
        "detector_spacing": geometry.detector_spacing,
        "pixel_size": geometry.pixel_size,
        "axis_shift": geometry.axis_shift,
        "memory_budget": memory_budget,
    }
    if isinstance(geometry, FanGeometry):
        return FanBeamCT(
            image_shape,
            geometry.angles,
            source_distance=geometry.source_distance,
            detector_distance=geometry.detector_distance,
            detector_offset=geometry.detector_offset,
            **shared,
        )
    return ParallelBeamCT(image_shape, geometry.angles, **shared)


def coarse_tomograph(geometry: CTGeometry, coarse: int, step: int) -> Tomograph:
    """Return the operator of every ``step``-th angle on pixels ``coarse`` times as large."""
    height, width = (-(-n // coarse) for n in geometry.image_shape)
    fewer = replace(
        geometry, angles=geometry.angles[::step], pixel_size=coarse * geometry.pixel_size
    )
    return tomograph(fewer, (height, width))


def whiten_valid(physics: Tomograph, std: Tensor) -> LinearOperator:
    """Return the operator without the samples whose standard deviation is infinite."""
    if bool(torch.isfinite(std).all()):
        return physics
    return whiten(physics, torch.where(torch.isfinite(std), torch.ones_like(std), std))


def _linearised_counts(scan: Scan, index: int, physics: Tomograph) -> tuple[Tensor, Tensor]:
    """Line integrals and their standard deviation for photon counts.

    The logarithm of few counts is biased and its apparent variance is correlated with its error.
    So the Poisson likelihood is expanded to second order (Fisher scoring) around the projections of
    a smooth image, twice; zero counts then need no special case.
    """
    from sciinv.baselines import sirt

    assert scan.counts is not None and scan.blank is not None  # noqa: S101  by the caller
    counts = torch.from_numpy(np.ascontiguousarray(scan.counts[index]).astype(np.float32))
    blank = torch.from_numpy(
        np.ascontiguousarray(np.broadcast_to(scan.blank, scan.counts.shape)[index]).astype(
            np.float32
        )
    )
    likelihood = BeerLambertLikelihood(blank[None, None])
    counts = counts[None, None]
    p, std, valid = likelihood.log_transform(counts)
    std = torch.where(valid.bool(), std, torch.full_like(std, torch.inf))
    for _ in range(2):
        weighted = whiten(physics, std)
        image = sirt(weighted.whiten_measurement(p), weighted, iterations=30, nonneg=True)
        p, std = likelihood.linearise(counts, physics.A(image))
    return p, std
