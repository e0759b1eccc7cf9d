"""Images from files: which slice is image number i, and what is done to its values.

The files are taken in the order of their paths, numbers in them by value. The last tenth of them
(at least one) is held out; of a single file the last tenth of its slices. So neighbours in a series
stay on one side, and nothing of a held-out file is ever trained on. In every epoch each training
slice comes once, in an order that depends on the seed and the number of the epoch only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sciinv.data.phantoms.finish import fold_phase, smooth_phase
from sciinv.data.scale import ct_scale, noncartesian_scale
from sciinv.errors import DataError
from sciinv.training.config import TrainingConfig
from sciinv.training.readers import open_stack, stack_type
from sciinv.training.source import Image, Unreadable

_PROBED = 16  # slices of a stack that its intensity scale is taken from
_NEGATIVE = 0.05  # share of the scale down to which negative values pass for noise
_HELD_OUT = 10


class Slices(Protocol):
    """A file with images: a :class:`~sciinv.training.readers.Stack`, or a scan."""

    path: Path

    @property
    def count(self) -> int:
        """Number of slices."""

    def read(self, index: int) -> NDArray[Any]:
        """Read one slice ``(H, W)``, real or complex.

        :raises DataError: it cannot be read.
        """


@dataclass
class FileSource:
    """Slices of image files, or of the fully sampled images of scans.

    Values are shifted by ``data.offset`` and divided by ``data.scale``, or by the scale that a
    reconstruction would use: the 90th percentile within the object for one channel, the 99th
    percentile of the magnitude for two, from up to 16 slices of the file. For one channel, complex
    values are replaced by their magnitude, slightly negative ones by zero; clearly negative ones
    are refused. For two channels, real images get the smooth phase of a coil (``phase =
    "smooth"``; in half of the draws what is left of it once its slow part is removed, as
    reconstructions do) or none.

    A slice larger than ``data.scene`` gives a random part of that size, so that the window of the
    stream stays small; one smaller than the patches is refused.

    :param config: of the run; only ``data`` and ``prior.channels`` matter.
    :param seed: of the order of the slices, of parts and of phases.
    :param held_out: the held-out slices, whole, instead of those to train on.
    :raises DataError: no file at all, one that cannot be read (unless ``on_error = "skip"``), or
        none that can.
    """

    config: TrainingConfig
    seed: tuple[int, ...]
    held_out: bool = False
    skipped: list[Unreadable] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        data = self.config.data
        self._stacks: list[Slices] = []
        for path in find_files(data.files, scans=data.source == "scans"):
            try:
                self._stacks.append(self._open(path))
            except DataError as error:
                if data.on_error == "stop":
                    raise
                self.skipped.append(Unreadable.of(path, error))
        if not self._stacks:
            raise DataError(", ".join(data.files), "files", found="none that can be read",
                            expected="image files")  # fmt: skip
        self._numbers = _split(self._stacks, self.held_out)
        self._scales: dict[int, float] = {}
        self._epoch: tuple[int, NDArray[np.int64]] | None = None

    def _open(self, path: Path) -> Slices:
        data = self.config.data
        if data.source == "scans":
            from sciinv.training.scans import ScanImages

            return ScanImages(path, self.config.prior.channels)
        stack = open_stack(path, data.dataset)
        _check_size(path, stack.shape, data.patch)
        return stack

    def __len__(self) -> int:
        """Slices of an epoch."""
        return len(self._numbers)

    def image(self, index: int) -> Image | Unreadable:
        """Read image ``index``: ``(channels, H, W)``."""
        data = self.config.data
        number, part = self._numbers[self._order(index)]
        stack = self._stacks[number]
        rng = np.random.default_rng((*self.seed, 1, index))
        try:
            values = self._scaled(number, stack.read(part))
            _check_size(stack.path, values.shape, data.patch)
        except DataError as error:
            return Unreadable.of(stack.path, error)
        if not self.held_out:
            values = _part(values, max(data.scene, data.patch), rng)
        return self._channels(values, rng)

    def describe(self) -> dict[str, Any]:
        """Kind, number and common names of the files; no folders, which may name people."""
        return {
            "source": self.config.data.source,
            "files": [Path(name).name for name in self.config.data.files],
            "files_read": len(self._stacks),
            "files_left_out": len(self.skipped),
            "slices": len(_split(self._stacks, False)),
            "slices_held_out": len(_split(self._stacks, True)),
        }

    # order ----------------------------------------------------------------------------------------
    def _order(self, index: int) -> int:
        epoch, place = divmod(index, len(self._numbers))
        if self._epoch is None or self._epoch[0] != epoch:
            rng = np.random.default_rng((*self.seed, 0, epoch))
            self._epoch = epoch, rng.permutation(len(self._numbers))
        return int(self._epoch[1][place])

    # values ---------------------------------------------------------------------------------------
    def _scaled(self, number: int, values: NDArray[Any]) -> NDArray[Any]:
        data, stack = self.config.data, self._stacks[number]
        values = self._shifted(values)
        if number not in self._scales:
            self._scales[number] = data.scale or self._scale_of(stack)
        scaled = values / np.float32(self._scales[number])
        if not np.iscomplexobj(scaled):
            lowest = float(scaled.min())
            # filtered back-projection of noise is negative in places; that is no offset
            images = data.source == "images"
            if images and lowest < -_NEGATIVE and self.config.prior.channels == 1:
                raise DataError(
                    stack.path, "values", found=f"down to {float(values.min()):g}",
                    expected="none below zero: air is 0 for a prior of one channel",
                    hint="set offset in [data] (1000 for Hounsfield units)",
                )  # fmt: skip
        return scaled

    def _shifted(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.config.prior.channels == 1 and np.iscomplexobj(values):
            values = np.abs(values)
        return values + np.float32(self.config.data.offset)

    def _scale_of(self, stack: Slices) -> float:
        count = stack.count
        probed = np.unique(np.linspace(0, count - 1, min(count, _PROBED)).round().astype(int))
        measure = ct_scale if self.config.prior.channels == 1 else noncartesian_scale
        values = [self._shifted(stack.read(int(i))) for i in probed]
        try:
            return measure(np.concatenate([v.ravel() for v in values]))
        except DataError:
            raise DataError(stack.path, "values", found="next to nothing but zeros",
                            expected="an image") from None  # fmt: skip

    def _channels(self, values: NDArray[Any], rng: np.random.Generator) -> Image:
        if self.config.prior.channels == 1:
            return np.maximum(values, 0)[None].astype(np.float32)
        if not np.iscomplexobj(values) and self.config.data.phase == "smooth":
            shape = (int(values.shape[0]), int(values.shape[1]))
            phase = smooth_phase(shape, rng, 1.0) + rng.uniform(0, 2 * np.pi)
            values = values * np.exp(1j * phase)
            values = fold_phase(values, rng) if rng.uniform() < 0.5 else values
        return np.stack([values.real, values.imag]).astype(np.float32)


def find_files(names: Sequence[str], *, scans: bool = False) -> list[Path]:
    """Return the files that are named, and those of known kinds in the folders that are named.

    Files of other kinds in a folder (read-me files, tables) and hidden ones are passed over; a file
    that is named is taken whatever it is called.

    :raises DataError: a name that does not exist, a folder without any image file.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = [p for p in path.rglob("*") if p.is_file() and not _hidden(p, path)
                      and (p.suffix.lower() in _SCANS if scans else stack_type(p))]  # fmt: skip
            if not inside:
                raise DataError(path, found="a folder without "
                                + ("scans" if scans else "image files"))  # fmt: skip
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(path, found="no such file or folder")
    return sorted(set(found), key=_by_name)


_SCANS = {".h5", ".hdf5", ".mat", ".npz"}


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _by_name(path: Path) -> list[tuple[int, int, str]]:
    """Compare names with the numbers in them by value: slice 9 comes before slice 10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part)
            for part in re.split(r"(\d+)", str(path)) if part]  # fmt: skip


def _split(stacks: Sequence[Slices], held_out: bool) -> list[tuple[int, int]]:
    """Return ``(file, slice)`` of every image on one side of the split."""
    if len(stacks) > 1:
        first = len(stacks) - max(1, len(stacks) // _HELD_OUT)
        chosen = range(first, len(stacks)) if held_out else range(first)
        return [(number, part) for number in chosen for part in range(stacks[number].count)]
    count = stacks[0].count
    if count < 2:
        raise DataError(stacks[0].path, "files", found="a single image",
                        expected="two or more, since some are held out to test on")  # fmt: skip
    first = count - max(1, count // _HELD_OUT)
    return [(0, part) for part in (range(first, count) if held_out else range(first))]


def _check_size(path: Path, shape: tuple[int, ...], patch: int) -> None:
    if min(shape) < patch:
        raise DataError(path, "shape", found=f"{shape[0]} x {shape[1]} pixels",
                        expected=f"at least the {patch} of data.patch")  # fmt: skip


def _part(values: NDArray[Any], side: int, rng: np.random.Generator) -> NDArray[Any]:
    height, width = (min(n, side) for n in values.shape)
    top = int(rng.integers(values.shape[0] - height + 1))
    left = int(rng.integers(values.shape[1] - width + 1))
    return values[top : top + height, left : left + width]
