"""What a side-car may contain: every key with the check of its value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sciinv.data.trajectory import UNITS
from sciinv.errors import DataError

__all__ = ["AXES", "KINDS", "QUANTITIES", "SCHEMA", "all_keys", "check_axes", "check_table"]

KINDS = ("mri", "ct", "diffraction")
QUANTITIES = {
    "mri": ("kspace",),
    "ct": ("line_integrals", "counts"),
    "diffraction": ("counts", "amplitude"),
}
#: Names of axes in the order into which arrays are brought.
AXES = {
    "mri": ("slice", "coil", "shot", "sample", "partition", "row", "column", "dim", "part"),
    "ct": ("slice", "angle", "detector", "frame"),
    "diffraction": ("slice", "frame", "row", "column"),
}
_DIMS = ("partition", "row", "column")


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


def _index(value: Any) -> int:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**7:
        raise ValueError("an index, counted from 0")
    return value


def _at_least_one(value: Any) -> float:  # noqa: ANN401
    try:
        number = _number(value)
    except ValueError:
        number = 0.0
    if number < 1:
        raise ValueError("a number of 1 or more")
    return number


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


def _list_or_one(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Accept a list, or one value, which becomes a list of one."""
    several = _list_of(check)

    def checked(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
        return tuple(several(value)) if isinstance(value, list) else (check(value),)

    return checked


_REF = {"file": _text, "name": _text, "axes": _list_of(_text)}
SCHEMA: dict[str, Any] = {
    "kind": _one_of(*KINDS),
    "quantity": _one_of("kspace", "line_integrals", "counts", "amplitude"),
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
        "fov": _list_of(_positive),
        "image_shape": _list_of(_count),
        "trajectory": {
            **_REF,
            "unit": _one_of(*UNITS),
            "dims": _list_of(_one_of(*_DIMS, *(f"-{name}" for name in _DIMS))),
        },
        "density": _REF,
        "field_map": _REF,
        "readout_times": _REF,
        "dwell_time": _positive,
        "echo_sample": _number,
        "shot_step": _count,
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
        "beam": _one_of("parallel", "fan"),
        "source_distance": _positive,
        "detector_distance": _positive,
        "source_detector_distance": _positive,
        "detector_offset": _number,
        "direction": _one_of("counterclockwise", "clockwise"),
        "view_step": _count,
    },
    "diffraction": {
        "background": _number,
        "oversampling": _list_or_one(_at_least_one),
        "image_shape": _list_of(_count),
        "centre": _list_of(_index),
        "frame": _index,
        "dc_first": _flag,
        "mask_marks": _one_of("good", "bad"),
        "voxel_size": _list_of(_positive, 3),
    },
    "noise": {"std": _positive},
}


def all_keys(schema: Mapping[str, Any] = SCHEMA, prefix: str = "") -> list[str]:
    """Every key of the schema, nested ones with dots."""
    keys: list[str] = []
    for key, value in schema.items():
        keys.append(prefix + key)
        if isinstance(value, Mapping):
            keys += all_keys(value, f"{prefix}{key}.")
    return keys


def check_table(
    path: Path,
    table: Mapping[str, Any],
    schema: Mapping[str, Any] = SCHEMA,
    prefix: str = "",
    kind: object = None,
) -> dict[str, Any]:
    """Check every key and value of a table and return the checked values.

    :raises DataError: an unknown key, with the nearest valid name; a value of a wrong type.
    """
    kind = table.get("kind") if not prefix else kind
    result: dict[str, Any] = {}
    for key, value in table.items():
        full = prefix + key
        if key not in schema:
            near = get_close_matches(key, schema, 1, 0.6)
            # of the same name in several tables, that of this kind of scan
            names = sorted(all_keys(SCHEMA), key=lambda name: name.startswith(f"{kind}."))
            every = {name.rsplit(".", 1)[-1]: name for name in names}
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
            result[key] = check_table(path, value, rule, f"{full}.", kind)
            continue
        try:
            result[key] = rule(value)
        except ValueError as error:
            raise DataError(path, full, found=_show(value), expected=error) from None
    return result


def _show(value: Any) -> str:  # noqa: ANN401
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def check_axes(path: Path, where: str, axes: tuple[str, ...], kind: str) -> None:
    """Refuse names of axes that this kind of scan has not, and repeated ones.

    :raises DataError: with the nearest name.
    """
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
