"""Coil sensitivities estimated together with the image (JSENSE), by SigPy."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from sciinv.errors import DataError, NumericalError
from sciinv.operators.coil_calibration import (
    calibration_region,
    checked_kspace,
    scan_masks,
    unit_phase,
)
from sciinv.operators.espirit import strongest_combination


def jsense_maps(
    kspace: Tensor,
    *,
    mask: Tensor | None = None,
    kernel: int = 6,
    calibration: int | None = None,
    iterations: int = 10,
    inner_iterations: int = 10,
    lam: float = 0.0,
) -> Tensor:
    r"""Estimate coil sensitivities jointly with the image, by SigPy's ``JsenseRecon``.

    Ying and Sheng, Magn. Reson. Med. 57, 2007, with sensitivities of few Fourier coefficients
    ``l_c`` in place of polynomials (Uecker et al., Magn. Reson. Med. 60, 2008): alternating
    conjugate gradients for ``min |M (l_c * r) - y_c|^2 + lam (|l|^2 + |r|^2)`` over ``l`` and the
    image's spectrum ``r``.

    Unlike ESPIRiT it needs no fully sampled block: all samples within ``calibration`` of the centre
    are used, also undersampled ones. The problem is not convex and starts from a point of light,
    so with few samples near the centre check the result
    (:func:`sciinv.operators.coil_quality.map_quality`).

    :param kspace: complex ``(B, coils, *spatial)``, centred, zero where not sampled.
    :param mask: sampled positions ``(*spatial)`` or ``(B, *spatial)``; by default where the k-space
        is not zero.
    :param kernel: Fourier coefficients of a sensitivity along each axis.
    :param calibration: width of the centre, along every axis; 24 by default, or less where the
        image is smaller.
    :param iterations: alternations between sensitivities and image.
    :param inner_iterations: conjugate gradient steps in each.
    :param lam: weight of the squared norms, for data of unit norm.
    :returns: complex ``(B, coils, *spatial)`` like
        :func:`sciinv.operators.coils.estimate_coil_maps`: ``sum_c |s_c|^2 = 1``, phase zero for the
        strongest combination of coils.
    :raises DataError: if the k-space is not complex, its centre not sampled or smaller than the
        kernel.
    :raises NumericalError: if the alternation leaves the finite numbers.
    :raises ValueError: if a number of iterations is not positive or ``lam`` negative.
    """
    kspace = checked_kspace(kspace)
    spatial = tuple(kspace.shape[2:])
    width = min(24, *spatial) if calibration is None else calibration
    if kernel < 1 or iterations < 1 or inner_iterations < 1 or not lam >= 0:
        raise ValueError(
            f"jsense_maps: found kernel {kernel}, iterations {iterations}, inner_iterations "
            f"{inner_iterations} and lam {lam}, expected positive numbers (lam: or 0)"
        )
    if not kernel <= width <= min(spatial):
        raise DataError(
            "JSENSE", "calibration", found=f"width {width} for k-space {spatial}",
            expected=f"{kernel} (the kernel) to {min(spatial)}",
        )  # fmt: skip
    centre = tuple(slice(n // 2 - width // 2, n // 2 - width // 2 + width) for n in spatial)
    maps = torch.empty_like(kspace)
    for index, (data, sampled) in enumerate(zip(kspace, scan_masks(kspace, mask), strict=True)):
        sampled = sampled.to(data.device)
        calibration_region(sampled)  # refuses an unsampled centre
        block = (data * sampled)[(slice(None), *centre)]
        if not bool(block.any()):
            raise DataError("JSENSE", "kspace", found="zeros in the centre", expected="a signal")
        found = _alternate(
            (data * sampled).to(torch.complex128).cpu().numpy(),
            sampled.cpu().numpy().astype(np.float64),
            kernel, width, iterations, inner_iterations, lam,
        )  # fmt: skip
        raw = torch.from_numpy(found).to(data.device)
        if not bool(torch.isfinite(torch.view_as_real(raw)).all()):
            raise NumericalError(
                f"JSENSE: scan {index}: sensitivities: found NaN or Inf after {iterations} "
                "iterations; lower kernel or raise lam"
            )
        weights = strongest_combination(block.to(torch.complex128)).conj()
        combined = (weights @ raw.flatten(1)).reshape(spatial)
        maps[index] = (raw * unit_phase(combined.conj())).to(kspace.dtype)
    return maps


def _alternate(
    data: np.ndarray[tuple[int, ...], np.dtype[np.complex128]],
    weights: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    kernel: int,
    width: int,
    iterations: int,
    inner_iterations: int,
    lam: float,
) -> np.ndarray[tuple[int, ...], np.dtype[np.complex128]]:
    """One scan ``(coils, *spatial)`` through SigPy, without its progress bar."""
    from sigpy.mri.app import JsenseRecon

    with warnings.catch_warnings():
        # a division by the root sum of squares, zero where no coil sees anything; checked above
        warnings.simplefilter("ignore", RuntimeWarning)
        result = JsenseRecon(
            data, mps_ker_width=kernel, ksp_calib_width=width, lamda=lam, weights=weights,
            max_iter=iterations, max_inner_iter=inner_iterations, show_pbar=False,
        ).run()  # fmt: skip
    return np.asarray(result, dtype=np.complex128)
