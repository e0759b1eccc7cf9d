"""What each ingredient of the procedural worlds brings on real scans.

    python benchmarks/ablation.py FOLDER OUT [--world mri] [--steps 600]

For every ingredient a small prior is trained without it, all with the same seeds and settings, and
reconstructs the real scans (the point estimate, ``PnPHQS``). The complete world is trained twice,
with two seeds: what lies between them is chance. Everything is kept in OUT and not made again.
Settings may be chosen by the rows of the bottle and the disc; brain and tooth are there to see
whether it holds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from quality_cases import CASES, Problem
from quality_convergence import point_estimate
from quality_store import Store

from sciinv.priors.precondition import fast_dtype
from sciinv.reconstruction.build import build_model
from sciinv.reconstruction.model import Model
from sciinv.training import train
from sciinv.training.config import make_config
from sciinv.training.watch import JsonLog

ENTIRE = ("nothing", "nothing, another seed")
LEFT_OUT: dict[str, dict[str, tuple[str, ...]]] = {
    "mri": {
        "anatomy": ("anatomy",),
        "leaves, shells, inserts, fields": ("leaves", "shells", "inserts", "fields"),
        "folded cortex": ("cortex",),
        "vessels and septa": ("vessels", "septa"),
        "texture": ("texture",),
        "removal of the smooth phase": ("phase_folding",),
        "ringing": ("ringing",),
    },
    "ct": {
        "anatomy": ("anatomy",),
        "leaves, shells, inserts": ("leaves", "shells", "inserts"),
        "discs": ("discs",),
    },
}
SCANS = {
    "mri": ("phantom16_r4_0", "phantom16_r8_0", "brain_r4_0"),
    "ct": ("disc_12", "tooth_6"),
}


def main() -> None:
    """Train and judge what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--world", choices=sorted(LEFT_OUT), default="mri")
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = Store(options.out / "scans")
    problems = {name: CASES[name].make(options.folder, store) for name in SCANS[options.world]}
    models = {name: build_model(problem.scan, 0) for name, problem in problems.items()}
    rows: dict[str, dict[str, float]] = {}
    for name in (*ENTIRE, *LEFT_OUT[options.world]):
        prior = trained(options.world, name, options.out, options.steps)
        rows[name] = judged(prior, problems, models)
        print(name, rows[name], flush=True)
    (options.out / f"{options.world}.json").write_text(json.dumps(rows, indent=1))
    print_table(rows)


def trained(world: str, name: str, out: Path, steps: int) -> Path:
    """Train a prior without one ingredient, unless it is there already."""
    folder = out / world / name.replace(", ", "_").replace(" ", "_")
    path = folder / "prior.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        channels = 1 if world == "ct" else 2
        config = make_config({
            "prior": {"name": "ablation", "channels": channels},
            "noise": {"sigma_data": 0.5 if world == "ct" else 0.3},
            "data": {
                "world": world, "without": LEFT_OUT[world].get(name, ()),
                "window": 256, "fresh": 0.3,
            },
            "optimiser": {"steps": steps},
            "run": {
                "seed": ENTIRE.index(name) if name in ENTIRE else 0, "threads": 1,
                "precision": "32" if fast_dtype() is None else "bf16",
                "checkpoint_every": 10 * steps,
            },
        })  # fmt: skip
        train(config, folder, watcher=JsonLog(folder / "log.jsonl"))
    return path


def judged(prior: Path, problems: dict[str, Problem], models: dict[str, Model]) -> dict[str, float]:
    """Return the PSNR of every scan, or for CT the error on unused views."""
    scores = {}
    for name, problem in problems.items():
        found = problem.score(point_estimate(models[name], str(prior), steps=16))
        scores[name] = found.get("held_out", found["psnr"])
    return scores


def print_table(rows: dict[str, dict[str, float]]) -> None:
    """Print as Markdown; changes are against the mean of the two complete worlds."""
    names = list(rows[ENTIRE[0]])
    entire = {n: sum(rows[e][n] for e in ENTIRE) / len(ENTIRE) for n in names}
    print("\n| left out | " + " | ".join(names) + " |\n" + "|---" * (1 + len(names)) + "|")
    for name, scores in rows.items():
        if name in ENTIRE:
            cells = [f"{scores[n]:.4g}" for n in names]
        else:
            cells = [f"{scores[n] - entire[n]:+.2g}" for n in names]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
