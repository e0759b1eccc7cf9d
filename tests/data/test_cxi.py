"""CXI: patterns, bit masks, pixel sizes in SI units; what is no diffraction pattern is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sciinv.data import DiffractionGeometry, load

from .bare_files import noted, refused

ROWS, COLUMNS = 24, 32
JOULE = 1.602176634e-19 * 8000  # 8 keV
WAVELENGTH = 1.54980e-10  # m, of 8 keV
DISTANCE, WIDTH, HEIGHT = 1.2, 55e-6, 75e-6


@pytest.fixture
def path(tmp_path):
    # content decides
    return tmp_path / "scan.dat"


def letter_f() -> np.ndarray:
    image = np.zeros((ROWS // 2, COLUMNS // 2), complex)
    image[2:10, 4] = 1
    image[2, 4:11] = 1
    image[6, 4:8] = 1
    image[10, 13] = 2  # positive, so that the zero frequency is the brightest
    return image


def far_field(image: np.ndarray, shape=(ROWS, COLUMNS)) -> np.ndarray:
    """Intensity of the Fourier transform of the object, centred in a grid of this shape."""
    grid = np.zeros(shape, complex)
    rows, columns = (
        slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(shape, image.shape, strict=True)
    )
    grid[rows, columns] = image
    field = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(grid), norm="ortho"))
    return 1e4 * np.abs(field) ** 2


PATTERN = np.random.default_rng(3).poisson(far_field(letter_f())).astype(np.uint16)
# a mask of such a file has many pixels that are good and were treated
TREATED = 32 | 2048 | 16384


def write(path: Path, data: Any = PATTERN, **changes: Any) -> Path:
    """Write one entry; a change of ``None`` leaves a data set out, ``__`` stands for ``/``."""
    detector = "entry_1/instrument_1/detector_1"
    content: dict[str, Any] = {
        "cxi_version": 160,
        "number_of_entries": 1,
        f"{detector}/data": data,
        f"{detector}/distance": DISTANCE,
        f"{detector}/x_pixel_size": WIDTH,
        f"{detector}/y_pixel_size": HEIGHT,
        "entry_1/instrument_1/source_1/energy": JOULE,
        "entry_1/data_1/data": h5py.SoftLink(f"/{detector}/data"),
        "entry_1/title": "CANARY",
        "entry_1/sample_1/name": "CANARY",
        "entry_1/start_time": "CANARY",
    }
    for name, value in changes.items():
        content[name.replace("__", "/").replace("DETECTOR", detector)] = value
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if value is not None:
                file[name] = value
    return path


def test_a_pattern_and_its_pixel_size(path):
    scan = load(write(path))
    g = scan.geometry
    assert isinstance(g, DiffractionGeometry)
    assert (scan.kind, scan.format, scan.units) == ("diffraction", "cxi", "sqrt(counts)")
    np.testing.assert_array_equal(scan.data, PATTERN[None])
    rows = 1e3 * WAVELENGTH * DISTANCE / (ROWS * HEIGHT)
    columns = 1e3 * WAVELENGTH * DISTANCE / (COLUMNS * WIDTH)
    assert g.pixel_size[1:] == pytest.approx((rows, columns), rel=1e-4)
    assert noted(scan, "oversampling is not stated")
    assert not noted(scan, "pixel size")
    assert "CANARY" not in repr((scan.header, scan.notes))
    step = scan.affine @ [1, 1, 0, 0]
    np.testing.assert_allclose(np.abs(step[:2]), [columns, rows], rtol=1e-4)


def test_the_operator_of_the_file_predicts_its_counts(path):
    """The letter and its marked voxel, through reader and operator: no axis is turned."""
    import torch

    from sciinv.operators import FourierPhaseRetrieval

    scan = load(write(path))
    g = scan.geometry
    assert g.image_shape == letter_f().shape
    physics = FourierPhaseRetrieval(g.image_shape, pattern_shape=g.pattern_shape)
    image = letter_f()
    x = torch.as_tensor(np.stack([image.real, image.imag])[None], dtype=torch.float32)
    predicted = 1e4 * physics(x)[0, 0].numpy() ** 2
    error = (predicted - scan.data[0]) / np.sqrt(np.maximum(predicted, 1))
    assert np.sqrt(np.mean(error**2)) == pytest.approx(1, abs=0.1)
    turned = (predicted[::-1] - scan.data[0]) / np.sqrt(np.maximum(predicted[::-1], 1))
    assert np.sqrt(np.mean(turned**2)) > 5


def test_wavelength_instead_of_energy_and_electron_volts(path):
    usual = load(write(path)).geometry.pixel_size
    write(path, entry_1__instrument_1__source_1__energy=None,
          entry_1__instrument_1__source_1__wavelength=WAVELENGTH)  # fmt: skip
    assert load(path).geometry.pixel_size == pytest.approx(usual, rel=1e-4)
    write(path, entry_1__instrument_1__source_1__energy=8000.0)
    scan = load(path)
    assert scan.geometry.pixel_size == pytest.approx(usual, rel=1e-4)
    assert noted(scan, "electron volts")


@pytest.mark.parametrize("name", ["DETECTOR__distance", "DETECTOR__x_pixel_size"])
def test_without_a_length_it_is_in_pixels(path, name):
    scan = load(write(path, **{name: None}))
    assert scan.units == "sqrt(counts)/pixel"
    assert scan.geometry.pixel_size == (1.0, 1.0, 1.0)


def test_bits_of_the_mask(path):
    mask = np.full((ROWS, COLUMNS), TREATED, np.uint32)
    data = PATTERN.astype(np.int32)
    for number, bit in enumerate((1, 2, 4, 8, 16, 64, 128, 256, 512, 1024, 4096)):
        mask[3, number] |= bit
        data[3, number] = -1
    scan = load(write(path, data, DETECTOR__mask=mask))
    expected = np.ones((1, ROWS, COLUMNS), bool)
    expected[0, 3, :11] = False
    np.testing.assert_array_equal(scan.valid, expected)
    assert not scan.data[~expected].any()
    assert noted(scan, "11 of 768 pixels are masked")
    # a mask without a bad bit is none
    assert load(write(path, DETECTOR__mask=np.full((ROWS, COLUMNS), TREATED))).valid is None


def test_patterns_are_slices(path):
    data = np.stack([PATTERN, 2 * PATTERN, PATTERN])
    mask = np.zeros(data.shape, np.uint16)
    mask[1, 0, 0] = 512
    shared = np.zeros((ROWS, COLUMNS), np.uint16)
    shared[0, 1] = 1
    scan = load(write(path, data, DETECTOR__mask=mask, DETECTOR__mask_shared=shared))
    np.testing.assert_array_equal(scan.data[2, 1:], PATTERN[1:])
    assert (~scan.valid).sum() == 4
    assert noted(scan, "3 patterns", "of its own")


def test_a_pattern_whose_centre_is_elsewhere(path):
    """Cropped around the centre; the object's pixel grows with it."""
    shape = (ROWS, COLUMNS)
    data = far_field(letter_f(), shape)
    moved = np.zeros((ROWS + 3, COLUMNS + 2))
    moved[3:, :COLUMNS] = data
    scan = load(write(path, moved))
    assert scan.data.shape[1:] != moved.shape
    rows = 1e3 * WAVELENGTH * DISTANCE / (scan.data.shape[1] * HEIGHT)
    assert scan.geometry.pixel_size[1] == pytest.approx(rows, rel=1e-4)


def test_an_image_group_with_intensities(path):
    """Patterns that were put together lie in image groups, as the bank has many."""
    shifted = np.fft.ifftshift(PATTERN)
    content = {
        "DETECTOR__data": None, "entry_1__data_1__data": None,
        "entry_1__image_1__data": shifted, "entry_1__image_1__is_fft_shifted": 1,
        "entry_1__image_1__data_type": "intensity",
        "entry_1__image_1__data_space": "diffraction",
    }  # fmt: skip
    scan = load(write(path, **content))
    np.testing.assert_array_equal(scan.data[0], PATTERN)
    assert scan.units == "sqrt(counts)"
    content |= {
        "entry_1__image_1__data": np.sqrt(PATTERN), "entry_1__image_1__is_fft_shifted": None,
        "entry_1__image_1__data_type": "unphased amplitude",
        "entry_1__image_1__image_center": [COLUMNS // 2, ROWS // 2, 0],
    }  # fmt: skip
    np.testing.assert_allclose(load(write(path, **content)).data[0], PATTERN, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "space"), [("electron density", "real"), ("phased amplitude", None), (None, "real")]
)
def test_reconstructed_images_are_refused(path, kind, space):
    refused(
        write(path, DETECTOR__data=None, entry_1__data_1__data=None, entry_1__image_1__data=PATTERN,
              entry_1__image_1__data_type=kind, entry_1__image_1__data_space=space),
        "image_1", "reconstructed already",
    )  # fmt: skip


def test_ptychography_is_refused(path):
    positions = np.zeros((4, 3))
    positions[:, 0] = np.arange(4) * 1e-6
    stack = np.stack([PATTERN] * 4)
    write(path, stack, entry_1__sample_1__geometry_1__translation=positions)
    refused(path, "ptychography scan of 4 positions", "side-car")
    write(path, stack, entry_1__sample_1__geometry_1__translation=0 * positions)
    assert load(path).num_slices == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"DETECTOR__data": None}, ["detector_1/data", "no such data set"]),
        ({"DETECTOR__data": np.ones((2, 4, 8, 8), np.uint16)}, ["4 modules"]),
        ({"DETECTOR__data": PATTERN + 0j}, ["complex128"]),
        ({"DETECTOR__data": PATTERN.astype(int) - 1}, ["negative"]),
        ({"DETECTOR__data": np.zeros((8, 8), np.uint16)}, ["no count"]),
        ({"DETECTOR__mask": np.zeros((4, 4), np.uint16)}, ["mask", "(4, 4)"]),
        ({"DETECTOR__mask": np.ones((ROWS, COLUMNS), np.uint16)}, ["mask", "no pixel"]),
        ({"entry_1__instrument_1__source_1__energy": 1e9}, ["energy", "joule"]),
        ({"entry_1__instrument_1__source_1__energy": None,
          "entry_1__instrument_1__source_1__wavelength": 1.5}, ["wavelength", "metres"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(path, changes, words):
    refused(write(path, **changes), *words)


def test_side_cars(path):
    write(path, np.stack([PATTERN] * 5))
    side = path.with_suffix(".toml")
    side.write_text('kind = "diffraction"\n[diffraction]\noversampling = 1.5\nbackground = 3\n')
    scan = load(path)
    assert scan.geometry.image_shape == (16, 21)
    assert noted(scan, "background")
    # with axes it is HDF5 like any other: here one three-dimensional pattern
    side.write_text(
        'kind = "diffraction"\nquantity = "counts"\naxes = ["frame", "row", "column"]\n'
        '[data]\nname = "entry_1/instrument_1/detector_1/data"\n'
        "[diffraction]\ncentre = [2, 12, 16]\n"
    )
    scan = load(path)
    assert (scan.format, scan.geometry.pattern_shape[1:]) == ("hdf5", (ROWS, COLUMNS))


@pytest.mark.data
def test_the_real_ptychography_scan(real_data, path):
    """Refused as a whole; with its positions left out its patterns and geometry are read."""
    source = real_data / "phase_nearfield_ptycho_petra.cxi"
    refused(source, "ptychography scan of 200 positions")
    with h5py.File(source) as file, h5py.File(path, "w") as copy:
        file.copy("entry_1", copy)
        file.copy("cxi_version", copy)
        del copy["entry_1/sample_1"]
        data = file["entry_1/instrument_1/detector_1/data"][()]
        bad = int((file["entry_1/instrument_1/detector_1/mask"][()] != 0).sum())
    path.with_suffix(".toml").write_text('kind = "diffraction"\n[diffraction]\ncentre = [50, 50]\n')
    scan = load(path)
    np.testing.assert_array_equal(scan.data[7][scan.valid[7]] if bad else scan.data[7],
                                  data[7][scan.valid[7]] if bad else data[7])  # fmt: skip
    expected = 1e3 * 9.795e-11 * 1.12 / (100 * 55e-6)
    assert scan.geometry.pixel_size[1:] == pytest.approx((expected, expected), rel=1e-3)
