"""Flat and dark fields out of one stack of frames, in which they may lie anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["beam_of"]

_PROJECTION, _FLAT, _DARK = 0, 1, 2


def beam_of(
    frames: NDArray[Any],
    keys: NDArray[np.signedinteger[Any]],
    monitor: NDArray[np.float64] | None,
    notes: list[str],
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return open and closed beam, ``(rows, 1 or projections, columns)`` each.

    Dark frames are averaged. So are the flat frames of one set, an unbroken run of them (dark and
    invalid frames do not break it). Between the sets before and after a projection the open beam
    is interpolated linearly in the number of the frame: a beam drifts.

    :param frames: ``(frames, rows, columns)``.
    :param keys: what each is: 0 projection, 1 flat, 2 dark; at least one of the first two.
    :param monitor: beam monitor of each frame, positive: the open beam is scaled by it.
    :param notes: gets what was done.
    """
    dark = None
    if (keys == _DARK).any():
        dark = frames[keys == _DARK].mean(axis=0, dtype=np.float64)[:, None]
    else:
        notes.append("the file has no dark frame: zero assumed")
    closed = 0.0 if dark is None else dark
    if monitor is not None and not np.ptp(monitor[(keys == _PROJECTION) | (keys == _FLAT)]):
        monitor = None
    sets = _runs(keys)
    if len(sets) > 1:
        notes.append(f"the open beam is interpolated between {len(sets)} sets of flat fields")
    beams = [frames[run].mean(axis=0, dtype=np.float64) for run in sets]
    if dark is not None:
        beams = [beam - dark[:, 0] for beam in beams]
    if monitor is not None:
        notes.append("the open beam follows the beam monitor of the file")
        beams = [beam / monitor[run].mean() for beam, run in zip(beams, sets, strict=True)]
    if len(sets) == 1 and monitor is None:
        open_beam = beams[0][:, None]
    else:
        taken = np.flatnonzero(keys == _PROJECTION)
        open_beam = _interpolated(beams, [float(run.mean()) for run in sets], taken)
        if monitor is not None:
            open_beam *= monitor[taken, None]
    return (open_beam + closed).astype(np.float32), _single(dark)


def _single(array: NDArray[Any] | None) -> NDArray[np.float32] | None:
    return None if array is None else array.astype(np.float32)


def _runs(keys: NDArray[np.signedinteger[Any]]) -> list[NDArray[np.intp]]:
    """Indices of the flat frames, those with no projection between them together."""
    flats = np.flatnonzero(keys == _FLAT)
    passed = np.cumsum(keys == _PROJECTION)[flats]
    return np.split(flats, np.flatnonzero(np.diff(passed)) + 1)


def _interpolated(
    beams: list[NDArray[np.float64]], places: list[float], taken: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Open beam less dark at each projection, ``(rows, projections, columns)``."""
    rows, columns = beams[0].shape
    result = np.empty((rows, len(taken), columns))
    for index, frame in enumerate(taken):
        after = int(np.searchsorted(places, frame))
        if after in (0, len(places)):
            result[:, index] = beams[min(after, len(places) - 1)]
            continue
        low, high = places[after - 1], places[after]
        weight = (float(frame) - low) / (high - low)
        result[:, index] = (1 - weight) * beams[after - 1] + weight * beams[after]
    return result
