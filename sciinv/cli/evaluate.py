"""``sciinv evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sciinv.result import Result


def evaluate(
    image: Path = typer.Argument(
        ...,
        metavar="RESULT",
        help="Output folder of reconstruct, NIfTI or .npy.",
        show_default=False,
    ),
    reference: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="Reference: scan file with one, result, NIfTI or .npy; the result's own if not given.",
    ),
    json: bool = typer.Option(False, help="JSON instead of a table."),
) -> None:
    """Compare a reconstruction with a reference: PSNR, SSIM, NRMSE and calibration."""
    from sciinv.cli.console import say
    from sciinv.cli.images import read_image
    from sciinv.errors import DataError
    from sciinv.report.plain import plain
    from sciinv.result import load_result

    result = load_result(image) if image.is_dir() or image.suffix in (".h5", ".hdf5") else None
    found = result.mean if result is not None else read_image(image)
    if reference is None:
        if result is None or result.reference is None:
            raise DataError(image, "reference", found="none", expected="one",
                            hint="give --reference FILE")  # fmt: skip
        truth = result.reference
    else:
        truth = _reference(reference)
    found = found[None] if found.ndim == 2 else found
    truth = _like(truth, found)
    if truth.shape != found.shape:
        raise DataError(reference or image, "shape", found=truth.shape, expected=found.shape)
    rows = compare(found, abs(truth), result)
    if json:
        import json as encoder

        say(encoder.dumps(plain(rows), allow_nan=False))
        return
    for key, value in rows.items():
        say(f"{key:<28}{value:.4g}")


def compare(
    image: NDArray[Any], truth: NDArray[Any], result: Result | None = None
) -> dict[str, float]:
    """Return the figures of an image ``(slices, rows, columns)`` against the truth.

    Only pixels that the data see and where the object is count; the range is the truth's maximum
    there.
    """
    import numpy as np

    from sciinv.data.scale import object_mask
    from sciinv.errors import DataError
    from sciinv.metrics import coverage, nrmse, psnr, ssim

    mask = object_mask(truth)
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


def _like(image: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Give an image the axes of length 1 that the other has."""
    long = [tuple(n for n in a.shape if n > 1) for a in (image, other)]
    return image.reshape(other.shape) if long[0] == long[1] else image


def _reference(path: Path) -> NDArray[Any]:
    from sciinv.cli.images import read_image
    from sciinv.data.load import load
    from sciinv.errors import DataError
    from sciinv.result import load_result

    if path.is_dir() or path.name == "result.h5":
        return load_result(path).mean
    if path.name.lower().endswith((".nii", ".nii.gz", ".npy")):
        return read_image(path)
    scan = load(path)
    if scan.reference is None:
        raise DataError(path, "reference", found="none", expected="a scan that carries one")
    return scan.reference
