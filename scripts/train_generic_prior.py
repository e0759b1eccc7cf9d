"""Train the generic prior on procedural scenes; the shipped weights were made by this script.

    python scripts/train_generic_prior.py --channels 2 --steps 8000 --out generic_2ch.safetensors

Needs no data and no GPU. Denoising errors on held-out scenes are printed along the way; the last
line of the log and the card in the file say what came out.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciinv import __version__
from sciinv.data.phantoms.scenes import as_channels, crop, scene
from sciinv.priors.network import UNet
from sciinv.priors.precondition import EDMDenoiser
from sciinv.priors.store import save

SIGMA_DATA = 0.35
SIGMA_MIN, SIGMA_MAX = 0.003, 5.0
TEST_SIGMAS = (0.05, 0.1, 0.2, 0.5)
SCENE, CROP, BUFFER = 128, 64, 256
DECAY_FROM = 0.3


def main() -> None:
    """Parse the command line, train, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, choices=(1, 2), default=2)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument(
        "--minutes", type=float, help="end earlier, with the full learning-rate decay, at this time"
    )
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--widths", type=int, nargs="+")
    parser.add_argument("--rate", type=float, default=1.6e-3, help="peak learning rate")
    parser.add_argument("--ema", type=float, default=0.9992)
    parser.add_argument("--bf16", action="store_true", help="autocast; pays with AVX-512 or AMX")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=100, help="steps between log lines")
    parser.add_argument("--checkpoint", type=int, default=500, help="steps between checkpoints")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments)


def train(arguments: argparse.Namespace) -> None:
    """Run the training loop and write checkpoints that load like the final file."""
    channels = arguments.channels
    seeds = np.random.SeedSequence(arguments.seed).spawn(3)
    rng, test_rng = np.random.default_rng(seeds[0]), np.random.default_rng(seeds[1])
    generator = torch.Generator().manual_seed(int(seeds[2].generate_state(1)[0]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(arguments.seed)  # layers initialise from the global generator only
        widths = arguments.widths or ((24, 56, 96, 128) if channels == 2 else (24, 40, 64, 96))
        net = UNet(channels, widths=widths)
    averaged = copy.deepcopy(net).requires_grad_(False)
    optimiser = torch.optim.Adam(net.parameters(), lr=arguments.rate, fused=True)
    buffer = [draw(rng, channels) for _ in range(BUFFER)]
    held_out = torch.from_numpy(np.stack([draw(test_rng, channels) for _ in range(12)]))
    log(
        f"{sum(p.numel() for p in net.parameters())} parameters, widths {tuple(widths)}, "
        f"rms {float(np.sqrt(np.mean(np.square(buffer)))):.3f}"
    )
    start, seen, step = time.monotonic(), 0.0, 0
    limit = math.inf if arguments.minutes is None else 60 * arguments.minutes
    total, count = 0.0, 0
    while True:
        elapsed = time.monotonic() - start
        progress = max(step / arguments.steps, elapsed / limit)
        done = progress >= 1
        if step and (done or step % arguments.checkpoint == 0):
            table = denoising_table(wrap(averaged, {}), held_out)
            card = make_card(arguments, net, step, elapsed, table, final=done)
            save(wrap(averaged, card), arguments.out, dtype=torch.float16)
            log(f"step {step} {elapsed:.0f} s {json.dumps(table)}")
        if done:
            break
        buffer[int(rng.integers(BUFFER))] = draw(rng, channels)
        batch = np.stack(
            [crop(buffer[int(rng.integers(BUFFER))], CROP, rng) for _ in range(arguments.batch)]
        )
        rate = arguments.rate * min(1.0, (step + 1) / 200)
        rate *= min(1.0, max(0.0, 1 - progress) / (1 - DECAY_FROM))
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = loss_of(net, torch.from_numpy(batch), generator, bf16=arguments.bf16)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        if not math.isfinite(float(norm)):
            raise SystemExit(f"gradient is not finite at step {step}")
        optimiser.step()
        step += 1
        decay = min(arguments.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(averaged.parameters()), list(net.parameters()), 1 - decay)
        total, count = total + float(loss.detach()), count + 1
        if step % arguments.every == 0:
            now = time.monotonic() - start
            log(
                f"step {step} loss {total / count:.4f} {count / (now - seen):.2f} it/s "
                f"rate {rate:.2e} {now:.0f} s"
            )
            total, count, seen = 0.0, 0, now


def draw(rng: np.random.Generator, channels: int) -> np.ndarray[Any, Any]:
    """Draw one scene as ``(channels, SCENE, SCENE)`` float32."""
    return as_channels(scene((SCENE, SCENE), rng, complex_=channels == 2))


def loss_of(
    net: UNet, clean: torch.Tensor, generator: torch.Generator, *, bf16: bool
) -> torch.Tensor:
    """EDM loss, equal weight per noise level (Karras et al. 2022, equation 8)."""
    size = clean.shape[0]
    log_sigma = -2.0 + 1.3 * torch.randn(size, generator=generator)
    # a tenth is spread evenly over the whole range, so that both of its ends are seen
    spread = torch.rand(size, generator=generator)
    spread = math.log(SIGMA_MIN) + spread * math.log(SIGMA_MAX / SIGMA_MIN)
    log_sigma = torch.where(torch.rand(size, generator=generator) < 0.1, spread, log_sigma)
    log_sigma = log_sigma.clamp(math.log(SIGMA_MIN), math.log(SIGMA_MAX))
    sigma = log_sigma.exp()[:, None, None, None]
    noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
    norm = (sigma**2 + SIGMA_DATA**2).sqrt()
    target = (clean - (SIGMA_DATA / norm) ** 2 * noisy) * norm / (sigma * SIGMA_DATA)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        residual = net(noisy / norm, log_sigma / 4)
    return (residual.float() - target).square().mean()


def wrap(net: UNet, card: dict[str, Any]) -> EDMDenoiser:
    """Build the denoiser that is written and tested."""
    return EDMDenoiser(
        net,
        sigma_data=SIGMA_DATA,
        sigma_min=SIGMA_MIN,
        sigma_max=SIGMA_MAX,
        channels=net.channels,
        card=card,
    )


@torch.no_grad()
def denoising_table(denoiser: EDMDenoiser, clean: torch.Tensor) -> dict[str, dict[str, float]]:
    """Return PSNR (peak 1) and rms error over sigma on held-out scenes, per noise level."""
    table = {}
    for sigma in TEST_SIGMAS:
        generator = torch.Generator().manual_seed(1)
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
        parts = [denoiser(part, sigma) for part in noisy.split(4)]
        error = float((torch.cat(parts) - clean).square().mean().sqrt())
        table[str(sigma)] = {
            "psnr": round(-20 * math.log10(error), 2),
            "error_over_sigma": round(error / sigma, 4),
        }
    return table


def make_card(
    arguments: argparse.Namespace,
    net: UNet,
    step: int,
    seconds: float,
    table: dict[str, dict[str, float]],
    *,
    final: bool,
) -> dict[str, Any]:
    """Describe what the weights are and how to make them again."""
    return {
        "name": f"generic-{arguments.channels}ch",
        "description": "Denoiser trained on procedural scenes only (sciinv.data.phantoms): dead "
        "leaves, nested shells with folds, bodies with inserts, textures. Contains no measured "
        "data and no anatomy.",
        "images": "real, not negative, air at zero" if arguments.channels == 1 else "complex",
        "intensity_scale": "robust maximum of the image about 1 (0.3 to 1.3 in training)",
        "training_data": "sciinv.data.phantoms.scene, 128 x 128, crops of 64 x 64",
        "training_method": "EDM denoising loss, Adam, exponential moving average",
        "script": "scripts/train_generic_prior.py",
        "options": {
            key: str(value.name) if isinstance(value, Path) else value
            for key, value in sorted(vars(arguments).items())
        },
        "parameters": sum(p.numel() for p in net.parameters()),
        "steps": step,
        "final": final,
        "seconds": round(seconds),
        "seed": arguments.seed,
        "denoising": table,
        "versions": {
            "sciinv": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "licence": "as the package",
    }


def log(text: str) -> None:
    """Write one line at once."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
