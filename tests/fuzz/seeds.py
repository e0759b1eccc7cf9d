"""Tiny valid files of every format that is read, made by our own writers and by independent ones.

They are small, so that a change at random mostly hits structure and not numbers.
"""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np

from .parts import (
    SIDE,
    Seed,
    collect,
    ct_files,
    fan_files,
    hdf5,
    mri_files,
    npy,
    numbers,
    pattern,
    phase_files,
    signal,
    spiral_files,
)


# native -----------------------------------------------------------------------------------------
def native(folder: Path) -> Iterator[Seed]:
    from sciinv.data.load import load
    from sciinv.data.native import write_scan

    extra = {"mri": {"coil_maps": signal(1, 2, 6, 5), "reference": numbers(1, 6, 5)}}
    for name, files in (
        ("mri", mri_files()), ("ct", ct_files()), ("spiral", spiral_files()), ("fan", fan_files()),
    ):  # fmt: skip
        for part, content in files.items():
            (folder / part).write_bytes(content)
        scan = load(folder / "scan.npy").with_(**extra.get(name, {}))
        path = write_scan(scan, folder / f"{name}.h5")
        yield Seed({path.name: path.read_bytes()}, path.name, (path.name,))


# self-describing HDF5 ---------------------------------------------------------------------------
def fastmri(folder: Path) -> Iterator[Seed]:
    from sciinv.data.load import load
    from sciinv.data.write_fastmri import write_fastmri

    for part, content in mri_files().items():
        (folder / part).write_bytes(content)
    scan = load(folder / "scan.npy").with_(reference=numbers(1, 6, 5))
    for part in mri_files():
        (folder / part).unlink()
    path = write_fastmri(scan, folder / "scan.h5")
    yield collect(folder, "scan.h5")
    with h5py.File(path) as file:
        header = file["ismrmrd_header"][()]
    stream, file = hdf5(libver="latest")
    with file:
        file.create_dataset("kspace", data=signal(1, 2, 8, 6), chunks=(1, 1, 8, 6), compression=4)
        file["mask"] = np.ones(6, np.float32)
        file["ismrmrd_header"] = np.bytes_(header)
        file["reconstruction_rss"] = numbers(1, 8, 6)
        file.attrs["acquisition"] = "AXT2"
        file.attrs["max"] = 1.0
    yield Seed({"scan.h5": stream.getvalue()}, "scan.h5", ("scan.h5",))


def ismrmrd(folder: Path) -> Iterator[Seed]:
    from ..data import mrd_files as mrd

    if find_spec("ismrmrd") is None:
        return
    maps = np.ones((2, 1, 1)) * np.array([1, 1j])[:, None, None]
    cartesian = mrd.lines(numbers(5, 6), maps)
    noise = mrd.acquisition(signal(2, 6), flags=(19,))
    mrd.write(folder / "scan.h5", mrd.header(6, 5), [noise, *cartesian])
    yield collect(folder, "scan.h5")
    (folder / "scan.h5").unlink()
    track = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 7, 2))
    shots = [mrd.acquisition(signal(2, 7), traj=t, kspace_encode_step_1=i)
             for i, t in enumerate(track)]  # fmt: skip
    mrd.write(folder / "scan.h5", mrd.header(6, 5, trajectory="radial"), shots)
    yield collect(folder, "scan.h5")


def dxchange(folder: Path) -> Iterator[Seed]:
    stream, file = hdf5()
    with file:
        group = file.create_group("exchange")
        group["data"] = (1000 * numbers(6, 2, 8)).astype(np.uint16)
        group["data_white"] = np.full((2, 2, 8), 3000, np.uint16)
        group["data_dark"] = np.full((1, 2, 8), 10, np.uint16)
        group["theta"] = np.linspace(0, 150, 6)
        group["theta"].attrs["units"] = "deg"
        group["title"] = np.bytes_("a tooth")
    side = b'kind = "ct"\n[ct]\naxis_column = 3.5\ndetector_spacing = 0.01\n'
    yield Seed({"scan.h5": stream.getvalue(), "scan.toml": side}, "scan.h5", ("scan.h5",))


def nxtomo(folder: Path) -> Iterator[Seed]:
    from ..data import nxtomo_files as nx

    theta = nx.angles(4)
    p = nx.projections(nx.letter_f(), theta)
    for options in ({"as_bytes": True}, {"linked": True}):
        stack = nx.Stack().darks(1).flats(1e4, 1).views(p, theta).flats(1.1e4, 1).invalid()
        nx.write(folder / "scan.nxs", stack, **options)
        yield collect(folder, "scan.nxs")
        (folder / "scan.nxs").unlink()


def cxi(folder: Path) -> Iterator[Seed]:
    from ..data import test_cxi as files

    mask = np.zeros(files.PATTERN.shape, np.uint32)
    mask[0, :3] = 2
    files.write(folder / "scan.cxi", DETECTOR__mask=mask)
    yield collect(folder, "scan.cxi")
    files.write(folder / "scan.cxi", np.stack([files.PATTERN] * 2))
    yield collect(folder, "scan.cxi")


def hdf5_bare(folder: Path) -> Iterator[Seed]:
    side = (SIDE["fan"] + '[data]\nname = "a/b"\n').encode()
    filters: list[dict[str, object]] = [
        {"compression": 4, "shuffle": True},
        {"compression": "lzf", "fletcher32": True},
        {"scaleoffset": 4},
    ]
    if find_spec("hdf5plugin") is not None:
        import hdf5plugin as more

        filters += [dict(more.Blosc()), dict(more.Bitshuffle(cname="zstd")), dict(more.LZ4())]
        filters += [dict(more.Blosc2()), dict(more.Zstd()), dict(more.BZip2())]
    for options in filters:
        stream, file = hdf5(libver="latest" if "fletcher32" in options else "earliest")
        with file:
            file.create_dataset("a/b", data=numbers(6, 8), chunks=(3, 8), **options)
        yield Seed({"scan.h5": stream.getvalue(), "scan.toml": side}, "scan.h5", ("scan.h5",))


# raw data of vendors and laboratories -----------------------------------------------------------
def twix(folder: Path) -> Iterator[Seed]:
    if find_spec("twixtools") is None:
        return
    from ..data import test_twix as files

    files.write(folder, files.measurement(files.lines_of(files.IMAGE)))
    yield collect(folder, "meas.dat")
    noise = files.line(signal(2, 16), 0, flags=["NOISEADJSCAN"])
    two = [files.line(signal(2, 28), row) for row in range(2)]
    files.write(folder, files.measurement([noise]), files.measurement(two))
    yield collect(folder, "meas.dat")


def bart(folder: Path) -> Iterator[Seed]:
    from ..data.test_bart import write_pair

    write_pair(folder / "scan", signal(6, 5, 1, 2))
    yield collect(folder, "scan.cfl", "scan.cfl", "scan.hdr", "scan.hdr", "scan.hdr")
    write_pair(folder / "maps", signal(6, 5, 1, 2), dims=5)
    side = 'kind = "mri"\n[mri]\nvoxel_size = [2.0, 1.5, 1.0]\n[coil_maps]\nfile = "maps.cfl"\n'
    (folder / "scan.toml").write_text(side)
    yield collect(folder, "scan.cfl", "maps.hdr", "maps.cfl", "scan.toml")


# bare arrays -------------------------------------------------------------------------------------
def npy_bare(folder: Path) -> Iterator[Seed]:
    yield Seed(spiral_files(), "scan.npy", ("scan.npy", "k.npy", "w.npy"))
    yield Seed(ct_files(), "scan.npy", ("scan.npy", "blank.npy"))
    fortran = np.asfortranarray(signal(2, 6, 5)).astype(">c16")
    side = SIDE["mri"].encode()
    yield Seed({"scan.npy": npy(fortran), "scan.toml": side}, "scan.npy", ("scan.npy",))


def npz_bare(folder: Path) -> Iterator[Seed]:
    side = (SIDE["mri"] + '[data]\nname = "k"\n').encode()
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, k=signal(2, 6, 5), other=np.arange(3))
        yield Seed({"scan.npz": stream.getvalue(), "scan.toml": side}, "scan.npz", ("scan.npz",))


def matlab(folder: Path) -> Iterator[Seed]:
    import scipy.io

    values = {"k": signal(2, 6, 5), "s": {"x": numbers(6, 8), "t": "hi"}, "n": 1.0}
    for packed in (False, True):
        for kind, name in (("mri", "k"), ("fan", "s.x")):
            stream = io.BytesIO()
            scipy.io.savemat(stream, values, do_compression=packed)
            content = bytearray(stream.getvalue())
            content[:116] = b"MATLAB 5.0 MAT-file".ljust(116)  # without the date
            side = (SIDE[kind] + f'[data]\nname = "{name}"\n').encode()
            files = {"scan.mat": bytes(content), "scan.toml": side}
            yield Seed(files, "scan.mat", ("scan.mat",))


def tiff(folder: Path) -> Iterator[Seed]:
    import tifffile

    counts = pattern(3, 16, 16).astype(np.uint16)
    options: list[dict[str, object]] = [
        {},
        {"bigtiff": True, "byteorder": ">"},
        {"compression": "zlib", "predictor": 2},
        {"tile": (16, 16), "compression": "lzma"},
        {"rowsperstrip": 4, "metadata": None, "contiguous": False},
    ]
    side = SIDE["frames"].encode()
    for chosen in options:
        stream = io.BytesIO()
        tifffile.imwrite(stream, counts, photometric="minisblack", **chosen)  # type: ignore[arg-type]
        yield Seed({"scan.tif": stream.getvalue(), "scan.toml": side}, "scan.tif", ("scan.tif",))


def sidecar(folder: Path) -> Iterator[Seed]:
    for files in (spiral_files(), ct_files(), fan_files(), phase_files()):
        yield Seed(files, "scan.npy", ("scan.toml",))


def phase(folder: Path) -> Iterator[Seed]:
    targets = ("scan.npy", "mask.npy", "scan.toml")
    yield Seed(phase_files(), "scan.npy", targets)
    stream, file = hdf5()
    with file:
        file["pattern"] = pattern(12, 10)
    files = phase_files() | {"scan.h5": stream.getvalue()}
    yield Seed(files, "scan.h5", ("scan.h5", *targets[1:]))
    from sciinv.data.load import load
    from sciinv.data.native import write_scan

    for name, content in phase_files().items():
        (folder / name).write_bytes(content)
    written = write_scan(load(folder / "scan.npy"), folder / "native.h5").read_bytes()
    yield Seed({"native.h5": written}, "native.h5", ("native.h5",))


# what this package wrote itself -----------------------------------------------------------------
def prior(folder: Path) -> Iterator[Seed]:
    import torch

    from sciinv.priors.network import UNet
    from sciinv.priors.precondition import EDMDenoiser
    from sciinv.priors.store import save

    for dtype in (torch.float32, torch.float16):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = UNet(2, widths=(2, 2), features=2, blocks=1)
        made = EDMDenoiser(net, sigma_min=0.01, sigma_max=3.0, channels=2, card={"name": "toy"})
        save(made, folder / "toy.safetensors", dtype=dtype)
        yield collect(folder, "toy.safetensors")


def result(folder: Path) -> Iterator[Seed]:
    from sciinv.report.store import write_hdf5

    from ..report.conftest import make_result

    for kind in ("mri", "ct"):
        made = make_result(kind, shape=(8, 8), samples=2)
        write_hdf5(made, folder / "result.h5")
        yield collect(folder, "result.h5")


# images that results are compared with -----------------------------------------------------------
def dicom(folder: Path) -> Iterator[Seed]:
    if find_spec("pydicom") is None:
        return
    from unittest import mock

    from ..data import image_files as files

    image = files.letter_f()[:3]
    with mock.patch("pydicom.uid.generate_uid", return_value="1.2.826.0.1"):
        files.write_series(folder, image)
        series = collect(folder, "000")
        files.write_enhanced(folder / "000", image, (2, 0, 1))
        many = (folder / "000").read_bytes()
    yield Seed(series.files, ".", tuple(series.files))
    yield Seed({"000": series.files["000"]}, "000", ("000",))
    yield Seed({"000": many}, "000", ("000",))


def nifti(folder: Path) -> Iterator[Seed]:
    from ..data import image_files as files

    image = files.letter_f((2, 7, 6)).astype(np.float32)
    files.write_nifti(folder / "image.nii", image)
    plain = (folder / "image.nii").read_bytes()
    yield Seed({"image.nii": plain}, "image.nii", ("image.nii",))
    packed = gzip.compress(plain, mtime=0)
    yield Seed({"image.nii.gz": packed}, "image.nii.gz", ("image.nii.gz",))


#: Writers of the seeds of each format.
FORMATS: dict[str, Callable[[Path], Iterator[Seed]]] = {
    "native": native,
    "fastmri": fastmri,
    "ismrmrd": ismrmrd,
    "dxchange": dxchange,
    "nxtomo": nxtomo,
    "cxi": cxi,
    "twix": twix,
    "bart": bart,
    "npy": npy_bare,
    "npz": npz_bare,
    "matlab": matlab,
    "tiff": tiff,
    "hdf5": hdf5_bare,
    "phase": phase,
    "sidecar": sidecar,
    "dicom": dicom,
    "nifti": nifti,
    "result": result,
    "prior": prior,
}
#: How the files of a format are read, where it is not ``sciinv.data.load``.
READERS = {"prior": "prior", "result": "result", "dicom": "image", "nifti": "image"}


def make(name: str) -> list[Seed]:
    """Write the seeds of a format; none where the package of an independent writer is missing."""
    # twixtools prints
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        return list(FORMATS[name](Path(folder)))
