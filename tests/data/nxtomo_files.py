"""NXtomo files as the NeXus manual describes them, written with h5py alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

COLUMNS, ROWS, VIEWS = 33, 3, 60
PIXEL = 0.5  # mm
MARKER = (5, 26)  # row, column of one voxel, brighter than the letter


def letter_f() -> np.ndarray:
    """An F with one marked voxel beside it, inside the circle that all views see."""
    image = np.zeros((COLUMNS, COLUMNS))
    image[8:26, 11] = 1.0
    image[8, 11:21] = 1.0
    image[16, 11:17] = 1.0
    image[MARKER] = 4.0
    return image


def angles(count: int = VIEWS, stop: float = np.pi) -> np.ndarray:
    return np.arange(count) * stop / count


def projections(image: np.ndarray, theta: np.ndarray, axis: float | None = None) -> np.ndarray:
    """Line integrals of Gaussian blobs at the voxels' centres, ``(angles, columns)``.

    A point (x, y) lands on s = x cos t + y sin t; column k lies at (k - axis) pixels.
    """
    axis = (COLUMNS - 1) / 2 if axis is None else axis
    s = (np.arange(COLUMNS) - axis) * PIXEL
    width = 0.7 * PIXEL
    total = np.zeros((len(theta), COLUMNS))
    for row, column in np.argwhere(image):
        x = (column - (COLUMNS - 1) / 2) * PIXEL
        y = -(row - (COLUMNS - 1) / 2) * PIXEL
        t = x * np.cos(theta) + y * np.sin(theta)
        blob = np.exp(-((s - t[:, None]) ** 2) / (2 * width**2))
        total += 0.1 * image[row, column] * blob
    return total


class Stack:
    """Frames in the order in which they were taken: counts, key, angle in degrees, monitor."""

    def __init__(self, dark: float = 100.0) -> None:
        self.dark = np.full((ROWS, COLUMNS), dark)
        self.frames: list[np.ndarray] = []
        self.keys: list[int] = []
        self.degrees: list[float] = []
        self.monitor: list[float] = []

    def add(self, frame: np.ndarray, key: int, degrees: float = 0.0, monitor: float = 1.0) -> None:
        self.frames.append(np.broadcast_to(frame, (ROWS, COLUMNS)))
        self.keys.append(key)
        self.degrees.append(degrees)
        self.monitor.append(monitor)

    def darks(self, count: int = 2) -> Stack:
        for _ in range(count):
            self.add(self.dark, 2)
        return self

    def flats(self, beam: float | np.ndarray, count: int = 2, monitor: float = 1.0) -> Stack:
        for _ in range(count):
            self.add(self.dark + beam, 1, monitor=monitor)
        return self

    def views(self, p: np.ndarray, theta: np.ndarray, beam: Any = 1e4, monitor: Any = 1.0) -> Stack:
        beam, monitor = (np.broadcast_to(v, len(theta)) for v in (beam, monitor))
        for one, angle, b, m in zip(p, theta, beam, monitor, strict=True):
            self.add(self.dark + b * np.exp(-one), 0, float(np.rad2deg(angle)), float(m))
        return self

    def invalid(self, degrees: float = 0.0) -> Stack:
        self.add(np.full((ROWS, COLUMNS), np.nan), 3, degrees)
        return self


def write(
    path: Path,
    stack: Stack,
    *,
    entry: str = "entry",
    as_bytes: bool = False,
    linked: bool = False,
    length: tuple[float, str | None] | None = (PIXEL, "mm"),
    unit: str | None = "degree",
    **extra: Any,
) -> Path:
    """Write one entry.

    :param as_bytes: texts and attributes as fixed-length bytes instead of UTF-8 strings.
    :param linked: frames, key and angles lie in ``data``, the detector holds soft links to them.
    :param length: pixel size along columns and its unit; rows are twice as far apart.
    :param extra: values of further data sets; ``__`` stands for ``/``.
    """

    def text(value: str) -> Any:
        return np.bytes_(value) if as_bytes else value

    with h5py.File(path, "a") as file:
        group = file.create_group(entry)
        group.attrs["NX_class"] = text("NXentry")
        group["definition"] = text("NXtomo")
        group["definition"].attrs["version"] = text("2.0")
        for name, kind in (
            ("instrument", "NXinstrument"),
            ("instrument/detector", "NXdetector"),
            ("sample", "NXsample"),
            ("data", "NXdata"),
            ("control", "NXmonitor"),
        ):
            group.require_group(name).attrs["NX_class"] = text(kind)
        detector = "data" if linked else "instrument/detector"
        group[f"{detector}/data"] = np.asarray(stack.frames, np.float32)
        group[f"{detector}/image_key"] = np.asarray(stack.keys, np.int32)
        angle = "data/rotation_angle" if linked else "sample/rotation_angle"
        group[angle] = np.asarray(stack.degrees)
        if unit is not None:
            group[angle].attrs["units"] = text(unit)
        if linked:
            for name in ("data", "image_key"):
                group[f"instrument/detector/{name}"] = h5py.SoftLink(f"/{entry}/data/{name}")
            group["sample/rotation_angle"] = h5py.SoftLink(f"/{entry}/data/rotation_angle")
        if length is not None:
            for name, size in (("x_pixel_size", length[0]), ("y_pixel_size", 2 * length[0])):
                group[f"instrument/detector/{name}"] = size
                if length[1] is not None:
                    group[f"instrument/detector/{name}"].attrs["units"] = text(length[1])
        for name, value in extra.items():
            group[name.replace("__", "/")] = value
    return path
