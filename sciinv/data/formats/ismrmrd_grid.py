"""From readouts to arrays: whitening, the Cartesian grid, trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import check_finite
from sciinv.data.files import refuse_unbacked
from sciinv.data.formats.ismrmrd_header import Encoding
from sciinv.data.formats.ismrmrd_records import REVERSE, Readouts, flagged
from sciinv.errors import DataError

__all__ = ["Grid", "Whitening", "crop_readout", "fill_grid", "gather_shots", "noise_of", "spread"]

# noise samples for each coil below which its covariance is not used
_SAMPLES_PER_COIL = 20


@dataclass(frozen=True)
class Whitening:
    """Noise of a measurement from its noise readouts.

    :param matrix: ``(coils, coils)`` that makes the noise white and equal, of the mean level as
        before; ``None`` if there are too few noise samples for it.
    :param std: per real component, after ``matrix``, of one readout.
    """

    matrix: NDArray[np.complex128] | None
    std: float


@dataclass(frozen=True)
class Grid:
    """Centred k-space.

    :param data: complex64 ``(slices, coils, *image_shape)``.
    :param counts: readouts averaged at each position, ``(slices, *image_shape)``.
    :param complete: whether every readout fills its whole line.
    """

    data: NDArray[np.complex64]
    counts: NDArray[np.uint32]
    complete: bool


def noise_of(
    readouts: Readouts, noise: NDArray[np.intp], image: NDArray[np.intp], bandwidth: float
) -> Whitening | None:
    """Return the noise of imaging readouts, or ``None`` if noise readouts tell nothing.

    White noise has a variance proportional to the bandwidth, the inverse of the dwell time; the
    noise readouts' own is that within the receiver's band.

    :param bandwidth: ``relativeReceiverNoiseBandwidth`` of the header.
    """
    heads = readouts.heads
    coils = int(heads["active_channels"][image[0]])
    noise = noise[heads["active_channels"][noise] == coils]
    covariance, count, dwell = np.zeros((coils, coils), np.complex128), 0, 0.0
    for index, values in readouts.values("data", noise):
        check_finite(values, readouts.path, f"{readouts.name}: noise readout {index}")
        samples = values.astype(np.complex128)
        covariance += samples @ samples.conj().T
        count += samples.shape[1]
        dwell = float(heads["sample_time_us"][index])
    if count < 2:
        return None
    covariance /= 2 * count  # of a real component
    own = float(heads["sample_time_us"][image[0]])
    if dwell > 0 and own > 0:
        covariance *= dwell / (own * bandwidth)
    level = float(np.sqrt(np.trace(covariance).real / coils))
    if not level > 0:
        return None
    values_, _ = np.linalg.eigh(covariance)
    # a coil that is a mixture of the others has no noise of its own to be made equal
    if count < _SAMPLES_PER_COIL * coils or values_[0] < 1e-6 * values_[-1]:
        return Whitening(None, level)
    lower = np.linalg.cholesky(covariance)
    return Whitening(np.asarray(level * np.linalg.inv(lower), np.complex128), level)


def _samples(
    readouts: Readouts, index: int, values: NDArray[Any], whitening: Whitening | None
) -> tuple[NDArray[np.complex64], NDArray[np.intp]]:
    """Return the usable samples ``(coils, samples)`` of a readout and their offset from its DC."""
    head = readouts.heads[index]
    check_finite(values, readouts.path, f"{readouts.name}: readout {index}")
    count = values.shape[1]
    first, last = int(head["discard_pre"]), count - int(head["discard_post"])
    if first >= last:
        raise DataError(
            readouts.path,
            f"{readouts.name}: readout {index}",
            found=f"{count} samples of which {first} + {count - last} are discarded",
            expected="one or more left",
        )
    offsets = np.arange(count) - int(head["center_sample"])
    if flagged(readouts.heads[index : index + 1], REVERSE)[0]:
        values = values[:, ::-1]
        first, last = count - last, count - first
    values, offsets = values[:, first:last], offsets[first:last]
    if whitening is not None and whitening.matrix is not None:
        values = whitening.matrix @ values
    return values.astype(np.complex64), offsets


def fill_grid(
    readouts: Readouts,
    image: NDArray[np.intp],
    slices: NDArray[np.integer],
    encoding: Encoding,
    whitening: Whitening | None,
) -> Grid:
    """Sort readouts into the encoded matrix, DC at ``n // 2``; repeated positions are averaged.

    :param slices: values of ``idx.slice`` in the order of the stack.
    :raises DataError: readouts outside the encoded matrix, a matrix out of proportion.
    """
    path, name, heads = readouts.path, readouts.name, readouts.heads
    columns, rows, partitions = encoding.matrix
    centres = _centres(encoding)
    coils = _coils(readouts, image)
    shape = (partitions, rows, columns)
    total = len(slices) * coils * partitions * rows * columns * 8
    refuse_unbacked(path, "encodedSpace/matrixSize", total, path.stat().st_size)
    data = np.zeros((len(slices), coils, *shape), np.complex64)
    counts = np.zeros((len(slices), *shape), np.uint32)
    place = {int(number): position for position, number in enumerate(slices)}
    for index, values in readouts.values("data", image):
        idx = heads[index]["idx"]
        samples, offsets = _samples(readouts, index, values, whitening)
        line = int(idx["kspace_encode_step_1"]) - centres[0] + rows // 2
        part = int(idx["kspace_encode_step_2"]) - centres[1] + partitions // 2
        start = int(offsets[0]) + columns // 2
        stop = start + len(offsets)
        for label, low, high, size in (
            ("kspace_encode_step_1", line, line + 1, rows),
            ("kspace_encode_step_2", part, part + 1, partitions),
            ("samples", start, stop, columns),
        ):
            if low < 0 or high > size:
                raise DataError(
                    path,
                    f"{name}: {label} of readout {index}",
                    found=f"positions {low} to {high - 1} with the centre at {size // 2}",
                    expected=f"0 to {size - 1}, the encoded matrix",
                )
        where = (place[int(idx["slice"])], part, line, slice(start, stop))
        data[where[0], :, part, line, start:stop] += samples
        counts[where] += 1
    if counts.max() > 1:
        data /= np.maximum(counts, 1)[:, None].astype(np.float32)
    lines = (counts > 0).any(axis=-1, keepdims=True)
    complete = bool(((counts > 0) == lines).all())
    if partitions == 1:
        data, counts = data[:, :, 0], counts[:, 0]
    return Grid(data, counts, complete)


def _centres(encoding: Encoding) -> tuple[int, int]:
    first, second = encoding.centres
    return (
        encoding.matrix[1] // 2 if first is None else first,
        encoding.matrix[2] // 2 if second is None else second,
    )


def _coils(readouts: Readouts, image: NDArray[np.intp]) -> int:
    coils = np.unique(readouts.heads["active_channels"][image])
    if len(coils) != 1 or coils[0] == 0:
        raise DataError(
            readouts.path,
            f"{readouts.name}: active_channels",
            found=", ".join(str(n) for n in coils[:8]),
            expected="one number of coils in all imaging readouts",
        )
    return int(coils[0])


def crop_readout(data: NDArray[np.complex64], target: int) -> NDArray[np.complex64]:
    """Keep the inner ``target`` columns of the field of view; the noise of a sample stays.

    :param data: centred k-space, complete along the last axis.
    """
    columns = data.shape[-1]
    first = columns // 2 - target // 2  # index n // 2 is the centre of both grids
    result = np.empty((*data.shape[:-1], target), np.complex64)
    for index in np.ndindex(data.shape[:2]):  # one coil at a time: the transform takes memory
        line = np.fft.ifftshift(data[index], axes=-1)
        image = np.fft.fftshift(np.fft.ifft(line, axis=-1, norm="ortho"), axes=-1)
        image = np.fft.ifftshift(image[..., first : first + target], axes=-1)
        result[index] = np.fft.fftshift(np.fft.fft(image, axis=-1, norm="ortho"), axes=-1)
    return result


def gather_shots(
    readouts: Readouts,
    image: NDArray[np.intp],
    slices: NDArray[np.integer],
    whitening: Whitening | None,
) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
    """Return samples ``(slices, coils, shots, samples)`` and trajectory ``(shots, samples, dim)``.

    :returns: the trajectory as stored: components (x, y, ...), of unknown unit.
    :raises DataError: no trajectory, readouts of unequal length, slices with different ones.
    """
    path, name, heads = readouts.path, readouts.name, readouts.heads
    coils = _coils(readouts, image)
    groups = [image[heads["idx"]["slice"][image] == number] for number in slices]
    for field in ("number_of_samples", "trajectory_dimensions", "discard_pre", "discard_post"):
        found = np.unique(heads[field][image])
        if len(found) != 1:
            raise DataError(
                path,
                f"{name}: {field}",
                found=", ".join(str(n) for n in found[:8]),
                expected="one value in all imaging readouts",
            )
    if len({len(group) for group in groups}) != 1:
        raise DataError(
            path,
            name,
            found="slices with " + ", ".join(str(len(group)) for group in groups[:8]) + " readouts",
            expected="the same number in every slice",
        )
    head = heads[image[0]]
    if int(head["trajectory_dimensions"]) not in (2, 3):
        raise DataError(
            path,
            f"{name}: trajectory_dimensions",
            found=int(head["trajectory_dimensions"]),
            expected="2 or 3: coordinates of every sample, as the header says it is not Cartesian",
        )
    count = int(head["number_of_samples"])
    keep = slice(int(head["discard_pre"]), count - int(head["discard_post"]))
    data: list[NDArray[np.complex64]] = []
    tracks: list[NDArray[np.float64]] = []
    for group in groups:
        shots = np.stack([_samples(readouts, i, v, whitening)[0] for i, v in
                          readouts.values("data", group)], axis=1)  # fmt: skip
        data.append(shots.reshape(coils, len(group), -1))
        tracks.append(np.stack([v[keep] for _, v in readouts.values("traj", group)]))
    if any(np.abs(track - tracks[0]).max() > 1e-4 * np.abs(tracks[0]).max() for track in tracks):
        raise DataError(
            path, f"{name}: traj", found="another in each slice", expected="one for all slices"
        )
    check_finite(tracks[0], path, f"{name}: traj")
    return np.stack(data), tracks[0]


def spread(path: Path, counts: NDArray[np.uint32]) -> tuple[int, str]:
    """Return the least number of averages of a sampled position, and a note on it."""
    sampled = counts[counts > 0]
    if sampled.size == 0:
        raise DataError(path, found="no usable sample", expected="one or more")
    low, high = int(sampled.min()), int(sampled.max())
    if high == 1:
        return 1, ""
    if low == high:
        return low, f"{high} averages of every position are averaged"
    return low, (
        f"positions measured {low} to {high} times are averaged: the noise level is that of {low}"
    )
