"""Every fault of an input file becomes one clear line that names file, field, found, expected."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from sciinv.data import load
from sciinv.errors import DataError

ANGLES = np.arange(40) * np.pi / 40
MRI = 'kind = "mri"\naxes = ["coil", "row", "column"]\n'
CT = (
    'kind = "ct"\nquantity = "{quantity}"\naxes = ["angle", "detector"]\n{more}\n'
    '[ct]\naxis_column = 15.5\nangles = {{ stop = 180, count = 40, unit = "deg" }}\n'
)


def refused(path: Path, *words: str) -> str:
    """Load, expect one line that names the file (or its side-car) and holds all words."""
    with pytest.raises(DataError) as caught:
        load(path)
    text = str(caught.value)
    assert path.stem in text
    assert "\n" not in text
    for word in words:
        assert word in text, text
    return text


def kspace(rng, shape=(2, 3, 8, 6)):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def fastmri(path, **parts):
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            file[name] = value
    return path


def dxchange(path, **changes):
    s = np.arange(32) - 15.5
    p = np.exp(-((s[None] - 3 * np.cos(ANGLES)[:, None]) ** 2) / 8)
    parts = {
        "data": (100 + 1000 * np.exp(-p))[:, None].astype(np.float32),
        "data_white": np.full((3, 1, 32), 1100, np.float32),
        "data_dark": np.full((3, 1, 32), 100, np.float32),
        "theta": np.rad2deg(ANGLES),
    }
    parts.update(changes)
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            if value is not None:
                file[f"exchange/{name}"] = value
        if parts["theta"] is not None:
            file["exchange/theta"].attrs["units"] = "deg"
    return path


def sinogram():
    s = np.arange(32) - 15.5
    return np.exp(-((s[None] - 3 * np.cos(ANGLES)[:, None]) ** 2) / 8)


def bare(path: Path, array, sidecar: str) -> Path:
    np.save(path, array)
    path.with_suffix(".toml").write_text(sidecar)
    return path


# the file itself ----------------------------------------------------------------------------------
def test_missing_file(tmp_path):
    refused(tmp_path / "no.h5", "no such file")


def test_directory(tmp_path):
    (tmp_path / "folder.h5").mkdir()
    refused(tmp_path / "folder.h5", "a folder")


def test_pipe(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.npy")
    refused(tmp_path / "pipe.npy", "pipe")


@pytest.mark.parametrize(
    "name", ["scan.h5", "scan.npy", "scan.mat", "scan.tif", "scan.npz", "scan"]
)
def test_empty_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    refused(tmp_path / name, "empty")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("scan.h5", b"angles,counts\n0,1\n", "text, not HDF5"),
        ("scan.npy", b"\x80\x04\x95 pickled", "pickle, not NumPy"),
        ("scan.mat", b"\x89PNG\r\n\x1a\n....", "a PNG picture, not MATLAB"),
        ("scan.tif", b"<html></html>", "XML or HTML text, not TIFF"),
        ("scan.npz", bytes(range(128, 256)), "unknown binary content, not NumPy"),
        ("scan.dat", bytes(range(128, 256)), "unknown binary content"),
    ],
)
def test_right_suffix_wrong_content(tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, word, "expected one of the formats", "fastmri")


@pytest.mark.parametrize("keep", [0.2, 0.7, 0.99])
def test_truncated_hdf5(tmp_path, rng, keep):
    path = fastmri(tmp_path / "scan.h5", kspace=kspace(rng))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    refused(path, "truncated")


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("name", ["scan.npy", "scan.npz", "scan.mat", "scan.tif"])
def test_truncated_arrays(tmp_path, rng, name, keep):
    path = tmp_path / name
    data = rng.standard_normal((40, 32)).astype(np.float32)
    writers = {
        "scan.npy": np.save,
        "scan.npz": np.savez_compressed,
        "scan.mat": lambda p, x: scipy.io.savemat(p, {"x": x}),
        "scan.tif": tifffile.imwrite,
    }
    writers[name](path, data)
    path.with_suffix(".toml").write_text(CT.format(quantity="line_integrals", more=""))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(12, int(len(whole) * keep))])
    with pytest.raises(DataError) as caught:
        load(path)
    assert "scan" in str(caught.value)
    assert "\n" not in str(caught.value)


# fastMRI ------------------------------------------------------------------------------------------
def test_missing_kspace(tmp_path):
    path = fastmri(
        tmp_path / "scan.h5", ismrmrd_header="<a/>", reconstruction_rss=np.ones((1, 2, 2))
    )
    refused(path, "kspace: found no such data set", "ismrmrd_header")


def test_unknown_layout(tmp_path):
    path = fastmri(tmp_path / "scan.h5", images=np.ones((2, 2)))
    refused(path, "images", "exchange/data", "side-car")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda k: k.real, ["dtype float32", "complex"]),
        (lambda k: k[0, 0], ["2 axes", "3 or 4 axes"]),
        (lambda k: np.array(["a", "b"], dtype=h5py.string_dtype()), ["dtype object", "complex"]),
    ],
)
def test_wrong_kspace(tmp_path, rng, make, words):
    refused(fastmri(tmp_path / "scan.h5", kspace=make(kspace(rng))), "kspace", *words)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1j * np.inf])
def test_not_finite_kspace(tmp_path, rng, value):
    k = kspace(rng)
    k[1, 2, 3, 4] = value
    refused(
        fastmri(tmp_path / "scan.h5", kspace=k), "kspace", "1 values NaN or Inf", "(1, 2, 3, 4)"
    )


def test_zero_kspace(tmp_path, rng):
    k = kspace(rng)
    k[1] = 0
    refused(fastmri(tmp_path / "scan.h5", kspace=k), "only zeros in slice 1")


def test_mask_of_another_length(tmp_path, rng):
    path = fastmri(tmp_path / "scan.h5", kspace=kspace(rng), mask=np.ones(7))
    refused(path, "mask: found 7 values", "expected 6")


def test_mask_of_zeros(tmp_path, rng):
    refused(fastmri(tmp_path / "scan.h5", kspace=kspace(rng), mask=np.zeros(6)), "zeros")


def test_external_link(tmp_path, rng):
    fastmri(tmp_path / "target.h5", kspace=kspace(rng))
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink(str(tmp_path / "target.h5"), "/kspace")
    refused(tmp_path / "scan.h5", "kspace", "external link")


# DXchange -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["data", "data_white", "theta"])
def test_missing_data_set(tmp_path, name):
    refused(dxchange(tmp_path / "scan.h5", **{name: None}), f"exchange/{name}", "no such data set")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"theta": np.arange(41.0) * 4.5}, ["angles: found 41", "expected 40"]),
        ({"theta": np.full(40, np.nan)}, ["angles", "NaN"]),
        ({"theta": np.zeros((40, 1))}, ["exchange/theta", "2 axes"]),
        ({"data": np.zeros((40, 32), np.float32)}, ["exchange/data", "2 axes", "3 axes"]),
        ({"data": np.full((40, 1, 32), 1100, np.float32)}, ["constant sinogram"]),
        ({"data": np.full((40, 1, 32), 90, np.float32)}, ["without counts"]),
        ({"data_white": np.full((3, 1, 31), 1100.0)}, ["data_white", "(1, 31)", "(1, 32)"]),
        ({"data_white": np.full((3, 1, 32), np.inf)}, ["data_white", "Inf"]),
        ({"data_dark": np.full((3, 1, 32), 2000.0)}, ["dark field", "2000", "below flat"]),
        ({"data_dark": np.zeros((3, 1, 32), complex)}, ["data_dark", "complex"]),
    ],
)
def test_wrong_dxchange(tmp_path, changes, words):
    refused(dxchange(tmp_path / "scan.h5", **changes), *words)


def test_nan_projection(tmp_path):
    data = np.full((40, 1, 32), 500, np.float32)
    data[7, 0, 9] = np.nan
    refused(dxchange(tmp_path / "scan.h5", data=data), "exchange/data", "(7, 0, 9)")


@pytest.mark.parametrize(
    ("unit", "theta", "word"),
    [("furlong", ANGLES, "furlong"), (None, ANGLES * 5, "without a unit")],
)
def test_angle_unit(tmp_path, unit, theta, word):
    path = dxchange(tmp_path / "scan.h5", theta=theta)
    with h5py.File(path, "a") as file:
        del file["exchange/theta"].attrs["units"]
        if unit:
            file["exchange/theta"].attrs["units"] = unit
    refused(path, "angles", word, '"deg"')


# bare arrays --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((8, 64, 48), np.complex64, 'axes = ["coil", "row", "column"]'),
        ((5, 8, 64, 48), np.complex64, 'axes = ["slice", "coil", "row", "column"]'),
        ((64, 48), np.complex64, 'axes = ["row", "column"]'),
        ((90, 128), np.float32, 'axes = ["angle", "detector"]'),
        ((3, 90, 128), np.float32, 'axes = ["slice", "angle", "detector"]'),
    ],
)
def test_no_sidecar_prints_a_template_that_works(tmp_path, rng, shape, dtype, expected):
    """The template in the message, written as it stands, reads the array."""
    path = tmp_path / "scan.npy"
    array = rng.standard_normal(shape).astype(dtype)
    np.save(path, array)
    with pytest.raises(DataError) as caught:
        load(path)
    message = str(caught.value)
    assert "side-car: a small text file" in message
    assert str(shape) in message
    assert expected in message
    text = message.split("for example\n", 1)[1]
    (tmp_path / "scan.npy.toml").write_text(text)
    scan = load(path)
    squeezed = scan.data.reshape([n for n in scan.data.shape if n > 1])
    np.testing.assert_array_equal(squeezed, array)


@pytest.mark.parametrize("name", ["scan.npy", "scan.npz"])
def test_pickled_arrays(tmp_path, name):
    path = tmp_path / name
    writer = np.save if name == "scan.npy" else np.savez
    writer(path, np.array([{"a": 1}, print], dtype=object), allow_pickle=True)
    path.with_suffix(".toml").write_text(CT.format(quantity="line_integrals", more=""))
    refused(path, "pickle")


def test_npz_bomb(tmp_path, monkeypatch):
    # a smaller limit, so that the test need not compress hundreds of megabytes
    monkeypatch.setattr("sciinv.data.files.MAX_UNBACKED_BYTES", 8 * 2**20)
    path = tmp_path / "scan.npz"
    header = tmp_path / "x.npy"
    np.save(header, np.zeros(4, np.uint8))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as stream:
            for _ in range(16):
                stream.write(bytes(2**20))
    assert path.stat().st_size < 20_000
    path.with_suffix(".toml").write_text(CT.format(quantity="line_integrals", more=""))
    refused(path, "bomb")


def test_matlab_without_numbers(tmp_path):
    path = tmp_path / "scan.mat"
    scipy.io.savemat(path, {"parameters": {"a": 1.0}, "names": np.array(["x"], dtype=object)})
    path.with_suffix(".toml").write_text(CT.format(quantity="line_integrals", more=""))
    refused(path, "parameters (struct)")
    path.with_suffix(".toml").write_text(
        CT.format(quantity="line_integrals", more='[data]\nname = "names"')
    )
    refused(path, "names", "cell")


def test_choice_and_nearest_name(tmp_path):
    path = tmp_path / "scan.npz"
    np.savez(path, sinogram=sinogram(), blank=np.ones(32))
    path.with_suffix(".toml").write_text(CT.format(quantity="line_integrals", more=""))
    refused(path, "sinogram, blank", "name")
    path.with_suffix(".toml").write_text(
        CT.format(quantity="line_integrals", more='[data]\nname = "sinograms"')
    )
    refused(path, "did you mean sinogram?")


def test_tiff_pages_of_different_shape(tmp_path):
    path = tmp_path / "scan.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(np.zeros((4, 5), np.float32))
        tif.write(np.zeros((4, 6), np.float32))
    path.with_suffix(".toml").write_text(CT.format(quantity="line_integrals", more=""))
    refused(path, "page 1", "(4, 6)", "(4, 5)")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((3, 8)), ["2 axes", "3 axes"]),
        (np.ones((3, 8, 6)), ["float64", "complex", '"part"']),
        (np.full((3, 8, 6), np.nan + 0j), ["kspace", "NaN"]),
        (np.zeros((3, 8, 6), complex), ["only zeros"]),
        (np.ones((3, 8, 1), complex), ["(8, 1)"]),
    ],
)
def test_wrong_mri_arrays(tmp_path, array, words):
    refused(bare(tmp_path / "scan.npy", array, MRI), *words)


@pytest.mark.parametrize(
    ("maps", "word"), [(np.ones((3, 8, 5), complex), "(3, 8, 5)"), (np.ones((3, 8, 6), int), "int")]
)
def test_coil_maps_of_another_size(tmp_path, rng, maps, word):
    np.save(tmp_path / "maps.npy", maps)
    path = bare(
        tmp_path / "scan.npy", kspace(rng, (3, 8, 6)), MRI + '[coil_maps]\nfile = "maps.npy"\n'
    )
    refused(path, "coil_maps", word, "(1, 3, 8, 6)")


def test_mask_of_another_shape(tmp_path, rng):
    np.save(tmp_path / "mask.npy", np.ones((6, 8)))
    path = bare(tmp_path / "scan.npy", kspace(rng, (3, 8, 6)), MRI + '[mask]\nfile = "mask.npy"\n')
    refused(path, "mask", "(6, 8)", "(8, 6)")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((40, 32)), ["constant sinogram"]),
        (np.zeros((40, 32)), ["constant sinogram"]),
        (sinogram()[:39], ["40 angles", "expected 39"]),
        (sinogram()[:, :, None], ["3 axes"]),
        (sinogram() * 1j, ["complex", "real"]),
        (np.where(sinogram() > 0.5, np.inf, sinogram()), ["data", "Inf"]),
        (sinogram()[:, :1], ["1 detector"]),
    ],
)
def test_wrong_sinograms(tmp_path, array, words):
    text = CT.format(quantity="line_integrals", more="")
    refused(bare(tmp_path / "scan.npy", array, text), *words)


@pytest.mark.parametrize(
    ("more", "blank", "words"),
    [
        ("", None, ["blank", "no such table"]),
        ('[blank]\nfile = "nothing.npy"', None, ["blank.file", "nothing.npy"]),
        ('[blank]\nfile = "/etc/hostname"', None, ["blank.file", "relative"]),
        ('[blank]\nfile = "blank.npy"', np.ones((40, 31)), ["blank, detector", "31", "32"]),
        ('[blank]\nfile = "blank.npy"', np.ones((2, 5, 32)), ["blank.axes"]),
        ('[blank]\nfile = "blank.npy"', np.full(32, np.nan), ["blank", "NaN"]),
        ('[blank]\nfile = "blank.npy"', np.zeros(32), ["dark", "below flat"]),
    ],
)
def test_wrong_blank(tmp_path, more, blank, words):
    if blank is not None:
        np.save(tmp_path / "blank.npy", blank)
    text = CT.format(quantity="counts", more=more)
    refused(bare(tmp_path / "scan.npy", 100 * np.exp(-sinogram()), text), *words)


def test_errors_are_also_value_errors(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load(tmp_path / "no.h5")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scan.npy", "scan.npz", "scan.mat", "scan.tif"])
def test_mutated_files_are_read_or_refused(tmp_path, rng, name):
    """Bytes overwritten or cut at random never end in another exception."""
    path = tmp_path / name
    writers = {
        "scan.npy": np.save,
        "scan.npz": np.savez_compressed,
        "scan.mat": lambda p, x: scipy.io.savemat(p, {"x": x}),
        "scan.tif": tifffile.imwrite,
    }
    writers[name](path, sinogram().astype(np.float32))
    path.with_suffix(".toml").write_text(CT.format(quantity="line_integrals", more=""))
    load(path)
    original = path.read_bytes()
    refusals = 0
    for _ in range(80):
        data = bytearray(original)
        for position in rng.integers(0, min(len(data), 600), size=rng.integers(1, 5)):
            data[position] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data) // 2, 2 * len(data))])
        try:
            # numbers damaged into another sign or size may overflow on the way to float32
            with np.errstate(all="ignore"):
                load(path)
        except DataError as error:
            assert "scan" in str(error)
            refusals += 1
    assert refusals
