"""Every fully sampled real scan, undersampled: sciinv beside classical methods.

    python benchmarks/quality.py FOLDER [CASE ...] --out OUT
    python benchmarks/quality.py FOLDER --out OUT --table

FOLDER holds the raw files; a CASE is a name or the beginning of names (``brain``, ``tooth_6``).
Each classical method gets the regularisation weight (or number of iterations, or filter) that is
best *on the reference*, for every column alone; sciinv runs with its defaults. Everything is kept
in OUT, and what is there is not computed again: ``--redo sciinv`` or ``--redo TV`` does.
``--table`` writes ``OUT/quality.md`` and ``OUT/figures`` from what is there, and with
``--docs docs/quality.md`` both into the documentation. ``--convergence`` adds PSNR over the number
of network evaluations for a few cases, and 1000 steps of DPS.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from datetime import datetime
from pathlib import Path

import torch
from quality_cases import Case, Problem, wanted
from quality_own import MEAN, Own
from quality_search import summary, tried
from quality_store import Store


def main() -> int:
    """Read the arguments, run what is missing, write the table."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    store = Store(options.out)
    cases = wanted(options.cases)
    failed = 0
    if options.convergence:
        from quality_convergence import convergence

        failed = convergence(options.folder, store, options.cases, options.prior, options.samples)
    elif options.table:
        _write(store, cases, options.label, options.docs)
    else:
        for case in cases:
            failed += run_case(case, options, store)
    if failed:
        print(f"{failed} rows failed", file=sys.stderr)
    return 1 if failed else 0


def _write(store: Store, cases: list[Case], label: str, page: Path | None) -> None:
    """Write tables and figures of what is there."""
    from quality_convergence import report
    from quality_figures import figures
    from quality_table import table

    text = table(store, cases, label) + "\n" + report(store, cases)
    (store.folder / "quality.md").write_text(text)
    print(text)
    figures(store, cases, label)
    if page is not None:
        from quality_docs import insert

        insert(text, page, store.folder / "figures")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path)
    add("cases", nargs="*", metavar="CASE", help="all by default")
    add("--methods", choices=("classical", "sciinv", "all"), default="all")
    add("--out", type=Path, default=Path("quality"), help="folder of results")
    add("--redo", nargs="*", default=[], metavar="METHOD", help="compute again: sciinv, TV, ...")
    add("--table", action="store_true", help="only write table and figures of what is there")
    add("--docs", type=Path, help="with --table: page of the documentation to put them into")
    add("--convergence", action="store_true", help="PSNR over network evaluations, few cases")
    add("--label", default="sciinv", help="name of sciinv's rows, for variants beside each other")
    add("--samples", type=int, default=8)
    add("--budget", type=float, help="seconds of sampling; reconstruct's default otherwise")
    add("--steps", type=int, help="of the sampler; fitted to the budget otherwise")
    add("--krylov", type=int, help="of the sampler; fitted to the budget otherwise")
    add("--prior", help="another prior than the default")
    add("--threads", type=int, default=1)
    return parser


def _own(options: argparse.Namespace) -> Own:
    return Own(options.samples, options.budget, options.steps, options.krylov, options.prior)


def run_case(case: Case, options: argparse.Namespace, store: Store) -> int:
    """Compute what is missing of one case and return the number of failures."""
    have = {method for name, method in store.rows() if name == case.name}
    have -= set(options.redo)
    if "sciinv" in options.redo:
        have -= {m for m in have if m.startswith(f"{options.label} ")}
    own_missing = options.methods != "classical" and f"{options.label} {MEAN}" not in have
    if options.methods == "sciinv" and not own_missing:
        return 0
    say(f"{case.name}: {case.label}")
    try:
        problem = case.make(options.folder, store)
        if problem.truth:
            store.save(f"{case.name}__reference", problem.truth)
    except Exception as error:
        return _failure(case, "case", error, store)
    failed = 0
    if own_missing:
        failed += _run_own(case, problem, options, store)
    if options.methods != "sciinv":
        failed += _run_classical(case, problem, have, store)
    gc.collect()
    return failed


def _run_own(case: Case, problem: Problem, options: argparse.Namespace, store: Store) -> int:
    try:
        for name, (row, picture) in _own(options)(problem).items():
            store.add(case.name, f"{options.label} {name}", row, picture)
            say(f"  {options.label} {name}: {_written(row['scores'])}, {row['seconds']:.0f} s")
    except Exception as error:
        return _failure(case, options.label, error, store)
    return 0


def _run_classical(case: Case, problem: Problem, have: set[str], store: Store) -> int:
    try:
        methods = problem.methods()
    except Exception as error:
        return _failure(case, "classical", error, store)
    failed = 0
    for name, method in methods.items():
        if name in have:
            continue
        try:
            row, image = summary(tried(method, problem.score))
            store.add(case.name, name, row, {"image": image})
            best = next(iter(row["settings"].values()))
            say(f"  {name} ({best}): {_written(row['scores'])}, {row['seconds']:.1f} s")
        except Exception as error:
            failed += _failure(case, name, error, store)
    return failed


def _failure(case: Case, method: str, error: Exception, store: Store) -> int:
    """Keep the message of a failure, so that the others go on."""
    say(f"  {case.name}, {method} FAILED: {type(error).__name__}: {error}")
    traceback.print_exc()
    store.add(case.name, method, {"error": f"{type(error).__name__}: {error}"})
    return 1


def _written(scores: dict[str, float]) -> str:
    return ", ".join(f"{k} {v:.2f}" if k == "psnr" else f"{k} {v:.4f}" for k, v in scores.items())


def say(text: str) -> None:
    """Print with the time of day."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


if __name__ == "__main__":
    begin = time.perf_counter()
    code = main()
    say(f"done in {time.perf_counter() - begin:.0f} s")
    raise SystemExit(code)
