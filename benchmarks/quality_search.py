"""The best setting of a classical method, chosen on the reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]
Scores = dict[str, float]
Score = Callable[[Image], Scores]

# more is better for these; less for all others
RISING = ("psnr", "ssim")
# of these the optimum has to lie inside the grid
_GUIDING = ("psnr", "ssim", "held_out", "r_free")
_MOST = 12


@dataclass(frozen=True)
class Attempt:
    """One setting of a method and what it gave."""

    setting: float | str
    image: Image
    scores: Scores
    seconds: float


@dataclass(frozen=True)
class Method:
    """A classical method with one free number, or with a list of settings.

    :param make: image in physical units of a setting.
    :param start: first value; the grid goes from it in factors of 2 (``"grid"``).
    :param choices: all settings instead, in which case nothing is searched.
    :param whole: settings are integers (iterations).
    """

    make: Callable[[Any], Image]
    start: float = 1.0
    choices: Sequence[float | str] | None = None
    whole: bool = False


def better(metric: str, a: float, b: float) -> bool:
    """Tell whether value ``a`` of a metric is better than ``b``."""
    return a > b if metric in RISING else a < b


def tried(method: Method, score: Score) -> list[Attempt]:
    """Run a method at all of its choices, or on a grid that holds the optimum in its inside.

    Three settings in factors of 2; the grid grows while the best one, by PSNR, SSIM or the error
    on hidden data, is at its end (up to 12 settings), so that every optimum is bracketed.
    """

    def run(setting: float | str) -> Attempt:
        begin = time.process_time()
        image = np.asarray(method.make(setting))
        seconds = time.process_time() - begin
        return Attempt(setting, image, score(image), seconds)

    if method.choices is not None:
        return [run(choice) for choice in method.choices]

    def value(power: int) -> float:
        scaled = method.start * 2.0**power
        return max(1, round(scaled)) if method.whole else scaled

    # from strong to weak: a method may start from its last image
    found = {power: run(value(power)) for power in (1, 0, -1)}
    while len(found) < _MOST:
        new = _beyond(list(dict(sorted(found.items())).values()))
        power = max(found) + 1 if new > 0 else min(found) - 1
        if new == 0 or (new < 0 and value(power) == value(min(found))):
            break
        found[power] = run(value(power))
    return [found[power] for power in sorted(found)]


def _beyond(attempts: Sequence[Attempt]) -> int:
    """Return 1 or -1 if the best by some guiding metric is the last or the first setting."""
    for metric in _GUIDING:
        if metric in attempts[0].scores:
            best = best_of(attempts, metric)
            if best is attempts[0] or best is attempts[-1]:
                return -1 if best is attempts[0] else 1
    return 0


def best_of(attempts: Sequence[Attempt], metric: str) -> Attempt:
    """Return the attempt that is best by one metric."""
    best = attempts[0]
    for attempt in attempts[1:]:
        if better(metric, attempt.scores[metric], best.scores[metric]):
            best = attempt
    return best


def summary(attempts: Sequence[Attempt]) -> tuple[dict[str, Any], Image]:
    """Row of a method, every metric with the setting that is best for it, and a picture.

    The picture is the best by PSNR (diffraction: by the hidden pixels); the time is the median
    over the settings.
    """
    metrics = list(attempts[0].scores)
    chosen = {metric: best_of(attempts, metric) for metric in metrics}
    guide = next(m for m in _GUIDING if m in metrics)
    row: dict[str, Any] = {
        "scores": {m: a.scores[m] for m, a in chosen.items()},
        "settings": {m: a.setting for m, a in chosen.items()},
        "at_guide": chosen[guide].scores,
        "seconds": float(np.median([a.seconds for a in attempts])),
        "tried": [{"setting": a.setting, **a.scores, "seconds": a.seconds} for a in attempts],
    }
    return row, chosen[guide].image
