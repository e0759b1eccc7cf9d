"""What a diffraction pattern cannot tell: global phase, position and the conjugate mirror image.

``align`` removes these from an image by comparing it with the truth, so it is for *scoring only*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciinv.errors import DataError
from sciinv.metrics.arrays import real, selection

Array = NDArray[Any]


@dataclass(frozen=True)
class Alignment:
    """What :func:`align` did, in this order.

    :param flipped: the image was replaced by its conjugate mirror image about index ``n // 2``.
    :param shift: pixels it was then moved by along each axis, circularly.
    :param phase: angle in radians that it was then multiplied by (0 or pi for a real image).
    :param correlation: of the result with the reference, over both norms; 1 for equal images.
    """

    flipped: bool
    shift: tuple[float, ...]
    phase: float
    correlation: float


@overload
def align(
    x: ArrayLike,
    reference: ArrayLike,
    *,
    shifts: bool = True,
    flip: bool = True,
    phase: bool = True,
    upsample: int = 1,
    return_info: Literal[False] = False,
) -> Array: ...


@overload
def align(
    x: ArrayLike,
    reference: ArrayLike,
    *,
    shifts: bool = True,
    flip: bool = True,
    phase: bool = True,
    upsample: int = 1,
    return_info: Literal[True],
) -> tuple[Array, Alignment]: ...


def align(
    x: ArrayLike,
    reference: ArrayLike,
    *,
    shifts: bool = True,
    flip: bool = True,
    phase: bool = True,
    upsample: int = 1,
    return_info: bool = False,
) -> Array | tuple[Array, Alignment]:
    """Move an image along the trivial ambiguities of phase retrieval to where it fits best.

    Of all allowed combinations of conjugate flip, circular shift and global phase (the sign, for
    real images) the one nearest to the reference is taken: that of the largest cross-correlation,
    because all keep the norm. It looks at the truth: never use it to make an image, only to score
    one.

    :param x: one image or volume, real or complex ``(H, W)`` or ``(D, H, W)``; a channel pair is
        turned into a complex array first (``x[0] + 1j * x[1]``).
    :param reference: the truth, of the same shape.
    :param shifts: allow circular shifts.
    :param flip: allow the conjugate mirror image.
    :param phase: allow a global phase, or a sign if both are real.
    :param upsample: the shift is found to ``1 / upsample`` of a pixel (by the matrix Fourier
        transform of Guizar-Sicairos, Thurman, Fienup, Opt. Lett. 33, 2008) and applied as a phase
        ramp; 1 is whole pixels, without interpolation.
    :param return_info: also return the :class:`Alignment`.
    :return: the moved image, real if both are.
    :raises DataError: shapes differ, not one to three axes, NaN, or an image of zeros.
    """
    a, b = np.asarray(x), np.asarray(reference)
    for name, image in (("x", a), ("reference", b)):
        real(image, "align", name)
    if a.shape != b.shape or not 1 <= a.ndim <= 3:
        raise DataError(
            "align", "x", found=f"shape {a.shape}", expected=f"{b.shape}, one to three axes"
        )
    if not isinstance(upsample, int) or upsample < 1:
        raise DataError("align", "upsample", found=upsample, expected="a whole number from 1")
    complex_ = np.iscomplexobj(a) or np.iscomplexobj(b)
    kind: Any = np.complex128 if complex_ else np.float64
    a = a.astype(kind)
    b = b.astype(kind)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        raise DataError("align", found="an image of zeros", expected="images with content")
    candidates: list[tuple[float, bool, tuple[float, ...], complex]] = []
    for flipped in (False, True) if flip else (False,):
        z = conjugate_flip(a) if flipped else a
        shift, value = _best_shift(z, b, shifts=shifts, phase=phase, upsample=upsample)
        candidates.append((abs(value) if phase else value.real, flipped, shift, value))
    # the first of equals: not flipped
    top, flipped, shift, value = max(candidates, key=lambda item: item[0])
    z = conjugate_flip(a) if flipped else a
    z = _move(z, shift)
    # <z, b> = sum conj(z) b, so z times its phase fits b
    angle = float(np.angle(value)) if phase else 0.0
    if not complex_:
        angle = np.pi if phase and value.real < 0 else 0.0
    z = z * (np.exp(1j * angle) if complex_ else np.cos(angle))
    if not return_info:
        return z
    return z, Alignment(flipped, shift, angle, top / norms)


def conjugate_flip(x: Array) -> Array:
    """Conjugate mirror image about index ``n // 2``, circular: even sizes keep their first line."""
    z = np.conj(np.flip(x))
    even = tuple(axis for axis, n in enumerate(x.shape) if n % 2 == 0)
    return np.roll(z, (1,) * len(even), even) if even else z


def r_factor(
    measured: ArrayLike, model: ArrayLike, mask: ArrayLike | None = None, *, fit: bool = False
) -> float:
    """Residual of amplitudes, ``sum | |F| - |model| | / sum |F|`` over the measured pixels.

    :param measured: measured amplitudes (not intensities) ``|F|``, any shape.
    :param model: amplitudes of the model, or its complex field.
    :param mask: True where there is a measurement.
    :param fit: first scale the model by the factor of least squares.
    :raises DataError: shapes differ, NaN, or no amplitude above zero.
    """
    a, b = np.abs(real(measured, "r_factor", "measured")), real(model, "r_factor", "model")
    if a.shape != b.shape:
        raise DataError("r_factor", "model", found=f"shape {b.shape}", expected=f"{a.shape}")
    seen = selection(mask, a.shape, "r_factor")
    a, b = a[seen], np.abs(b[seen])
    total = float(a.sum())
    if total == 0:
        raise DataError("r_factor", "measured", found="only zeros", expected="amplitudes")
    if fit:
        energy = float(b @ b)
        b = b * (float(a @ b) / energy) if energy > 0 else b
    return float(np.abs(a - b).sum()) / total


def _best_shift(
    z: Array, b: Array, *, shifts: bool, phase: bool, upsample: int
) -> tuple[tuple[float, ...], complex]:
    """Return the shift of ``z`` with the largest ``<z, b>`` and that inner product."""
    if not shifts:
        return (0.0,) * z.ndim, complex(np.vdot(z, b))
    product = np.conj(np.fft.fftn(z)) * np.fft.fftn(b)
    correlation = np.fft.ifftn(product)
    size = np.abs(correlation) if phase else correlation.real
    peak = np.unravel_index(int(np.argmax(size)), z.shape)
    shift = tuple(float((k + n // 2) % n - n // 2) for k, n in zip(peak, z.shape, strict=True))
    value = complex(correlation[peak])
    if upsample == 1:
        return shift, value
    # the correlation on a fine grid of 1.5 pixels around the peak: small matrices, one per axis
    fine = np.arange(-np.ceil(0.75 * upsample), np.ceil(0.75 * upsample) + 1) / upsample
    grid = product / z.size
    for axis, n in enumerate(z.shape):
        points = shift[axis] + fine
        frequency = np.fft.fftfreq(n)
        kernel = np.exp(2j * np.pi * np.outer(points, frequency))
        if n % 2 == 0:  # the real value between the two signs of the highest frequency, as _move
            kernel[:, n // 2] = kernel[:, n // 2].real
        grid = np.moveaxis(np.tensordot(kernel, grid, axes=(1, axis)), 0, axis)
    size = np.abs(grid) if phase else grid.real
    peak = np.unravel_index(int(np.argmax(size)), grid.shape)
    found = tuple(s + float(fine[k]) for s, k in zip(shift, peak, strict=True))
    return found, complex(grid[peak])


def _move(z: Array, shift: tuple[float, ...]) -> Array:
    """Shift circularly: whole pixels by rolling, fractions by a phase ramp."""
    whole = tuple(round(s) for s in shift)
    if all(s == w for s, w in zip(shift, whole, strict=True)):
        return np.roll(z, whole, tuple(range(z.ndim)))
    spectrum = np.fft.fftn(z)
    for axis, (n, s) in enumerate(zip(z.shape, shift, strict=True)):
        ramp = np.exp(-2j * np.pi * s * np.fft.fftfreq(n))
        if n % 2 == 0:  # keeps real images real
            ramp[n // 2] = ramp[n // 2].real
        spectrum = spectrum * ramp.reshape([-1 if k == axis else 1 for k in range(z.ndim)])
    moved = np.fft.ifftn(spectrum)
    return moved if np.iscomplexobj(z) else moved.real
