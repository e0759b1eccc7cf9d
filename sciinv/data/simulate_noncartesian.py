"""Simulated MRI along radial, spiral and other trajectories."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import assumed_affine
from sciinv.data.scan import NonCartesianGeometry, Scan
from sciinv.data.simulate_parts import as_stack, birdcage_maps, non_negative, with_noise

__all__ = ["make_trajectory", "simulate_noncartesian"]

TrajectoryName = Literal["radial", "spiral"]
# arms of a spiral if their number is not given
_ARMS = 16


def make_trajectory(
    name: TrajectoryName,
    image_shape: tuple[int, ...],
    acceleration: float = 1.0,
    *,
    shots: int | None = None,
    samples: int | None = None,
) -> NDArray[np.float64]:
    """Golden-angle spokes, or interleaved spirals, ``(shots, samples, dim)`` in cycles per FOV.

    :param name: ``"radial"``: diameters, each turned by 111.25 degrees against the one before (3D:
        golden means), ``pi / 2 * N`` of them at acceleration 1 (3D: ``pi / 2 * N ** 2``), where the
        gaps at the edge of k-space are one cycle per field of view. ``"spiral"`` (2D): arms with
        that gap at acceleration 1.
    :param acceleration: divides the number of spokes; the turns of a spiral arm.
    :param shots: number of spokes instead; number of arms, 16 by default.
    :param samples: of one shot; ``2 N`` for spokes; for arms enough that steps are half a cycle
        per field of view on average.
    :raises ValueError: another name, numbers that are not positive, a spiral in 3D.
    """
    from sciinv.operators.trajectories import radial_trajectory, spiral_trajectory

    n = max(image_shape)
    if not acceleration > 0 or (shots is not None and shots < 1):
        raise ValueError(f"found acceleration {acceleration} and shots {shots}, expected positive")
    if name == "radial":
        full = math.pi / 2 * n ** (len(image_shape) - 1)
        spokes = max(1, math.ceil(full / acceleration)) if shots is None else shots
        return radial_trajectory(image_shape, spokes, samples, angles="golden")
    if name != "spiral" or len(image_shape) != 2:
        raise ValueError(
            f"trajectory: found {name!r} for an image {image_shape}, expected 'radial', or "
            "'spiral' in 2D"
        )
    arms = _ARMS if shots is None else shots
    turns = n / (2 * arms * acceleration)
    count = math.ceil(math.pi * n * turns) + 1 if samples is None else samples
    return spiral_trajectory(image_shape, arms, count, turns=turns)


def simulate_noncartesian(
    image: NDArray[Any],
    *,
    trajectory: TrajectoryName | NDArray[Any] = "radial",
    acceleration: float = 1.0,
    shots: int | None = None,
    samples: int | None = None,
    coils: int = 8,
    noise_std: float = 0.0,
    rng: np.random.Generator | int | None = None,
    coil_maps: NDArray[np.complexfloating[Any, Any]] | None = None,
    field_map: NDArray[Any] | None = None,
    readout_times: NDArray[Any] | None = None,
    volume: bool = False,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    include_maps: bool = False,
    state_noise: bool = True,
    name: str = "simulated_noncartesian",
) -> Scan:
    """Simulate MRI of a known image along a trajectory.

    Samples are those of :class:`~sciinv.operators.noncartesian.NonCartesianMRI` in double
    precision, plus white Gaussian noise. ``reference`` is the magnitude of the image.

    :param image: real or complex, ``(H, W)``, a stack of slices ``(slices, H, W)``, or with
        ``volume`` one 3D-encoded volume ``(D, H, W)``.
    :param trajectory: a name (see :func:`make_trajectory`, which takes ``acceleration``, ``shots``
        and ``samples``), or ``(shots, samples, dim)`` in cycles per field of view.
    :param coils: number of coils (ignored if ``coil_maps`` is given).
    :param noise_std: standard deviation per real component of k-space, in units of the image.
    :param rng: generator or seed.
    :param coil_maps: ``(coils, *image_shape)``, used as they are.
    :param field_map: off-resonance in Hz, ``image_shape``; needs ``readout_times``.
    :param readout_times: seconds, broadcasts to ``(shots, samples)``.
    :param volume: treat a 3D array as one volume.
    :param voxel_size: mm ``(slice, row, column)``.
    :param include_maps: put the true coil maps into the scan, which real files rarely carry.
    :param state_noise: put ``noise_std`` into the scan, so that it is not estimated.
    :param name: stem of the scan's source.
    :raises ValueError: shapes or numbers that do not fit.
    """
    import torch

    from sciinv.operators.noncartesian import NonCartesianMRI

    rng = np.random.default_rng(rng)
    stack = as_stack(image, volume)
    non_negative(noise_std=noise_std)
    shape = stack.shape[1:]
    if isinstance(trajectory, str):
        k = make_trajectory(trajectory, shape, acceleration, shots=shots, samples=samples)
        what = f"{trajectory} trajectory"
    else:
        k, what = np.asarray(trajectory, dtype=np.float64), "a given trajectory"
    if k.ndim != 3 or k.shape[-1] != len(shape):
        raise ValueError(
            f"trajectory: found shape {k.shape}, expected (shots, samples, {len(shape)})"
        )
    if (field_map is None) != (readout_times is None):
        raise ValueError("field_map, readout_times: found one of them, expected both or none")
    maps = birdcage_maps(coils, shape) if coil_maps is None else np.asarray(coil_maps)
    if maps.shape[1:] != shape:
        raise ValueError(f"coil_maps: found shape {maps.shape}, expected (coils, {shape})")
    times = None if readout_times is None else np.broadcast_to(readout_times, k.shape[:2]).copy()
    operator = NonCartesianMRI(
        shape,
        k,
        torch.from_numpy(np.ascontiguousarray(maps, dtype=np.complex128)),
        field_map=field_map,
        readout_times=times,
        dtype=torch.float64,
    )
    with torch.no_grad():
        rows = [
            operator.A(torch.from_numpy(np.stack([x.real, x.imag])[None].astype(np.float64)))[0]
            for x in stack
        ]
    clean = np.stack([(y[0] + 1j * y[1]).numpy() for y in rows])
    data = with_noise(clean.reshape(len(stack), len(maps), *k.shape[:2]), noise_std, rng)
    grid = shape if volume else (len(stack), *shape)
    return Scan(
        kind="mri",
        data=data.astype(np.complex64),
        geometry=NonCartesianGeometry(
            image_shape=shape,
            trajectory=k,
            voxel_size=voxel_size,
            readout_times=times,
            field_map=None if field_map is None else np.asarray(field_map, dtype=np.float32),
        ),
        format="simulated",
        source=Path(f"{name}.h5"),
        units="a.u.",
        affine=assumed_affine(grid, voxel_size, fourier_centre=True),
        noise_std=noise_std if state_noise and noise_std > 0 else None,
        coil_maps=np.broadcast_to(maps, (len(stack), *maps.shape)).astype(np.complex64)
        if include_maps
        else None,
        reference=np.abs(stack).astype(np.float32),
        notes=(
            f"simulated: {len(maps)} coils, {what} of {k.shape[0]} shots, noise {noise_std:g} per "
            "component",
        ),
    )
