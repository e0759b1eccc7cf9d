"""Side-cars: a small TOML file that says what a bare array means (axes, units, geometry).

A side-car lies next to its data as ``<file>.toml`` (``scan.npy.toml``) or ``<stem>.toml``
(``scan.toml``). Fields, units and examples are in ``docs/formats.md``; every key is checked, and an
unknown one is answered with the nearest valid name.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sciinv.errors import DataError

__all__ = [
    "Angles",
    "ArrayRef",
    "Sidecar",
    "check_completes",
    "find_sidecar",
    "read_sidecar",
    "template",
]

MAX_BYTES = 2**20
KINDS = ("mri", "ct")
QUANTITIES = {"mri": ("kspace",), "ct": ("line_integrals", "counts")}
AXES = {
    "mri": ("slice", "coil", "partition", "row", "column", "part"),
    "ct": ("slice", "angle", "detector", "frame"),
}


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
    image_shape: tuple[int, int] | None = None
    photon_counts: bool | None = None
    noise_std: float | None = None


# checkers: value -> checked value, or ValueError with what was expected --------------------------
def _text(value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str) or not value:
        raise ValueError("a string")
    return value


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:  # noqa: ANN401
        if value not in choices:
            raise ValueError("one of " + ", ".join(f'"{c}"' for c in choices))
        return str(value)

    return check


def _number(value: Any) -> float:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a finite number")
    return float(value)


def _positive(value: Any) -> float:  # noqa: ANN401
    try:
        number = _number(value)
    except ValueError:
        number = 0.0
    if number <= 0:
        raise ValueError("a positive number")
    return number


def _count(value: Any) -> int:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**7:
        raise ValueError("a whole number from 1 to 10000000")
    return value


def _flag(value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _list_of(check: Callable[[Any], Any], length: int | None = None) -> Callable[[Any], Any]:
    def checked(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
        try:
            if not isinstance(value, list) or not value or length not in (None, len(value)):
                raise ValueError
            return tuple(check(item) for item in value)
        except ValueError as error:
            what = str(error) or "values"
            raise ValueError(f"a list of {length or 'one or more'}, each {what}") from None

    return checked


_REF = {"file": _text, "name": _text, "axes": _list_of(_text)}
_SCHEMA: dict[str, Any] = {
    "kind": _one_of(*KINDS),
    "quantity": _one_of("kspace", "line_integrals", "counts"),
    "axes": _list_of(_text),
    "data": {"file": _text, "name": _text},
    "blank": _REF,
    "dark": _REF,
    "mask": {"file": _text, "name": _text},
    "coil_maps": {"file": _text, "name": _text},
    "mri": {
        "voxel_size": _list_of(_positive, 3),
        "readout_axis": _one_of("partition", "row", "column", "none"),
        "dc_first": _flag,
    },
    "ct": {
        "angles": {
            "unit": _text,
            "values": _list_of(_number),
            "file": _text,
            "name": _text,
            "start": _number,
            "stop": _number,
            "step": _number,
            "count": _count,
            "endpoint": _flag,
        },
        "detector_spacing": _positive,
        "pixel_size": _positive,
        "slice_spacing": _positive,
        "axis_shift": _number,
        "axis_column": _number,
        "image_shape": _list_of(_count, 2),
        "photon_counts": _flag,
    },
    "noise": {"std": _positive},
}


def _all_keys(schema: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in schema.items():
        keys.append(prefix + key)
        if isinstance(value, Mapping):
            keys += _all_keys(value, f"{prefix}{key}.")
    return keys


def _validate(
    path: Path, table: Mapping[str, Any], schema: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in table.items():
        full = prefix + key
        if key not in schema:
            near = get_close_matches(key, schema, 1, 0.6)
            every = {name.rsplit(".", 1)[-1]: name for name in _all_keys(_SCHEMA)}
            elsewhere = get_close_matches(key, every, 1, 0.8)
            if near:
                hint = f"did you mean {prefix}{near[0]}?"
            elif elsewhere:
                hint = f"did you mean {every[elsewhere[0]]}?"
            else:
                hint = "valid keys here: " + ", ".join(schema)
            raise DataError(path, full[:100], found="an unknown key", hint=hint)
        rule = schema[key]
        if isinstance(rule, Mapping):
            if not isinstance(value, dict):
                raise DataError(path, full, found=_show(value), expected="a table")
            result[key] = _validate(path, value, rule, f"{full}.")
            continue
        try:
            result[key] = rule(value)
        except ValueError as error:
            raise DataError(path, full, found=_show(value), expected=error) from None
    return result


def _show(value: Any) -> str:  # noqa: ANN401
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


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
    if not path.is_file():
        raise DataError(path, found="no such file", expected="a side-car (TOML)")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(path, found=f"{size} bytes", expected=f"a side-car of at most {MAX_BYTES}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError) as error:
        raise DataError(path, found=str(error)[:200], expected="valid TOML") from None
    except RecursionError:
        raise DataError(path, found="nesting that is too deep", expected="valid TOML") from None
    checked = _validate(path, table, _SCHEMA)
    if "kind" not in checked:
        raise DataError(path, "kind", found="no such key", expected='kind = "mri" or "ct"')
    kind = checked["kind"]
    other = "ct" if kind == "mri" else "mri"
    if other in checked:
        raise DataError(path, other, found=f"a table [{other}]", expected=f'kind = "{other}"')
    quantity = checked.get("quantity")
    if quantity is not None and quantity not in QUANTITIES[kind]:
        raise DataError(
            path,
            "quantity",
            found=f'"{quantity}" with kind = "{kind}"',
            expected=" or ".join(f'"{q}"' for q in QUANTITIES[kind]),
        )
    axes = checked.get("axes", ())
    _check_axes(path, "axes", axes, kind)
    for name in ("blank", "dark"):
        _check_axes(path, f"{name}.axes", checked.get(name, {}).get("axes") or (), kind)
    section = checked.get(kind, {})
    if "axis_shift" in section and "axis_column" in section:
        raise DataError(
            path, "ct.axis_column", found="axis_shift as well", expected="only one of the two"
        )
    angles = section.pop("angles", None)
    refs = {n: _ref(checked.get(n)) for n in ("data", "blank", "dark", "mask", "coil_maps")}
    return Sidecar(
        path=path,
        kind=kind,
        quantity=quantity,
        axes=axes,
        arrays={name: ref for name, ref in refs.items() if ref is not None},
        angles=None if angles is None else _angles(path, angles),
        noise_std=checked.get("noise", {}).get("std"),
        **section,
    )


def _check_axes(path: Path, where: str, axes: tuple[str, ...], kind: str) -> None:
    for axis in axes:
        if axis not in AXES[kind]:
            near = get_close_matches(axis, AXES[kind], 1, 0.5)
            raise DataError(
                path,
                where,
                found=f"the axis {axis!r}",
                expected="names of " + ", ".join(AXES[kind]),
                hint=f"did you mean {near[0]!r}?" if near else None,
            )
    if len(set(axes)) != len(axes):
        raise DataError(path, where, found=f"an axis twice in {list(axes)}", expected="each once")


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
            'kind = "ct"',
            'quantity = "line_integrals"  # or "counts", with [blank] file = ...',
            f"axes = {_toml_list(names)}",
            "[ct]",
            "detector_spacing = 1.0  # mm",
            f'angles = {{ start = 0.0, stop = 180.0, count = {count}, unit = "deg" }}',
        ]
    )


def _toml_list(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
