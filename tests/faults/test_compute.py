"""Row 25: memory that ends, numbers that stop being numbers, engines that do not work.

The result is the same or the difference is said; nothing is replaced in silence. The death of a
worker process of a cluster belongs to clusters, which are not built yet.
"""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import simulate_ct, simulate_mri
from sciinv.errors import NumericalError
from sciinv.operators import CartesianMRI, ParallelBeamCT, astra_backend, nufft
from sciinv.priors import GaussianField
from sciinv.reconstruction.run import reconstruct
from sciinv.solvers import DPS, MMT

from ..cli.conftest import refused, run, scans, small_priors  # noqa: F401  fixtures

SHAPE = (12, 10)


class Hungry:
    """A denoiser that takes too much memory for more than ``limit`` images."""

    def __init__(self, limit: int, error: BaseException) -> None:
        self.field = GaussianField.power_law(SHAPE, std=0.5, channels=2)
        self.limit, self.error, self.sizes = limit, error, []
        self.sigma_min, self.sigma_max = 0.01, 5.0

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        if len(x) > self.limit:
            raise self.error
        self.sizes.append(len(x))
        return self.field(x, sigma)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    MemoryError(),
]


def problem() -> tuple[torch.Tensor, CartesianMRI]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(SHAPE, generator=generator) < 0.5
    from deepinv.physics import GaussianNoise

    physics = CartesianMRI(SHAPE, mask=mask, noise_model=GaussianNoise(0.1))
    return physics.A(torch.randn(1, 2, *SHAPE, generator=generator)), physics


@pytest.mark.parametrize(("make", "error"), [(DPS, ERRORS[0]), (DPS, ERRORS[1]), (MMT, ERRORS[2])])
def test_fewer_images_at_a_time_give_the_same_samples(make, error):
    y, physics = problem()
    plain = make(Hungry(99, error), steps=4).sample(y, physics, 7, generator=3)
    prior = Hungry(2, error)
    solver = make(prior, steps=4)
    assert solver.reduced_batch is None
    samples = solver.sample(y, physics, 7, generator=3)
    assert solver.reduced_batch == 1  # 7, 3, 1
    assert set(prior.sizes) == {1}
    torch.testing.assert_close(samples, plain, rtol=1e-2, atol=2e-4)
    # what fitted once is not exceeded again
    prior.sizes.clear()
    solver.sample(y, physics, 3, generator=3)
    assert set(prior.sizes) == {1}


def test_the_same_where_memory_ends_half_way():
    """The draws of the failed attempt are taken back."""
    y, physics = problem()
    plain = DPS(Hungry(99, MemoryError()), steps=4).sample(y, physics, 4, generator=3)
    prior = Hungry(99, MemoryError())
    calls = [0]
    call = type(prior).__call__

    def late(self, x, sigma):
        calls[0] += 1
        if calls[0] == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(self, x, sigma)

    solver = DPS(lambda x, sigma: late(prior, x, sigma), steps=4, sigma_min=0.01, sigma_max=5.0)
    samples = solver.sample(y, physics, 4, generator=3)
    assert solver.reduced_batch == 2
    torch.testing.assert_close(samples, plain, rtol=1e-4, atol=1e-5)


def test_one_image_that_does_not_fit_and_other_errors_are_raised():
    y, physics = problem()
    with pytest.raises(MemoryError, match="DPS: one image takes more memory"):
        DPS(Hungry(0, MemoryError()), steps=2).sample(y, physics, 4, generator=0)
    with pytest.raises(RuntimeError, match="shape"):
        DPS(Hungry(2, RuntimeError("shape")), steps=2).sample(y, physics, 4, generator=0)


def test_the_report_says_it(monkeypatch):
    scan = simulate_mri(
        shepp_logan(SHAPE), coils=2, acceleration=2.0, calibration_lines=4, noise_std=0.05, rng=1
    )
    options = {"num_samples": 4, "steps": 3, "krylov": 2, "seed": 1, "calibrate": False}
    plain = reconstruct(scan, Hungry(99, MemoryError()), **options)
    assert not any("Memory" in warning for warning in plain.warnings)
    scarce = reconstruct(scan, Hungry(1, ERRORS[0]), **options)
    (said,) = [warning for warning in scarce.warnings if "Memory" in warning]
    assert "1 at a time" in said
    np.testing.assert_allclose(scarce.samples, plain.samples, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("error", ERRORS[:1] + ERRORS[2:], ids=lambda e: type(e).__name__)
def test_the_command_says_what_to_do(scans, tmp_path, monkeypatch, error):  # noqa: F811
    def broken(*args, **kwargs):
        raise error

    monkeypatch.setattr("sciinv.reconstruction.run.reconstruct", broken)
    refused(
        run("reconstruct", scans / "mri.h5", "-o", tmp_path / "out"), "out of memory", "--slices"
    )
    assert not (tmp_path / "out").exists()


# numbers that stop being numbers ----------------------------------------------------------------
def test_the_step_where_a_prior_fails_is_named():
    y, physics = problem()
    calls = [0]

    def prior(x, sigma):
        calls[0] += 1
        return x * (float("nan") if calls[0] == 4 else 0.5)

    with pytest.raises(NumericalError, match=r"after step 4 of 6 \(sigma .*the prior's output|own"):
        DPS(prior, steps=6, sigma_min=0.01, sigma_max=5.0).sample(y, physics, 2, generator=0)


# engines that do not work -----------------------------------------------------------------------
@pytest.fixture
def no_astra(monkeypatch):
    """ASTRA is installed and every call of it fails, as without the right driver."""
    astra_backend.astra_problem.cache_clear()
    broken = types.ModuleType("astra")
    monkeypatch.setitem(sys.modules, "astra", broken)
    yield
    astra_backend.astra_problem.cache_clear()


def ct(backend: str) -> ParallelBeamCT:
    return ParallelBeamCT(
        (8, 8), [0.0, 1.0], num_detectors=9, detector_spacing=1.0, pixel_size=1.0, backend=backend,
        memory_budget=0,
    )  # fmt: skip


def test_astra_that_does_not_work_is_named_and_replaced_by_name(no_astra, caplog):
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    fallback = ct("auto")
    found = fallback.A(image)
    assert fallback.backend == fallback.summary()["backend"] == "torch"
    assert "ASTRA does not work here" in caplog.text
    torch.testing.assert_close(found, ct("torch").A(image))
    with pytest.raises(ImportError, match="ASTRA does not work here"):
        ct("astra")  # what is asked for by name is not replaced


def test_astra_without_cuda_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(astra_backend, "cuda_available", lambda: False)
    with pytest.raises(RuntimeError, match="astra_cuda.*use backend='auto'"):
        ct("astra_cuda")


def test_the_fallback_is_in_the_record_of_a_run(no_astra, monkeypatch):
    scan = simulate_ct(
        0.02 * np.clip(shepp_logan((16, 16)), 0, None), num_angles=12, dose=1e5, rng=1
    )
    astra_backend.astra_problem.cache_clear()
    # as of a scan whose matrix is above the budget of memory
    monkeypatch.setattr("sciinv.operators.ct_matrix.matrix_bytes", lambda *args: 2**60)
    prior = GaussianField.power_law((16, 16), std=0.3)
    result = reconstruct(
        scan, prior, num_samples=2, steps=2, krylov=2, seed=1, calibrate=False, refine_maps=False
    )
    assert result.provenance["operator"]["backend"] == "torch"


@pytest.mark.parametrize("error", [ImportError("no module"), RuntimeError("driver too old")])
def test_cupy_that_does_not_work(monkeypatch, error):
    def broken(name):
        raise error

    monkeypatch.setattr(nufft.importlib, "import_module", broken)
    with pytest.raises(ImportError, match=r"on cuda needs CuPy.*sciinv\[cuda\]"):
        nufft.choose_engine("auto", "cuda")
