"""ISMRMRD files made by the ismrmrd package: sorting, geometry, noise, refusals."""

from __future__ import annotations

import h5py
import ismrmrd
import nibabel as nib
import numpy as np
import pytest

from sciinv.data import MRIGeometry, NonCartesianGeometry, load
from sciinv.errors import DataError
from sciinv.report.store import image_axes, write_nifti

from . import mrd_files as mrd

ROWS, COLUMNS = 16, 20
VOXEL = (3.0, 2.0, 2.5)  # slice, row, column
READ, PHASE, NORMAL = mrd.OBLIQUE
LPS_TO_RAS = np.array([-1, -1, 1])


@pytest.fixture
def maps(rng):
    return rng.standard_normal((3, 1, 1)) + 1j * rng.standard_normal((3, 1, 1))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "CANARY-FILE.h5"


def images(scan):
    """Images of all coils, by the definition of the transform."""
    axes = tuple(range(2, scan.data.ndim))
    return np.conj(mrd.forward(np.conj(scan.data), axes))


def plain(path, maps, **fields):
    acquisitions = mrd.lines(mrd.letter_f(ROWS, COLUMNS), maps, **fields)
    return mrd.write(path, mrd.header(COLUMNS, ROWS), acquisitions)


def test_one_slice(path, maps):
    scan = load(plain(path, maps))
    assert (scan.kind, scan.format, scan.num_slices, scan.num_coils) == ("mri", "ismrmrd", 1, 3)
    assert isinstance(scan.geometry, MRIGeometry)
    assert scan.geometry.voxel_size == VOXEL
    assert scan.geometry.readout_axis == 1
    assert scan.geometry.mask.all()
    assert scan.noise_std is None
    np.testing.assert_allclose(images(scan)[0], maps * mrd.letter_f(ROWS, COLUMNS), atol=1e-5)


@pytest.mark.parametrize("suffix", ["scan.mrd", "scan.dat", "scan"])
def test_content_decides(tmp_path, maps, suffix):
    assert load(plain(tmp_path / suffix, maps)).format == "ismrmrd"


def test_group_of_another_name(path, maps):
    acquisitions = mrd.lines(mrd.letter_f(ROWS, COLUMNS), maps)
    mrd.write(path, mrd.header(COLUMNS, ROWS), acquisitions, group="CANARY-2024-01-02")
    assert load(path).format == "ismrmrd"


def test_nothing_identifying_is_kept(path, maps):
    scan = load(plain(path, maps))
    assert "CANARY" not in repr((scan.header, scan.notes))
    assert scan.header == {
        "field strength (T)": "2.89",
        "TR (ms)": "500",
        "vendor": "philips",
    }
    head = mrd.header(COLUMNS, ROWS, vendor="CANARY hospital")
    path.unlink()
    mrd.write(path, head, mrd.lines(mrd.letter_f(ROWS, COLUMNS), maps))
    assert "vendor" not in load(path).header


# geometry ---------------------------------------------------------------------------------------
def marker_in_nifti(scan, folder):
    """World coordinates (RAS mm) of the brightest voxel, as nibabel reads our file."""
    magnitude = np.abs(images(scan)).sum(1)
    write_nifti(folder / "image.nii.gz", image_axes(magnitude), scan.affine, "magnitude")
    image = nib.load(folder / "image.nii.gz")
    data = np.asarray(image.dataobj)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    assert image.header["sform_code"] == image.header["qform_code"] == 1
    return image.affine @ [*np.unravel_index(data.argmax(), data.shape), 1]


# Siemens states directions for a forward transform
VENDORS = pytest.mark.parametrize(("vendor", "sign"), [("Philips", 1), ("SIEMENS", -1)])


@VENDORS
def test_marker_of_a_stack(path, tmp_path, maps, vendor, sign):
    """Slices in interleaved order; the marker is only in the third along the normal."""
    centre = np.array([12.0, -7.0, 31.0])
    distance, count = 4.5, 4
    acquisitions = []
    for number, place in enumerate([0, 2, 1, 3]):  # idx.slice -> place in space
        image = mrd.letter_f(ROWS, COLUMNS)
        image[ROWS - 4, COLUMNS - 5] = mrd.MARKER if place == 2 else 0
        acquisitions += mrd.lines(
            image, maps, position=centre + place * distance * NORMAL, slice=number
        )
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS, vendor=vendor), acquisitions))
    assert (scan.num_slices, scan.oriented) == (count, True)
    row, column = ROWS - 4 - ROWS // 2, COLUMNS - 5 - COLUMNS // 2
    lps = centre + 2 * distance * NORMAL + sign * (row * 2.0 * PHASE + column * 2.5 * READ)
    np.testing.assert_allclose(marker_in_nifti(scan, tmp_path)[:3], LPS_TO_RAS * lps, atol=1e-3)
    assert not any("orientation" in note for note in scan.notes)


@VENDORS
def test_marker_of_a_volume(path, tmp_path, maps, vendor, sign):
    depth, centre = 6, np.array([12.0, -7.0, 31.0])
    volume = np.stack([mrd.letter_f(ROWS, COLUMNS)] * depth)
    volume[:, ROWS - 4, COLUMNS - 5] = 0
    volume[4, ROWS - 4, COLUMNS - 5] = mrd.MARKER
    k = mrd.forward(maps[..., None] * volume, (1, 2, 3))
    acquisitions = [
        mrd.acquisition(k[:, z, y], position=centre, kspace_encode_step_1=y, kspace_encode_step_2=z)
        for z in range(depth)
        for y in range(ROWS)
    ]
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS, depth, vendor=vendor), acquisitions))
    assert (scan.image_shape, scan.geometry.readout_axis) == ((depth, ROWS, COLUMNS), 2)
    np.testing.assert_allclose(images(scan)[0], maps[..., None] * volume, atol=1e-5)
    row, column = ROWS - 4 - ROWS // 2, COLUMNS - 5 - COLUMNS // 2
    offset = (4 - depth // 2) * 3.0 * NORMAL + row * 2.0 * PHASE + column * 2.5 * READ
    lps = centre + sign * offset
    np.testing.assert_allclose(marker_in_nifti(scan, tmp_path)[:3], LPS_TO_RAS * lps, atol=1e-3)


def test_stack_whose_header_states_partitions(path, maps):
    image = mrd.letter_f(ROWS, COLUMNS)
    acquisitions = mrd.lines(image, maps) + mrd.lines(
        2 * image, maps, slice=1, position=4.0 * NORMAL
    )
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS, 2), acquisitions))
    assert (scan.num_slices, scan.image_shape) == (2, (ROWS, COLUMNS))
    assert scan.geometry.voxel_size == VOXEL
    np.testing.assert_allclose(images(scan)[1], 2 * maps * image, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(scan.affine[:3, 2]), 4.0, rtol=1e-6)


def test_slabs(path, maps):
    k = mrd.forward(maps[..., None] * np.stack([mrd.letter_f(ROWS, COLUMNS)] * 2), (1, 2, 3))
    acquisitions = [
        mrd.acquisition(
            (1 + slab) * k[:, z, y], slice=slab, kspace_encode_step_1=y, kspace_encode_step_2=z
        )
        for slab in range(2)
        for z in range(2)
        for y in range(ROWS)
    ]
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS, 2), acquisitions))
    np.testing.assert_allclose(scan.data[0], k, atol=1e-5)
    assert any("2 slabs: 0 is used" in note for note in scan.notes)


def test_no_directions(path, maps):
    scan = load(plain(path, maps, axes=np.zeros((3, 3))))
    assert not scan.oriented
    assert any("orientation" in note for note in scan.notes)


def test_slices_of_several_orientations(path, maps):
    image = mrd.letter_f(ROWS, COLUMNS)
    acquisitions = mrd.lines(image, maps) + mrd.lines(
        image, maps, slice=1, axes=mrd.OBLIQUE[[1, 2, 0]]
    )
    mrd.write(path, mrd.header(COLUMNS, ROWS), acquisitions)
    with pytest.raises(DataError, match="several orientations"):
        load(path)


# sampling ---------------------------------------------------------------------------------------
def test_oversampled_readout(path, maps):
    wide = np.zeros((ROWS, 2 * COLUMNS))
    wide[:, COLUMNS // 2 : COLUMNS // 2 + COLUMNS] = mrd.letter_f(ROWS, COLUMNS)
    wide[:, :2] = 7  # outside the field of view of the image
    mrd.write(path, mrd.header(2 * COLUMNS, ROWS, oversampling=2), mrd.lines(wide, maps))
    scan = load(path)
    np.testing.assert_allclose(images(scan)[0], maps * mrd.letter_f(ROWS, COLUMNS), atol=1e-5)
    assert scan.geometry.voxel_size == VOXEL
    assert any("oversampling removed: 40 to 20" in note for note in scan.notes)


def test_partial_fourier_and_acceleration(path, maps):
    """Lines 5 to 15 of 16, every second: indices from 0, their centre stated."""
    k = mrd.forward(maps * mrd.letter_f(ROWS, COLUMNS), (-2, -1))
    taken = list(range(5, 16, 2))
    acquisitions = [mrd.acquisition(k[:, y], kspace_encode_step_1=y - 5) for y in taken]
    mrd.write(path, mrd.header(COLUMNS, ROWS, center=ROWS // 2 - 5), acquisitions)
    scan = load(path)
    assert list(np.flatnonzero(scan.geometry.mask.all(1))) == taken
    assert scan.geometry.mask.sum() == len(taken) * COLUMNS
    np.testing.assert_allclose(scan.data[0][:, taken], k[:, taken], atol=1e-5)
    assert scan.acceleration == pytest.approx(ROWS / len(taken))


def test_partial_echo(path, maps):
    """The first six samples are missing, two are discarded at either end."""
    k = mrd.forward(maps * mrd.letter_f(ROWS, COLUMNS), (-2, -1))[..., 6:]
    acquisitions = [
        mrd.acquisition(
            k[:, y],
            kspace_encode_step_1=y,
            center_sample=COLUMNS // 2 - 6,
            discard_pre=2,
            discard_post=1,
        )
        for y in range(ROWS)
    ]
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS), acquisitions))
    assert list(np.flatnonzero(scan.geometry.mask.all(0))) == list(range(8, COLUMNS - 1))
    np.testing.assert_allclose(scan.data[0][..., 8:-1], k[..., 2:-1], atol=1e-5)
    assert scan.geometry.readout_axis is None


def test_averages_are_averaged_and_others_left(path, maps):
    image = mrd.letter_f(ROWS, COLUMNS)
    acquisitions = []
    for average, factor in enumerate((0.5, 1.5)):
        acquisitions += mrd.lines(factor * image, maps, average=average)
    for name in ("contrast", "phase", "repetition", "set"):
        acquisitions += mrd.lines(9 * image, maps, **{name: 1})
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS), acquisitions))
    np.testing.assert_allclose(images(scan)[0], maps * image, atol=1e-5)
    for word in ("2 averages", "contrast: 0", "phase: 0", "repetition: 0", "set: 0"):
        assert any(word in note for note in scan.notes), word


def test_other_readouts_are_left_out(path, maps):
    image = mrd.letter_f(ROWS, COLUMNS)
    acquisitions = mrd.lines(image, maps)
    for flag in (
        ismrmrd.ACQ_IS_NAVIGATION_DATA,
        ismrmrd.ACQ_IS_PHASECORR_DATA,
        ismrmrd.ACQ_IS_HPFEEDBACK_DATA,
        ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
        ismrmrd.ACQ_IS_RTFEEDBACK_DATA,
        ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
        ismrmrd.ACQ_IS_PHASE_STABILIZATION,
    ):
        acquisitions.append(mrd.acquisition(np.full((3, 8), 1e6), flags=(flag,)))
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS), acquisitions))
    np.testing.assert_allclose(images(scan)[0], maps * image, atol=1e-5)
    assert any("1 navigator readouts are left out" in note for note in scan.notes)


def test_reversed_readouts(path, maps):
    k = mrd.forward(maps * mrd.letter_f(ROWS, COLUMNS), (-2, -1))
    flags = (ismrmrd.ACQ_IS_REVERSE,)
    acquisitions = [
        mrd.acquisition(k[:, y, ::-1], flags=flags, kspace_encode_step_1=y) for y in range(ROWS)
    ]
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS), acquisitions))
    np.testing.assert_allclose(scan.data[0], k, atol=1e-5)
    path.unlink()
    acquisitions[0] = mrd.acquisition(k[:, 0], kspace_encode_step_1=0)
    mrd.write(path, mrd.header(COLUMNS, ROWS), acquisitions)
    with pytest.raises(DataError, match="15 of 16 readouts reversed"):
        load(path)


@pytest.mark.parametrize("mode", ["embedded", "separate", ""])
def test_calibration_lines(path, maps, mode):
    """Every second line, and between them calibration lines (other contrast if separate)."""
    k = mrd.forward(maps * mrd.letter_f(ROWS, COLUMNS), (-2, -1))
    acquisitions = []
    for y in range(ROWS):
        near = abs(y - ROWS // 2) < 4
        flags = (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,) if y % 2 else ()
        if near and not flags:
            flags = (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING,)
        if near or y % 2 == 0:
            acquisitions.append(mrd.acquisition(k[:, y], flags=flags, kspace_encode_step_1=y))
    parallel = (
        f"<parallelImaging><calibrationMode>{mode}</calibrationMode></parallelImaging>"
        if mode
        else ""
    )
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS, parallel=parallel), acquisitions))
    lines = set(np.flatnonzero(scan.geometry.mask.all(1)))
    even, extra = set(range(0, ROWS, 2)), {5, 7, 9, 11}
    assert lines == (even if mode == "separate" else even | extra)


def test_calibration_lines_measured_twice_are_their_own(path, maps):
    image = mrd.letter_f(ROWS, COLUMNS)
    apart = mrd.lines(9 * image, maps, flags=(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,))
    mrd.write(path, mrd.header(COLUMNS, ROWS), apart + mrd.lines(image, maps))
    np.testing.assert_allclose(images(load(path))[0], maps * image, atol=1e-5)


# noise ------------------------------------------------------------------------------------------
def test_noise_readouts_whiten(path, rng):
    """Correlated, unequal coils; the noise readouts have half the bandwidth (20 us, not 10)."""
    mixing = np.array([[1.0, 0, 0], [0.8, 0.5, 0], [0.3j, 0.2, 2.0]]) * 0.05
    flags = (ismrmrd.ACQ_IS_NOISE_MEASUREMENT,)

    def draw(*shape):
        return np.tensordot(mixing, rng.standard_normal((3, *shape, 2)) @ [1, 1j], 1)

    # the receiver passes 0.8 of white noise (header), twice the dwell time halves its variance
    factor = np.sqrt(0.8 / 2)
    noise = [
        mrd.acquisition(factor * draw(512), flags=flags, sample_time_us=20.0) for _ in range(20)
    ]
    k = draw(ROWS, COLUMNS)
    image = [mrd.acquisition(k[:, y], kspace_encode_step_1=y) for y in range(ROWS)]
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS), noise + image))
    wanted = np.sqrt(np.trace(mixing @ mixing.conj().T).real / 3)
    assert scan.noise_std == pytest.approx(wanted, rel=0.02)
    found = scan.data[0].reshape(3, -1)
    covariance = found @ found.conj().T / (2 * found.shape[1])
    np.testing.assert_allclose(covariance / wanted**2, np.eye(3), atol=0.2)
    assert any("noise is white" in note for note in scan.notes)


def test_few_noise_readouts_give_the_level_only(path, maps, rng):
    noise = mrd.acquisition(
        0.1 * rng.standard_normal((3, 40, 2)) @ [1, 1j], flags=(ismrmrd.ACQ_IS_NOISE_MEASUREMENT,)
    )
    image = mrd.letter_f(ROWS, COLUMNS)
    acquisitions = [noise]
    for average in range(4):
        acquisitions += mrd.lines(image, maps, average=average)
    scan = load(mrd.write(path, mrd.header(COLUMNS, ROWS), acquisitions))
    assert scan.noise_std == pytest.approx(0.1 / np.sqrt(0.8) / 2, rel=0.2)
    np.testing.assert_allclose(images(scan)[0], maps * image, atol=1e-5)


# trajectories -----------------------------------------------------------------------------------
def radial(image, maps, spokes, samples):
    """Spokes through the centre, by the definition of the signal; coordinates in cycles/pixel."""
    radius = (np.arange(samples) - samples // 2) / samples
    angles = np.arange(spokes) * np.pi / spokes + 0.1
    rows, columns = (np.arange(n) - n // 2 for n in image.shape)
    for angle in angles:
        k = radius[:, None] * [np.cos(angle), np.sin(angle)]  # x, y
        wave = np.exp(
            -2j * np.pi * (k[:, 1, None, None] * rows[:, None] + k[:, 0, None, None] * columns)
        )
        signal = (wave * image).sum((1, 2)) / np.sqrt(image.size)
        yield maps[:, 0] * signal, k


@pytest.mark.parametrize("factor", [1.0, COLUMNS])
def test_radial(path, maps, factor):
    image = mrd.letter_f(COLUMNS, COLUMNS)
    acquisitions = [
        mrd.acquisition(signal, traj=factor * k) for signal, k in radial(image, maps, 8, 24)
    ]
    head = mrd.header(COLUMNS, COLUMNS, trajectory="radial", voxel=(3.0, 2.5, 2.5))
    scan = load(mrd.write(path, head, acquisitions))
    g = scan.geometry
    assert isinstance(g, NonCartesianGeometry)
    assert (scan.data.shape, g.image_shape) == ((1, 3, 8, 24), (COLUMNS, COLUMNS))
    # back through our own description: rows first, cycles per field of view
    index = np.arange(COLUMNS) - COLUMNS // 2
    k = g.trajectory / COLUMNS
    wave = np.exp(
        -2j * np.pi * (k[..., 0, None, None] * index[:, None] + k[..., 1, None, None] * index)
    )
    signal = (wave * image).sum((-2, -1)) / COLUMNS
    np.testing.assert_allclose(scan.data[0], maps * signal, atol=2e-5)
    assert any("no unit of the trajectory" in note for note in scan.notes)


def test_not_cartesian_without_trajectory(path, maps):
    head = mrd.header(COLUMNS, ROWS, trajectory="spiral")
    mrd.write(path, head, mrd.lines(mrd.letter_f(ROWS, COLUMNS), maps))
    with pytest.raises(DataError, match="trajectory_dimensions: found 0"):
        load(path)


# refusals ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (("<?xml version", '<!DOCTYPE x SYSTEM "/etc/hostname"><?xml version'), "DOCTYPE"),
        (("</ismrmrdHeader>", ""), "broken XML"),
        (("<x>20</x>", "<x>none</x>"), "matrixSize/x: found 'none'"),
        (("<x>20</x>", "<x>-20</x>"), "matrixSize/x"),
        (("cartesian", "epi"), "trajectory: found epi"),
        (("<center>8", "<center>80000"), "center"),
        (("<center>8", "<center>1"), "kspace_encode_step_1 of readout 9"),
        (("<x>20</x>", "<x>10</x>"), "samples of readout 0"),
        (("<y>16</y>", "<y>60000</y>"), "stored"),
        (("encoding>", "decoding>"), "encoding"),
    ],
)
def test_bad_headers(path, maps, change, word):
    head = mrd.header(COLUMNS, ROWS)
    if "60000" in change[1]:
        head = head.replace("<x>20</x>", "<x>60000</x>")
    mrd.write(path, head.replace(*change), mrd.lines(mrd.letter_f(ROWS, COLUMNS), maps))
    with pytest.raises(DataError, match=word) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"flags": (ismrmrd.ACQ_IS_NOISE_MEASUREMENT,)}, "no imaging readouts"),
        ({"flags": (ismrmrd.ACQ_COMPRESSION1,)}, "compressed"),
        ({"encoding_space_ref": 3}, "encoding_space_ref: found 3"),
        ({"discard_pre": 30}, "discarded"),
        ({"version": 2}, "MRD version 2"),
    ],
)
def test_bad_readouts(path, maps, fields, word):
    plain(path, maps, **fields)
    with pytest.raises(DataError, match=word):
        load(path)


def test_coils_that_change(path, maps):
    image = mrd.letter_f(ROWS, COLUMNS)
    acquisitions = mrd.lines(image, maps)[:-1] + mrd.lines(image, maps[:2])[-1:]
    mrd.write(path, mrd.header(COLUMNS, ROWS), acquisitions)
    with pytest.raises(DataError, match="active_channels: found 2, 3"):
        load(path)


def test_samples_that_the_head_contradicts(path, maps):
    plain(path, maps)
    with h5py.File(path, "r+") as file:
        record = file["dataset/data"][5]
        record["data"] = record["data"][:-2]
        file["dataset/data"][5] = record
    with pytest.raises(DataError, match="data of readout 5: found 118 numbers, expected 120"):
        load(path)


def test_not_finite(path, maps):
    plain(path, maps * np.nan)
    with pytest.raises(DataError, match="NaN"):
        load(path)


def test_another_layout_of_records(path):
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = mrd.header(COLUMNS, ROWS)
        file["dataset/data"] = np.zeros((4, 4), np.float32)
    with pytest.raises(DataError, match="readouts of ISMRMRD version 1"):
        load(path)


def test_images_only(path):
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = mrd.header(COLUMNS, ROWS)
        file["dataset/image_0/data"] = np.zeros((1, 1, 1, 4, 4), np.float32)
    with pytest.raises(DataError, match="images only"):
        load(path)


def test_version_2(tmp_path):
    stream, file = tmp_path / "a.mrd", tmp_path / "b.h5"
    stream.write_bytes(b"yardl" + bytes(100))
    with h5py.File(file, "w") as out:
        out["Mrd/$yardl_schema"] = "{}"
    for one in (stream, file):
        with pytest.raises(DataError, match="MRD version 2"):
            load(one)


def test_links_out_of_the_file(path, tmp_path, maps):
    other = plain(tmp_path / "other.h5", maps)
    with h5py.File(path, "w") as file:
        file.create_group("dataset")
        file["dataset/xml"] = mrd.header(COLUMNS, ROWS)
        file["dataset/data"] = h5py.ExternalLink(str(other), "/dataset/data")
    with pytest.raises(DataError, match="external link"):
        load(path)


@pytest.mark.data
def test_real_phantom(real_data):
    scan = load(real_data / "mri_phantom16ch_ismrmrd.h5")
    assert (scan.data.shape, scan.acceleration) == ((1, 16, 128, 128), 1.0)
    assert scan.geometry.voxel_size == (3.0, 2.0, 2.0)
    magnitude = np.sqrt((np.abs(images(scan)[0]) ** 2).sum(0))
    inside = magnitude > 0.2 * np.quantile(magnitude, 0.99)
    middle = np.argwhere(inside).mean(0)
    np.testing.assert_allclose(middle, 64, atol=8)  # a bottle in the middle, no wrap
    assert 0.1 < inside.mean() < 0.5
