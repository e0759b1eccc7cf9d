"""The two constraint sets of phase retrieval, and shrink-wrap, for a batch of starts.

Everything is in the order of the fast Fourier transform, origin at index 0: centring costs nothing.
Rows are ``scan * starts + start``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciinv.channels import to_channels
from sciinv.operators.phase import Diffraction

# width of shrink-wrap's Gaussian in pixels, first and last
_SIGMA = (3.0, 1.0)


class FourierSets:
    """Images with the measured moduli, and images inside the support: ``(R, 1, *pattern_shape)``.

    Real objects have a real state: the nearest real image to one with the measured moduli.

    :param y: measurement ``(B, 1, *pattern_shape)``.
    :param starts: rows for each scan.
    :param nonneg: values inside the support are not negative.
    """

    def __init__(self, y: Tensor, physics: Diffraction, starts: int, *, nonneg: bool) -> None:
        self.physics = physics
        self.starts = starts
        self.nonneg = nonneg
        self.real = physics.channels == 1
        self.axes = tuple(range(-len(physics.image_shape), 0))
        self.size = math.prod(physics.pattern_shape)

        amplitude = self.shift(physics.amplitude(y))
        self.measured: Tensor | None = None
        if physics.mask is not None:
            seen = self.shift(physics.mask != 0).expand(amplitude.shape)
            amplitude = torch.where(seen, amplitude, torch.zeros_like(amplitude))
            self.measured = seen.repeat_interleave(starts, 0)
        self.amplitude = amplitude.repeat_interleave(starts, 0)
        self.guess = self._filled()
        # keep to the guess where nothing was measured
        self.hold = False
        self.total = self.amplitude.flatten(1).sum(1, dtype=torch.float64)
        inside = torch.ones(1, 1, *physics.image_shape, dtype=torch.bool, device=y.device)
        if physics.support is not None:
            inside = physics.support != 0
        inside = self.shift(self.pad(inside)).expand(y.shape[0], 1, *physics.pattern_shape)
        # the loosest support, and the present one
        self.box = inside.repeat_interleave(starts, 0)
        self.support = self.box

    # -- grids ---------------------------------------------------------------------------------
    def shift(self, x: Tensor) -> Tensor:
        """Move the centre to index 0."""
        return torch.fft.ifftshift(x, dim=self.axes)

    def pad(self, x: Tensor) -> Tensor:
        """Embed ``(..., *image_shape)`` into the pattern's grid, centre on centre."""
        out = x.new_zeros(*x.shape[: -len(self.axes)], *self.physics.pattern_shape)
        self._crop(out).copy_(x)
        return out

    def _crop(self, x: Tensor) -> Tensor:
        sizes = zip(self.axes, self.physics.image_shape, self.physics.pattern_shape, strict=True)
        for axis, n, full in sizes:
            x = x.narrow(axis, full // 2 - n // 2, n)
        return x

    def crop(self, x: Tensor) -> Tensor:
        """Cut the image out of the grid, centred again."""
        return self._crop(torch.fft.fftshift(x, dim=self.axes))

    # -- projections ---------------------------------------------------------------------------
    def random(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Images with the measured moduli and random phases, one generator for each row."""
        shape = self.amplitude.shape[1:]
        turns = torch.stack([torch.rand(shape, generator=g) for g in generators])
        field = torch.polar(self.guess, (2 * math.pi) * turns.to(self.amplitude))
        return self._image(field)

    def _filled(self) -> Tensor:
        """Amplitudes with a guess where nothing was measured: the mean of the neighbours.

        With zeros or anything behind a beam stop the first images are edges without an inside, and
        shrink-wrap follows the edges.
        """
        if self.measured is None:
            return self.amplitude
        known = self.measured.to(self.amplitude)
        filled = self.amplitude
        sigma = 1.0
        missing = ~self.measured
        while bool(missing.any()):
            weight = blur(known, sigma, len(self.axes))
            reached = missing & (weight > 0.01)
            mean = blur(self.amplitude, sigma, len(self.axes)) / weight.clamp_min(0.01)
            filled = torch.where(reached, mean, filled)
            missing = missing & ~reached
            sigma *= 2
        return filled

    def _image(self, field: Tensor) -> Tensor:
        z = torch.fft.ifftn(field, dim=self.axes, norm="ortho")
        return z.real.contiguous() if self.real else z

    def moduli(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Project onto the measured moduli; also the R-factor of ``state``, ``(R,)``."""
        field = torch.fft.fftn(state, dim=self.axes, norm="ortho")
        found = field.abs()
        target = self.guess if self.hold else self.amplitude
        factor = target / found.clamp_min(torch.finfo(found.dtype).tiny)
        off = found.sub_(self.amplitude).abs_()
        if self.measured is not None:
            if not self.hold:
                factor = torch.where(self.measured, factor, torch.ones_like(factor))
            off = torch.where(self.measured, off, torch.zeros_like(off))
        # rows first: summing everything in double precision would copy the whole pattern
        r_factor = off.sum(-1).flatten(1).sum(1, dtype=torch.float64) / self.total
        torch.view_as_real(field).mul_(factor[..., None])
        return self._image(field), r_factor

    def _inside(self, w: Tensor) -> Tensor:
        """Where the object's constraints keep ``w`` as it is."""
        return self.support & (w >= 0) if self.nonneg else self.support

    def step(self, state: Tensor, method: str, beta: float) -> tuple[Tensor, Tensor]:
        """Return the next state and the R-factor of this one."""
        p, r_factor = self.moduli(state)
        if method == "er":
            return torch.where(self._inside(p), p, torch.zeros_like(p)), r_factor
        if method == "hio":
            return torch.where(self._inside(p), p, state.sub_(p, alpha=beta)), r_factor
        inside = self._inside(2 * p - state) if self.nonneg else self.support
        return torch.where(inside, p, state.mul_(beta).add_(p, alpha=1 - 2 * beta)), r_factor

    def object(self, state: Tensor) -> Tensor:
        """Return the object that a state stands for, ``(R, 1, *pattern_shape)``, unrestricted."""
        return state

    # -- results -------------------------------------------------------------------------------
    def images(self, state: Tensor) -> Tensor:
        """Objects inside their supports, ``(R, C, *image_shape)``, their mean real and positive."""
        x = self.object(state)
        x = torch.where(self.support, x, torch.zeros_like(x))
        if self.nonneg:
            x = x.clamp_min(0)
        x = self.crop(x)[:, 0]
        mean = x.flatten(1).sum(1)
        phase = torch.where(mean == 0, torch.ones_like(mean), mean.sgn().conj())
        x = x * phase.reshape(-1, *[1] * len(self.axes))
        return x[:, None].contiguous() if self.real else to_channels(x)

    def supports(self) -> Tensor:
        """Supports of all rows, bool ``(R, *image_shape)``."""
        return self.crop(self.support)[:, 0].contiguous()


class CodedSets(FourierSets):
    """The fields behind every diversity mask, ``(R, L, *pattern_shape)``, as one state.

    Fields of one object are a linear subspace: projecting onto it averages over the masks.
    """

    def __init__(self, y: Tensor, physics: Diffraction, starts: int, *, nonneg: bool) -> None:
        masks = physics.masks
        assert masks is not None  # noqa: S101  the caller chose this class
        self.masks = masks.to(torch.complex128 if y.dtype == torch.float64 else torch.complex64)
        super().__init__(y, physics, starts, nonneg=nonneg)
        self.real_object, self.real = self.real, False
        self.masks = self.shift(self.pad(self.masks))
        weight = self.masks.abs().square().sum(0, keepdim=True)
        # pixels that no mask lets through are not seen
        self.weight = torch.where(weight > 0, weight.reciprocal(), torch.zeros_like(weight))

    def object(self, state: Tensor) -> Tensor:
        """Least-squares object of the fields."""
        x = (self.masks.conj() * state).sum(1, keepdim=True) * self.weight
        return x.real.contiguous() if self.real_object else x

    def _project(self, w: Tensor) -> Tensor:
        x = self.object(w)
        return self.masks * torch.where(self._inside(x), x, torch.zeros_like(x))

    def step(self, state: Tensor, method: str, beta: float) -> tuple[Tensor, Tensor]:
        """Return the next state; the formulas hold for projections onto any two sets."""
        p, r_factor = self.moduli(state)
        if method == "er":
            return self._project(p), r_factor
        if method == "hio":
            return self._project((1 + beta) * p - state) + state - beta * p, r_factor
        return beta * (self._project(2 * p - state) + state) + (1 - 2 * beta) * p, r_factor

    def images(self, state: Tensor) -> Tensor:
        """Objects inside their supports."""
        self.real = self.real_object
        return super().images(state)


class ShrinkWrap:
    """Support from the blurred modulus (Marchesini et al., Phys. Rev. B 68, 140101, 2003).

    :param sets: whose support is updated.
    :param threshold: share of the maximum of each row.
    :param centre: also move object and support to the middle of the grid.
    """

    def __init__(self, sets: FourierSets, *, threshold: float, centre: bool) -> None:
        self.sets = sets
        self.threshold = threshold
        self.centre = centre

    def update(self, state: Tensor, progress: float) -> Tensor:
        """Set the support from ``state``; return the state, moved if ``centre``.

        :param progress: from 0 to 1; the blur falls geometrically with it.
        """
        sets = self.sets
        first, last = _SIGMA
        sigma = first * (last / first) ** min(progress, 1.0)
        size = blur(sets.object(state).abs(), sigma, len(sets.axes))
        top = size.flatten(1).amax(1).reshape(-1, *[1] * (size.ndim - 1))
        found = size > self.threshold * top
        if self.centre:
            state, found = centre_rows(state, found)
        found = found & sets.box
        # a support that lost its object (all outside the box) is no support
        empty = ~found.flatten(1).any(1).reshape(top.shape)
        sets.support = torch.where(empty, sets.support, found)
        return state


def blur(x: Tensor, sigma: float, dim: int) -> Tensor:
    """Blur real ``x`` circularly along its last ``dim`` axes by a Gaussian of ``sigma`` pixels."""
    axes = tuple(range(-dim, 0))
    field = torch.fft.rfftn(x, dim=axes)
    for axis in axes:
        n = x.shape[axis]
        k = torch.fft.rfftfreq(n) if axis == -1 else torch.fft.fftfreq(n)
        window = torch.exp(-2 * (math.pi * sigma * k) ** 2).to(x)
        field *= window.reshape([-1 if a == axis else 1 for a in axes])
    return torch.fft.irfftn(field, s=x.shape[-dim:], dim=axes)


def centre_rows(state: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """Roll each row so that the middle of its support is at index 0.

    The middle is the circular mean of the support's pixels: it has no seam where an object wraps
    around.
    """
    dim = support.ndim - 2
    axes = tuple(range(-dim, 0))
    states, supports = [], []
    for row in range(len(state)):
        move = []
        for axis in axes:
            n = support.shape[axis]
            line = support[row].sum([a for a in range(-dim - 1, 0) if a != axis]).double()
            angle = 2 * math.pi * torch.arange(n, dtype=torch.float64, device=line.device) / n
            mean = (line * torch.polar(torch.ones_like(angle), angle)).sum()
            move.append(-round(float(mean.angle()) * n / (2 * math.pi)))
        states.append(state[row].roll(move, axes))
        supports.append(support[row].roll(move, axes))
    return torch.stack(states), torch.stack(supports)
