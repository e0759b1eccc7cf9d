"""Simulated CT: parallel and fan beam."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import assumed_affine
from sciinv.data.correct import flat_field
from sciinv.data.scan import CTGeometry, FanGeometry, ParallelGeometry, Scan
from sciinv.data.simulate_parts import coarse_and_fine, non_negative

__all__ = ["simulate_ct", "simulate_fan"]


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
    reference, fine = _object(image, image_shape, pixel_size, supersample, dose, noise_std)
    height, width = reference.shape[1:]
    theta = _angles(angles, num_angles, span)
    spacing = pixel_size if detector_spacing is None else detector_spacing
    if num_detectors is None:
        reach = math.hypot(height, width) * pixel_size + 2 * abs(axis_shift)
        num_detectors = math.ceil(reach / spacing) + 1
    geometry = ParallelGeometry(
        angles=theta,
        num_detectors=num_detectors,
        detector_spacing=spacing,
        image_shape=(height, width),
        pixel_size=pixel_size,
        axis_shift=axis_shift,
        slice_spacing=pixel_size if slice_spacing is None else slice_spacing,
    )
    return _measure(
        geometry, reference, fine, supersample=supersample, dose=dose, noise_std=noise_std,
        rng=rng, name=name,
    )  # fmt: skip


def simulate_fan(
    image: NDArray[Any],
    *,
    angles: Sequence[float] | NDArray[Any] | None = None,
    num_angles: int = 180,
    span: float = 2 * math.pi,
    source_distance: float | None = None,
    detector_distance: float | None = None,
    num_detectors: int | None = None,
    detector_spacing: float | None = None,
    pixel_size: float = 1.0,
    image_shape: tuple[int, int] | None = None,
    dose: float | None = None,
    noise_std: float = 0.0,
    axis_shift: float = 0.0,
    detector_offset: float = 0.0,
    rng: np.random.Generator | int | None = None,
    supersample: int = 2,
    slice_spacing: float | None = None,
    name: str = "simulated_fan",
) -> Scan:
    """Simulate a fan-beam scan with a flat detector; everything else is :func:`simulate_ct`.

    :param span: radians covered by ``num_angles``, one turn by default.
    :param source_distance: mm from the source to the axis; 4 times the image's half diagonal by
        default.
    :param detector_distance: mm from the axis to the detector; half of ``source_distance`` by
        default, a magnification of 1.5.
    :param num_detectors: enough for the whole image by default.
    :param detector_spacing: mm on the detector; by default the magnified ``pixel_size``.
    :param axis_shift: lateral position of the rotation axis, mm at the axis.
    :param detector_offset: mm on the detector.
    :raises ValueError: shapes or numbers that do not fit.
    """
    reference, fine = _object(image, image_shape, pixel_size, supersample, dose, noise_std)
    height, width = reference.shape[1:]
    radius = 0.5 * math.hypot(height, width) * pixel_size
    source = 4 * radius if source_distance is None else source_distance
    detector = source / 2 if detector_distance is None else detector_distance
    if not source > radius + abs(axis_shift) or detector < 0:
        raise ValueError(
            f"source_distance, detector_distance: found {source:g} and {detector:g} mm, expected "
            f"more than {radius + abs(axis_shift):.4g}, the image's half diagonal, and 0 or more"
        )
    magnification = (source + detector) / source
    spacing = pixel_size * magnification if detector_spacing is None else detector_spacing
    if num_detectors is None:
        # the rays that touch the circle around the image; it lies beside the ray to the axis by
        # at most axis_shift
        reach = (source + detector) * math.tan(math.asin((radius + abs(axis_shift)) / source))
        num_detectors = math.ceil(2 * (reach + abs(detector_offset)) / spacing) + 1
    geometry = FanGeometry(
        angles=_angles(angles, num_angles, span),
        num_detectors=num_detectors,
        detector_spacing=spacing,
        image_shape=(height, width),
        pixel_size=pixel_size,
        source_distance=source,
        detector_distance=detector,
        axis_shift=axis_shift,
        slice_spacing=pixel_size if slice_spacing is None else slice_spacing,
        detector_offset=detector_offset,
    )
    return _measure(
        geometry, reference, fine, supersample=supersample, dose=dose, noise_std=noise_std,
        rng=rng, name=name,
    )  # fmt: skip


def _object(
    image: NDArray[Any],
    image_shape: tuple[int, int] | None,
    pixel_size: float,
    supersample: int,
    dose: float | None,
    noise_std: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check the object and return it on the coarse and on the fine grid."""
    x = np.asarray(image, dtype=np.float64)
    if x.ndim not in (2, 3) or not np.isfinite(x).all():
        raise ValueError(f"image: found shape {x.shape}, expected finite (H, W) or (slices, H, W)")
    stack = x[None] if x.ndim == 2 else x
    non_negative(noise_std=noise_std)
    if not pixel_size > 0 or supersample < 1:
        raise ValueError(f"found pixel_size {pixel_size}, supersample {supersample}")
    if dose is not None and (not dose > 0 or noise_std > 0 or stack.min() < 0):
        raise ValueError(
            "dose: expected a positive number, no noise_std beside it and an image without "
            f"negative attenuation; found dose {dose:g}, noise_std {noise_std:g}, image minimum "
            f"{stack.min():g}"
        )
    return coarse_and_fine(stack, image_shape or stack.shape[1:], supersample)


def _measure(
    geometry: CTGeometry,
    reference: NDArray[np.float64],
    fine: NDArray[np.float64],
    *,
    supersample: int,
    dose: float | None,
    noise_std: float,
    rng: np.random.Generator | int | None,
    name: str,
) -> Scan:
    """Project the fine image by finer rays, add noise, and make the scan."""
    rng = np.random.default_rng(rng)
    shape = (len(fine), len(geometry.angles), geometry.num_detectors, supersample)
    integrals = _project(fine, geometry, supersample).reshape(shape)
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
    pixel = geometry.pixel_size
    return Scan(
        kind="ct",
        data=data.astype(np.float32),
        geometry=geometry,
        format="simulated",
        source=Path(f"{name}.h5"),
        units="1/mm",
        affine=assumed_affine(
            reference.shape, (geometry.slice_spacing, pixel, pixel), fourier_centre=False
        ),
        reference=reference.astype(np.float32),
        notes=(f"simulated: {shape[1]} angles, {noise}, image split {supersample} times",),
        **extra,
    )


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


def _project(
    stack: NDArray[np.float64], geometry: CTGeometry, supersample: int
) -> NDArray[np.float64]:
    """Project slices ``(slices, H, W)`` with the torch projector, in float64."""
    import torch

    common: dict[str, Any] = {
        "num_detectors": geometry.num_detectors * supersample,
        "detector_spacing": geometry.detector_spacing / supersample,
        "pixel_size": geometry.pixel_size * geometry.image_shape[0] / stack.shape[1],
        "axis_shift": geometry.axis_shift,
        "backend": "torch",
        "dtype": torch.float64,
    }
    make: Callable[..., Any]
    if isinstance(geometry, FanGeometry):
        from sciinv.operators.fan import FanBeamCT

        make = FanBeamCT
        common["source_distance"] = geometry.source_distance
        common["detector_distance"] = geometry.detector_distance
        common["detector_offset"] = geometry.detector_offset
    else:
        from sciinv.operators.ct import ParallelBeamCT

        make = ParallelBeamCT
    operator = make(stack.shape[1:], geometry.angles, **common)
    with torch.no_grad():
        # one slice at a time: the memory that the projector needs grows with the batch
        rows = [operator.A(torch.from_numpy(s)[None, None])[0, 0].numpy() for s in stack]
    return np.stack(rows).astype(np.float64)
