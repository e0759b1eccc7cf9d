"""Simulated far-field diffraction patterns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import assumed_affine
from sciinv.data.scan import DiffractionGeometry, Scan
from sciinv.data.simulate_parts import as_stack, non_negative

__all__ = ["simulate_diffraction"]


def simulate_diffraction(
    image: NDArray[Any],
    *,
    oversampling: float | Sequence[float] = 2.0,
    photons: float | None = None,
    beam_stop: float = 0.0,
    background: float = 0.0,
    rng: np.random.Generator | int | None = None,
    volume: bool = False,
    pixel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    name: str = "simulated_diffraction",
) -> Scan:
    """Simulate the diffraction pattern of a known object.

    The mean counts are ``|F x|^2`` of :class:`~sciinv.operators.phase.FourierPhaseRetrieval` in
    double precision. With ``photons`` the object is scaled so that they sum to it, and the counts
    are Poisson; ``reference`` is the magnitude of the scaled object, so that it and the counts are
    in the same units.

    :param image: real or complex, ``(H, W)``, a stack of objects ``(slices, H, W)``, or with
        ``volume`` one object ``(D, H, W)``.
    :param oversampling: of the pattern, one number or one for each axis.
    :param photons: expected photons of a whole pattern, without noise if not given.
    :param beam_stop: radius around the zero frequency within which nothing is measured, in pixels
        of the pattern; 0 for none.
    :param background: expected counts of every pixel that do not come from the object (with
        ``photons``).
    :param rng: generator or seed.
    :param volume: treat a 3D array as one object.
    :param pixel_size: mm ``(slice, row, column)``.
    :param name: stem of the scan's source.
    :raises ValueError: shapes or numbers that do not fit.
    """
    import torch

    from sciinv.operators.phase import FourierPhaseRetrieval

    rng = np.random.default_rng(rng)
    stack = as_stack(image, volume).astype(np.complex128)
    non_negative(beam_stop=beam_stop, background=background)
    if photons is not None and not 0 < photons < math.inf:
        raise ValueError(f"photons: found {photons}, expected a positive number")
    if background > 0 and photons is None:
        raise ValueError("background: found a number without photons, expected both")
    shape = stack.shape[1:]
    operator = FourierPhaseRetrieval(
        shape, oversampling=oversampling, mode="intensity", dtype=torch.float64
    )
    with torch.no_grad():
        mean = np.stack(
            [operator.A(torch.from_numpy(np.stack([x.real, x.imag])[None]))[0, 0] for x in stack]
        )
    over = tuple(range(1, mean.ndim))
    total = mean.sum(axis=over, keepdims=True)
    if not (total > 0).all():
        raise ValueError("image: found only zeros, expected an object")
    factor = np.ones_like(total) if photons is None else photons / total
    counts = mean * factor
    if photons is not None:
        counts = rng.poisson(counts + background).astype(np.float64)
    pattern = counts.shape[1:]
    valid = None
    if beam_stop > 0:
        axes = np.meshgrid(*(np.arange(n) - n // 2 for n in pattern), indexing="ij")
        outside = sum(axis**2 for axis in axes) > beam_stop**2
        if not outside.any():
            raise ValueError(f"beam_stop: found {beam_stop}, which covers the pattern {pattern}")
        valid = np.broadcast_to(outside, counts.shape).copy()
        counts = np.where(valid, counts, 0.0)
    level = "no noise" if photons is None else f"{photons:g} photons"
    grid = shape if volume else (len(stack), *shape)
    return Scan(
        kind="diffraction",
        data=counts.astype(np.float32),
        geometry=DiffractionGeometry(
            pattern_shape=pattern,
            image_shape=shape,
            oversampling=tuple(n / m for n, m in zip(pattern, shape, strict=True)),
            pixel_size=pixel_size,
        ),
        format="simulated",
        source=Path(f"{name}.h5"),
        units="sqrt(counts)",
        affine=assumed_affine(grid, pixel_size, fourier_centre=True),
        valid=valid,
        reference=(np.abs(stack) * np.sqrt(factor)).astype(np.float32),
        notes=(f"simulated: pattern {'x'.join(map(str, pattern))}, {level}",),
    )
