"""Siemens raw files: lines written with twixtools, the protocol by hand; all refusals by name."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv.data import load
from sciinv.operators import CartesianMRI

from .bare_files import noted, refused
from .test_bart import kspace, letter

twixtools = pytest.importorskip("twixtools")
from twixtools.mdb import Mdb_local  # noqa: E402

ROWS, BASE, COILS = 16, 14, 2
PLANTED = "PLANTED^NAME"
# scalar first; columns of its matrix are phase (+y), readout (-x), slice (+z) in LPS: "A >> P"
AXIAL = (0.5**0.5, 0.0, 0.0, 0.5**0.5)
PROTOCOL = {
    "sKSpace.lBaseResolution": BASE,
    "sKSpace.lPhaseEncodingLines": ROWS,
    "sKSpace.lPartitions": 5,
    "sKSpace.ucDimension": 2,
    "sKSpace.ucTrajectory": "0x1",
    "sSliceArray.asSlice[0].dThickness": 4.0,
    "sSliceArray.asSlice[0].dPhaseFOV": 32.0,
    "sSliceArray.asSlice[0].dReadoutFOV": 21.0,
    "sProtConsistencyInfo.flNominalB0": 2.89,
    "alTR[0]": 10000,
    "tReferenceImage0": f'"{PLANTED}"',
}


def line(
    samples, lin, *, flags=(), centre=(BASE, ROWS // 2, 2), position=(1.0, 2.0, 3.0), **counters
):
    mdb = Mdb_local(np.asarray(samples, np.complex64))
    mdb.mdh.CenterCol, mdb.mdh.CenterLin, mdb.mdh.CenterPar = centre
    mdb.mdh.Counter.Lin = lin
    for name, value in counters.items():
        setattr(mdb.mdh.Counter, name, value)
    data = mdb.mdh.SliceData
    data.SlicePos.Sag, data.SlicePos.Cor, data.SlicePos.Tra = position
    for k, value in enumerate(AXIAL):
        data.Quaternion[k] = value
    for flag in flags:
        mdb.add_flag(flag)
    return mdb


def measurement(lines, **changes):
    text = "### ASCCONV BEGIN object=a version=1 ###\n"
    values = PROTOCOL | {key.replace("__", "."): value for key, value in changes.items()}
    text += "".join(f"{key}\t = \t{value}\n" for key, value in values.items())
    text += "### ASCCONV END ###\n"
    body = b"MeasYaps\0" + struct.pack("<I", len(text)) + text.encode()
    body += b"\0" * (-(len(body) + 8) % 32)
    header = struct.pack("<II", len(body) + 8, 1) + body
    return {"hdr_str": np.frombuffer(header, "S1"), "mdb": list(lines)}


def write(folder: Path, *measurements) -> Path:
    path = folder / "meas.dat"
    path.unlink(missing_ok=True)
    twixtools.write_twix(list(measurements), str(path))
    raw = bytearray(path.read_bytes())
    raw[32 : 32 + len(PLANTED)] = PLANTED.encode()  # the patient's name in the first entry
    path.write_bytes(raw)
    return path


def oversampled(image) -> np.ndarray:
    """k-space of an image in a readout field of view twice as wide, both centres at ``n // 2``."""
    wide = np.zeros((image.shape[0], 2 * image.shape[1]), complex)
    start = image.shape[1] - image.shape[1] // 2
    wide[:, start : start + image.shape[1]] = image
    return kspace(wide)


def coils(image) -> np.ndarray:
    return np.stack([oversampled(image), oversampled(image * (0.5 - 1j))])


def lines_of(image, **more):
    k = coils(image)
    return [line(k[:, row], row, **more) for row in range(ROWS)]


IMAGE = letter((ROWS, BASE))


def test_letter_through_reader_operator_and_affine(tmp_path):
    scan = load(write(tmp_path, measurement(lines_of(IMAGE))))
    assert (scan.format, scan.data.shape) == ("twix", (1, COILS, ROWS, BASE))
    assert noted(scan, "oversampling removed: 28 to 14")
    assert (scan.geometry.readout_axis, scan.geometry.voxel_size) == (1, (4.0, 2.0, 1.5))
    assert scan.geometry.mask.all()
    maps = torch.ones(COILS, ROWS, BASE, dtype=torch.complex64)
    maps[1] = 0.5 - 1j
    y = torch.view_as_real(torch.from_numpy(scan.data)).movedim(-1, 1)
    got = CartesianMRI((ROWS, BASE), coil_maps=maps).A_adjoint(y)[0, 0].numpy() / 2.25
    np.testing.assert_allclose(got, IMAGE, atol=1e-5)
    # the centre of the slice is at LPS (1, 2, 3); the image axes run against the header's
    # directions, phase +y and readout -x: rows to anterior, columns to the left
    assert scan.oriented
    marked = np.unravel_index(np.argmax(got), got.shape)
    assert marked == (ROWS - 5, 4)
    lps = np.array([1 + (4 - 7) * 1.5, 2 - (ROWS - 5 - 8) * 2.0, 3.0])
    np.testing.assert_allclose(
        scan.affine @ [*marked, 0, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-5
    )
    assert not noted(scan, "orientation")


def test_no_name_is_kept(tmp_path):
    path = write(tmp_path, measurement(lines_of(IMAGE)))
    assert path.read_bytes().count(PLANTED.encode()) == 2
    scan = load(path)
    assert PLANTED not in repr(scan)
    assert scan.header == {"vendor": "Siemens", "field strength (T)": "2.89", "TR (ms)": "10"}


def test_last_measurement_and_other_lines(tmp_path, rng):
    noise = rng.standard_normal((COILS, 28, 2)) @ [1, 1j]
    extra = [
        line(noise, 0, flags=["PATREFSCAN"]),
        line(noise, 0, flags=["PHASCOR"]),
        line(noise, 0, flags=["RTFEEDBACK"]),
    ]
    first = measurement([line(noise, row) for row in range(ROWS)])
    scan = load(write(tmp_path, first, measurement(extra + lines_of(IMAGE))))
    alone = load(write(tmp_path, measurement(lines_of(IMAGE))))
    np.testing.assert_array_equal(scan.data, alone.data)
    assert noted(scan, "last of 2 measurements")
    assert noted(scan, "1 separate reference lines") and noted(scan, "PHASCOR")


def test_slices_are_sorted_by_position(tmp_path):
    lines = []
    for counter, z in enumerate((10.0, 30.0, 0.0, 20.0)):
        lines += lines_of(IMAGE * (1 + z), Sli=counter, position=(0.0, 0.0, z))
    scan = load(write(tmp_path, measurement(lines)))
    size = np.abs(scan.data).max(axis=(1, 2, 3))
    np.testing.assert_allclose(size / size[0], [1, 11, 21, 31], rtol=1e-5)
    assert scan.geometry.voxel_size[0] == pytest.approx(10.0)
    np.testing.assert_allclose(scan.affine @ [8, 7, 3, 1], [0, 0, 30, 1], atol=1e-4)


def test_averages_and_first_of_series(tmp_path):
    lines = lines_of(IMAGE, Ave=0) + lines_of(3 * IMAGE, Ave=1)
    for name in ("Eco", "Phs", "Rep", "Set"):
        lines += lines_of(100 * IMAGE, **{name: 2})
    scan = load(write(tmp_path, measurement(lines)))
    alone = load(write(tmp_path, measurement(lines_of(2 * IMAGE))))
    np.testing.assert_allclose(scan.data, alone.data, atol=1e-5)
    for word in ("echo", "phase", "repetition", "set"):
        assert noted(scan, f"first {word} of 2")
    assert noted(scan, "measured 2 times are averaged")


def test_partial_fourier_and_zero_filling(tmp_path):
    # the scanner counts from the first line that it measures: five are left out at the start, and
    # two more are filled with zeros at the end of a finer matrix
    k = coils(IMAGE)
    lines = [line(k[:, row], row - 5, centre=(BASE, 3, 0)) for row in range(5, ROWS)]
    scan = load(write(tmp_path, measurement(lines, sKSpace__lPhaseEncodingLines=ROWS + 2)))
    full = load(write(tmp_path, measurement(lines_of(IMAGE))))
    assert scan.data.shape[2:] == (ROWS + 2, BASE)
    measured = np.zeros(ROWS + 2, bool)
    measured[6 : ROWS + 1] = True
    np.testing.assert_array_equal(scan.geometry.mask, np.tile(measured[:, None], (1, BASE)))
    np.testing.assert_allclose(scan.data[..., 6 : ROWS + 1, :], full.data[..., 5:, :], atol=1e-6)
    assert scan.geometry.voxel_size[1] == pytest.approx(32 / 18)


def test_asymmetric_echo_keeps_its_oversampling(tmp_path):
    k = coils(IMAGE)
    lines = [line(k[:, row, 6:], row, centre=(BASE - 6, ROWS // 2, 0)) for row in range(ROWS)]
    scan = load(write(tmp_path, measurement(lines)))
    np.testing.assert_allclose(scan.data[0, :, :, 6:], k[:, :, 6:], atol=1e-5)
    assert not scan.geometry.mask[:, :6].any() and scan.geometry.mask[:, 6:].all()
    assert noted(scan, "asymmetric echo")
    assert scan.geometry.voxel_size[2] == pytest.approx(1.5)


def test_volume(tmp_path):
    block = np.stack([oversampled(IMAGE * (1 + k)) for k in range(5)])
    data = kspace(block, (0,))
    lines = [line(np.stack([data[p, r]] * 2), r, Par=p) for p in range(5) for r in range(ROWS)]
    scan = load(write(tmp_path, measurement(lines)))
    assert (scan.image_shape, scan.geometry.readout_axis) == ((5, ROWS, BASE), 2)
    assert scan.geometry.voxel_size[0] == pytest.approx(0.8)
    np.testing.assert_allclose(scan.affine @ [8, 7, 2, 1], [-1, -2, 3, 1], atol=1e-5)
    # partitions run against the header's slice direction, +z
    np.testing.assert_allclose(scan.affine[:3, 2], [0, 0, -0.8], atol=1e-6)


def test_noise_scan_whitens_the_coils(tmp_path, rng):
    mix = np.array([[2.0, 0.0], [0.7 + 0.2j, 0.5]])
    noise = mix @ (rng.standard_normal((2, 4000, 2)) @ [1, 1j])
    adjust = [line(part, 0, flags=["NOISEADJSCAN"]) for part in np.split(noise, 4, axis=1)]
    k = coils(IMAGE)
    k += 0.01 * np.einsum("cd,drs->crs", mix, rng.standard_normal((2, ROWS, 28, 2)) @ [1, 1j])
    lines = [line(k[:, row], row) for row in range(ROWS)]
    scan = load(write(tmp_path, measurement(adjust + lines)))
    plain = load(write(tmp_path, measurement(lines)))
    matrix = scan.data[0].reshape(2, -1) @ np.linalg.pinv(plain.data[0].reshape(2, -1))
    after = matrix @ mix @ mix.conj().T @ matrix.conj().T
    # standard error of a covariance of 4000 samples: 1.6 %
    np.testing.assert_allclose(after / after[0, 0].real, np.eye(2), atol=0.08)
    assert after[0, 0].real == pytest.approx(np.trace(mix @ mix.conj().T).real / 2, rel=0.08)
    assert noted(scan, "noise scan", "4000 samples")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["REFLECT"], ("REFLECT", "1 of 17 lines read backwards", "1 navigators", "EPI")),
        (["SLICE_ACCEL_REFSCAN"], ("SLICE_ACCEL_REFSCAN", "multi-slice")),
        (["FIRST_SCAN_IN_BLADE"], ("BLADE",)),
    ],
)
def test_lines_that_need_more_are_refused_by_name(tmp_path, flags, words):
    more = [line(np.ones((2, 28)), 0, flags=flags), line(np.ones((2, 28)), 0, flags=["PHASCOR"])]
    refused(write(tmp_path, measurement(lines_of(IMAGE) + more)), *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sKSpace__ucTrajectory": 2}, ("ucTrajectory", "radial", "Cartesian")),
        ({"sKSpace__lBaseResolution": 4}, ("readout", "28 samples", "at most 8")),
        ({"sKSpace__lBaseResolution": 0}, ("lBaseResolution", "0")),
        (
            {"sKSpace__lPhaseEncodingLines": 65000, "sKSpace__lBaseResolution": 60000},
            ("kspace", "bytes declared"),
        ),
        ({"sKSpace__lPhaseEncodingLines": "1e999"}, ("lPhaseEncodingLines", "1e999")),
        ({"sSliceArray.asSlice[0].dPhaseFOV": -1}, ("dPhaseFOV", "-1")),
    ],
)
def test_protocols_that_cannot_be(tmp_path, changes, words):
    refused(write(tmp_path, measurement(lines_of(IMAGE), **changes)), "meas.dat", *words)


def test_truncated_damaged_and_empty(tmp_path):
    path = write(tmp_path, measurement(lines_of(IMAGE)))
    whole = path.read_bytes()
    for size in (len(whole) - 1200, 12000):
        path.write_bytes(whole[:size])
        refused(path, "meas.dat", "truncated")
    refused(write(tmp_path, measurement([line(np.ones((2, 28)), 0, flags=["NOISEADJSCAN"])])),
            "none of an image")  # fmt: skip
    mixed = [*lines_of(IMAGE), line(np.ones((2, 20)), 1)]
    refused(write(tmp_path, measurement(mixed)), "samples of a line", "2 different")


def test_without_the_package(tmp_path, monkeypatch):
    path = write(tmp_path, measurement(lines_of(IMAGE)))
    monkeypatch.setitem(sys.modules, "twixtools", None)
    monkeypatch.setitem(sys.modules, "twixtools.mdb", None)
    refused(path, "twixtools", "extra twix")


@pytest.mark.data
def test_real_phantom(real_data, capfd):
    scan = load(real_data / "mri_phantom2ch_gre_siemens.dat")
    assert capfd.readouterr().out == ""
    assert (scan.data.shape, scan.geometry.voxel_size) == ((1, 2, 160, 160), (4.0, 1.25, 1.25))
    assert scan.header["field strength (T)"] == "2.89362"
    # the slice's position in the header, LPS (-2.59, 53.92, -54.00), at the Fourier centre
    np.testing.assert_allclose(scan.affine @ [80, 80, 0, 1], [2.58970, -53.92243, -53.99947, 1],
                               atol=1e-4)  # fmt: skip
    # normal of the protocol: (0, 0.0384, 0.9993) in LPS
    np.testing.assert_allclose(scan.affine[:3, 2] / 4, [0, -0.03839, 0.99926], atol=1e-4)
    # gravity knows which way is up: the table is posterior, so air above liquid is anterior,
    # and its surface is level although the inserts of the phantom are tilted by 3 degrees
    image = np.fft.ifft2(np.fft.ifftshift(scan.data[0], axes=(1, 2)))
    image = np.sqrt((np.abs(np.fft.fftshift(image, axes=(1, 2))) ** 2).sum(0))
    bright = image > 0.4 * np.median(image[100:140, 90:110])
    lowest = [np.flatnonzero(bright[:, c]).max() for c in (48, 54, 60, 100, 106, 112)]
    assert max(lowest) - min(lowest) <= 2 and min(lowest) > 140
    assert scan.affine[1, 0] > 1.2  # rows run to anterior (+y of RAS)
