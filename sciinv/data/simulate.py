"""Simulated scans with known truth: Cartesian MRI, parallel-beam CT, retrospective undersampling.

Every function takes a ``numpy.random.Generator`` (or a seed) and returns a
:class:`~sciinv.data.scan.Scan` like the readers do, with the truth as ``reference``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import assumed_affine
from sciinv.data.correct import flat_field
from sciinv.data.masks import Pattern, cartesian_mask, default_readout_axis
from sciinv.data.scan import MRIGeometry, ParallelGeometry, Scan
from sciinv.data.undersample import undersample

__all__ = [
    "birdcage_maps",
    "cartesian_mask",
    "simulate_ct",
    "simulate_mri",
    "undersample",
]


def birdcage_maps(
    coils: int, shape: Sequence[int], *, radius: float = 1.5
) -> NDArray[np.complex128]:
    """Return smooth coil sensitivities of a birdcage array, of unit root sum of squares.

    The coils stand evenly on a circle (3D: up to 8 on each of several rings) around the image;
    sensitivity falls as 1/distance and its phase turns about each coil (the model of SigPy).
    With the default radius the coils on the diagonals stand just outside the corners, where the
    maps are steep; inside the central disc they are smooth.

    :param coils: number of coils, 1 or more; a single one is 1 everywhere.
    :param shape: ``(H, W)`` or ``(D, H, W)``.
    :param radius: of the circle over half the field of view; larger is smoother.
    :return: ``(coils, *shape)``.
    """
    if coils < 1 or len(shape) not in (2, 3):
        raise ValueError(f"found {coils} coils and shape {tuple(shape)}, expected 1 or more, 2D/3D")
    if coils == 1:
        return np.ones((1, *shape), dtype=np.complex128)
    per_ring = 8 if len(shape) == 3 else coils
    ring, place = np.divmod(np.arange(coils), per_ring)
    angle = 2 * np.pi * place / per_ring
    # half fields of view, 0 at index n / 2; a coil is seen along the last two axes
    grids = [(np.arange(n) - n / 2) / (n / 2) for n in shape]
    column: tuple[slice | None, ...] = (slice(None), *[None] * len(shape))
    dx = grids[-1] - radius * np.cos(angle)[column]
    dy = grids[-2][:, None] - radius * np.sin(angle)[column]
    distance = np.hypot(dx, dy)
    phase = np.arctan2(dx, -dy) - angle[column]
    if len(shape) == 3:
        dz = grids[0][:, None, None] - (ring - (ring[-1] / 2))[column]
        distance = np.hypot(distance, dz)
        # rings are turned against each other, so that coils above one another differ in phase
        phase = phase - (2 * np.pi / per_ring * ring)[column]
    if not distance.all():
        raise ValueError(f"radius: {radius} puts a coil onto a pixel; take another")
    magnitude = 1 / distance
    magnitude = magnitude / np.sqrt((magnitude**2).sum(0))
    return np.asarray(magnitude * np.exp(1j * phase), dtype=np.complex128)


def simulate_mri(
    image: NDArray[Any],
    *,
    coils: int = 8,
    acceleration: float = 4.0,
    calibration_lines: int = 16,
    pattern: Pattern = "variable_density",
    noise_std: float = 0.0,
    rng: np.random.Generator | int | None = None,
    coil_maps: NDArray[np.complexfloating[Any, Any]] | None = None,
    mask: NDArray[np.bool_] | None = None,
    volume: bool = False,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    include_maps: bool = False,
    state_noise: bool = True,
    name: str = "simulated_mri",
) -> Scan:
    """Simulate a Cartesian scan of a known image.

    k-space is the centred orthonormal FFT of coil maps times image, plus white Gaussian noise, at
    the sampled positions; zero elsewhere. ``reference`` is the magnitude of the image.

    :param image: real or complex, ``(H, W)``, a stack of slices ``(slices, H, W)``, or with
        ``volume`` one 3D-encoded volume ``(D, H, W)``.
    :param coils: number of coils (ignored if ``coil_maps`` is given).
    :param acceleration: see :func:`cartesian_mask`.
    :param calibration_lines: fully sampled lines (or side of the square) in the centre.
    :param pattern: see :func:`cartesian_mask`.
    :param noise_std: standard deviation per real component of k-space, in units of the image.
    :param rng: generator or seed; the mask is drawn first, then the noise.
    :param coil_maps: ``(coils, *image_shape)``, used as they are.
    :param mask: bool ``image_shape``, instead of acceleration, calibration and pattern.
    :param volume: treat a 3D array as one volume.
    :param voxel_size: mm ``(slice, row, column)``.
    :param include_maps: put the true coil maps into the scan, which real files rarely carry.
    :param state_noise: put ``noise_std`` into the scan, so that it is not estimated.
    :param name: stem of the scan's source.
    :raises ValueError: shapes or numbers that do not fit.
    """
    rng = np.random.default_rng(rng)
    x = np.asarray(image)
    if x.ndim not in (2, 3) or (volume and x.ndim != 3) or not np.isfinite(x).all():
        raise ValueError(
            f"image: found shape {x.shape}, expected finite (H, W), (slices, H, W) or, with "
            "volume=True, (D, H, W)"
        )
    _non_negative(noise_std=noise_std)
    stack = x[None] if x.ndim == 2 or volume else x
    shape = stack.shape[1:]
    drawn = mask is None
    if mask is None:
        mask = cartesian_mask(shape, acceleration, calibration_lines, rng, pattern)
    elif mask.shape != shape:
        raise ValueError(f"mask: found shape {mask.shape}, expected {shape}")
    maps = birdcage_maps(coils, shape) if coil_maps is None else np.asarray(coil_maps)
    if maps.shape[1:] != shape:
        raise ValueError(f"coil_maps: found shape {maps.shape}, expected (coils, {shape})")
    kspace = _fft(maps[None] * stack[:, None], len(shape))
    if noise_std > 0:
        parts = rng.standard_normal((2, *kspace.shape))
        kspace = kspace + noise_std * (parts[0] + 1j * parts[1])
    kspace = np.where(mask, kspace, 0).astype(np.complex64)
    line_pattern = drawn and not (pattern == "poisson" and len(shape) == 2)
    grid = shape if volume else (len(stack), *shape)
    what = f"{pattern} pattern" if drawn else "a given mask"
    return Scan(
        kind="mri",
        data=kspace,
        geometry=MRIGeometry(
            image_shape=shape,
            mask=mask.astype(bool),
            voxel_size=voxel_size,
            readout_axis=default_readout_axis(len(shape)) if line_pattern else None,
        ),
        format="simulated",
        source=Path(f"{name}.h5"),
        units="a.u.",
        affine=assumed_affine(grid, voxel_size, fourier_centre=True),
        noise_std=noise_std if state_noise and noise_std > 0 else None,
        coil_maps=np.broadcast_to(maps, kspace.shape).astype(np.complex64)
        if include_maps
        else None,
        reference=np.abs(stack).astype(np.float32),
        notes=(f"simulated: {len(maps)} coils, {what}, noise {noise_std:g} per component",),
    )


def simulate_ct(
    image: NDArray[Any],
    *,
    angles: Sequence[float] | NDArray[Any] | None = None,
    num_angles: int = 180,
    span: float = math.pi,
    num_detectors: int | None = None,
    detector_spacing: float | None = None,
    pixel_size: float = 1.0,
    image_shape: tuple[int, int] | None = None,
    dose: float | None = None,
    noise_std: float = 0.0,
    axis_shift: float = 0.0,
    rng: np.random.Generator | int | None = None,
    supersample: int = 2,
    slice_spacing: float | None = None,
    name: str = "simulated_ct",
) -> Scan:
    """Simulate a parallel-beam scan of a known attenuation map.

    To avoid the inverse crime the projections are those of a finer image, by finer rays: pixels
    are split ``supersample`` times along each axis, and each detector pixel averages
    ``supersample`` rays over its width. An image that is finer than the ``image_shape`` to be
    reconstructed is projected as it is (and split further if ``supersample`` asks for it); the
    reference is then its average over the coarse pixels.

    With ``dose``, the counts are Poisson with mean ``dose * exp(-line integral)``; zero counts are
    masked. Otherwise Gaussian noise of ``noise_std`` is added to the line integrals.

    :param image: attenuation in 1/mm, ``(H, W)`` or ``(slices, H, W)``, not negative with a dose.
    :param angles: radians; else ``num_angles`` evenly over ``span``, its end excluded.
    :param num_detectors: detector pixels; enough for the whole image by default.
    :param detector_spacing: mm; ``pixel_size`` by default.
    :param pixel_size: mm, of the pixels to be reconstructed.
    :param image_shape: ``(H, W)`` to be reconstructed, dividing the image's own; that by default.
    :param dose: open-beam photons per detector pixel and projection.
    :param noise_std: of the line integrals, without a dose.
    :param axis_shift: detector coordinate of the rotation axis, mm.
    :param rng: generator or seed.
    :param supersample: how much finer the projected image is than the reconstructed one.
    :param slice_spacing: mm; ``pixel_size`` by default.
    :param name: stem of the scan's source.
    :raises ValueError: shapes or numbers that do not fit.
    """
    rng = np.random.default_rng(rng)
    x = np.asarray(image, dtype=np.float64)
    if x.ndim not in (2, 3) or not np.isfinite(x).all():
        raise ValueError(f"image: found shape {x.shape}, expected finite (H, W) or (slices, H, W)")
    stack = x[None] if x.ndim == 2 else x
    _non_negative(noise_std=noise_std)
    if not pixel_size > 0 or supersample < 1:
        raise ValueError(f"found pixel_size {pixel_size}, supersample {supersample}")
    if dose is not None and (not dose > 0 or noise_std > 0 or stack.min() < 0):
        raise ValueError(
            "dose: expected a positive number, no noise_std beside it and an image without "
            f"negative attenuation; found dose {dose:g}, noise_std {noise_std:g}, image minimum "
            f"{stack.min():g}"
        )
    reference, fine = _coarse_and_fine(stack, image_shape or stack.shape[1:], supersample)
    height, width = reference.shape[1:]
    theta = _angles(angles, num_angles, span)
    spacing = pixel_size if detector_spacing is None else detector_spacing
    if num_detectors is None:
        reach = math.hypot(height, width) * pixel_size + 2 * abs(axis_shift)
        num_detectors = math.ceil(reach / spacing) + 1
    integrals = _project(
        fine,
        theta,
        num_detectors=num_detectors * supersample,
        detector_spacing=spacing / supersample,
        pixel_size=pixel_size * height / fine.shape[1],
        axis_shift=axis_shift,
    ).reshape(len(stack), len(theta), num_detectors, supersample)
    extra: dict[str, Any] = {}
    if dose is not None:
        # a detector pixel counts what all its rays let through
        counts = rng.poisson(dose * np.exp(-integrals).mean(-1))
        transmission = flat_field(counts, np.full(counts.shape, float(dose)), where=name)
        data = transmission.line_integrals
        extra["counts"], extra["blank"] = transmission.counts, transmission.blank
        extra["valid"] = None if transmission.valid.all() else transmission.valid
        noise = f"{dose:g} photons"
    else:
        data = integrals.mean(-1)
        if noise_std > 0:
            data = data + noise_std * rng.standard_normal(data.shape)
            extra["noise_std"] = noise_std
        noise = f"noise {noise_std:g}"
    slices = pixel_size if slice_spacing is None else slice_spacing
    return Scan(
        kind="ct",
        data=data.astype(np.float32),
        geometry=ParallelGeometry(
            angles=theta,
            num_detectors=num_detectors,
            detector_spacing=spacing,
            image_shape=(height, width),
            pixel_size=pixel_size,
            axis_shift=axis_shift,
            slice_spacing=slices,
        ),
        format="simulated",
        source=Path(f"{name}.h5"),
        units="1/mm",
        affine=assumed_affine(
            reference.shape, (slices, pixel_size, pixel_size), fourier_centre=False
        ),
        reference=reference.astype(np.float32),
        notes=(f"simulated: {len(theta)} angles, {noise}, image split {supersample} times",),
        **extra,
    )


def _non_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: found {value}, expected a finite number of 0 or more")


def _fft(x: NDArray[Any], ndim: int) -> NDArray[np.complex128]:
    """Centred orthonormal Fourier transform over the last axes."""
    axes = tuple(range(-ndim, 0))
    spectrum = np.fft.fftn(np.fft.ifftshift(x, axes=axes), axes=axes, norm="ortho")
    return np.asarray(np.fft.fftshift(spectrum, axes=axes), dtype=np.complex128)


def _angles(
    angles: Sequence[float] | NDArray[Any] | None, num_angles: int, span: float
) -> NDArray[np.float64]:
    if angles is not None:
        return np.asarray(angles, dtype=np.float64)
    if num_angles < 1 or not 0 < span <= 2 * math.pi + 1e-9:
        raise ValueError(
            f"found num_angles {num_angles} and span {span:g}, expected 1 or more and radians up "
            "to one turn"
        )
    return np.arange(num_angles, dtype=np.float64) * (span / num_angles)


def _coarse_and_fine(
    stack: NDArray[np.float64], shape: tuple[int, ...], supersample: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the image to be reconstructed and the finer one to be projected."""
    height, width = shape
    factor = stack.shape[1] // height if height else 0
    if factor < 1 or stack.shape[1:] != (height * factor, width * factor):
        raise ValueError(
            f"image_shape: found {shape} for an image {stack.shape[1:]}, expected its shape or "
            "that divided by an integer"
        )
    blocks = stack.reshape(len(stack), height, factor, width, factor)
    coarse = np.asarray(blocks.mean(axis=(2, 4)), dtype=np.float64)
    split = math.ceil(supersample / factor)
    fine = stack.repeat(split, axis=1).repeat(split, axis=2)
    return coarse, fine


def _project(
    stack: NDArray[np.float64],
    angles: NDArray[np.float64],
    **geometry: Any,  # noqa: ANN401
) -> NDArray[np.float64]:
    """Project slices ``(slices, H, W)`` with the torch projector, in float64."""
    import torch

    from sciinv.operators.ct import ParallelBeamCT

    operator = ParallelBeamCT(
        stack.shape[1:], angles, backend="torch", dtype=torch.float64, **geometry
    )
    with torch.no_grad():
        # one slice at a time: the memory that the projector needs grows with the batch
        rows = [operator.A(torch.from_numpy(s)[None, None])[0, 0].numpy() for s in stack]
    return np.stack(rows).astype(np.float64)
