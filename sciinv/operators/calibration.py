"""The centre of Cartesian k-space from non-Cartesian samples, for coil maps and phase."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciinv.channels import to_channels, to_complex
from sciinv.errors import DataError
from sciinv.linalg import conjugate_gradient
from sciinv.operators.nufft import choose_engine, make_engine
from sciinv.operators.toeplitz import apply_toeplitz, toeplitz_kernel
from sciinv.operators.trajectories import as_array, check_trajectory, density_compensation

# farthest that a Cartesian position may be from a sample: at Nyquist sampling it is at most 0.71
_GAP = 1.0
# Nyquist cells around the block that are fitted too and then dropped: samples near the edge of the
# block depend on values beyond it
_MARGIN = 12


def calibration_kspace(
    kspace: Tensor | NDArray[Any],
    trajectory: Any,  # noqa: ANN401 (anything NumPy makes an array of)
    image_shape: Sequence[int],
    *,
    width: int = 24,
    density: Any | None = None,  # noqa: ANN401
    regularisation: float = 1e-4,
    iterations: int = 30,
) -> tuple[Tensor, Tensor]:
    r"""Fit the central block of Cartesian k-space to the samples in and around it.

    Minimises :math:`\sum_j d_j |y_j - (F u)_j|^2 + \lambda |u|^2` for every coil by conjugate
    gradients, over images ``u`` of low resolution on the full field of view: no gridding error, no
    aliasing as long as the centre is sampled densely enough. The result goes to
    :func:`~sciinv.operators.coils.estimate_coil_maps`, ``low_resolution_phase`` and
    ``sensitivity_support`` with the mask. Off-resonance is not corrected: near the
    centre of k-space it is a phase of the image.

    :param kspace: complex tensor or array ``(B, coils, *leading)``, where ``leading`` is the shape
        of the trajectory without its last axis, or one axis of all samples.
    :param trajectory: ``(*leading, dim)`` in cycles per FOV.
    :param image_shape: ``(H, W)`` or ``(D, H, W)``.
    :param width: of the block, at most that of the image.
    :param density: weights ``d``, ``leading``; by default made for the samples used.
    :param regularisation: ``lambda`` over the response to a flat image.
    :returns: complex k-space ``(B, coils, *image_shape)``, centred, orthonormal, zero outside the
        block, and its mask ``(*image_shape)``, bool; in the precision and on the device of a
        tensor, on the CPU for an array.
    :raises DataError: if the k-space does not fit, or the block holds too few samples.
    :raises GeometryError: as :func:`~sciinv.operators.trajectories.check_trajectory`.
    """
    shape = tuple(int(n) for n in image_shape)
    points = check_trajectory(trajectory, shape)
    data = _samples(kspace, points.shape[:-1])
    points = points.reshape(-1, len(shape))
    block = tuple(min(int(width), n) for n in shape)
    small = tuple(min(b + 2 * _MARGIN, n) for b, n in zip(block, shape, strict=True))
    inside = (np.abs(points) <= np.array(small) / 2).all(-1)
    if inside.sum() < math.prod(block):
        raise DataError(
            "calibration", "trajectory",
            found=f"{inside.sum()} samples within |k| <= {max(small) / 2:g}",
            expected=f"at least the {math.prod(block)} values of the block of width {width}",
            hint="use a smaller width or give coil maps from a reference scan",
        )  # fmt: skip
    points = points[inside]
    _check_gaps(points, block)
    if density is None:
        weights = density_compensation(points, small, iterations=15)
    else:
        weights = as_array(density).astype(np.float64).ravel()
        if weights.shape != inside.shape:
            raise DataError(
                "calibration", "density", found=f"{weights.size} weights",
                expected=f"{inside.size}, one per sample",
            )  # fmt: skip
        weights = weights[inside] / weights[inside].max()
    weights = weights * _taper(points, block, small)
    used = data[..., torch.from_numpy(inside)]
    image = _fit(used, points, weights, small, regularisation, iterations)
    axes = tuple(range(-len(shape), 0))
    fitted = torch.fft.fftshift(
        torch.fft.fftn(torch.fft.ifftshift(image, dim=axes), dim=axes, norm="ortho"), dim=axes
    )
    out = torch.zeros((*data.shape[:2], *shape), dtype=fitted.dtype)
    mask = torch.zeros(shape, dtype=torch.bool)
    target, source = _centre(shape, block), _centre(small, block)
    out[:, :, *target] = fitted[:, :, *source]
    mask[target] = True
    device = kspace.device if isinstance(kspace, Tensor) else "cpu"
    dtype = kspace.dtype if isinstance(kspace, Tensor) else data.dtype
    return out.to(dtype=dtype, device=device), mask.to(device)


def _centre(shape: tuple[int, ...], block: tuple[int, ...]) -> tuple[slice, ...]:
    starts = [n // 2 - b // 2 for n, b in zip(shape, block, strict=True)]
    return tuple(slice(start, start + b) for start, b in zip(starts, block, strict=True))


def _fit(
    data: Tensor,
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    small: tuple[int, ...],
    regularisation: float,
    iterations: int,
) -> Tensor:
    """Images ``(B, coils, *small)``, in double precision: the problem is small."""
    engine = make_engine(choose_engine("auto", "cpu"), small, points, torch.float64)
    kernel = toeplitz_kernel(points, small, weights)
    flat = data.to(torch.complex128).flatten(0, 1)
    b = to_channels(engine.adjoint(flat * torch.from_numpy(weights)))
    ones = torch.ones((1, *small), dtype=torch.complex128)
    level = regularisation * float(apply_toeplitz(ones, kernel).real.mean())

    def normal(x: Tensor) -> Tensor:
        return to_channels(apply_toeplitz(to_complex(x), kernel)) + level * x

    x, _ = conjugate_gradient(normal, b, max_iter=iterations, tol=1e-8)
    return to_complex(x).reshape(*data.shape[:2], *small)


def _check_gaps(points: NDArray[np.float64], block: tuple[int, ...]) -> None:
    """Refuse a centre sampled so thinly that every fit of it is aliased."""
    axes = [np.arange(b) - b // 2 for b in block]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(block))
    grid = grid[(np.square(grid / (np.array(block) / 2))).sum(-1) <= 1]
    distance, _ = importlib.import_module("scipy.spatial").cKDTree(points).query(grid)
    share = float((distance > _GAP).mean())
    if share > 0.02:
        raise DataError(
            "calibration", "trajectory",
            found=f"{100 * share:.0f} % of the central block farther than {_GAP:g} cycle/FOV from "
            "every sample",
            expected="a centre sampled at the Nyquist rate",
            hint="use a smaller width or give coil maps from a reference scan",
        )  # fmt: skip


def _taper(
    points: NDArray[np.float64], block: tuple[int, ...], small: tuple[int, ...]
) -> NDArray[np.float64]:
    """One in the block, falling to zero towards the edge of the fitted region if there is more."""
    out = np.ones(len(points))
    for axis, (b, s) in enumerate(zip(block, small, strict=True)):
        if s > b:
            beyond = np.clip((2 * np.abs(points[:, axis]) - b) / (s - b), 0, 1)
            out *= np.cos(0.5 * np.pi * beyond) ** 2
    return out


def _samples(kspace: Tensor | NDArray[Any], leading: tuple[int, ...]) -> Tensor:
    data = kspace if isinstance(kspace, Tensor) else torch.from_numpy(np.ascontiguousarray(kspace))
    total = math.prod(leading)
    shape = tuple(data.shape)
    fits = len(shape) >= 3 and shape[2:] in (leading, (total,))
    if not data.is_complex() or not fits:
        raise DataError(
            "calibration", "kspace", found=f"{data.dtype} {shape}",
            expected=f"complex (B, coils, {', '.join(map(str, leading))})",
        )  # fmt: skip
    if not bool(torch.isfinite(torch.view_as_real(data.resolve_conj())).all()):
        raise DataError("calibration", "kspace", found="NaN or Inf", expected="finite numbers")
    return data.detach().cpu().reshape(*shape[:2], total)
