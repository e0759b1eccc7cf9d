"""From a scan to the measurement model that solvers see, in the prior's units.

This is the one place where intensities are scaled: with ``x = scale * x'`` the measurement and its
noise are divided by ``scale`` and the operator stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from deepinv.physics import GaussianNoise
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from sciinv.channels import to_channels, to_complex
from sciinv.data.noise import (
    estimate_mri_noise,
    estimate_sinogram_noise,
    sinogram_noise_map,
)
from sciinv.data.scale import ct_scale, mri_scale
from sciinv.data.scan import MRIGeometry, ParallelGeometry, Scan
from sciinv.errors import DataError
from sciinv.linalg import row_dot
from sciinv.operators import CartesianMRI, ParallelBeamCT, estimate_coil_maps, whiten
from sciinv.operators.base import LinearOperator
from sciinv.operators.coils import low_resolution_phase, sensitivity_support
from sciinv.operators.likelihoods import BeerLambertLikelihood

# the denoiser knows nothing finer than this share of the intensity scale, and neither do the maps
# and the projector: as noise level of a point estimate, too small is harmful, too large is mild
MRI_FLOOR = 0.008
CT_FLOOR = 0.003
_SIRT_START = 20
_QUICK_PIXELS, _QUICK_ANGLES = 256, 64
_ONCE = 2**28  # bytes


@dataclass(frozen=True)
class Model:
    """Measurement, operator and noise of one slice (or volume), scaled for the prior.

    :param y: ``(1, ...)`` float32, divided by ``scale``.
    :param physics: operator with ``noise_model = GaussianNoise(sigma)``.
    :param scale: intensity of the physical image that the prior sees as 1.
    :param sigma: noise level of ``y`` per real component (1 for whitened CT data).
    :param noise: the same in the measurement's own units, as told to the user.
    :param floor: noise level below which a point estimate gains nothing.
    :param visible: bool ``image_shape``, pixels that the data can see.
    :param phase: unit complex numbers ``(1, *image_shape)`` that were folded into the coil maps,
        so that the prior sees nearly real images; given back by ``to_physical``.
    :param nonneg: the image cannot be negative (attenuation).
    :param measured: CT: line integrals before whitening and scaling.
    :param whole: CT: the operator on the whole grid, before whitening; ``physics`` may be on its
        middle part only, where the object is.
    """

    y: Tensor
    physics: LinearOperator
    scale: float
    sigma: float
    noise: float
    floor: float
    visible: NDArray[np.bool_]
    nonneg: bool
    phase: Tensor | None = None
    measured: Tensor | None = None
    whole: LinearOperator | None = None

    @property
    def full_shape(self) -> tuple[int, ...]:
        """Shape of the images that the user gets."""
        return tuple(self.visible.shape)

    def to_physical(self, x: Tensor) -> NDArray[np.complex64] | NDArray[np.float32]:
        """Images ``(N, C, *image_shape)`` of the prior's scale, as NumPy in physical units."""
        x = _pad(x.detach(), self.full_shape)
        if x.shape[1] == 1:
            return (self.scale * x[:, 0]).to(torch.float32).cpu().numpy()
        z = self.scale * to_complex(x)
        if self.phase is not None:
            z = z * self.phase.to(z)
        return z.to(torch.complex64).cpu().numpy()

    def with_noise(self, sigma: float) -> Model:
        """Return the model with another noise level of ``y``."""
        physics = self.physics.rows(torch.zeros(1, dtype=torch.long))  # a shallow copy
        physics.noise_model = GaussianNoise(sigma)
        return replace(self, physics=physics, sigma=sigma)

    def misfit(self, x: Tensor) -> float:
        """Root mean square residual of an image ``(1, C, ...)`` in units of ``sigma``."""
        residual = self._residual(x, 0.0)
        count = self.physics.measurement_count()
        return float((row_dot(residual, residual).mean() / count).sqrt()) / self.sigma

    def residual_map(self, x: Tensor) -> NDArray[np.float32]:
        """Residual over the noise level for a figure: k-space (RMS over coils) or sinogram."""
        r = self._residual(x, float("nan"))[0].detach().cpu().numpy() / self.sigma
        # what stands before the spatial or sinogram axes: real and imaginary part, then coils
        over = tuple(range(r.ndim - (2 if self.nonneg else len(self.physics.image_shape))))
        return np.asarray(np.sqrt((r**2).mean(axis=over)), dtype=np.float32)

    def _residual(self, x: Tensor, hidden: float) -> Tensor:
        """``y - A x``, with ``hidden`` where nothing was measured."""
        residual = self.y - self.physics.A(x)
        mask = self.physics.measurement_mask
        return residual if mask is None else torch.where(mask != 0, residual, hidden)


def build_model(
    scan: Scan,
    index: int,
    *,
    noise_std: float | None = None,
    scale: float | None = None,
    say: Callable[[str, str], None] = lambda phase, text: None,
) -> Model:
    """Build the model of slice ``index``: coil maps, noise level and scale from the scan itself.

    :param noise_std: noise per real component in the measurement's units; replaces the estimate.
    :param scale: intensity scale; replaces the estimate.
    :param say: told ``(phase, sentence)`` what was found.
    """
    if isinstance(scan.geometry, MRIGeometry):
        return _mri(scan, scan.geometry, index, noise_std, scale, say)
    return _ct(scan, scan.geometry, index, noise_std, scale, say)


def _mri(
    scan: Scan,
    geometry: MRIGeometry,
    index: int,
    noise_std: float | None,
    scale: float | None,
    say: Callable[[str, str], None],
) -> Model:
    kspace = np.ascontiguousarray(scan.data[index]).astype(np.complex64)
    shape = tuple(geometry.image_shape)
    mask = geometry.mask if geometry.mask.shape == shape else geometry.mask[index]
    k = torch.from_numpy(kspace)[None]
    sampled = torch.from_numpy(np.ascontiguousarray(mask))
    if scan.coil_maps is not None:
        maps = torch.from_numpy(np.ascontiguousarray(scan.coil_maps[index]))[None]
        phase = None
        say("coils", f"{scan.num_coils} coil maps from the file")
    else:
        maps = estimate_coil_maps(k, mask=sampled)
        phase = low_resolution_phase(k, maps, mask=sampled)
        maps = maps * phase[:, None]
        how = "a single coil" if scan.num_coils == 1 else f"ESPIRiT, {scan.num_coils} coils"
        say("coils", f"{how}, from the scan's own calibration lines")
    noise = noise_std or scan.noise_std
    given = noise is not None
    if noise is None:
        noise = estimate_mri_noise(kspace, mask, geometry.readout_axis)
    if not noise > 0:
        raise DataError(scan.source, "noise", found=noise, expected="a positive noise level",
                        hint="give --noise")  # fmt: skip
    unit = scale or mri_scale(kspace, mask, maps[0].numpy())
    say("noise", f"{noise:.3g} per real component, {'given' if given else 'from outer k-space'}")
    say("scale", f"{unit:.3g} a.u. is 1 for the prior" + (" (given)" if scale else ""))
    visible = sensitivity_support(k, sampled)[0].numpy()
    sigma = noise / unit
    physics = CartesianMRI(shape, mask=sampled, coil_maps=maps, noise_model=GaussianNoise(sigma))
    y = to_channels(k) / unit
    return Model(y, physics, unit, sigma, noise, MRI_FLOOR, np.asarray(visible, bool), False, phase)


def _ct(
    scan: Scan,
    geometry: ParallelGeometry,
    index: int,
    noise_std: float | None,
    scale: float | None,
    say: Callable[[str, str], None],
) -> Model:
    p = torch.from_numpy(np.ascontiguousarray(scan.data[index]).astype(np.float32))[None, None]
    physics = _parallel(geometry, geometry.image_shape)
    visible = physics.field_of_view_mask().cpu().numpy()
    # used once, for the preview: a large matrix would take longer to build than to apply
    whole = _parallel(geometry, geometry.image_shape, memory_budget=_ONCE)
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
        physics = _parallel(geometry, shape)
        inside = np.zeros(visible.shape, dtype=bool)
        inside[_middle(visible.shape, shape)] = True
        visible = visible & inside
    whitened = whiten(physics, std / scale)
    whitened.noise_model = GaussianNoise(1.0)
    y = whitened.whiten_measurement(p / scale)
    norm = float(squared_norm(whitened, torch.ones(1, *physics.img_size)).amax().sqrt())
    return Model(
        y, whitened, scale, 1.0, float(usable.median()), CT_FLOOR * norm,
        np.asarray(visible, bool), True, None, p, whole,
    )  # fmt: skip


def _quick_image(
    geometry: ParallelGeometry, p: Tensor, std: Tensor
) -> tuple[NDArray[np.float32], int]:
    """Some SIRT sweeps on large pixels from some of the angles: enough for scale and extent.

    :returns: image inside the scanned disc, zero outside, and the size of its pixels in those of
        the geometry.
    """
    from sciinv.baselines import sirt

    coarse = max(1, round(max(geometry.image_shape) / _QUICK_PIXELS))
    step = -(-len(geometry.angles) // _QUICK_ANGLES)
    height, width = (-(-n // coarse) for n in geometry.image_shape)
    physics = _parallel(
        replace(
            geometry,
            angles=geometry.angles[::step],
            pixel_size=coarse * geometry.pixel_size,
        ),
        (height, width),
    )
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


def _middle(full: tuple[int, ...], part: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(full, part, strict=True))


def _pad(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Put images of the middle part into zeros of the whole grid."""
    if tuple(x.shape[2:]) == shape:
        return x
    out = x.new_zeros((*x.shape[:2], *shape))
    rows, columns = _middle(shape, tuple(x.shape[2:]))
    out[:, :, rows, columns] = x
    return out


def _parallel(
    geometry: ParallelGeometry, image_shape: tuple[int, int], *, memory_budget: int = 2 * 2**30
) -> ParallelBeamCT:
    return ParallelBeamCT(
        image_shape,
        geometry.angles,
        num_detectors=geometry.num_detectors,
        detector_spacing=geometry.detector_spacing,
        pixel_size=geometry.pixel_size,
        axis_shift=geometry.axis_shift,
        memory_budget=memory_budget,
    )


def whiten_valid(physics: ParallelBeamCT, std: Tensor) -> LinearOperator:
    """Return the operator without the samples whose standard deviation is infinite."""
    if bool(torch.isfinite(std).all()):
        return physics
    return whiten(physics, torch.where(torch.isfinite(std), torch.ones_like(std), std))


def _linearised_counts(scan: Scan, index: int, physics: ParallelBeamCT) -> tuple[Tensor, Tensor]:
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
