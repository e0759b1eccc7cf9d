"""Headers built from a dictionary: every one is understood, or refused by one line."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sciinv.data.formats.ismrmrd_header import Header, parse_header
from sciinv.data.formats.twix_lines import Measurement, read_protocol
from sciinv.data.load import load
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar, read_sidecar
from sciinv.data.sidecar_schema import SCHEMA
from sciinv.errors import DataError

CALM = settings(
    max_examples=150, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

numbers = st.one_of(
    st.integers(-3, 70), st.integers(), st.floats(), st.sampled_from([0.5, 1e-9, 1e9, 2**31, 2**64])
)
texts = st.one_of(
    st.sampled_from(["", "nan", "1e400", "0x7", "１２", "-0", "cartesian", "radial", "deg", "mri",
                     "row", "column", "coil", "../x.npy", "/etc/hostname", "scan.npy", "none"]),
    st.text(max_size=30),
)  # fmt: skip


def one_line(error: DataError, *names: str) -> None:
    text = str(error)
    assert "\n" not in text and "\r" not in text and len(text) < 2000, text
    assert any(name in text for name in names), text


# ISMRMRD ----------------------------------------------------------------------------------------
TAGS = ("encodedSpace", "reconSpace", "matrixSize", "fieldOfView_mm", "x", "y", "z", "trajectory",
        "encodingLimits", "kspace_encoding_step_1", "center", "systemVendor", "TR", "encoding",
        "acquisitionSystemInformation", "sequenceParameters", "parallelImaging",
        "relativeReceiverNoiseBandwidth")  # fmt: skip
axes = st.fixed_dictionaries({}, optional={axis: st.one_of(numbers, texts) for axis in "xyz"})
sane = st.fixed_dictionaries({axis: st.integers(1, 64) for axis in "xyz"})
spaces = st.fixed_dictionaries({}, optional={n: st.one_of(sane, axes) for n in TAGS[2:4]})
encodings = st.fixed_dictionaries(
    {}, optional={TAGS[0]: spaces, TAGS[1]: spaces, "trajectory": texts,
                  "encodingLimits": st.fixed_dictionaries({}, optional={
                      "kspace_encoding_step_1": st.fixed_dictionaries({"center": numbers})})}
)  # fmt: skip
trees = st.recursive(
    st.one_of(numbers, texts),
    lambda inner: st.dictionaries(st.sampled_from(TAGS), inner, max_size=4),
)
headers = st.one_of(
    st.fixed_dictionaries({"encoding": encodings}, optional={n: trees for n in TAGS[-3:]}),
    st.dictionaries(st.sampled_from(TAGS), trees, max_size=5),
)


def xml(tree: object) -> str:
    if isinstance(tree, dict):
        return "".join(f"<{name}>{xml(inner)}</{name}>" for name, inner in tree.items())
    return str(tree)


@CALM
@given(headers, st.sampled_from(["", "<?xml version='1.0'?>", "<!DOCTYPE x>", "\0", "\ufeff"]))
def test_ismrmrd_header(tree, before):
    text = (
        f"{before}<ismrmrdHeader xmlns='http://www.ismrm.org/ISMRMRD'>{xml(tree)}</ismrmrdHeader>"
    )
    try:
        header = parse_header(text, Path("a.h5"), "dataset/xml")
    except DataError as error:
        one_line(error, "a.h5")
        return
    assert isinstance(header, Header) and "DOCTYPE" not in before
    for encoding in header.encodings:
        assert all(1 <= n < 1e6 for n in (*encoding.matrix, *encoding.recon_matrix))
        assert all(0 < n < 1e6 for n in (*encoding.fov, *encoding.recon_fov))


# Siemens ----------------------------------------------------------------------------------------
ENTRIES = ("sKSpace.lBaseResolution", "sKSpace.ucTrajectory", "alTR[0]", "alTE[0]", "tPatientName",
           "sSliceArray.asSlice[0].dThickness", "sProtConsistencyInfo.flNominalB0")  # fmt: skip


@CALM
@given(st.lists(st.tuples(st.sampled_from(ENTRIES), st.one_of(numbers, texts)), max_size=8))
def test_siemens_protocol(tmp_path, entries):
    text = "### ASCCONV BEGIN ###\n" + "".join(f"{k} = {v}\n" for k, v in entries)
    content = (text + "### ASCCONV END ###\n").encode("utf-8", "replace")
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    try:
        protocol = read_protocol(path, Measurement(0, len(content), len(content), True))
    except DataError as error:
        one_line(error, "a.dat")
        return
    assert all(np.isfinite(value) for value in protocol.values.values())
    assert "tPatientName" not in protocol.values


# side-cars --------------------------------------------------------------------------------------
def words(schema: object) -> list[str]:
    """All keys of a schema, of whatever depth."""
    if not isinstance(schema, dict):
        return []
    return [word for key, inner in schema.items() for word in (key, *words(inner))]


values = st.recursive(
    st.one_of(numbers, texts, st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(sorted(set(words(SCHEMA)))), inner, max_size=4),
    ),
    max_leaves=6,
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value) if np.isfinite(value) else str(value)
    return json.dumps(value, ensure_ascii=True).replace("\\ud", "\\u0")


sidecars = st.fixed_dictionaries(
    {"kind": st.sampled_from(["mri", "ct", "diffraction"])},
    optional={key: values for key in SCHEMA if key != "kind"},
)


@CALM
@given(sidecars)
def test_sidecar(tmp_path, table):
    path = tmp_path / "scan.toml"
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in table.items()))
    try:
        side = read_sidecar(path)
    except DataError as error:
        one_line(error, "scan.toml")
        return
    assert isinstance(side, Sidecar) and side.kind == table["kind"]


# arrays -----------------------------------------------------------------------------------------
SIDE = 'kind = "mri"\nquantity = "kspace"\naxes = ["coil", "row", "column"]\n'
dtypes = st.sampled_from(["<c8", ">c16", "|O", "<f4", "|S4", "<U2", "|V8", "<M8[s]", [("a", "<f4")],
                          "x", "", "<c8x", 7, None])  # fmt: skip
npy_headers = st.fixed_dictionaries(
    {"descr": dtypes, "fortran_order": st.sampled_from([True, False, 1, None, "no"])},
    optional={"shape": st.one_of(st.just((2, 3, 4)), st.lists(numbers, max_size=4).map(tuple)),
              "other": numbers},
)  # fmt: skip


@CALM
@given(npy_headers, st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 9)]), st.integers(0, 200))
def test_npy_header(tmp_path, header, version, size):
    text = repr(header).encode("utf-8") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    data = np.arange(1, 49, dtype="<f4").tobytes() + bytes(size)
    path = tmp_path / "scan.npy"
    path.write_bytes(b"\x93NUMPY" + bytes(version) + length + text + data[: 192 + size])
    (tmp_path / "scan.toml").write_text(SIDE)
    try:
        scan = load(path)
    except DataError as error:
        one_line(error, "scan.npy", "scan.toml")
        return
    assert isinstance(scan, Scan) and scan.data.shape[2:] == scan.image_shape


@CALM
@given(st.lists(st.one_of(numbers, texts), max_size=18), texts)
def test_cfl_header(tmp_path, dimensions, after):
    head = "# Dimensions\n" + " ".join(map(str, dimensions)) + f"\n{after}\n"
    (tmp_path / "scan.hdr").write_text(head, encoding="utf-8", errors="replace")
    (tmp_path / "scan.cfl").write_bytes(np.ones(12, "<c8").tobytes())
    try:
        scan = load(tmp_path / "scan.cfl")
    except DataError as error:
        one_line(error, "scan.hdr", "scan.cfl")
        return
    assert scan.data.size == 12


# priors -----------------------------------------------------------------------------------------
fields = ("format", "sciinv_version", "architecture", "channels", "sigma_min", "sigma_max",
          "sigma_data", "card")  # fmt: skip
GOOD = {"format": "edm-unet/1", "sciinv_version": "0.1", "channels": 2, "sigma_min": 0.01,
        "sigma_max": 3.0, "sigma_data": 0.5, "card": {},
        "architecture": {"channels": 2, "widths": [2, 2], "blocks": 1, "features": 2}}  # fmt: skip
loose = st.recursive(
    st.one_of(numbers, texts, st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["channels", "widths", "blocks", "features", "patch", "x"]), inner
        ),
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("key", fields)
@settings(CALM, max_examples=25)
@given(value=loose)
def test_prior_metadata(tmp_path, key, value):
    from sciinv.priors.store import load as load_prior

    text = json.dumps({"__metadata__": {"sciinv": json.dumps({**GOOD, key: value})}}).encode()
    path = tmp_path / "toy.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(DataError) as caught:  # there are no weights
        load_prior(path)
    one_line(caught.value, "toy.safetensors")
