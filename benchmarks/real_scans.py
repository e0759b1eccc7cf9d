"""Undersampled real scans: the default reconstruction beside classical ones.

    python benchmarks/real_scans.py FOLDER [brain tooth spiral htc crystal2d crystal3d]

FOLDER holds the files that ``examples/sidecars`` describe. What is compared:

- ``brain``: ``mri_brain16ch_fastmri.h5``, R = 4, 16 calibration and 16 random lines of 128, against
  the fully sampled root sum of squares inside the object, peak = its maximum.
- ``tooth``: ``ct_parallel_tooth.h5``, 31 of 181 projections, and ``htc``:
  ``ct_fanbeam_htc2022_ta.mat``, 1 of 12 and of 24 views. Judged on the real projections that were
  *not* used, |A x - p| / |p|, so that no reference reconstruction favours anybody.
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
from real_brain import brain
from real_crystal import crystal
from real_ct import htc, tooth
from real_spiral import spiral

Job = Callable[[argparse.Namespace], None]
JOBS: dict[str, Job] = {
    "brain": lambda o: brain(o.folder, o.budget, o.pictures, tuple(o.seeds)),
    "tooth": lambda o: tooth(o.folder, o.budget, o.pictures),
    "spiral": lambda o: spiral(o.folder, o.budget, o.pictures),
    "htc": lambda o: htc(o.folder, o.budget, o.pictures),
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
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1], help="masks of the brain")
    parser.add_argument("--pictures", type=Path, help="folder for pictures and arrays")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for job in options.jobs or JOBS:
        JOBS[job](options)


if __name__ == "__main__":
    main()
