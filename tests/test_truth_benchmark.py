"""The truth benchmark measures known biases rightly, resumes, and writes its tables."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from sciinv.solvers import DPS, MMT, Step
from sciinv.solvers.truth import exact_problem, mixture_problem

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
truth = pytest.importorskip("truth")
common = pytest.importorskip("truth_common")
fields = pytest.importorskip("truth_fields")
mixture = pytest.importorskip("truth_mixture")
rivals = pytest.importorskip("truth_rivals")


class Biased(fields.Exact):
    """Exact draws, shifted by one posterior standard deviation and half as wide."""

    def step(self, state, s, s_next, problem, noise):
        posterior = self._problem.posterior
        mean, std = (v[problem.scan_of_row] for v in (posterior.mean, posterior.std))
        x = mean + std + 0.5 * (state - mean)
        return Step(x, x)


@pytest.mark.parametrize("law_seconds", [0.0, 60.0])
def test_a_known_bias_is_measured(law_seconds: float) -> None:
    p = exact_problem("blur", (6, 6), scans=3, generator=4)
    row = fields.measure(Biased(p), p, 64, law_seconds)
    assert row["source"] == ("law" if law_seconds else "mean")
    assert row["square"] == pytest.approx(1.0, abs=1e-6)
    # without the law: 3 x 64 draws of 36 correlated components
    assert row["std"] == pytest.approx(0.5, abs=1e-6 if law_seconds else 0.05)
    half = 0.5 * common.quantile(None)
    normal = torch.distributions.Normal(0.0, 1.0).cdf
    inside = float(normal(torch.tensor(1 + half)) - normal(torch.tensor(1 - half)))
    assert row["coverage"] == pytest.approx(inside, abs=1e-6 if law_seconds else 0.05)
    assert row["sw"] > 2


def test_exact_draws_measure_as_exact() -> None:
    p = exact_problem("ct", (6, 6), scans=4, generator=4)
    row = fields.measure(fields.Exact(p), p, 32, 0.0)
    assert row["square"] < 1e-12
    assert abs(row["std"] - 1) < 4 * max(row["std_se"], 0.01)
    assert abs(row["coverage"] - 0.9) < 4 * max(row["coverage_se"], 0.005)
    assert abs(row["sw"] - 1) < 4 * max(row["sw_se"], 0.03)


def test_affine_samplers_are_recognised() -> None:
    p = exact_problem("blur", (4, 4), generator=4)
    assert fields.is_affine(MMT(p.prior, steps=4, krylov=16, lanczos=16), p)
    assert not fields.is_affine(DPS(p.prior, steps=8), p)


def test_quick_denoiser_is_the_mixture_s() -> None:
    p = mixture_problem(80, 2, 3)
    small, scale = mixture.unit(p)
    x = 12 * torch.randn(20, 1, 1, 80, dtype=torch.float64, generator=torch.Generator())
    for sigma in (0.01, 1.0, 300.0, torch.linspace(0.1, 50, 20).double()):
        found = scale * small.prior(x / scale, sigma / scale)
        assert torch.allclose(found, p.prior(x, sigma), atol=1e-9)
    assert torch.allclose(scale * small.posterior.mean, p.posterior.mean, atol=1e-9)
    assert float(small.prior.sample(2000, 1).var(0).mean()) == pytest.approx(1, rel=0.1)


def test_oracle_tends_to_the_floor() -> None:
    p = mixture_problem(8, 2, 6)
    seeds = range(4)

    def mean(make) -> float:
        return sum(mixture.compared(p, make(seed), seed) for seed in seeds) / len(seeds)

    floor = mean(lambda seed: p.posterior.sample(1000, 100 + seed, dtype=torch.float64)[:, 0])
    near = mean(lambda seed: mixture.oracle(p, 100, 1000, seed))
    # two sets of 1000 differ by their numbers of draws per mode: that noise is what the floor is
    assert near < 2 * floor
    assert mean(lambda seed: p.prior.sample(1000, seed, dtype=torch.float64)) > 10 * floor


def test_rivals_see_the_same_problem() -> None:
    p = mixture_problem(8, 2, 6)
    scale, shift = 40.0, -20.0
    small, physics, y = rivals.rescaled(p.prior, p.physics, p.y, scale, shift)
    x = p.prior.sample(5, 0, dtype=torch.float64)
    u = (x - shift) / scale
    residual = (y - physics.A(u)) / float(physics.noise_model.sigma)
    expected = (p.y - p.physics.A(x)) / p.sigma
    assert torch.allclose(residual, expected, atol=1e-6)
    assert torch.allclose(scale * small(u, 0.1) + shift, p.prior(x, 4.0), atol=1e-9)


RUNS = {
    "fields": "--size 4 --operator blur --counts 2 4 --law-seconds 0.1 --solver MMT PnPHQS DDS",
    "mixture": "--seeds 1 --dim 8 --samples 10 --oracle 20 --solver MMT",
    "deepinv": "--seeds 1 --size 8 --samples 4 --solver DPS --no-variants",
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_resumes_and_writes(name: str, tmp_path: Path, capsys) -> None:
    words = [name, "--out", str(tmp_path), *RUNS[name].split()]
    truth.main(words)
    kept = (tmp_path / "rows.jsonl").read_text()
    rows = [json.loads(line) for line in kept.splitlines()]
    assert len({(row["case"], row["method"]) for row in rows}) == len(rows) > 3
    assert all(math.isfinite(row["cpu"]) for row in rows)
    truth.main(words)
    assert (tmp_path / "rows.jsonl").read_text() == kept
    page = tmp_path / "page.md"
    marks = [f"<!-- {n}: begin -->\nold\n<!-- {n}: end -->" for n in RUNS]
    page.write_text("before\n" + "\n".join(marks) + "\nafter\n")
    truth.main(["table", "--out", str(tmp_path), "--docs", str(page)])
    text = page.read_text()
    assert text.count("old") == 0 and text.startswith("before") and text.endswith("after\n")
    assert {"fields": "| MMT", "mixture": "| MMT |", "deepinv": "| **DPS** |"}[name] in text
    capsys.readouterr()


def test_law_and_steps(capsys) -> None:
    truth.main(["law", "--first", "1"])
    # MMT with three steps has the exact law but for its start
    assert "| MMT, 3 steps | 1.0000 /" in capsys.readouterr().out
    truth.main(["steps", "PnPHQS", "2", "4", "--size", "4", "--batch", "2", "4"])
    # a point estimate has no spread
    assert "| PnPHQS, 4 steps | 0.00 /" in capsys.readouterr().out
