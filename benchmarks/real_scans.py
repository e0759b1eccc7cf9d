"""Real scans without a truth: the default reconstruction beside classical ones.

    python benchmarks/real_scans.py FOLDER [spiral crystal2d crystal3d]

Fully sampled scans: see ``quality.py``.

FOLDER holds the files that ``examples/sidecars`` describe. What is compared:

- ``spiral``: ``mri_spiral20ch_ksp.mat``, every 2nd and 3rd shot, judged on the shots that were not
  used, |A x - y| / |y|, with the coil maps of the scan that is reconstructed.
- ``crystal2d``, ``crystal3d``: ``phase_bcdi_crystal.tif``, judged on hidden pixels of the pattern.

Regularised baselines get the best of some weights, chosen *on the truth* for every column alone;
the default reconstruction runs as ``sciinv reconstruct`` does, without any choice.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from real_crystal import crystal
from real_spiral import spiral

Job = Callable[[argparse.Namespace], None]
JOBS: dict[str, Job] = {
    "spiral": lambda o: spiral(o.folder, o.budget, o.pictures),
    "crystal2d": lambda o: crystal(o.folder, o.budget, o.pictures, "crystal2d"),
    "crystal3d": lambda o: crystal(o.folder, o.budget, o.pictures, "crystal3d"),
}


def main() -> None:
    """Read the arguments and run the scans asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "jobs", nargs="*", choices=[*JOBS, []], metavar="JOB", help="all by default"
    )
    parser.add_argument("--budget", type=float, default=200.0, help="seconds of sampling")
    parser.add_argument("--pictures", type=Path, help="folder for pictures and arrays")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for job in options.jobs or JOBS:
        JOBS[job](options)


if __name__ == "__main__":
    main()
