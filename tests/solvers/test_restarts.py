"""Restarts: which run is kept, and that it helps where one run often fails."""

from __future__ import annotations

import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.metrics import align
from sciinv.operators import CodedDiffraction
from sciinv.priors import GaussianField
from sciinv.solvers import DCDP, DPS, sample_with_restarts
from sciinv.solvers.truth import exact_problem


def test_the_run_of_the_smallest_residual_is_kept() -> None:
    case = exact_problem("blur", (4, 4), scans=2)
    solver = DPS(case.prior, steps=10)
    samples, info = sample_with_restarts(
        solver, case.y, case.physics, 3, restarts=4, generator=0, max_batch=5
    )
    runs, of_runs = solver.sample(case.y, case.physics, 12, generator=0, return_info=True)
    assert info.restarts == 4
    assert info.residuals.shape == (3, 4, 2)
    torch.testing.assert_close(info.residuals.flatten(0, 1), of_runs.chi_squared)
    for sample in range(3):
        for scan in range(2):
            best = int(info.residuals[sample, :, scan].argmin())
            assert int(info.kept[sample, scan]) == best
            torch.testing.assert_close(samples[sample, scan], runs[4 * sample + best, scan])
            assert info.chi_squared[sample, scan] == info.residuals[sample, :, scan].min()
    assert info.nfe == 4 * of_runs.nfe
    fewer, _ = sample_with_restarts(solver, case.y, case.physics, 1, restarts=4, generator=0)
    torch.testing.assert_close(fewer[0], samples[0])


def test_every_run_of_a_sample_starts_from_its_image() -> None:
    case = exact_problem("blur", (4, 4), scans=2)
    solver = DCDP(case.prior, steps=2)
    starts = torch.arange(3.0).reshape(3, 1, 1, 1, 1).expand(3, 2, 1, 4, 4).double()
    found, info = sample_with_restarts(
        solver, case.y, case.physics, 3, restarts=2, generator=0, init=starts
    )
    per_run = starts.repeat_interleave(2, 0)
    runs = solver.sample(case.y, case.physics, 6, generator=0, init=per_run)
    torch.testing.assert_close(found[1, 0], runs[2 + int(info.kept[1, 0]), 0])
    with pytest.raises(ValueError, match="restarts, num_samples: found 0"):
        sample_with_restarts(solver, case.y, case.physics, restarts=0)


@pytest.mark.slow
def test_restarts_raise_the_success_rate_of_phase_retrieval() -> None:
    scans, restarts = 8, 6
    g = torch.Generator().manual_seed(0)
    prior = GaussianField.power_law((12, 12), channels=1)
    truth = prior.sample(scans, g, dtype=torch.float32)
    signs = 2.0 * (torch.rand(3, 12, 12, generator=g) < 0.5) - 1
    physics = CodedDiffraction((12, 12), signs, channels=1, oversampling=1.0)
    physics.noise_model = GaussianNoise(0.05, rng=g)
    y = physics(truth)
    solver = DCDP(prior, steps=20, descent=20)

    def found(x: torch.Tensor) -> torch.Tensor:
        """Is it the object, up to the sign that no pattern shows? (S, B) bool."""

        def correlation(image, scan):  # noqa: ANN001, ANN202
            pair = image[0].numpy(), truth[scan, 0].numpy()
            return align(*pair, shifts=False, flip=False, return_info=True)[1].correlation

        rows = [[correlation(row[b], b) for b in range(scans)] for row in x]
        return torch.tensor(rows) > 0.95

    best, info = sample_with_restarts(solver, y, physics, 1, restarts=restarts, generator=1)
    # the same seed: the very runs among which the residual chose, all of them scored
    runs = solver.sample(y, physics, restarts, generator=1)
    single = found(runs).double().mean()
    chosen = found(best).double().mean()
    # of a scan that no run solves no choice makes a success: choosing can only be compared with the
    # mean over the runs, which is the success rate of one run
    assert 0 < float(single) < 0.7
    assert float(chosen) > float(single) + 0.2
    # and among solved scans the residual finds the right run
    solved = found(runs).any(0)
    assert float(found(best)[0][solved].double().mean()) > 0.9
    assert info.residuals.shape == (1, restarts, scans)
