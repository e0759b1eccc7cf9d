"""``sciinv simulate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sciinv.data.scan import Scan


class Kind(StrEnum):
    """What to simulate."""

    MRI = "mri"
    CT = "ct"
    DIFFRACTION = "diffraction"


class Trajectory(StrEnum):
    """Ways through k-space."""

    CARTESIAN = "cartesian"
    RADIAL = "radial"
    SPIRAL = "spiral"


class Beam(StrEnum):
    """Shapes of the X-ray beam."""

    PARALLEL = "parallel"
    FAN = "fan"


class Phantom(StrEnum):
    """Built-in objects."""

    SHEPP_LOGAN = "shepp-logan"
    SCENE = "scene"
    CRYSTAL = "crystal"


def simulate(
    output: Path = typer.Argument(..., metavar="OUT.h5", help="File to write.", show_default=False),
    kind: Kind = typer.Option(Kind.MRI, help="Modality."),
    phantom: Phantom | None = typer.Option(
        None, help="Built-in object; crystal for diffraction, else shepp-logan, if not given."
    ),
    image: Path | None = typer.Option(
        None, metavar="FILE", help="Image to scan instead: .npy, NIfTI or DICOM."
    ),
    size: int = typer.Option(128, min=8, max=4096, metavar="N", help="Pixels along each axis."),
    coils: int = typer.Option(8, min=1, metavar="N", help="MRI: receive coils."),
    acceleration: float = typer.Option(4.0, min=1.0, metavar="R", help="MRI: undersampling."),
    calibration: int = typer.Option(16, min=0, metavar="N", help="MRI: calibration lines."),
    trajectory: Trajectory = typer.Option(Trajectory.CARTESIAN, help="MRI: way through k-space."),
    noise: float = typer.Option(
        0.01, min=0.0, metavar="STD", help="MRI: k-space noise per real component, image maximum 1."
    ),
    beam: Beam = typer.Option(Beam.PARALLEL, help="CT: shape of the beam."),
    angles: int = typer.Option(
        60, min=1, metavar="N", help="CT: projections over 180 degrees, fan beam: 360."
    ),
    dose: float = typer.Option(1e4, min=1.0, metavar="N", help="CT: photons per detector pixel."),
    photons: float = typer.Option(
        1e6, min=1.0, metavar="N", help="Diffraction: photons of the pattern."
    ),
    oversampling: float = typer.Option(
        2.0, min=1.0, max=16.0, metavar="R", help="Diffraction: pattern over image size."
    ),
    beam_stop: float = typer.Option(
        0.0, min=0.0, metavar="PIXELS", help="Diffraction: radius of the beam stop."
    ),
    pixel_size: float | None = typer.Option(
        None, min=1e-6, metavar="MM", help="Pixel size; that of the image, or 1, if not given."
    ),
    seed: int = typer.Option(0, metavar="N", help="Seed of the object and the noise."),
    overwrite: bool = typer.Option(False, help="Replace an existing file."),
) -> None:
    """Simulate a scan of a phantom or an image, with the truth in the file for 'evaluate'."""
    from sciinv.cli.console import phase_line, say
    from sciinv.data.describe import describe
    from sciinv.data.native import write_scan
    from sciinv.errors import DataError, SciinvError, reason_of

    if output.exists() and not overwrite:
        raise DataError(output, found="an existing file", expected="none", hint="use --overwrite")
    if not output.absolute().parent.is_dir():
        raise DataError(output, found="no such folder", expected="an existing folder")
    pixels, own_size = (None, 1.0) if image is None else _read_image(image)
    try:
        scan = make(
            kind.value, None if phantom is None else phantom.value, size=size, coils=coils,
            acceleration=acceleration, calibration=calibration, noise=noise, angles=angles,
            dose=dose, pixel_size=pixel_size or own_size, seed=seed, image=pixels,
            trajectory=trajectory.value, beam=beam.value, photons=photons,
            oversampling=oversampling, beam_stop=beam_stop,
        )  # fmt: skip
    except ValueError as error:
        raise SciinvError(str(error)) from error
    try:
        write_scan(scan, output)
    except (OSError, RuntimeError) as error:  # h5py raises the second where closing fails
        raise DataError(
            output, found=reason_of(error), expected="a file that can be written"
        ) from error
    say(phase_line("scan", describe(scan)))
    say(str(output))


def make(
    kind: str,
    phantom: str | None = None,
    *,
    size: int = 128,
    coils: int = 8,
    acceleration: float = 4.0,
    calibration: int = 16,
    noise: float = 0.01,
    angles: int = 60,
    dose: float = 1e4,
    pixel_size: float = 1.0,
    seed: int = 0,
    image: NDArray[Any] | None = None,
    trajectory: str = "cartesian",
    beam: str = "parallel",
    photons: float = 1e6,
    oversampling: float = 2.0,
    beam_stop: float = 0.0,
) -> Scan:
    """Simulate a scan; the arguments are those of the command."""
    import numpy as np

    from sciinv.data.phantoms import crystal, scene, shepp_logan
    from sciinv.data.simulate import (
        simulate_ct,
        simulate_diffraction,
        simulate_fan,
        simulate_mri,
        simulate_noncartesian,
    )

    rng = np.random.default_rng(seed)
    if image is None:
        phantom = phantom or ("crystal" if kind == "diffraction" else "shepp-logan")
        if phantom == "crystal":
            image = crystal((size, size), rng)
        elif phantom == "scene":
            image = scene((size, size), rng, complex_=kind != "ct")
        else:
            image = shepp_logan((size, size))
    if kind == "diffraction":
        return simulate_diffraction(
            image, photons=photons, oversampling=oversampling, beam_stop=beam_stop, rng=rng,
            pixel_size=(pixel_size,) * 3,
        )  # fmt: skip
    if kind == "mri" and trajectory in ("radial", "spiral"):
        return simulate_noncartesian(
            image, trajectory="radial" if trajectory == "radial" else "spiral", coils=coils,
            acceleration=acceleration, noise_std=noise, rng=rng, voxel_size=(pixel_size,) * 3,
            state_noise=False,
        )  # fmt: skip
    if kind == "mri":
        return simulate_mri(
            image, coils=coils, acceleration=acceleration, calibration_lines=calibration,
            noise_std=noise, rng=rng, voxel_size=(pixel_size,) * 3, state_noise=False,
        )  # fmt: skip
    # about the attenuation of water at 60 keV for a value of 1
    attenuation = 0.02 * np.clip(np.abs(image), 0, None)
    make_ct = simulate_fan if beam == "fan" else simulate_ct
    return make_ct(attenuation, num_angles=angles, dose=dose, pixel_size=pixel_size, rng=rng)


def _read_image(path: Path) -> tuple[NDArray[Any], float]:
    """Return pixels, and their size in mm; 1 if it is not known, or pixels are not square."""
    import numpy as np

    from sciinv.cli.images import read_any_image

    image = read_any_image(path)
    rows, columns = np.linalg.norm(image.affine[:3, :2], axis=0)
    size = float(rows) if abs(rows - columns) < 0.01 * rows else 1.0
    values = image.values
    return np.asarray(values[0] if values.ndim == 3 and len(values) == 1 else values), size
