"""Every operator against the libraries that do the same: speed, with the accuracy beside it.

One markdown table for each case. In every round all libraries take a turn in one process; the clock
is the process's CPU time. The parts run alone too: ``operators_cartesian.py``,
``operators_nufft.py``, ``operators_ct.py`` (more cases) and ``operators_phase.py``.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/operators.py --threads 1 --repeats 9 [--quick]
"""

from __future__ import annotations

import argparse
import os
import platform
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

# importing SigPy or finufft starts OpenMP's threads: their number is fixed before
os.environ.setdefault("OMP_NUM_THREADS", "1")

import operators_cartesian
import operators_ct
import operators_nufft
import operators_phase
import torch

LIBRARIES = ("torch", "deepinv", "sigpy", "ducc0", "finufft", "mri-nufft", "astra-toolbox")
# beam, side of the image, views, slices
TOMOGRAPHY = (("parallel", 256, 60, 1), ("parallel", 256, 60, 8), ("fan", 256, 180, 1))


def nufft(repeats: int, quick: bool) -> None:
    """Print the tables of non-Cartesian MRI; deepinv and mri-nufft share a trajectory."""
    for name in ["deepinv"] if quick else operators_nufft.cases():
        operators_nufft.table(operators_nufft.cases()[name](), repeats)


def ct(repeats: int, quick: bool) -> None:
    """Print the tables of parallel and fan beams."""
    for case in TOMOGRAPHY[::2] if quick else TOMOGRAPHY:
        operators_ct.table(*case, repeats)


BENCHMARKS: dict[str, Callable[[int, bool], None]] = {
    "cartesian": operators_cartesian.run,
    "nufft": nufft,
    "ct": ct,
    "phase": operators_phase.run,
}


def main() -> None:
    """Read the arguments and run the benchmarks asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(BENCHMARKS), action="append")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one case or two of each operator")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    print(f"Python {platform.python_version()}, {', '.join(found)}; {arguments.threads} thread(s), "
          f"CPU time, {arguments.repeats} rounds")  # fmt: skip
    with torch.no_grad():
        for name in arguments.only or BENCHMARKS:
            BENCHMARKS[name](arguments.repeats, arguments.quick)


if __name__ == "__main__":
    main()
