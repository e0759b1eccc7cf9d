"""Side-cars: a small TOML file that says what a bare array means (axes, units, geometry).

A side-car lies next to its data as ``<file>.toml`` (``scan.npy.toml``) or ``<stem>.toml``
(``scan.toml``). Fields, units and examples are in ``docs/formats.md``; every key is checked, and an
unknown one is answered with the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sciinv.data.sidecar_schema import KINDS, QUANTITIES, check_axes, check_table
from sciinv.data.toml import line_of, read_toml
from sciinv.errors import DataError

__all__ = [
    "Angles",
    "ArrayRef",
    "Sidecar",
    "Trajectory",
    "check_completes",
    "find_sidecar",
    "read_sidecar",
    "template",
]


@dataclass(frozen=True)
class ArrayRef:
    """Where an array lies: a file (``None``: the data file) and a name inside it."""

    file: str | None = None
    name: str | None = None
    axes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Angles:
    """Projection angles: listed, in a file, or start, stop or step, count."""

    unit: str | None = None
    values: tuple[float, ...] | None = None
    ref: ArrayRef | None = None
    start: float = 0.0
    stop: float | None = None
    step: float | None = None
    count: int | None = None
    endpoint: bool = False


@dataclass(frozen=True)
class Trajectory:
    """Where the k-space coordinates lie, their unit, and the image axis of each component."""

    ref: ArrayRef
    unit: str | None = None
    dims: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Sidecar:
    """A parsed side-car; absent fields are ``None`` (or an empty tuple of axes)."""

    path: Path
    kind: str
    quantity: str | None = None
    axes: tuple[str, ...] = ()
    arrays: Mapping[str, ArrayRef] = field(default_factory=dict)
    voxel_size: tuple[float, float, float] | None = None
    readout_axis: str | None = None
    dc_first: bool = False
    angles: Angles | None = None
    detector_spacing: float | None = None
    pixel_size: float | None = None
    slice_spacing: float | None = None
    axis_shift: float | None = None
    axis_column: float | None = None
    image_shape: tuple[int, ...] | None = None
    photon_counts: bool | None = None
    noise_std: float | None = None
    # non-Cartesian MRI
    trajectory: Trajectory | None = None
    fov: tuple[float, ...] | None = None
    dwell_time: float | None = None
    echo_sample: float = 0.0
    shot_step: int = 1
    # fan beam, and fewer views
    beam: str = "parallel"
    source_distance: float | None = None
    detector_distance: float | None = None
    source_detector_distance: float | None = None
    detector_offset: float | None = None
    direction: str = "counterclockwise"
    view_step: int = 1
    # diffraction
    background: float = 0.0
    oversampling: tuple[float, ...] | None = None
    centre: tuple[int, ...] | None = None
    frame: int | None = None
    mask_marks: str = "good"


def _ref(table: Mapping[str, Any] | None) -> ArrayRef | None:
    if table is None:
        return None
    return ArrayRef(table.get("file"), table.get("name"), table.get("axes"))


_RANGE = ("start", "stop", "step", "count", "endpoint")


def _angles(path: Path, table: Mapping[str, Any]) -> Angles:
    given = [key for key in ("values", "file", "count") if key in table]
    if "name" in table and "file" not in table:
        given.append("name")
    if len(given) != 1:
        raise DataError(
            path,
            "ct.angles",
            found=" and ".join(given) or "none of them",
            expected="exactly one of values, file (or name), count (with start and stop or step)",
        )
    if "count" in table and ("stop" in table) == ("step" in table):
        raise DataError(
            path, "ct.angles", found="count", expected="count with exactly one of stop and step"
        )
    return Angles(
        unit=table.get("unit"),
        values=table.get("values"),
        ref=_ref(table) if given[0] in ("file", "name") else None,
        **{key: value for key, value in table.items() if key in _RANGE},
    )


def read_sidecar(path: Path | str) -> Sidecar:
    """Read and check a side-car.

    :raises DataError: not a readable TOML file of at most 1 MB, an unknown key (with the nearest
        valid one), a wrong type, contradicting or missing fields.
    """
    path = Path(path)
    table, text = read_toml(path, "a side-car")
    try:
        checked = check_table(path, table)
    except DataError as error:
        line = line_of(text, error.field or "")
        if line is None:
            raise
        raise DataError(
            f"{path}, line {line}", error.field, found=error.found, expected=error.expected,
            hint=error.hint,
        ) from None  # fmt: skip
    kinds = " or ".join(f'"{name}"' for name in KINDS)
    if "kind" not in checked:
        raise DataError(path, "kind", found="no such key", expected=f"kind = {kinds}")
    kind = checked["kind"]
    for other in KINDS:
        if other != kind and other in checked:
            raise DataError(path, other, found=f"a table [{other}]", expected=f'kind = "{other}"')
    quantity = checked.get("quantity")
    if quantity is not None and quantity not in QUANTITIES[kind]:
        raise DataError(
            path,
            "quantity",
            found=f'"{quantity}" with kind = "{kind}"',
            expected=" or ".join(f'"{q}"' for q in QUANTITIES[kind]),
        )
    section = checked.get(kind, {})
    check_axes(path, "axes", checked.get("axes", ()), kind)
    for holder, names in ((checked, ("blank", "dark")), (section, ("trajectory", *_MRI_ARRAYS))):
        for name in names:
            check_axes(path, f"{name}.axes", holder.get(name, {}).get("axes") or (), kind)
    _check_section(path, kind, section)
    refs = {n: _ref(checked.get(n)) for n in ("data", "blank", "dark", "mask", "coil_maps")}
    refs |= {name: _ref(section.pop(name, None)) for name in _MRI_ARRAYS}
    angles = section.pop("angles", None)
    trajectory = section.pop("trajectory", None)
    return Sidecar(
        path=path,
        kind=kind,
        quantity=quantity,
        axes=checked.get("axes", ()),
        arrays={name: ref for name, ref in refs.items() if ref is not None},
        angles=None if angles is None else _angles(path, angles),
        trajectory=None if trajectory is None else _trajectory(path, trajectory),
        noise_std=checked.get("noise", {}).get("std"),
        **section,
    )


_MRI_ARRAYS = ("density", "field_map", "readout_times")
_FAN = ("source_distance", "detector_distance", "source_detector_distance", "detector_offset")
_NON_CARTESIAN = (*_MRI_ARRAYS, "fov", "image_shape", "dwell_time", "echo_sample", "shot_step")


def _check_section(path: Path, kind: str, section: Mapping[str, Any]) -> None:
    """Refuse keys that contradict or lack each other."""
    for one, other in (
        ("axis_column", "axis_shift"),
        ("source_detector_distance", "detector_distance"),
        ("readout_times", "dwell_time"),
        ("image_shape", "oversampling"),
    ):
        if one in section and other in section:
            raise DataError(
                path, f"{kind}.{one}", found=f"{other} as well", expected="only one of the two"
            )
    if kind == "mri" and "trajectory" not in section:
        for name in _NON_CARTESIAN:
            if name in section:
                raise DataError(
                    path,
                    f"mri.{name}",
                    found="the key without a trajectory",
                    expected="a table [mri.trajectory]",
                )
    if kind == "ct" and section.get("beam") != "fan":
        for name in _FAN:
            if name in section:
                raise DataError(
                    path, f"ct.{name}", found="a parallel beam", expected='beam = "fan"'
                )


def _trajectory(path: Path, table: Mapping[str, Any]) -> Trajectory:
    if "file" not in table and "name" not in table:
        raise DataError(
            path,
            "mri.trajectory",
            found="neither file nor name",
            expected='for example file = "trajectory.npy"',
        )
    reference = _ref(table)
    dims: tuple[str, ...] | None = table.get("dims")
    names = [name.lstrip("-") for name in dims or ()]
    if len(set(names)) != len(names):
        raise DataError(
            path,
            "mri.trajectory.dims",
            found=f"an axis twice in {list(dims or ())}",
            expected="each once",
        )
    return Trajectory(reference or ArrayRef(), table.get("unit"), dims)


def find_sidecar(path: Path) -> Path | None:
    """Return ``<file>.toml`` or ``<stem>.toml`` next to a data file, if there is one."""
    for candidate in (path.with_name(path.name + ".toml"), path.with_suffix(".toml")):
        if candidate != path and candidate.is_file():
            return candidate
    return None


def check_completes(sidecar: Sidecar, kind: str, form: str) -> None:
    """Refuse a side-car that describes arrays which the file describes itself.

    :raises DataError: another kind, or axes, quantity or arrays are given.
    """
    if sidecar.kind != kind:
        raise DataError(
            sidecar.path, "kind", found=f'"{sidecar.kind}"', expected=f'"{kind}" for {form} files'
        )
    given = [key for key in ("quantity", "axes") if getattr(sidecar, key)] + list(sidecar.arrays)
    if given:
        raise DataError(
            sidecar.path,
            given[0],
            found="a key that describes arrays",
            expected=f"only [{kind}] and [noise]: {form} files describe their arrays themselves",
        )


def template(shape: tuple[int, ...], is_complex: bool) -> str:
    """Return the smallest side-car for an array of this shape, ready to be edited."""
    if is_complex or (len(shape) > 2 and shape[-1] == 2):
        names = ["coil", "row", "column"] if is_complex else ["coil", "row", "column", "part"]
        names = ["slice"] * (len(shape) - len(names)) + names[max(0, len(names) - len(shape)) :]
        lines = ['kind = "mri"', 'quantity = "kspace"', f"axes = {_toml_list(names)}"]
        lines += ["[mri]", "voxel_size = [1.0, 1.0, 1.0]  # mm: slice, row, column"]
        return "\n".join(lines)
    names = ["slice"] * max(0, len(shape) - 2) + ["angle", "detector"][max(0, 2 - len(shape)) :]
    count = shape[-2] if len(shape) > 1 else 1
    return "\n".join(
        [
            'kind = "ct"  # "diffraction" and others: see the page on formats',
            'quantity = "line_integrals"  # or "counts", with [blank] file = ...',
            f"axes = {_toml_list(names)}",
            "[ct]",
            "detector_spacing = 1.0  # mm",
            f'angles = {{ start = 0.0, stop = 180.0, count = {count}, unit = "deg" }}',
        ]
    )


def _toml_list(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
