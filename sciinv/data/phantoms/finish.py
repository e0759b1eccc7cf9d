"""What happens to a scene after it is drawn: warp, texture, shading, phase."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from sciinv.data.phantoms import tissues as T
from sciinv.data.phantoms.fields import power_law_field, ring_field, smooth_field
from sciinv.data.phantoms.frame import Image, Labels, Part
from sciinv.data.phantoms.scenes import warp_part


def warp(part: Part, rng: np.random.Generator) -> Part:
    """Bend everything by a smooth displacement of up to a few pixels."""
    value, label = part
    shape = (value.shape[0], value.shape[1])
    wavelength = min(shape) / rng.uniform(1, 8)
    strength = np.float32(0.08 * wavelength * rng.uniform(0.2, 1.0))
    shift_y = smooth_field(shape, rng, wavelength) * strength
    shift_x = smooth_field(shape, rng, wavelength) * strength
    bent: Part = warp_part(value, label, shift_y, shift_x)
    return bent


def texture(value: Image, rng: np.random.Generator) -> Image:
    """Multiply by a rough or finely folded field: 1 to 15 % of relief, 2 to 20 final pixels."""
    shape = (value.shape[0], value.shape[1])
    if rng.uniform() < 0.4:  # ribbons and ridges, as in cortex and fibres
        rough = ring_field(shape, rng, np.exp(rng.uniform(np.log(4), np.log(16))), 0.35)
        rough = np.tanh(np.float32(rng.uniform(0.7, 3)) * rough)
    else:
        rough = power_law_field(shape, rng, rng.uniform(0, 2), rng.uniform(4, 40))
    amount = np.exp(rng.uniform(np.log(0.01), np.log(0.15)))
    return np.asarray(value * np.maximum(1 + np.float32(amount) * rough, 0), dtype=np.float32)


def shading(value: Image, rng: np.random.Generator, strength: tuple[float, float]) -> Image:
    """Multiply by the exponential of a smooth field, as receive coils shade an image."""
    shape = (value.shape[0], value.shape[1])
    smooth = smooth_field(shape, rng, min(shape) / rng.uniform(0.4, 2))
    return np.asarray(value * np.exp(np.float32(rng.uniform(*strength)) * smooth), dtype=np.float32)


def cupping(value: Image, rng: np.random.Generator) -> Image:
    """Lower the inside of a body by up to 12 %, as beam hardening does."""
    height, width = value.shape
    scale = min(height, width) * rng.uniform(0.1, 0.3)
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None, :]
    gain = np.exp(-2 * (np.pi * scale) ** 2 * (fy * fy + fx * fx)).astype(np.float32)
    mask = (value > 0).astype(np.float32)
    inside = fft.irfft2(fft.rfft2(mask) * gain, s=(height, width)).astype(np.float32)
    return np.asarray(value * (1 - np.float32(rng.uniform(0.01, 0.12)) * inside), dtype=np.float32)


def smooth_phase(shape: tuple[int, int], rng: np.random.Generator, strength: float) -> Image:
    """Draw a smooth phase in radians of up to ``strength`` (standard deviation), in part rough."""
    side = min(shape)
    size = np.float32(strength * rng.uniform() ** 2)
    phase = size * smooth_field(shape, rng, side / rng.uniform(0.7, 4))
    if rng.uniform() < 0.3:  # a ramp wraps: a shift of k-space by some samples
        turns = rng.normal(0, 1.5, 2)
        phase = (
            phase
            + np.float32(2 * np.pi * turns[0] / shape[0])
            * np.arange(shape[0], dtype=np.float32)[:, None]
        )
        phase = phase + np.float32(2 * np.pi * turns[1] / shape[1]) * np.arange(
            shape[1], dtype=np.float32
        )
    if rng.uniform() < 0.3:
        rough = power_law_field(shape, rng, rng.uniform(0.5, 2.0), rng.uniform(4, 30))
        phase = phase + np.float32(rng.uniform(0.02, 0.4)) * rough
    return np.asarray(phase, dtype=np.float32)


def phase_steps(label: Labels, rng: np.random.Generator) -> Image:
    """Draw one phase per shape; in half of the draws fat is turned against water instead."""
    if rng.uniform() < 0.5:
        offset = np.zeros(T.TISSUES, dtype=np.float32)
        offset[[T.SKIN, T.FAT, T.MARROW]] = rng.choice([np.pi, rng.uniform(0.3, 2.8)])
        return np.asarray(np.where(label < T.TISSUES, offset[label % T.TISSUES], 0), np.float32)
    offsets = rng.normal(0, rng.uniform(0.1, 2.0), 64).astype(np.float32)
    offsets[rng.uniform(size=64) < 0.5] = 0
    return np.asarray(offsets[label % 64], dtype=np.float32)


def vortex(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Draw the phase around a dislocation: it winds once about a point near the centre."""
    y = np.arange(shape[0], dtype=np.float32)[:, None] - shape[0] * rng.uniform(0.35, 0.65)
    x = np.arange(shape[1], dtype=np.float32)[None, :] - shape[1] * rng.uniform(0.35, 0.65)
    return np.asarray(rng.choice([-1, 1]) * np.arctan2(y, x), dtype=np.float32)


def fold_phase(image: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Remove the phase of the Hann-windowed centre of k-space (12 to 64 samples a side).

    The reconstruction moves this phase into the coil maps, so that priors see what is left.
    """
    gain = np.ones(image.shape, dtype=np.float32)
    for axis, n in enumerate(image.shape):
        width = float(np.exp(rng.uniform(np.log(12), np.log(64))))
        t = np.abs(np.fft.fftfreq(n)) * n / (0.5 * width)
        window = np.where(t < 1, 0.5 + 0.5 * np.cos(np.pi * np.minimum(t, 1)), 0)
        gain *= window.astype(np.float32)[:, None] if axis == 0 else window.astype(np.float32)
    low = fft.ifft2(fft.fft2(image) * gain)
    turn = np.conj(low) / np.maximum(np.abs(low), 1e-9)
    return np.asarray(image * turn, dtype=np.complex64)
