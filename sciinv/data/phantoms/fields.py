"""Random Gaussian fields, zero mean and unit variance: smooth, folded (ring), power law."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def smooth_field(
    shape: Sequence[int], rng: np.random.Generator, wavelength: float
) -> NDArray[np.float32]:
    """Field with spectrum exp(-(f wavelength)^2 / 2), not periodic over the image.

    A few Fourier modes of a period longer than the image are summed by two matrix products, which
    is cheaper than an FFT for smooth fields.

    :param shape: ``(H, W)``.
    :param wavelength: pixels; structures are about half of this wide.
    """
    factors = []
    weights = []
    for n in shape:
        period = n + 2 * wavelength
        modes = int(np.ceil(2.5 * period / wavelength))
        frequency = np.arange(-modes, modes + 1) / period
        factors.append(np.exp(2j * np.pi * np.outer(np.arange(n), frequency)).astype(np.complex64))
        weights.append(np.exp(-0.5 * (frequency * wavelength) ** 2))
    amplitude = weights[0][:, None] * weights[1][None, :]
    size = amplitude.shape
    noise = rng.standard_normal(size) + 1j * rng.standard_normal(size)
    coefficients = (amplitude * noise / np.sqrt((amplitude**2).sum())).astype(np.complex64)
    # E|coefficient|^2 = 2 w^2, so that the real part has unit variance
    field = (factors[0] @ coefficients @ factors[1].T).real
    return np.ascontiguousarray(field)


def ring_field(
    shape: Sequence[int], rng: np.random.Generator, wavelength: float, bandwidth: float = 0.3
) -> NDArray[np.float32]:
    """Periodic field whose spectrum is a ring around 1 / wavelength: its level sets look folded.

    :param shape: ``(H, W)``.
    :param wavelength: pixels between neighbouring folds.
    :param bandwidth: relative width (standard deviation) of the ring.
    """
    frequency = _frequency(shape)
    return _synthesise(np.exp(-0.5 * ((frequency * wavelength - 1) / bandwidth) ** 2), shape, rng)


def power_law_field(
    shape: Sequence[int], rng: np.random.Generator, exponent: float, cutoff: float
) -> NDArray[np.float32]:
    """Periodic field with amplitude spectrum (f^2 + 1/cutoff^2)^(-exponent/2).

    :param shape: ``(H, W)``.
    :param exponent: 0 is white noise, 1 is natural-image-like, 2 and more is cloudy.
    :param cutoff: pixels; no structure grows beyond this length.
    """
    frequency = _frequency(shape)
    return _synthesise((frequency**2 + 1 / cutoff**2) ** (-0.5 * exponent), shape, rng)


def _frequency(shape: Sequence[int]) -> NDArray[np.float32]:
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None, :]
    return np.sqrt(fy**2 + fx**2).astype(np.float32)


def _synthesise(
    amplitude: NDArray[np.float32], shape: Sequence[int], rng: np.random.Generator
) -> NDArray[np.float32]:
    white = rng.standard_normal(tuple(shape), dtype=np.float32)
    spectrum = fft.rfft2(white)
    spectrum *= amplitude
    spectrum[0, 0] = 0
    field = fft.irfft2(spectrum, s=tuple(shape)).astype(np.float32)
    spread = float(field.std())
    return field / np.float32(spread if spread > 0 else 1.0)
