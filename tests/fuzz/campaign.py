"""Many mutants of a format: hands them to a worker process, survives its death, counts."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .mutate import mutant
from .parts import Seed
from .seeds import READERS, make
from .worker import READERS as READ
from .worker import SECONDS, judge, pack, write

ROOT = Path(__file__).resolve().parents[2]
# of a format that are read in a process of their own as well: starting one takes long
ISOLATED = 2
FAILURES = ("traceback", "message", "inconsistent", "noise", "late", "signal")


@dataclass
class Tally:
    """What became of the mutants of one format.

    :param failures: number of a mutant, outcome, text.
    :param refusals: beginnings of messages.
    :param slowest: seconds of the processor, and the number of that mutant.
    :param peak: bytes of resident memory, and the number of that mutant.
    :param isolated: mutants that were read in a process of their own, from this one.
    """

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    peak: tuple[int, int] = (0, 0)
    isolated: int = 0

    @property
    def total(self) -> int:
        """Mutants read."""
        return sum(self.counts.values())

    def row(self) -> str:
        """A line of the table."""
        c = self.counts
        odd = c["message"] + c["inconsistent"] + c["noise"]
        cells = [self.name, self.total, c["scan"], c["refused"], c["traceback"], odd, c["signal"]]
        cells += [c["late"], self.isolated, f"{self.slowest[0]:.2f}", f"{self.peak[0] / 1e6:.0f}"]
        return "| " + " | ".join(map(str, cells)) + " |"


HEAD = (
    "| format | mutants | read | refused | tracebacks | odd | signals | late | isolated "
    "| slowest (s) | peak (MB) |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def scratch() -> Path | None:
    """Where mutants are written: memory, if there is such a place."""
    memory = Path("/dev/shm")  # noqa: S108
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else None


def run(
    name: str, first: int, count: int, seeds: list[Seed] | None = None, reader: str = ""
) -> Tally:
    """Read the mutants ``first`` to ``first + count - 1`` of a format, with its reader."""
    reader = reader or READERS.get(name, "scan")
    seeds = make(name) if seeds is None else seeds
    tally = Tally(name)
    number, last = first, first + count
    with tempfile.TemporaryDirectory(dir=scratch(), prefix="sciinv-fuzz-") as folder:
        while seeds and number < last:
            number = _session(tally, reader, seeds, number, last, Path(folder))
        if f"isolated-{reader}" in READ:
            _isolated(
                tally,
                f"isolated-{reader}",
                seeds,
                range(first, last, max(1, count // ISOLATED)),
                Path(folder),
            )
    return tally


def _isolated(
    tally: Tally, reader: str, seeds: list[Seed], some: Iterable[int], folder: Path
) -> None:
    """Read some mutants, and all that killed a worker, as a user does: from this process."""
    killers = [number for number, outcome, _ in tally.failures if outcome in ("signal", "late")]
    for number in (*killers, *some):
        outcome, text = judge(reader, write(mutant(seeds, number), folder))
        tally.isolated += 1
        if outcome in FAILURES:
            tally.failures.append((number, outcome, f"isolated: {text}"))


def _session(
    tally: Tally, reader: str, seeds: list[Seed], first: int, last: int, folder: Path
) -> int:
    """One worker, until it is done or dead; returns the number to go on with."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                   "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    noise = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.worker", str(folder)], cwd=ROOT, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    order = {"seeds": pack(seeds), "reader": reader, "first": first}
    try:
        process.stdin.write(json.dumps({**order, "last": last}).encode() + b"\n")
        process.stdin.close()
        begun, hung = _listen(tally, process)
    finally:
        process.kill()
        code = process.wait()
        process.stdout.close()
        noise.close()
    if begun is None:
        return last
    if begun < 0:
        raise RuntimeError(f"{tally.name}: the worker ended between two mutants ({code})")
    # what hangs in a library is killed by us, everything else died by itself
    outcome = "late" if hung else "signal"
    tally.counts[outcome] += 1
    tally.failures.append((begun, outcome, f"exit {code}"))
    return begun + 1


def _listen(tally: Tally, process: subprocess.Popen[bytes]) -> tuple[int | None, bool]:
    """Count answers; returns the mutant that ended the worker, and whether it hung.

    ``None`` if all are read, -1 if the worker died while it made one.
    """
    assert process.stdout is not None
    begun = -1
    pending = b""
    descriptor = process.stdout.fileno()
    used = 0.0
    while True:
        # the worker rings its own alarm; what hangs in a library does not hear it
        while not select.select([descriptor], [], [], 1)[0]:
            if _used(process.pid) > used + SECONDS + 5:
                return begun, True
        used = _used(process.pid)
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return begun, False
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            answer: dict[str, Any] = json.loads(line)
            if "end" in answer:
                return None, False
            if "outcome" in answer:
                _count(tally, answer)
            begun = -1 if "outcome" in answer else answer["number"]


def _used(number: int) -> float:
    """Seconds of the processor that a process has taken."""
    with Path(f"/proc/{number}/stat").open() as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _count(tally: Tally, answer: dict[str, Any]) -> None:
    outcome = answer["outcome"]
    tally.counts[outcome] += 1
    tally.slowest = max(tally.slowest, (answer["seconds"], -answer["number"]))
    tally.peak = max(tally.peak, (answer["peak"], -answer["number"]))
    if outcome in FAILURES:
        tally.failures.append((answer["number"], outcome, answer["text"]))
    elif outcome == "refused":
        tally.refusals[answer["text"].partition("found ")[2][:40]] += 1


def save(name: str, number: int, folder: Path) -> Path:
    """Write the files of a mutant, to look at it; returns the one to read."""
    place = folder / f"{name}-{number}"
    place.mkdir(parents=True, exist_ok=True)
    return write(mutant(make(name), number), place)
