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

from sciinv.report import tables
from sciinv.report.figures import all_figures
from sciinv.report.plain import harmless
from sciinv.report.verdict import noise_raised, percent, verdict
from sciinv.report.viewer import viewer_data, volume_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sciinv.result import Result

_FEWEST_NEIGHBOURS = 100
_DOUBTFUL = 2.0  # times the noise level: the header is no longer green
SIZE_LIMIT = 15_000_000  # bytes; a page beyond it opens slowly and is refused by mail servers
_HIDDEN = {
    "mri": "outside the coil sensitivities",
    "ct": "outside the scanned disc, or the air around the object",
    "diffraction": "outside the object that phasing found",
}
_CAUSES = {
    "mri": "coil maps, motion, trajectory or saturated samples",
    "ct": "rotation axis, angles, beam hardening, rings or motion",
    "diffraction": "partial coherence, background, a beam stop or a wrong phasing",
}
_NO_SHARE = {
    "diffraction": "Not defined for diffraction: the phases of a pattern are not measured at all, "
    "so that every image rests on what is known besides. How far random starts agree is said "
    "among the warnings and notes."
}
_LABELS = {"0": "mean", "b": "baseline", "s": "std", "n": "prior", "r": "reference", "f": "phase"}


def report_html(result: Result, figures: Mapping[str, bytes] | None = None) -> str:
    """Write the page: verdict, images, samples to flip through, residual, everything that ran.

    :param figures: what :func:`sciinv.report.figures.all_figures` gave, if it is at hand.
    """
    pictures = all_figures(result) if figures is None else figures
    script = _resource("report.js")
    view = viewer_data(result)
    volume = volume_data(result) if "orthogonal" in pictures else None
    context: dict[str, Any] = {
        "result": result,
        "verdict": verdict(result),
        "doubt": (noise_raised(result) or 1.0) > _DOUBTFUL,
        "summary": tables.summary(result),
        "figures": {name: _data_uri(png) for name, png in pictures.items()},
        "style": Markup(_resource("report.css")),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704 - our own file
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "masked": 1 - float(result.visible.mean()),
        "hidden": _HIDDEN[result.kind],
        "causes": _CAUSES[result.kind],
        "grain": grain(result.residual),
        "share": None if result.prior_share is None else percent(result.prior_share).lower(),
        "amplitude": None
        if result.prior_share is None
        else percent(result.prior_share**0.5).lower(),
        "no_share": _NO_SHARE.get(result.kind, "Not computed for this result."),
        "view": _buttons(view),
        "keys": [m["key"] for m in view["maps"]],
        "planes": volume,
        "data": _json(view),
        "volume": _json(volume),
        "metrics": tables.metrics(result),
        "geometry": tables.geometry(result),
        "run": tables.run(result),
        "timings": tables.timings(result),
        "settings": tables.settings(result),
        "provenance": tables.provenance(result),
        "card": tables.card(result),
        "versions": tables.flat(result.provenance.get("versions", {})),
        "command": result.provenance.get("command"),
        "citation": result.citation(),
    }
    return _environment().from_string(_resource("template.html.j2")).render(context)


def grain(residual: NDArray[np.floating] | None) -> float | None:
    """Correlation of neighbours along the rows of a residual map: 0 for noise without structure.

    The map holds moduli, so the mean over each row and its own mean are taken off first.

    :param residual: as :attr:`sciinv.Result.residual`; ``None`` if there are too few neighbours.
    """
    if residual is None:
        return None
    image = np.abs(np.asarray(residual, np.float64))
    image = np.where(image == 0, np.nan, image)
    left, right = image[..., :-1], image[..., 1:]
    both = np.isfinite(left) & np.isfinite(right)
    if both.sum() < _FEWEST_NEIGHBOURS:
        return None
    a, b = left[both], right[both]
    if min(a.std(), b.std()) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _buttons(view: dict[str, Any]) -> dict[str, Any]:
    """Add the order and the labels of the buttons: mean, samples, then the rest."""
    order = "0123456789bsnrf"
    maps = [
        {**m, "order": order.index(m["key"]), "label": _LABELS.get(m["key"], "")}
        for m in view["maps"]
    ]
    return {**view, "maps": maps}


def _json(data: Any) -> Markup:  # noqa: ANN401
    """Write JSON that ends no script: ``<``, ``>``, ``&`` and ``'`` are escaped."""
    return jinja2.utils.htmlsafe_json_dumps(_harmless(data))


def _harmless(data: Any) -> Any:  # noqa: ANN401
    if isinstance(data, str):
        return data if data.isascii() and data.isprintable() else harmless(data)
    if isinstance(data, dict):
        return {key: _harmless(value) for key, value in data.items()}
    return [_harmless(value) for value in data] if isinstance(data, list) else data


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
