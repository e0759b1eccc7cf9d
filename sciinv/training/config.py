"""What a training run is made of, as a TOML file; every field has a default that trains something.

The sections are ``[prior]``, ``[network]``, ``[noise]``, ``[data]``, ``[optimiser]``, ``[average]``
and ``[run]``; their fields are those of the classes here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sciinv.data.toml import read_toml
from sciinv.errors import DataError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PriorSection(_Section):
    """What the prior is called and what its images are.

    ``channels``: 1 for real images, 2 for complex ones (real and imaginary part).
    """

    name: str = Field(default="prior", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    channels: Literal[1, 2] = 2
    description: str = ""


class NetworkSection(_Section):
    """Architecture of :class:`sciinv.priors.UNet`."""

    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: int | tuple[int, ...] = 1
    features: int = Field(default=64, ge=1)
    patch: Literal[1, 2, 4] = 1


class NoiseSection(_Section):
    """Noise levels of the training, in units in which an image has a robust maximum of about 1.

    ``ln sigma`` is normal with mean ``log_mean`` and standard deviation ``log_std``; a share
    ``even`` of the draws is spread evenly over ``ln sigma_min`` to ``ln sigma_max`` instead, so
    that both ends are seen. ``sigma_data`` is the standard deviation of the images.
    """

    sigma_data: float = Field(default=0.35, gt=0)
    sigma_min: float = Field(default=0.003, gt=0)
    sigma_max: float = Field(default=5.0, gt=0)
    log_mean: float = -2.0
    log_std: float = Field(default=1.3, gt=0)
    even: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> NoiseSection:
        if self.sigma_min >= self.sigma_max:
            raise ValueError("sigma_min must be below sigma_max")
        return self


class DataSection(_Section):
    """Where images come from.

    ``source``: ``"procedural"`` scenes of a ``world`` (``without`` some of its ingredients),
    ``"images"`` or ``"scans"`` from ``files`` (paths or folders, relative to the configuration;
    ``dataset`` names the data set within HDF5 files). ``offset`` is added to the values of files
    (1000 for Hounsfield units) before they are divided by ``scale``, or by a robust maximum of
    each file; ``phase`` is what real images get for a prior of two channels: a ``"smooth"`` one,
    or ``"none"``.
    ``scene`` is the side of a procedural scene (and the largest part taken of the image of a file),
    ``patch`` that of the crops the network sees.
    A window of ``window`` scenes is kept; ``fresh`` new ones a step (0.5: one every other step)
    displace the oldest, and crops are drawn from all of them, made by ``workers`` processes.
    ``on_error``: ``"stop"`` at an unreadable file or ``"skip"`` it, named in the log either way.
    """

    source: Literal["procedural", "images", "scans"] = "procedural"
    world: str = "generic"
    without: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    dataset: str | None = None
    offset: float = 0.0
    scale: float | None = Field(default=None, gt=0)
    phase: Literal["smooth", "none"] = "smooth"
    scene: int = Field(default=128, ge=16)
    patch: int = Field(default=64, ge=8)
    window: int = Field(default=256, ge=1)
    fresh: float = Field(default=1.0, gt=0)
    workers: int = Field(default=0, ge=0)
    flips: bool = True
    gain: tuple[float, float] = (0.7, 1.2)
    on_error: Literal["stop", "skip"] = "stop"
    held_out: int = Field(default=12, ge=1)

    @model_validator(mode="after")
    def _sizes(self) -> DataSection:
        if self.source == "procedural" and self.patch > self.scene:
            raise ValueError("patch must not be larger than scene")
        if self.source != "procedural" and not self.files:
            raise ValueError(f"source {self.source!r} needs files")
        if not 0 < self.gain[0] <= self.gain[1]:
            raise ValueError("gain must be two positive numbers, the smaller first")
        return self


class OptimiserSection(_Section):
    """Adam with a linear warm-up and, from ``decay_from`` of the run on, a linear decay to zero.

    ``batch`` is per device and pass; a step averages ``accumulate`` passes of every device.
    """

    steps: int = Field(default=8000, ge=1)
    batch: int = Field(default=12, ge=1)
    accumulate: int = Field(default=1, ge=1)
    rate: float = Field(default=1.6e-3, gt=0)
    warmup: int = Field(default=200, ge=0)
    decay_from: float = Field(default=0.3, ge=0, lt=1)
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = Field(default=1.0, gt=0)


class AverageSection(_Section):
    """Power-function averages of the weights.

    ``widths``: relative standard deviations of their profiles (Karras et al., CVPR 2024, section
    3.1); the one that denoises held-out images best becomes the prior.
    """

    widths: tuple[float, ...] = (0.05, 0.1)

    @model_validator(mode="after")
    def _range(self) -> AverageSection:
        if not self.widths or not all(0 < w < 0.28 for w in self.widths):
            raise ValueError("widths must be between 0 and 0.28")
        return self


class RunSection(_Section):
    """How the run is carried out.

    ``devices`` and ``nodes`` are those of Lightning Fabric; under ``torchrun`` or SLURM they come
    from the launcher. ``checkpoint_every`` and ``log_every`` count steps.
    """

    seed: int = Field(default=0, ge=0)
    precision: Literal["32", "bf16", "16"] = "32"
    channels_last: bool = True
    compile: bool = False
    threads: int | None = Field(default=None, ge=1)
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int | Literal["auto"] = 1
    nodes: int = Field(default=1, ge=1)
    log_every: int = Field(default=100, ge=1)
    checkpoint_every: int = Field(default=500, ge=1)


class TrainingConfig(_Section):
    """All sections of a training configuration."""

    prior: PriorSection = PriorSection()
    network: NetworkSection = NetworkSection()
    noise: NoiseSection = NoiseSection()
    data: DataSection = DataSection()
    optimiser: OptimiserSection = OptimiserSection()
    average: AverageSection = AverageSection()
    run: RunSection = RunSection()


def load_config(path: str | Path, changes: Sequence[str] = ()) -> TrainingConfig:
    """Read a TOML configuration; relative ``data.files`` are taken from its folder.

    :param changes: ``"section.field=value"``, each in the place of what the file says; the value as
        in TOML, text also without quotes.
    :raises DataError: the file is missing, no TOML, or a field is unknown or out of range; the
        message names file, field, what was found and what was expected.
    """
    path = Path(path)
    table, _ = read_toml(path, "a training configuration")
    for change in changes:
        _apply(table, change)
    config = make_config(table, path)
    files = tuple(str(path.parent / name) for name in config.data.files)
    return config.model_copy(update={"data": config.data.model_copy(update={"files": files})})


def _apply(table: dict[str, Any], change: str) -> None:
    place, equals, text = change.partition("=")
    section, dot, field = place.strip().partition(".")
    if not (equals and dot and field):
        raise DataError("--set", found=repr(change), expected="section.field=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    part = table.setdefault(section, {})
    if not isinstance(part, dict):
        raise DataError("--set", section, found=repr(part), expected="a section")
    part[field] = value


def make_config(table: dict[str, Any], where: object = "training configuration") -> TrainingConfig:
    """Check a table of sections.

    :raises DataError: a field is unknown or out of range.
    """
    try:
        return TrainingConfig.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "sections"
        if first["type"] == "extra_forbidden":
            raise DataError(where, field, found="no field of that name",
                            expected=_nearest(first["loc"])) from None  # fmt: skip
        found = first["input"]
        shown = repr(found) if not isinstance(found, dict) else "this section"
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise DataError(where, field, found=shown, expected=message) from None


def _nearest(place: tuple[int | str, ...]) -> str:
    """Return the name that an unknown one may have meant, or all of them."""
    fields = TrainingConfig.model_fields
    names = list(fields)
    if len(place) > 1:
        section: Any = fields[str(place[0])].annotation
        names = list(section.model_fields)
    close = get_close_matches(str(place[-1]), names, n=1)
    return close[0] if close else f"one of {', '.join(names)}"


def as_table(config: TrainingConfig) -> dict[str, Any]:
    """Return a configuration as plain JSON types that may be shown to others.

    Of ``data.files`` only the last part of each path is kept: folders name people and machines.
    """
    table = config.model_dump(mode="json")
    table["data"]["files"] = [Path(name).name for name in config.data.files]
    return table
