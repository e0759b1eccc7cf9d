"""``report.html``: one self-contained page that never touches the network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup

from sciinv.report.figures import (
    all_figures,
    image_window,
    plain_png,
    result_views,
    std_window,
)
from sciinv.report.geometry import axis_codes, length_unit, voxel_size
from sciinv.report.plain import harmless, plain, show
from sciinv.report.verdict import verdict

if TYPE_CHECKING:
    from sciinv.result import Result

FLIP_SAMPLES = 9  # keys 1 to 9
SIZE_LIMIT = 15_000_000  # bytes; a page beyond it opens slowly and is refused by mail servers
_SETTLED = ("solver", "prior", "operator", "seed")
_ELSEWHERE = {"settings", "command", "versions", "citations", "geometry", *_SETTLED}


def report_html(result: Result, figures: Mapping[str, bytes] | None = None) -> str:
    """Write the page: verdict, images, samples to flip through, residual, everything that ran.

    :param figures: what :func:`sciinv.report.figures.all_figures` gave, if it is at hand.
    """
    pictures = all_figures(result) if figures is None else figures
    script = _resource("report.js")
    context: dict[str, Any] = {
        "result": result,
        "verdict": verdict(result),
        "figures": {name: _data_uri(png) for name, png in pictures.items()},
        "style": Markup(_resource("report.css")),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704 - our own file
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "masked": 1 - float(result.visible.mean()),
        "geometry": _geometry(result),
        "run": _run(result),
        "timings": _timings(result),
        "settings": _settings(result),
        "provenance": _provenance(result),
        "versions": _rows(result.provenance.get("versions", {})),
        "command": result.provenance.get("command"),
        "citation": result.citation(),
    }
    template = _environment().from_string(_resource("template.html.j2"))
    # a large matrix is shown coarser rather than in a page that no browser likes
    for longest in (640, 448, 320, 224):
        page = template.render(frames=_frames(result, longest), **context)
        if len(page.encode()) < SIZE_LIMIT:
            break
    return page


def _environment() -> jinja2.Environment:
    def finalize(value: Any) -> Any:  # noqa: ANN401
        return value if isinstance(value, Markup) else harmless(value)

    return jinja2.Environment(
        autoescape=True,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _resource(name: str) -> str:
    return files("sciinv.report").joinpath(name).read_text(encoding="utf-8")


def _data_uri(png: bytes) -> Markup:
    return Markup("data:image/png;base64,") + Markup(base64.b64encode(png).decode())  # noqa: S704


def _frames(result: Result, longest: int) -> dict[str, Any]:
    """Pictures of the middle slice to flip through: mean, baseline, std, samples."""
    view = result_views(result)[0]
    limits = image_window(result)
    pictures = [("0", "mean", result.mean, limits)]
    pictures.append(("b", "baseline", result.baseline_magnitude, limits))
    if result.num_samples > 1:
        pictures.append(("s", "standard deviation", result.std, std_window(result)))
    pictures += [
        (str(number + 1), f"sample {number + 1}", sample, limits)
        for number, sample in enumerate(result.magnitude[:FLIP_SAMPLES])
    ]
    rows, columns = view.cut(result.visible).shape
    tall, wide = rows * view.spacing[0], columns * view.spacing[1]
    return {
        "pictures": [
            {
                "key": key,
                "name": name,
                "uri": _data_uri(plain_png(view.cut(image), span, longest=longest)),
            }
            for key, name, image, span in pictures
        ],
        "ratio": f"{wide / tall:.5f}",
        "letters": view.letters,
        "low": show(limits[0]),
        "high": show(limits[1]),
    }


def _geometry(result: Result) -> list[tuple[str, str]]:
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
    lines.append(("Seen by the data", f"{100 * float(result.visible.mean()):.1f} % of the voxels"))
    return lines + _rows(result.provenance.get("geometry", {}))


def _run(result: Result) -> list[tuple[str, str]]:
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
    return lines + _rows(stats)


def _timings(result: Result) -> list[tuple[str, str, int]]:
    timings = result.stats.get("timings", {})
    if not isinstance(timings, Mapping) or not timings:
        return []
    values = {str(key): float(value) for key, value in timings.items()}
    longest = max(max(values.values()), 1e-9)
    return [(k, _seconds(v), int(np.clip(100 * v / longest, 0, 100))) for k, v in values.items()]


def _seconds(value: Any) -> str:  # noqa: ANN401
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return show(value)
    if not np.isfinite(seconds) or seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def _settings(result: Result) -> list[tuple[str, str, str]]:
    settings = result.provenance.get("settings", {})
    lines = []
    for name, entry in settings.items() if isinstance(settings, Mapping) else ():
        if isinstance(entry, Mapping) and "value" in entry:
            value, origin = entry["value"], entry.get("origin", "")
        elif isinstance(entry, tuple | list) and len(entry) == 2:
            value, origin = entry
        else:
            value, origin = entry, ""
        lines.append((str(name), show(value), str(origin)))
    return lines


def _provenance(result: Result) -> list[tuple[str, str]]:
    known = result.provenance
    lines = _rows({name: known[name] for name in _SETTLED if name in known})
    return lines + _rows({k: v for k, v in known.items() if k not in _ELSEWHERE})


def _rows(values: Any) -> list[tuple[str, str]]:  # noqa: ANN401
    """Flatten nested mappings into pairs of label and text."""
    if not isinstance(values, Mapping):
        return [("", show(values))]
    lines = []
    for key, value in values.items():
        label = str(key).replace("_", " ")
        if isinstance(value, Mapping):
            lines += [(f"{label}: {name}" if name else label, text) for name, text in _rows(value)]
        else:
            lines.append((label, show(value)))
    return lines
