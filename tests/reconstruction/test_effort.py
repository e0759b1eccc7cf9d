"""How much work fits a time budget."""

from __future__ import annotations

import pytest

from sciinv.reconstruction.effort import Cost, Spectrum, expected_seconds, few_views, fit

COST = Cost(forward=0.01, vjp=0.02, normal=0.005)


@pytest.mark.parametrize("budget", [3.0, 10.0, 30.0, 1e3])
@pytest.mark.parametrize("spectrum", ["even", "uneven", "off grid"])
def test_effort_fits_the_budget_and_grows_with_it(budget: float, spectrum: Spectrum) -> None:
    effort = fit(COST, budget, spectrum=spectrum)
    smallest = fit(COST, 0.0, spectrum=spectrum)
    assert effort.seconds <= max(budget, smallest.seconds)
    assert effort.seconds == pytest.approx(expected_seconds(effort, COST))
    assert effort.seconds >= fit(COST, budget / 2, spectrum=spectrum).seconds


def test_what_the_caller_fixed_stays() -> None:
    effort = fit(COST, 1e-3, spectrum="uneven", num_samples=7, steps=5, krylov=9)
    assert (effort.num_samples, effort.steps, effort.krylov) == (7, 5, 9)


def test_few_views_get_a_longer_point_estimate() -> None:
    assert few_views(15, (640, 640)) and not few_views(61, (512, 512))
    assert (
        fit(COST, 1e3, spectrum="uneven", few=True).point_steps
        > fit(COST, 1e3, spectrum="uneven").point_steps
    )
