"""Rows of the tables of a page: label and text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sciinv.report.geometry import axis_codes, length_unit, voxel_size
from sciinv.report.plain import plain, show

if TYPE_CHECKING:
    from sciinv.result import Result

Rows = list[tuple[str, str]]

_TITLES = {"mri": "MRI", "ct": "CT", "diffraction": "diffraction"}
_SETTLED = ("solver", "prior", "operator", "seed")
_ELSEWHERE = {"settings", "command", "versions", "citations", "geometry", *_SETTLED}
# settings that a run fills in where they are not given, and from what
_FILLED = {
    "noise": "estimated from the scan",
    "scale": "estimated from the scan",
    "samples": "fitted to the time budget",
    "steps": "fitted to the time budget",
    "krylov": "fitted to the time budget",
    "solver": "default for the kind of scan",
    "prior": "default for the kind of scan",
}


def summary(result: Result) -> str:
    """What was reconstructed, in one line."""
    row, column, slice_ = voxel_size(result.affine)
    unit = length_unit(result.units)
    *_, slices, rows, columns = result.samples.shape[1:]
    count = result.num_samples
    size = f"{rows} x {columns} pixels of {row:.3g} x {column:.3g} {unit}"
    if slices > 1:
        size += f", {slices} slices of {slice_:.3g} {unit}"
    drawn = f"{count} posterior {'sample' if count == 1 else 'samples'}"
    kind = _TITLES[result.kind]
    name = result.name if kind.lower() in result.name.lower() else f"{result.name} ({kind})"
    unknown = "" if result.oriented else " Directions unknown: the file states no orientation."
    return f"{name}: {size}, values in {result.units}, {drawn}.{unknown}"


def geometry(result: Result) -> Rows:
    """Matrix, voxel, directions, position, sampling."""
    row, column, slice_ = voxel_size(result.affine)
    unit = length_unit(result.units)
    *volumes, slices, rows, columns = result.samples.shape[1:]
    count = f"{rows} x {columns} pixels, {slices} slice{'s' if slices != 1 else ''}"
    if volumes and volumes[0] > 1:
        count += f", {volumes[0]} volumes"
    lines = [
        ("Matrix (rows x columns)", count),
        ("Voxel (row x column x slice)", f"{row:.4g} x {column:.4g} x {slice_:.4g} {unit}"),
        ("Field of view", f"{rows * row:.4g} x {columns * column:.4g} {unit}"),
    ]
    codes = axis_codes(result.affine) if result.oriented else "unknown: only the spacing is"
    lines.append(("Row, column, slice index grow to", codes))
    if result.oriented:
        middle = (np.array([rows, columns, slices]) - 1) / 2
        centre = np.asarray(result.affine)[:3] @ [*middle, 1.0]
        place = ", ".join(f"{value:.4g}" for value in centre + 0.0)
        lines.append(("Centre (right, anterior, superior)", f"{place} mm"))
    lines.append(("Seen by the data", f"{100 * float(result.visible.mean()):.1f} % of the voxels"))
    if (share := _measured(result)) is not None:
        lines.append(("k-space measured", f"{100 * share:.1f} % (R = {1 / share:.3g})"))
    return lines + flat(result.provenance.get("geometry", {}))


def _measured(result: Result) -> float | None:
    """Share of Cartesian k-space that was measured; the residual is NaN elsewhere."""
    operator = result.provenance.get("operator", {})
    name = operator.get("operator") if isinstance(operator, Mapping) else None
    if result.kind != "mri" or name != "CartesianMRI" or result.residual is None:
        return None
    share = float(np.isfinite(result.residual).mean())
    return share if share > 0 else None


def run(result: Result) -> Rows:
    """Samples, time, evaluations, memory."""
    stats = dict(plain(result.stats))
    stats.pop("timings", None)
    lines = [("Samples", str(result.num_samples))]
    if (seconds := stats.pop("seconds", None)) is not None:
        lines.append(("Time", _seconds(seconds)))
    for name, label in (("steps", "Steps"), ("nfe", "Network evaluations (NFE)")):
        if name in stats:
            lines.append((label, show(stats.pop(name))))
    if isinstance(memory := stats.pop("peak_memory", None), int | float):
        lines.append(("Peak memory", f"{memory / 2**30:.2f} GiB"))
    return lines + flat(stats)


def timings(result: Result) -> list[tuple[str, str, int]]:
    """Phases of the run: name, time, and per cent of the longest."""
    phases = result.stats.get("timings", {})
    if not isinstance(phases, Mapping) or not phases:
        return []
    values = {str(key): float(value) for key, value in phases.items()}
    longest = max(max(values.values()), 1e-9)
    return [(k, _seconds(v), int(np.clip(100 * v / longest, 0, 100))) for k, v in values.items()]


def _seconds(value: Any) -> str:  # noqa: ANN401
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return show(value)
    if not np.isfinite(seconds) or seconds < 100:
        if 0 <= seconds < 0.01:
            return "below 0.01 s"
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def settings(result: Result) -> list[tuple[str, str, str]]:
    """Every setting: name, value, origin; with what a run has filled in."""
    known = result.provenance.get("settings", {})
    filled = _filled(result)
    lines = []
    for name, entry in known.items() if isinstance(known, Mapping) else ():
        if isinstance(entry, Mapping) and "value" in entry:
            value, origin = entry["value"], entry.get("origin", "")
        elif isinstance(entry, tuple | list) and len(entry) == 2:
            value, origin = entry
        else:
            value, origin = entry, ""
        if value is None and filled.get(name) is not None:
            value, origin = filled[name], _FILLED[name]
        lines.append((str(name), show(value), str(origin)))
    return lines


def _filled(result: Result) -> dict[str, Any]:
    """What stands for settings that were not given."""
    known = result.provenance

    def named(part: str, key: str) -> Any:  # noqa: ANN401
        entry = known.get(part)
        return entry.get(key) if isinstance(entry, Mapping) else None

    return {
        "noise": known.get("noise"),
        "scale": known.get("scale"),
        "samples": result.num_samples,
        "steps": result.stats.get("steps"),
        "krylov": named("solver", "krylov"),
        "solver": named("solver", "name"),
        "prior": named("prior", "name"),
    }


def metrics(result: Result) -> Rows:
    """Mean and baseline against the reference, where they can be compared pixel by pixel."""
    if result.reference is None or result.kind == "diffraction":
        return []
    from sciinv.metrics import nrmse, psnr

    seen = result.visible
    truth = np.abs(result.reference)
    peak = float(truth[seen].max()) if seen.any() else 0.0
    if not 0 < peak < float("inf"):
        return []
    lines = []
    for name, image in (("Mean", result.mean), ("baseline", result.baseline_magnitude)):
        decibels = float(psnr(image, truth, data_range=peak, mask=seen))
        error = float(nrmse(image, truth, mask=seen))
        lines.append((name, f"PSNR {decibels:.1f} dB, NRMSE {error:.3f}"))
    return lines


def provenance(result: Result) -> Rows:
    """Solver, prior, operator, seed, and whatever else is known but the card of the prior."""
    known = result.provenance
    settled = {name: known[name] for name in _SETTLED if name in known}
    if isinstance(prior := settled.get("prior"), Mapping):
        settled["prior"] = {name: value for name, value in prior.items() if name != "card"}
    lines = flat(settled)
    return lines + flat({k: v for k, v in known.items() if k not in _ELSEWHERE})


def card(result: Result) -> Rows:
    """What the file of the prior says about it."""
    prior = result.provenance.get("prior")
    found = prior.get("card") if isinstance(prior, Mapping) else None
    return flat(found) if isinstance(found, Mapping) else []


def flat(values: Any) -> Rows:  # noqa: ANN401
    """Flatten nested mappings into pairs of label and text."""
    if not isinstance(values, Mapping):
        return [("", show(values))]
    lines = []
    for key, value in values.items():
        label = str(key).replace("_", " ")
        if isinstance(value, Mapping):
            lines += [(f"{label}: {name}" if name else label, text) for name, text in flat(value)]
        else:
            lines.append((label, show(value)))
    return lines
