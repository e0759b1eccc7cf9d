"""Every solver against exactly known posteriors.

    python benchmarks/truth.py fields                     # Gaussian priors, four operators
    python benchmarks/truth.py mixture --seeds 10         # 25 Gaussians, a few measurements
    python benchmarks/truth.py deepinv --seeds 4          # methods that deepinv has too
    python benchmarks/truth.py law                        # closed-form laws over the steps
    python benchmarks/truth.py steps DPS 100 300 1000     # bias over the steps
    python benchmarks/truth.py table --docs docs/truth.md

The first three keep every row in OUT/rows.jsonl and compute only what is missing; ``--again NAME``
computes a method again and ``--solver NAME`` only that one. ``table`` shows what is there and puts
it into a page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import truth_tables as tables
from quality_store import Store
from truth_common import insert


def main(arguments: list[str] | None = None) -> None:
    """Read the arguments, run what is missing or write the tables."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    store = Store(options.out)
    if options.command == "fields":
        from truth_fields import run as fields

        counts = tuple(options.counts) if options.counts else None
        fields(
            store, options.solver, options.size, options.operator, options.again,
            options.law_seconds, counts,
        )  # fmt: skip
        print(tables.fields(store, options.size))
    elif options.command == "mixture":
        from truth_mixture import CASES, run

        cases = [c for c in CASES if c[0] in options.dim]
        seeds = range(1, options.seeds + 1)
        run(
            store, options.solver, seeds, cases, options.again, options.samples, options.oracle,
            not options.no_rivals,
        )  # fmt: skip
        print(tables.mixture(store))
    elif options.command == "deepinv":
        from truth_deepinv import run as pairs

        seeds = range(1, options.seeds + 1)
        pairs(
            store, options.solver, seeds, options.again, options.size[0], options.samples,
            not options.no_variants,
        )  # fmt: skip
        print(tables.deepinv(store))
    elif options.command == "law":
        from truth_law import law

        print(law(options.first))
    elif options.command == "steps":
        from truth_law import steps

        print(steps(options.name, options.counts, options.size[0], *options.batch))
    else:
        _write(store, options.docs)


def _write(store: Store, page: Path | None) -> None:
    found = {
        "fields": tables.fields(store, sorted(_sizes(store))),
        "mixture": tables.mixture(store),
        "deepinv": tables.deepinv(store),
    }
    for name, text in found.items():
        print(text, end="\n\n")
        if page is not None:
            insert(page, name, text)


def _sizes(store: Store) -> set[int]:
    return {int(case.split("/")[1]) for case, _ in store.rows() if case.startswith("fields/")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="command", required=True)

    def part(name: str, size: list[int]) -> argparse.ArgumentParser:
        one = parts.add_parser(name)
        one.add_argument("--out", type=Path, default=Path("truth"), help="folder of the rows")
        one.add_argument("--solver", nargs="*", default=[], metavar="NAME")
        one.add_argument("--again", nargs="*", default=[], metavar="NAME")
        one.add_argument("--size", nargs="*", type=int, default=size, help="width of the image")
        return one

    one = part("fields", [16, 32])
    one.add_argument("--operator", nargs="*", default=[], metavar="NAME")
    one.add_argument("--law-seconds", type=float, default=20.0, help="a closed form may take")
    one.add_argument("--counts", nargs=2, type=int, help="scans and samples of each")
    one = part("mixture", [])
    one.add_argument("--seeds", type=int, default=10)
    one.add_argument("--dim", nargs="*", type=int, default=[8, 80])
    one.add_argument("--samples", type=int, default=1000)
    one.add_argument("--oracle", nargs="*", type=int, default=[20, 100, 1000], help="steps")
    one.add_argument("--no-rivals", action="store_true", help="leave deepinv's samplers out")
    one = part("deepinv", [16])
    one.add_argument("--seeds", type=int, default=4)
    one.add_argument("--samples", type=int, default=32)
    one.add_argument("--no-variants", action="store_true", help="one setting of theirs only")
    one = part("law", [])
    one.add_argument("--first", type=int, default=0, help="only so many methods")
    one = part("steps", [12])
    one.add_argument("name")
    one.add_argument("counts", nargs="+", type=int, metavar="STEPS")
    one.add_argument("--batch", nargs=2, type=int, default=[8, 16], help="scans and samples")
    one = part("table", [])
    one.add_argument("--docs", type=Path, help="page to put the tables into")
    return parser


if __name__ == "__main__":
    main()
