"""deepinv's own samplers on our problems: same prior, same operator, same noise.

deepinv's samplers expect images of a certain scale: PosteriorDiffusion and PiGDM unit variance,
DDRM and DiffPIR the range [0, 1]. Image, noise level and prior are brought to it (and the samples
back), so that each runs as its documentation says. Everything else is at its default, except where
the name says otherwise; DPS's clipping of the image to [-1, 1] is off.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import deepinv
import numpy as np
import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from torch import Tensor
from truth_common import Make

from sciinv.solvers import DiffPIR, MomentMatching

Rival = Callable[[torch.nn.Module, LinearPhysics, Tensor, int, int], Tensor]
# levels of PosteriorDiffusion with the variance-exploding process, images of unit variance
VE = {"sigma_min": 0.005, "sigma_max": 50.0}
# half of the range [0, 1] in standard deviations of the image
HALF_RANGE = 5.0


class Scaled(torch.nn.Module):
    """Denoiser of ``u`` where the image is ``x = scale u + shift``."""

    def __init__(self, prior: torch.nn.Module, scale: float, shift: float) -> None:
        super().__init__()
        self.prior, self.scale, self.shift = prior, scale, shift

    def forward(self, u: Tensor, sigma: Tensor | float, **kwargs: object) -> Tensor:
        """Denoise ``u`` at its own level."""
        if isinstance(sigma, Tensor) and sigma.numel() > 1:
            sigma = sigma.reshape(-1)
        x = self.prior(self.scale * u + self.shift, self.scale * sigma)
        return (x - self.shift) / self.scale


def rescaled(
    prior: torch.nn.Module, physics: LinearPhysics, y: Tensor, scale: float, shift: float
) -> tuple[Scaled, LinearPhysics, Tensor]:
    """Return prior, operator with its noise, and data for ``u``."""
    new = copy.deepcopy(physics)
    new.noise_model = GaussianNoise(float(physics.noise_model.sigma) / scale)
    offset = physics.A(torch.full((1, *physics.img_size), shift, dtype=y.dtype))
    return Scaled(prior, scale, shift), new, (y - offset) / scale


def spread(prior: torch.nn.Module) -> float:
    """Root mean variance of a component of the image."""
    x = prior.sample(2000, 0, dtype=torch.float64)
    return float(x.var(0).mean().sqrt())


def diffusion(fidelity: object, *, steps: int = 100, process: str = "VP") -> Rival:
    """PosteriorDiffusion with a data term, ancestral steps."""

    def sample(prior, physics, y, count, seed):
        scale = spread(prior)
        small, op, data = rescaled(prior, physics, y, scale, 0.0)
        if process == "VP":
            sde = deepinv.sampling.VariancePreservingDiffusion(
                alpha=1.0, denoiser=small, minus_one_one=False
            )
        else:
            sde = deepinv.sampling.VarianceExplodingDiffusion(
                alpha=1.0, denoiser=small, minus_one_one=False, **VE
            )
        model = deepinv.sampling.PosteriorDiffusion(
            data_fidelity=fidelity(small),
            denoiser=small,
            sde=sde,
            solver=deepinv.sampling.DDPMSolver(
                timesteps=torch.linspace(1, 0, steps, dtype=torch.float64),
                rng=torch.Generator(),
            ),
            minus_one_one=False,
        )
        rows = data.expand(count, *data.shape[1:]).contiguous()
        x = model(rows, op, x_init=(count, *physics.img_size), seed=seed)
        return scale * x.detach().double()

    return sample


def ddrm(prior, physics, y, count, seed):
    """DDRM with its default levels in [0, 1]."""
    scale = 2 * HALF_RANGE * spread(prior)
    small, op, data = rescaled(prior, physics, y, scale, -scale / 2)
    # D(x, 0) is the image itself
    safe = lambda u, s: small(u, s) if s > 0 else u  # noqa: E731
    torch.manual_seed(seed)
    rows = data.expand(count, *data.shape[1:]).contiguous()
    x = deepinv.sampling.DDRM(denoiser=safe, sigmas=np.linspace(1, 0, 100))(rows, op)
    return scale * x.double() - scale / 2


def diffpir(prior, physics, y, count, seed):
    """DiffPIR with its default levels in [0, 1]."""
    scale = 2 * HALF_RANGE * spread(prior)
    small, op, data = rescaled(prior, physics, y, scale, -scale / 2)
    torch.manual_seed(seed)
    rows = data.expand(count, *data.shape[1:]).contiguous()
    model = deepinv.sampling.DiffPIR(
        model=small, data_fidelity=deepinv.optim.L2(), max_iter=100, device="cpu"
    )
    x = model(rows, op)
    return scale * x.double() - scale / 2


def _matching(cg: int) -> Callable[[torch.nn.Module], object]:
    return lambda d: deepinv.sampling.MomentMatchingDataFidelity(denoiser=d, cg_max_iter=cg)


def _pigdm(d: torch.nn.Module) -> object:
    return deepinv.sampling.PiGDMDataFidelity(denoiser=d, cg_max_iter=20)


def _dps(guidance: str) -> Callable[[torch.nn.Module], object]:
    return lambda d: deepinv.sampling.DPSDataFidelity(denoiser=d, guidance=guidance)


# deepinv's name of a method, and the solver of ours that it is compared with
RIVALS: dict[str, Rival] = {
    "deepinv moment matching": diffusion(_matching(5), process="VE"),
    "deepinv PiGDM": diffusion(_pigdm, process="VE"),
    "deepinv DPS": diffusion(_dps("norm")),
    "deepinv DDRM": ddrm,
    "deepinv DiffPIR": diffpir,
}
PAIRS = {
    "deepinv moment matching": "MomentMatching",
    "deepinv PiGDM": "PiGDM",
    "deepinv DPS": "DPS",
    "deepinv DDRM": "DDRM",
    "deepinv DiffPIR": "DiffPIR",
}
# ours with the number of steps and the share of fresh noise that theirs have, where ours differ
EQUAL: dict[str, Make] = {
    "MomentMatching": lambda p: MomentMatching(p, steps=100, integrator="ancestral"),
    # their lambda multiplies a squared norm without its half: 7 is 3.5 of ours
    "DiffPIR": lambda p: DiffPIR(p, steps=100, eta_renoise=0.1**0.5, width="sigma", lam=3.5),
}


def alike(name: str) -> str:
    """Name of the row of a solver of ours at their settings."""
    return f"{name}, their settings" if name in EQUAL else name


# other settings of theirs, on the fields only
VARIANTS: dict[str, Rival] = {
    "deepinv moment matching, VP": diffusion(_matching(5)),
    "deepinv PiGDM, VP": diffusion(_pigdm),
    "deepinv DPS, annealed": diffusion(_dps("annealed")),
}
