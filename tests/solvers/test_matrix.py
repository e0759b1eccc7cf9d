"""Every solver on every operator: it runs and fits the data, or says which solvers do.

What fits is what the classes declare; here it is put to the test, and so is the table of the
documentation that is made from the same declarations.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import deepinv
import pytest
import torch
from torch import Tensor

from sciinv.capabilities import DESCRIPTION, Capability, operator_capabilities
from sciinv.errors import IncompatibleError
from sciinv.operators import ALL_OPERATORS
from sciinv.operators.examples import EXAMPLES, SHAPE, example, image_size
from sciinv.operators.likelihoods import likelihood_of
from sciinv.priors import GaussianField
from sciinv.solvers import ALL_SOLVERS, compatible
from sciinv.solvers.compatibility import missing
from sciinv.solvers.problem import Problem

from .short import SHORT

DOCS = Path(__file__).resolve().parents[2] / "docs"
MEAN, STD = 0.4, 0.3
TWO_SCANS = {"CartesianMRI, a mask for every scan", "deepinv Inpainting"}


class Independent:
    """Exact denoiser of independent components: for images of three channels."""

    sigma_min, sigma_max = 0.001, 10 * STD

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        return MEAN + (x - MEAN) * (STD**2 / (STD**2 + sigma**2))


@cache
def problem(name: str):  # noqa: ANN201
    """Operator, measurement, prior, and the misfit of the prior's mean to the measurement."""
    physics, size = example(name), image_size(name)
    # two scans where the operator has a mask for each
    batch = 2 if name in TWO_SCANS else 1
    g = torch.Generator().manual_seed(4)
    if size[0] > 2:
        prior = Independent()
        truth = MEAN + STD * torch.randn(batch, *size, generator=g)
    else:
        prior = GaussianField.power_law(SHAPE, channels=size[0], std=STD, mean=MEAN)
        truth = prior.sample(batch, g)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        # counts need an image that is not negative
        y = physics(truth.clamp_min(0.02))
    rows = torch.arange(batch)
    guess = Problem(y, physics, rows, 0.05, likelihood_of(physics))
    return physics, y, prior, guess.misfit(torch.full_like(truth, MEAN))


@pytest.mark.parametrize("operator", EXAMPLES)
@pytest.mark.parametrize("name", SHORT)
@pytest.mark.filterwarnings("ignore:Casting complex values:UserWarning")  # deepinv's own
def test_runs_and_fits_or_names_those_that_do(name: str, operator: str) -> None:
    physics, y, prior, before = problem(operator)
    solver = SHORT[name](prior)
    gaps = missing(solver.needs, physics, prior)
    if gaps:
        with pytest.raises(IncompatibleError) as refusal:
            solver.sample(y, physics, 1, generator=0)
        text = str(refusal.value)
        assert all(DESCRIPTION[gap] in text for gap in gaps)
        assert text.endswith(f"; solvers that fit: {', '.join(compatible(physics, prior))}")
        return
    samples, info = solver.sample(y, physics, 2, generator=6, return_info=True)
    assert samples.shape == (2, len(before), *image_size(operator))
    assert samples.dtype == y.dtype
    assert bool(torch.isfinite(samples).all())
    # a few steps of the biased methods are no good images, but the data must have been heard: an
    # image drawn from the prior without them misfits about twice as much as the prior's mean
    assert bool((info.chi_squared.mean(0) < before).all()), (info.chi_squared, before)


def test_every_operator_is_in_the_matrix() -> None:
    made = {name: example(name) for name in EXAMPLES}
    assert set(ALL_OPERATORS) | {"WhitenedOperator"} <= {type(p).__name__ for p in made.values()}
    foreign = {type(p) for p in made.values() if type(p).__module__.startswith("deepinv")}
    assert len(foreign) >= 6
    assert all(issubclass(cls, deepinv.physics.Physics) for cls in foreign)
    # no operator without a solver, and none of the solvers without an operator
    fitting = {name: compatible(physics) for name, physics in made.items()}
    assert all(fitting.values())
    assert {solver.__name__ for solver in ALL_SOLVERS} == {n for v in fitting.values() for n in v}


# the table --------------------------------------------------------------------------------------
@cache
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", DOCS / "_make" / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| \n").split(" | ")]


def test_table_of_the_documentation_says_what_the_classes_declare() -> None:
    head, _, *rows = tables().compatibility().splitlines()
    assert cells(head) == ["operator", *(f"`{solver.__name__}`" for solver in ALL_SOLVERS)]
    assert len(rows) == len(EXAMPLES)
    for name, row in zip(EXAMPLES, rows, strict=True):
        label, *found = cells(row)
        assert label.replace("`", "") == name
        physics = example(name)
        fitting = set(compatible(physics))
        for solver, cell in zip(ALL_SOLVERS, found, strict=True):
            fits = solver.__name__ in fitting
            assert (cell in ("yes", "small")) == fits, (name, solver)
            # a decomposition that the operator does not bring is dense
            dense = Capability.SVD in solver.needs - operator_capabilities(physics)
            assert (cell == "small") == (fits and dense), (name, solver)


def test_every_included_table_is_made_and_every_made_table_included(tmp_path: Path) -> None:
    tables().make_all(tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    pages = [path.read_text() for path in DOCS.rglob("*.md")]
    included = {n for text in pages for n in re.findall(r"generated/(\w+\.inc)", text)}
    assert made == included
    for name in made:
        head, rule, *rows = (tmp_path / name).read_text().splitlines()
        # a row that is cut or has a bar too many would be shown beside its columns
        assert rows and all(line.count(" |") == head.count(" |") for line in rows), name
        assert rule.count("|") == head.count(" |") + 1


def test_a_changed_declaration_changes_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tables().compatibility()
    first = ALL_SOLVERS[0]
    monkeypatch.setattr(first, "needs", frozenset(DESCRIPTION))
    assert tables().compatibility() != before
