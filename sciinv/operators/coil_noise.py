"""Noise covariance of the receive coils, and channels mixed so that their noise is white."""

from __future__ import annotations

import torch
from scipy.special import gammaincinv
from torch import Tensor

from sciinv.errors import DataError
from sciinv.operators.coil_calibration import checked_kspace, outermost_samples, scan_masks

# Samples per coil below which a covariance is refused. The eigenvalues of a sample covariance of
# white noise spread over (1 +- sqrt(coils / samples))^2: at 4 they are wrong by a factor 4 / 9.
_SAMPLES_PER_COIL = 4
# relative size of the smallest eigenvalue of the correlation matrix, times coils and the unit
# roundoff, below which whitening would amplify rounding errors
_ROUNDING = 16.0
_ITERATIONS = 60


def noise_covariance(noise: Tensor) -> Tensor:
    r"""Covariance of the coils' noise from a noise scan (no excitation).

    ``Psi = sum_t (n_t - m) (n_t - m)^H / (2 (T - 1))`` with the mean ``m``: the factor 2 makes the
    diagonal the variance *per real component*, the convention of every noise level here. (The
    customary ``E[n n^H]``, e.g. Pruessmann et al., Magn. Reson. Med. 46, 2001, is twice that.)

    :param noise: complex ``(coils, samples)`` or ``(coils, ...)``, at least four samples a coil.
    :returns: complex128, Hermitian ``(coils, coils)``.
    :raises DataError: if the samples are not complex, not finite or too few.
    """
    if not isinstance(noise, Tensor) or not noise.is_complex() or noise.ndim < 2:
        raise DataError(
            "noise scan", "noise",
            found=f"{noise.dtype} {tuple(noise.shape)}" if isinstance(noise, Tensor)
            else type(noise).__name__,
            expected="a complex tensor (coils, samples)",
        )  # fmt: skip
    samples = noise.flatten(1).to(torch.complex128)
    if not bool(torch.isfinite(torch.view_as_real(samples)).all()):
        raise DataError("noise scan", "noise", found="NaN or Inf", expected="finite numbers")
    _enough("noise scan", *samples.shape)
    samples = samples - samples.mean(1, keepdim=True)
    return samples @ samples.mH / (2 * (samples.shape[1] - 1))


def estimate_noise_covariance(kspace: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Covariance of the coils' noise from the outermost samples of the scan itself.

    Takes the twentieth of the sampled positions (48 or eight a coil at least) that lies farthest
    out along all axes, as :func:`sciinv.data.noise.estimate_mri_noise` does. What signal they still
    hold differs in size from sample to sample, so the covariance is Tyler's estimate of scatter
    (Ann. Statist. 15, 1987), the solution of

    ``V = coils / T * sum_t n_t n_t^H / (n_t^H V^-1 n_t)``,

    which depends only on the directions of the samples, scaled so that the median of
    ``n^H Psi^-1 n`` is that of a chi-squared variable with ``2 coils`` degrees of freedom.

    :param kspace: complex ``(B, coils, *spatial)``, centred, zero where not sampled; the scans of
        one call share their receiver and their samples are pooled.
    :param mask: sampled positions ``(*spatial)`` or ``(B, *spatial)``; by default where the k-space
        is not zero.
    :returns: complex128, Hermitian ``(coils, coils)``, *per real component* as in
        :func:`noise_covariance`.
    :raises DataError: if the k-space is not complex, has a coil without any signal or too few
        samples for its coils.
    """
    kspace = checked_kspace(kspace)
    coils = kspace.shape[1]
    parts = []
    for data, sampled in zip(kspace, scan_masks(kspace, mask), strict=True):
        sampled = sampled.to(data.device)
        total = int(sampled.sum())
        wanted = min(total, max(48, 2 * _SAMPLES_PER_COIL * coils, total // 20))
        if wanted > total // 4:
            raise DataError(
                "noise covariance", "kspace", found=f"{total} sampled positions",
                expected=f"{4 * wanted} or more for {coils} coils",
                hint="measure a noise scan and give it to noise_covariance",
            )  # fmt: skip
        parts.append(outermost_samples(data, sampled, wanted))
    noise = torch.cat(parts, dim=1).to(torch.complex128)
    power = noise.abs().square().mean(1)
    if bool((power == 0).any()):
        dead = [int(c) for c in (power == 0).nonzero()[:, 0]]
        raise DataError(
            "noise covariance", "kspace", found=f"only zeros from coil(s) {dead}",
            expected="a signal from every coil", hint="leave dead coils out",
        )  # fmt: skip
    return _tyler(noise)


def prewhiten(kspace: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mix the coils so that their noise is white with variance 1 *per real component*.

    With ``covariance = L L^H`` (Cholesky) the matrix is ``W = L^-1``: coil noise ``n`` becomes
    ``W n``, real and imaginary parts of all coils independent with standard deviation 1, so
    ``GaussianNoise(1.0)`` is its noise model and plain least squares is the weighted one
    (Pruessmann et al., Magn. Reson. Med. 46, 2001, eqs. 20-24).

    Coil maps of the raw data have to be mixed likewise: ``mix_coils(matrix, coil_maps)``; maps
    estimated from the whitened k-space are already those.

    :param kspace: complex ``(B, coils, *spatial)`` (or any ``(B, coils, ...)``).
    :param covariance: Hermitian, per real component, ``(coils, coils)`` or ``(B, coils, coils)``.
    :returns: whitened k-space, in its own precision, and ``W``, complex128, shape of
        ``covariance``.
    :raises DataError: if the covariance has another shape, is not Hermitian or not positive
        definite (a dead coil, or channels that are combinations of each other).
    """
    matrix = whitening_matrix(covariance)
    return mix_coils(matrix, kspace), matrix


def whitening_matrix(covariance: Tensor) -> Tensor:
    """Inverse of the lower Cholesky factor; see :func:`prewhiten`.

    :raises DataError: as there.
    """
    shape = tuple(covariance.shape)
    if covariance.ndim not in (2, 3) or shape[-1] != shape[-2]:
        raise DataError(
            "prewhitening", "covariance", found=f"shape {shape}",
            expected="(coils, coils) or (B, coils, coils)",
        )  # fmt: skip
    matrix = covariance.to(torch.complex128)
    if not bool(torch.isfinite(torch.view_as_real(matrix)).all()):
        raise DataError("prewhitening", "covariance", found="NaN or Inf", expected="finite numbers")
    variance = matrix.diagonal(dim1=-2, dim2=-1).real
    if bool((variance <= 0).any()):
        dead = sorted({int(i[-1]) for i in (variance <= 0).nonzero()})
        raise DataError(
            "prewhitening", "covariance", found=f"no noise in coil(s) {dead}",
            expected="a positive variance for every coil", hint="leave dead coils out",
        )  # fmt: skip
    # coils may differ in gain by orders of magnitude; that is not ill-conditioning
    scale = variance.rsqrt().to(matrix.dtype)
    correlation = scale[..., :, None] * matrix * scale[..., None, :]
    single = covariance.dtype in (torch.complex64, torch.float32)
    eps = torch.finfo(torch.float32 if single else torch.float64).eps
    if float((correlation - correlation.mH).abs().max()) > 1e3 * eps:
        raise DataError(
            "prewhitening", "covariance", found="a matrix that is not Hermitian",
            expected="E[n n^H] / 2, the conjugate on the second factor",
        )  # fmt: skip
    correlation = 0.5 * (correlation + correlation.mH)
    values, vectors = torch.linalg.eigh(correlation)
    smallest = values[..., 0].reshape(-1)
    worst = int(smallest.argmin())
    if not float(smallest[worst]) > _ROUNDING * shape[-1] * eps:
        weights = vectors[..., :, 0].reshape(-1, shape[-1])[worst].abs()
        guilty = [int(c) for c in (weights > 0.5 * weights.max()).nonzero()[:, 0]]
        raise DataError(
            "prewhitening", "covariance",
            found=f"smallest eigenvalue of the correlation {float(smallest[worst]):.2g}",
            expected="a positive definite matrix",
            hint=f"coils {guilty} are combinations of each other: drop one, compress the coils, "
            "or take more noise samples",
        )  # fmt: skip
    factor = torch.linalg.cholesky(correlation)
    identity = torch.eye(shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    return torch.linalg.solve_triangular(factor, identity, upper=False) * scale[..., None, :]


def mix_coils(matrix: Tensor, values: Tensor) -> Tensor:
    """Apply a matrix over the coils to k-space or coil maps.

    :param matrix: ``(channels, coils)`` or ``(B, channels, coils)``.
    :param values: complex ``(B, coils, ...)``.
    :returns: ``(B, channels, ...)`` in the precision of ``values``.
    :raises DataError: if the numbers of coils or scans differ.
    """
    shape = tuple(matrix.shape)
    fits = (
        isinstance(values, Tensor)
        and values.is_complex()
        and values.ndim >= 3
        and shape[-1] == values.shape[1]
        and (matrix.ndim == 2 or (matrix.ndim == 3 and shape[0] == values.shape[0]))
    )
    if not fits:
        raise DataError(
            "coil mixing", "values", found=f"{values.dtype} {tuple(values.shape)}",
            expected=f"complex (B, coils, ...) that fits the matrix {shape}",
        )  # fmt: skip
    mixed = matrix.to(values.dtype) @ values.flatten(2)
    return mixed.reshape(values.shape[0], shape[-2], *values.shape[2:])


def _enough(where: str, coils: int, samples: int) -> None:
    if samples < max(2, _SAMPLES_PER_COIL * coils):
        raise DataError(
            where, "noise", found=f"{samples} samples of {coils} coils",
            expected=f"{max(2, _SAMPLES_PER_COIL * coils)} or more",
            hint="(coils, samples) is the order of the axes" if samples < coils else None,
        )  # fmt: skip


def _tyler(noise: Tensor) -> Tensor:
    """Tyler's scatter of complex samples ``(coils, T)``, per real component."""
    coils, total = noise.shape
    # start from equal variances; the fixed point does not depend on it
    scale = noise.abs().square().median(1).values.sqrt().to(noise.dtype)
    scale = torch.where(scale.abs() > 0, scale, noise.abs().square().mean(1).sqrt())
    unit = noise / scale[:, None]
    unit = unit[:, unit.abs().amax(0) > 0]
    _enough("noise covariance", coils, unit.shape[1])
    scatter = torch.eye(coils, dtype=noise.dtype, device=noise.device)
    distance = unit.abs().square().sum(0)
    for _ in range(_ITERATIONS):
        weighted = unit / distance.sqrt().clamp_min(torch.finfo(torch.float64).tiny)
        new = coils / unit.shape[1] * (weighted @ weighted.mH)
        new = new * (coils / new.diagonal().real.sum())
        change = float((new - scatter).abs().max())
        scatter = new
        factor, info = torch.linalg.cholesky_ex(scatter)
        if int(info):
            raise DataError(
                "noise covariance", "kspace", found="coils that are combinations of each other",
                expected="independent receivers", hint="drop one, or compress the coils",
            )  # fmt: skip
        white = torch.linalg.solve_triangular(factor, unit, upper=False)
        distance = white.abs().square().sum(0)
        if change < 1e-10:
            break
    # a chi-squared variable with 2 coils degrees of freedom is twice a gamma variable
    median = 2 * float(gammaincinv(coils, 0.5))
    level = float(distance.median()) / median
    scatter = scatter * level
    return scale[:, None] * scatter * scale.conj()[None]
