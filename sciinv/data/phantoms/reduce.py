"""Blur an image and halve its size, by a box average or by cropping its spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def blur_and_reduce(image: NDArray[Any], blur: float, *, crop_spectrum: bool) -> NDArray[Any]:
    """Blur periodically by a Gaussian and halve both (even) sides.

    :param image: ``(2h, 2w)`` float32 or complex64.
    :param blur: standard deviation in pixels of ``image``.
    :param crop_spectrum: keep the central half of the spectrum along both axes, which rings at
        edges as MRI does, instead of averaging 2 x 2 pixels.
    :return: ``(h, w)`` of the same kind; the pixel centres of both ways agree.
    """
    height, width = image.shape
    if height % 2 or width % 2:
        raise ValueError(f"image: found shape {image.shape}, expected even sides")
    fy, fx = np.fft.fftfreq(height), np.fft.fftfreq(width)
    gain_y = np.exp(-2 * (np.pi * blur * fy) ** 2)
    gain_x = np.exp(-2 * (np.pi * blur * fx) ** 2)
    if not crop_spectrum and not np.iscomplexobj(image):
        gain_x = gain_x[: width // 2 + 1]
        gain = (gain_y[:, None] * gain_x[None, :]).astype(np.float32)
        blurred = fft.irfft2(fft.rfft2(image) * gain, s=(height, width))
        return _box(blurred).astype(np.float32)
    gain = (gain_y[:, None] * gain_x[None, :]).astype(np.float32)
    spectrum = fft.fft2(image) * gain
    if not crop_spectrum:
        return _box(fft.ifft2(spectrum)).astype(np.complex64)
    rows = _low(height // 2, height)
    columns = _low(width // 2, width)
    # half a fine pixel of shift puts the samples at the centres of 2 x 2 blocks
    ramp_y = np.exp(1j * np.pi * fy[rows]).astype(np.complex64)
    ramp_x = np.exp(1j * np.pi * fx[columns]).astype(np.complex64)
    kept = spectrum[np.ix_(rows, columns)] * ramp_y[:, None] * ramp_x[None, :]
    small = fft.ifft2(kept) / 4
    return (small if np.iscomplexobj(image) else small.real).astype(
        np.complex64 if np.iscomplexobj(image) else np.float32
    )


def _low(count: int, full: int) -> NDArray[np.int64]:
    """Return the FFT indices of the ``count`` lowest frequencies out of ``full``."""
    return np.fft.ifftshift(np.arange(count) - count // 2) % full


def _box(image: NDArray[Any]) -> NDArray[Any]:
    height, width = image.shape
    return image.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
