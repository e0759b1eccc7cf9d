"""Trajectories through k-space: made, converted, checked and weighted. NumPy only.

A trajectory is ``(..., dim)`` in cycles per field of view, ordered like the image axes, within
``[-N/2, N/2]`` along an axis of ``N`` pixels.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sciinv.errors import GeometryError

Array = NDArray[np.float64]
Unit = Literal["cycles/fov", "1/m", "rad/pixel", "normalised"]
UNITS: tuple[str, ...] = get_args(Unit)
GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2
# two-dimensional golden means (Chan et al., Magn. Reson. Med. 61, 2009)
_GOLDEN_MEANS = (0.46557123187676802, 0.68232780382801933)
# a trajectory may leave the grid by this share of it: rounding of its file
_SLACK = 2e-3


def as_array(values: Any) -> NDArray[Any]:  # noqa: ANN401 (anything NumPy makes an array of)
    """Return an array or a tensor, on whatever device, as a NumPy array."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


# -- made ------------------------------------------------------------------------------------------
def radial_trajectory(
    image_shape: Sequence[int],
    spokes: int,
    samples: int | None = None,
    *,
    angles: Literal["uniform", "golden"] | ArrayLike = "uniform",
) -> Array:
    """Spokes through the centre of k-space, ``(spokes, samples, dim)``.

    Spokes are diameters: sample ``i`` is at radius ``(i - samples // 2) / samples`` in cycles per
    pixel, so the centre is always sampled. In 2D a spoke at angle ``t`` runs along
    ``(row, column) = (sin t, cos t)``; angles cover half a turn. In 3D the directions are golden
    means (Chan et al., Magn. Reson. Med. 61, 2009) over the half sphere.

    :param image_shape: ``(H, W)`` or ``(D, H, W)``.
    :param samples: samples of a spoke; twice the longest side by default.
    :param angles: ``"uniform"``, ``"golden"`` (111.25 degrees; Winkelmann et al., IEEE TMI 26,
        2007) or angles in radians (2D only).
    :raises GeometryError: for counts below one or angles that do not fit.
    """
    shape = _checked_shape(image_shape)
    count = 2 * max(shape) if samples is None else samples
    _counts("radial_trajectory", spokes=spokes, samples=count)
    radius = (np.arange(count) - count // 2) / count
    if len(shape) == 3:
        if not (isinstance(angles, str) and angles in ("uniform", "golden")):
            raise GeometryError("angles: found numbers, expected none for three dimensions")
        index = np.arange(spokes)
        height = (index * _GOLDEN_MEANS[0]) % 1.0 if angles == "golden" else (index + 0.5) / spokes
        turn = 2 * np.pi * ((index * _GOLDEN_MEANS[1]) % 1.0)
        flat = np.sqrt(1 - height**2)
        directions = np.stack([height, flat * np.sin(turn), flat * np.cos(turn)], -1)
    else:
        t = _angles(angles, spokes)
        directions = np.stack([np.sin(t), np.cos(t)], -1)
    return np.asarray(radius[None, :, None] * directions[:, None] * np.array(shape))


def _angles(angles: str | ArrayLike, spokes: int) -> Array:
    if isinstance(angles, str):
        if angles == "uniform":
            return np.asarray(np.arange(spokes) * np.pi / spokes, dtype=np.float64)
        if angles == "golden":
            return np.asarray((np.arange(spokes) * GOLDEN_ANGLE) % (2 * np.pi))
        raise GeometryError(
            f"angles: found {angles!r}, expected 'uniform', 'golden' or {spokes} numbers"
        )
    t = as_array(angles).astype(np.float64)
    if t.shape != (spokes,):
        raise GeometryError(f"angles: found shape {t.shape}, expected ({spokes},)")
    return t


def spiral_trajectory(
    image_shape: Sequence[int],
    shots: int,
    samples: int,
    *,
    turns: float | None = None,
    power: float = 1.0,
) -> Array:
    """Interleaved spirals from the centre outwards, ``(shots, samples, 2)``.

    Radius ``s^power / 2`` in cycles per pixel and angle ``2 pi turns s`` for ``s`` from 0 to 1.

    :param image_shape: ``(H, W)``.
    :param turns: of one shot; by default as many as sample the field of view without gaps,
        ``N / (2 shots)`` for the longest side.
    :param power: 1: Archimedean; larger: denser in the centre.
    :raises GeometryError: for counts or numbers that are not positive.
    """
    shape = _checked_shape(image_shape, dims=(2,))
    _counts("spiral_trajectory", shots=shots, samples=samples)
    full = max(shape) / (2 * shots) if turns is None else turns
    if not (full > 0 and power > 0):
        raise GeometryError(
            f"spiral_trajectory: found turns={full}, power={power}, expected positive numbers"
        )
    s = np.linspace(0, 1, samples)
    t = 2 * np.pi * (full * s[None] + np.arange(shots)[:, None] / shots)
    return np.asarray(
        (0.5 * s**power)[None, :, None] * np.stack([np.sin(t), np.cos(t)], -1) * np.array(shape)
    )


def stack_trajectory(trajectory: ArrayLike, image_shape: Sequence[int]) -> Array:
    """Repeat an in-plane trajectory ``(..., 2)`` for every partition: ``(D, ..., 3)``.

    Partitions are Cartesian, ``-(D // 2)`` and up: stack of stars, of spirals.

    :param image_shape: ``(D, H, W)``.
    """
    depth = _checked_shape(image_shape, dims=(3,))[0]
    plane = as_array(trajectory).astype(np.float64)
    if plane.ndim < 2 or plane.shape[-1] != 2:
        raise GeometryError(f"trajectory: found shape {plane.shape}, expected (..., 2)")
    partitions = (np.arange(depth) - depth // 2).reshape(-1, *[1] * plane.ndim)
    first = np.broadcast_to(partitions, (depth, *plane.shape[:-1], 1))
    return np.concatenate([first, np.broadcast_to(plane, (depth, *plane.shape))], -1)


# -- converted and checked -------------------------------------------------------------------------
def trajectory_from(
    values: Any,  # noqa: ANN401 (anything NumPy makes an array of)
    unit: Unit,
    fov_mm: float | Sequence[float] | None,
    image_shape: Sequence[int],
) -> Array:
    """Convert a trajectory to cycles per field of view, checked.

    :param values: real ``(..., dim)`` ordered like the image axes, or complex ``(...)`` as
        ``kx + i ky``: x runs along the columns, so the result is ``(ky, kx)``.
    :param unit: ``"cycles/fov"``, ``"1/m"``, ``"rad/pixel"`` or ``"normalised"`` (-0.5 to 0.5, in
        cycles per pixel).
    :param fov_mm: field of view in mm, a number or one per image axis; needed for ``"1/m"``.
    :param image_shape: ``(H, W)`` or ``(D, H, W)``.
    :raises GeometryError: as :func:`check_trajectory`, and for a unit or field of view that is
        missing.

    >>> float(trajectory_from([[250.0, 0.0]], "1/m", 384.0, (192, 192))[0, 0])
    96.0
    """
    shape = _checked_shape(image_shape)
    k = as_array(values)
    if np.iscomplexobj(k):
        k = np.stack([k.imag, k.real], -1)
    k = _numbers(k, shape)
    if unit not in UNITS:
        raise GeometryError(f"unit: found {unit!r}, expected one of {', '.join(UNITS)}")
    size = np.array(shape, dtype=np.float64)
    if unit == "1/m":
        fov = np.atleast_1d(np.asarray(0.0 if fov_mm is None else fov_mm, dtype=np.float64))
        if fov.shape not in ((1,), (len(shape),)) or not (fov > 0).all() or np.isinf(fov).any():
            raise GeometryError(
                f"fov_mm: found {fov_mm}, expected a positive number of mm or {len(shape)} of them,"
                " because k is in 1/m"
            )
        k = k * (fov / 1000)
    elif unit == "rad/pixel":
        k = k * (size / (2 * np.pi))
    elif unit == "normalised":
        k = k * size
    return check_trajectory(k, shape)


def check_trajectory(trajectory: Any, image_shape: Sequence[int]) -> Array:  # noqa: ANN401
    """Return the trajectory as float64 ``(..., dim)`` if it is in cycles per field of view.

    :param trajectory: array or tensor ``(..., dim)``.
    :param image_shape: ``(H, W)`` or ``(D, H, W)``.
    :raises GeometryError: for a wrong last axis, NaN, samples outside the grid, or an extent that
        looks like another unit, which is then named.
    """
    shape = _checked_shape(image_shape)
    k = _numbers(as_array(trajectory), shape)
    extent = np.abs(k).reshape(-1, len(shape)).max(0)
    half = np.array(shape) / 2
    found = " x ".join(f"{e:.4g}" for e in extent)
    expected = f"at most N/2 = {' x '.join(f'{h:g}' for h in half)} in cycles per field of view"
    largest, share = float(extent.max()), float((extent / half).max())
    if (extent > half * (1 + _SLACK)).any():
        raise GeometryError(
            f"trajectory: found |k| up to {found}, expected {expected}; it may be in 1/m: convert "
            'with trajectory_from(values, "1/m", fov_mm, image_shape); or the image is larger than '
            f"{'x'.join(map(str, shape))}"
        )
    hint = ""
    if 0 < largest <= 0.5 * (1 + _SLACK) and share < 0.25:
        hint = 'normalised to -0.5..0.5: trajectory_from(values, "normalised", ...)'
    elif 0 < largest <= 1 + _SLACK and share < 0.25:
        hint = 'normalised to -1..1: trajectory_from(values / 2, "normalised", ...)'
    elif abs(largest - math.pi) < 0.05 * math.pi and share < 0.5:
        hint = 'in radians per pixel: trajectory_from(values, "rad/pixel", ...)'
    if hint:
        raise GeometryError(
            f"trajectory: found |k| up to {found}, expected {expected} and more of it; "
            f"it seems to be {hint}"
        )
    return k


def _numbers(k: NDArray[Any], shape: tuple[int, ...]) -> Array:
    if k.ndim < 2 or k.shape[-1] != len(shape) or k.size == 0 or k.dtype.kind not in "fiu":
        raise GeometryError(
            f"trajectory: found {k.dtype} {k.shape}, expected real (..., {len(shape)}) for image "
            f"{'x'.join(map(str, shape))}"
        )
    bad = int((~np.isfinite(k)).any(-1).sum())
    if bad:
        raise GeometryError(
            f"trajectory: found NaN or Inf in {bad} of {k[..., 0].size} samples, "
            "expected finite numbers"
        )
    return k.astype(np.float64)


def _checked_shape(image_shape: Sequence[int], dims: tuple[int, ...] = (2, 3)) -> tuple[int, ...]:
    shape = tuple(int(n) for n in image_shape)
    if len(shape) not in dims or min(shape) < 1:
        names = {2: "(H, W)", 3: "(D, H, W)"}
        raise GeometryError(
            f"image_shape: found {shape}, expected {' or '.join(names[d] for d in dims)}"
        )
    return shape


def _counts(where: str, **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise GeometryError(f"{where}: {name}: found {value}, expected at least 1")


# -- weighted --------------------------------------------------------------------------------------
def density_compensation(
    trajectory: Any,  # noqa: ANN401
    image_shape: Sequence[int],
    *,
    method: Literal["pipe-menon", "radial"] = "pipe-menon",
    iterations: int = 30,
    backend: str = "auto",
) -> Array:
    r"""Weights for gridding, the k-space volume of every sample: ``trajectory.shape[:-1]``.

    Scaled so that ``A^H D A`` returns a flat image at its value in the central half of the field of
    view. For start images; a reconstruction by least squares needs none.

    :param trajectory: ``(..., dim)`` in cycles per FOV; for ``"radial"`` ``(spokes, samples, dim)``
        diameters.
    :param method: ``"pipe-menon"``: :math:`w \leftarrow w / (C * w)`, with ``C`` about a Nyquist
        cell wide (Pipe and Menon, Magn. Reson. Med. 41, 1999); ``"radial"``: analytic, rings cut
        by the angle (2D) or the even share (3D) of each spoke.
    :raises GeometryError: as :func:`check_trajectory`, or for spokes that do not cross the centre.
    """
    shape = _checked_shape(image_shape)
    k = check_trajectory(trajectory, shape)
    if method == "radial":
        weights = _radial_density(k, shape)
    elif method == "pipe-menon":
        weights = _pipe_menon(k.reshape(-1, len(shape)), shape, iterations).reshape(k.shape[:-1])
    else:
        raise GeometryError(f"method: found {method!r}, expected 'pipe-menon' or 'radial'")
    return weights * _flat_scale(k.reshape(-1, len(shape)), weights.ravel(), shape, backend)


def _pipe_menon(k: Array, shape: tuple[int, ...], iterations: int) -> Array:
    """Iterate on a grid of half a Nyquist cell, wide enough that its edges do not meet."""
    interp = importlib.import_module("sigpy.interp")
    width = 4.0  # grid points, so C reaches two Nyquist cells to either side
    grid = tuple(2 * n + 2 * int(width) for n in shape)
    coordinates = 2 * k + np.array(grid) // 2
    options = {"kernel": "kaiser_bessel", "width": width, "param": 8.0}
    weights = np.ones(len(k))
    for _ in range(iterations):
        gridded = interp.gridding(weights, coordinates, grid, **options)
        weights = weights / np.abs(interp.interpolate(gridded, coordinates, **options))
    return np.asarray(weights)


def _radial_density(k: Array, shape: tuple[int, ...]) -> Array:
    scaled = k / np.array(shape)
    if k.ndim != 3 or k.shape[1] < 2:
        raise GeometryError(
            f"trajectory: found shape {k.shape}, expected (spokes, samples, {len(shape)})"
        )
    ends = scaled[:, -1] - scaled[:, 0]
    direction = ends / np.linalg.norm(ends, axis=-1, keepdims=True)
    radius = (scaled * direction[:, None]).sum(-1)
    off = float(np.abs(scaled - radius[..., None] * direction[:, None]).max())
    step = float(np.abs(np.diff(radius, axis=1)).mean())
    if not (off < 1e-3 * step and (radius.min(1) < step).all()):
        raise GeometryError(
            "trajectory: found spokes that are bent or miss the centre, expected straight lines "
            "through it for method='radial'; use 'pipe-menon'"
        )
    edges = np.abs(radius)
    dim = len(shape)
    # the ring from half a step inside to half a step outside; the centre is a disc or a ball
    volume = ((edges + step / 2) ** dim - np.maximum(edges - step / 2, 0) ** dim) / dim
    centre = edges < step / 2
    volume[centre] = 2 * (step / 2) ** dim / dim  # a diameter has it once, other radii twice
    if dim == 2:
        angle = np.arctan2(direction[:, 0], direction[:, 1]) % np.pi
        order = np.argsort(angle)
        gaps = np.diff(angle[order], append=angle[order[0]] + np.pi)
        share = np.empty_like(angle)
        share[order] = (gaps + np.roll(gaps, 1)) / 2
        return np.asarray(volume * share[:, None])
    return np.asarray(volume * (2 * np.pi / len(k)))


def _flat_scale(k: Array, weights: Array, shape: tuple[int, ...], backend: str) -> float:
    import torch

    from sciinv.operators.nufft import choose_engine, make_engine

    engine = make_engine(choose_engine(backend, "cpu"), shape, k, torch.float64)
    flat = torch.ones((1, *shape), dtype=torch.complex128)
    weighted = engine.forward(flat) * torch.from_numpy(weights)
    back = engine.adjoint(weighted)[0].real
    middle = tuple(slice(n // 4, n - n // 4) for n in shape)
    return 1 / float(back[middle].mean())
