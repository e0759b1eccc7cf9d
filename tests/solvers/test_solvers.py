"""Contracts of all solvers: reproducible rows, foreign operators, refusals, callbacks."""

from __future__ import annotations

import deepinv
import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics

from sciinv.errors import IncompatibleError, NumericalError
from sciinv.operators import CartesianMRI
from sciinv.priors import GaussianField
from sciinv.solvers import (
    ALL_SOLVERS,
    DPS,
    LGD,
    MMT,
    STOP,
    TMPD,
    MomentMatching,
    PiGDM,
    PnPHQS,
    Solver,
    StepInfo,
    available,
    compatible,
)
from sciinv.solvers.testing import CheckError, check_solver
from sciinv.solvers.truth import exact_problem

from .short import SHORT, WHOLE


def test_every_solver_is_tested() -> None:
    assert set(SHORT) == {solver.__name__ for solver in ALL_SOLVERS}
    assert set(SHORT) <= set(available())


@pytest.mark.parametrize("name", WHOLE)
def test_check_solver(name: str) -> None:
    check_solver(WHOLE[name])


def test_check_solver_finds_a_wrong_law() -> None:
    class Narrow(MomentMatching):
        """Claims to be exact, but ancestral steps lose spread."""

    with pytest.raises(CheckError, match="ratio of standard deviations"):
        check_solver(lambda p: Narrow(p, steps=5, krylov=10, integrator="ancestral"))


@pytest.mark.parametrize("name", SHORT)
def test_first_samples_of_400_are_the_samples_of_3(name: str) -> None:
    problem = exact_problem("mri", (4, 4))
    solver = SHORT[name](problem.prior)
    many = solver.sample(problem.y, problem.physics, 400, generator=1)
    few = solver.sample(problem.y, problem.physics, 3, generator=1)
    # float64; FFTs and matrix products of other batch sizes round differently (1e-16 an operation,
    # some 1e3 operations, and Krylov steps amplify): 1e-9 is far below any noise
    assert float((many[:3] - few).abs().max()) < 1e-9 * float(few.abs().max())
    if name != "PnPHQS":
        assert float(many.std(0).min()) > 0


@pytest.mark.parametrize("name", SHORT)
def test_scans_with_their_own_masks_are_sampled_as_if_alone(name: str) -> None:
    g = torch.Generator().manual_seed(2)
    prior = GaussianField.power_law((6, 5), channels=2)
    masks = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 1, 1, 0]]).double()[:, None, None]
    masks = masks.expand(2, 1, 6, 5)
    both = CartesianMRI((6, 5), mask=masks, dtype=torch.float64)
    both.noise_model = GaussianNoise(0.05)
    truth = prior.sample(2, g, dtype=torch.float64)
    y = both.A(truth)
    solver = SHORT[name](prior)
    # one sample: the children of the generator are drawn scan by scan
    together = solver.sample(y, both, 1, generator=3)
    seeds = torch.Generator().manual_seed(3)
    for scan in range(2):
        alone = CartesianMRI((6, 5), mask=masks[scan : scan + 1], dtype=torch.float64)
        alone.noise_model = GaussianNoise(0.05)
        found = solver.sample(y[scan : scan + 1], alone, 1, generator=seeds)
        # the levels of MMT depend on the norm of the operator, 1 for both scans up to 10 %
        tolerance = 0.05 if name == "MMT" else 1e-9
        assert float((together[:, scan : scan + 1] - found).abs().max()) < tolerance


FOREIGN = {
    "mri": lambda: deepinv.physics.MRI(
        mask=torch.tensor([[0, 1.0] * 4, [1.0, 0] * 4])[:, None, None].expand(2, 1, 8, 8).clone(),
        img_size=(8, 8),
    ),
    "inpainting": lambda: deepinv.physics.Inpainting(
        img_size=(1, 8, 8),
        mask=(torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.5).float(),
    ),
    "blur": lambda: deepinv.physics.Blur(
        filter=torch.tensor([[[[0.0, 0.1, 0], [0.1, 0.6, 0.1], [0, 0.1, 0]]]]), padding="circular"
    ),
    "downsampling": lambda: deepinv.physics.Downsampling(
        img_size=(1, 8, 8), factor=2, filter="bilinear", padding="circular"
    ),
}


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("operator", FOREIGN)
@pytest.mark.filterwarnings("ignore:Casting complex values:UserWarning")  # deepinv's own
def test_operators_of_deepinv(name: str, operator: str) -> None:
    physics = FOREIGN[operator]().to(torch.float32)
    prior = GaussianField.power_law((8, 8), channels=2 if operator == "mri" else 1)
    truth = prior.sample(2, torch.Generator().manual_seed(4))
    with torch.no_grad():
        y = physics.A(truth)
    y = y + 0.05 * torch.randn(y.shape, generator=torch.Generator().manual_seed(5))
    if isinstance(getattr(physics, "mask", None), torch.Tensor):
        y = y * physics.mask
    physics.noise_model = GaussianNoise(0.05)
    solver = SHORT[name](prior)
    if name in ("DPS", "LGD", "TMPD"):
        solver.steps = 50  # eight steps are too few for what is biased
    if name == "DDRM" and operator in ("blur", "downsampling"):
        # these do not say the shape of their images: nothing to decompose
        with pytest.raises(IncompatibleError, match="singular value decomposition"):
            solver.sample(y, physics)
        return
    samples, info = solver.sample(y, physics, 2, generator=6, return_info=True)
    assert samples.shape == (2, *truth.shape)
    assert info.chi_squared is not None
    assert bool(torch.isfinite(samples).all())
    # every scan has its own mask: the fit is that of the right one
    limit = {"MMT": 3, "DPS": 5}.get(name, 20)
    assert float(info.chi_squared.max()) < limit


def test_nonlinear_operators_are_refused_with_a_way_out() -> None:
    class Square(deepinv.physics.Physics):
        def A(self, x: torch.Tensor, **kwargs: object) -> torch.Tensor:
            return x.square()

    physics = Square()
    physics.noise_model = GaussianNoise(0.1)
    prior = GaussianField.power_law((4, 4))
    y = torch.ones(1, 1, 4, 4)
    assert {"DPS", "MMT", "MomentMatching", "LGD"} <= set(compatible(physics, prior))
    with pytest.raises(IncompatibleError, match=r"a linear operator.*solvers that fit: MMT.*DPS"):
        PnPHQS(prior).sample(y, physics)


@pytest.mark.parametrize("name", SHORT)
def test_channels_noise_and_types_are_checked_first(name: str) -> None:
    problem = exact_problem("mri", (4, 4))
    y, physics = problem.y, problem.physics
    one = GaussianField.power_law((4, 4), channels=1)
    with pytest.raises(IncompatibleError, match=r"a prior with 2 channel\(s\), found 1"):
        SHORT[name](one).sample(y, physics)
    solver = SHORT[name](problem.prior)
    with pytest.raises(IncompatibleError, match="real tensor"):
        solver.sample(torch.complex(y, y), physics)
    with pytest.raises(ValueError, match="num_samples"):
        solver.sample(y, physics, 0)
    silent = LinearPhysics(A=physics.A, A_adjoint=physics.A_adjoint, img_size=(2, 4, 4))
    with pytest.raises(IncompatibleError, match="noise_model"):
        solver.sample(y, silent)
    solver.noiseless = True
    exact = solver.sample(physics.A(problem.truth), silent, 1, generator=0)
    assert bool(torch.isfinite(exact).all())


def test_a_prior_that_breaks_is_reported_with_its_step() -> None:
    problem = exact_problem("blur", (4, 4))

    def broken(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return x * (float("nan") if sigma < 1 else 0.1)

    solver = DPS(broken, steps=6, sigma_max=10.0, sigma_min=0.1)
    with pytest.raises(NumericalError, match=r"not finite after step [2-6] of 6 \(sigma 0\.\d+"):
        solver.sample(problem.y, problem.physics, generator=0)


@pytest.mark.parametrize("name", SHORT)
def test_callback_counts_and_stops(name: str) -> None:
    problem = exact_problem("blur", (4, 4))
    solver = SHORT[name](problem.prior)
    told: list[StepInfo] = []

    def stop_in_second_block(info: StepInfo) -> object:
        told.append(info)
        assert not info.estimate.requires_grad
        return STOP if info.block == 1 and info.step == 2 else None

    samples, info = solver.sample(
        problem.y,
        problem.physics,
        6,
        generator=2,
        max_batch=2,
        callback=stop_in_second_block,
        return_info=True,
    )
    assert info.stopped
    assert samples.shape[0] == 2  # those of the first block
    whole = solver.sample(problem.y, problem.physics, 6, generator=2, max_batch=2)
    assert torch.equal(samples, whole[:2])
    assert [item.step for item in told] == [*range(1, solver.steps + 1), 1, 2]
    assert told[0].blocks == 3
    assert told[solver.steps - 1].residual >= 0


COST = {
    "MMT": lambda s: s.steps * (1 + 2 * (s.krylov + s.lanczos)),
    # Heun evaluates twice but for the last step, once more for the start
    "MomentMatching": lambda s: 2 * s.steps * (1 + 2 * s.krylov),
    "DPS": lambda s: 3 * s.steps,
    "PnPHQS": lambda s: s.steps,
    # four probes of the prior's variance; a guided estimate for the start
    "PiGDM": lambda s: 9 + 3 * (s.steps + 1),
    "TMPD": lambda s: 5 * (s.steps + 1),
    "LGD": lambda s: 9 + 3 * s.steps,
    "DDS": lambda s: 2 * s.steps - 1,
    "DDNM": lambda s: s.steps,
    "DDRM": lambda s: s.steps,
    "MCG": lambda s: 3 * s.steps,
    "ILVR": lambda s: s.steps,
    "ScoreSDE": lambda s: s.steps + s.corrector * (s.steps - 1),
    "ScoreALD": lambda s: s.steps * s.inner + 1,
    "PnPDM": lambda s: sum(len(s.prior_levels(rho)) - 1 for rho in s.levels(None)[:-1]),
    **dict.fromkeys(("DAPS", "DiffPIR", "ReSample", "DCDP"), lambda s: s.steps),
    "SITCOM": lambda s: s.steps * (1 + 3 * s.inner),
}
CALLS = {
    "MomentMatching": lambda s: 2 * s.steps,
    "PiGDM": lambda s: s.steps + 2,
    "TMPD": lambda s: s.steps + 1,
    "LGD": lambda s: s.steps + 1,
    "MCG": lambda s: s.steps,
    **{name: COST[name] for name in ("DDS", "ScoreSDE", "ScoreALD", "PnPDM")},
    "SITCOM": lambda s: s.steps * (1 + s.inner),
}


@pytest.mark.parametrize("name", SHORT)
def test_cost_is_what_the_documentation_says(name: str) -> None:
    problem = exact_problem("blur", (4, 4))
    calls = 0

    def counted(x: torch.Tensor, sigma: float) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return problem.prior(x, sigma)

    solver = SHORT[name](counted)
    solver.sigma_max, solver.sigma_min = 10.0, 0.1
    _, info = solver.sample(problem.y, problem.physics, 1, generator=0, return_info=True)
    assert info.nfe == COST[name](solver)
    assert calls == CALLS.get(name, lambda s: s.steps)(solver)


@pytest.mark.parametrize("name", SHORT)
def test_autograd_state_and_random_state_are_left_alone(name: str) -> None:
    problem = exact_problem("blur", (4, 4))
    solver = SHORT[name](problem.prior)
    before = torch.random.get_rng_state()
    y = problem.y.clone().requires_grad_(True)
    first = solver.sample(problem.y, problem.physics, 1, generator=0)
    with torch.no_grad():
        second = solver.sample(y, problem.physics, 1, generator=0)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert not first.requires_grad
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", SHORT)
def test_float32_agrees_with_float64(name: str) -> None:
    problem = exact_problem("blur", (6, 6))
    solver = SHORT[name](problem.prior)
    exact = solver.sample(problem.y, problem.physics, 3, generator=0)
    single = solver.sample(problem.y.float(), problem.physics, 3, generator=0)
    assert single.dtype == torch.float32
    # the same noise; float32 states of size sigma_max = 40 carry 40 * 6e-8, and dividing by
    # sigma_y^2 / (s |A|)^2 on the way amplifies: far below the posterior spread of about 0.3
    assert float((single.double() - exact).abs().max()) < 1e-2


def test_init_is_read_and_checked() -> None:
    problem = exact_problem("blur", (4, 4), scans=2)
    solver = PnPHQS(problem.prior, steps=1)
    start = torch.ones(2, 1, 4, 4)
    assert solver.sample(problem.y, problem.physics, 3, init=start).shape == (3, 2, 1, 4, 4)
    per_sample = start.expand(3, 2, 1, 4, 4)
    assert solver.sample(problem.y, problem.physics, 3, init=per_sample).shape == (3, 2, 1, 4, 4)
    with pytest.raises(ValueError, match="init: found shape"):
        solver.sample(problem.y, problem.physics, 3, init=torch.ones(5, 1, 4, 4))


def test_call_returns_the_mean_of_samples() -> None:
    problem = exact_problem("blur", (4, 4))
    solver: Solver = SHORT["MMT"](problem.prior)
    mean = solver(problem.y, problem.physics, num_samples=3, generator=1)
    samples = solver.sample(problem.y, problem.physics, 3, generator=1)
    assert torch.equal(mean, samples.mean(0))
    assert {"steps", "krylov", "lanczos"} <= set(solver.settings())


@pytest.mark.parametrize(
    "make",
    [
        lambda p: MMT(p, krylov=0),
        lambda p: MMT(p, lanczos=0),
        lambda p: MMT(p, newton=0),
        lambda p: MMT(p, probes=0),
        lambda p: MMT(p, covariance="identity"),
        lambda p: MomentMatching(p, krylov=0),
        lambda p: MomentMatching(p, newton=0),
        lambda p: MomentMatching(p, covariance="identity"),
        lambda p: MomentMatching(p, prior_std=0.0),
        lambda p: PiGDM(p, cg=0),
        lambda p: PiGDM(p, prior_std=0.0),
        lambda p: PiGDM(p, weighting="other"),
        lambda p: TMPD(p, rows="other"),
        lambda p: LGD(p, draws=3),
        lambda p: LGD(p, prior_std=-1.0),
        lambda p: DPS(p, step=-1.0),
        lambda p: DPS(p, step_rule="other"),
        lambda p: PnPHQS(p, weight=0.0),
        lambda p: MMT(p, schedule="linear"),
    ],
)
def test_impossible_settings_are_refused(make) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match="found"):
        make(GaussianField.power_law((4, 4)))
