"""Siemens raw files (``.dat``, "twix"): sorted lines of one Cartesian measurement.

The package twixtools (extra ``twix``) knows the headers of the lines. Directions in them belong to
a *forward* transform from k-space to image, as the scanner's own reconstruction uses; sciinv takes
the inverse, so that both (in 3D all three) image axes run against the directions of the header. A
real phantom shows it: the air above its liquid comes out anterior.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import ASSUMED_ORIENTATION
from sciinv.data.files import declared_bytes, refuse_unbacked
from sciinv.data.formats.mri import mri_scan
from sciinv.data.formats.twix_lines import (
    Line,
    Protocol,
    measurements,
    read_lines,
    read_protocol,
)
from sciinv.data.formats.twix_select import FLAGS, select_lines, whitening
from sciinv.data.orientation import axes_of, scanner_affine, stack_order
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar, check_completes
from sciinv.errors import DataError

NAME = "twix"
_TRAJECTORIES = {2: "radial", 4: "spiral", 8: "BLADE"}
# two slice normals closer than this belong to one stack
_PARALLEL = 1e-3


def sniff(path: Path) -> bool:
    """Tell whether the file is a Siemens raw file, VB or multi-RAID (VD, VE, XA)."""
    return bool(measurements(path))


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read the last measurement of the file; rows are the phase encoding, columns the readout.

    Averages are averaged; of several echoes, phases, repetitions and sets the first is taken;
    slices are sorted along their normal. Lines that were not measured (partial Fourier,
    acceleration, zero filling) stay empty. A noise scan whitens the coils.

    :raises DataError: twixtools is missing, a trajectory or a kind of line that is not read, a
        truncated file.
    """
    if sidecar is not None:
        check_completes(sidecar, "mri", NAME)
    places = measurements(path)
    notes: list[str] = []
    if len(places) > 1:
        notes.append(f"the last of {len(places)} measurements in the file is read")
    protocol = read_protocol(path, places[-1])
    trajectory = int(protocol.number("sKSpace.ucTrajectory", 1.0))
    if trajectory != 1:
        raise DataError(
            path,
            "sKSpace.ucTrajectory",
            found=f"{trajectory} ({_TRAJECTORIES.get(trajectory, 'unknown')})",
            expected="1 (Cartesian)",
        )
    with path.open("rb") as stream:
        every = read_lines(path, places[-1], stream)
        lines = select_lines(path, every, notes)
        volume = any(line.counter["Par"] != lines[0].counter["Par"] for line in lines)
        lines = _one_stack(lines, volume, notes)
        kspace, counts = _sort(path, protocol, lines, volume, notes)
        noise = [line for line in every if line.flags & FLAGS["NOISEADJSCAN"]]
        if not noise and len(places) > 1:
            earlier = read_lines(path, places[0], stream)
            noise = [line for line in earlier if line.flags & FLAGS["NOISEADJSCAN"]]
        matrix = whitening(noise, kspace.shape[1], notes)
    if matrix is not None:
        kspace = np.einsum("cd,sd...->sc...", matrix, kspace).astype(np.complex64)
    sampled = np.asarray(counts > 0)
    if (sampled == sampled[:1]).all():
        sampled = sampled[0]
    kspace, sampled, cropped = _crop(kspace, sampled, protocol, notes)
    voxel = _voxel_size(protocol, kspace, volume, cropped)
    order, step, even, axes = _placed(path, lines, volume)
    if not even:
        notes.append("the distances between the slices differ: the mean is used")
    voxel = (voxel[0] if step is None else step, *voxel[1:])
    if sidecar is not None and sidecar.voxel_size is not None:
        voxel = sidecar.voxel_size
    scan = mri_scan(
        path,
        NAME,
        kspace,
        mask=sampled,
        voxel_size=voxel,
        readout_axis=kspace.ndim - 3,
        noise_std=sidecar.noise_std if sidecar is not None else None,
        header=_facts(protocol),
        notes=tuple(notes),
    )
    if axes is None:
        return scan
    first = next(line for line in lines if line.counter["Sli"] == order[0])
    grid = (kspace.shape[2] if volume else len(kspace), *kspace.shape[-2:])
    affine = scanner_affine(
        np.array(first.position), axes, grid, voxel, centre_slice=None if volume else 0.0
    )
    kept = tuple(note for note in scan.notes if note != ASSUMED_ORIENTATION)
    return scan.with_(affine=affine, oriented=True, notes=kept)


def _directions(line: Line) -> NDArray[np.float64] | None:
    """Rotation whose columns are the phase, readout and slice directions in LPS."""
    w, x, y, z = line.quaternion
    norm = float(np.linalg.norm(line.quaternion))
    if not 0.99 < norm < 1.01:
        return None
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _one_stack(lines: list[Line], volume: bool, notes: list[str]) -> list[Line]:
    """Keep the slices that are parallel to the first one (of a 3D scan, the first slab)."""
    slices = {line.counter["Sli"]: line for line in reversed(lines)}
    first = slices[min(slices)]
    turn = _directions(first)
    kept = {min(slices)}
    if not volume:
        for index, line in slices.items():
            other = _directions(line)
            same = other is None if turn is None else other is not None and np.allclose(
                other, turn, atol=_PARALLEL
            )  # fmt: skip
            if same:
                kept.add(index)
    if len(kept) < len(slices):
        what = "slabs" if volume else "slices, those parallel to the first,"
        notes.append(f"{len(kept)} of {len(slices)} {what} are read")
    return [line for line in lines if line.counter["Sli"] in kept]


def _placed(
    path: Path, lines: list[Line], volume: bool
) -> tuple[list[int], float | None, bool, NDArray[np.float64] | None]:
    """Slice counters along the normal, their distance, whether it is even, and the image axes.

    The axes run against the header's directions of phase and readout (see above) and, where the
    third axis is encoded too, against its slice direction.
    """
    slices = {line.counter["Sli"]: line for line in reversed(lines)}
    counters = sorted(slices)
    turn = _directions(slices[counters[0]])
    axes = None
    if turn is not None:
        axes = axes_of(-turn[:, 0], -turn[:, 1], -turn[:, 2] if volume else turn[:, 2])
    if axes is None:
        return counters, None, True, None
    positions = np.array([slices[index].position for index in counters])
    order, step, even = stack_order(positions, axes, path)
    return [counters[k] for k in order], step, even, axes


def _grid(lines: list[Line], axis: str, centre: int, nominal: int) -> int:
    """Lines of the matrix: as planned, or more if lines lie outside; the centre is ``n // 2``."""
    numbers = [line.counter[axis] for line in lines]
    return max(nominal, 2 * (centre - min(numbers)), 2 * (max(numbers) - centre) + 1)


def _sort(
    path: Path, protocol: Protocol, lines: list[Line], volume: bool, notes: list[str]
) -> tuple[NDArray[np.complex64], NDArray[np.int32]]:
    """Put the lines on the grid; returns k-space and how often each sample was measured."""
    first = lines[0]
    for name, values in (
        ("samples of a line", {(line.samples, line.cut) for line in lines}),
        ("channels", {line.channels for line in lines}),
        ("centre of k-space", {line.centre for line in lines}),
    ):
        if len(values) > 1:
            raise DataError(
                path, name, found=f"{len(values)} different values", expected="one for all lines"
            )
    base = int(protocol.positive("sKSpace.lBaseResolution", 65535))
    factor = _factor(protocol)
    columns = max(round(factor * base), 2)
    pre, post = first.cut
    length = first.samples - pre - post
    shift = columns // 2 - first.centre[0]
    if length < 2 or shift + pre < 0 or shift + pre + length > columns:
        raise DataError(
            path,
            "readout",
            found=f"{first.samples} samples, centre {first.centre[0]}, {pre} + {post} cut off",
            expected=f"at most {columns} (lBaseResolution {base}, oversampling {factor:g})",
        )
    planned = protocol.positive("sKSpace.lPhaseEncodingLines", 65535)
    planned *= 1 + protocol.number("sKSpace.dPhaseOversamplingForDialog", 0.0)
    shape = [_grid(lines, "Lin", first.centre[1], max(round(planned), 1)), columns]
    if volume:
        parts = protocol.positive("sKSpace.lPartitions", 65535)
        shape.insert(0, _grid(lines, "Par", first.centre[2], round(parts)))
    order = _placed(path, lines, volume)[0]
    full = (len(order), first.channels, *shape)
    refuse_unbacked(path, "kspace", declared_bytes(full, 8), path.stat().st_size)
    kspace = np.zeros(full, np.complex64)
    counts = np.zeros((len(order), *shape), np.int32)
    where = slice(shift + pre, shift + pre + length)
    for line in lines:
        samples = line.data()[:, pre : pre + length]
        index: tuple[Any, ...] = (line.counter["Lin"] - first.centre[1] + shape[-2] // 2, where)
        if volume:
            index = (line.counter["Par"] - first.centre[2] + shape[0] // 2, *index)
        at = order.index(line.counter["Sli"])
        kspace[(at, slice(None), *index)] += samples
        counts[(at, *index)] += 1
    often = np.unique(counts[counts > 0])
    if often[-1] > 1:
        kspace /= np.maximum(counts, 1)[:, None]
        span = f"{often[0]} to {often[-1]}" if len(often) > 1 else f"{often[-1]}"
        unequal = "; the noise is not the same everywhere" if len(often) > 1 else ""
        notes.append(f"lines measured {span} times are averaged{unequal}")
    return kspace, counts


def _factor(protocol: Protocol) -> float:
    """Oversampling of the readout; 2 on every scanner unless the protocol says otherwise."""
    factor = protocol.values.get("oversampling", 2.0)
    return factor if 1 <= factor <= 16 else 2.0


def _crop(
    kspace: NDArray[np.complex64],
    sampled: NDArray[np.bool_],
    protocol: Protocol,
    notes: list[str],
) -> tuple[NDArray[np.complex64], NDArray[np.bool_], float]:
    """Cut the field of view of an oversampled readout to the planned one."""
    base = int(protocol.number("sKSpace.lBaseResolution"))
    columns = kspace.shape[-1]
    if columns <= base:
        return kspace, sampled, 1.0
    lines: NDArray[np.bool_] = np.asarray(np.any(sampled, axis=-1))
    if not np.array_equal(sampled, np.broadcast_to(lines[..., None], sampled.shape)):
        # a crop in image space would mix zeros into the samples
        notes.append("asymmetric echo: the oversampling of the readout is kept")
        return kspace, sampled, columns / base
    image = np.fft.ifft(np.fft.ifftshift(kspace, axes=-1), axis=-1, norm="ortho")
    image = np.fft.fftshift(image, axes=-1)
    start = columns // 2 - base // 2
    image = image[..., start : start + base]
    cut = np.fft.fft(np.fft.ifftshift(image, axes=-1), axis=-1, norm="ortho")
    notes.append(f"readout oversampling removed: {columns} to {base} columns")
    kept = np.broadcast_to(lines[..., None], (*lines.shape, base)).copy()
    return np.fft.fftshift(cut, axes=-1).astype(np.complex64), kept, 1.0


def _voxel_size(
    protocol: Protocol, kspace: NDArray[Any], volume: bool, wider: float
) -> tuple[float, float, float]:
    """Field of view over image points, mm: (slice, row, column)."""
    array = "sSliceArray.asSlice[0]."
    row = protocol.positive(array + "dPhaseFOV") / kspace.shape[-2]
    row *= 1 + protocol.number("sKSpace.dPhaseOversamplingForDialog", 0.0)
    column = wider * protocol.positive(array + "dReadoutFOV") / kspace.shape[-1]
    thickness = protocol.positive(array + "dThickness")
    if volume:
        extra = 1 + protocol.number("sKSpace.dSliceOversamplingForDialog", 0.0)
        thickness *= extra / kspace.shape[2]
    return thickness, row, column


def _facts(protocol: Protocol) -> dict[str, str]:
    facts = {"vendor": "Siemens"}
    for key, name, unit in (
        ("field strength (T)", "sProtConsistencyInfo.flNominalB0", 1.0),
        ("TR (ms)", "alTR[0]", 1e-3),
        ("TE (ms)", "alTE[0]", 1e-3),
    ):
        if name in protocol.values:
            facts[key] = f"{protocol.values[name] * unit:g}"
    return facts
