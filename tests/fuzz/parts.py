"""What seeds are made of: small arrays, the bytes of containers, side-cars."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

SIDE = {
    "mri": 'kind = "mri"\nquantity = "kspace"\naxes = ["coil", "row", "column"]\n'
    "[mri]\nvoxel_size = [2.0, 1.5, 1.0]\n[noise]\nstd = 0.5\n",
    "ct": 'kind = "ct"\nquantity = "counts"\naxes = ["angle", "detector"]\n'
    '[blank]\nfile = "blank.npy"\n[ct]\ndetector_spacing = 0.5\n'
    'angles = { start = 0.0, stop = 180.0, count = 6, unit = "deg" }\n',
    "fan": 'kind = "ct"\nquantity = "line_integrals"\naxes = ["angle", "detector"]\n[ct]\n'
    'beam = "fan"\nangles = { stop = 360, count = 6, unit = "deg" }\nsource_distance = 200.0\n'
    "detector_distance = 100.0\ndetector_spacing = 0.75\naxis_shift = 0.5\n",
    "spiral": 'kind = "mri"\nquantity = "kspace"\naxes = ["coil", "shot", "sample"]\n[mri]\n'
    'fov = [320.0, 240.0]\nimage_shape = [6, 5]\n[mri.trajectory]\nfile = "k.npy"\n'
    'unit = "cycles/fov"\n[mri.density]\nfile = "w.npy"\n',
    "diffraction": 'kind = "diffraction"\nquantity = "counts"\naxes = ["row", "column"]\n'
    '[diffraction]\noversampling = 2.0\n[mask]\nfile = "mask.npy"\n',
    "frames": 'kind = "diffraction"\nquantity = "counts"\naxes = ["frame", "row", "column"]\n'
    "[diffraction]\nimage_shape = [2, 8, 8]\nvoxel_size = [1e-4, 2e-5, 3e-5]\n",
}


@dataclass(frozen=True)
class Seed:
    """Files by name; ``main`` is what a user names, those in ``targets`` are what gets damaged."""

    files: dict[str, bytes]
    main: str
    targets: tuple[str, ...]


def collect(folder: Path, main: str, *targets: str) -> Seed:
    """Everything in a folder, as a seed."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return Seed(files, main, targets or (main,))


def numbers(*shape: int, seed: int = 1) -> np.ndarray:
    """Positive float32 numbers."""
    return np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32)


def signal(*shape: int) -> np.ndarray:
    """Complex64 numbers."""
    return (numbers(*shape) - 1 + 1j * numbers(*shape, seed=2)).astype(np.complex64)


def pattern(*shape: int) -> np.ndarray:
    """Counts with a bright centre."""
    counts = np.random.default_rng(3).poisson(3.0, shape).astype(np.int32)
    row, column = (n // 2 for n in shape[-2:])
    counts[..., row, column - 1 : column + 2] = 600
    counts[tuple(n // 2 for n in shape)] = 1000
    return counts


def npy(array: np.ndarray) -> bytes:
    """The bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def hdf5(**options: object) -> tuple[io.BytesIO, h5py.File]:
    """An HDF5 file in memory; close it, then take the value of the stream."""
    stream = io.BytesIO()
    return stream, h5py.File(stream, "w", **options)


# bare arrays and their side-car -----------------------------------------------------------------
def mri_files() -> dict[str, bytes]:
    return {"scan.npy": npy(signal(2, 6, 5)), "scan.toml": SIDE["mri"].encode()}


def spiral_files() -> dict[str, bytes]:
    track = np.random.default_rng(0).uniform(-2, 2, (3, 7, 2))
    files = {"scan.npy": npy(signal(2, 3, 7)), "k.npy": npy(track), "w.npy": npy(numbers(3, 7))}
    return files | {"scan.toml": SIDE["spiral"].encode()}


def fan_files() -> dict[str, bytes]:
    return {"scan.npy": npy(numbers(6, 8)), "scan.toml": SIDE["fan"].encode()}


def ct_files() -> dict[str, bytes]:
    counts = (1000 * numbers(6, 8)).astype(np.int32)
    blank = np.full(8, 3000.0)
    side = SIDE["ct"].encode()
    return {"scan.npy": npy(counts), "blank.npy": npy(blank), "scan.toml": side}


def phase_files() -> dict[str, bytes]:
    mask = np.ones((12, 10), np.uint8)
    side = SIDE["diffraction"].encode()
    return {"scan.npy": npy(pattern(12, 10)), "mask.npy": npy(mask), "scan.toml": side}
