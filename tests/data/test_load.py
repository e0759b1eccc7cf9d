"""Reading whole files: what comes out is what an independent writer put in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from sciinv.data import load
from sciinv.data.load import ALL_FORMATS
from sciinv.data.scan import MRIGeometry, ParallelGeometry
from sciinv.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<acquisitionSystemInformation><systemFieldStrength_T>3.0</systemFieldStrength_T>
</acquisitionSystemInformation>
<encoding>
<encodedSpace><matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{fx}</x><y>{fy}</y><z>5.0</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{rx}</x><y>{y}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{rfx}</x><y>{fy}</y><z>5.0</z></fieldOfView_mm></reconSpace>
<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""


def fft2(x):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes=axes), norm="ortho"), axes=axes)


def ifft2(k):
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, axes=axes), norm="ortho"), axes=axes)


def header(rows=16, columns=12, fov=(32.0, 24.0), oversampled=False):
    factor = 2 if oversampled else 1
    return HEADER.format(
        x=rows, y=columns, fx=fov[0], fy=fov[1], rx=rows // factor, rfx=fov[0] / factor
    )


def letter_f(rows, columns):
    """An F in the upper left: no flip or transpose leaves it alone."""
    image = np.zeros((rows, columns))
    image[1:-3, 2] = 1.0
    image[1, 2:-2] = 1.0
    image[rows // 2, 2 : columns // 2 + 1] = 1.0
    return image


def coils_of(rng, image, coils=3):
    shape = (coils, *image.shape)
    maps = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return (maps * image).astype(np.complex64)


def write_fastmri(path, kspace, **extra):
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        for key, value in extra.items():
            file[key] = value


def projections(angles, columns=32, axis=None, spacing=1.0):
    """Analytic sinogram of two Gaussian blobs, detector k at (k - axis) spacing."""
    axis = (columns - 1) / 2 if axis is None else axis
    s = (np.arange(columns) - axis) * spacing
    total = 0.0
    for x, y, width, height in ((3.0, 2.0, 1.5, 0.5), (-2.0, 4.0, 2.5, 0.25)):
        t = x * np.cos(angles) + y * np.sin(angles)
        total = total + height * np.exp(-((s[None] - t[:, None]) ** 2) / (2 * width**2))
    return total


def write_dxchange(path, p, theta, unit="deg", rows=2, **extra):
    """Counts with a flat of 1000 above a dark of 100, for ``rows`` identical detector rows."""
    signal = 100 + 1000 * np.exp(-p)
    parts = {
        "data": np.repeat(signal[:, None], rows, axis=1).astype(np.float32),
        "data_white": np.full((3, rows, p.shape[1]), 1100, dtype=np.float32),
        "data_dark": np.full((3, rows, p.shape[1]), 100, dtype=np.float32),
        "theta": theta,
    }
    parts.update(extra)
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            if value is not None:
                file[f"exchange/{name}"] = value
        if unit is not None and parts["theta"] is not None:
            file["exchange/theta"].attrs["units"] = unit


# fastMRI ----------------------------------------------------------------------------------------
def test_fastmri_multicoil(tmp_path, rng):
    path = tmp_path / "scan.h5"
    image = np.stack([letter_f(16, 12), letter_f(16, 12) + 1])
    coils = np.stack([coils_of(rng, one) for one in image])
    rss = np.sqrt((np.abs(coils) ** 2).sum(1)).astype(np.float32)
    write_fastmri(path, fft2(coils), ismrmrd_header=header(), reconstruction_rss=rss)
    scan = load(path)
    assert (scan.kind, scan.format, scan.num_slices, scan.num_coils) == ("mri", "fastmri", 2, 3)
    assert scan.data.dtype == np.complex64
    np.testing.assert_allclose(ifft2(scan.data), coils, atol=1e-5)
    np.testing.assert_array_equal(scan.reference, rss)
    geometry = scan.geometry
    assert isinstance(geometry, MRIGeometry)
    assert geometry.voxel_size == (5.0, 2.0, 2.0)
    assert geometry.readout_axis == 0
    assert geometry.mask.all()
    assert scan.acceleration == 1.0
    assert scan.header["field strength (T)"] == "3"
    assert any("orientation" in note for note in scan.notes)


def test_fastmri_affine_is_ras(tmp_path, rng):
    path = tmp_path / "scan.h5"
    write_fastmri(path, fft2(coils_of(rng, letter_f(16, 12)))[None], ismrmrd_header=header())
    affine = load(path).affine
    centre = affine @ [8, 6, 0, 1]
    np.testing.assert_allclose(centre, [0, 0, 0, 1])
    # one row down is 2 mm towards posterior, one column to the right 2 mm towards left
    np.testing.assert_allclose(affine @ [9, 6, 0, 1], [0, -2, 0, 1])
    np.testing.assert_allclose(affine @ [8, 7, 0, 1], [-2, 0, 0, 1])
    np.testing.assert_allclose(affine @ [8, 6, 1, 1], [0, 0, 5, 1])


def test_fastmri_single_coil_with_mask(tmp_path, rng):
    path = tmp_path / "scan.h5"
    kspace = fft2(coils_of(rng, letter_f(16, 12), 2))
    mask = np.array([1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1], dtype=np.uint8)
    esc = np.abs(ifft2(kspace)).astype(np.float32)
    write_fastmri(path, kspace, mask=mask, reconstruction_esc=esc)
    scan = load(path)
    assert scan.data.shape == (2, 1, 16, 12)
    np.testing.assert_array_equal(scan.geometry.mask, np.broadcast_to(mask == 1, (16, 12)))
    expected = np.where(mask == 1, kspace, 0)
    np.testing.assert_array_equal(scan.data[:, 0], expected)
    np.testing.assert_array_equal(scan.reference, esc)
    assert scan.acceleration == pytest.approx(12 / 7)
    assert any("voxel" in note for note in scan.notes)


def test_fastmri_zero_columns_are_unsampled(tmp_path, rng):
    path = tmp_path / "scan.h5"
    kspace = fft2(coils_of(rng, letter_f(16, 12)))[None]
    kspace[..., [0, 3, 11]] = 0
    write_fastmri(path, kspace)
    lines = load(path).geometry.mask.any(axis=0)
    np.testing.assert_array_equal(np.flatnonzero(~lines), [0, 3, 11])


@pytest.mark.parametrize(("rows", "columns"), [(32, 12), (36, 11), (34, 12)])
def test_fastmri_readout_oversampling_is_removed(tmp_path, rng, rows, columns):
    """The centre half of the readout's field of view remains, unsampled columns stay zero."""
    path = tmp_path / "scan.h5"
    inner = rows // 2
    image = np.zeros((3, rows, columns), dtype=np.complex64)
    first = rows // 2 - inner // 2
    image[:, first : first + inner] = coils_of(rng, letter_f(inner, columns))
    kspace = fft2(image)
    kspace[..., 1] = 0
    text = header(rows, columns, (rows * 1.5, columns * 2.0), oversampled=True)
    write_fastmri(path, kspace[None], ismrmrd_header=text)
    scan = load(path)
    assert scan.data.shape == (1, 3, inner, columns)
    expected = fft2(image[:, first : first + inner])
    expected[..., 1] = 0
    np.testing.assert_allclose(scan.data[0], expected, atol=2e-6)
    assert not scan.data[..., 1].any()
    assert not scan.geometry.mask[:, 1].any()
    assert scan.geometry.voxel_size == pytest.approx((5.0, 1.5, 2.0))
    assert any("oversampling" in note for note in scan.notes)


def test_fastmri_reference_of_another_field_of_view_is_left_out(tmp_path, rng):
    path = tmp_path / "scan.h5"
    write_fastmri(
        path,
        fft2(coils_of(rng, letter_f(16, 12)))[None],
        reconstruction_rss=np.ones((1, 12, 12), np.float32),
    )
    scan = load(path)
    assert scan.reference is None
    assert any("reconstruction_rss" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (
            '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
            "DOCTYPE",
        ),
        (header()[:-40], "broken XML"),
        (header().replace("<x>16</x>", "<x>many</x>"), "encodedSpace/matrixSize/x"),
        (header().replace("<x>32.0</x>", "<x>-1</x>"), "fieldOfView_mm/x"),
        (header().replace("cartesian", "radial"), "radial"),
        ("<ismrmrdHeader/>", "encoding"),
        ("", "broken XML"),
    ],
)
def test_fastmri_bad_header(tmp_path, rng, text, word):
    path = tmp_path / "scan.h5"
    write_fastmri(path, fft2(coils_of(rng, letter_f(16, 12)))[None], ismrmrd_header=text)
    with pytest.raises(DataError, match=word) as caught:
        load(path)
    assert "ismrmrd_header" in str(caught.value)


def test_fastmri_unknown_vendor_tags_are_read_over(tmp_path, rng):
    path = tmp_path / "scan.h5"
    text = header().replace("<encoding>", "<vendorThing a='1'><b/></vendorThing><encoding>")
    write_fastmri(path, fft2(coils_of(rng, letter_f(16, 12)))[None], ismrmrd_header=text)
    assert load(path).geometry.voxel_size == (5.0, 2.0, 2.0)


def test_fastmri_header_of_nine_megabytes(tmp_path, rng):
    path = tmp_path / "scan.h5"
    text = header().replace("<encoding>", f"<!--{'x' * 9_000_000}--><encoding>")
    write_fastmri(path, fft2(coils_of(rng, letter_f(16, 12)))[None], ismrmrd_header=text)
    with pytest.raises(DataError, match="at most 8388608"):
        load(path)


# DXchange ---------------------------------------------------------------------------------------
def test_dxchange(tmp_path):
    path = tmp_path / "scan.h5"
    theta = np.arange(60) * 3.0
    p = projections(np.deg2rad(theta), axis=13.0)
    write_dxchange(path, p, theta)
    scan = load(path)
    assert (scan.kind, scan.format, scan.data.shape) == ("ct", "dxchange", (2, 60, 32))
    for one in scan.data:
        np.testing.assert_allclose(one, p, atol=2e-6)
    geometry = scan.geometry
    assert isinstance(geometry, ParallelGeometry)
    np.testing.assert_allclose(geometry.angles, np.deg2rad(theta))
    assert geometry.axis_shift == pytest.approx(13.0 - 15.5, abs=0.2)
    assert scan.units == "1/pixel"
    assert any("rotation axis" in note for note in scan.notes)
    assert any("detector spacing" in note for note in scan.notes)
    assert scan.valid is None
    assert scan.counts is None


def test_dxchange_completed_by_a_sidecar(tmp_path):
    path = tmp_path / "scan.h5"
    theta = np.arange(60) * 3.0
    write_dxchange(path, projections(np.deg2rad(theta), axis=13.0), theta)
    (tmp_path / "scan.toml").write_text(
        'kind = "ct"\n[ct]\naxis_column = 13.25\ndetector_spacing = 0.5\n'
        "image_shape = [20, 24]\nslice_spacing = 2.0\n[noise]\nstd = 0.01\n"
    )
    scan = load(path)
    geometry = scan.geometry
    assert geometry.axis_shift == (13.25 - 15.5) * 0.5
    assert (geometry.detector_spacing, geometry.pixel_size) == (0.5, 0.5)
    assert geometry.image_shape == (20, 24)
    assert scan.units == "1/mm"
    assert scan.noise_std == 0.01
    np.testing.assert_allclose(scan.affine @ [9.5, 11.5, 0.5, 1], [0, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(scan.affine @ [10.5, 12.5, 1.5, 1], [-0.5, -0.5, 2, 1], atol=1e-12)


def test_dxchange_masks_zero_counts(tmp_path):
    path = tmp_path / "scan.h5"
    theta = np.arange(60) * 3.0
    p = projections(np.deg2rad(theta))
    signal = np.repeat((100 + 1000 * np.exp(-p))[:, None], 2, axis=1)
    signal[5, 1, 7] = 100  # no counts above dark
    signal[9, 0, 3] = 40  # below dark
    write_dxchange(path, p, theta, data=signal.astype(np.float32))
    scan = load(path)
    assert scan.valid is not None
    assert sorted(map(tuple, np.argwhere(~scan.valid))) == [(0, 9, 3), (1, 5, 7)]
    assert not scan.data[~scan.valid].any()
    assert any("2 of" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("theta", "unit", "note"),
    [
        (np.arange(60) * 3.0, None, "degrees assumed"),
        (np.arange(60) * np.pi / 60, None, "radians assumed"),
        (np.arange(60) * np.pi / 60, "rad", None),
        (np.arange(60) * 3.0, "Degrees", None),
    ],
)
def test_angle_units(tmp_path, theta, unit, note):
    path = tmp_path / "scan.h5"
    true = np.arange(60) * np.pi / 60
    write_dxchange(path, projections(true), theta, unit)
    scan = load(path)
    np.testing.assert_allclose(scan.geometry.angles, true)
    found = [one for one in scan.notes if "assumed" in one and "unit" in one]
    assert [note in one for one in found] == ([True] if note else [])


# bare arrays ------------------------------------------------------------------------------------
WRITERS = {
    "a.npy": lambda path, x: np.save(path, x),
    "a.npz": lambda path, x: np.savez_compressed(path, k=x),
    "a.mat": lambda path, x: scipy.io.savemat(path, {"k": x}, do_compression=True),
    "a.h5": lambda path, x: h5py.File(path, "w").create_dataset("g/k", data=x).file.close(),
}


@pytest.mark.parametrize("name", WRITERS)
def test_mri_sidecar_orders_axes(tmp_path, rng, name):
    """(column, coil, row, slice) on disk; mask, dc_first and the rest of the side-car."""
    path = tmp_path / name
    image = np.stack([coils_of(rng, letter_f(9, 12)) for _ in range(2)])
    mask = rng.random((9, 12)) < 0.6
    mask[4, 6] = True
    kspace = fft2(image) * mask
    moved = np.fft.ifftshift(kspace, axes=(-2, -1)).transpose(3, 1, 2, 0)
    WRITERS[name](path, moved)
    inner = 'name = "g/k"' if name == "a.h5" else ""
    (tmp_path / f"{name}.toml").write_text(
        'kind = "mri"\nquantity = "kspace"\naxes = ["column", "coil", "row", "slice"]\n'
        f"[data]\n{inner}\n[mri]\nvoxel_size = [4.0, 1.0, 0.5]\ndc_first = true\n"
        "[noise]\nstd = 0.5\n"
    )
    scan = load(path)
    assert scan.data.shape == (2, 3, 9, 12)
    np.testing.assert_allclose(scan.data, kspace.astype(np.complex64), rtol=1e-6)
    np.testing.assert_array_equal(scan.geometry.mask, mask)
    assert scan.geometry.voxel_size == (4.0, 1.0, 0.5)
    assert scan.geometry.readout_axis is None
    assert scan.noise_std == 0.5


def test_mri_parts_maps_and_mask_from_files(tmp_path, rng):
    image = coils_of(rng, letter_f(10, 8))
    kspace = fft2(image)
    mask = np.zeros((10, 8), dtype=np.uint8)
    mask[:, [0, 2, 3, 4, 5]] = 1
    np.save(tmp_path / "k.npy", np.stack([kspace.real, kspace.imag], axis=0))
    np.save(tmp_path / "mask.npy", mask)
    np.savez(tmp_path / "maps.npz", maps=image, other=mask)
    side = tmp_path / "elsewhere.toml"
    side.write_text(
        'kind = "mri"\naxes = ["part", "coil", "row", "column"]\n[mask]\nfile = "mask.npy"\n'
        '[coil_maps]\nfile = "maps.npz"\nname = "maps"\n'
    )
    scan = load(tmp_path / "k.npy", sidecar=side)
    np.testing.assert_allclose(scan.data[0], kspace * mask, atol=1e-6)
    np.testing.assert_array_equal(scan.coil_maps, image[None])
    assert scan.geometry.readout_axis == 0  # complete columns: the readout runs along rows


def test_a_suspicious_layout_is_noted(tmp_path):
    """k-space that was not centred is read as it is, with a note that says so."""
    from sciinv.data.phantoms import shepp_logan
    from sciinv.data.simulate import simulate_mri

    kspace = simulate_mri(shepp_logan((48, 40)), coils=4, acceleration=1.0, rng=0).data[0]
    side = 'kind = "mri"\naxes = ["coil", "row", "column"]\n[mri]\ndc_first = '
    for array, dc_first, suspicious in (
        (kspace, "false", False),
        (np.fft.ifftshift(kspace, axes=(1, 2)), "false", True),
        (np.fft.ifftshift(kspace, axes=(1, 2)), "true", False),
    ):
        np.save(tmp_path / "scan.npy", array)
        (tmp_path / "scan.toml").write_text(side + dc_first)
        notes = [note for note in load(tmp_path / "scan.npy").notes if "suspicious" in note]
        assert bool(notes) == suspicious, notes
        assert not suspicious or "fftshift" in notes[0]


def test_3d_encoding(tmp_path, rng):
    kspace = (rng.standard_normal((2, 4, 6, 5)) + 1j).astype(np.complex64)
    np.save(tmp_path / "k.npy", kspace)
    (tmp_path / "k.toml").write_text(
        'kind = "mri"\naxes = ["coil", "partition", "row", "column"]\n'
        '[mri]\nreadout_axis = "row"\nvoxel_size = [3.0, 1.0, 1.0]\n'
    )
    scan = load(tmp_path / "k.npy")
    assert scan.data.shape == (1, 2, 4, 6, 5)
    assert scan.image_shape == (4, 6, 5)
    assert scan.geometry.readout_axis == 1


def test_ct_line_integrals_of_a_tiff_stack(tmp_path):
    theta = np.linspace(0, np.pi, 40, endpoint=False)
    p = projections(theta, axis=15.5, spacing=0.5).astype(np.float32)
    tifffile.imwrite(tmp_path / "p.tif", np.stack([p.T, 2 * p.T]), photometric="minisblack")
    (tmp_path / "p.toml").write_text(
        'kind = "ct"\nquantity = "line_integrals"\naxes = ["slice", "detector", "angle"]\n'
        "[ct]\ndetector_spacing = 0.5\naxis_shift = 0.25\n"
        'angles = { start = 0, step = 4.5, count = 40, unit = "deg" }\n'
    )
    scan = load(tmp_path / "p.tif")
    np.testing.assert_array_equal(scan.data, np.stack([p, 2 * p]))
    np.testing.assert_allclose(scan.geometry.angles, theta, atol=1e-12)
    assert scan.geometry.axis_shift == 0.25
    assert scan.geometry.image_shape == (32, 32)
    assert scan.geometry.pixel_size == 0.5


def test_ct_photon_counts(tmp_path, rng):
    """Blank and data in two MATLAB files; Poisson counts are recognised and kept."""
    theta = np.linspace(0, np.pi, 64, endpoint=False)
    p = 4 * projections(theta)
    blank = 20 + 10 * rng.random((32, 64))
    counts = rng.poisson(blank * np.exp(-p.T)).astype(np.float32)
    scipy.io.savemat(tmp_path / "t.mat", {"test": counts})
    scipy.io.savemat(tmp_path / "b.mat", {"test": blank})
    (tmp_path / "t.toml").write_text(
        'kind = "ct"\nquantity = "counts"\naxes = ["detector", "angle"]\n'
        '[blank]\nfile = "b.mat"\nname = "test"\n[ct]\ndetector_spacing = 2.0\n'
        'axis_column = 15.5\nangles = { stop = 180.0, count = 64, unit = "deg" }\n'
    )
    scan = load(tmp_path / "t.mat")
    np.testing.assert_array_equal(scan.counts[0], counts.T)
    np.testing.assert_allclose(scan.blank[0], blank.T, rtol=1e-6)
    valid = np.ones(counts.T.shape, bool) if scan.valid is None else scan.valid[0]
    np.testing.assert_array_equal(valid, counts.T > 0)
    used = valid.nonzero()
    expected = -np.log(counts.T[used] / blank.T[used])
    np.testing.assert_allclose(scan.data[0][used], expected, atol=1e-5)
    assert any("photon" in note for note in scan.notes)


def test_ct_blank_frames_and_dark(tmp_path, rng):
    theta = np.linspace(0, np.pi, 40, endpoint=False)
    p = projections(theta)
    flat = 900 + 100 * rng.random((5, 32))
    np.savez(
        tmp_path / "a.npz",
        signal=50 + (flat.mean(0) - 50) * np.exp(-p),
        flat=flat,
        dark=np.full((1, 32), 50.0),
        angles=np.rad2deg(theta),
    )
    (tmp_path / "a.toml").write_text(
        'kind = "ct"\nquantity = "counts"\naxes = ["angle", "detector"]\n[data]\nname = "signal"\n'
        '[blank]\nname = "flat"\naxes = ["frame", "detector"]\n'
        '[dark]\nname = "dark"\naxes = ["frame", "detector"]\n'
        '[ct]\naxis_column = 15.5\nangles = { name = "angles", unit = "deg" }\n'
    )
    scan = load(tmp_path / "a.npz")
    np.testing.assert_allclose(scan.data[0], p, atol=2e-6)
    np.testing.assert_allclose(scan.geometry.angles, theta)
    assert scan.counts is None


# choosing the format ----------------------------------------------------------------------------
def test_content_decides_not_the_suffix(tmp_path):
    path = tmp_path / "scan.txt"
    theta = np.arange(60) * 3.0
    write_dxchange(path, projections(np.deg2rad(theta)), theta)
    assert load(path).format == "dxchange"


def test_formats_of_other_packages(tmp_path, monkeypatch, rng):
    import importlib.metadata as metadata

    source = tmp_path / "other.h5"
    write_fastmri(source, fft2(coils_of(rng, letter_f(16, 12)))[None])
    base = load(source)

    class Foreign:
        NAME = "foreign"

        @staticmethod
        def sniff(path):
            return path.read_bytes().startswith(b"FOREIGN")

        @staticmethod
        def read(path, sidecar):
            return base.with_(source=path, format="foreign")

    class Entry:
        @staticmethod
        def load():
            return Foreign

    monkeypatch.setattr(
        metadata, "entry_points", lambda group: [Entry()] if group == "sciinv.formats" else []
    )
    path = tmp_path / "scan.foreign"
    path.write_bytes(b"FOREIGN 1")
    assert load(path).format == "foreign"
    assert load(source).format == "fastmri"


def test_every_format_declares_itself():
    names = [one.NAME for one in ALL_FORMATS]
    assert len(set(names)) == len(names)
    assert {"sciinv", "fastmri", "dxchange", "npy", "npz", "matlab5", "tiff"} <= set(names)


def test_reading_needs_no_torch(tmp_path):
    code = (
        "import sys, sciinv.data\n"
        "heavy = {'torch', 'scipy', 'h5py', 'tifffile'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import sciinv.data.noise, sciinv.data.scale, sciinv.data.correct, sciinv.data.native\n"
        "assert callable(sciinv.data.load)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# real scans -------------------------------------------------------------------------------------
SIDECARS = ROOT / "examples" / "sidecars"


@pytest.mark.data
def test_real_fastmri_layout(real_data):
    scan = load(real_data / "mri_brain16ch_fastmri.h5")
    assert scan.data.shape == (1, 16, 128, 128)
    assert scan.geometry.voxel_size == (3.0, 2.0, 2.0)
    rss = np.sqrt((np.abs(ifft2(scan.data)) ** 2).sum(1))
    np.testing.assert_allclose(rss, scan.reference, rtol=1e-4, atol=1e-9)


@pytest.mark.data
def test_real_poisson_disc(real_data):
    scan = load(
        real_data / "mri_brain8ch_poisson.npy", sidecar=SIDECARS / "mri_brain8ch_poisson.toml"
    )
    assert scan.data.shape == (1, 8, 230, 180)
    assert scan.acceleration == pytest.approx(1 / 0.124, rel=0.01)
    peak = np.unravel_index(np.abs(scan.data[0]).sum(0).argmax(), (230, 180))
    assert np.abs(np.subtract(peak, (115, 90))).max() <= 1


@pytest.mark.data
def test_real_tooth(real_data):
    scan = load(real_data / "ct_parallel_tooth.h5")
    assert scan.data.shape == (2, 181, 640)
    column = scan.geometry.axis_shift / scan.geometry.detector_spacing + 319.5
    assert column == pytest.approx(296.0, abs=1.0)
    np.testing.assert_allclose(scan.geometry.angles, np.arange(181) * np.pi / 181, atol=1e-6)


@pytest.mark.data
def test_real_transmission_counts(real_data):
    scan = load(
        real_data / "pet_transmission_phantom_trans.mat",
        sidecar=SIDECARS / "pet_transmission_phantom.toml",
    )
    assert scan.data.shape == (1, 192, 160)
    assert scan.counts.max() == 130
    # open beam at the edges: counts equal the blank
    edge = np.r_[0:8, 152:160]
    assert scan.counts[..., edge].mean() / scan.blank[..., edge].mean() == pytest.approx(
        1, abs=0.04
    )
    assert scan.geometry.axis_shift == 0.0


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("mri_brain8ch_poisson.npy", "side-car"),
        ("ct_fanbeam_htc2022_ta.mat", "struct"),
        ("phase_nearfield_ptycho_petra.cxi", "side-car"),
        ("INDEX.md", "text"),
    ],
)
def test_real_files_that_cannot_be_read(real_data, name, word):
    with pytest.raises(DataError, match=word):
        load(real_data / name)
