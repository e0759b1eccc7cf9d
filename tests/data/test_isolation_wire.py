"""Scans and errors between two processes: everything comes back, and lies are not believed."""

from __future__ import annotations

import io
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from sciinv.data import Scan
from sciinv.data.isolation_wire import (
    _ANNOTATIONS,
    _GEOMETRIES,
    MAGIC,
    MAX_HEADER,
    WireError,
    error_parts,
    read_answer,
    scan_parts,
)
from sciinv.errors import DataError, GeometryError, IncompatibleError, NumericalError, SciinvError

from .test_native import ALL, ct, diffraction, fan, mri, noncartesian  # noqa: F401  fixtures

LIMIT = 10**9


def passed(scan: Scan) -> Scan:
    return received(b"".join(scan_parts(scan)))


def received(raw: bytes, limit: int = LIMIT) -> Scan:
    return read_answer(io.BytesIO(raw).readinto, limit, Scan)


def same(a: object, b: object) -> None:
    """Equal, of the same types, field by field."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()  # NaN and -0.0 too
    elif isinstance(a, (Scan, *_GEOMETRIES.values())):
        for field in fields(a):
            same(getattr(a, field.name), getattr(b, field.name))
    else:
        assert a == b


@pytest.mark.parametrize("name", ALL)
def test_every_kind_of_scan_comes_back(request, name):
    scan = replace(request.getfixturevalue(name), oriented=True, header={"a": "b\u2028", "é": ""})
    same(passed(scan), scan)


def test_odd_values_come_back(mri):  # noqa: F811
    data = mri.data.copy()
    data[0, 0, 0, :3] = [np.nan, -0.0, np.inf]
    odd = replace(
        mri,
        data=np.asfortranarray(data)[:, ::-1, ::2],  # strided and negative steps
        source=Path(os.fsdecode(b"folder/\xff\xfe na\nme.h5")),
        notes=(os.fsdecode(b"\xff"), "", "\x1b[31m", "\U0001f9e0"),
        noise_std=float(np.nextafter(1, 2)),
        reference=np.zeros((0, 4), np.float32),
        affine=np.arange(16.0).reshape(4, 4).T,
        header={},
    )
    again = passed(odd)
    same(again.data, np.ascontiguousarray(odd.data))
    for name in ("source", "notes", "noise_std", "reference"):
        same(getattr(again, name), getattr(odd, name))
    np.testing.assert_array_equal(again.affine, odd.affine)


def test_numbers_of_numpy_and_lists_become_pythons(mri):  # noqa: F811
    geometry = replace(mri.geometry, image_shape=[np.int64(6), 5], readout_axis=np.uint8(1))
    again = passed(replace(mri, noise_std=np.float32(0.5), notes=["a"], geometry=geometry))
    same(again.noise_std, 0.5)
    same(again.notes, ("a",))
    same(again.geometry.image_shape, (6, 5))
    same(again.geometry.readout_axis, 1)


def test_the_other_byte_order_becomes_this_one(mri):  # noqa: F811
    same(passed(replace(mri, affine=np.eye(4).astype(">f8"))).affine, np.eye(4))


def test_large_strided_arrays_are_sent_in_blocks(mri, monkeypatch):  # noqa: F811
    monkeypatch.setattr("sciinv.data.isolation_wire._BLOCK", 64)
    data = np.swapaxes(mri.data, 2, 3)
    assert max(len(memoryview(p)) for p in list(scan_parts(replace(mri, data=data)))[1:8]) <= 64
    same(passed(replace(mri, data=data)).data, np.ascontiguousarray(data))


class _Other:
    pass


class _MyScan(Scan):
    pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"header": {"when": _Other()}}, ("header", "_Other")),
        ({"header": {"list": ("a", "b")}}, ("header", "tuple")),
        ({"header": {1: "a"}}, ("header", "dict")),
        ({"notes": (b"bytes",)}, ("notes", "bytes")),
        ({"notes": "text"}, ("notes", "str")),
        ({"noise_std": 1j}, ("noise_std", "complex")),
        ({"data": np.array([_Other()])}, ("data", "dtype object")),
        ({"data": np.zeros(3, "f4,f4")}, ("data", "dtype")),
        ({"data": np.array(["2020-01-01"], "M8[D]")}, ("data", "datetime")),
        ({"data": np.ones(2, np.float16)}, ("data", "float16")),
        ({"kind": "pet"}, ("kind", "str")),
        ({"geometry": _Other()}, ("geometry", "_Other")),
        ({"source": "text"}, ("source", "str")),
    ],
)
def test_what_is_not_plain_names_field_and_format(mri, change, words):  # noqa: F811
    with pytest.raises(DataError) as caught:
        passed(replace(mri, format="theirs", **change))
    for word in (str(mri.source), "'theirs'", *words) if "source" not in change else words:
        assert word in str(caught.value), caught.value


def test_subclasses_are_refused(mri):  # noqa: F811
    scan = _MyScan(**{f.name: getattr(mri, f.name) for f in fields(Scan)})
    with pytest.raises(DataError, match="_MyScan"):
        passed(scan)


def test_every_annotation_is_known():
    for kind in (Scan, *_GEOMETRIES.values()):
        for field in fields(kind):
            for part in str(field.type).split(" | "):
                assert part.partition("[")[0] in _ANNOTATIONS, f"{kind.__name__}.{field.name}"


# errors -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "error",
    [
        DataError("a.h5", "kspace", found=(1, 2), expected=3, hint="go"),
        DataError(Path(os.fsdecode(b"\xff.h5"))),
        DataError("a", found="x"),
        GeometryError("bent"),
        IncompatibleError("they do not fit"),
        NumericalError("NaN"),
        SciinvError("plain"),
    ],
)
def test_errors_come_back(error):
    with pytest.raises(type(error)) as caught:
        received(b"".join(error_parts(error)))
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    if isinstance(error, DataError):
        assert vars(caught.value) == vars(error)


def test_memory_and_other_errors():
    with pytest.raises(MemoryError):
        received(b"".join(error_parts(MemoryError("x"))))
    with pytest.raises(WireError, match="KeyError: 'a'"):
        received(b"".join(error_parts(KeyError("a"))))


# lies -------------------------------------------------------------------------------------------
def frame(said: object, after: bytes = b"") -> bytes:
    raw = json.dumps(said).encode()
    return MAGIC + len(raw).to_bytes(8, "big") + raw + after


def described(scan: Scan) -> tuple[dict, bytes]:
    raw = b"".join(scan_parts(scan))
    size = int.from_bytes(raw[8:16], "big")
    return json.loads(raw[16 : 16 + size]), raw[16 + size :]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x04" + bytes(20),
        MAGIC + (MAX_HEADER + 1).to_bytes(8, "big") + bytes(20),
        MAGIC + (4).to_bytes(8, "big") + b"nope",
        MAGIC + (9).to_bytes(8, "big") + b"\xff" * 9,
        MAGIC + (200_000).to_bytes(8, "big") + b"[" * 200_000,
        frame([]),
        frame({}),
        frame({"arrays": {}, "scan": []}),
        frame({"arrays": [], "scan": {}}),
        frame({"arrays": [], "scan": [["kind", "mri"]]}),
        frame({"arrays": [], "scan": [[["kind"], "mri"]]}),
        frame({"error": "SystemExit", "text": "x"}),
        frame({"error": "DataError", "where": ["x"]}),
        frame({"error": ["DataError"]}),
        frame({"error": "annotations", "text": "x"}),
    ],
)
def test_nonsense_is_refused(raw):
    with pytest.raises(WireError):
        received(raw)


@pytest.mark.parametrize(
    "array",
    [
        ["|O", [3]],
        ["|V8", [3]],
        ["<f4,<f4", [3]],
        ["<U4", [3]],
        [["<f4"], [3]],
        ["<f4", [-3]],
        ["<f4", [2.5]],
        ["<f4", [True]],
        ["<f4", "33"],
        ["<f4", [1] * 33],
        ["<f4", [2**40, 2**40]],
        ["<f4", [LIMIT // 4 + 1]],
        ["<f4"],
        "x",
    ],
)
def test_arrays_are_checked_before_they_are_made(mri, array, monkeypatch):  # noqa: F811
    said, data = described(mri)
    said["arrays"][0] = array

    def make(*args, **kwargs):
        raise AssertionError("an array was made")

    monkeypatch.setattr(np, "empty", make)
    with pytest.raises(WireError):
        received(frame(said, data))


def test_all_arrays_count_together(mri):  # noqa: F811
    raw = b"".join(scan_parts(mri))
    total = sum(a.nbytes for a in (mri.data, mri.coil_maps, mri.reference, mri.affine))
    total += mri.geometry.mask.nbytes
    assert received(raw, total).num_coils == 3
    with pytest.raises(WireError, match=f"{total} bytes"):
        received(raw, total - 1)


@pytest.mark.parametrize("keep", [0, 7, 16, 100, -1])
def test_an_answer_that_ends_early(mri, keep):  # noqa: F811
    raw = b"".join(scan_parts(mri))
    with pytest.raises(EOFError):
        received(raw[:keep])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "pet"),
        ("kind", None),
        ("data", None),
        ("data", {"array": 99}),
        ("data", {"array": -1}),
        ("data", {"pickle": "gASVBQ=="}),
        ("source", "x"),
        ("source", {"path": "zz"}),
        ("notes", {"tuple": [1]}),
        ("notes", {"tuple": [{"tuple": []}]}),
        ("header", {"dict": [["a", {"path": "61"}]]}),
        ("header", {"dict": [[1, "a"]]}),
        ("header", {"dict": ["abc"]}),
        ("geometry", {"Scan": []}),
        ("geometry", {"MRIGeometry": []}),
        ("geometry", {"MRIGeometry": [["image_shape", None]]}),
        ("geometry", None),
        ("oriented", "yes"),
        ("noise_std", "1"),
        ("__class__", "x"),
    ],
)
def test_fields_of_other_types_are_refused(mri, name, value):  # noqa: F811
    said, data = described(mri)
    known = dict(said["scan"])
    known[name] = value
    said["scan"] = list(known.items())
    with pytest.raises(WireError):
        received(frame(said, data))


def test_geometry_fields_are_checked(mri):  # noqa: F811
    said, data = described(mri)
    scan = dict(said["scan"])
    ((_, inner),) = scan["geometry"].items()
    for item in inner:
        if item[0] == "mask":
            item[1] = 3
    said["scan"] = list(scan.items())
    with pytest.raises(WireError, match=r"MRIGeometry\.mask"):
        received(frame(said, data))
