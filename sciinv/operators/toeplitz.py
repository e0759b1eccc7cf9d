"""The normal operator of a non-uniform Fourier transform without the transform.

``F^H W F`` is a convolution with ``q_d = (1/N) sum_j w_j exp(2 pi i k_j d / N)`` for displacements
``-(N-1) <= d <= N-1`` per axis (Wajer and Pruessmann, ISMRM 2001, 767; Fessler et al., IEEE Trans.
Signal Process. 53, 2005): a circular one on a doubled grid. The Fourier transform of a zero-padded
image on the doubled grid is, at even frequencies, the transform of the image, and at odd ones that
of the image times ``exp(-i pi n / N)``. Taking the two one after the other, axis by axis, neither
pads nor transforms zeros, and needs memory for a few images instead of ``2^dim``.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciinv.operators.nufft import choose_engine, engine_problem, make_engine

# complex multiplications below which SigPy alone is replaced by the exact sum
_DIRECT = 2**29
# SigPy's kernel function has errors of 2e-7; wider than this gains nothing
_SIGPY_WIDTH = 8.0


def fast_shape(image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of the transforms, at least those of the image and without large prime factors."""
    fft = importlib.import_module("scipy.fft")
    return tuple(int(fft.next_fast_len(n)) for n in image_shape)


def point_spread(
    trajectory: NDArray[np.float64],
    image_shape: tuple[int, ...],
    weights: NDArray[np.float64] | None = None,
    *,
    backend: str = "auto",
) -> NDArray[np.complex128]:
    """The convolution kernel ``q``, ``(2 N_a - 1, ...)`` with displacement zero in the middle.

    :param trajectory: ``(samples, dim)`` in cycles per FOV.
    :param weights: ``W``, real, ``(samples,)``; one by default.
    :param backend: engine, used in double precision; exact sums where SigPy is alone and the
        problem small.
    """
    shape = tuple(2 * n - 1 for n in image_shape)
    values = np.ones(len(trajectory)) if weights is None else np.asarray(weights, dtype=np.float64)
    name = choose_engine(backend, "cpu")
    if name == "sigpy" and len(trajectory) * math.prod(shape) <= _DIRECT:
        return _direct_spread(trajectory, image_shape, values) / math.prod(image_shape)
    # one cycle per image is (2N-1)/N cycles per kernel
    scaled = trajectory * (np.array(shape) / np.array(image_shape))
    engine = make_engine(name, shape, scaled, torch.float64, width=_SIGPY_WIDTH)
    q = engine.adjoint(torch.from_numpy(values.astype(np.complex128))[None])[0].numpy()
    return np.asarray(q * (math.sqrt(math.prod(shape)) / math.prod(image_shape)))


def _direct_spread(
    trajectory: NDArray[np.float64], image_shape: tuple[int, ...], weights: NDArray[np.float64]
) -> NDArray[np.complex128]:
    shape = tuple(2 * n - 1 for n in image_shape)
    lead = math.prod(shape[:-1])
    out = np.zeros((lead, shape[-1]), dtype=np.complex128)
    step = max(1, 2**22 // lead)
    for start in range(0, len(trajectory), step):
        k = trajectory[start : start + step]
        factors = [
            np.exp(2j * np.pi * np.outer(np.arange(1 - n, n) / n, k[:, axis]))
            for axis, n in enumerate(image_shape)
        ]
        left = weights[None, start : start + step]
        for factor in factors[:-1]:
            left = (left[:, None] * factor[None]).reshape(-1, len(k))
        out += left @ factors[-1].T
    return out.reshape(shape)


def toeplitz_kernel(
    trajectory: NDArray[np.float64],
    image_shape: tuple[int, ...],
    weights: NDArray[np.float64] | None = None,
    *,
    backend: str = "auto",
) -> Tensor:
    """Transfer function of ``F^H W F`` for :func:`apply_toeplitz`, float64 on the CPU.

    Real, because the weights are: ``(2,) * dim`` parities of the frequency, then
    :func:`fast_shape`.
    """
    dim = len(image_shape)
    lengths = fast_shape(image_shape)
    spread = point_spread(trajectory, image_shape, weights, backend=backend)
    doubled = np.zeros([2 * n for n in lengths], dtype=np.complex128)
    doubled[tuple(slice(0, n) for n in spread.shape)] = spread
    doubled = np.roll(doubled, [1 - n for n in image_shape], axis=tuple(range(dim)))
    transfer = importlib.import_module("scipy.fft").fftn(doubled).real / 2**dim
    # index f = 2 m + parity of every axis; parities to the front
    split = transfer.reshape([size for n in lengths for size in (n, 2)])
    order = [2 * a + 1 for a in range(dim)] + [2 * a for a in range(dim)]
    return torch.from_numpy(np.ascontiguousarray(split.transpose(order)))


def apply_toeplitz(z: Tensor, kernel: Tensor) -> Tensor:
    """``F^H W F z`` for complex ``(R, *image_shape)``; not differentiated by tracing.

    :param kernel: of :func:`toeplitz_kernel`, in the precision and on the device of ``z``.
    """
    dim = kernel.ndim // 2
    twists = []
    for axis, n in enumerate(z.shape[-dim:]):
        length = kernel.shape[dim + axis]
        angle = -math.pi / length * torch.arange(n, dtype=torch.float64)
        twist = torch.polar(torch.ones_like(angle), angle).to(device=z.device, dtype=z.dtype)
        shape = [-1 if a == axis else 1 for a in range(dim)]
        twists.append((twist.reshape(shape), twist.conj().resolve_conj().reshape(shape)))
    if z.device.type != "cpu":
        return _convolve(z, kernel, twists, _torch_fft)
    # ducc0's transforms take two thirds of the time of torch's
    fft = _ducc_fft if engine_problem("ducc0") is None else _torch_fft
    # one image at a time stays in the caches of a CPU
    out = torch.empty_like(z, memory_format=torch.contiguous_format)
    for row, image in zip(out, z.detach().resolve_conj(), strict=True):
        row.copy_(_convolve(image, kernel, twists, fft))
    return out


# transform along an axis: (values, axis, zero-padded length or None for the inverse, whether the
# values may be overwritten)
_Fft = Callable[[Tensor, int, int | None, bool], Tensor]


def _torch_fft(z: Tensor, axis: int, length: int | None, owned: bool) -> Tensor:
    return torch.fft.ifft(z, dim=axis) if length is None else torch.fft.fft(z, n=length, dim=axis)


def _ducc_fft(z: Tensor, axis: int, length: int | None, owned: bool) -> Tensor:
    c2c = importlib.import_module("ducc0").fft.c2c
    options = {"axes": (axis % z.ndim,), "nthreads": torch.get_num_threads()}
    if length is None:
        options |= {"forward": False, "inorm": 2}
    elif length != z.shape[axis]:
        shape = list(z.shape)
        shape[axis] = length
        padded = z.new_zeros(shape)
        padded.narrow(axis, 0, z.shape[axis]).copy_(z)
        z, owned = padded, True
    if owned and z.is_contiguous():
        c2c(z.numpy(), out=z.numpy(), **options)
        return z
    return torch.from_numpy(c2c(z.numpy(), **options))


def _convolve(
    z: Tensor, kernel: Tensor, twists: list[tuple[Tensor, Tensor]], fft: _Fft, axis: int = 0
) -> Tensor:
    """Transform along ``axis``, go on to the next one, transform back; once for each parity."""
    if axis == len(twists):
        # the caller's own spectrum, which it does not need any more
        return z.mul_(kernel)
    twist, back = twists[axis]
    owned = axis > 0  # the first axis has the caller's image, the others a spectrum of our own
    even = _one_parity(z, kernel[0], twists, fft, axis, owned=False)
    z = z.mul_(twist) if owned else z * twist
    odd = _one_parity(z, kernel[1], twists, fft, axis, owned=True)
    return even.add_(odd.mul_(back))


def _one_parity(
    z: Tensor,
    kernel: Tensor,
    twists: list[tuple[Tensor, Tensor]],
    fft: _Fft,
    axis: int,
    *,
    owned: bool,
) -> Tensor:
    position = axis - len(twists)
    n = z.shape[position]
    # this axis's parity is taken, so its length and those after it follow the parities to come
    spectrum = fft(z, position, kernel.shape[len(twists) - 1], owned)
    result = fft(_convolve(spectrum, kernel, twists, fft, axis + 1), position, None, True)
    return result.narrow(position, 0, n)
