"""Total variation on a real multi-coil scan, against SigPy's at its usual 200 iterations."""

from __future__ import annotations

import math

import h5py
import numpy as np
import pytest
import sigpy.mri
import torch

from sciinv.baselines import cg_sense, solve_tv, tv_lambda
from sciinv.channels import to_channels, to_complex
from sciinv.operators import CartesianMRI, estimate_coil_maps


@pytest.mark.slow
@pytest.mark.data
def test_tv_of_a_brain_at_four_times(real_data):
    with h5py.File(real_data / "mri_brain16ch_fastmri.h5") as file:
        kspace = torch.as_tensor(file["kspace"][:1])
    n = kspace.shape[-1]
    calibration = np.arange(n // 2 - 8, n // 2 + 8)
    rest = np.setdiff1d(np.arange(n), calibration)
    density = (1 - np.abs(rest - n // 2) / (n // 2 + 1)) ** 2
    outer = np.random.default_rng(0).choice(rest, 16, replace=False, p=density / density.sum())
    lines = np.concatenate([calibration, outer])
    mask, centre = torch.zeros(n, n), torch.zeros(n, n)
    mask[:, lines], centre[:, calibration] = 1, 1
    maps = estimate_coil_maps(kspace * centre, mask=centre, fold_phase=True)
    low = CartesianMRI((n, n), centre, maps).A_adjoint(to_channels(kspace * centre))
    scale = float(torch.quantile(low.norm(dim=1).flatten(), 0.99))
    kspace = kspace / scale
    reference = CartesianMRI((n, n), None, maps).A_adjoint(to_channels(kspace)).norm(dim=1)
    physics = CartesianMRI((n, n), mask, maps)
    y = to_channels(kspace * mask)
    edge = torch.cat([kspace[..., :8, lines], kspace[..., -8:, lines]])
    sigma = float(edge.abs().square().mean().div(2).sqrt())

    def quality(magnitude):
        inside = reference > 0.1 * reference.max()
        mse = float((magnitude - reference)[inside].square().mean())
        return 10 * math.log10(float(reference.max()) ** 2 / mse)

    lam = tv_lambda(physics, sigma, 1.0)
    x, info = solve_tv(y, physics, lam=lam)
    assert info.converged.all()
    ours = quality(x.norm(dim=1))
    theirs = sigpy.mri.app.TotalVariationRecon(
        to_complex(y)[0].numpy(),
        maps[0].numpy(),
        lam,
        weights=mask.numpy(),
        max_iter=200,
        show_pbar=False,
    ).run()
    linear = max(quality(cg_sense(y, physics, lam=v).norm(dim=1)) for v in (3e-3, 1e-2))
    assert ours > quality(torch.as_tensor(np.abs(theirs))[None]) + 1.5
    assert ours > linear + 2.0
    assert ours > 26.0
