"""The rows of the truth benchmarks as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from quality_store import Row, Store
from truth_common import root, standard_error
from truth_deepinv import OPERATORS as PAIR_OPERATORS
from truth_mixture import CASES
from truth_rivals import PAIRS, RIVALS, VARIANTS, alike

from sciinv.solvers import ALL_SOLVERS
from sciinv.solvers.truth import OPERATORS

REFERENCE = "MMT"
LABELS = {"mri": "MRI, 2 coils", "nufft": "radial MRI (NUFFT), 2 coils", "ct": "CT", "blur": "blur"}
OWN = [solver.__name__ for solver in ALL_SOLVERS]
# letters after a solver's name: what of its row is in closed form
SOURCES = {"law": " ᵃ", "mean": " ᵇ", "samples": ""}


def pm(value: float, error: float, digits: int = 2) -> str:
    """A number with its standard error."""
    if not math.isfinite(error):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def fields(store: Store, sizes: Sequence[int]) -> str:
    """One table for each operator and size."""
    rows = store.rows()
    parts = []
    for size in sizes:
        for name in OPERATORS:
            case = f"fields/{size}/{name}"
            lines = [_field(m, rows[case, m]) for m in ["exact draws", *OWN] if (case, m) in rows]
            if lines:
                first = next(r for (c, _), r in rows.items() if c == case and "samples" in r)
                parts += [
                    f"**{LABELS[name]}, {size} x {size}** ({first['samples']} samples)",
                    "| solver | error of the mean | ratio of std | 90 % covers | "
                    "distance / floor | NFE | ms |\n|---|---|---|---|---|---|---|\n"
                    + "\n".join(lines),
                ]
    return "\n\n".join(parts)


def _field(method: str, row: Row) -> str:
    if method == "exact draws":
        return f"| *{method}* | 0 | 1.00 | 0.90 | 1.0 | | |"
    if "square" not in row:
        reason = "does not fit" if "refused" in row else "diverges"
        return f"| {method} | {reason} | | | | | |"
    return (
        f"| {method}{SOURCES[row['source']]} | {_error(row)} | {row['std']:.2f} | "
        f"{row['coverage']:.2f} | {row['sw']:.1f} | {row['nfe']} | {1e3 * row['seconds']:.0f} |"
    )


def _error(row: Row) -> str:
    """Error of the mean; its upper end at two standard errors where it is not above zero."""
    square, error = row["square"], row["square_se"]
    if row["source"] != "samples":
        return f"{root(square):.3f}"
    if square > 2 * error:
        return pm(root(square), error / (2 * root(square)))
    return f"< {root(max(square, 0.0) + 2 * error):.2f}"


def mixture(store: Store) -> str:
    """Mean and median over the seeds, and differences on the same seeds."""
    rows = {k: v for k, v in store.rows().items() if k[0].startswith("mixture/")}
    methods = [m for m in _order() if any(k[1] == m for k in rows)]
    head = " | ".join(f"{dim}, {count}" for dim, count in CASES)
    lines = [f"| dimension, measurements | {head} | minus {REFERENCE} |", "|---" * 8 + "|"]
    seeds = sorted({int(case.rsplit("/", 1)[1]) for case, _ in rows})
    for method in methods:
        cells = []
        for dim, count in CASES:
            found = [rows.get((f"mixture/{dim}/{count}/{seed}", method)) for seed in seeds]
            cells.append(_mixed([row for row in found if row]))
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {_paired(rows, method, seeds)} |")
    return "\n".join(lines)


def _order() -> list[str]:
    oracles = ["oracle, 20 steps", "oracle, 100 steps", "oracle, 1000 steps"]
    return ["exact", *oracles, *OWN, *RIVALS, "prior"]


def _mixed(found: list[Row]) -> str:
    values = [row["sw"] for row in found if "sw" in row]
    if not found:
        return ""
    if not values:
        return "diverges" if any("diverged" in row for row in found) else "does not fit"
    text = f"{np.mean(values):.2f} ({np.median(values):.2f})"
    lost = sum("diverged" in row for row in found)
    return text + (f", {lost} of {len(found)} diverge" if lost else "")


def _paired(rows: dict, method: str, seeds: Sequence[int]) -> str:
    """Difference to the reference, averaged over the cases, with its error over the seeds."""
    differences = []
    for seed in seeds:
        pairs = []
        for dim, count in CASES:
            case = f"mixture/{dim}/{count}/{seed}"
            one, two = rows.get((case, method), {}), rows.get((case, REFERENCE), {})
            if "sw" in one and "sw" in two:
                pairs.append(one["sw"] - two["sw"])
        if len(pairs) == len(CASES):
            differences.append(sum(pairs) / len(pairs))
    if method == REFERENCE or not differences:
        return ""
    return pm(float(np.mean(differences)), standard_error(differences))


def deepinv(store: Store) -> str:
    """Fields: every method of theirs beside ours; the mixture from its own rows."""
    rows = store.rows()
    lines = [
        "| problem | sampler | error of the mean | ratio of std | distance | theirs² - ours² | "
        "with ours at their settings |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in PAIR_OPERATORS:
        cases = sorted({case for case, _ in rows if case.startswith(f"deepinv/{name}/")})
        for theirs, ours in _pairs():
            if theirs in RIVALS:
                for own in dict.fromkeys((ours, alike(ours))):
                    found = [rows[case, own] for case in cases if (case, own) in rows]
                    lines.append(_summary(name, f"**{own}**", found, " | "))
            found = [rows[case, theirs] for case in cases if (case, theirs) in rows]
            one, two = (_gap(rows, cases, theirs, own, "off", 3) for own in (ours, alike(ours)))
            lines.append(_summary(name, theirs, found, f"{one} | {two}"))
    lines += [
        "",
        "| mixture | ours | at their settings | theirs | theirs - ours | at their settings |",
        "|---|---|---|---|---|---|",
    ]
    for theirs, ours in PAIRS.items():
        cases = sorted(c for c, m in rows if m == theirs and c.startswith("mixture/"))
        cases = [c for c in cases if (c, ours) in rows and (c, alike(ours)) in rows]
        if cases:
            means = [
                f"{np.mean([rows[c, m]['sw'] for c in cases if 'sw' in rows[c, m]]):.2f}"
                for m in (ours, alike(ours), theirs)
            ]
            gaps = [_gap(rows, cases, theirs, own, "sw", 2) for own in (ours, alike(ours))]
            lines.append(f"| {ours} | " + " | ".join(means + gaps) + " |")
    return "\n".join(lines)


def _gap(rows: dict, cases: Sequence[str], one: str, two: str, key: str, digits: int) -> str:
    """Mean difference of two methods on the same problems, with its standard error."""
    found = [
        rows[case, one][key] - rows[case, two][key]
        for case in cases
        if key in rows.get((case, one), {}) and key in rows.get((case, two), {})
    ]
    return pm(float(np.mean(found)), standard_error(found), digits) if found else ""


def _pairs() -> list[tuple[str, str]]:
    """Their samplers with ours; variants after the first of their method."""
    found = []
    for theirs, ours in PAIRS.items():
        found.append((theirs, ours))
        found += [(variant, ours) for variant in VARIANTS if variant.startswith(f"{theirs},")]
    return found


def _summary(name: str, method: str, found: list[Row], gap: str) -> str:
    rows = [row for row in found if "off" in row]
    if not rows:
        return f"| {name} | {method} | | | | | |"
    mean = root(float(np.mean([row["square"] for row in rows])))
    ratio = float(np.mean([row["std"] for row in rows]))
    off = root(float(np.mean([row["off"] for row in rows])))
    return f"| {name} | {method} | {mean:.2f} | {ratio:.2f} | {off:.2f} | {gap} |"
