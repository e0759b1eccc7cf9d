"""Denoising against time of inference for several architectures, trained alike.

    python benchmarks/network.py OUT [--steps 800] [--figure docs/images/network_cost.png]

Every network sees the same patches, noise levels and noise of the procedural world ``generic``
(complex), 12 patches of 64 x 64 a step, and is then judged on the same held-out images; networks
that OUT already holds are not trained again. Times are the least of interleaved forward passes of
one complex 256 x 256 image, on ``--threads`` threads. Short trainings favour networks that learn
fast; that is part of the question where priors are trained on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from sciinv.priors import EDMDenoiser, load
from sciinv.priors.precondition import fast_dtype
from sciinv.training import train
from sciinv.training.config import TrainingConfig, make_config
from sciinv.training.curve import denoising_curve, overall
from sciinv.training.evaluate import held_out_images
from sciinv.training.watch import JsonLog

# name: widths, blocks, patch
NETWORKS: dict[str, tuple[list[int], int | list[int], int]] = {
    "24-56-96-128": ([24, 56, 96, 128], 1, 1),
    "32-64-96-128": ([32, 64, 96, 128], 1, 1),
    "16-32-48-64": ([16, 32, 48, 64], 1, 1),
    "patches of 2: 64-96-128": ([64, 96, 128], [1, 1, 2], 2),
}
SIDE, ROUNDS = 256, 12


def main() -> None:
    """Train what is missing, time, print the table, draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    networks: dict[str, EDMDenoiser] = {}
    for name in NETWORKS:
        networks[name] = trained(name, options.out, options.steps)
        print(f"{name}: ready", flush=True)
    held_out = held_out_images(configuration("32-64-96-128", options.steps), lambda *_: None)
    torch.set_num_threads(options.threads)
    times = {dtype: timed(networks, dtype) for dtype in (None, fast_dtype())}
    rows = []
    for name, network in networks.items():
        network.inference_dtype = None
        curve = denoising_curve(network, held_out)
        rows.append({
            "network": name,
            "parameters": sum(p.numel() for p in network.parameters()),
            "float32_ms": 1e3 * times[None][name],
            "bfloat16_ms": 1e3 * times[fast_dtype()][name],
            "psnr": {sigma: row["psnr"] for sigma, row in curve.items()},
            "mean_psnr": overall(curve),
        })  # fmt: skip
    (options.out / "network.json").write_text(json.dumps(rows, indent=1))
    print_table(rows)
    if options.figure is not None:
        draw(rows, options.figure)


def configuration(name: str, steps: int) -> TrainingConfig:
    """Return the configuration of one network."""
    widths, blocks, patch = NETWORKS[name]
    return make_config({
        "prior": {"name": "study", "channels": 2},
        "network": {"widths": widths, "blocks": blocks, "patch": patch},
        "noise": {"sigma_data": 0.3},
        "data": {"world": "generic", "window": 256, "fresh": 0.3},
        "optimiser": {"steps": steps},
        "run": {
            "precision": "32" if fast_dtype() is None else "bf16",
            "threads": 1, "checkpoint_every": 10 * steps,
        },
    })  # fmt: skip


def trained(name: str, out: Path, steps: int) -> EDMDenoiser:
    """Train one network, or load what an earlier run left."""
    folder = out / name.replace(" ", "_").replace(":", "").replace(",", "")
    path = folder / "prior.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        train(configuration(name, steps), folder, watcher=JsonLog(folder / "log.jsonl"))
    return load(path, channels=2)


@torch.inference_mode()
def timed(networks: dict[str, EDMDenoiser], dtype: torch.dtype | None) -> dict[str, float]:
    """Return the least seconds of one forward pass, networks taking turns."""
    x = torch.zeros(1, 2, SIDE, SIDE)
    best = dict.fromkeys(networks, float("inf"))
    for _ in range(ROUNDS):
        for name, network in networks.items():
            network.inference_dtype = dtype
            begin = time.perf_counter()
            network(x, 0.1)
            best[name] = min(best[name], time.perf_counter() - begin)
    return best


def print_table(rows: list[dict[str, object]]) -> None:
    """Print the rows as Markdown, the fastest first."""
    sigmas = list(rows[0]["psnr"])  # type: ignore[call-overload]
    print("\n| network | parameters | ms, float32 | ms, bfloat16 | "
          + " | ".join(f"PSNR at {s}" for s in sigmas) + " |")  # fmt: skip
    print("|---" * (4 + len(sigmas)) + "|")
    for row in sorted(rows, key=lambda r: r["float32_ms"]):  # type: ignore[arg-type, return-value]
        psnr = " | ".join(f"{v:.2f}" for v in row["psnr"].values())  # type: ignore[attr-defined]
        print(f"| {row['network']} | {row['parameters'] / 1e6:.2f} M | {row['float32_ms']:.0f} | "  # type: ignore[operator]
              f"{row['bfloat16_ms']:.0f} | {psnr} |")  # fmt: skip


def draw(rows: list[dict[str, object]], path: Path) -> None:
    """Draw mean PSNR over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, dpi=110)
    for axis, field in zip(axes, ("float32_ms", "bfloat16_ms"), strict=True):
        for row in rows:
            axis.plot(row[field], row["mean_psnr"], "o")
            axis.annotate(str(row["network"]), (row[field], row["mean_psnr"]), fontsize=7,
                          xytext=(4, 4), textcoords="offset points")  # fmt: skip
        axis.set_xlabel(f"ms per 256 x 256 image, {field.removesuffix('_ms')}")
        axis.margins(x=0.35)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("PSNR over noise levels 0.02 to 2, dB")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()
