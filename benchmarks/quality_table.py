"""The quality benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from quality_cases import CARTESIAN, DIFFRACTION, RADIAL, TOMOGRAPHY, Case
from quality_own import MEAN, POINT, SAMPLE
from quality_search import better
from quality_store import Row, Store

Rows = dict[tuple[str, str], Row]

# in the order of the columns; what a case lacks is left out
CLASSICAL = (
    "zero-filled", "gridding", "CG-SENSE", "L1-wavelet", "FBP", "SIRT", "CGLS", "TV", "ER", "HIO",
    "RAAR",
)  # fmt: skip
OWN = (MEAN, SAMPLE, POINT)
_FORMATS = {
    "psnr": "{:.2f}", "ssim": "{:.3f}", "nrmse": "{:.3f}", "held_out": "{:.4f}",
    "r_free": "{:.3f}", "r_used": "{:.3f}", "chi_squared": "{:.1f}",
}  # fmt: skip
_NAMES = {
    "psnr": "PSNR, dB", "ssim": "SSIM", "nrmse": "NRMSE", "held_out": "error on unused views",
    "r_free": "R-factor, hidden pixels", "r_used": "R-factor, used pixels",
    "chi_squared": "chi-squared, used pixels",
}  # fmt: skip
_METRICS = {
    CARTESIAN: ("psnr", "ssim", "nrmse"),
    RADIAL: ("psnr", "ssim", "nrmse"),
    TOMOGRAPHY: ("psnr", "ssim", "nrmse", "held_out"),
    DIFFRACTION: ("r_free", "r_used", "chi_squared"),
}


def table(store: Store, cases: Sequence[Case], label: str) -> str:
    """Return all tables of what is there."""
    rows = store.rows()
    parts = [_summary(rows, cases, label)]
    for group, metrics in _METRICS.items():
        chosen = [c for c in cases if c.group == group and any(k[0] == c.name for k in rows)]
        if chosen:
            parts.append(f"### {group}")
            limits = _limits(store, chosen)
            parts += [_scores(rows, chosen, label, metric, limits) for metric in metrics]
            parts.append(_seconds(rows, chosen, label))
    parts.append(_calibration(rows, cases, label))
    return "\n\n".join(part for part in parts if part) + "\n"


def best_classical(rows: Rows, case: str, metric: str) -> tuple[str, float] | None:
    """Return name and value of the classical method that is best by one metric."""
    found: tuple[str, float] | None = None
    for method in CLASSICAL:
        value = _value(rows, case, method, metric)
        if value is not None and (found is None or better(metric, value, found[1])):
            found = (method, value)
    return found


def _value(rows: Rows, case: str, method: str, metric: str) -> float | None:
    row = rows.get((case, method))
    return None if row is None else row["scores"].get(metric)


def _methods(rows: Rows, cases: Iterable[Case], label: str) -> list[str]:
    names = {case.name for case in cases}
    own = [f"{label} {name}" for name in OWN]
    return [m for m in (*CLASSICAL, *own) if any((name, m) in rows for name in names)]


def _limits(store: Store, cases: Sequence[Case]) -> dict[str, float]:
    """PSNR that the noise of the reference itself allows, where it is known."""
    found = {}
    for case in cases:
        truth = store.load(f"{case.name}__reference")
        if truth is not None and "limit" in truth:
            found[case.name] = float(truth["limit"])
    return found


def _scores(
    rows: Rows, cases: Sequence[Case], label: str, metric: str, limits: dict[str, float]
) -> str:
    """One metric: cases down, methods across, the best of each case in bold."""
    methods = _methods(rows, cases, label)
    limited = bool(limits) and metric == "psnr"
    more = ["noise of the reference"] if limited else []
    lines = [[_NAMES[metric], *methods, "mean against the best classical", *more]]
    for case in cases:
        values = {m: _value(rows, case.name, m, metric) for m in methods}
        present = {m: v for m, v in values.items() if v is not None}
        top = None
        for method, value in present.items():
            if top is None or better(metric, value, present[top]):
                top = method
        cells = []
        for method in methods:
            value = values[method]
            text = "" if value is None else _FORMATS[metric].format(value)
            cells.append(f"**{text}**" if method == top else text)
        difference = _difference(rows, case.name, f"{label} {MEAN}", metric)
        gain = "" if difference is None else _gain(metric, difference)
        limit = limits.get(case.name)
        more = ["" if limit is None else f"{limit:.1f}"] if limited else []
        lines.append([case.label + (" (v)" if case.judged else ""), *cells, gain, *more])
    return _markdown(lines)


def _difference(rows: Rows, case: str, method: str, metric: str) -> float | None:
    """Difference from the best classical method; of errors the ratio less 1."""
    own, other = _value(rows, case, method, metric), best_classical(rows, case, metric)
    if own is None or other is None:
        return None
    return own - other[1] if metric in ("psnr", "ssim") else own / other[1] - 1


def _gain(metric: str, value: float) -> str:
    if metric == "psnr":
        return f"{value:+.2f} dB"
    return f"{value:+.3f}" if metric == "ssim" else f"{value:+.0%}"


def _summary(rows: Rows, cases: Sequence[Case], label: str) -> str:
    """Mean difference from the best classical method of every case, and on how many it is ahead."""
    lines = [["against the best classical method of each case", "metric", "cases", "mean", "worst",
              "ahead"]]  # fmt: skip
    groups: dict[str, list[Case]] = {"all": list(cases)}
    groups["not looked at before"] = [c for c in cases if not c.judged]
    for group in _METRICS:
        groups[group] = [c for c in cases if c.group == group]
    for name in OWN:
        for group, members in groups.items():
            for metric in ("psnr", "ssim", "held_out", "r_free"):
                found = [_difference(rows, c.name, f"{label} {name}", metric) for c in members]
                values = np.array([v for v in found if v is not None])
                if not values.size:
                    continue
                rising = metric in ("psnr", "ssim")
                worst = values.min() if rising else values.max()
                ahead = int(((values > 0) if rising else (values < 0)).sum())
                lines.append([
                    f"{label} {name}, {group}", _NAMES[metric], str(values.size),
                    _gain(metric, float(values.mean())), _gain(metric, float(worst)),
                    f"{ahead} of {values.size}",
                ])  # fmt: skip
    return _markdown(lines) if len(lines) > 1 else ""


def _seconds(rows: Rows, cases: Sequence[Case], label: str) -> str:
    """Processor time of every method, one setting of those that are tuned."""
    methods = [m for m in _methods(rows, cases, label) if m in CLASSICAL or m.endswith(MEAN)]
    lines = [["processor seconds", *methods]]
    for case in cases:
        found = [rows.get((case.name, m)) for m in methods]
        lines.append([case.label, *("" if r is None else _time(r["seconds"]) for r in found)])
    return _markdown(lines)


def _time(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"


def _calibration(rows: Rows, cases: Sequence[Case], label: str) -> str:
    """Whether the stated spread is that of the error, and whether the data are fitted."""
    lines = [["inside the object", "samples", "rms std / rms error: samples",
              "factor by held-out data", "stated", "90 % interval covers: samples",
              "stated std", "stated interval", "correlation of std with the error",
              "chi-squared of samples"]]  # fmt: skip
    for case in cases:
        row = rows.get((case.name, f"{label} {MEAN}"))
        if row is None or "std_over_error" not in row:
            continue
        lines.append([
            case.label, str(row["samples"]), f"{row['raw_std_over_error']:.2f}",
            f"{row['factor']:.2f}", f"{row['std_over_error']:.2f}",
            f"{row['raw_coverage']:.0%}", f"{row['coverage']:.0%}",
            f"{row['coverage_stated']:.0%}", f"{row['correlation']:.2f}",
            f"{row['chi_squared']:.2f}",
        ])  # fmt: skip
    return "### Uncertainty\n\n" + _markdown(lines) if len(lines) > 1 else ""


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|---" * len(lines[0]) + "|", *body])
