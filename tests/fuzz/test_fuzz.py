"""Mutants of every format: each is read, or refused by one line; nothing else may happen.

Two thousand of each format take about two minutes of one core. ``python -m tests.fuzz`` reads more,
and one of them again.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .campaign import run
from .mutate import mutant
from .seeds import FORMATS, READERS, make
from .worker import BYTES, SECONDS, judge, write
from .worker import READERS as READ

MUTANTS = int(os.environ.get("SCIINV_MUTANTS", "2000"))
# what an interpreter with all libraries takes before it reads anything
LIBRARIES = {"prior": 1_200_000_000}


@pytest.fixture(scope="session")
def seeds():
    """The seeds of each format, made once."""
    made: dict[str, list] = {}

    def of(name: str) -> list:
        if name not in made:
            made[name] = make(name)
        if not made[name]:
            pytest.skip(f"the package that writes {name} files is not installed")
        return made[name]

    return of


@pytest.mark.parametrize("name", FORMATS)
def test_seeds_are_read(name, seeds, tmp_path):
    for seed in seeds(name):
        assert judge(READERS.get(name, "scan"), write(seed, tmp_path)) == ("scan", "")


@pytest.mark.parametrize("name", FORMATS)
def test_one_integer_is_one_mutant(name, seeds):
    again = make(name)
    for number in range(20):
        assert mutant(seeds(name), number) == mutant(again, number)
    made = {tuple(mutant(again, number).files.values()) for number in range(40)}
    assert len(made) > 35


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_mutants(name, seeds):
    tally = run(name, 0, MUTANTS, seeds(name))
    assert tally.failures == [], f"python -m tests.fuzz --format {name} --seed NUMBER repeats one"
    assert tally.total == MUTANTS and tally.isolated in (0, 2)
    assert tally.slowest[0] < SECONDS and tally.peak[0] < BYTES + LIBRARIES.get(name, 0)
    # the mutants get past the first check, and do not all survive
    assert tally.counts["scan"] > MUTANTS // 100
    assert len(tally.refusals) > min(10, MUTANTS // 50)


def test_the_judge_sees_what_is_wrong(tmp_path, monkeypatch):
    path = tmp_path / "scan.h5"
    path.write_bytes(b"x")

    def outcome(error: BaseException) -> str:
        def read(path: Path) -> str:
            raise error

        monkeypatch.setitem(READ, "scan", read)
        return judge("scan", path)[0]

    from sciinv.errors import DataError

    assert outcome(KeyError("x")) == "traceback"
    assert outcome(MemoryError()) == "traceback"
    assert outcome(DataError("elsewhere.h5", found="x")) == "message"
    assert outcome(DataError(path, found="a", hint="b\nc")) == "message"
    assert outcome(DataError(path, found="a", hint="b" * 3000)) == "message"
    assert outcome(DataError(path, found="x")) == "refused"
    monkeypatch.setitem(READ, "scan", lambda path: "affine")
    assert judge("scan", path) == ("inconsistent", "affine")


@pytest.mark.parametrize("reader", ["abort", "spin"])
def test_a_dead_worker_is_counted_and_replaced(reader, monkeypatch):
    """Readers for this test that die by a signal, or hang, at the third mutant."""
    monkeypatch.setattr("tests.fuzz.campaign.SECONDS", -4)
    tally = run("npy", 0, 5, reader=reader)
    outcome = "signal" if reader == "abort" else "late"
    assert tally.total == 5 and tally.counts[outcome] == 1
    assert [(number, what) for number, what, _ in tally.failures] == [(2, outcome)]
