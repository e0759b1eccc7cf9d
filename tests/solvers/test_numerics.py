"""All solvers where numbers get hard: precisions, extreme noise, bad conditioning, no numbers."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.errors import NumericalError
from sciinv.operators.examples import example, image_size
from sciinv.priors import GaussianField
from sciinv.solvers import ALL_SOLVERS, Solver
from sciinv.solvers.compatibility import missing
from sciinv.solvers.finite import FiniteCheck
from sciinv.solvers.truth import ExactProblem, exact_problem

from .short import SHORT

NEEDS = {solver.__name__: solver.needs for solver in ALL_SOLVERS}
# they end where the data fit to the noise, and no prior holds the image there
TO_THE_NOISE = ("ReSample", "DCDP")
WITH_ANY_NOISE = [name for name in SHORT if Capability.GAUSSIAN not in NEEDS[name]]


@cache
def small(name: str) -> ExactProblem:
    return exact_problem(name, (6, 6))


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def residual(x: Tensor, y: Tensor, physics: LinearPhysics) -> float:
    """``|y - A x| / |y|`` of the worst sample."""
    found = torch.stack([y - physics.A(sample) for sample in x])
    return float(found.double().flatten(1).norm(dim=1).max() / y.double().norm())


class InBFloat16:
    """The exact denoiser of a dense Gaussian prior, computed in bfloat16 throughout."""

    def __init__(self, prior: GaussianField, shape: tuple[int, ...]) -> None:
        values, self.vectors = torch.linalg.eigh(_covariance(prior, shape))
        self.values = values.clamp_min(0)
        self.sigma_min, self.sigma_max = prior.sigma_min, prior.sigma_max
        self.channels = prior.channels

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        low = torch.bfloat16
        q, gain = self.vectors.to(low), (self.values / (self.values + sigma**2)).to(low)
        out = ((x.flatten(1).to(low) @ q) * gain) @ q.T
        return out.to(x.dtype).reshape(x.shape)


def _covariance(prior: GaussianField, shape: tuple[int, ...]) -> Tensor:
    """``C = s^2 D / (1 - D)`` at one level, from the denoiser on unit images."""
    n = int(torch.Size(shape).numel())
    d = prior(torch.eye(n, dtype=torch.float64).reshape(n, *shape), 1.0).flatten(1)
    return d @ torch.linalg.inv(torch.eye(n, dtype=torch.float64) - d)


@pytest.mark.parametrize("operator", ["mri", "blur"])
@pytest.mark.parametrize("name", SHORT)
def test_a_denoiser_in_bfloat16_costs_little(name: str, operator: str) -> None:
    problem = small(operator)
    y, shape = problem.y.float(), tuple(problem.truth.shape[1:])

    def error(prior: object) -> float:
        samples = SHORT[name](prior).sample(y, problem.physics, 8, generator=0)
        assert samples.dtype == torch.float32
        return rms((samples - problem.posterior.mean) / problem.posterior.std)

    exact, rounded = error(problem.prior), error(InBFloat16(problem.prior, shape))
    # distance to the posterior mean in its standard deviations; bfloat16 keeps 8 bits, so D is
    # off by 0.2 to 0.4 % of its size, which is a tenth of the noise (5 %)
    assert rounded < 1.2 * exact + 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("operator", ["mri", "blur"])
@pytest.mark.parametrize("name", SHORT)
def test_tiny_noise(name: str, operator: str, dtype: torch.dtype) -> None:
    problem = small(operator)
    y = problem.physics.A(problem.truth).to(dtype)
    physics = example_like(problem.physics, GaussianNoise(1e-6))
    samples = SHORT[name](problem.prior).sample(y, physics, 2, generator=0)
    assert samples.dtype == dtype
    assert bool(torch.isfinite(samples).all())
    # the image of zeros leaves 1; a blur that removes 98 % of the finest waves hides them
    assert residual(samples, y, problem.physics) < 0.8


@pytest.mark.parametrize("name", SHORT)
def test_noiseless_fits_as_the_smallest_noise_does(name: str) -> None:
    problem = small("mri")
    y = problem.physics.A(problem.truth)
    silent = example_like(problem.physics, None)
    solver = SHORT[name](problem.prior)
    solver.noiseless = True
    samples = solver.sample(y, silent, 2, generator=0)
    assert bool(torch.isfinite(samples).all())
    assert residual(samples, y, problem.physics) < 0.8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("operator", ["mri", "blur"])
@pytest.mark.parametrize("name", SHORT)
def test_huge_noise_leaves_the_prior(name: str, operator: str, dtype: torch.dtype) -> None:
    problem = small(operator)
    sigma = 1e4
    g = torch.Generator().manual_seed(1)
    y = sigma * torch.randn(problem.y.shape, generator=g, dtype=torch.float64)
    mask = getattr(problem.physics, "measurement_mask", None)
    y = (y if mask is None else y * mask).to(dtype)
    physics = example_like(problem.physics, GaussianNoise(sigma))
    samples = SHORT[name](problem.prior).sample(y, physics, 8, generator=0)
    assert samples.dtype == dtype
    # images of the prior have a root mean square of 1; the measurement one of 10,000
    limit = 2.0
    if name in TO_THE_NOISE:
        # noise that happens to be larger than its expectation is fitted by the excess: what these
        # methods do with a level so far above the image is no reconstruction
        excess = y.double().square().sum() - sigma**2 * float((y != 0).sum())
        limit += 2 * float(excess.clamp_min(0) / problem.truth.numel()) ** 0.5
    assert rms(samples) < limit
    assert bool(torch.isfinite(samples).all())


def example_like(physics: LinearPhysics, noise: object) -> LinearPhysics:
    """The same map with another noise model, as an operator that is not sciinv's."""
    new = LinearPhysics(A=physics.A, A_adjoint=physics.A_adjoint, img_size=physics.img_size)
    mask = getattr(physics, "measurement_mask", None)
    if mask is not None:
        new.register_buffer("mask", mask)
    if noise is not None:
        new.noise_model = noise
    return new


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SHORT)
def test_ill_conditioned_operators_are_solved_as_far_as_told(name: str, dtype: torch.dtype) -> None:
    shape, n = (4, 4), 16
    g = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))[0] for _ in "uv")
    matrix = (u * torch.logspace(0, -6, n, dtype=torch.float64)) @ v.T
    physics = LinearPhysics(
        A=lambda x: x.flatten(1) @ matrix.to(x).T,
        A_adjoint=lambda r: (r @ matrix.to(r)).reshape(-1, 1, *shape),
        img_size=(1, *shape),
    )
    physics.noise_model = GaussianNoise(1e-3)
    prior = GaussianField.power_law(shape)
    y = physics.A(prior.sample(1, g).double())
    y = y + 1e-3 * torch.randn(y.shape, generator=g, dtype=torch.float64)
    solver = SHORT[name](prior)
    samples, info = solver.sample(y.to(dtype), physics, 4, generator=0, return_info=True)
    assert bool(torch.isfinite(samples).all())
    # directions that are not measured come from the prior, they do not blow up
    assert rms(samples) < 3.0
    assert residual(samples, y, physics) < 0.8
    limit = solver.settings().get("cg")
    if name == "DDNM":  # takes the decomposition of an operator as small as this
        assert info.cg_iterations == 0
    elif limit is not None:
        assert 1 <= info.cg_iterations <= limit
    if info.cg_iterations:
        assert 0 < info.cg_residual < 1
    else:
        assert info.cg_residual == 0


# rows --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("operator", ["CodedDiffraction", "ParallelBeamCT, photon counts"])
@pytest.mark.parametrize("name", WITH_ANY_NOISE)
def test_rows_of_nonlinear_problems_do_not_see_each_other(name: str, operator: str) -> None:
    physics, size = example(operator).to(torch.float64), image_size(operator)
    prior = GaussianField.power_law(size[1:], channels=size[0], std=0.3, mean=0.4)
    if missing(NEEDS[name], physics, prior):
        assert "CT" not in operator  # linear, and any likelihood will do
        return
    g = torch.Generator().manual_seed(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        y = physics(prior.sample(1, g, dtype=torch.float64).clamp_min(0.02))
    solver: Solver = SHORT[name](prior)
    before = torch.random.get_rng_state()
    together = solver.sample(y, physics, 2, generator=3)
    alone = solver.sample(y, physics, 2, generator=3, max_batch=1)
    assert torch.equal(before, torch.random.get_rng_state())
    # float64 rounding, amplified by the steps
    limit = 1e-6 * float(together.abs().max())
    assert float((together - alone).abs().max()) < limit


# what is not finite ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SHORT)
def test_a_prior_that_breaks_is_named_with_step_quantity_and_hint(name: str) -> None:
    problem = small("blur")

    def broken(x: Tensor, sigma: float) -> Tensor:
        return problem.prior(x, sigma) * (float("nan") if sigma < 1 else 1.0)

    solver = SHORT[name](broken)
    solver.sigma_max, solver.sigma_min = 8.0, 0.1
    with pytest.raises(NumericalError) as refusal:
        solver.sample(problem.y, problem.physics, 2, generator=0)
    text = str(refusal.value)
    assert text.startswith(f"{name}: the state is not finite after step ")
    assert f" of {solver.steps} (sigma " in text
    assert "the prior's output D(x, 0." in text
    assert "check its noise range" in text


@pytest.mark.parametrize("part", ["A", "A_adjoint"])
@pytest.mark.parametrize("name", SHORT)
def test_an_operator_that_breaks_is_named(name: str, part: str) -> None:
    problem = small("blur")
    maps = {"A": problem.physics.A, "A_adjoint": problem.physics.A_adjoint}
    whole = maps[part]
    physics = LinearPhysics(
        **{**maps, part: lambda v: whole(v) / 0.0}, img_size=problem.physics.img_size
    )
    physics.noise_model = problem.physics.noise_model
    with pytest.raises(NumericalError, match=r"^\w+: .* not finite .*check the operator"):
        SHORT[name](problem.prior).sample(problem.y, physics, 1, generator=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", SHORT)
def test_a_measurement_that_is_not_finite_is_refused_before_the_first_call(
    name: str, value: float
) -> None:
    problem = small("blur")
    y = problem.y.clone()
    y[0, 0, 2, 3] = value

    def never(x: Tensor, sigma: float) -> Tensor:
        raise AssertionError("the prior was called")

    with pytest.raises(NumericalError, match=rf"^{name}: the measurement y .* 1 of 36 values"):
        SHORT[name](never).sample(y, problem.physics, 1, generator=0)


def test_what_was_not_measured_may_be_anything() -> None:
    problem = small("mri")
    mask = problem.physics.measurement_mask
    y = torch.where(mask != 0, problem.y, torch.nan)
    for name in SHORT:
        solver = SHORT[name](problem.prior)
        found = solver.sample(y, problem.physics, 1, generator=0)
        assert torch.equal(found, solver.sample(problem.y, problem.physics, 1, generator=0)), name


def test_states_on_a_device_are_looked_at_once_and_named_the_same() -> None:
    sigmas = [4.0, 2.0, 1.0, 0.0]
    good, bad = torch.ones(2, 3), torch.tensor([1.0, torch.inf])
    check = FiniteCheck("DPS", sigmas, deferred=True)

    def never() -> str:
        raise AssertionError("asked for the cause")

    for number, state in enumerate([good, good, bad, bad]):
        check.look(state, number, never)
    with pytest.raises(NumericalError, match=r"^DPS: .* after step 2 of 3 \(sigma 2 to 1\); check"):
        check.finish()
    check = FiniteCheck("DPS", sigmas, deferred=True)
    for number in range(4):
        check.look(good, number, never)
    check.finish()
    at_once = FiniteCheck("DPS", sigmas, deferred=False)
    at_once.look(good, 0, never)
    with pytest.raises(NumericalError, match=r"after step 1 of 3 \(sigma 4 to 2\); because"):
        at_once.look(bad, 1, lambda: "because")
