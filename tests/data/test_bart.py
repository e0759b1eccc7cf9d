"""BART pairs, written by hand: dimensions as text, complex floats, first axis fastest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sciinv.data import NonCartesianGeometry, load
from sciinv.errors import DataError
from sciinv.operators import CartesianMRI

from .bare_files import noted, refused


def write_pair(stem: Path, array, dims: int = 16) -> Path:
    """Write ``stem.hdr`` and ``stem.cfl``."""
    array = np.asarray(array)
    shape = [*array.shape, *[1] * (dims - array.ndim)]
    stem.with_suffix(".hdr").write_text(
        "# Dimensions\n" + " ".join(map(str, shape)) + " \n# Command\nfft -u 7 a b\n"
    )
    pairs = np.stack([array.real, array.imag]).astype("<f4")
    stem.with_suffix(".cfl").write_bytes(pairs.tobytes(order="F"))
    return stem.with_suffix(".cfl")


def letter(shape: tuple[int, int]) -> np.ndarray:
    """An F, upright and not mirrored, with one voxel that is brighter than all."""
    image = np.zeros(shape)
    rows, columns = shape
    image[3 : rows - 4, 3:5] = 1
    image[3:5, 3 : columns - 4] = 1
    image[7:9, 3 : columns - 6] = 1
    image[rows - 5, 4] = 5
    return image


def kspace(images: np.ndarray, axes: tuple[int, ...] = (0, 1)) -> np.ndarray:
    """The centred unitary transform, from its definition: a sum over exponentials about n // 2."""
    for axis in axes:
        n = images.shape[axis]
        index = np.arange(n) - n // 2
        matrix = np.exp(-2j * np.pi * np.outer(index, index) / n) / np.sqrt(n)
        images = np.moveaxis(np.tensordot(matrix, images, (1, axis)), 0, axis)
    return images


@pytest.fixture
def maps(rng):
    value = rng.standard_normal((2, 16, 15, 3)) @ np.ones(3)
    return np.moveaxis(value, 0, -1) * (1 + 0.5j)  # (READ, PHS1, COIL)


@pytest.mark.parametrize("name", ["scan.cfl", "scan.hdr", "scan"])
def test_letter_through_reader_and_operator(tmp_path, maps, name):
    image = letter((16, 15))
    data = kspace(image[..., None] * maps)
    write_pair(tmp_path / "scan", data[:, :, None, :])
    scan = load(tmp_path / name)
    assert (scan.format, scan.data.shape, scan.name) == ("bart", (1, 2, 16, 15), "scan")
    assert scan.geometry.readout_axis == 0
    physics = CartesianMRI(
        (16, 15), coil_maps=torch.from_numpy(np.moveaxis(maps, -1, 0).astype(np.complex64))
    )
    back = physics.A_adjoint(torch.view_as_real(torch.from_numpy(scan.data)).movedim(-1, 1))
    got = back[0, 0].numpy() / (np.abs(maps) ** 2).sum(-1)
    assert np.unravel_index(np.argmax(got), got.shape) == (11, 4)
    np.testing.assert_allclose(got, image, atol=2e-5)


def test_slices_and_series(tmp_path):
    image = letter((16, 15))
    full = np.zeros((16, 15, 1, 2, 1, 3, 1, 1, 1, 1, 1, 1, 1, 4), complex)
    for echo in range(3):
        for index in range(4):
            for coil in range(2):
                value = (1 + coil) * (1 + index) * 10**echo
                full[:, :, 0, coil, 0, echo, 0, 0, 0, 0, 0, 0, 0, index] = value * kspace(image)
    scan = load(write_pair(tmp_path / "many", full))
    assert scan.data.shape == (4, 2, 16, 15)
    np.testing.assert_allclose(scan.data[2, 1], 6 * kspace(image), atol=1e-5)
    assert noted(scan, "first of 3", "TE")


def test_volume_has_partitions_first(tmp_path):
    block = np.stack([letter((16, 15)) * (1 + k) for k in range(5)], axis=-1)
    data = kspace(block, (0, 1, 2))
    scan = load(write_pair(tmp_path / "block", data))
    assert (scan.image_shape, scan.geometry.readout_axis) == ((5, 16, 15), 1)
    np.testing.assert_allclose(scan.data[0, 0], np.moveaxis(data, 2, 0), atol=1e-4)


def test_without_readout_axis(tmp_path):
    data = kspace(letter((16, 15)))
    scan = load(write_pair(tmp_path / "cut", data[None, :, :, None]))
    assert (scan.image_shape, scan.geometry.readout_axis) == ((16, 15), None)
    np.testing.assert_allclose(scan.data[0, 0], data, atol=1e-5)


def test_maps_and_mask_of_a_side_car(tmp_path, maps):
    data = kspace(letter((16, 15))[..., None] * maps)[:, :, None, :]
    pattern = np.zeros((1, 15))
    pattern[0, ::2] = 1
    two_sets = np.stack([maps[:, :, None, :], 0 * maps[:, :, None, :]], axis=4)
    write_pair(tmp_path / "sens", two_sets)
    write_pair(tmp_path / "pattern", pattern)
    path = write_pair(tmp_path / "scan", data)
    (tmp_path / "scan.toml").write_text(
        'kind = "mri"\n[coil_maps]\nfile = "sens.cfl"\n[mask]\nfile = "pattern.cfl"\n'
        "[mri]\nvoxel_size = [5.0, 2.0, 1.5]\n[noise]\nstd = 0.25\n"
    )
    scan = load(path)
    np.testing.assert_allclose(scan.coil_maps[0], np.moveaxis(maps, -1, 0), rtol=1e-6)
    assert noted(scan, "first of 2 sets")
    np.testing.assert_array_equal(scan.geometry.mask, np.tile(pattern > 0, (16, 1)))
    assert not scan.data[..., 1::2].any() and scan.data[..., ::2].all()
    assert (scan.geometry.voxel_size, scan.noise_std) == ((5.0, 2.0, 1.5), 0.25)
    write_pair(tmp_path / "sens", two_sets[:8])
    refused(path, "sens.cfl", "coil_maps", "16 x 15 x 1")


def test_trajectory_of_a_side_car(tmp_path, rng):
    k = rng.uniform(-7, 7, (3, 20, 6))
    k[2] = 0
    samples = rng.standard_normal((1, 20, 6, 2)) + 1j
    write_pair(tmp_path / "traj", k)
    path = write_pair(tmp_path / "radial", samples)
    side = 'kind = "mri"\n[mri]\nfov = [240.0, 240.0]\nimage_shape = [16, 16]\n'
    (tmp_path / "radial.toml").write_text(side + '[mri.trajectory]\nfile = "traj.cfl"\n')
    scan = load(path)
    assert isinstance(scan.geometry, NonCartesianGeometry)
    assert scan.data.shape == (1, 2, 6, 20)
    np.testing.assert_allclose(scan.data[0], np.moveaxis(samples[0], (0, 1, 2), (2, 1, 0)))
    # BART's x runs along READ, the rows
    np.testing.assert_allclose(scan.geometry.trajectory, np.moveaxis(k[:2], 0, -1).swapaxes(0, 1),
                               atol=1e-6)  # fmt: skip
    write_pair(tmp_path / "traj", k[:, :10])
    refused(path, "traj.cfl", "trajectory", "6 x 20")


def test_axes_of_a_side_car_name_what_is_longer_than_one(tmp_path):
    data = kspace(letter((16, 15)))
    path = write_pair(tmp_path / "odd", data[None, None, :, None, None, :])
    (tmp_path / "odd.toml").write_text('kind = "mri"\naxes = ["row", "column"]\n')
    np.testing.assert_allclose(load(path).data[0, 0], data, atol=1e-5)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("# Dimensions\n4 4 1 2\n", ("bad.cfl", "256 bytes", "128 bytes")),
        ("# Dimensions\n4 2 1 1\n", ("bad.cfl", "64", "128 bytes")),
        ("# Dimensions\n4 -4\n", ("bad.hdr", "Dimensions", "-4")),
        ("# Dimensions\n\n", ("bad.hdr", "Dimensions")),
        ("# Dimensions\n4 4 x\n", ("bad.hdr", "Dimensions")),
        ("# Dimensions\n" + "1 " * 17, ("bad.hdr", "Dimensions")),
        ("# Dimensions\n9999999999 9999999999 9999999999\n", ("bad.cfl", "128 bytes")),
        ("# Dimensions\n4 1 1 1 4\n", ("MAPS", "length 4")),
        ("# Dimensions\n16\n", ("READ, PHS1, PHS2", "16 x 1 x 1")),
    ],
)
def test_damage_is_refused(tmp_path, header, words):
    path = write_pair(tmp_path / "bad", np.ones((4, 4)) + 1j)
    (tmp_path / "bad.hdr").write_text(header)
    expected = [w.replace("256 bytes", "256") for w in words]
    refused(path, *expected)


def test_half_a_pair(tmp_path):
    path = write_pair(tmp_path / "half", np.ones((4, 4)))
    (tmp_path / "half.hdr").unlink()
    with pytest.raises(DataError, match="expected one of the formats"):
        load(path)
    path = write_pair(tmp_path / "other", np.ones((4, 4)))
    path.unlink()
    refused(tmp_path / "other.hdr", "other.cfl", "no such file")
    refused(tmp_path / "other", "no such file")
