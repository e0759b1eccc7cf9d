"""``python -m tests.fuzz``: mutants of all formats, or one of them again.

python -m tests.fuzz --count 10000              every format, prints the table
python -m tests.fuzz --format twix --count 500  one
python -m tests.fuzz --format twix --seed 4711  one mutant, read in this process
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import campaign
from .campaign import HEAD, run, save
from .seeds import FORMATS, READERS
from .worker import READERS as READ


def say(*lines: object) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--format", choices=FORMATS, action="append")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="read this mutant only, with its traceback")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--isolated", type=int, default=20, help="read in a process of their own")
    parser.add_argument("--refusals", action="store_true", help="count the messages")
    chosen = parser.parse_args()
    names = chosen.format or list(FORMATS)
    if chosen.seed is not None:
        path = save(names[0], chosen.seed, chosen.keep)
        say(path)
        say(repr(READ[READERS.get(names[0], "scan")](path)))
        return 0
    campaign.ISOLATED = max(1, chosen.isolated)
    say(HEAD)
    failed = False
    for name in names:
        tally = run(name, chosen.first, chosen.count)
        say(tally.row())
        for number, outcome, text in tally.failures:
            failed = True
            path = save(name, number, chosen.keep)
            say(f"  {outcome} {text}\n    {path}: --format {name} --seed {number}")
        if chosen.refusals:
            say(f"  slowest {-tally.slowest[1]}, largest {-tally.peak[1]}")
            for text, times in tally.refusals.most_common(40):
                say(f"  {times:6} {text}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
