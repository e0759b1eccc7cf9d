"""``sciinv evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sciinv.result import Result


def evaluate(
    image: Path = typer.Argument(
        ...,
        metavar="RESULT",
        help="Output folder of reconstruct, NIfTI, DICOM or .npy.",
        show_default=False,
    ),
    reference: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="Reference: NIfTI, DICOM (file or folder), .npy, result, or scan file with one; the "
        "result's own if not given.",
    ),
    roi: Path | None = typer.Option(
        None,
        metavar="MASK",
        help="Regions instead: NIfTI or .npy of labels; volume and mean over the samples of each.",
    ),
    threshold: float | None = typer.Option(
        None, metavar="VALUE", help="With --roi: what is above it counts as volume; Otsu's if not."
    ),
    json: bool = typer.Option(False, help="JSON instead of a table."),
) -> None:
    """Compare a reconstruction with a reference: PSNR, SSIM, NRMSE and calibration.

    A reference on another grid is interpolated; one of another intensity scale (DICOM) is fitted.
    With --roi: volume and mean of regions, with 90 % intervals over the samples.
    """
    import numpy as np

    from sciinv.cli.console import phase_line, say
    from sciinv.cli.images import is_result, read_any_image, read_reference
    from sciinv.data.reference import Image
    from sciinv.errors import DataError
    from sciinv.report.plain import plain
    from sciinv.result import load_result

    result = load_result(image) if is_result(image) else None
    if roi is not None:
        from sciinv.cli.regions import tell_regions

        if result is None:
            raise DataError(image, found="an image", expected="a result, with samples, for --roi")
        return tell_regions(result, roi, threshold, as_json=json)
    if result is not None:
        found = Image(result.mean, result.affine, result.oriented, result.units)
        seen = result.visible
    else:
        found = read_any_image(image)
        values = found.values[None] if found.values.ndim == 2 else found.values
        found = Image(np.abs(values), found.affine, found.oriented, found.units)
        seen = np.ones(values.shape, bool)
    notes: tuple[str, ...] = ()
    if reference is None:
        if result is None or result.reference is None:
            raise DataError(image, "reference", found="none", expected="one",
                            hint="give --reference FILE")  # fmt: skip
        truth, inside = np.abs(result.reference), seen
    else:
        placed = read_reference(reference, found.values.shape, found.affine, found.oriented)
        matched, note = placed.matched(found.values, seen)
        if matched is None:
            raise DataError(reference, found="an image unlike this one", expected="one that fits",
                            hint=note)  # fmt: skip
        truth, inside, notes = (
            np.abs(matched),
            placed.inside,
            (*placed.notes, *([note] if note else [])),
        )
    rows = compare(found.values, truth, result, inside=inside)
    if json:
        import json as encoder

        told: dict[str, Any] = {**rows, **({"notes": list(notes)} if notes else {})}
        say(encoder.dumps(plain(told), allow_nan=False))
        return
    for note in notes:
        say(phase_line("note", note))
    for key, value in rows.items():
        say(f"{key:<28}{value:.4g}")


def compare(
    image: NDArray[Any],
    truth: NDArray[Any],
    result: Result | None = None,
    *,
    inside: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Return the figures of an image ``(slices, rows, columns)`` against the truth.

    Only pixels that the data see and where the object is count; the range is the truth's maximum
    there.

    :param inside: where the truth is known; everywhere if not given.
    """
    import numpy as np

    from sciinv.data.scale import object_mask
    from sciinv.errors import DataError
    from sciinv.metrics import coverage, nrmse, psnr, ssim

    mask = object_mask(truth)
    if inside is not None:
        mask = mask & inside
    if result is not None:
        mask = mask & result.visible
    if not mask.any():
        raise DataError("reference", found="no object that the data see", expected="one")
    peak = float(truth[mask].max())
    image = np.abs(image)
    rows = {"PSNR (dB)": float(psnr(image, truth, data_range=peak, mask=mask))}
    # its windows of 11 pixels have to lie inside the image
    inner = (slice(5, -5),) * (mask.ndim - 1)
    similar = [
        ssim(a, b, data_range=peak, mask=m)
        for a, b, m in zip(image, truth, mask, strict=True)
        if m[inner].any()
    ]
    if similar:
        rows["SSIM"] = float(np.mean(similar))
    rows["NRMSE"] = float(nrmse(image, truth, mask=mask))
    if result is not None:
        base = result.baseline_magnitude
        rows[f"PSNR {result.baseline_name} (dB)"] = float(
            psnr(base, truth, data_range=peak, mask=mask)
        )
        if result.num_samples > 1:
            error = (image - truth)[mask]
            std = result.std[mask]
            # few samples have no wide interval: the widest that they attain, up to 90 %
            count = result.num_samples
            level = min(0.9, (count - 1) / (count + 1))
            rows[f"coverage of {100 * level:.0f} % interval"] = float(
                coverage(result.magnitude, truth, level=level, mask=mask)
            )
            rows["rms std / rms error"] = float(
                np.sqrt(np.mean(std**2)) / max(float(np.sqrt(np.mean(error**2))), 1e-30)
            )
    return rows
