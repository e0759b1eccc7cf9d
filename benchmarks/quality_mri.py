"""Fully sampled MRI scans, and what is made of them: fewer lines, golden-angle spokes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv import Scan, load
from sciinv.data.checks import assumed_affine
from sciinv.data.noise import estimate_mri_noise
from sciinv.data.scan import MRIGeometry
from sciinv.data.simulate import simulate_noncartesian, undersample
from sciinv.errors import DataError

# of 128 lines: 16 calibration and 16 random ones, 12 and 4
CALIBRATION = {4: 16, 8: 12}
_TWIX = "mri_phantom2ch_gre_siemens.dat"
_MRD = "mri_phantom16ch_ismrmrd.h5"
_BRAIN = "mri_brain16ch_fastmri.h5"


@lru_cache(maxsize=4)
def full_scan(folder: Path, name: str) -> Scan:
    """Return a fully sampled scan: ``"brain"``, ``"phantom16"`` or ``"phantom2"``."""
    if name == "brain":
        return load(folder / _BRAIN)
    if name == "phantom16":
        return _ismrmrd(folder / _MRD)
    return _twix(folder / _TWIX)


def _ismrmrd(path: Path) -> Scan:
    """Read one Cartesian slice of an ISMRMRD file: one acquisition for each line."""
    import h5py

    with h5py.File(path) as file:
        records = file["dataset/data"][:]
    head = records["head"]
    lines = head["idx"]["kspace_encode_step_1"].astype(int)
    coils, samples = int(head["active_channels"][0]), int(head["number_of_samples"][0])
    k = np.zeros((coils, lines.max() + 1, samples), np.complex64)
    for line, values in zip(lines, records["data"], strict=True):
        k[:, line] = np.ascontiguousarray(values, np.float32).view(np.complex64).reshape(coils, -1)
    if len(set(lines)) != k.shape[1]:
        raise DataError(path, "lines", found=f"{len(set(lines))}", expected=f"{k.shape[1]}")
    return _scan(path, k, (3.0, 2.0, 2.0))


def _twix(path: Path) -> Scan:
    """Read one Cartesian slice of a Siemens file, without the oversampling of the readout."""
    try:
        import twixtools
    except ImportError as error:
        raise DataError(
            path, found="no package twixtools", expected="the extra sciinv[twix]"
        ) from error
    measurement = twixtools.read_twix(str(path), verbose=False)[-1]
    lines = [block.data for block in measurement["mdb"] if block.is_image_scan()]
    k = np.stack(lines, axis=1).astype(np.complex64)  # coil, phase encoding, readout
    images = _transform(k, inverse=True)
    quarter = images.shape[-1] // 4
    k = _transform(images[..., quarter : images.shape[-1] - quarter], inverse=False)
    return _scan(path, k.astype(np.complex64), (4.0, 1.25, 1.25))


def _scan(path: Path, k: NDArray[Any], voxel: tuple[float, float, float]) -> Scan:
    """Put centred k-space ``(coils, phase encoding, readout)`` into a scan."""
    shape = k.shape[1:]
    geometry = MRIGeometry(shape, np.ones(shape, bool), voxel_size=voxel, readout_axis=1)
    reference = np.sqrt((np.abs(_transform(k, inverse=True)) ** 2).sum(0))
    return Scan(
        kind="mri", data=k[None], geometry=geometry, format="raw", source=path, units="a.u.",
        affine=assumed_affine((1, *shape), voxel, fourier_centre=True),
        reference=reference[None].astype(np.float32),
    )  # fmt: skip


def _transform(x: NDArray[Any], *, inverse: bool) -> NDArray[np.complex128]:
    """Centred orthonormal Fourier transform over the last two axes."""
    axes = (-2, -1)
    function = np.fft.ifft2 if inverse else np.fft.fft2
    return np.asarray(
        np.fft.fftshift(function(np.fft.ifftshift(x, axes=axes), norm="ortho"), axes=axes)
    )


def lines(full: Scan, rate: int, seed: int) -> Scan:
    """Variable-density lines: the calibration lines of ``CALIBRATION`` for 128, more for more."""
    geometry = full.geometry
    assert isinstance(geometry, MRIGeometry)
    return undersample(full, rate, calibration_lines=CALIBRATION[rate], rng=seed)


def spokes(full: Scan, number: int) -> Scan:
    """Golden-angle spokes, 2-fold oversampled, from the coil images of a fully sampled scan.

    The images carry the noise of the real measurement, but only inside the field of view. A real
    receiver also sees noise from outside it, in the upper half of the frequencies along each
    spoke; it is added at the level measured on the Cartesian samples, so that the noise of the
    spokes is white as that of a scanner.
    """
    geometry = full.geometry
    assert isinstance(geometry, MRIGeometry) and full.reference is not None
    images = _transform(full.data[0], inverse=True)
    scan = simulate_noncartesian(
        np.ones(full.image_shape), trajectory="radial", shots=number, coil_maps=images,
        voxel_size=geometry.voxel_size, name=f"{full.name}_{number}_spokes",
    )  # fmt: skip
    level = estimate_mri_noise(full.data[0], None, geometry.readout_axis)
    rng = np.random.default_rng(number)
    # white noise of variance 2 level^2, of which the image's is the lower half of the frequencies
    noise = rng.normal(size=(2, *scan.data.shape)) * np.sqrt(2) * level
    spectrum = np.fft.fft(noise[0] + 1j * noise[1], axis=-1)
    spectrum[..., np.abs(np.fft.fftfreq(scan.data.shape[-1])) < 0.25] = 0
    data = scan.data + np.fft.ifft(spectrum, axis=-1)
    return scan.with_(data=data.astype(np.complex64), reference=full.reference, coil_maps=None)
