"""One small sound file of each format, by the writers that the tests of the formats use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import tifffile

from sciinv.data import write_scan
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import simulate_mri

from . import mrd_files, test_bart, test_cxi, test_nxtomo
from .test_load import coils_of, fft2, header, letter_f, projections, write_dxchange, write_fastmri

SIDE = """
kind = "ct"
quantity = "line_integrals"
axes = ["angle", "detector"]
[ct]
angles = { stop = 180, count = 24, unit = "deg" }
detector_spacing = 0.75
"""
SINOGRAM = projections(np.arange(24) * np.pi / 24).astype(np.float32)


def _native(folder: Path) -> Path:
    scan = simulate_mri(shepp_logan((24, 24)), coils=3, acceleration=2.0, calibration_lines=8)
    return write_scan(scan, folder / "scan.h5")


def _fastmri(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    kspace = fft2(coils_of(rng, letter_f(16, 12)))[None]
    write_fastmri(folder / "scan.h5", kspace, ismrmrd_header=header())
    return folder / "scan.h5"


def _ismrmrd(folder: Path) -> Path:
    image = mrd_files.letter_f(16, 14)
    maps = np.stack([np.ones_like(image), image * 0 + 0.5j])
    return mrd_files.write(
        folder / "scan.h5", mrd_files.header(14, 16), mrd_files.lines(image, maps)
    )


def _dxchange(folder: Path) -> Path:
    write_dxchange(folder / "scan.h5", SINOGRAM, np.arange(24) * 7.5)
    return folder / "scan.h5"


def _twix(folder: Path) -> Path:
    from . import test_twix  # skips where its package is missing

    lines = test_twix.lines_of(test_twix.IMAGE)
    return test_twix.write(folder, test_twix.measurement(lines))


def _bart(folder: Path) -> Path:
    images = test_bart.letter((16, 15))[..., None, None] * np.array([1.0, 0.5j])
    return test_bart.write_pair(folder / "scan", test_bart.kspace(images))


def _nxtomo(folder: Path) -> Path:
    test_nxtomo.nx.write(folder / "scan.nxs", test_nxtomo.usual())
    return folder / "scan.nxs"


def _cxi(folder: Path) -> Path:
    test_cxi.write(folder / "scan.cxi")
    return folder / "scan.cxi"


def _bare(suffix: str, write: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"scan{suffix}"
        write(path)
        path.with_suffix(".toml").write_text(SIDE)
        return path

    return make


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["sinogram"] = SINOGRAM


#: By the name of the format.
WRITERS: dict[str, Callable[[Path], Path]] = {
    "sciinv": _native,
    "fastmri": _fastmri,
    "ismrmrd": _ismrmrd,
    "dxchange": _dxchange,
    "nxtomo": _nxtomo,
    "cxi": _cxi,
    "twix": _twix,
    "bart": _bart,
    "npy": _bare(".npy", lambda path: np.save(path, SINOGRAM)),
    "npz": _bare(".npz", lambda path: np.savez(path, p=SINOGRAM)),
    "matlab5": _bare(".mat", lambda path: scipy.io.savemat(path, {"p": SINOGRAM})),
    "tiff": _bare(".tif", lambda path: tifffile.imwrite(path, SINOGRAM)),
    "hdf5": _bare(".h5", _hdf5),
}
