"""The readouts of an ISMRMRD file: guarded reading, and which of them make one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.files import reading, refuse_unbacked
from sciinv.data.formats.ismrmrd_header import Header
from sciinv.data.guard import GuardedHDF5
from sciinv.errors import DataError

__all__ = ["Readouts", "Selection", "flagged", "read_readouts", "select"]

NOISE, CALIBRATION, CALIBRATION_AND_IMAGING, REVERSE, PHASE_CORRECTION = 19, 20, 21, 22, 24
# flag -> what is left out
_OTHER = {
    23: "navigator",
    PHASE_CORRECTION: "phase correction",
    26: "feedback",
    27: "dummy",
    28: "real-time feedback",
    29: "surface coil correction",
    30: "phase stabilisation reference",
    31: "phase stabilisation",
}
_COMPRESSED = (53, 54, 55, 56)
# dimensions of which one value is taken
_CHOSEN = ("contrast", "phase", "repetition", "set")
_NEEDED = (
    "version",
    "flags",
    "number_of_samples",
    "active_channels",
    "discard_pre",
    "discard_post",
    "center_sample",
    "encoding_space_ref",
    "trajectory_dimensions",
    "sample_time_us",
    "position",
    "read_dir",
    "phase_dir",
    "slice_dir",
    "idx",
)
_COUNTERS = ("kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", *_CHOSEN)
# bytes that one step of reading may take
_BATCH_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Readouts:
    """Heads of all readouts, and access to their samples.

    :param heads: structured array, one element a readout.
    """

    path: Path
    name: str
    heads: NDArray[Any]
    node: Any

    def values(self, member: str, wanted: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield index and numbers of readouts: ``"data"`` complex64 ``(channels, samples)``,
        ``"traj"`` float64 ``(samples, dimensions)``.

        :raises DataError: another number of values than the head states.
        """  # noqa: D205
        # a hostile file may let every readout point to one large object: the file bounds it
        step = max(1, min(512, _BATCH_BYTES // max(self.path.stat().st_size, 1)))
        if len(wanted) == 0:
            return
        for first in range(int(wanted.min()), int(wanted.max()) + 1, step):
            inside = wanted[(wanted >= first) & (wanted < first + step)]
            if len(inside) == 0:
                continue
            with reading(self.path, self.name):
                batch = self.node.fields(member)[first : first + step]
            for index in inside:
                yield int(index), self._shaped(member, int(index), batch[index - first])

    def _shaped(self, member: str, index: int, raw: NDArray[Any]) -> NDArray[Any]:
        head = self.heads[index]
        samples = int(head["number_of_samples"])
        if member == "data":
            shape = (int(head["active_channels"]), samples)
            count = 2 * shape[0] * samples
        else:
            shape = (samples, int(head["trajectory_dimensions"]))
            count = shape[0] * shape[1]
        if raw.size != count:
            raise DataError(
                self.path,
                f"{self.name}: {member} of readout {index}",
                found=f"{raw.size} numbers",
                expected=f"{count} for {shape[0]} x {shape[1]} as its head states",
            )
        if member == "data":
            return np.ascontiguousarray(raw, np.float32).view(np.complex64).reshape(shape)
        return np.asarray(raw, np.float64).reshape(shape)


@dataclass(frozen=True)
class Selection:
    """Indices of the readouts that are used.

    :param image: those of one contrast, phase, repetition and set, sorted as in the file.
    :param noise: noise measurements.
    :param encoding: index of the encoding.
    """

    image: NDArray[np.intp]
    noise: NDArray[np.intp]
    encoding: int
    notes: tuple[str, ...]


def read_readouts(file: GuardedHDF5, name: str) -> Readouts:
    """Check the data set of readouts and read their heads.

    :raises DataError: another layout, version or compression, sizes that the file cannot hold.
    """
    import h5py

    # the public methods read plain arrays only; all checks of the guard are made here too
    node = file._dataset(name)
    with reading(file.path, name):
        dtype, shape = node.dtype, node.shape or ()
    members = dtype.names or ()
    lengths = [h5py.check_vlen_dtype(dtype[m]) for m in ("traj", "data") if m in members]
    head = dtype["head"] if "head" in members else None
    fields = set(head.names or ()) if head is not None else set()
    counters = head["idx"] if head is not None and "idx" in fields else None
    if (
        len(shape) != 1
        or lengths != [np.dtype("float32")] * 2
        or not fields.issuperset(_NEEDED)
        or counters is None
        or not set(counters.names or ()).issuperset(_COUNTERS)
    ):
        raise DataError(
            file.path,
            name,
            found=f"shape {shape}, members {', '.join(members) or dtype}",
            expected="the readouts of ISMRMRD version 1 (head, traj, data)",
        )
    file._check_size(name, node)
    file._check_filters(name, node)
    file.check_heaps()
    with reading(file.path, name):
        heads = np.asarray(node.fields("head")[()])
    if len(heads) == 0:
        raise DataError(file.path, name, found="no readouts", expected="one or more")
    version = int(heads["version"].max())
    if version > 1:
        raise DataError(
            file.path, f"{name}: version", found=f"MRD version {version}", expected="version 1"
        )
    if flagged(heads, *_COMPRESSED).any():
        raise DataError(
            file.path, name, found="compressed readouts", expected="plain ones (float32)"
        )
    values = heads["number_of_samples"].astype(np.int64) * heads["active_channels"] * 8
    refuse_unbacked(file.path, name, int(values.sum()), file.path.stat().st_size)
    return Readouts(file.path, name, heads, node)


def flagged(heads: NDArray[Any], *flags: int) -> NDArray[np.bool_]:
    """Tell which readouts carry one of the flags (numbered from 1)."""
    bits = np.uint64(sum(1 << (flag - 1) for flag in flags))
    return np.asarray((heads["flags"] & bits) != 0)


def select(readouts: Readouts, header: Header) -> Selection:
    """Choose the readouts of one image or stack; everything left out is told.

    :raises DataError: no imaging readout, an encoding that the header does not have, forward and
        reversed readouts in one image.
    """
    heads, path = readouts.heads, readouts.path
    notes: list[str] = []
    noise = flagged(heads, NOISE)
    keep = ~noise
    for flag, what in _OTHER.items():
        these = keep & flagged(heads, flag)
        if these.any():
            notes.append(f"{int(these.sum())} {what} readouts are left out")
            keep &= ~these
    if not keep.any():
        raise DataError(
            path, readouts.name, found="no imaging readouts", expected="one or more besides noise"
        )
    encodings = np.unique(heads["encoding_space_ref"][keep])
    encoding = int(encodings[0])
    if encoding >= len(header.encodings):
        raise DataError(
            path,
            f"{readouts.name}: encoding_space_ref",
            found=encoding,
            expected=f"below {len(header.encodings)}, the encodings of the header",
        )
    keep &= _first(heads["encoding_space_ref"], keep, "encoding", notes)
    only = flagged(heads, CALIBRATION) & ~flagged(heads, CALIBRATION_AND_IMAGING)
    if not (keep & ~only).any():
        only = np.zeros_like(only)  # a scan of calibration lines alone is an image of its own
    for name in _CHOSEN:
        first = _first(heads["idx"][name], keep & ~only, name, notes)
        keep &= first
    keep &= ~_separate(heads, keep, only, header.encodings[encoding].calibration, notes)
    reverse = flagged(heads, REVERSE) & keep
    if reverse.any() and (reverse != keep).any():
        raise DataError(
            path,
            f"{readouts.name}: flags",
            found=f"{int(reverse.sum())} of {int(keep.sum())} readouts reversed (echo-planar)",
            expected="readouts of one direction",
            hint="correct the phase between the directions first; sciinv does not",
        )
    return Selection(np.flatnonzero(keep), np.flatnonzero(noise), encoding, tuple(notes))


def _first(
    values: NDArray[Any], among: NDArray[np.bool_], name: str, notes: list[str]
) -> NDArray[np.bool_]:
    """Mark the readouts of the lowest value, and say so if there are others."""
    present = np.unique(values[among])
    if len(present) > 1:
        notes.append(f"the file holds {len(present)} values of {name}: {int(present[0])} is used")
    return np.asarray(values == present[0])


def _separate(
    heads: NDArray[Any],
    keep: NDArray[np.bool_],
    only: NDArray[np.bool_],
    mode: str,
    notes: list[str],
) -> NDArray[np.bool_]:
    """Calibration lines that do not belong to the image: measured apart, or lines it has too."""
    these = keep & only
    if not these.any():
        return these
    idx = heads["idx"]
    lines = np.stack([idx[n] for n in ("kspace_encode_step_1", "kspace_encode_step_2", "slice")], 1)
    imaged = {tuple(line) for line in lines[keep & ~only]}
    twice = any(tuple(line) in imaged for line in lines[these])
    lengths = {int(n) for n in heads["number_of_samples"][keep & ~only]}
    differs = any(int(n) not in lengths for n in heads["number_of_samples"][these])
    if mode in ("separate", "external", "other") or twice or differs:
        notes.append(f"{int(these.sum())} calibration readouts of their own are left out")
        return these
    return np.zeros_like(these)
