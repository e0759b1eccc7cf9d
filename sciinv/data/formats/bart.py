"""BART: ``NAME.hdr`` (text, the dimensions) beside ``NAME.cfl`` (complex, first axis fastest).

Axes have fixed meanings: 0 READ, 1 PHS1, 2 PHS2, 3 COIL, 4 MAPS, 5 TE, 6 and 7 COEFF, 8 ITER,
9 CSHIFT, 10 TIME, 11 TIME2, 12 LEVEL, 13 SLICE, 14 AVG, 15 BATCH. The format is BART's own
documentation of its files; its transforms (``fft -u``) are centred at ``n // 2`` and unitary, as
everywhere here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.files import declared_bytes
from sciinv.data.formats.arrays import locate, read_ref
from sciinv.data.formats.bare import scan_of_array
from sciinv.data.formats.mri import mri_scan
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar, Trajectory, check_completes
from sciinv.errors import DataError

NAME = "bart"
_FIRST_LINE = b"# Dimensions"
_MAX_HEADER = 2**20
_RANK = 16
_NAMES = ("READ", "PHS1", "PHS2", "COIL", "MAPS", "TE", "COEFF", "COEFF2", "ITER", "CSHIFT",
          "TIME", "TIME2", "LEVEL", "SLICE", "AVG", "BATCH")  # fmt: skip
_COIL, _MAPS, _SLICE = 3, 4, 13
# repeated measurements of the same image: the first of each is taken
_SERIES = (5, 9, 10, 11, 14, 15)


def _pair(path: Path) -> tuple[Path, Path] | None:
    """Header and data, by either of their names."""
    if path.suffix not in (".cfl", ".hdr"):
        return None
    return path.with_name(path.stem + ".hdr"), path.with_name(path.stem + ".cfl")


def sniff(path: Path) -> bool:
    """Tell whether the file is one of a pair whose header begins like BART's."""
    pair = _pair(path)
    if pair is None or not pair[0].is_file():
        return False
    with pair[0].open("rb") as stream:
        return stream.read(len(_FIRST_LINE)) == _FIRST_LINE


def read(path: Path, sidecar: Sidecar | None) -> Scan:
    """Read k-space by BART's axes: rows are READ, columns PHS1, and in 3D partitions PHS2.

    Without READ (a slice of a 3D scan) rows are PHS1 and columns PHS2. A side-car may complete it
    (voxel size, noise, ``coil_maps``, ``mask``, ``mri.trajectory``), or describe other data by
    ``axes``, which then name the axes longer than 1.

    :raises DataError: a header that is damaged or does not fit the data, axes with no meaning for
        k-space.
    """
    if sidecar is not None and sidecar.axes:
        return scan_of_array(path, sidecar, NAME)
    side = sidecar
    if side is not None:
        check_completes(replace(side, arrays={}, quantity=None), "mri", NAME)
    notes: list[str] = []
    if side is not None and side.trajectory is not None:
        return _along_trajectory(path, side, side.trajectory)
    array = _kspace(path, notes)
    kspace, spatial = _image_order(path, array)
    maps = mask = None
    if side is not None:
        maps = _companion(path, side, "coil_maps", array.shape[:_COIL], notes)
        mask = _companion(path, side, "mask", array.shape[:_COIL], notes)
        if mask is not None:
            mask = mask[:, 0].real if len(mask) > 1 else mask[0, 0].real
            shape = kspace.shape[2:]
            mask = np.broadcast_to(mask, (*mask.shape[: mask.ndim - len(shape)], *shape))
        if maps is not None and len(maps) != len(kspace):
            maps = np.broadcast_to(maps, (len(kspace), *maps.shape[1:]))
    has_read = array.shape[0] > 1
    return mri_scan(
        path,
        NAME,
        kspace,
        mask=mask,
        voxel_size=side.voxel_size if side is not None else None,
        readout_axis=spatial.index("READ") if has_read else None,
        guess_readout=False,
        coil_maps=maps,
        noise_std=side.noise_std if side is not None else None,
        notes=tuple(notes),
    )


def read_full(path: Path) -> NDArray[np.complex64]:
    """Read a pair as an array of 16 axes in BART's order.

    :raises DataError: a damaged header, or data of another size.
    """
    pair = _pair(path)
    if pair is None or not all(part.is_file() for part in pair):
        missing = path if pair is None else next(p for p in pair if not p.is_file())
        raise DataError(missing, found="no such file", expected="a pair NAME.hdr and NAME.cfl")
    header, data = pair
    shape = _dimensions(header)
    expected, stored = declared_bytes(shape, 8), data.stat().st_size
    if expected != stored:
        raise DataError(
            data,
            found=f"{stored} bytes",
            expected=f"{expected} for the dimensions {_show(shape)} of {header.name}",
            hint="the file is truncated or damaged" if expected > stored else None,
        )
    array = np.fromfile(data, dtype="<c8").astype(np.complex64, copy=False)
    return array.reshape(shape, order="F")


def read_array(path: Path, name: str | None) -> NDArray[Any]:
    """Read the array without its axes of length 1; ``name`` has no meaning here.

    BART stores everything as complex numbers: what has no imaginary part is returned as real. A
    trajectory in a plane has a third component all the same, zero, which is left out.
    """
    full = read_full(path)
    if full.imag.any():
        return np.squeeze(full)
    planar = full.shape[0] == 3 and not full[2].any()
    return np.squeeze(full[:2].real if planar else full.real)


def _show(shape: tuple[int, ...]) -> str:
    last = max((i for i, n in enumerate(shape) if n > 1), default=0)
    return " x ".join(str(n) for n in shape[: last + 1])


def _dimensions(header: Path) -> tuple[int, ...]:
    size = header.stat().st_size
    if size > _MAX_HEADER:
        raise DataError(header, found=f"{size} bytes", expected=f"at most {_MAX_HEADER}")
    lines = header.read_bytes().split(b"\n")
    words = lines[1].split() if len(lines) > 1 else []
    good = 1 <= len(words) <= _RANK and all(w.isdigit() and len(w) < 11 for w in words)
    shape = tuple(int(w) for w in words) if good else ()
    if not good or min(shape) < 1:
        found = b" ".join(words)[:60].decode("ascii", "replace")
        raise DataError(
            header, "# Dimensions", found=repr(found), expected="1 to 16 whole numbers from 1"
        )
    return (*shape, *(1,) * (_RANK - len(shape)))


def _first_of_series(array: NDArray[Any], what: str, notes: list[str]) -> NDArray[Any]:
    for axis in _SERIES:
        count = array.shape[axis]
        if count > 1:
            notes.append(f"{what}: the first of {count} along {_NAMES[axis]} is read")
            array = array.take([0], axis=axis)
    return array


def _kspace(path: Path, notes: list[str]) -> NDArray[np.complex64]:
    """k-space ``(READ, PHS1, PHS2, COIL, SLICE)``."""
    array = _first_of_series(read_full(path), "k-space", notes)
    kept = (0, 1, 2, _COIL, _SLICE)
    strange = [i for i, n in enumerate(array.shape) if n > 1 and i not in kept]
    if strange:
        i = strange[0]
        raise DataError(
            path,
            f"dimension {i} ({_NAMES[i]})",
            found=f"length {array.shape[i]}",
            expected="1 in k-space",
            hint="other data can be described by a side-car with axes",
        )
    return array.reshape([array.shape[i] for i in kept], order="F")


def _image_order(
    path: Path, array: NDArray[Any], spatial: tuple[int, ...] | None = None
) -> tuple[NDArray[Any], list[str]]:
    """``(READ, PHS1, PHS2, COIL, SLICE)`` to ``(slices, coils, *image)``; names of its axes.

    :param spatial: lengths of the k-space that decide which axes there are; its own by default.
    """
    shape = array.shape[:_COIL] if spatial is None else spatial
    axes = [2, 0, 1] if all(n > 1 for n in shape) else [i for i in range(3) if shape[i] > 1]
    if len(axes) < 2:
        raise DataError(
            path,
            "dimensions 0 to 2",
            found=" x ".join(str(n) for n in shape),
            expected="2 or 3 of READ, PHS1, PHS2 longer than 1",
        )
    gone = [i for i in range(3) if i not in axes]
    out = array.transpose([4, 3, *axes, *gone])
    return out.reshape(out.shape[: 2 + len(axes)]), [_NAMES[i] for i in axes]


def _companion(
    path: Path, side: Sidecar, field: str, spatial: tuple[int, ...], notes: list[str]
) -> NDArray[Any] | None:
    """Coil maps or a mask: by BART's axes if they are a pair, else in the scan's own order."""
    if field not in side.arrays:
        return None
    where = locate(path, side, side.arrays[field], field)
    if not sniff(where):
        array = read_ref(path, side, field)
        dims = 2 + sum(n > 1 for n in spatial)
        if array.ndim > dims:
            raise DataError(
                where, field, found=f"shape {array.shape}", expected=f"at most {dims} axes"
            )
        if field == "mask" and array.ndim == dims - 1:
            array = array[:, None]
        return array.reshape((1,) * (dims - array.ndim) + array.shape)
    full = _first_of_series(read_full(where), field, notes)
    if full.shape[_MAPS] > 1 and field == "coil_maps":
        notes.append(f"coil_maps: the first of {full.shape[_MAPS]} sets of maps is read")
        full = full.take([0], axis=_MAPS)
    kept = (0, 1, 2, _COIL, _SLICE)
    lengths = [full.shape[i] for i in kept]
    wanted = [(1, n) if field == "mask" else (n,) for n in spatial]
    if np.prod(lengths) != full.size or any(
        n not in ok for n, ok in zip(lengths[:_COIL], wanted, strict=True)
    ):
        raise DataError(
            where,
            field,
            found=f"dimensions {_show(full.shape)}",
            expected=f"{' x '.join(str(n) for n in spatial)} as k-space",
        )
    return _image_order(where, full.reshape(lengths, order="F"), spatial)[0]


def _along_trajectory(path: Path, side: Sidecar, table: Trajectory) -> Scan:
    """k-space ``(1, samples, shots, coils)`` along a trajectory ``(3, samples, shots)``."""
    shape = read_full(path).shape
    names = {1: "sample", 2: "shot", _COIL: "coil", _SLICE: "slice"}
    strange = [i for i, n in enumerate(shape) if n > 1 and i not in names]
    if strange:
        i = strange[0]
        raise DataError(
            path,
            f"dimension {i} ({_NAMES[i]})",
            found=f"length {shape[i]} beside a trajectory",
            expected="1: samples run along dimension 1, shots along 2, coils along 3",
        )
    where = locate(path, side, table.ref, "mri.trajectory")
    axes, unit, dims = table.ref.axes, table.unit, table.dims
    if sniff(where):
        k = read_array(where, None)
        if k.ndim not in (2, 3) or k.shape[0] not in (2, 3) or k.dtype.kind == "c":
            raise DataError(
                where, "mri.trajectory", found=f"shape {k.shape}, {k.dtype}",
                expected="dimensions 3 x samples x shots, real",
            )  # fmt: skip
        axes = axes or ("dim", "sample", "shot")[: k.ndim]
        unit = unit or "cycles/fov"
        # the components are along READ, PHS1, PHS2: rows, columns, partitions
        dims = dims or ("row", "column", "partition")[: k.shape[0]]
    described = replace(
        side,
        quantity="kspace",
        axes=tuple(name for i, name in names.items() if shape[i] > 1),
        trajectory=Trajectory(replace(table.ref, axes=axes), unit, dims),
    )
    return scan_of_array(path, described, NAME)
