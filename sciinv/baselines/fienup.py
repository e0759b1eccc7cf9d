"""Phase retrieval by iterated projections: HIO, error reduction and RAAR with shrink-wrap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor

from sciinv.baselines.common import finite
from sciinv.baselines.projections import CodedSets, FourierSets, ShrinkWrap
from sciinv.errors import DataError, IncompatibleError
from sciinv.operators.phase import Diffraction, check_pattern
from sciinv.random import as_generator, child_generators

Method = Literal["hio", "er", "raar"]

# share of the run after which the support stays
_WRAP_UNTIL = 0.8
# share of the run in which missing pixels keep a guess: 18 of 32 starts behind beam stops of two
# sizes then found the object, 13 without
_HOLD = 1 / 6
# an image that equals its own conjugate mirror image to this degree may be object and twin at once
_TWIN = 0.9


@dataclass(frozen=True)
class HIOStep:
    """What a callback is told after every iteration.

    :param iteration: iterations done, from 1.
    :param iterations: iterations of the run.
    :param method: projection formula of this iteration, ``"hio"``, ``"er"`` or ``"raar"``.
    :param r_factor: of every scan and start before this iteration, ``(B, starts)``.
    """

    iteration: int
    iterations: int
    method: str
    r_factor: Tensor


@dataclass(frozen=True)
class HIOInfo:
    """What a run found.

    :param r_factors: ``sum | |F| - |model| | / sum |F|`` over the measured pixels of the image of
        every start, ``(B, starts)`` in float64.
    :param best: index of the smallest R-factor of each scan, ``(B,)``.
    :param history: R-factor of the iterate before every iteration, ``(B, starts, iterations)``.
    :param images: image of every start, ``(B, starts, C, *image_shape)``.
    :param supports: final support of every start, bool ``(B, starts, *image_shape)``.
    :param symmetry: correlation of every image with its own conjugate mirror image, the largest
        over all shifts, ``(B, starts)``; 1 for a centro-symmetric object *and* for a superposition
        of object and twin, at which the algorithm stagnates.
    :param notes: hints in words.
    """

    r_factors: Tensor
    best: Tensor
    history: Tensor
    images: Tensor
    supports: Tensor
    symmetry: Tensor
    notes: tuple[str, ...]

    @property
    def r_factor(self) -> Tensor:
        """R-factor of the best start of each scan, ``(B,)``."""
        return self.r_factors.amin(1)

    @property
    def support(self) -> Tensor:
        """Support of the best start of each scan, bool ``(B, *image_shape)``."""
        return self.supports[torch.arange(len(self.best)), self.best.cpu()]


@overload
def hio(
    y: Tensor,
    physics: Diffraction,
    *,
    method: Method = "hio",
    iterations: int = 300,
    beta: float = 0.9,
    er_every: int = 40,
    er_last: int = 20,
    shrink_wrap: bool | None = None,
    threshold: float = 0.2,
    starts: int = 4,
    generator: torch.Generator | int | None = 0,
    nonneg: bool = False,
    callback: Callable[[HIOStep], object] | None = None,
    return_info: Literal[False] = False,
) -> Tensor: ...


@overload
def hio(
    y: Tensor,
    physics: Diffraction,
    *,
    method: Method = "hio",
    iterations: int = 300,
    beta: float = 0.9,
    er_every: int = 40,
    er_last: int = 20,
    shrink_wrap: bool | None = None,
    threshold: float = 0.2,
    starts: int = 4,
    generator: torch.Generator | int | None = 0,
    nonneg: bool = False,
    callback: Callable[[HIOStep], object] | None = None,
    return_info: Literal[True],
) -> tuple[Tensor, HIOInfo]: ...


def hio(
    y: Tensor,
    physics: Diffraction,
    *,
    method: Method = "hio",
    iterations: int = 300,
    beta: float = 0.9,
    er_every: int = 40,
    er_last: int = 20,
    shrink_wrap: bool | None = None,
    threshold: float = 0.2,
    starts: int = 4,
    generator: torch.Generator | int | None = 0,
    nonneg: bool = False,
    callback: Callable[[HIOStep], object] | None = None,
    return_info: bool = False,
) -> Tensor | tuple[Tensor, HIOInfo]:
    r"""Find an object from the moduli of its Fourier transform, from random phases.

    Alternates between the images with the measured moduli (projection :math:`P_M`, free where
    nothing was measured, but for the first sixth of the run, which takes the mean of the neighbours
    there) and those inside the support, real or non-negative if the operator and
    ``nonneg`` say so (:math:`P_S`):

    - ``"er"``: error reduction, :math:`P_S P_M x`;
    - ``"hio"``: :math:`P_M x` inside the support and :math:`x - \beta P_M x` outside (Fienup,
      Appl. Opt. 21, 1982), each ``er_every`` iterations ending with ``er_last`` of ER;
    - ``"raar"``: :math:`P_M x` inside and :math:`\beta x + (1 - 2 \beta) P_M x` outside (Luke,
      Inverse Problems 21, 2005), likewise.

    With ``shrink_wrap`` the support is found on the way (Marchesini et al., Phys. Rev. B 68,
    2003): at the end of every cycle the modulus of :math:`P_M x` is blurred by a Gaussian whose
    width falls from 3 to 1 pixels, and what is above ``threshold`` of its maximum is the new
    support; the object is moved to the centre. The support stays within the operator's image, so an
    image of half the pattern's size is the loosest one. All starts run as one batch, and the one
    with the smallest R-factor is returned.

    The result is known up to a global phase (here: the mean is real and positive), the conjugate
    mirror image and, without a support, the position. Nothing depends on the units.

    With :class:`~sciinv.operators.CodedDiffraction` the sets are those of the fields behind the
    masks, and :math:`P_S` averages over the masks, weighted by their moduli.

    :param y: amplitudes or intensities ``(B, L, *pattern_shape)``; negative noise counts as 0.
    :param physics: the operator that measured ``y``; its support and mask are used.
    :param iterations: projections onto the moduli.
    :param beta: feedback, between 0 and 1.
    :param er_every: length of a cycle.
    :param er_last: iterations of ER at its end (and at the end of the run).
    :param shrink_wrap: find the support; by default only where the operator has none and the
        pattern is a plain Fourier transform.
    :param threshold: of shrink-wrap, as a share of the maximum of the blurred modulus.
    :param starts: random starts for each scan.
    :param generator: source of the random phases; a scan's do not depend on the other scans, a
        start's not on the number of starts.
    :param nonneg: the object is not negative (real images only).
    :param callback: called after every iteration with a :class:`HIOStep`; anything but ``None``
        returned ends the run.
    :param return_info: also return a :class:`HIOInfo`.
    :return: ``(B, C, *image_shape)``.
    :raises IncompatibleError: not a diffraction operator, or ``nonneg`` for a complex image.
    :raises DataError: ``y`` is not a pattern (see
        :func:`~sciinv.operators.phase.check_pattern`) or a parameter is out of range.
    """
    if not isinstance(physics, Diffraction):
        raise IncompatibleError(
            f"hio: found {type(physics).__name__}, expected FourierPhaseRetrieval or "
            "CodedDiffraction"
        )
    _check(method, iterations, beta, er_every, er_last, threshold, starts)
    if nonneg and physics.channels != 1:
        raise IncompatibleError("hio: nonneg: found a complex image, expected channels=1")
    check_pattern(y, physics, allow_negative=True)
    batch = y.shape[0]
    coded = physics.masks is not None
    sets = (CodedSets if coded else FourierSets)(y, physics, starts, nonneg=nonneg)
    wrap = None
    if shrink_wrap or (shrink_wrap is None and physics.support is None and not coded):
        centre = physics.support is None and not coded
        wrap = ShrinkWrap(sets, threshold=threshold, centre=centre)
    root = as_generator(generator)
    rows = [g for scan in child_generators(root, batch) for g in child_generators(scan, starts)]
    state = sets.random(rows)
    history: list[Tensor] = []
    for step in range(iterations):
        # counted from the end, so that the run ends with error reduction
        use = method if (iterations - 1 - step) % er_every >= er_last else "er"
        sets.hold = step < _HOLD * iterations
        state, r_factor = sets.step(state, use, beta)
        history.append(r_factor)
        done = step + 1
        # at the end of error reduction: during HIO the outside holds the feedback, not an image
        cycle_ends = (iterations - done) % er_every == 0
        if wrap is not None and cycle_ends and done <= _WRAP_UNTIL * iterations:
            state = wrap.update(state, done / (_WRAP_UNTIL * iterations))
        if callback is not None:
            info = HIOStep(done, iterations, use, r_factor.reshape(batch, starts))
            if callback(info) is not None:
                break
    images = finite(sets.images(state), "hio", len(history))
    return _best(y, physics, sets, images, history, return_info)


def _best(
    y: Tensor,
    physics: Diffraction,
    sets: FourierSets,
    images: Tensor,
    history: list[Tensor],
    return_info: bool,
) -> Tensor | tuple[Tensor, HIOInfo]:
    """Rank the starts by their R-factor through the operator."""
    batch, starts = y.shape[0], sets.starts
    per_row = physics.rows(torch.arange(batch).repeat_interleave(starts))
    amplitude = physics.amplitude(y).repeat_interleave(starts, 0)
    model = per_row.field(images).abs()
    mask = per_row.measurement_mask
    if mask is not None:
        seen = mask != 0
        amplitude, model = (torch.where(seen, v, torch.zeros_like(v)) for v in (amplitude, model))
    difference = (model - amplitude).abs().flatten(1).sum(1, dtype=torch.float64)
    r_factors = difference / amplitude.flatten(1).sum(1, dtype=torch.float64)
    r_factors = r_factors.reshape(batch, starts)
    best = r_factors.argmin(1)
    stack = images.reshape(batch, starts, *images.shape[1:])
    chosen = stack[torch.arange(batch, device=best.device), best]
    if not return_info:
        return chosen
    symmetry = self_twin(images).reshape(batch, starts)
    notes = [
        f"scan {scan}: the image equals its own conjugate mirror image to {value:.0%}: either the "
        "object is centro-symmetric or the run stagnated at object and twin together; try more "
        "starts or a tighter, asymmetric support"
        for scan in range(batch)
        if (value := float(symmetry[scan, best[scan]])) > _TWIN
    ]
    info = HIOInfo(
        r_factors=r_factors,
        best=best,
        history=torch.stack(history, 1).reshape(batch, starts, -1),
        images=stack,
        supports=sets.supports().reshape(batch, starts, *physics.image_shape),
        symmetry=symmetry,
        notes=tuple(notes),
    )
    return chosen, info


def self_twin(x: Tensor) -> Tensor:
    """Correlation of images with their own conjugate mirror image, over all shifts and phases.

    The transform of the mirror image is the conjugate one, so the correlation is the transform of
    the squared field.

    :param x: ``(R, C, *spatial)``.
    :return: ``(R,)``, between 0 and 1.
    """
    axes = tuple(range(1, x.ndim - 1))
    z = torch.complex(x[:, 0], x[:, 1]) if x.shape[1] == 2 else x[:, 0]
    # padded: otherwise the correlation would wrap around
    field = torch.fft.fftn(z, s=[2 * n for n in z.shape[1:]], dim=axes)
    peak = torch.fft.ifftn(field.square(), dim=axes).abs().flatten(1).amax(1)
    energy = z.abs().square().flatten(1).sum(1)
    return peak / energy.clamp_min(torch.finfo(energy.dtype).tiny)


def _check(
    method: str,
    iterations: int,
    beta: float,
    er_every: int,
    er_last: int,
    threshold: float,
    starts: int,
) -> None:
    """Refuse senseless parameters, all at once."""
    problems = []
    if method not in ("hio", "er", "raar"):
        problems.append(f"method: found {method!r}, expected 'hio', 'er' or 'raar'")
    counts = {"iterations": iterations, "er_every": er_every, "starts": starts}
    problems += [
        f"{name}: found {value}, expected at least 1" for name, value in counts.items() if value < 1
    ]
    if er_last < 0:
        problems.append(f"er_last: found {er_last}, expected at least 0")
    for name, value in (("beta", beta), ("threshold", threshold)):
        if not (math.isfinite(value) and 0 < value <= 1):
            problems.append(f"{name}: found {value}, expected above 0 and at most 1")
    if problems:
        raise DataError("hio", "; ".join(problems))
