"""ISMRMRD HDF5, version 1: readouts with heads and an XML header, Cartesian or along a trajectory.

Specification: https://ismrmrd.readthedocs.io (the raw data container of MRD, version 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciinv.data.checks import ASSUMED_ORIENTATION, assumed_affine
from sciinv.data.files import is_hdf5
from sciinv.data.formats import ismrmrd_grid as grids
from sciinv.data.formats.ismrmrd_header import MAX_HEADER, Encoding, Header, parse_header
from sciinv.data.formats.ismrmrd_records import Readouts, Selection, read_readouts, select
from sciinv.data.formats.mri import mri_scan
from sciinv.data.guard import GuardedHDF5, open_hdf5
from sciinv.data.orientation import against_forward, axes_of, scanner_affine, stack_order
from sciinv.data.scan import NonCartesianGeometry, Scan
from sciinv.data.sidecar import Sidecar, check_completes
from sciinv.data.trajectory import UNITS, suspected_unit, to_cycles
from sciinv.errors import DataError

NAME = "ismrmrd"
# groups in the root that are looked at
_MAX_GROUPS = 64
# of version 2, whose files are made by the yardl compiler
_YARDL_MAGIC = b"yardl"
_YARDL_SCHEMA = "$yardl_schema"
_TRAJECTORIES = ("radial", "goldenangle", "spiral", "other")


@dataclass(frozen=True)
class _Stack:
    """Slices of the scan and where they lie.

    :param slices: values of ``idx.slice`` in the order of the stack.
    :param axes: LPS unit vectors (row, column, slice); ``None`` if the file states none.
    :param first: LPS position of the first slice, mm.
    :param distance: mm between slices, ``None`` if the positions do not tell.
    """

    slices: NDArray[np.integer]
    axes: NDArray[np.float64] | None
    first: NDArray[np.float64]
    distance: float | None
    notes: tuple[str, ...]


def sniff(path: Path) -> bool:
    """Tell whether the file is ISMRMRD: a group with ``xml`` and readouts, or version 2."""
    with path.open("rb") as stream:
        if stream.read(len(_YARDL_MAGIC)) == _YARDL_MAGIC:
            return True
    if not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return bool(_groups(file)) or _is_version_2(file)


def _groups(file: GuardedHDF5) -> list[str]:
    """Groups that hold a header and readouts or images, the usual name first."""
    found = []
    for name in file.keys()[:_MAX_GROUPS]:
        try:
            members = file.keys(name)
        except DataError:
            continue  # a link out of the file; not ours to follow
        if "xml" in members and ("data" in members or any("image" in m for m in members)):
            found.append(name)
    return sorted(found, key=lambda name: name != "dataset")


def _is_version_2(file: GuardedHDF5) -> bool:
    return "Mrd" in file.keys() and _YARDL_SCHEMA in file.keys("Mrd")  # noqa: SIM118


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read one image, stack of slices or volume.

    Rows are the phase encoding, columns the readout. Of several contrasts, phases, repetitions or
    sets the first is taken; averages are averaged; an oversampled readout is cut to the field of
    view of the image; noise readouts whiten the coils and give the noise level.

    :raises DataError: version 2, echo-planar readouts, compressed data, and whatever contradicts
        itself; the message names it.
    """
    if sidecar is not None:
        check_completes(sidecar, "mri", NAME)
    if not is_hdf5(path):
        raise _version_2(path)
    with open_hdf5(path) as file:
        groups = _groups(file)
        if not groups:
            raise _version_2(path)
        name = groups[0]
        if "data" not in file.keys(name):  # noqa: SIM118
            raise DataError(
                path, name, found="images only", expected="readouts (data): there are no raw data"
            )
        notes = []
        if len(groups) > 1:
            notes.append(f"the file holds {len(groups)} measurements: one is used")
        header = parse_header(file.text(f"{name}/xml", max_bytes=MAX_HEADER), path, f"{name}/xml")
        readouts = read_readouts(file, f"{name}/data")
        selection = select(readouts, header)
        return _scan(readouts, header, selection, sidecar, (*notes, *selection.notes))


def _version_2(path: Path) -> DataError:
    return DataError(
        path,
        found="MRD version 2 (a yardl stream or file)",
        expected="ISMRMRD version 1 in HDF5",
        hint="convert it with the mrd tools (mrd_to_ismrmrd)",
    )


def _scan(
    readouts: Readouts,
    header: Header,
    selection: Selection,
    sidecar: Sidecar | None,
    notes: tuple[str, ...],
) -> Scan:
    encoding = header.encodings[selection.encoding]
    cartesian = encoding.trajectory == "cartesian"
    if not cartesian and encoding.trajectory not in _TRAJECTORIES:
        raise DataError(
            readouts.path,
            "encoding/trajectory",
            found=encoding.trajectory[:50],
            expected="cartesian, " + ", ".join(_TRAJECTORIES),
        )
    steps = np.unique(readouts.heads["idx"]["kspace_encode_step_2"][selection.image])
    if cartesian and encoding.matrix[2] > 1 and len(steps) == 1:
        # some writers state the number of slices as the matrix of a 2D scan
        encoding = replace(
            encoding,
            matrix=(*encoding.matrix[:2], 1),
            fov=(*encoding.fov[:2], encoding.fov[2] / encoding.matrix[2]),
            centres=(encoding.centres[0], int(steps[0])),
        )
        notes = (*notes, "one partition step only: read as 2D")
    image, stack = _stack(readouts, selection.image, encoding)
    notes = (*notes, *stack.notes)
    whitening = grids.noise_of(readouts, selection.noise, image, header.noise_bandwidth)
    if whitening is not None and whitening.matrix is not None:
        notes = (*notes, "the coils are mixed so that their noise is white (noise readouts)")
    elif whitening is not None:
        notes = (*notes, "the noise level is that of the noise readouts")
    make = _cartesian if cartesian else _along_trajectory
    scan = make(readouts, image, stack, encoding, whitening, notes)
    changes: dict[str, object] = {"header": dict(header.facts)}
    if sidecar is not None and sidecar.noise_std is not None:
        changes["noise_std"] = sidecar.noise_std
    if sidecar is not None and sidecar.voxel_size is not None:
        raise DataError(
            sidecar.path,
            "mri.voxel_size",
            found="a key that the file states itself",
            expected="no voxel_size for ISMRMRD files",
        )
    if stack.axes is not None and header.facts.get("vendor") == "siemens":
        turned = against_forward(stack.axes, volume=len(scan.image_shape) == 3)
        stack = replace(stack, axes=turned)
        notes = (*scan.notes, "Siemens: rows and columns run against the stated directions")
        changes["notes"] = notes
    return _placed(scan.with_(**changes), stack)


def _stack(
    readouts: Readouts, image: NDArray[np.intp], encoding: Encoding
) -> tuple[NDArray[np.intp], _Stack]:
    """Order the slices in space; of several volumes one is taken."""
    heads, notes = readouts.heads, []
    numbers = heads["idx"]["slice"][image]
    slices, first = np.unique(numbers, return_index=True)
    if encoding.matrix[2] > 1 and len(slices) > 1:
        notes.append(f"the file holds {len(slices)} slabs: {int(slices[0])} is used")
        image = image[numbers == slices[0]]
        slices, first = slices[:1], np.zeros(1, np.intp)
    heads = heads[image]
    positions = heads["position"][first].astype(np.float64)
    one = heads[0]
    axes = axes_of(one["phase_dir"], one["read_dir"], one["slice_dir"])
    if not np.isfinite(positions).all():
        axes = None
    if axes is None:
        return image, _Stack(slices, None, positions[0], None, tuple(notes))
    for name in ("read_dir", "phase_dir", "slice_dir"):
        # rotated readouts (PROPELLER), or slices that are not parallel (a localiser)
        if np.abs(heads[name] - one[name]).max() > 1e-2:
            raise DataError(
                readouts.path,
                f"{readouts.name}: {name}",
                found="readouts of several orientations",
                expected="one orientation in an image or stack",
            )
    order, distance, even = stack_order(positions, axes, readouts.path)
    if not even:
        notes.append("the slices are not at equal distances: their mean is used")
    if distance is None and len(slices) > 1:
        notes.append("the file states one position for all slices: taken to touch each other")
    return image, _Stack(slices[order], axes, positions[order[0]], distance, tuple(notes))


def _placed(scan: Scan, stack: _Stack) -> Scan:
    """Give the scan the affine of the scanner, if the file states one."""
    geometry = scan.geometry
    shape = scan.image_shape
    voxel: tuple[float, float, float] = geometry.voxel_size  # type: ignore[union-attr]
    volume = len(shape) == 3
    grid = (shape[0] if volume else scan.num_slices, shape[-2], shape[-1])
    spacing = (stack.distance or voxel[0], voxel[1], voxel[2])
    if stack.axes is None:
        return scan.with_(affine=assumed_affine(grid, spacing, fourier_centre=True))
    # without positions of their own the slices of a stack lie around the one that is stated
    touching = (grid[0] - 1) / 2 if stack.distance is None else 0.0
    affine = scanner_affine(
        stack.first, stack.axes, grid, spacing, centre_slice=None if volume else touching
    )
    notes = tuple(note for note in scan.notes if note != ASSUMED_ORIENTATION)
    return scan.with_(affine=affine, oriented=True, notes=notes)


def _thickness(encoding: Encoding) -> float:
    return encoding.fov[2] / encoding.matrix[2]


def _cartesian(
    readouts: Readouts,
    image: NDArray[np.intp],
    stack: _Stack,
    encoding: Encoding,
    whitening: grids.Whitening | None,
    notes: tuple[str, ...],
) -> Scan:
    grid = grids.fill_grid(readouts, image, stack.slices, encoding, whitening)
    averages, note = grids.spread(readouts.path, grid.counts)
    notes = (*notes, note) if note else notes
    columns, rows, partitions = encoding.matrix
    if None in encoding.centres[: 2 if partitions > 1 else 1]:
        notes = (*notes, "the header states no centre of k-space: the middle of the matrix taken")
    kspace, mask = grid.data, grid.counts > 0
    target = round(columns * encoding.recon_fov[0] / encoding.fov[0])
    if target < columns and target >= 2 and grid.complete:
        kspace, mask = grids.crop_readout(kspace, target), mask[..., :target]
        notes = (*notes, f"readout oversampling removed: {columns} to {target} columns")
    elif target < columns:
        notes = (*notes, "readout oversampling kept: the readouts are incomplete (partial echo)")
    if encoding.fov[1] > 1.01 * encoding.recon_fov[1]:
        notes = (*notes, "the image covers the whole encoded field of view along the rows")
    if (mask == mask[:1]).all():
        mask = mask[0]
    return mri_scan(
        readouts.path,
        NAME,
        kspace,
        mask=mask,
        voxel_size=(
            _thickness(encoding),
            encoding.fov[1] / rows,
            encoding.fov[0] / columns,
        ),
        readout_axis=kspace.ndim - 3 if grid.complete else None,
        guess_readout=False,
        noise_std=None if whitening is None else whitening.std / averages**0.5,
        notes=notes,
    )


def _along_trajectory(
    readouts: Readouts,
    image: NDArray[np.intp],
    stack: _Stack,
    encoding: Encoding,
    whitening: grids.Whitening | None,
    notes: tuple[str, ...],
) -> Scan:
    data, raw = grids.gather_shots(readouts, image, stack.slices, whitening)
    x, y, z = encoding.recon_matrix
    shape: tuple[int, ...] = (y, x) if encoding.matrix[2] == 1 else (z, y, x)
    fov = [n / m for n, m in zip(encoding.recon_fov, encoding.recon_matrix, strict=True)]
    name = f"{readouts.name}: traj"
    if raw.shape[-1] > len(shape) and not raw[..., len(shape) :].any():
        raw = raw[..., : len(shape)]
    if raw.shape[-1] != len(shape):
        raise DataError(
            readouts.path,
            name,
            found=f"{raw.shape[-1]} components",
            expected=f"{len(shape)}, one for each axis of the image {shape}",
        )
    track = raw[..., ::-1]  # stored (x, y, z), ours ordered like the image axes
    lengths = tuple(n * size for n, size in zip(shape, fov[::-1][-len(shape) :], strict=True))
    unit = suspected_unit(track, lengths, shape)
    if unit not in UNITS:
        unit = "normalised"  # the customary one; the conversion tells what does not fit
    notes = (*notes, f"the file states no unit of the trajectory: {unit} taken, by its extent")
    trajectory = to_cycles(track, unit, lengths, shape, readouts.path, name)
    return Scan(
        kind="mri",
        data=data,
        geometry=NonCartesianGeometry(shape, trajectory, (fov[2], fov[1], fov[0])),
        format=NAME,
        source=readouts.path,
        units="a.u.",
        affine=np.eye(4),
        noise_std=None if whitening is None else whitening.std,
        notes=(*notes, ASSUMED_ORIENTATION),
    )
