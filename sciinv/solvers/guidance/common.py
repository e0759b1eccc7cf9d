"""What the explicit methods share: data steps on noisy states, and singular directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciinv.capabilities import Capability, operator_capabilities
from sciinv.linalg import quick_dot
from sciinv.operators.spectral import Spectrum, dense_spectrum, spectrum
from sciinv.solvers.problem import Problem, select_scans

# levels that were meant to be equal differ by rounding, of a sigma kept in float32 too
ROUNDING = 1e-6
# share of re-drawn noise in the codes of DDRM, DDNM and DDS
PAPER_ETA = 0.85
DATA_NEEDS = frozenset(
    {Capability.LINEAR, Capability.ADJOINT, Capability.GAUSSIAN, Capability.WHITE}
)


def data_step(
    problem: Problem,
    x: Tensor,
    z: Tensor | None,
    level: float,
    *,
    sigma: float,
    weight: float = 1.0,
    max_iter: int,
    tol: float,
) -> Tensor:
    r"""Pull a state of noise level ``level`` to the data noised to the same level.

    ``x + weight (A^T A + tau)^{-1} A^T (y + level A z - A x)``. With ``tau = 0`` the operator in
    front is ``A^+``: the measured part of the state is replaced. But data with noise of their own
    carry ``sigma / S`` of it along a singular direction, which may exceed the level. With
    ``tau = sigma^2 / (2 level^2)`` the variance of the result is that of the state again,

    ``(1-w)^2 level^2 + w^2 (sigma^2/S^2 + level^2) = level^2``, ``w = S^2 / (S^2 + tau)``,

    for independent noise of state and data: well-measured directions are replaced and the others
    left alone, all of them at level 0.

    :param z: image-sized standard normal noise that a noised image would carry (its measurement
        is ``A z``); ``None`` keeps the data as they are.
    :param sigma: noise of the data that the step minds, 0 for none.
    """
    if weight == 0 or (level == 0 and sigma > 0):
        return x
    tau = (sigma / level) ** 2 / 2 if sigma > 0 else 0.0
    at = x if z is None or level == 0 else x - level * z
    return x + weight * correction(problem, at, tau, max_iter=max_iter, tol=tol)


def correction(problem: Problem, x: Tensor, tau: float, *, max_iter: int, tol: float) -> Tensor:
    """Return ``(A^T A + tau)^{-1} A^T (y - A x)``, for ``tau = 0`` of least norm.

    Where nothing was measured the residual is rounding, which a singular system would blow up: the
    iterations end there.
    """
    aax = problem.normal(x)
    b = problem.aty - aax
    size = problem.aty_norm + quick_dot(aax, aax).sqrt()
    rounding = 8 * torch.finfo(x.dtype).eps * size
    relative = rounding / quick_dot(b, b).sqrt().clamp_min(1e-300)
    return problem.solve(tau, b, max_iter=max_iter, tol=relative.clamp_min(tol))


def problem_spectrum(problem: Problem) -> Spectrum:
    """Return the singular directions of the rows of a problem, and the data along them."""
    scans = problem._scan_physics
    with torch.no_grad():
        if Capability.SVD in operator_capabilities(problem.physics):
            return spectrum(problem.physics, problem.y)
        index, batch = problem.scan_of_row, problem._y.shape[0]
        if problem.physics is scans:
            parts = {0: scans}
        else:
            parts = {
                scan: select_scans(scans, torch.tensor([scan], device=index.device), batch)
                for scan in index.unique().tolist()
            }
        return dense_spectrum(scans, parts, index, problem.y)


def data_floor(problem: Problem, least: float) -> float:
    """Return the noise of the best measured direction, ``sigma_y / |A|``, at least ``least``."""
    return max(least, problem.sigma / problem.norm)


def spectral_floor(problem: Problem, least: float) -> float:
    """Return what the data leave open along the directions that they measure, at least ``least``.

    The variance is half of the mean over the measured directions, all scans together, of
    ``(sigma_y/S)^2 / (1 + (sigma_y/S)^2)``, the posterior variance of a white image of unit
    variance. A method that takes a mean for the image adds to its error at every level below the
    noise of a direction, and where singular values differ most directions are noisier than the best
    one. Half, because images are less uncertain than white ones: of 1/16, 1/4, 1/2 and 1 of the
    variance it came nearest to the posterior of smooth fields seen by NUFFT, CT and blur, while for
    a mask all are alike.
    """
    scans = torch.arange(problem._y.shape[0], device=problem._y.device)
    everything = Problem(problem._y, problem._scan_physics, scans, problem.sigma)
    values = problem_spectrum(everything).values.double()
    ratio = problem.sigma**2 / values[values > 0].square()
    if ratio.numel() == 0:
        return least
    return max(least, float((ratio / (1 + ratio)).mean() / 2) ** 0.5)


def renoise_shares(eta: float | None, s: float, s_next: float) -> tuple[float, float]:
    """Return the share of re-drawn noise along free directions and along noisily measured ones.

    Without a given one: that of ancestral steps, ``sqrt(1 - s'^2 / s^2)``, where the rest is the
    noise of the state itself; the published constant where the rest is taken from the data, which
    without fresh noise would be followed to a single point.
    """
    if eta is not None:
        return eta, eta
    return math.sqrt(1 - (s_next / s) ** 2), PAPER_ETA


def check_cg(cg: int, tol: float) -> None:
    """Refuse impossible limits of conjugate gradients."""
    if cg < 1 or not tol > 0:
        raise ValueError(
            f"cg, cg_tol: found {cg}, {tol}, expected at least 1 and a positive number"
        )


def check_share(name: str, value: float) -> None:
    """Refuse a share that is not within 0 and 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: found {value}, expected a number from 0 to 1")
