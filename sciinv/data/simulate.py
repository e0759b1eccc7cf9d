"""Simulated scans with known truth: MRI, CT, diffraction; and retrospective undersampling.

Every function takes a ``numpy.random.Generator`` (or a seed) and returns a
:class:`~sciinv.data.scan.Scan` like the readers do, with the truth as ``reference``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import assumed_affine
from sciinv.data.masks import Pattern, cartesian_mask, default_readout_axis
from sciinv.data.scan import MRIGeometry, Scan
from sciinv.data.simulate_diffraction import simulate_diffraction
from sciinv.data.simulate_noncartesian import simulate_noncartesian
from sciinv.data.simulate_parts import as_stack, birdcage_maps, non_negative, with_noise
from sciinv.data.simulate_tomography import simulate_ct, simulate_fan
from sciinv.data.undersample import undersample

__all__ = [
    "birdcage_maps",
    "cartesian_mask",
    "simulate_ct",
    "simulate_diffraction",
    "simulate_fan",
    "simulate_mri",
    "simulate_noncartesian",
    "undersample",
]


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
    stack = as_stack(image, volume)
    non_negative(noise_std=noise_std)
    shape = stack.shape[1:]
    drawn = mask is None
    if mask is None:
        mask = cartesian_mask(shape, acceleration, calibration_lines, rng, pattern)
    elif mask.shape != shape:
        raise ValueError(f"mask: found shape {mask.shape}, expected {shape}")
    maps = birdcage_maps(coils, shape) if coil_maps is None else np.asarray(coil_maps)
    if maps.shape[1:] != shape:
        raise ValueError(f"coil_maps: found shape {maps.shape}, expected (coils, {shape})")
    kspace = with_noise(_fft(maps[None] * stack[:, None], len(shape)), noise_std, rng)
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


def _fft(x: NDArray[Any], ndim: int) -> NDArray[np.complex128]:
    """Centred orthonormal Fourier transform over the last axes."""
    axes = tuple(range(-ndim, 0))
    spectrum = np.fft.fftn(np.fft.ifftshift(x, axes=axes), axes=axes, norm="ortho")
    return np.asarray(np.fft.fftshift(spectrum, axes=axes), dtype=np.complex128)
