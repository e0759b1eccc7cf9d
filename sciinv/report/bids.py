"""A result under the names of BIDS derivatives (Brain Imaging Data Structure, from version 1.9).

k-space has no name in BIDS, so there is no raw data set to point to and no ``Sources``. Images that
sciinv makes of MRI are derivatives of the data type ``anat``. There is no name for CT (a proposal,
BEP 024, is open; ``uCT`` under ``micr`` is microscopy of samples, and TIFF) nor for diffraction.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from sciinv import __version__
from sciinv.errors import DataError
from sciinv.report.plain import plain
from sciinv.report.store import image_axes, write_nifti

if TYPE_CHECKING:
    from sciinv.result import Result

VERSION = "1.9.0"
#: Contrasts that an image of ``anat`` may have: BIDS, non-parametric structural images.
SUFFIXES = (
    "T1w", "T2w", "PDw", "T2starw", "FLAIR", "inplaneT1", "inplaneT2", "PDT2", "angio",
)  # fmt: skip
_DESCRIPTION = "dataset_description.json"
_LABEL = re.compile(r"[0-9A-Za-z]+")
_README = """Images that sciinv reconstructed from raw measurements, under BIDS derivative names.

desc-mean is the posterior mean, desc-std its standard deviation, desc-sampleNN one posterior
sample, desc-estimate the point estimate they start from, desc-baseline a classical reconstruction;
desc-visibleT1w_mask (of a T1w image) is 1 where the data see the voxel. Research use only.
"""


@dataclass(frozen=True)
class Entities:
    """What a user calls the images; nothing of it is taken from a header.

    :param subject: label of letters and digits; as the others.
    :param suffix: contrast, one of :data:`SUFFIXES`.
    :param run: number, from 1.
    :raises DataError: a label that BIDS does not allow.
    """

    subject: str
    suffix: str
    session: str | None = None
    acquisition: str | None = None
    run: int | None = None

    def __post_init__(self) -> None:
        """Check the labels."""
        for option, label in (
            ("--subject", self.subject), ("--session", self.session),
            ("--acquisition", self.acquisition),
        ):  # fmt: skip
            if label is not None and not _LABEL.fullmatch(label):
                raise DataError(option, found=repr(label), expected="letters and digits only")
        if self.suffix not in SUFFIXES:
            expected = f"one of {', '.join(SUFFIXES)}"
            raise DataError("--suffix", found=repr(self.suffix), expected=expected)

    @property
    def folder(self) -> Path:
        """Where the images lie in the data set."""
        folder = Path(f"sub-{self.subject}")
        return (folder / f"ses-{self.session}" if self.session else folder) / "anat"

    def name(self, description: str, *, solver: str, part: str | None = None,
             suffix: str | None = None) -> str:  # fmt: skip
        """Name of a file without its extension, entities in the order of BIDS."""
        pairs = (
            ("sub", self.subject), ("ses", self.session), ("acq", self.acquisition),
            ("rec", solver), ("run", None if self.run is None else f"{self.run}"),
            ("part", part), ("desc", description),
        )  # fmt: skip
        return "_".join([*(f"{k}-{v}" for k, v in pairs if v), suffix or self.suffix])


@dataclass(frozen=True)
class _Image:
    name: str
    voxels: NDArray[Any]
    about: dict[str, Any]


def write_bids(
    result: Result, root: Path, entities: Entities, *, overwrite: bool = False
) -> list[Path]:
    """Write images and side-cars into a derivative data set, which is made or added to.

    :param root: folder of the data set; absent, empty, or one that sciinv wrote.
    :param overwrite: replace images of the same names.
    :returns: the images.
    :raises DataError: no MRI, several volumes, or something in the way.
    """
    images = list(_images(result, entities))
    _check_root(root)
    folder = root / entities.folder
    taken = [image.name for image in images if (folder / f"{image.name}.nii.gz").exists()]
    if taken and not overwrite:
        raise DataError(
            folder, found=f"{taken[0]}.nii.gz", expected="none of that name", hint="use --force"
        )
    root.mkdir(parents=True, exist_ok=True)
    work = root / f".{uuid4().hex[:8]}.partial"
    try:
        work.mkdir()
        for image in images:
            write_nifti(
                work / f"{image.name}.nii.gz", image.voxels, result.affine, image.name,
                oriented=result.oriented,
            )  # fmt: skip
            _write_json(work / f"{image.name}.json", image.about)
        _write_json(work / _DESCRIPTION, _dataset())
        (work / "README").write_text(_README, encoding="utf-8")
        # only now, when all of it is there
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("README", _DESCRIPTION):
            (work / name).replace(root / name)
        fresh = sorted(work.iterdir())
        for path in fresh:
            path.replace(folder / path.name)
        for path in _stale(folder, images[0].name, {path.name for path in fresh}):
            path.unlink()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return [folder / f"{image.name}.nii.gz" for image in images]


def _stale(folder: Path, name: str, fresh: set[str]) -> list[Path]:
    """Files of an older result under the same labels, for example of more samples."""
    start, _, suffix = re.split(r"(part-mag_)?desc-mean_", name)
    image = rf"(part-(mag|phase)_)?desc-(mean|std|sample\d+|baseline|estimate)_{suffix}"
    old = re.compile(rf"{re.escape(start)}({image}|desc-visible{suffix}_mask)\.(nii\.gz|json)")
    return [p for p in folder.iterdir() if old.fullmatch(p.name) and p.name not in fresh]


def _images(result: Result, entities: Entities) -> Iterator[_Image]:
    """Everything that has a name, with its side-car."""
    if result.kind != "mri":
        raise DataError("BIDS", found=f"a result of kind {result.kind}", expected="MRI",
                        hint="BIDS has no names for other images of sciinv")  # fmt: skip
    if result.samples.ndim == 5 and result.samples.shape[1] > 1:
        raise DataError("BIDS", found=f"{result.samples.shape[1]} volumes",
                        expected="one: an anatomical image of BIDS has three axes")  # fmt: skip
    made = dict(result.provenance.get("solver", {}))
    solver = "".join(_LABEL.findall(str(made.get("name", "sciinv")))) or "sciinv"
    facts = plain({
        "SkullStripped": False,
        "ChiSquared": result.chi_squared,
        "Solver": solver,
        "Prior": dict(result.provenance.get("prior", {})).get("name", "unknown"),
    })  # fmt: skip
    magnitude = "mag" if result.is_complex else None

    def image(
        description: str, values: NDArray[Any], text: str, *, part: str | None = magnitude
    ) -> _Image:
        units = "rad" if part == "phase" else "arbitrary"
        name = entities.name(description, solver=solver, part=part)
        return _Image(name, image_axes(values), {"Description": text, "Units": units, **facts})

    yield image("mean", result.mean, "Posterior mean")
    if result.num_samples > 1:
        text = f"Posterior standard deviation, {result.std_factor:.3g} times that of the samples"
        yield image("std", result.std, text)
    for number, sample in enumerate(result.magnitude, start=1):
        yield image(f"sample{number:02d}", sample, f"Posterior sample {number}")
    yield image("baseline", result.baseline_magnitude, f"Classical: {result.baseline_name}")
    if result.estimate_magnitude is not None:
        yield image("estimate", result.estimate_magnitude, "Point estimate")
    if result.is_complex:
        phase = np.angle(result.complex_mean).astype(np.float32)
        yield image("mean", phase, "Phase of the posterior mean", part="phase")
    about = {"Description": "1 where the data see the voxel", "Type": "ROI"}
    # masks of several contrasts lie in one folder
    name = entities.name(f"visible{entities.suffix}", solver=solver, suffix="mask")
    yield _Image(name, image_axes(result.visible.astype(np.uint8)), about)


def _dataset() -> dict[str, Any]:
    return {
        "Name": "Reconstructions by sciinv",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "sciinv",
                "Version": __version__,
                "Description": "Posterior samples of raw scans with a diffusion prior",
            }
        ],
    }


def _check_root(root: Path) -> None:
    """Refuse to mix images into a folder of something else."""
    if root.is_symlink() or not root.exists():
        return
    if not root.is_dir():
        raise DataError(root, found="a file", expected="a folder or nothing")
    if not any(root.iterdir()):
        return
    try:
        made = json.loads((root / _DESCRIPTION).read_text(encoding="utf-8"))["GeneratedBy"]
        ours = any(entry["Name"] == "sciinv" for entry in made)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise DataError(root, found="a folder with other files",
                        expected="a derivative data set of sciinv, or nothing",
                        hint="choose a folder of its own, such as derivatives/sciinv"
                        )  # fmt: skip


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
