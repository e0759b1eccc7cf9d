"""Several libraries in turn: speed as a ratio to one of them, accuracy beside it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Calls = Mapping[str, Callable[[], object]]


def errors(
    contenders: Mapping[str, Calls], truth: Mapping[str, NDArray[np.generic]]
) -> dict[str, str]:
    """Relative error of every map, ``1e-06 / 2e-06``; a dash where there is no truth."""
    found = {}
    for name, calls in contenders.items():
        cells = []
        for which, expected in truth.items():
            call = calls.get(which)
            if call is None:
                cells.append("-")
                continue
            value = np.asarray(call()).reshape(expected.shape)
            cells.append(f"{np.linalg.norm(value - expected) / np.linalg.norm(expected):.0e}")
        found[name] = " / ".join(cells)
    return found


def compare(
    title: str,
    contenders: Mapping[str, Calls],
    accuracy: Mapping[str, str],
    *,
    maps: tuple[str, ...] = ("forward", "adjoint", "normal"),
    reference: str,
    repeats: int,
    measure: str = "relative errors",
) -> None:
    """Print a table: ratios of the smallest CPU times and, in brackets, medians over the rounds.

    In every round everyone takes a turn, so that other load hits all alike.

    :param contenders: library to map to call; a library may lack maps.
    :param accuracy: what to print in the last column.
    """
    seconds: dict[tuple[str, str], list[float]] = {}
    for name, calls in contenders.items():
        for which in maps:
            if which in calls:
                calls[which]()
                seconds[name, which] = []
    for _ in range(repeats):
        for (name, which), values in seconds.items():
            start = time.process_time()
            contenders[name][which]()
            values.append(time.process_time() - start)
    best = [f"{1e3 * min(seconds[reference, which]):.2f}" for which in maps]
    print(f"\n### {title}\n\n{reference}: {' / '.join(best)} ms (minimum). Ratios: of minima "
          "(median of rounds).\n")  # fmt: skip
    print("| | " + " | ".join(maps) + f" | {measure} |")
    print("|---" * (2 + len(maps)) + "|")
    for name in contenders:
        cells = []
        for which in maps:
            found = seconds.get((name, which))
            if found is None:
                cells.append("")
                continue
            base = seconds[reference, which]
            ratio = statistics.median(a / b for a, b in zip(found, base, strict=True))
            cells.append(f"{min(found) / min(base):.2f} ({ratio:.2f})")
        label = f"**{name}**" if name.startswith("sciinv") else name
        print(f"| {label} | " + " | ".join(cells) + f" | {accuracy.get(name, '')} |", flush=True)
